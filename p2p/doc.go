// Package p2p is the only door to libp2p: one Host per process with its
// identity, its limits and its streams.
//
// It is not a protocol: those live in p2p/protocol and speak over the Stream
// of this package. It knows nothing of the chain, of leases or of drivers.
// Its users are node and sdk; both see only mman.PeerID, multiaddrs as
// strings and Stream, so that neither imports libp2p.
//
// Invariants:
//
//   - Every remote peer has an ed25519 key. Other connections are refused when
//     they are secured, so a mman.PeerID always names the remote side.
//   - Connections, streams and the memory behind them are bounded for the
//     process, for each peer, and for each protocol of a peer.
//   - Nothing listens before Start, and never on an address that another
//     process holds.
package p2p

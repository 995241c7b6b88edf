// Package discovery finds peers and what they offer through a Kademlia DHT of
// its own for each network (protocol prefix /mman/<chain id>).
//
// It is not an index of offers: it answers "who has this CID" and "who offers
// this kind and facet"; the signed offers themselves are asked of those peers
// with p2p/protocol/offers or read from the chain. An answer is a hint from
// strangers. Node and sdk call it.
//
// Invariants:
//
//   - Loopback and private addresses are records like any other: a network may
//     live on one machine.
//   - What a host provides is announced again every ReprovideInterval, and at
//     once when its routing table stops being empty, so that a node that
//     started alone is found as soon as it is not alone.
//   - The records kept for others are bounded, in total and for each peer: each keeps
//     all that one host may announce, and who announces most gives way first.
package discovery

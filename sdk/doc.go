// Package sdk is the consumer's side in Go: find offers, request a lease, open
// a session with the provider, run, pay by receipts, check the result. It needs
// no daemon: a key, any node's RPC, and a peer-to-peer host that lives as long
// as the Client.
//
// What the consumer must not lose, its lease keys and the receipts that it
// signed, is on disk before it leaves the process. Prices are recomputed, usage
// is held against what was seen here, results are hashed here: neither the RPC
// nor the provider is believed.
package sdk

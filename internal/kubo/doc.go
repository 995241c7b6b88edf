// Package kubo runs a stock kubo, the other program of the IPFS network, beside ours: to
// test that each fetches from the other, and to measure against it. It is not built
// here; internal/ipfs/kubo says which version, and Hint how to get it.
//
// Invariants: a daemon listens on loopback only and knows nobody but whom it is told to
// dial; it ends with its context, with Stop, and on Linux with the process that started
// it; what it writes is below its own folder.
package kubo

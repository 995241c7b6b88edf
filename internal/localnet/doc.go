// Package localnet lays out a network of several nodes in one folder and runs
// each node as its own process on loopback: for the demo, the devnet, the
// benchmarks and the end-to-end tests.
//
// It decides nothing about a node: it writes the homes that mman-node reads,
// starts mman-node in each, and waits until they serve. Every process ends with
// the one that started it, because it watches its standard input.
package localnet

// Package testnet runs whole nodes inside a test's own process, over real
// sockets on loopback, and holds the first test that a newcomer should read:
// TestFlow, the one lifecycle of the network with its steps as subtests.
package testnet

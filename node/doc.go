// Package node assembles one running node and lives its life: home, ledger,
// consensus, peer-to-peer host, content, provider and loopback API. All wiring
// stands in wire.go, from top to bottom.
//
// It decides nothing: rules are in market and abci, behaviour in the packages
// below.
package node

// Package genesis is the first state of a chain as data: who holds what, who
// validates, and every parameter that all nodes must agree on.
//
// It reads a document strictly, checks it, writes its one canonical form and
// hashes it. It does not build state (the modules of abci do, from a valid
// Document) and knows nothing of CometBFT's own genesis file, which carries the
// Document as its app_state. The application, the node that starts a network
// and the docs call it.
//
// Invariants: defaults.go is the only place that holds a parameter's value,
// bounds and reason; what Decode returns is valid; two documents with the same
// content have the same canonical bytes and the same hash.
package genesis

//go:generate go run ../internal/paramdoc ../docs/parameters.md

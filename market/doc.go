// Package market holds the objects of a deal and their rules: Offer, Request,
// Lease, Statement and Receipt. Every object is a strict DAG-CBOR value whose
// CID is its id, and every rule is a pure function, so that the chain, the
// provider and the consumer decide alike.
//
// It does no I/O, reads no clock but the block height that it is given, and
// knows neither the ledger that records a deal nor the network that carries it.
// Sub-packages decide one thing each: policy who may, price how much, match
// which, settle who gets what.
package market

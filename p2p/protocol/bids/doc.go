// Package bids is /mman/bids/1: a consumer asks a provider for a sealed bid on a
// request that it put out on the ledger, and acknowledges what it gets.
//
//	consumer  invite      {request}
//	provider  commitment  {commitment, key, signature}
//	consumer  ack         {signature}
//	provider  end
//
// A provider that does not bid answers with an error that says why. Only digests
// travel here, never an amount: bids are opened on the ledger, later. The package
// neither reads nor verifies a commitment; market does, for who calls. Node answers
// with what its provider bids; sdk asks.
//
// Invariants: each frame has a bound; every wait has one; a commitment is handed
// out once per stream, and an acknowledgement taken only after it.
package bids

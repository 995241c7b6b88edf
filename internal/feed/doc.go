// Package feed hands what is written to a function that reads: little at the end,
// much while it is being written. Outputs of runs go through it, at the provider
// that keeps them and at the consumer that hashes them; most of them are small, and
// then no goroutine and no pipe stand between.
//
// It is not a buffer for readers that come and go: there is one reader, and it is
// called once. Callers are node/worker and sdk.
//
// Invariants: the reader gets every byte once and in order, also of nothing; no more
// than Held bytes wait in memory; End returns only when the reader has returned.
package feed

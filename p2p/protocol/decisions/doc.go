// Package decisions is the stream protocol /mman/decisions/1: a party of a lease
// asks the provider of its compute for the log of what policies decided while the
// lease ran, a page at a time, or for one entry with the proof that it is in the
// log.
//
//	asker → holder   query
//	holder → asker   answer, or an error
//
// The lease key signs mman.SignDigest(mman.SignDecisions, chain id, query without
// signature) for the consumer, the node key for a provider of the lease. The query
// names the peer that asks, so that nobody can play it again. An answer is at most
// MaxPage entries and one path; a holder answers MaxAnswers at a time. Nothing in
// an answer is verified here: market/decision does that.
package decisions

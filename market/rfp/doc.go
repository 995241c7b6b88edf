// Package rfp is the rule of requests that are put out to sealed bids: who may
// bid until when, how a bid is hidden and opened, who is awarded, and where each
// bond goes. An RFP is a market.Request whose compute leg is filled by a
// market.Bid.
//
// It is a pure state machine: the ledger hands it heights, messages and a book,
// and keeps what it returns; every Move of money is for the ledger to make. The
// heights of an RFP are three windows, one after the other:
//
//	up to CommitBy   commitments: bidders give digests to the consumer, who
//	                 acknowledges each by signature and brings all to the ledger
//	up to SealBy     remedy: a bidder whose commitment was left out brings it
//	                 with the acknowledgement
//	up to RevealBy   reveals: no commitment any more; over early when all came
//
// Then the cheapest bid that fits makes a lease at its own price (first price).
// Its bidder has some blocks to accept the lease; who does not loses the bond, and
// the next bid takes over.
//
// Invariants: a bond is held exactly while its bid is committed, revealed or
// awarded; each bond ends in one Move; nothing about a bid but its digest is in
// the record before SealBy; the set of commitments does not change after it.
package rfp

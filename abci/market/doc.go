// Package market is the ledger of deals: which nodes serve for whom, which
// offers stand, which requests wait, which leases are open and what was paid.
//
// What a deal is and every rule of it (who fits, what it costs, how a payment
// splits) is in the pure packages under market; this module keeps the records,
// the queues and the escrow, and calls those rules at the right height. It
// moves money only through Bank, which the application hands in.
//
// Invariants: the caps of queued requests, the bonds of bids that are not decided
// and the rest of all leases that are not closed add up to the bank's escrow; a line's open count is the number of
// its leases that are not closed; work in a block is bounded, and what does not
// fit is done in the next; a block without messages in which nothing is due
// writes nothing.
package market

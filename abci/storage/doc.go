// Package storage is the part of the ledger that records storage leases: offers of
// room, leases with their replicas, an epoch's challenge, proofs and what they pay,
// deposits, repairs, and money that is set aside for retrievals. market/storage
// decides, this package keeps.
//
// The work of a block does not grow with the number of live leases: a proof moves
// its replica's place in one queue, and a block looks at what is left in the queue
// when its time has come, at most maxDue entries.
//
// Invariants: what the bank keeps for storage is the sum of the leases' escrow, the
// deposits of held replicas and the money for retrievals; an offer's used capacity
// is that of its replicas; every wait of a replica and every step of a lease stands
// in the queue once, and nothing else does.
package storage

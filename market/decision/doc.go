// Package decision is the log of what a provider's policies decided while a
// lease runs: one entry for each decision, in the order in which they fell, under
// a Merkle root that the provider signs with each Statement. The consumer can ask
// for the log, or for one entry with the proof that it is in it, and hold it
// against what the provider signed; an entry names what the decision depended on,
// so that whoever has the lease and the policy can decide again.
//
// The tree is that of RFC 6962: a leaf is SHA-256(0 ‖ entry), a node is
// SHA-256(1 ‖ left ‖ right), and the left part of n leaves is the largest power
// of two below n. What the ledger decides when it matches has a record of its
// own, see market/match.
//
// The package is pure: it keeps the log's edge, not the log. Invariant: a log of
// the same entries has the same root, however they were appended.
package decision

// Package merkle is the tree of RFC 6962 over SHA-256: leaves are hashed after a
// byte 0, inner nodes after a byte 1, and a tree of n leaves is split at the largest
// power of two below n. market/decision logs entries in it, market/storage the leaves
// of replicas.
//
// It is pure and keeps nothing. Blocks of BlockLeaves leaves are what a prover keeps
// hashes of, so that a proof reads the leaves of one or two blocks.
package merkle

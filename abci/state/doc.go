// Package state is the authenticated, versioned key-value store that holds
// everything the validators agree on.
//
// It knows keys, values, heights and roots; it knows neither accounts nor
// leases (the modules beside it do) nor a disk (node/store implements DB). The
// Application and the modules of the state machine call it.
//
// A value lives under a named store and a key; the flat key is
// store ‖ '/' ‖ key. The root is that of a sparse Merkle tree over the paths
// SHA-256(flat key): leaf H(0 ‖ path ‖ H(value)), inner H(1 ‖ left ‖ right),
// the empty tree is 32 zero bytes and a leaf that is alone in its subtree
// rises to the subtree's place. Proofs of presence and absence verify under
// ICS-23's SmtSpec.
//
// Invariants: a Snapshot never changes, so any number of goroutines may read
// it while one writer stages the next block; values are never empty; the root
// is a pure function of the set of key-value pairs; a block that changes
// nothing leaves the root as it was; nothing here reads a clock, ranges over a
// map or holds a lock. The whole state is kept in memory: about 350 bytes a
// key above the bytes of key and value.
package state

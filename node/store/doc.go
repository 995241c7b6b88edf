// Package store is the node's two databases on disk and the only home of
// badger.
//
// The state database implements state.DB: the ledger's pairs of the last
// heights. The data database is one key space cut into namespaces, each a KV:
// CometBFT's stores, public and private blocks, the blocks of single leases and
// the provider's records. Blocks on a namespace satisfies the block store
// interface of the IPFS libraries without importing them. Blocks of 32 KiB and more
// stand in files beside the database, which knows where.
//
// The package knows nothing of what the bytes mean. node opens it once for a
// home folder and hands out the parts.
//
// Invariants: a block of the ledger is there wholly or not at all, after a
// crash at any instant; writes stop with ErrDiskFull while there is still room
// to close cleanly, because the files are mapped into memory and a full disk
// would end the process without a word; every error wraps a coded sentinel.
// Everything but State is safe for concurrent use.
package store

// Package keeper is a provider of storage: it takes the replicas that the ledger
// assigned to its account, keeps them as files, proves them in every epoch, fetches
// those that another holder lost, serves them, and deletes what its account no longer
// holds.
//
// It does not decide who holds what; market/storage does, on the ledger. node wires
// it, node/api shows it to the node's owner.
//
// Each replica is one file, named by lease and number, with a file of hashes beside
// it, one for each 256 KiB, so that a proof reads a block or two. What is not whole
// has another name, and an upload goes on from its end. A replica is accepted on the
// ledger only when it is whole, compared with its root, and safe on the disk.
package keeper

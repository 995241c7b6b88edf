// Package storage decides about storage leases: who holds the replicas of a file,
// what a proof of possession is, what an epoch costs, and what happens to a replica
// that is not proved. abci/storage records what it decides, node/keeper and sdk ask
// it what to do.
//
// It is pure: integers only, no clock but block heights, no randomness but the
// beacon's.
//
// # Replicas
//
// A lease has 1 to MaxReplicas replicas of equal length, each a string of bytes of
// its own: the consumer encrypts the file once for each, under another key, so that
// one disk behind n accounts cannot pass for n. A replica is committed to by the
// root of its tree (market/merkle) over leaves of LeafSize bytes, the last one
// shorter.
//
// # Epochs
//
// Epoch e begins at height e·EpochBlocks. Its challenge is the first beacon two
// heights later or more, so nobody knew it before; from it and from the names of
// lease and replica follows the one leaf that must be shown, so no transaction asks.
// A proof that comes within WindowBlocks of the challenge pays the epoch. What is
// not proved by then is not paid, its holder's deposit is burned, and the ledger
// gives the replica to another provider in the same block. A holder that dropped a
// part f of a replica is found out each epoch with the probability f; the deposit is
// DepositEpochs epochs' pay, so that dropping any part costs more than it saves.
//
// When the ledger's beacon itself fails to come, nobody is paid and nobody slashed.
//
// # Repair
//
// The new holder fetches the bytes of another replica from the provider that holds
// it; so its replica is a copy of that one until the lease ends. That restores
// possession and says so (Replica.Copy): two disks are paid, but the two can collude.
// Only the consumer can make another replica of its own, because only it has the
// keys. When no replica is left, the consumer must bring the file again.
package storage

// Package replicas is the protocol /mman/replicas/1, by which the replica of a
// storage lease comes to its holder and leaves it again.
//
// One stream is one transfer. The asker says what it wants and signs that; the
// holder answers with the length and with how much of it there is already, or with
// an error; then the bytes follow in frames, from the asker with Put and from the
// holder with Get. Either side can begin again where the last transfer stopped. Who
// pays for what it fetches signs a promise for each window of bytes before the next
// one comes.
//
// The package knows no lease and no ledger: the Keeper decides who may do what.
package replicas

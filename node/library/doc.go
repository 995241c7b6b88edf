// Package library holds the files and folders that a node's owner gives to
// everybody: it adds them to the public store, announces them in the DHT, and
// remembers them, so that a restart announces them again.
//
// It knows no offers and no leases: what is lent on terms is node/provider's. The
// node's API calls it. Invariant: an item that is listed is whole in the store, and
// one that could not be added whole, or that the node may not announce, is not listed.
package library

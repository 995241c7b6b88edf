// Package provider is the behaviour of a node that lends resources: it publishes
// listings as content, DHT records and offers on the chain, admits sessions on
// its leases, has their runs carried out, keeps the account of every lane, and
// settles what the receipts authorise.
//
// It believes only its own node's state and the signatures that it verified
// itself. What a lane owes is on disk before it is said to anybody, so a crash
// loses no receipt and signs no number twice.
package provider

// Package offers is /mman/offers/1: a peer is asked for its own offers of a
// kind and facet, or for one resource, and answers with a list.
//
//	asker    query  {kind, facet} or {resource}
//	provider offer  {offer, signature, key}, repeated, at most MaxOffers
//	provider end
//
// It neither reads nor verifies an offer: those are bytes with a signature and
// a key, which market decodes and the asker checks. Manifests are not sent
// along; they are blocks, fetched by CID with p2p/content. Node answers from
// what it publishes; sdk asks whom p2p/discovery found.
//
// Invariants: an answer holds at most MaxOffers offers of MaxOffer bytes; every
// wait is bounded; the asker's limit ends the answer.
package offers

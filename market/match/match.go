// Package match decides which Offers fill a Request: all of its legs or none.
// It is pure and bounded: the caller hands it a Book to look into, and it says
// for every candidate that it turned down which rule did so.
package match

import (
	"cmp"
	"fmt"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/resources"
)

// Entry is an Offer as it stands in the book.
type Entry struct {
	ID    mman.CID
	Offer market.Offer
	// Open is the number of its leases that are open.
	Open uint64
}

// Book is what a match may look into. Answers must not depend on anything but
// committed state and the requests matched before in the same block.
type Book interface {
	// Offer returns a standing offer; false when there is none under the id or
	// it has expired.
	Offer(id mman.CID) (Entry, bool, error)
	// Scan returns at most limit standing offers in a fixed order: of the
	// resource when it is not zero, otherwise of the kind and facet.
	Scan(kind resources.Kind, facet resources.Facet, resource mman.CID, limit int) ([]Entry, error)
}

// MaxScan is the number of offers that a request without candidates looks at,
// for each leg.
const MaxScan = 64

// MaxRejections is the number of turned-down candidates that a decision keeps.
const MaxRejections = 16

// Rejection says why a candidate was turned down.
type Rejection struct {
	Leg   uint64    `cbor:"leg"   json:"leg"`
	Offer mman.CID  `cbor:"offer,omitzero" json:"offer,omitzero"`
	Code  mman.Code `cbor:"code"  json:"code"`
	// Rule is the id of the policy rule that denied, or the field that did not
	// fit.
	Rule string `cbor:"rule"  json:"rule"`
}

// Outcome is how a request stands.
type Outcome string

// The outcomes. Expired and canceled are set by the ledger.
const (
	Matched  Outcome = "matched"
	Queued   Outcome = "queued"
	Expired  Outcome = "expired"
	Canceled Outcome = "canceled"
)

// Decision is the record of one attempt to fill a request.
type Decision struct {
	Version uint64         `cbor:"v"        json:"version"`
	Request mman.RequestID `cbor:"request"  json:"request"`
	Height  uint64         `cbor:"height"   json:"height"`
	Outcome Outcome        `cbor:"outcome"  json:"outcome"`
	// Scanned is the number of candidates that were looked at.
	Scanned    uint64      `cbor:"scanned"  json:"scanned"`
	Rejections []Rejection `cbor:"rejections" json:"rejections,omitempty"`
}

// Fill tries to fill the request at the given height. On success it returns
// the legs of the lease and the limits of its runs.
//
// Of several candidates for the compute leg the cheapest at the request's own
// limits wins, of several for another leg the cheapest per lease, then by
// share; ties go to the lower offer id. A sealed dataset pins the compute leg
// to the node that holds it.
func Fill(id mman.RequestID, r market.Request, book Book, height uint64) (Decision, []market.Leg, resources.Limits, error) {
	f := &filling{request: r, book: book, decision: Decision{Version: 1, Request: id, Height: height, Outcome: Queued}}
	candidates := make([][]Entry, len(r.Legs))
	for i, leg := range r.Legs {
		if leg.Supplied {
			continue
		}
		var err error
		if candidates[i], err = f.candidates(uint64(i), leg); err != nil {
			return Decision{}, nil, resources.Limits{}, err
		}
	}
	compute := len(r.Legs) - 1
	for _, c := range candidates[compute] {
		legs, limits, ok, err := f.bundle(candidates, c)
		if err != nil {
			return Decision{}, nil, resources.Limits{}, err
		}
		if ok {
			f.decision.Outcome = Matched
			return f.decision, legs, limits, nil
		}
	}
	return f.decision, nil, resources.Limits{}, nil
}

type filling struct {
	request  market.Request
	book     Book
	decision Decision
}

func (f *filling) reject(leg uint64, offer mman.CID, err *mman.Error, rule string) {
	r := Rejection{leg, offer, err.Code, rule}
	if len(f.decision.Rejections) < MaxRejections && !slices.Contains(f.decision.Rejections, r) {
		f.decision.Rejections = append(f.decision.Rejections, r)
	}
}

// candidates returns the offers that are fit for a leg by themselves, best
// first.
func (f *filling) candidates(i uint64, leg market.LegRequest) ([]Entry, error) {
	var found []Entry
	if len(leg.Offers) == 0 {
		var err error
		if found, err = f.book.Scan(leg.Role.Kind(), leg.Facet, leg.Resource, MaxScan); err != nil {
			return nil, err
		}
		if len(found) == 0 {
			f.reject(i, mman.CID{}, mman.ErrResourceGone, string(leg.Role))
		}
	}
	for _, id := range leg.Offers {
		e, ok, err := f.book.Offer(id)
		if err != nil {
			return nil, err
		}
		if !ok {
			f.reject(i, id, mman.ErrOfferGone, "expires")
			continue
		}
		found = append(found, e)
	}
	f.decision.Scanned += uint64(len(found))
	found = slices.DeleteFunc(found, func(e Entry) bool { return !f.fits(i, leg, e) })
	cost := make(map[mman.CID]mman.Amount, len(found))
	for _, e := range found {
		c, err := f.rank(e)
		if err != nil {
			return nil, fmt.Errorf("offer %s: %w", e.ID, err)
		}
		cost[e.ID] = c
	}
	slices.SortFunc(found, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(cost[a.ID], cost[b.ID]), cmp.Compare(a.Offer.Price.Share, b.Offer.Price.Share), compareCID(a.ID, b.ID))
	})
	return found, nil
}

// rank is what an offer would cost at the request's limits: the whole wall
// time and all bytes, once.
func (f *filling) rank(e Entry) (mman.Amount, error) {
	l := f.request.Limits.Tighten(e.Offer.Policy.Limits.Run())
	units, err := e.Offer.Price.Of(resources.Usage{WallMs: l.WallMs, InBytes: l.InputBytes, OutBytes: l.OutputBytes, CallCount: 1})
	if err != nil {
		return mman.MaxSupply, nil //nolint:nilerr // a price beyond all money ranks last
	}
	return units.Add(e.Offer.Price.PerLease)
}

func (f *filling) fits(i uint64, leg market.LegRequest, e Entry) bool {
	o := e.Offer
	switch {
	case o.Kind != leg.Role.Kind() || o.Facet != leg.Facet:
		f.reject(i, e.ID, mman.ErrInvalid, "kind")
		return false
	case !leg.Resource.IsZero() && o.Resource != leg.Resource:
		f.reject(i, e.ID, mman.ErrInvalid, "resource")
		return false
	case e.Open >= o.Capacity:
		f.reject(i, e.ID, mman.ErrCapacity, "capacity")
		return false
	}
	answer := o.Policy.Decide(policy.Context{Consumer: f.request.Consumer, Algorithm: f.request.Legs[0].Resource, Open: e.Open})
	if !answer.Allowed() {
		f.reject(i, e.ID, mman.ErrPolicy, answer.Rule)
		return false
	}
	return true
}

// bundle fills the other legs around one compute offer.
func (f *filling) bundle(candidates [][]Entry, compute Entry) (legs []market.Leg, limits resources.Limits, ok bool, err error) {
	limits = f.request.Limits
	last := len(f.request.Legs) - 1
	fixed := mman.Amount(0)
	for i, want := range f.request.Legs {
		leg := market.Leg{Role: want.Role, Facet: want.Facet, Resource: want.Resource, Supplied: want.Supplied}
		if want.Supplied {
			legs = append(legs, leg)
			continue
		}
		e, found := compute, true
		if i != last {
			e, found = f.beside(uint64(i), candidates[i], compute)
		}
		if !found {
			return nil, limits, false, nil
		}
		leg.Resource, leg.Offer, leg.Provider, leg.Peer = e.Offer.Resource, e.ID, e.Offer.Provider, e.Offer.Peer
		leg.Sealed, leg.Price = e.Offer.Sealed, e.Offer.Price
		limits = limits.Tighten(e.Offer.Policy.Limits.Run())
		if fixed, err = fixed.Add(e.Offer.Price.PerLease); err != nil {
			return nil, limits, false, err
		}
		legs = append(legs, leg)
	}
	if fixed > f.request.Cap {
		f.reject(uint64(last), compute.ID, mman.ErrPrice, "cap") //nolint:gosec // an index
		return nil, limits, false, nil
	}
	return legs, limits, true, nil
}

// beside returns the best candidate for a leg that can stand with the compute
// offer.
func (f *filling) beside(i uint64, candidates []Entry, compute Entry) (Entry, bool) {
	for _, e := range candidates {
		if !e.Offer.Sealed || e.Offer.Peer == compute.Offer.Peer {
			return e, true
		}
		f.reject(i, e.ID, mman.ErrPolicy, "sealed")
	}
	return Entry{}, false
}

func compareCID(a, b mman.CID) int {
	x, y := a.Digest(), b.Digest()
	return slices.Compare(x[:], y[:])
}

// Order sorts a block's requests in the order in which they are filled: by
// SHA-256(beacon ‖ id), which nobody can choose when the request is made.
func Order(beacon mman.Hash, ids []mman.RequestID) {
	key := func(id mman.RequestID) mman.Hash { return mman.Sum256(beacon[:], id[:]) }
	slices.SortFunc(ids, func(a, b mman.RequestID) int {
		x, y := key(a), key(b)
		return slices.Compare(x[:], y[:])
	})
}

// NewLease makes the lease that fills the request.
func NewLease(id mman.RequestID, r market.Request, legs []market.Leg, limits resources.Limits, height, grace uint64) (market.Lease, error) {
	residual, err := dagcbor.Marshal([]string{}) // every rule is decided at match time in this version
	if err != nil {
		return market.Lease{}, err
	}
	return market.Lease{
		Version: 1, ID: id.Lease(), Request: id, Consumer: r.Consumer, LeaseKey: r.LeaseKey, Legs: legs,
		Cap: r.Cap, Limits: limits, Residual: mman.Sum256(residual), Opened: height, Expires: height + r.Blocks,
		State: market.LeaseOpen, CloseAt: height + r.Blocks + grace,
	}, nil
}

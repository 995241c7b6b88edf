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
	// Program is the offer's policy, compiled; nil when the book has not done
	// that.
	Program *policy.Program
}

// Book is what a match may look into. Answers must not depend on anything but
// committed state and the requests matched before in the same block.
type Book interface {
	// Offer returns a standing offer; false when there is none under the id or
	// it has expired.
	Offer(id mman.CID) (Entry, bool, error)
	// Usage counts the consumer's leases on the offer. It is asked only when
	// the offer's policy reads it.
	Usage(e Entry, consumer mman.Address) (policy.Usage, error)
	// Scan returns at most limit standing offers in a fixed order: of the
	// resource when it is not zero, otherwise of the kind and facet.
	Scan(kind resources.Kind, facet resources.Facet, resource mman.CID, limit int) ([]Entry, error)
}

// MaxScan is the number of offers that a request without candidates looks at,
// for each leg.
const MaxScan = 64

// MaxSteps bounds what the policies of one request's candidates may cost to
// evaluate, by Program.Cost. It is some hundred times what ordinary policies
// need; a candidate for which nothing is left is turned down.
const MaxSteps = 1 << 18

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

// Fit is what fills a request: the legs of the lease and the limits of its
// runs.
type Fit struct {
	Legs   []market.Leg
	Limits resources.Limits
	// Residual are the rules left unknown, sorted.
	Residual []Residual
}

// Residual is a rule of a leg's policy that is decided only while the work runs.
type Residual struct {
	Leg  uint64 `cbor:"leg"  json:"leg"`
	Rule string `cbor:"rule" json:"rule"`
}

// ResidualHash is what a lease says of its residual.
func ResidualHash(list []Residual) (mman.Hash, error) {
	b, err := dagcbor.Marshal(list)
	if err != nil {
		return mman.Hash{}, err
	}
	return mman.Sum256(b), nil
}

// Fill tries to fill the request in the given block. The fit is empty unless
// the outcome is Matched.
//
// Of several candidates for the compute leg the cheapest at the request's own
// limits wins, of several for another leg the cheapest per lease, then by
// share; ties go to the lower offer id. A sealed dataset pins the compute leg
// to the node that holds it.
//
// Policies are asked three times, each time with more known: each candidate by
// itself; the candidates beside a compute offer with that one; the whole bundle.
// The candidates beside a compute offer are taken one by one, the best that
// nothing speaks against; when their policies then refuse each other, the next
// compute offer is tried, not every combination.
func Fill(id mman.RequestID, r market.Request, book Book, at policy.Chain) (Decision, Fit, error) {
	f := &filling{request: r, book: book, at: at, decision: Decision{Version: 1, Request: id, Height: at.Height, Outcome: Queued}}
	candidates := make([][]Entry, len(r.Legs))
	for i, leg := range r.Legs {
		if leg.Supplied {
			continue
		}
		var err error
		if candidates[i], err = f.candidates(uint64(i), leg); err != nil {
			return Decision{}, Fit{}, err
		}
	}
	compute := len(r.Legs) - 1
	for _, c := range candidates[compute] {
		fit, ok, err := f.bundle(candidates, c)
		if err != nil {
			return Decision{}, Fit{}, err
		}
		if ok {
			f.decision.Outcome = Matched
			return f.decision, fit, nil
		}
	}
	return f.decision, Fit{}, nil
}

type filling struct {
	request  market.Request
	book     Book
	at       policy.Chain
	decision Decision
	steps    uint64 // spent on policies
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
	var failed error
	found = slices.DeleteFunc(found, func(e Entry) bool {
		if failed != nil {
			return true
		}
		var ok bool
		ok, failed = f.fits(i, leg, e)
		return !ok
	})
	if failed != nil {
		return nil, failed
	}
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
	units, err := e.Offer.Price.Of(resources.Usage{Fuel: l.Fuel, WallMs: l.WallMs, InBytes: l.InputBytes, OutBytes: l.OutputBytes, CallCount: 1})
	if err != nil {
		return mman.MaxSupply, nil //nolint:nilerr // a price beyond all money ranks last
	}
	return units.Add(e.Offer.Price.PerLease)
}

func (f *filling) fits(i uint64, leg market.LegRequest, e Entry) (bool, error) {
	o := e.Offer
	switch {
	case o.Kind != leg.Role.Kind() || o.Facet != leg.Facet:
		f.reject(i, e.ID, mman.ErrInvalid, "kind")
		return false, nil
	case !leg.Resource.IsZero() && o.Resource != leg.Resource:
		f.reject(i, e.ID, mman.ErrInvalid, "resource")
		return false, nil
	case e.Open >= o.Capacity:
		f.reject(i, e.ID, mman.ErrCapacity, "capacity")
		return false, nil
	}
	chosen := make([]*Entry, len(f.request.Legs))
	chosen[i] = &e
	answer, _, err := f.decide(i, chosen)
	return answer.Allowed(), err
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
func NewLease(id mman.RequestID, r market.Request, fit Fit, height, grace uint64) (market.Lease, error) {
	residual, err := ResidualHash(fit.Residual)
	if err != nil {
		return market.Lease{}, err
	}
	return market.Lease{
		Version: 1, ID: id.Lease(), Request: id, Consumer: r.Consumer, LeaseKey: r.LeaseKey, Legs: fit.Legs,
		Cap: r.Cap, Limits: fit.Limits, Residual: residual, Purpose: r.Purpose, Accepts: r.Accepts,
		Opened: height, Expires: height + r.Blocks,
		State: market.LeaseOpen, CloseAt: height + r.Blocks + grace,
	}, nil
}

package match

import (
	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
)

// bids is a Book in which some offers stand at the prices that were bid.
type bids struct {
	Book

	prices map[mman.CID]price.Price
}

// WithBids returns the book with the given offers at the prices that their
// holders bid for one request. A bid promises a place, so no other lease is
// counted on them.
func WithBids(b Book, prices map[mman.CID]price.Price) Book { return bids{b, prices} }

// Offer implements Book.
func (b bids) Offer(id mman.CID) (Entry, bool, error) {
	e, ok, err := b.Book.Offer(id)
	if p, bid := b.prices[id]; bid {
		e.Offer.Price = p
	}
	return e, ok, err
}

// Open implements Records.
func (b bids) Open(e Entry) (uint64, error) {
	if _, bid := b.prices[e.ID]; bid {
		return 0, nil
	}
	return b.Book.Open(e)
}

// Willing reports whether an offer of compute by itself fits the request: it is
// what is asked for, and its own policy allows it with no other leg known and no
// other lease counted. Steps is what the policy cost.
func Willing(r market.Request, e Entry, records Records, at policy.Chain) (ok bool, steps uint64, err error) {
	leg := uint64(len(r.Legs) - 1) //nolint:gosec // a valid request has two legs at least
	in := Inputs{Looks: []Look{{Leg: leg, Offer: e.ID}}}
	f, err := newFilling(mman.RequestID{}, r, vacant{records}, at, &in, []Entry{e})
	if err != nil {
		return false, 0, err
	}
	ok, err = f.fits(leg, f.all[0])
	return ok, f.steps, err
}

// vacant counts no open lease.
type vacant struct{ Records }

// Open implements Records.
func (vacant) Open(Entry) (uint64, error) { return 0, nil }

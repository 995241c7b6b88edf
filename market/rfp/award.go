package rfp

import (
	"fmt"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
)

// Move is what happens to one bond: it is burned, or it goes back.
type Move struct {
	Bidder mman.Address
	Amount mman.Amount
	Burned bool
	// State is the bid's then, which says why.
	State BidState
}

// Shop is what an award looks into.
type Shop interface {
	match.Book

	// Standing returns the offer that stands now for a bid: of its bidder, on its
	// peer, for its resource.
	Standing(b market.Bid) (match.Entry, bool, error)
}

// Result is what came of an attempt to award.
type Result struct {
	RFP   RFP
	Moves []Move
	// Attempt is the latest look of the match; Looked is false when there was no
	// bid to look at.
	Attempt match.Attempt
	// Looks and Steps are what all of it cost.
	Looks, Steps uint64
}

// Won reports whether there is a lease to make.
func (out *Result) Won() bool {
	return out.Attempt.Looked && out.Attempt.Decision.Outcome == match.Matched
}

// end gives an entry of a record that may be changed its last state, and returns
// where its bond goes.
func end(r *RFP, i int, s BidState) Move {
	burned := s == Withheld || s == Unfit || s == Absent
	r.Bids[i].State = s
	return Move{r.Bids[i].Bidder, r.Bond, burned && !r.off.bond, s}
}

// finish closes a record that may be changed: whose bond is still held gets it back.
func finish(r *RFP, served bool) (moves []Move) {
	for i, e := range r.Bids {
		switch {
		case e.State == Won && served:
			moves = append(moves, end(r, i, Served))
		case e.State.held():
			moves = append(moves, end(r, i, Lost))
		}
	}
	r.State, r.Due = Closed, 0
	return moves
}

// Award fills the request with the best of the revealed bids: match.Fill over the
// offers of the bidders at the prices that they bid, so that policies, the
// consumer's condition, the cap and the other legs count as in every match, and the
// score is match.Rank. What was not revealed, and whoever does not stand by its bid,
// loses its bond first. Looks is how many offers may be looked at for other legs.
func (r RFP) Award(req market.Request, shop Shop, at policy.Chain, looks uint64, t Terms) (Result, error) {
	r.Bids = slices.Clone(r.Bids)
	out := Result{}
	last := len(req.Legs) - 1
	req.Legs = slices.Clone(req.Legs)
	req.Legs[last].Offers = nil
	prices := make(map[mman.CID]price.Price)
	for i, e := range r.Bids {
		switch e.State {
		case Committed:
			out.Moves = append(out.Moves, end(&r, i, Withheld))
		case Revealed:
			entry, p, ok, err := out.candidate(e, req, shop, at)
			if err != nil {
				return out, fmt.Errorf("bid of %s: %w", e.Bidder, err)
			}
			if !ok {
				out.Moves = append(out.Moves, end(&r, i, Unfit))
				continue
			}
			prices[entry.ID] = p
			req.Legs[last].Offers = append(req.Legs[last].Offers, entry.ID)
		case Won, Served, Lost, Withheld, Unfit, Absent:
		}
	}
	if len(prices) > 0 && at.Height <= req.Deadline {
		if err := out.fill(r.Request, req, match.WithBids(shop, prices), at, looks+uint64(len(prices))); err != nil {
			return out, err
		}
	}
	if !out.Won() {
		out.Moves = append(out.Moves, finish(&r, false)...)
		out.RFP = r
		return out, nil
	}
	winner, ok := r.Find(out.Attempt.Fit.Legs[last].Provider)
	if !ok || r.Bids[winner].State != Revealed {
		return out, fmt.Errorf("%w: rfp %s is awarded to who did not bid", mman.ErrInvariant, r.Request)
	}
	r.Bids[winner].State = Won
	r.Lease, r.Awards = r.Request.Takeover(r.Awards), r.Awards+1
	r.State, r.ServeBy, r.Left = Awarded, at.Height+t.Accept, mman.Address{}
	r.Due = r.ServeBy
	out.RFP = r
	return out, nil
}

// candidate returns the offer behind a bid and the price; false when the bidder
// does not stand by it.
func (out *Result) candidate(e Entry, req market.Request, shop Shop, at policy.Chain) (match.Entry, price.Price, bool, error) {
	b, err := market.DecodeBid(e.Bid)
	if err != nil {
		return match.Entry{}, price.Price{}, false, err
	}
	entry, ok, err := shop.Standing(b)
	if err != nil || !ok {
		return match.Entry{}, price.Price{}, false, err
	}
	ok, steps, err := match.Willing(req, entry, shop, at)
	out.Looks, out.Steps = out.Looks+1, out.Steps+steps
	return entry, b.Price, ok, err
}

// fill makes attempts until one fits or all that may be looked at was.
func (out *Result) fill(id mman.RequestID, req market.Request, book match.Book, at policy.Chain, looks uint64) error {
	p := match.Begin(req, looks, book.Arrived())
	for {
		a, err := match.Fill(id, req, book, at, p, out.Attempt.Decision.Rejections)
		out.Looks, out.Steps = out.Looks+uint64(len(a.Inputs.Looks)), out.Steps+a.Steps
		if err != nil || !a.Looked {
			return err
		}
		out.Attempt, p = a, a.Progress
		if a.Decision.Outcome == match.Matched || !p.Goes(req) {
			return nil
		}
	}
}

// Served ends an RFP whose lease was accepted: all bonds go back.
func (r RFP) Served() (RFP, []Move) {
	r.Bids = slices.Clone(r.Bids)
	moves := finish(&r, true)
	return r, moves
}

// Quit ends an RFP whose consumer does not want it any more: all bonds go back.
func (r RFP) Quit() (RFP, []Move) {
	r.Bids = slices.Clone(r.Bids)
	moves := finish(&r, false)
	return r, moves
}

// Absent takes the bond of a winner who did not accept its lease. The next award
// is due at once.
func (r RFP) Absent(height uint64) (RFP, Move, error) {
	i := slices.IndexFunc(r.Bids, func(e Entry) bool { return e.State == Won })
	if i < 0 {
		return r, Move{}, fmt.Errorf("%w: rfp %s has no winner", mman.ErrInvariant, r.Request)
	}
	r.Bids = slices.Clone(r.Bids)
	move := end(&r, i, Absent)
	r.State, r.Due = Open, height
	return r, move, nil
}

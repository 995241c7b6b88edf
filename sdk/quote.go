package sdk

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/settle"
	"github.com/limboid/massive-man/resources"
)

// maxQuoted is how many offers a quote looks at for each leg.
const maxQuoted = 256

// Quote is what a request would find now. Nothing is signed for it.
type Quote struct {
	// Cap is the most that the lease could cost, held in escrow.
	Cap mman.Amount `json:"cap_uman"`
	// Eligible is how many compute offers would do; From and To are the least and
	// the most that one run at its limits costs on them, and Fixed is what the
	// cheapest owes before anything ran.
	Eligible int         `json:"eligible"`
	Fixed    mman.Amount `json:"fixed_uman"`
	From     mman.Amount `json:"from_uman"`
	To       mman.Amount `json:"to_uman"`
	// Chosen are the offers that would be leased, when some would do.
	Chosen []mman.CID `json:"chosen,omitempty"`
	// Payments are who would get what of From, royalties to owners of parents among
	// them, and Burned is the rest of it.
	Payments []settle.Payment `json:"payments,omitempty"`
	Burned   mman.Amount      `json:"burned_uman"`
	// Blockers say why others would not, in sentences.
	Blockers []string `json:"blockers,omitempty"`
	// Change is the smallest single change after which an offer would do; "" when
	// one does, or no single change helps.
	Change string `json:"change,omitempty"`
}

// Quote says what a request for w by the consumer, which may be zero, would find
// among the offers that stand now. Counts that only the ledger has, of a
// consumer's earlier leases, are taken as zero.
func (c *Client) Quote(ctx context.Context, w Wanted, consumer mman.Address) (Quote, error) {
	legs, _, err := c.legs(ctx, w)
	if err != nil {
		return Quote{}, err
	}
	st, err := c.chain.Status(ctx)
	if err != nil {
		return Quote{}, err
	}
	if consumer.IsZero() {
		consumer = mman.Address{1} // nobody's
	}
	r := market.Request{
		Version: 1, Consumer: consumer, LeaseKey: mman.LeaseKey{1}, Legs: legs, Cap: w.Cap, Blocks: w.Blocks,
		Deadline: st.Height + w.Patience, Limits: w.Limits, Purpose: w.Purpose, Accepts: w.Accepts, Network: w.Network,
	}
	if err := r.Validate(); err != nil {
		return Quote{}, err
	}
	s, err := c.stall(ctx, legs, consumer)
	if err != nil {
		return Quote{}, err
	}
	params, err := c.chain.Params(ctx)
	if err != nil {
		return Quote{}, err
	}
	s.at, s.burn = policy.Chain{Height: st.Height + 1, Time: c.cfg.Now().Unix()}, params.BurnPPM
	return s.quote(r)
}

// stall is a match.Book over offers that were fetched.
type stall struct {
	entries []match.Entry
	open    map[mman.CID]uint64
	grants  map[mman.CID]match.Grant
	at      policy.Chain
	burn    uint64 // ppm of each payment
}

// stall fetches what stands for the legs.
func (c *Client) stall(ctx context.Context, legs []market.LegRequest, consumer mman.Address) (*stall, error) {
	s := &stall{open: map[mman.CID]uint64{}, grants: map[mman.CID]match.Grant{}}
	for _, leg := range legs {
		if leg.Supplied {
			continue
		}
		found, err := c.standing(ctx, leg.Role.Kind(), leg.Facet, leg.Resource)
		if err != nil {
			return nil, err
		}
		for _, o := range found {
			if _, ok := s.open[o.ID]; ok {
				continue
			}
			program, err := o.Offer.Policy.Compile()
			if err != nil {
				return nil, err
			}
			s.open[o.ID] = o.Open
			s.entries = append(s.entries, match.Entry{ID: o.ID, Offer: o.Offer, Program: program, Royalties: o.Royalties})
		}
	}
	granted, err := c.chain.GrantsTo(ctx, consumer, maxQuoted)
	if err != nil {
		return nil, err
	}
	for _, g := range granted {
		s.grants[g.Offer] = match.Grant{Policy: g.Policy, Revoked: g.Revoked > 0}
	}
	return s, nil
}

// quote decides here as the ledger would.
func (s *stall) quote(r market.Request) (Quote, error) {
	q := Quote{Cap: r.Cap}
	d, legs, err := s.try(r)
	if err != nil {
		return q, err
	}
	for _, reason := range d.Reasons() {
		q.Blockers = append(q.Blockers, sentence(reason.Explain()))
	}
	if d.Outcome != match.Matched {
		q.Change, err = s.relax(r)
		return q, err
	}
	q.Chosen = d.Chosen
	if q.Fixed, err = (market.Lease{Legs: legs}).Fixed(); err != nil {
		return q, err
	}
	last := len(r.Legs) - 1
	for _, e := range s.entries {
		if e.Offer.Kind != r.Legs[last].Role.Kind() || q.Eligible == market.MaxOffersInAnAnswer {
			continue
		}
		one := r
		one.Legs = slices.Clone(r.Legs)
		one.Legs[last].Offers = []mman.CID{e.ID}
		fit, legs, err := s.try(one)
		if err != nil {
			return q, err
		}
		if fit.Outcome != match.Matched {
			continue
		}
		most, err := market.Lease{Legs: legs}.Gross(0, atLimits(r.Limits.Tighten(e.Offer.Policy.Limits.Run())))
		if err != nil {
			most = r.Cap // it costs more than anybody can pay
		}
		most = most.Min(r.Cap)
		q.Eligible++
		q.To = max(q.To, most)
		if q.Eligible > 1 && most >= q.From {
			continue
		}
		q.From = most
		if q.Payments, q.Burned, err = settle.Split(market.Lease{Legs: legs}, most, most, s.burn); err != nil {
			return q, err
		}
	}
	return q, nil
}

// atLimits is the usage of one run that goes to its limits.
func atLimits(l resources.Limits) resources.Usage {
	return resources.Usage{Fuel: l.Fuel, WallMs: l.WallMs, InBytes: l.InputBytes, OutBytes: l.OutputBytes, CallCount: 1}
}

// try makes attempts until all offers were looked at.
func (s *stall) try(r market.Request) (match.Decision, []market.Leg, error) {
	p, d := match.Begin(r, 1<<20, 0), match.Decision{}
	for {
		a, err := match.Fill(mman.RequestID{}, r, s, s.at, p, d.Rejections)
		if err != nil {
			return d, nil, err
		}
		if a.Looked {
			d = a.Decision
		}
		if p = a.Progress; d.Outcome == match.Matched || !a.Looked || !p.Goes(r) {
			return d, a.Fit.Legs, nil
		}
	}
}

// Offer implements match.Book.
func (s *stall) Offer(id mman.CID) (match.Entry, bool, error) {
	i := slices.IndexFunc(s.entries, func(e match.Entry) bool { return e.ID == id })
	if i < 0 {
		return match.Entry{}, false, nil
	}
	return s.entries[i], true, nil
}

// Open implements match.Records.
func (s *stall) Open(e match.Entry) (uint64, error) { return s.open[e.ID], nil }

// Usage implements match.Records.
func (*stall) Usage(match.Entry, mman.Address) (policy.Usage, error) { return policy.Usage{}, nil }

// Grant implements match.Records.
func (s *stall) Grant(e match.Entry, _ mman.Address) (match.Grant, bool, error) {
	g, ok := s.grants[e.ID]
	return g, ok, nil
}

// Scan implements match.Book.
func (s *stall) Scan(class match.Class, after []byte, limit int) ([]match.Spot, error) {
	var out []match.Spot
	for _, e := range s.entries {
		if e.Offer.Kind != class.Kind || e.Offer.Facet != class.Facet || !class.Resource.IsZero() && e.Offer.Resource != class.Resource {
			continue
		}
		if key := append(binary.BigEndian.AppendUint64(nil, e.Offer.Price.Index()), e.ID.Bytes()...); bytes.Compare(key, after) > 0 {
			out = append(out, match.Spot{ID: e.ID, Key: key})
		}
	}
	slices.SortFunc(out, func(a, b match.Spot) int { return bytes.Compare(a.Key, b.Key) })
	return out[:min(len(out), limit)], nil
}

// Arrivals implements match.Book: nothing comes while a quote is made.
func (*stall) Arrivals(match.Class, uint64, int) ([]match.Arrival, uint64, error) {
	return nil, 0, nil
}

// Arrived implements match.Book.
func (*stall) Arrived() uint64 { return 0 }

package market

import (
	"bytes"
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/resources"
)

// EndBlock closes leases and removes offers whose time has come, matches
// requests, and then expires those whose last height this was.
func (m Module) EndBlock(ctx *block.Context) error {
	if err := m.closeDue(ctx); err != nil {
		return err
	}
	if err := expireOffers(ctx); err != nil {
		return err
	}
	if err := forgetUsage(ctx); err != nil {
		return err
	}
	if err := m.match(ctx); err != nil {
		return err
	}
	return m.expireRequests(ctx)
}

// due returns the ids of a queue that are due, at most maxDue.
func due(ctx *block.Context, family state.Prefix) ([][]byte, error) {
	keys, err := state.NewIndex(family).Due(ctx.State, ctx.Height, maxDue)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		if _, keys[i], err = state.ParseUint64Key(key); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func (m Module) closeDue(ctx *block.Context) error {
	ids, err := due(ctx, state.MarketLeasesByExpiry)
	if err != nil {
		return err
	}
	for _, raw := range ids {
		id := mman.LeaseID(raw)
		l, ok, err := LookupLease(ctx.State, id)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%w: lease %s is due and missing", mman.ErrCorrupt, id)
		}
		if err := m.end(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

func expireOffers(ctx *block.Context) error {
	ids, err := due(ctx, state.MarketOffersByExpiry)
	if err != nil {
		return err
	}
	for _, raw := range ids {
		id, err := mman.CIDFromBytes(raw)
		if err != nil {
			return fmt.Errorf("%w: queue of offers: %w", mman.ErrCorrupt, err)
		}
		ctx.Emit("mman.offer_expired", "id", id.String())
		if err := removeOffer(ctx.State, id); err != nil {
			return err
		}
	}
	return nil
}

func (m Module) expireRequests(ctx *block.Context) error {
	ids, err := due(ctx, state.MarketRequestsByDeadline)
	if err != nil {
		return err
	}
	for _, raw := range ids {
		id := mman.RequestID(raw)
		r, record, err := queuedRequest(ctx.State, id)
		if err != nil {
			return err
		}
		ctx.Emit("mman.expire", "request", id.String(), "refund_uman", digits(r.Cap))
		if err := m.endRequest(ctx, id, r, record, match.Expired); err != nil {
			return err
		}
	}
	return nil
}

func queuedRequest(r state.Reader, id mman.RequestID) (market.Request, RequestRecord, error) {
	req, record, ok, err := LookupRequest(r, id)
	if err == nil && (!ok || record.State != match.Queued) {
		err = fmt.Errorf("%w: request %s is queued and missing", mman.ErrCorrupt, id)
	}
	return req, record, err
}

// match tries to fill the requests for which the book has changed since they
// were last tried, those that waited for the oldest book first.
func (m Module) match(ctx *block.Context) error {
	version, err := bookVersion().Get(ctx.State)
	if err != nil {
		return err
	}
	limit := min(int(ctx.Params.MatchPerBlock), state.MaxPage) //nolint:gosec // bounded by genesis
	keys, err := state.NewIndex(state.MarketRequestQueue).Due(ctx.State, version, limit)
	if err != nil {
		return err
	}
	ids := make([]mman.RequestID, len(keys))
	for i, key := range keys {
		_, raw, err := state.ParseUint64Key(key)
		if err != nil {
			return err
		}
		ids[i] = mman.RequestID(raw)
	}
	match.Order(ctx.Beacon, ids)
	b := &book{state: ctx.State, height: ctx.Height, day: today(ctx.Header), offers: map[mman.CID]standing{}}
	for _, id := range ids {
		if err := m.fill(ctx, b, id); err != nil {
			return fmt.Errorf("match request %s: %w", id, err)
		}
	}
	return nil
}

// fill makes one attempt.
func (m Module) fill(ctx *block.Context, b *book, id mman.RequestID) error {
	r, record, err := queuedRequest(ctx.State, id)
	if err != nil {
		return err
	}
	if r.Deadline < ctx.Height {
		return nil // its expiry did not fit into the last block and comes next
	}
	d, fit, err := match.Fill(id, r, b, policy.Chain{Height: ctx.Height, Time: ctx.Time})
	if err != nil {
		return err
	}
	if err := decide(ctx.State, id, d); err != nil {
		return err
	}
	if d.Outcome != match.Matched {
		return requeue(ctx.State, id, record)
	}
	l, err := match.NewLease(id, r, fit, ctx.Height, ctx.Params.GraceBlocks)
	if err != nil {
		return err
	}
	if err := m.endRequest(ctx, id, r, record, match.Matched); err != nil {
		return err
	}
	ctx.Emit("mman.match", "request", id.String(), "lease", l.ID.String(), "consumer", l.Consumer.String(), "peer", l.Compute().Peer.String())
	if err := b.countUsage(ctx, l); err != nil {
		return err
	}
	return openLease(ctx, l)
}

// requeue lets the request wait for the next version of the book.
func requeue(w state.Writer, id mman.RequestID, record RequestRecord) error {
	version, err := bookVersion().Get(w)
	if err != nil {
		return err
	}
	queue := state.NewIndex(state.MarketRequestQueue)
	if err := queue.Remove(w, heightKey(record.Try, id[:])); err != nil {
		return err
	}
	record.Try = version + 1
	if err := queue.Add(w, heightKey(record.Try, id[:])); err != nil {
		return err
	}
	return requests().Set(w, id[:], record)
}

// decide stores the decision when more than its height changed. Rejections that
// do not fit into the record are left out, from the last.
func decide(w state.Writer, id mman.RequestID, d match.Decision) error {
	for {
		b, err := dagcbor.Marshal(d)
		if err != nil {
			return err
		}
		if len(b) <= decisionMaxBytes || len(d.Rejections) == 0 {
			break
		}
		d.Rejections = d.Rejections[:len(d.Rejections)-1]
	}
	was, ok, err := LookupDecision(w, id)
	if err != nil {
		return err
	}
	if ok {
		same := d
		same.Height = was.Height
		before, err := dagcbor.Marshal(was)
		if err != nil {
			return err
		}
		after, err := dagcbor.Marshal(same)
		if err != nil || bytes.Equal(before, after) {
			return err
		}
	}
	return decisions().Set(w, id[:], d)
}

// book is the standing offers as one block's matching sees them. Each offer is
// decoded and its policy compiled once a block; counts are read anew each time.
type book struct {
	state  state.Reader
	height uint64
	day    uint64
	offers map[mman.CID]standing
}

type standing struct {
	offer   market.Offer
	program *policy.Program
}

// Offer implements match.Book.
func (b *book) Offer(id mman.CID) (match.Entry, bool, error) {
	o, ok := b.offers[id]
	if !ok {
		var err error
		if o.offer, _, ok, err = LookupOffer(b.state, id); err != nil || !ok {
			return match.Entry{}, false, err
		}
		if o.program, err = o.offer.Policy.Compile(); err != nil {
			return match.Entry{}, false, fmt.Errorf("%w: offer %s: %w", mman.ErrCorrupt, id, err)
		}
		b.offers[id] = o
	}
	if o.offer.Expires <= b.height {
		return match.Entry{}, false, nil
	}
	open, err := OpenLeases(b.state, o.offer)
	return match.Entry{ID: id, Offer: o.offer, Open: open, Program: o.program}, err == nil, err
}

// Usage implements match.Book.
func (b *book) Usage(e match.Entry, consumer mman.Address) (policy.Usage, error) {
	return usage(b.state, offerLine(e.Offer), consumer, b.day)
}

// Scan implements match.Book: in the order of offer ids.
func (b *book) Scan(kind resources.Kind, facet resources.Facet, resource mman.CID, limit int) ([]match.Entry, error) {
	family, prefix := state.MarketOffersByFacet, facetKey(kind, facet)
	if !resource.IsZero() {
		family, prefix = state.MarketOffersByResource, resource.Bytes()
	}
	keys, err := state.NewIndex(family).Page(b.state, prefix, nil, limit)
	if err != nil {
		return nil, err
	}
	out := make([]match.Entry, 0, len(keys))
	for _, key := range keys {
		id, err := mman.CIDFromBytes(key[len(prefix):])
		if err != nil {
			return nil, fmt.Errorf("%w: index of offers: %w", mman.ErrCorrupt, err)
		}
		e, ok, err := b.Offer(id)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, e)
		}
	}
	return out, nil
}

// Invariants checks that the escrow is that of the requests and leases, and
// that each line's count is that of its leases; mman.ErrInvariant. It reads
// every record.
func (m Module) Invariants(r state.Reader) error {
	var held mman.Amount
	if err := walkEscrow(r, func(_ mman.Address, amount mman.Amount) (err error) {
		held, err = held.Add(amount)
		return err
	}); err != nil {
		return err
	}
	escrow, err := m.bank.Escrow(r)
	if err != nil {
		return err
	}
	if held != escrow {
		return fmt.Errorf("%w: requests and leases hold %d uman, the escrow is %d", mman.ErrInvariant, uint64(held), uint64(escrow))
	}
	counts := map[string]uint64{}
	if err := leases().Each(r, nil, func(_ []byte, l market.Lease) error {
		if l.State == market.LeaseClosed {
			return nil
		}
		for _, key := range leaseLines(l) {
			counts[string(key)]++
		}
		return nil
	}); err != nil {
		return err
	}
	known := 0
	if err := lines().Each(r, nil, func(key []byte, l line) error {
		if counts[string(key)] != l.Open {
			return fmt.Errorf("%w: line %x counts %d open leases, there are %d", mman.ErrInvariant, key, l.Open, counts[string(key)])
		}
		if l.Open > 0 {
			known++
		}
		return nil
	}); err != nil {
		return err
	}
	if known != len(counts) {
		return fmt.Errorf("%w: %d lines have open leases, %d are recorded", mman.ErrInvariant, len(counts), known)
	}
	return nil
}

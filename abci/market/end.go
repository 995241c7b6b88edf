package market

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
)

// EndBlock closes leases and removes offers whose time has come, takes the next
// step of RFPs, matches requests, and then expires those whose last height this
// was.
func (m Module) EndBlock(ctx *block.Context) error {
	if err := m.closeDue(ctx); err != nil {
		return err
	}
	if err := m.expireOffers(ctx); err != nil {
		return err
	}
	if err := expireGrants(ctx); err != nil {
		return err
	}
	if err := forgetUsage(ctx); err != nil {
		return err
	}
	if err := wake(ctx); err != nil {
		return err
	}
	if err := m.awardRFPs(ctx); err != nil {
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
	if err != nil || m.off.expiry {
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

func (m Module) expireOffers(ctx *block.Context) error {
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
		if err := m.removeOffer(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (m Module) expireRequests(ctx *block.Context) error {
	ids, err := due(ctx, state.MarketRequestsByDeadline)
	if err != nil || m.off.expiry {
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

// wake gives the requests another attempt whose time has come.
func wake(ctx *block.Context) error {
	ids, err := due(ctx, state.MarketRequestsByWake)
	if err != nil {
		return err
	}
	for _, raw := range ids {
		id := mman.RequestID(raw)
		_, record, err := queuedRequest(ctx.State, id)
		if err != nil {
			return err
		}
		after := record
		after.Wake, after.Try = 0, 0
		if record.Progress != nil {
			p := *record.Progress
			p.Woken, after.Progress = true, &p
		}
		if err := requeue(ctx.State, id, record, after); err != nil {
			return err
		}
	}
	return nil
}

// stepsPerBlock bounds what the policies asked in one block may cost, in the
// steps of policy.MaxCost: about a tenth of a second at worst.
const stepsPerBlock = 1 << 21

// match tries to fill the requests for which there is something to look at,
// those that waited longest first, until the block's looks are used up.
func (m Module) match(ctx *block.Context) error {
	b, err := m.book(ctx)
	if err != nil {
		return err
	}
	limit := min(int(ctx.Params.MatchPerBlock), state.MaxPage) //nolint:gosec // bounded by genesis
	keys, err := state.NewIndex(state.MarketRequestQueue).Due(ctx.State, b.arrived, limit)
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
	var looks, steps uint64
	for _, id := range ids {
		if looks >= ctx.Params.LooksPerBlock || steps >= stepsPerBlock {
			return nil
		}
		a, err := m.fill(ctx, b, id)
		if err != nil {
			return fmt.Errorf("match request %s: %w", id, err)
		}
		looks += uint64(len(a.Inputs.Looks))
		steps += a.Steps
	}
	return nil
}

// fill makes one attempt.
func (m Module) fill(ctx *block.Context, b *book, id mman.RequestID) (match.Attempt, error) {
	r, record, err := queuedRequest(ctx.State, id)
	if err != nil || r.Deadline < ctx.Height {
		return match.Attempt{}, err // its expiry did not fit into the last block and comes next
	}
	before, _, err := LookupDecision(ctx.State, id)
	if err != nil {
		return match.Attempt{}, err
	}
	progress := match.Begin(r, record.Looks, b.arrived)
	if record.Progress != nil && !m.off.cursor {
		progress = *record.Progress
	}
	a, err := match.Fill(id, r, b, policy.Chain{Height: ctx.Height, Time: ctx.Time}, progress, before.Rejections)
	if err != nil {
		return a, err
	}
	if a.Looked {
		if err := decide(ctx, id, a); err != nil {
			return a, err
		}
	}
	if a.Looked && a.Decision.Outcome == match.Matched {
		return a, m.lease(ctx, b, id, r, record, a)
	}
	if a.Progress.Left == 0 {
		ctx.Emit("mman.exhausted", "request", id.String(), "refund_uman", digits(r.Cap))
		return a, m.endRequest(ctx, id, r, record, match.Exhausted)
	}
	after := record
	after.Progress, after.Try, after.Wake = &a.Progress, b.arrived+1, 0
	if a.Progress.Goes(r) {
		after.Try = b.arrived
	}
	if a.Progress.Sleeps() {
		after.Wake = ctx.Height + ctx.Params.WakeBlocks
	}
	return a, requeue(ctx.State, id, record, after)
}

// lease makes the lease of a request that was matched.
func (m Module) lease(ctx *block.Context, b *book, id mman.RequestID, r market.Request, record RequestRecord, a match.Attempt) error {
	l, err := match.NewLease(id, r, a.Fit, ctx.Height, ctx.Params.GraceBlocks)
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
	return m.openLease(ctx, l)
}

// requeue lets the request wait for what its record says.
func requeue(w state.Writer, id mman.RequestID, before, after RequestRecord) error {
	queue, wakes := state.NewIndex(state.MarketRequestQueue), state.NewIndex(state.MarketRequestsByWake)
	if err := queue.Remove(w, heightKey(before.Try, id[:])); err != nil {
		return err
	}
	if err := queue.Add(w, heightKey(after.Try, id[:])); err != nil {
		return err
	}
	if before.Wake > 0 {
		if err := wakes.Remove(w, heightKey(before.Wake, id[:])); err != nil {
			return err
		}
	}
	if after.Wake > 0 {
		if err := wakes.Add(w, heightKey(after.Wake, id[:])); err != nil {
			return err
		}
	}
	return requests().Set(w, id[:], after)
}

// decide stores the decision of an attempt and tells what it was made upon:
// who wants to decide again reads that from the block's events, and the record
// has its hash.
func decide(ctx *block.Context, id mman.RequestID, a match.Attempt) error {
	ctx.Emit("mman.decision", "request", id.String(), "outcome", string(a.Decision.Outcome), "inputs", base64.StdEncoding.EncodeToString(a.Encoded))
	return decisions().Set(ctx.State, id[:], a.Decision)
}

// Invariants checks that the escrow is that of the requests and leases, that
// each line's count is that of its leases, and each provider's that of its
// offers; mman.ErrInvariant. It reads every record.
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
	if err := m.lockedInvariant(r); err != nil {
		return err
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

// lockedInvariant checks that the deposits are those of the standing offers, and
// the offers as many as were counted.
func (m Module) lockedInvariant(r state.Reader) error {
	var sum mman.Amount
	standing := map[mman.Address]uint64{}
	if err := offers().Each(r, nil, func(_ []byte, record OfferRecord) error {
		o, _, err := market.DecodeOffer(record.Bytes)
		if err != nil {
			return err
		}
		standing[o.Provider]++
		sum, err = sum.Add(record.Deposit)
		return err
	}); err != nil {
		return err
	}
	counters, err := r.Iterate(state.MarketTotals.Store(), state.MarketTotals.Key([]byte(offersCounter)), nil, len(standing)+1)
	if err != nil {
		return err
	}
	if len(counters) != len(standing) {
		return fmt.Errorf("%w: %d providers have standing offers, at least %d are counted", mman.ErrInvariant, len(standing), len(counters))
	}
	byBytes := func(a, b mman.Address) int { return bytes.Compare(a[:], b[:]) }
	for _, provider := range slices.SortedFunc(maps.Keys(standing), byBytes) {
		counted, err := standingOffers(provider).Get(r)
		if err != nil {
			return err
		}
		if counted != standing[provider] {
			return fmt.Errorf("%w: %s has %d standing offers, %d are counted", mman.ErrInvariant, provider, standing[provider], counted)
		}
	}
	locked, err := m.bank.Locked(r)
	if err == nil && sum != locked {
		err = fmt.Errorf("%w: offers lock %d uman, the deposits are %d", mman.ErrInvariant, uint64(sum), uint64(locked))
	}
	return err
}

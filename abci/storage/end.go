package storage

import (
	"fmt"
	"strconv"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/market/storage"
)

// EndBlock asks for an epoch's challenge, takes it when it is there, and looks at
// what is due, at most maxDue entries of the queue.
func (m Module) EndBlock(ctx *block.Context) error {
	if err := m.draw(ctx); err != nil {
		return err
	}
	rules := m.rules(ctx)
	d, _, err := LookupDrawn(ctx.State)
	if err != nil {
		return err
	}
	keys, err := queue().Due(ctx.State, ctx.Height, maxDue)
	if err != nil {
		return err
	}
	for _, key := range keys {
		_, rest, err := state.ParseUint64Key(key)
		if err != nil || len(rest) < mman.IDSize+1 {
			return fmt.Errorf("%w: queue of storage %x", mman.ErrCorrupt, key)
		}
		id, what := mman.LeaseID(rest[:mman.IDSize]), rest[mman.IDSize]
		if what == retrievalStep {
			err = m.refund(ctx, mman.Address(id), mman.Address(rest[mman.IDSize+1:]))
		} else {
			err = m.look(ctx, id, what, d, rules)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// draw asks for a challenge at the beginning of an epoch in which anybody holds
// anything, and writes it down when it comes.
func (m Module) draw(ctx *block.Context) error {
	n, err := held().Get(ctx.State)
	if err != nil || n == 0 {
		return err
	}
	rules := m.rules(ctx)
	epoch := rules.Epoch(ctx.Height)
	begin := rules.Start(epoch)
	if ctx.Height == begin {
		return m.beacon.Ask(ctx)
	}
	last, ok, err := LookupDrawn(ctx.State)
	if err != nil || ok && last.Epoch >= epoch {
		return err
	}
	height, value, ok, err := m.beacon.Drawn(ctx.State, begin)
	if err != nil || !ok || height != ctx.Height {
		return err // asked too early, or before anybody held anything
	}
	ctx.Emit("mman.storage_challenge", "epoch", number(epoch), "challenge", value.String())
	return drawn().Set(ctx.State, []byte(drawnKey), storage.Drawn{Epoch: epoch, Height: height, Value: value})
}

// look takes the next step of a lease, or of one of its replicas.
func (m Module) look(ctx *block.Context, id mman.LeaseID, what byte, d storage.Drawn, rules storage.Rules) error {
	before, ok, err := LookupLease(ctx.State, id)
	if err != nil {
		return err
	}
	if !ok || what != step && int(what) >= len(before.Replicas) {
		return fmt.Errorf("%w: storage lease %s is due and missing", mman.ErrCorrupt, id)
	}
	if what == step {
		return m.step(ctx, before, rules)
	}
	l := clone(before)
	v := l.Look(int(what), d, ctx.Height, rules)
	if !v.Freed.IsZero() {
		if err := m.lose(ctx, l, int(what), before.Replicas[what], v); err != nil {
			return err
		}
	}
	if v.Place {
		if err := m.repair(ctx, &l, int(what), rules); err != nil {
			return err
		}
	}
	return putLease(ctx.State, before, l)
}

// lose takes a replica from who had it, or was to have it.
func (m Module) lose(ctx *block.Context, l storage.Lease, replica int, was storage.Replica, v storage.Verdict) error {
	ctx.Emit("mman.storage_lost", "lease", l.ID.String(), "replica", strconv.Itoa(replica), "provider", v.Freed.String(), "was", string(was.State), "burned_uman", number(uint64(v.Burn)))
	if err := free(ctx, l, v.Freed, was.State == storage.Held || was.Source != storage.NoSource); err != nil {
		return err
	}
	if was.State == storage.Held {
		if err := count(ctx.State, func(n uint64) uint64 { return n - 1 }); err != nil {
			return err
		}
	}
	return m.slash(ctx, v)
}

// slash burns a deposit.
func (m Module) slash(ctx *block.Context, v storage.Verdict) error {
	if m.off.slash {
		return m.bank.Give(ctx, v.Freed, v.Burn)
	}
	return m.bank.Destroy(ctx, v.Burn)
}

// repair gives a lost replica to another provider, who copies one that is held.
func (m Module) repair(ctx *block.Context, l *storage.Lease, replica int, rules storage.Rules) error {
	source, ok := l.Source(replica)
	if ok && !m.off.repair && rules.Epoch(ctx.Height) < l.Last {
		placed, err := m.place(ctx, l, replica, source, rules)
		if err != nil || placed {
			return err
		}
	}
	l.Postpone(replica, ctx.Height, rules)
	return nil
}

// step tells that a lease's last epoch began, and an epoch later ends it.
func (m Module) step(ctx *block.Context, before storage.Lease, rules storage.Rules) error {
	if !before.Noticed {
		l := clone(before)
		l.Notice(rules)
		ctx.Emit("mman.storage_expiring", "lease", l.ID.String(), "consumer", l.Consumer.String(), "height", number(l.Step))
		return putLease(ctx.State, before, l)
	}
	l := clone(before)
	for i := range l.Replicas {
		r := &l.Replicas[i]
		if r.Provider.IsZero() {
			continue
		}
		if err := free(ctx, l, r.Provider, false); err != nil {
			return err
		}
		if r.State == storage.Held {
			if err := count(ctx.State, func(n uint64) uint64 { return n - 1 }); err != nil {
				return err
			}
		}
		if err := m.bank.Give(ctx, r.Provider, r.Deposit); err != nil {
			return err
		}
		if err := byProvider().Remove(ctx.State, replicaKey(r.Provider, l.ID, i)); err != nil {
			return err
		}
	}
	ctx.Emit("mman.storage_end", "lease", l.ID.String(), "consumer", l.Consumer.String(), "paid_uman", number(uint64(l.Paid)), "refund_uman", number(uint64(l.Escrow)))
	if err := m.bank.Give(ctx, l.Consumer, l.Escrow); err != nil {
		return err
	}
	return dropLease(ctx.State, l)
}

// refund gives back what was set aside for retrievals.
func (m Module) refund(ctx *block.Context, consumer, provider mman.Address) error {
	r, ok, err := LookupRetrieval(ctx.State, consumer, provider)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: money for retrievals of %s is due and missing", mman.ErrCorrupt, consumer)
	}
	if err := m.bank.Give(ctx, consumer, r.Held); err != nil {
		return err
	}
	if err := queue().Remove(ctx.State, retrievalDueKey(r)); err != nil {
		return err
	}
	return retrievals().Delete(ctx.State, pairKey(consumer, provider))
}

// Invariants checks the package's invariants; mman.ErrInvariant. It reads every
// record.
func (m Module) Invariants(r state.Reader) error {
	var sum mman.Amount
	add := func(a mman.Amount) (err error) {
		sum, err = sum.Add(a)
		return err
	}
	used, live, waits := map[string]uint64{}, uint64(0), 0
	err := leases().Each(r, nil, func(_ []byte, l storage.Lease) error {
		if err := add(l.Escrow); err != nil {
			return err
		}
		if err := waiting(r, l, step, l.Step); err != nil {
			return err
		}
		waits++
		for i, one := range l.Replicas {
			if err := waiting(r, l, byte(i), one.Wait); err != nil {
				return err
			}
			if one.Wait > 0 {
				waits++
			}
			if one.State == storage.Held {
				live++
			}
			if !one.Provider.IsZero() {
				used[string(offerKey(one.Provider, l.Tier))] += storage.MiB(l.Bytes)
			}
			if err := add(one.Deposit); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := retrievals().Each(r, nil, func(_ []byte, one Retrieval) error {
		waits++
		return add(one.Held)
	}); err != nil {
		return err
	}
	return m.sums(r, sum, used, live, waits)
}

// waiting checks that a step stands in the queue.
func waiting(r state.Reader, l storage.Lease, what byte, height uint64) error {
	if height == 0 {
		return nil
	}
	has, err := queue().Has(r, dueKey(height, l.ID, what))
	if err == nil && !has {
		err = fmt.Errorf("%w: lease %s waits for height %d, and the queue does not know", mman.ErrInvariant, l.ID, height)
	}
	return err
}

// sums compares what was added up.
func (m Module) sums(r state.Reader, sum mman.Amount, used map[string]uint64, live uint64, waits int) error {
	kept, err := m.bank.Kept(r)
	if err != nil {
		return err
	}
	if kept != sum {
		return fmt.Errorf("%w: storage holds %d uman, the bank keeps %d for it", mman.ErrInvariant, uint64(sum), uint64(kept))
	}
	if n, err := held().Get(r); err != nil || n != live {
		return fmt.Errorf("%w: %d replicas are held, %d are counted: %w", mman.ErrInvariant, live, n, err)
	}
	known := 0
	if err := offers().Each(r, nil, func(key []byte, o storage.Offer) error {
		if o.Used != used[string(key)] {
			return fmt.Errorf("%w: the storage of %s counts %d MiB, its replicas have %d", mman.ErrInvariant, o.Provider, o.Used, used[string(key)])
		}
		if o.Used > 0 {
			known++
		}
		has, err := byPrice().Has(r, priceKey(o))
		if err == nil && has != o.Open() {
			err = fmt.Errorf("%w: the storage of %s is open: %t, listed: %t", mman.ErrInvariant, o.Provider, o.Open(), has)
		}
		return err
	}); err != nil {
		return err
	}
	if known != len(used) {
		return fmt.Errorf("%w: %d storage offers are used, %d are known", mman.ErrInvariant, len(used), known)
	}
	var after []byte
	for {
		keys, err := queue().Page(r, nil, after, state.MaxPage)
		if err != nil {
			return err
		}
		waits -= len(keys)
		if len(keys) < state.MaxPage {
			break
		}
		after = keys[len(keys)-1]
	}
	if waits != 0 {
		return fmt.Errorf("%w: %d steps of storage are missing in the queue", mman.ErrInvariant, waits)
	}
	return nil
}

package provider_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
)

func TestNumbersGoOnAfterRestart(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	c := l.consumer(t, l.lease(1), 0)
	require.NoError(t, c.open())
	first := c.pay()
	require.Equal(t, uint64(1), first.Seq)
	require.Equal(t, mman.Amount(1001), first.Gross)
	unpaid, err := c.request()
	require.NoError(t, err)
	c.work.Close()
	l.restart(t)
	require.NoError(t, c.open()) // what was not signed for is forgiven
	st := c.pay()
	require.Equal(t, uint64(3), st.Seq)
	require.Equal(t, mman.Amount(2002), st.Gross, "only what was signed for is the base")
	require.NoError(t, c.work.Receipt(t.Context(), c.sign(unpaid)), "a receipt of the past adds nothing")
	c.run = 0
	_, err = c.request()
	require.ErrorIs(t, err, mman.ErrProtocol, "the number of a run is used once")
}

func TestReceipts(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	lease := l.lease(1)
	c := l.consumer(t, lease, 3)
	require.NoError(t, c.open())
	c.pay()
	s, err := c.request()
	require.NoError(t, err)
	unsigned := c.sign(s)
	unsigned.Signature = make([]byte, 64)
	l.leaseKey = accountKey(t, "another")
	foreign := c.sign(s)
	l.leaseKey = accountKey(t, "lease")
	for name, r := range map[string]market.Signed{
		"not signed":         unsigned,
		"another key":        foreign,
		"garbage":            {Bytes: []byte("x")},
		"pays too little":    c.sign(s, func(r *market.Receipt) { r.Paid-- }),
		"above the cap":      c.sign(s, func(r *market.Receipt) { r.Paid = lease.Cap + 1 }),
		"other lane":         c.sign(s, func(r *market.Receipt) { r.Lane = 4 }),
		"other lease":        c.sign(s, func(r *market.Receipt) { r.Lease[0]++ }),
		"of the future":      c.sign(s, func(r *market.Receipt) { r.Seq = 3 }),
		"of other bytes":     c.sign(s, func(r *market.Receipt) { r.Statement = mman.SumCID(mman.CodecDagCBOR, nil) }),
		"of no result":       c.sign(s, func(r *market.Receipt) { r.Final = false }),
		"no lane":            c.sign(s, func(r *market.Receipt) { r.Lane = 99 }),
		"number 0":           c.sign(s, func(r *market.Receipt) { r.Seq = 0 }),
		"of another version": c.sign(s, func(r *market.Receipt) { r.Version = 2 }),
	} {
		require.Error(t, c.work.Receipt(t.Context(), r), name)
	}
	_, err = c.request()
	require.ErrorIs(t, err, mman.ErrUnpaid)
	good := c.sign(s)
	require.NoError(t, c.work.Receipt(t.Context(), good))
	require.NoError(t, c.work.Receipt(t.Context(), good), "again")
	c.pay()
	require.NoError(t, c.work.Receipt(t.Context(), good), "a lower one")
	_, stop := l.live(t)
	require.NoError(t, stop())
	require.Equal(t, map[string]mman.Amount{"1/3": 3003}, settled(t, l.chain.take()))
}

// TestReceiptThatWasOvertaken: statements follow each other faster than their
// receipts come back.
func TestReceiptThatWasOvertaken(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	o := &out{statements: make(chan market.Signed, 100)}
	said := make(chan market.Signed, 100)
	l.executor.Play = func(_ context.Context, _ resources.Task, streams resources.IO) (resources.Result, error) {
		for ms := uint64(1000); ms <= 20_000; ms += 1000 {
			streams.Progress(resources.Usage{WallMs: ms, CallCount: 1})
			if ms <= 8000 {
				said <- <-o.statements
			}
		}
		return resources.Result{Usage: resources.Usage{WallMs: 20_000, CallCount: 1}}, nil
	}
	c := l.consumer(t, l.lease(1, func(l *market.Lease) { l.Limits.WallMs = 20_000 }), 0)
	require.NoError(t, c.open())
	last, err := c.requestTo(o)
	require.NoError(t, err)
	require.Empty(t, o.statements, "a payer that answers nothing gets no more than eight")
	l.executor.Play = nil
	<-said
	second := <-said
	require.NoError(t, c.work.Receipt(t.Context(), c.sign(second)), "the latest is another")
	c.work.Close()
	// The receipt was on its way when the consumer vanished: it comes with the
	// next hello.
	third := <-said
	c.sign(third)
	l.restart(t)
	require.NoError(t, c.open())
	st := c.pay()
	require.Equal(t, uint64(10), st.Seq)
	require.Equal(t, uint64(3_001), st.Usage.WallMs)
	final, _ := c.statement(last)
	require.Equal(t, uint64(9), final.Seq)
}

func TestForgivenessEnds(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	lease := l.lease(1)
	for i := range uint64(8) {
		c := l.consumer(t, lease, i%2)
		c.run = i
		require.NoError(t, c.open())
		_, err := c.request()
		require.NoError(t, err)
		c.work.Close()
	}
	c := l.consumer(t, lease, 0)
	c.run = 100
	require.NoError(t, c.open())
	_, err := c.request()
	require.NoError(t, err)
	c.work.Close()
	require.NoError(t, c.open(), "seven were forgiven on two lanes, this is the eighth")
	c.work.Close()
	d := l.consumer(t, lease, 1)
	require.ErrorIs(t, d.open(), mman.ErrUnpaid)
	require.NoError(t, l.consumer(t, l.lease(2), 1).open(), "another lease is another matter")
}

func TestOneSessionForEachLane(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	lease := l.lease(1)
	c := l.consumer(t, lease, 15)
	require.NoError(t, c.open())
	require.ErrorIs(t, l.consumer(t, lease, 15).open(), mman.ErrRunConflict)
	require.NoError(t, l.consumer(t, lease, 0).open())
	require.ErrorIs(t, l.consumer(t, lease, 16).open(), mman.ErrInvalid)
	c.work.Close()
	c.work.Close()
	require.NoError(t, c.open())
}

func TestAffordable(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cap   mman.Amount
		price price.UnitPrice
		want  uint64 // wall time limit, 0 when the run is refused
	}{
		"whole run fits":      {11_000, price.UnitPrice{Unit: resources.UnitWallMs, Per: 1, UMan: 1}, 10_000},
		"one less":            {10_999, price.UnitPrice{Unit: resources.UnitWallMs, Per: 1, UMan: 1}, 9_999},
		"a millisecond":       {1001, price.UnitPrice{Unit: resources.UnitWallMs, Per: 1, UMan: 1}, 1},
		"not a millisecond":   {1000, price.UnitPrice{Unit: resources.UnitWallMs, Per: 1, UMan: 1}, 0},
		"more than all money": {mman.MaxSupply, price.UnitPrice{Unit: resources.UnitWallMs, Per: 1, UMan: 1 << 40}, 8191},
		"bytes alone":         {1 << 19, price.UnitPrice{Unit: resources.UnitInBytes, Per: 1, UMan: 1}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLender(t, 0)
			c := l.consumer(t, l.lease(1, func(l *market.Lease) {
				l.Cap = tc.cap
				l.Legs[1].Price.Units[0] = tc.price
			}), 0)
			require.NoError(t, c.open())
			_, err := c.request()
			if tc.want == 0 {
				require.ErrorIs(t, err, mman.ErrCapExceeded)
				require.Empty(t, l.executor.Tasks())
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, l.executor.Tasks()[0].Limits.WallMs)
		})
	}
}

// TestLanesShareTheCap: two runs at a time cannot cost more than the cap, even
// if each of them alone could.
func TestLanesShareTheCap(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	started, goOn := make(chan struct{}), make(chan struct{})
	l.executor.Play = func(_ context.Context, task resources.Task, _ resources.IO) (resources.Result, error) {
		if task.Limits.WallMs == 10_000 {
			close(started)
			<-goOn
		}
		return resources.Result{Usage: resources.Usage{WallMs: task.Limits.WallMs + 5, CallCount: 1}}, nil
	}
	lease := l.lease(1, func(l *market.Lease) { l.Cap = 15_000 })
	a, b := l.consumer(t, lease, 0), l.consumer(t, lease, 1)
	require.NoError(t, a.open())
	require.NoError(t, b.open())
	done := make(chan error, 1)
	go func() {
		_, err := a.request()
		done <- err
	}()
	<-started
	s, err := b.request()
	require.NoError(t, err)
	st, _ := b.statement(s)
	require.Equal(t, uint64(3000), st.Usage.WallMs, "and nothing is charged beyond the limit")
	require.Equal(t, mman.Amount(4000), st.Gross)
	require.NoError(t, b.work.Receipt(t.Context(), b.sign(s)))
	close(goOn)
	require.NoError(t, <-done)
}

func TestRefusedAtOpen(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk on fire")
	for name, tc := range map[string]struct {
		want   error
		lease  func(*market.Lease)
		hello  func(*session.Hello)
		resign bool
		chain  func(*chain)
	}{
		"unknown lease":    {want: mman.ErrLeaseUnknown, hello: func(h *session.Hello) { h.Lease[5]++ }},
		"not signed":       {want: mman.ErrBadSignature, hello: func(h *session.Hello) { h.Signature[0]++ }},
		"changed":          {want: mman.ErrBadSignature, hello: func(h *session.Hello) { h.Consumer[0]++ }},
		"compute is other": {want: mman.ErrNotYourLease, lease: func(l *market.Lease) { l.Legs[1].Peer[0]++ }},
		"closed":           {want: mman.ErrLeaseState, lease: func(l *market.Lease) { l.State = market.LeaseClosed }},
		"closing":          {want: mman.ErrLeaseState, lease: func(l *market.Lease) { l.State = market.LeaseClosing }},
		"about to expire":  {want: mman.ErrLeaseState, lease: func(l *market.Lease) { l.Expires = 102 }},
		"ledger is broken": {want: broken, chain: func(c *chain) { c.fail, c.broken = broken, true }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLender(t, 0)
			var changes []func(*market.Lease)
			if tc.lease != nil {
				changes = append(changes, tc.lease)
			}
			h := l.hello(t, l.lease(1, changes...), 0, nil)
			if tc.hello != nil {
				tc.hello(&h)
			}
			if tc.chain != nil {
				tc.chain(l.chain)
			}
			_, _, err := l.Open(t.Context(), h)
			require.ErrorIs(t, err, tc.want)
		})
	}
}

func TestLeaseEndsWithinASession(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	lease := l.lease(1)
	c := l.consumer(t, lease, 0)
	require.NoError(t, c.open())
	c.pay()
	l.chain.change(func() { l.chain.height = lease.Expires - 2 })
	_, err := c.request()
	require.ErrorIs(t, err, mman.ErrLeaseState)
}

func TestHostFailureIsNotOwed(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	c := l.consumer(t, l.lease(1), 0)
	require.NoError(t, c.open())
	l.executor.PrepareErr = mman.ErrModule
	_, err := c.request()
	require.ErrorIs(t, err, mman.ErrModule)
	l.executor.PrepareErr = nil
	st := c.pay()
	require.Equal(t, uint64(1), st.Seq)
}

func TestSettleBatchesAndRetries(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	want := map[string]mman.Amount{}
	for id := byte(1); id <= 3; id++ {
		c := l.consumer(t, l.lease(id), uint64(id))
		require.NoError(t, c.open())
		want[fmt.Sprintf("%d/%d", id, id)] = c.pay().Gross
		c.work.Close()
	}
	l.restart(t)
	at, stop := l.live(t)
	l.chain.change(func() { l.chain.fail = mman.ErrFeeTooLow })
	at(120)
	l.eventually(t, "binding and settling failed", func() bool {
		l.chain.mu.Lock()
		defer l.chain.mu.Unlock()
		return l.chain.tries == 2
	})
	l.chain.change(func() { l.chain.fail = nil })
	at(121)
	var got []tx.Msg
	l.eventually(t, "settled and bound", func() bool {
		got = append(got, l.chain.take()...)
		return len(got) > 1
	})
	require.Equal(t, want, settled(t, got))
	require.Equal(t, []string{tx.TypeSettle, tx.TypeBindNode}, kinds(got), "one transaction for all, before anything else")
	at(122)
	at(160)
	require.NoError(t, stop())
	require.Empty(t, l.chain.take(), "once is enough")
}

func TestLeaseThatEndsSoonIsSettledAtOnce(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	lease := l.lease(1)
	c := l.consumer(t, lease, 0)
	require.NoError(t, c.open())
	c.pay()
	l.chain.change(func() {
		lease.State, lease.CloseAt = market.LeaseClosing, 107
		l.chain.leases[lease.ID] = lease
	})
	at, stop := l.live(t)
	at(101)
	l.eventually(t, "settled", func() bool { return len(settled(t, l.chain.take())) == 1 })
	require.NoError(t, stop())
}

func TestClosedLeaseIsForgottenAndItsContentsGo(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	lease := l.lease(1)
	c := l.consumer(t, lease, 0)
	require.NoError(t, c.open())
	c.pay()
	hash, err := c.work.Settle(t.Context())
	require.NoError(t, err)
	require.False(t, hash.IsZero())
	require.Equal(t, map[string]mman.Amount{"1/0": 1001}, settled(t, l.chain.take()))
	_, err = c.request()
	require.ErrorIs(t, err, mman.ErrLeaseState)
	at, stop := l.live(t)
	at(200) // the session is still open
	at(201)
	c.work.Close()
	at(202)
	require.NoError(t, stop())
	l.restart(t)
	at, stop = l.live(t)
	at(202 + l.cfg.RetainBlocks)
	l.eventually(t, "dropped", func() bool {
		l.stores.mu.Lock()
		defer l.stores.mu.Unlock()
		return len(l.stores.dropped) == 1
	})
	require.NoError(t, stop())
	require.Equal(t, []mman.LeaseID{lease.ID}, l.stores.dropped)
	require.Empty(t, settled(t, l.chain.take()))
}

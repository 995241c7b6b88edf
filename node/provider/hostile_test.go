package provider_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/settle"
	"github.com/limboid/massive-man/p2p/p2ptest"
	"github.com/limboid/massive-man/p2p/protocol/blocks"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
)

// silence is an Input that never comes.
type silence struct{}

func (silence) Ready() bool { return false }

func (silence) Read(ctx context.Context, _ []byte) (int, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

// burn is a guest that uses a millisecond at a time and asks for credit each
// time, up to most of them; it says how many it used.
func burn(most uint64, used chan<- uint64) func(context.Context, resources.Task, resources.IO) (resources.Result, error) {
	return func(ctx context.Context, _ resources.Task, streams resources.IO) (resources.Result, error) {
		u := resources.Usage{CallCount: 1}
		var err error
		for u.WallMs < most && err == nil {
			if !streams.Credit.Covers(u) {
				err = streams.Credit.Await(ctx, u)
				continue
			}
			u.WallMs++
			streams.Progress(u)
			err = context.Cause(ctx)
		}
		used <- u.WallMs
		if err != nil {
			err = fmt.Errorf("%w: %w", mman.ErrCanceled, err)
		}
		return resources.Result{Usage: u}, err
	}
}

// talk runs once, interactively, and gives each statement to answer.
func (c *consumer) talk(ctx context.Context, answer func(market.Signed)) (market.Signed, error) {
	c.tb.Helper()
	o := &out{statements: make(chan market.Signed, 64)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range o.statements {
			answer(s)
		}
	}()
	defer func() { <-done }()
	defer close(o.statements)
	c.run++
	run := session.Run{Number: c.run, Limits: c.lease.Limits, Interactive: true}
	missing, err := c.work.Missing(ctx, run)
	if err != nil {
		return market.Signed{}, err
	}
	for _, id := range missing {
		if err := c.work.Supply(ctx, id, uint64(len(module)), bytes.NewReader(module)); err != nil {
			return market.Signed{}, err
		}
	}
	return c.work.Run(ctx, run, silence{}, o)
}

// ahead signs a receipt that pays by so much more than the statement asks for.
func (c *consumer) ahead(s market.Signed, by mman.Amount) error {
	return c.work.Receipt(c.tb.Context(), c.sign(s, func(r *market.Receipt) { r.Paid += by }))
}

// TestPaidAhead: nothing runs before it is paid for, the guest goes as far as
// that, on with the next receipt, and what was not used is returned.
func TestPaidAhead(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	lease := l.lease(1)
	used := make(chan uint64, 1)
	l.executor.Play = burn(5000, used)
	c := l.consumer(t, lease, 0)
	require.NoError(t, c.open())
	var paid []mman.Amount
	final, err := c.talk(t.Context(), func(s market.Signed) {
		st, _ := c.statement(s)
		require.Nil(t, st.Result)
		gross, err := st.Factors.Gross(st.Usage)
		require.NoError(t, err)
		require.Equal(t, st.Gross, gross, "anybody can recompute it")
		paid = append(paid, st.Gross+1500)
		require.NoError(t, c.ahead(s, 1500))
	})
	require.NoError(t, err)
	require.EqualValues(t, 5000, <-used)
	require.Greater(t, len(paid), 3)
	st, _ := c.statement(final)
	require.Equal(t, mman.Amount(6000), st.Gross)
	top := paid[len(paid)-1]
	require.Greater(t, top, st.Gross)
	for name, change := range map[string]func(*market.Receipt){
		"returns nothing of what it takes back": func(r *market.Receipt) { r.Paid = st.Gross },
		"returns too much":                      func(r *market.Receipt) { r.Paid, r.Returned = top, top-st.Gross+1 },
	} {
		require.ErrorIs(t, c.work.Receipt(t.Context(), c.sign(final, change)), mman.ErrReceipt, name)
	}
	require.NoError(t, c.work.Receipt(t.Context(), c.sign(final, func(r *market.Receipt) { r.Paid, r.Returned = top, top-st.Gross })))
	l.chain.take()
	_, err = c.work.Settle(t.Context())
	require.NoError(t, err)
	require.Equal(t, top, settled(t, l.chain.take())["1/0"])
}

// TestNobodyPaysAhead: an interactive run that nobody pays for does not begin.
func TestNobodyPaysAhead(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	l.executor.Play = func(context.Context, resources.Task, resources.IO) (resources.Result, error) {
		return resources.Result{}, errors.New("it ran")
	}
	c := l.consumer(t, l.lease(1), 0)
	require.NoError(t, c.open())
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, mman.ErrTimeout)
	defer cancel()
	_, err := c.talk(ctx, func(market.Signed) {})
	require.ErrorIs(t, err, mman.ErrTimeout)
}

// TestHostileConsumer: what a consumer can win by each attack, with the defence
// and without it. The bounds are those of docs/market.md.
func TestHostileConsumer(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		defence string
		// attack returns what it won, in its own unit.
		attack func(t *testing.T, l *lender) uint64
		// most is what it may win against the defence.
		most uint64
	}{
		"stop paying": {"credit", func(t *testing.T, l *lender) uint64 {
			t.Helper()
			// A run of 9 s is paid for at its beginning only: the window is 20,000 uman,
			// and a receipt pays 2000.
			lease := l.lease(1)
			used := make(chan uint64, 1)
			l.executor.Play = burn(9000, used)
			c := l.consumer(t, lease, 0)
			require.NoError(t, c.open())
			ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, mman.ErrUnpaid)
			defer cancel()
			paid := false
			_, err := c.talk(ctx, func(s market.Signed) {
				if !paid {
					paid = true
					require.NoError(t, c.ahead(s, 2000))
				}
			})
			require.NoError(t, err)
			return <-used - 1000 // 1000 uman are the call's
		}, 1},
		"fill the disk": {"stored", func(t *testing.T, l *lender) uint64 {
			t.Helper()
			c := l.consumer(t, l.lease(1), 0)
			require.NoError(t, c.open())
			stored := uint64(0)
			for i := range 40 {
				input := make([]byte, 1<<20)
				input[0] = byte(i)
				id := mman.SumCID(mman.CodecRaw, input[:1000])
				err := c.work.Supply(t.Context(), id, 1000, bytes.NewReader(input[:1000]))
				if errors.Is(err, mman.ErrTooLarge) {
					break
				}
				require.NoError(t, err)
				stored += 1000
			}
			return stored
		}, 10_000},
		"pay less than is asked": {"floor", func(t *testing.T, l *lender) uint64 {
			t.Helper()
			c := l.consumer(t, l.lease(1), 0)
			require.NoError(t, c.open())
			won := uint64(0)
			for range 3 {
				s, err := c.request()
				if err != nil {
					require.ErrorIs(t, err, mman.ErrUnpaid)
					break
				}
				st, _ := c.statement(s)
				err = c.work.Receipt(t.Context(), c.sign(s, func(r *market.Receipt) { r.Paid = 0 }))
				if err != nil {
					require.ErrorIs(t, err, mman.ErrReceipt)
				}
				won += st.Usage.CallCount
			}
			return won
		}, 1},
		"take results and vanish": {"forgive", func(t *testing.T, l *lender) uint64 {
			t.Helper()
			c := l.consumer(t, l.lease(1), 0)
			won := uint64(0)
			for range 20 {
				if err := c.open(); err != nil {
					require.ErrorIs(t, err, mman.ErrUnpaid)
					break
				}
				_, err := c.request()
				require.NoError(t, err)
				won++
				c.work.Close()
			}
			return won
		}, 9},
		"the same run again": {"replay", func(t *testing.T, l *lender) uint64 {
			t.Helper()
			c := l.consumer(t, l.lease(1), 0)
			require.NoError(t, c.open())
			c.pay()
			c.run = 0
			if _, err := c.request(); err != nil {
				require.ErrorIs(t, err, mman.ErrProtocol)
				return 0
			}
			return 1
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			win := func(undefended bool) uint64 {
				l := newLender(t, 0)
				l.cfg.LeaseBytes = 10_000
				l.restart(t)
				if undefended {
					l.Undefend(tc.defence)
				}
				return tc.attack(t, l)
			}
			with, without := win(false), win(true)
			t.Logf("won %d with the defence, at most %d; %d without", with, tc.most, without)
			require.LessOrEqual(t, with, tc.most)
			require.Greater(t, without, tc.most, "the attack works without its defence")
		})
	}
}

// TestHostileNeverAccepted: a provider of compute and a consumer who never accept
// their lease on the ledger get a private algorithm that costs 50,000 a lease only
// where this defence is switched off.
func TestHostileNeverAccepted(t *testing.T) {
	t.Parallel()
	const price = 50_000
	other := p2ptest.Start(t, 1)
	rob := func(undefended bool, accepted uint64) (robbed mman.Amount) {
		l := newLender(t, 0)
		if undefended {
			l.Undefend("accepted")
		}
		algorithm, err := l.Publish(t.Context(), listing(t, resources.KindAlgorithm, "algo", true, module))
		require.NoError(t, err)
		leg := market.Leg{Role: market.RoleAlgorithm, Resource: algorithm.Resource, Offer: algorithm.Offer, Peer: l.host.ID(), Provider: l.chain.Address()}
		leg.Price.PerLease = price
		lease := l.lease(1, func(m *market.Lease) {
			m.Legs, m.Accepted = []market.Leg{leg, {Role: market.RoleCompute, Peer: other.ID()}}, accepted
		})
		err = l.ask(t, lease, other.ID(), other.Sign, func(r *blocks.Request) { r.Root = mman.SumCID(mman.CodecRaw, module) })
		if err != nil {
			require.ErrorIs(t, err, mman.ErrLeaseState)
			return 0
		}
		owed, _, _, err := settle.Owed(lease, 0)
		require.NoError(t, err)
		return price - owed
	}
	with, without := rob(false, 0), rob(true, 0)
	t.Logf("won %s with the defence, at most 0; %s without", with, without)
	require.Zero(t, with)
	require.Equal(t, mman.Amount(price), without, "the attack works without its defence")
	require.Zero(t, rob(false, 95), "an accepted lease owes the price")
}

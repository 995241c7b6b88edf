package market_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	ledger "github.com/limboid/massive-man/abci/market"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/resources"
)

// scene is a town with a lease of the cap 1,000,000 between its consumer and its
// provider of compute, whose algorithm costs 50,000 a lease and 30 %.
func scene(t *testing.T, w town) (town, mman.RequestID) {
	t.Helper()
	o, _ := w.offer(t, townBox, resources.KindCompute, 1000, func(o *market.Offer) { o.Expires = 100 })
	w = w.must(t, "box", o)
	o, _ = w.offer(t, townCode, resources.KindAlgorithm, 50_000, func(o *market.Offer) { o.Expires, o.Parents = 100, nil })
	w = w.must(t, "code", o)
	ask, id := w.ask(t, "r", 1_000_000, true, 50)
	return w.must(t, "r", ask), id
}

func (w town) passes(t *testing.T, blocks int) town {
	t.Helper()
	for range blocks {
		next, err := w.pass()
		require.NoError(t, err)
		w = next
	}
	return w
}

func (w town) settles(t *testing.T, name string, by int, items ...tx.SettleItem) town {
	t.Helper()
	return w.must(t, name, tx.MsgSettle{Sender: w.address(by), Items: items})
}

// TestHostile: what each side wins on the ledger by an attack, with the defence
// and without it. The bounds are those of docs/market.md.
func TestHostile(t *testing.T) {
	t.Parallel()
	const funds = 10_000_000
	for name, tc := range map[string]struct {
		defence string
		// attack returns what it won, in its own unit.
		attack func(t *testing.T, w town) uint64
		// most is what it may win against the defence.
		most uint64
	}{
		// The consumer signed for 800,000, shows the ledger 2000 of it and closes,
		// while the provider is offline. It comes back in the next block.
		"lower close while the provider is offline": {"window", func(t *testing.T, w town) uint64 {
			t.Helper()
			w, id := scene(t, w)
			w = w.passes(t, 1)
			w = w.settles(t, "low", townConsumer, w.receipt(t, id, 0, 1, 2000, 0))
			w = w.must(t, "close", tx.MsgCloseLease{Account: w.address(townConsumer), Lease: id.Lease()})
			w = w.passes(t, 1)
			w = w.settles(t, "late", townBox, w.receipt(t, id, 0, 7, 800_000, 0))
			w = w.passes(t, 10)
			l, _, err := ledger.LookupLease(w.base, id.Lease())
			require.NoError(t, err)
			return 800_000 - uint64(l.Paid)
		}, 0},
		// Compute's provider and the consumer agree to show no receipts.
		"under-report to rob the other legs": {"owed", func(t *testing.T, w town) uint64 {
			t.Helper()
			w, id := scene(t, w)
			w = w.passes(t, 1)
			w = w.must(t, "accept", tx.MsgAcceptLeases{Provider: w.address(townBox), Leases: []mman.LeaseID{id.Lease()}})
			before := w.money.free[townCode]
			w = w.must(t, "close", tx.MsgSettle{Sender: w.address(townBox), Close: []mman.LeaseID{id.Lease()}})
			w = w.passes(t, 10)
			return 49_000 - uint64(w.money.free[townCode]-before) // less the burn
		}, 0},
		// In blocks until the consumer has its money back.
		"the provider vanishes before it accepts": {"accept", func(t *testing.T, w town) uint64 {
			t.Helper()
			w.params.AcceptBlocks = 2
			w, id := scene(t, w)
			w = w.passes(t, 1)
			for blocks := range uint64(100) {
				next, err := w.send(fmt.Sprint("cancel", blocks), tx.MsgCancelRequest{Consumer: w.address(townConsumer), Request: id})
				if err == nil {
					w = next
				}
				if w.money.escrow == 0 {
					return blocks
				}
				w = w.passes(t, 1)
			}
			return 100
		}, 2},
		"the provider vanishes after it accepted": {"expiry", func(t *testing.T, w town) uint64 {
			t.Helper()
			w, id := scene(t, w)
			w = w.passes(t, 1)
			w = w.must(t, "accept", tx.MsgAcceptLeases{Provider: w.address(townBox), Leases: []mman.LeaseID{id.Lease()}})
			return uint64(w.passes(t, 10).money.escrow)
		}, 0},
		"both vanish after a receipt": {"expiry", func(t *testing.T, w town) uint64 {
			t.Helper()
			w, id := scene(t, w)
			w = w.passes(t, 1)
			w = w.settles(t, "one", townBox, w.receipt(t, id, 0, 1, 70_000, 0))
			return uint64(w.passes(t, 10).money.escrow)
		}, 0},
		"both vanish in the dispute window": {"expiry", func(t *testing.T, w town) uint64 {
			t.Helper()
			w, id := scene(t, w)
			w = w.passes(t, 1)
			w = w.must(t, "close", tx.MsgCloseLease{Account: w.address(townConsumer), Lease: id.Lease()})
			return uint64(w.passes(t, 10).money.escrow)
		}, 0},
		"the consumer vanishes with a request that nobody serves": {"expiry", func(t *testing.T, w town) uint64 {
			t.Helper()
			ask, _ := w.ask(t, "r", 1_000_000, false, 4)
			w = w.must(t, "r", ask)
			return uint64(w.passes(t, 10).money.escrow)
		}, 0},
		// 200 offers that are cheaper and deny everybody; 64 are looked at in a block.
		"flood the book with offers that deny": {"cursor", func(t *testing.T, w town) uint64 {
			t.Helper()
			w = flood(t, w, 200)
			o, _ := w.offer(t, townBox, resources.KindCompute, 5000, func(o *market.Offer) { o.Expires = 100 })
			w = w.must(t, "box", o)
			ask, id := w.ask(t, "r", 1_000_000, false, 20)
			w = w.must(t, "r", ask)
			for blocks := range uint64(20) {
				w = w.passes(t, 1)
				_, r, _, err := ledger.LookupRequest(w.base, id)
				require.NoError(t, err)
				if r.State == match.Matched {
					return blocks
				}
			}
			return 20
		}, 200/64 + 1},
		// How many such offers 10 MAN of deposits pay for.
		"flood the book for nothing": {"deposit", func(t *testing.T, w town) uint64 {
			t.Helper()
			w.params.OfferDeposit = uint64(mman.MAN)
			w = flood(t, w, 40)
			n := uint64(0)
			for i := range uint64(40) {
				if w.stands(t, i) {
					n++
				}
			}
			return n
		}, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			win := func(undefended bool) uint64 {
				w := newTown(t, funds)
				w.params.LooksPerBlock, w.params.MatchPerBlock = 4096, 256
				if undefended {
					w.module = w.module.Undefended(tc.defence)
				}
				return tc.attack(t, w)
			}
			with, without := win(false), win(true)
			t.Logf("won %d with the defence, at most %d; %d without", with, tc.most, without)
			require.LessOrEqual(t, with, tc.most)
			require.Greater(t, without, tc.most, "the attack works without its defence")
		})
	}
}

// denying is the i-th of the offers that flood the book.
func (w town) denying(t *testing.T, i uint64) (tx.MsgOffer, mman.CID) {
	t.Helper()
	return w.offer(t, townCode, resources.KindCompute, mman.Amount(i), func(o *market.Offer) {
		o.Policy.Default, o.Expires, o.Resource, o.Price.Share = policy.Deny, 100, mman.SumCID(mman.CodecDagCBOR, fmt.Append(nil, i)), 0
	})
}

// flood posts as many offers that deny as are paid for, up to n.
func flood(t *testing.T, w town, n uint64) town {
	t.Helper()
	for i := range n {
		o, _ := w.denying(t, i)
		next, err := w.send(fmt.Sprint("flood", i), o)
		if err != nil {
			require.ErrorIs(t, err, mman.ErrFunds)
			return w
		}
		w = next
	}
	return w
}

func (w town) stands(t *testing.T, i uint64) bool {
	t.Helper()
	_, id := w.denying(t, i)
	_, _, ok, err := ledger.LookupOffer(w.base, id)
	require.NoError(t, err)
	return ok
}

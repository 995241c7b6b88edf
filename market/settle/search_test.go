package settle_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/market/settle"
	"github.com/limboid/massive-man/resources"
)

// world is a small market: one lease of three legs, and everybody's money.
type world struct {
	lease    market.Lease
	consumer mman.Amount
	others   [3]mman.Amount
	escrow   mman.Amount
	burned   mman.Amount
	height   uint64
}

const worldCap = 23

func begin(fixed mman.Amount) world {
	leg := func(role market.Role, who byte, p price.Price) market.Leg {
		return market.Leg{Role: role, Provider: mman.Address{who}, Price: p}
	}
	return world{
		lease: market.Lease{
			ID: mman.LeaseID{1}, Consumer: mman.Address{9}, Cap: worldCap, State: market.LeaseOpen, Expires: 3, CloseAt: 5,
			Legs: []market.Leg{
				leg(market.RoleAlgorithm, 1, price.Price{PerLease: fixed, Share: 333}),
				leg(market.RoleData, 2, price.Price{Share: 2500}),
				leg(market.RoleCompute, 3, price.Price{Units: []price.UnitPrice{{Unit: resources.UnitWallMs, Per: 1, UMan: 1}}}),
			},
		},
		escrow: worldCap,
	}
}

// key tells worlds apart.
func (w world) key() string {
	return fmt.Sprint(w.lease.State, w.lease.CloseAt, w.lease.Lanes, w.lease.Paid, w.others, w.height) // the rest follows from these
}

// pay is what the ledger does with a receipt.
func (w world) pay(r market.Receipt) (world, error) {
	after, delta, err := w.lease.Settle(r)
	if err != nil {
		return w, err
	}
	payments, burned, err := settle.Split(after, after.Paid, delta, 20_000)
	if err != nil {
		return w, err
	}
	for _, p := range payments {
		w.others[p.Leg] += p.Amount
		w.escrow -= p.Amount
	}
	w.burned += burned
	w.escrow -= burned
	w.lease = after
	return w, nil
}

// end closes the lease.
func (w world) end() (world, error) {
	closed, refund, err := w.lease.Close()
	if err != nil {
		return w, err
	}
	w.lease = closed
	w.consumer += refund
	w.escrow -= refund
	return w, nil
}

// pass lets a block go by.
func (w world) pass() (world, error) {
	w.height++
	if w.lease.State != market.LeaseClosed && w.height >= w.lease.CloseAt {
		return w.end()
	}
	return w, nil
}

// agree is a close by the compute leg's provider.
func (w world) agree() (world, error) {
	owes, err := w.lease.OwesOthers()
	if err != nil {
		return w, err
	}
	if owes {
		return w.alone()
	}
	return w.end()
}

// alone is a close by anybody else.
func (w world) alone() (world, error) {
	var err error
	w.lease, err = w.lease.BeginClose(w.height, 1)
	return w, err
}

// moves are all that anybody can do.
func (w world) moves() []func() (world, error) {
	out := []func() (world, error){w.pass, w.agree, w.alone}
	for _, lane := range []uint64{0, 1} {
		for _, r := range []market.Receipt{
			{Seq: 1, Paid: 4}, {Seq: 2, Paid: 11}, {Seq: 2, Paid: 9}, {Seq: 3, Paid: 11, Returned: 5}, {Seq: 4, Paid: worldCap}, {Seq: 5, Paid: worldCap + 1},
		} {
			r.Version, r.Lease, r.Lane = 1, w.lease.ID, lane
			out = append(out, func() (world, error) { return w.pay(r) })
		}
	}
	return out
}

// wrong says what is wrong with a world that came from the one before it, "" when
// nothing is.
func (w world) wrong(before world) string {
	sum := w.consumer + w.escrow + w.burned
	for i, o := range w.others {
		if o < before.others[i] {
			return "what was paid was taken back"
		}
		sum += o
	}
	switch {
	case sum != worldCap:
		return "money was made or lost"
	case w.lease.Escrow() != w.escrow:
		return "the lease and its escrow differ"
	case w.lease.Paid < before.lease.Paid:
		return "the lease paid less than before"
	case w.lease.State == market.LeaseClosed && w.escrow != 0:
		return "money is locked"
	}
	// Whatever happened, it ends by itself, with the escrow empty.
	for last := w; last.lease.State != market.LeaseClosed; {
		if last.height > w.lease.CloseAt {
			return "it never ends"
		}
		var err error
		if last, err = last.pass(); err != nil {
			return err.Error()
		}
	}
	return ""
}

func (w world) check(t *testing.T, before world) {
	t.Helper()
	if wrong := w.wrong(before); wrong != "" {
		require.Empty(t, wrong, "%+v, and before %+v", w, before)
	}
}

// TestSmallMarkets visits every world that any order of moves leads to: none
// makes, loses or locks a token.
func TestSmallMarkets(t *testing.T) {
	t.Parallel()
	for _, fixed := range []mman.Amount{0, 3} {
		seen := map[string]bool{}
		todo := []world{begin(fixed)}
		refused := 0
		for len(todo) > 0 {
			w := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			for _, move := range w.moves() {
				next, err := move()
				if err != nil {
					refused++
					continue
				}
				if next.height > 6 || seen[next.key()] {
					continue
				}
				seen[next.key()] = true
				next.check(t, w)
				todo = append(todo, next)
			}
		}
		t.Logf("price per lease %s: %d worlds, %d moves refused", fixed, len(seen), refused)
		require.Greater(t, len(seen), 1000)
		require.Positive(t, refused)
	}
}

// TestLongMarkets goes far in worlds of larger numbers.
func TestLongMarkets(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	for range 200 {
		w := begin(mman.Amount(rng.Uint64N(10)))
		w.lease.Expires, w.lease.CloseAt = 1000, 1000
		for range 300 {
			before := w
			var err error
			switch rng.IntN(100) {
			case 0:
				w, err = w.agree()
			case 1:
				w, err = w.alone()
			case 2, 3:
				w, err = w.pass()
			default:
				paid := mman.Amount(rng.Uint64N(worldCap + 2))
				w, err = w.pay(market.Receipt{
					Version: 1, Lease: w.lease.ID, Lane: rng.Uint64N(market.MaxLanes), Seq: 1 + rng.Uint64N(50),
					Paid: paid, Returned: min(paid, mman.Amount(rng.Uint64N(10))),
				})
			}
			if err != nil {
				w = before
				continue
			}
			w.check(t, before)
		}
	}
}

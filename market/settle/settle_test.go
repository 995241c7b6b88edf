package settle_test

import (
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/market/settle"
)

// lease returns a lease whose legs have these prices; the last is compute.
func lease(prices ...price.Price) market.Lease {
	l := market.Lease{Cap: mman.MaxSupply}
	for i, p := range prices {
		l.Legs = append(l.Legs, market.Leg{Provider: mman.Address{byte(i + 1)}, Price: p})
	}
	return l
}

func fixed(n mman.Amount) price.Price { return price.Price{PerLease: n} }

func TestSplitByHand(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name         string
		lease        market.Lease
		total, delta mman.Amount
		burn         uint64
		want         []mman.Amount // by leg
		burned       mman.Amount
	}{
		{"nothing", lease(fixed(5), fixed(5)), 0, 0, 20_000, []mman.Amount{0, 0}, 0},
		{"fixed part in proportion", lease(fixed(300), fixed(700)), 1000, 1000, 0, []mman.Amount{300, 700}, 0},
		{"session to compute", lease(fixed(0), fixed(0)), 100, 100, 0, []mman.Amount{0, 100}, 0},
		{"shares beside compute", lease(price.Price{Share: 2500}, price.Price{}), 125, 125, 0, []mman.Amount{25, 100}, 0},
		{"burn rounds up", lease(fixed(0), fixed(0)), 1, 1, 20_000, []mman.Amount{0, 0}, 1},
		{"burn of a whole", lease(fixed(0), fixed(0)), 100, 100, 1_000_000, []mman.Amount{0, 0}, 100},
		{"two percent", lease(fixed(0), fixed(0)), 100, 100, 20_000, []mman.Amount{0, 98}, 2},
		{"ties to the earlier leg", lease(fixed(1), fixed(1), fixed(1)), 2, 2, 0, []mman.Amount{1, 1, 0}, 0},
		{"second growth above the fixed part", lease(fixed(1000), fixed(0)), 3000, 2000, 0, []mman.Amount{0, 2000}, 0},
		{"growth across the fixed part", lease(fixed(1000), fixed(0)), 1500, 1000, 0, []mman.Amount{500, 500}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			payments, burned, err := settle.Split(tc.lease, tc.total, tc.delta, tc.burn)
			require.NoError(t, err)
			require.Equal(t, tc.burned, burned)
			got := make([]mman.Amount, len(tc.lease.Legs))
			for _, p := range payments {
				require.Equal(t, tc.lease.Legs[p.Leg].Provider, p.To)
				require.Positive(t, p.Amount)
				got[p.Leg] = p.Amount
			}
			require.Equal(t, tc.want, got)
		})
	}
	_, _, err := settle.Split(lease(fixed(1), fixed(1)), 5, 6, 0)
	require.ErrorIs(t, err, mman.ErrOverflow)
	_, _, err = settle.Split(lease(fixed(1), fixed(1)), 5, 5, settle.PPM+1)
	require.ErrorIs(t, err, mman.ErrInvalid)
}

// TestSplitIsExact: whatever the prices, what comes out is what went in, each
// part is within one uman per rounding of its exact share, and the burn is the
// rate rounded up.
func TestSplitIsExact(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	amount := func() mman.Amount { return mman.Amount(rng.Uint64N(1 << (1 + rng.IntN(52)))) }
	for range 20_000 {
		prices := make([]price.Price, 2+rng.IntN(9))
		for i := range prices {
			prices[i] = price.Price{PerLease: amount() / 16}
			if i < len(prices)-1 {
				prices[i].Share = rng.Uint64N(price.MaxShare + 1)
			}
			if rng.IntN(4) == 0 {
				prices[i] = price.Price{}
			}
		}
		l := lease(prices...)
		total := amount()
		delta := total - mman.Amount(rng.Uint64N(uint64(total)+1))
		burn := rng.Uint64N(settle.PPM + 1)
		payments, burned, err := settle.Split(l, total, delta, burn)
		require.NoError(t, err)
		exactBurn := new(big.Int).Mul(big.NewInt(int64(delta)), big.NewInt(int64(burn)))
		exactBurn.Add(exactBurn, big.NewInt(settle.PPM-1)).Div(exactBurn, big.NewInt(settle.PPM))
		require.Equal(t, exactBurn.Uint64(), uint64(burned))
		sum := burned
		last := -1
		for _, p := range payments {
			require.Greater(t, p.Leg, last, "each leg once, in order")
			last = p.Leg
			sum += p.Amount
		}
		require.Equal(t, delta, sum)
		again, _, err := settle.Split(l, total, delta, burn)
		require.NoError(t, err)
		require.Equal(t, payments, again)
	}
}

// TestPayingOneselfLoses: in any cut of a payment into growths, the burn is at
// least the rate on the whole.
func TestPayingOneselfLoses(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	for range 500 {
		l := lease(price.Price{PerLease: mman.Amount(rng.Uint64N(1000)), Share: rng.Uint64N(10_000)}, fixed(mman.Amount(rng.Uint64N(1000))))
		var total, burned, paid mman.Amount
		for range 1 + rng.IntN(20) {
			delta := mman.Amount(rng.Uint64N(1000))
			total += delta
			payments, b, err := settle.Split(l, total, delta, 20_000)
			require.NoError(t, err)
			burned += b
			for _, p := range payments {
				paid += p.Amount
			}
		}
		require.Equal(t, total, paid+burned)
		whole, err := total.MulDivCeil(20_000, settle.PPM)
		require.NoError(t, err)
		require.GreaterOrEqual(t, burned, whole)
	}
}

// descend gives the legs of a lease random royalties.
func descend(rng *rand.Rand, l *market.Lease) {
	for i := range l.Legs {
		left := uint64(market.RoyaltyWhole / 2)
		for n := range rng.IntN(5) {
			part := rng.Uint64N(left + 1)
			left -= part
			l.Legs[i].Royalties = append(l.Legs[i].Royalties, market.Royalty{
				To: mman.Address{100, byte(i), byte(n)}, Resource: mman.SumCID(mman.CodecRaw, []byte{byte(n)}), Part: part, Depth: 1,
			})
		}
	}
}

// TestRoyaltiesAreExact: what a leg gets is what it would get without royalties,
// and of that each owner gets its part to within one uman, in the stated order.
func TestRoyaltiesAreExact(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 4))
	for range 20_000 {
		prices := make([]price.Price, 2+rng.IntN(3))
		for i := range prices {
			prices[i] = fixed(mman.Amount(rng.Uint64N(1 << (1 + rng.IntN(40)))))
		}
		childless := lease(prices...)
		l := lease(prices...)
		descend(rng, &l)
		total := mman.Amount(rng.Uint64N(1 << (1 + rng.IntN(48))))
		delta := total - mman.Amount(rng.Uint64N(uint64(total)+1))
		want, burnedWithout, err := settle.Split(childless, total, delta, 20_000)
		require.NoError(t, err)
		got, burned, err := settle.Split(l, total, delta, 20_000)
		require.NoError(t, err)
		require.Equal(t, burnedWithout, burned, "royalties come out of the provider's part")
		byLeg, sum, at := map[int]mman.Amount{}, burned, [2]int{-1, -1}
		for _, p := range got {
			place := -1
			for i, r := range l.Legs[p.Leg].Royalties {
				if r.To == p.To {
					place = i
				}
			}
			require.True(t, p.Leg > at[0] || p.Leg == at[0] && place > at[1], "legs in order, the provider first")
			at = [2]int{p.Leg, place}
			byLeg[p.Leg] += p.Amount
			sum += p.Amount
		}
		require.Equal(t, delta, sum)
		for _, w := range want {
			require.Equal(t, w.Amount, byLeg[w.Leg])
		}
		for _, p := range got {
			for _, r := range l.Legs[p.Leg].Royalties {
				if r.To != p.To {
					continue
				}
				exact := new(big.Int).Mul(new(big.Int).SetUint64(uint64(byLeg[p.Leg])), new(big.Int).SetUint64(r.Part))
				exact.Div(exact, big.NewInt(market.RoyaltyWhole))
				require.LessOrEqual(t, uint64(p.Amount)-exact.Uint64(), uint64(1))
			}
		}
	}
	bad := lease(fixed(5), fixed(5))
	bad.Legs[0].Royalties = []market.Royalty{{Part: market.RoyaltyWhole + 1}}
	_, _, err := settle.Split(bad, 10, 10, 0)
	require.ErrorIs(t, err, mman.ErrInvalid)
}

// TestOwed: what an accepted lease owes at its end to legs that do not see it, and
// nothing to the compute's provider.
func TestOwed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		paid, escrow, accepted mman.Amount
		same                   bool // the algorithm is of the compute's provider
		gross                  mman.Amount
		want                   []mman.Amount
	}{
		"not accepted":           {0, 10_000, 0, false, 0, nil},
		"nothing paid":           {0, 10_000, 1, false, 1000, []mman.Amount{294, 686, 0}},
		"half paid":              {1000, 10_000, 1, false, 500, []mman.Amount{147, 343, 0}},
		"all paid":               {2000, 10_000, 1, false, 0, nil},
		"compute's own provider": {0, 10_000, 1, true, 700, []mman.Amount{0, 686, 0}},
		"an empty escrow":        {0, 100, 1, false, 100, []mman.Amount{29, 69, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lease(fixed(300), fixed(700), fixed(1000))
			l.Cap, l.Paid, l.Accepted = tc.paid+tc.escrow, tc.paid, uint64(tc.accepted)
			if tc.same {
				l.Legs[0].Provider = l.Compute().Provider
			}
			gross, payments, burned, err := settle.Owed(l, 20_000)
			require.NoError(t, err)
			require.Equal(t, tc.gross, gross)
			var got []mman.Amount
			sum := burned
			for _, p := range payments {
				if got == nil {
					got = make([]mman.Amount, len(l.Legs))
				}
				got[p.Leg] += p.Amount
				sum += p.Amount
			}
			require.Equal(t, tc.want, got)
			require.Equal(t, gross, sum)
		})
	}
}

// TestOwedIsExact: for any lease, what leaves the escrow is what is paid and
// burned, it is never above the escrow, and with it the others have at least their
// prices per lease less the burn and a rounding.
func TestOwedIsExact(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 5))
	for range 20_000 {
		l := lease(fixed(mman.Amount(rng.Uint64N(2000))), fixed(mman.Amount(rng.Uint64N(2000))), fixed(mman.Amount(rng.Uint64N(2000))))
		descend(rng, &l)
		l.Accepted, l.Cap = 1, mman.Amount(rng.Uint64N(10_000))
		var had [3]mman.Amount
		for range rng.IntN(4) {
			delta := mman.Amount(rng.Uint64N(uint64(l.Escrow()) + 1))
			l.Paid += delta
			payments, _, err := settle.Split(l, l.Paid, delta, 20_000)
			require.NoError(t, err)
			for _, p := range payments {
				had[p.Leg] += p.Amount
			}
		}
		gross, payments, burned, err := settle.Owed(l, 20_000)
		require.NoError(t, err)
		require.LessOrEqual(t, gross, l.Escrow())
		sum := burned
		for _, p := range payments {
			require.Less(t, p.Leg, 2)
			sum += p.Amount
			had[p.Leg] += p.Amount
		}
		require.Equal(t, gross, sum)
		all, err := l.Fixed()
		require.NoError(t, err)
		if l.Cap < all {
			continue // no such request is matched
		}
		for i := range 2 {
			net, err := l.Legs[i].Price.PerLease.MulDivFloor(980_000, settle.PPM)
			require.NoError(t, err)
			require.GreaterOrEqual(t, had[i]+8, net, "leg %d", i)
		}
	}
}

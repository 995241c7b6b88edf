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

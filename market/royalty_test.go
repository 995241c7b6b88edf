package market_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/resources"
)

func parent(n byte, share uint64) resources.Parent {
	return resources.Parent{Resource: mman.SumCID(mman.CodecDagCBOR, []byte{n}), Share: share, Owner: mman.Address{n}}
}

// TestLineage: by hand, four generations.
func TestLineage(t *testing.T) {
	t.Parallel()
	above := map[mman.Address][]market.Royalty{}
	of := func(p resources.Parent) ([]market.Royalty, error) { return above[p.Owner], nil }
	post := func(n byte, parents ...resources.Parent) []market.Royalty {
		list, err := market.Lineage(parents, of)
		require.NoError(t, err)
		above[mman.Address{n}] = list
		return list
	}
	require.Empty(t, post(1))
	post(2, parent(1, 1000))
	three := post(3, parent(2, 5000))
	royalty := func(n byte, part, depth uint64) market.Royalty {
		return market.Royalty{To: mman.Address{n}, Resource: parent(n, 0).Resource, Part: part, Depth: depth}
	}
	const whole = market.RoyaltyWhole
	require.Equal(t, []market.Royalty{royalty(2, whole*45/100, 1), royalty(1, whole*5/100, 2)}, three, "a tenth of the half goes on")
	post(4, parent(3, 5000))
	post(5, parent(4, 5000))
	six := post(6, parent(5, 5000))
	depth := uint64(0)
	for _, r := range six {
		depth = max(depth, r.Depth)
	}
	require.EqualValues(t, market.MaxLineage, depth)
	require.Equal(t, mman.Address{2}, six[len(six)-1].To, "the fifth gets nothing: it stays with the fourth")
}

// TestLineageIsBounded: whatever the family, the parts are those of the shares
// exactly, nobody's is negative, and there are at most MaxRoyalties.
func TestLineageIsBounded(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 11))
	above := map[mman.Address][]market.Royalty{}
	for i := range 3000 {
		var parents []resources.Parent
		left := uint64(5000)
		for range rng.IntN(17) {
			share := rng.Uint64N(left + 1)
			left -= share
			parents = append(parents, parent(byte(rng.IntN(200)), share))
		}
		list, err := market.Lineage(parents, func(p resources.Parent) ([]market.Royalty, error) { return above[p.Owner], nil })
		require.NoError(t, err)
		require.LessOrEqual(t, len(list), market.MaxRoyalties)
		var sum uint64
		for _, r := range list {
			require.LessOrEqual(t, r.Depth, uint64(market.MaxLineage))
			require.LessOrEqual(t, r.Part, uint64(market.RoyaltyWhole)/2)
			sum += r.Part
		}
		require.Equal(t, (5000-left)*(market.RoyaltyWhole/resources.BasisPoints), sum, "what goes to grandparents is taken off their child's")
		above[mman.Address{byte(i)}] = list
	}
}

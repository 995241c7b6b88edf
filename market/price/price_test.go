package price_test

import (
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/resources"
)

// TestOfAgainstOracle compares with the sum over a common denominator, which is
// another way to the same number.
func TestOfAgainstOracle(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	units := []resources.Unit{resources.UnitWallMs, resources.UnitInBytes, resources.UnitOutBytes, resources.UnitCalls}
	bits := func(n int) uint64 { return rng.Uint64N(1 << (1 + rng.IntN(n))) }
	overflows := 0
	for range 20_000 {
		var p price.Price
		u := resources.Usage{WallMs: bits(40), InBytes: bits(40), OutBytes: bits(40), CallCount: bits(20)}
		for _, unit := range units[:1+rng.IntN(len(units))] {
			p.Units = append(p.Units, price.UnitPrice{Unit: unit, Per: 1 + bits(40), UMan: mman.Amount(bits(38))})
		}
		require.NoError(t, p.Validate(resources.KindCompute, resources.FacetWasm))
		common := big.NewInt(1)
		for _, x := range p.Units {
			common.Mul(common, new(big.Int).SetUint64(x.Per))
		}
		sum := new(big.Int)
		for _, x := range p.Units {
			n, err := u.Of(x.Unit)
			require.NoError(t, err)
			term := new(big.Int).Div(common, new(big.Int).SetUint64(x.Per))
			term.Mul(term, new(big.Int).SetUint64(n)).Mul(term, new(big.Int).SetUint64(uint64(x.UMan)))
			sum.Add(sum, term)
		}
		sum.Add(sum, common).Sub(sum, big.NewInt(1)).Div(sum, common)
		got, err := p.Of(u)
		if sum.Cmp(new(big.Int).SetUint64(uint64(mman.MaxSupply))) > 0 {
			overflows++
			require.ErrorIs(t, err, mman.ErrOverflow)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, sum.Uint64(), uint64(got), "%+v of %+v", p, u)
	}
	require.Positive(t, overflows)
}

// TestRoundedOnce: a usage cut in pieces never costs less than the whole, and
// the whole is rounded up by less than one uman.
func TestRoundedOnce(t *testing.T) {
	t.Parallel()
	p := price.Price{Units: []price.UnitPrice{{Unit: resources.UnitWallMs, Per: 3, UMan: 1}, {Unit: resources.UnitCalls, Per: 3, UMan: 1}}}
	got, err := p.Of(resources.Usage{WallMs: 1, CallCount: 1})
	require.NoError(t, err)
	require.Equal(t, mman.Amount(1), got, "two thirds, rounded up once")
	got, err = p.Of(resources.Usage{WallMs: 2, CallCount: 2})
	require.NoError(t, err)
	require.Equal(t, mman.Amount(2), got)
	got, err = p.Of(resources.Usage{})
	require.NoError(t, err)
	require.Zero(t, got)
}

func TestValidate(t *testing.T) {
	t.Parallel()
	unit := func(u resources.Unit, per uint64, uman mman.Amount) price.Price {
		return price.Price{Units: []price.UnitPrice{{Unit: u, Per: per, UMan: uman}}}
	}
	for _, tc := range []struct {
		name  string
		kind  resources.Kind
		facet resources.Facet
		price price.Price
		want  error
	}{
		{"free", resources.KindCompute, resources.FacetWasm, price.Price{}, nil},
		{"compute by time", resources.KindCompute, resources.FacetWasm, unit(resources.UnitWallMs, 1000, 5), nil},
		{"compute per lease", resources.KindCompute, resources.FacetWasm, price.Price{PerLease: 5}, nil},
		{"data by share", resources.KindDataset, resources.FacetFile, price.Price{PerLease: 5, Share: 10_000}, nil},
		{"compute by share", resources.KindCompute, resources.FacetWasm, price.Price{Share: 1}, mman.ErrInvalid},
		{"share above all", resources.KindDataset, resources.FacetFile, price.Price{Share: 10_001}, mman.ErrInvalid},
		{"data by time", resources.KindDataset, resources.FacetFile, unit(resources.UnitWallMs, 1, 1), mman.ErrInvalid},
		{"what nobody meters", resources.KindCompute, resources.FacetWasm, unit(resources.UnitTokens, 1, 1), mman.ErrUnsupported},
		{"no such unit", resources.KindCompute, resources.FacetWasm, unit("smiles", 1, 1), mman.ErrUnsupported},
		{"per nothing", resources.KindCompute, resources.FacetWasm, unit(resources.UnitWallMs, 0, 1), mman.ErrInvalid},
		{"per too much", resources.KindCompute, resources.FacetWasm, unit(resources.UnitWallMs, 1<<40+1, 1), mman.ErrInvalid},
		{"too dear", resources.KindCompute, resources.FacetWasm, unit(resources.UnitWallMs, 1, 1<<40+1), mman.ErrInvalid},
		{"more than there is", resources.KindCompute, resources.FacetWasm, price.Price{PerLease: mman.MaxSupply + 1}, mman.ErrInvalid},
		{"twice", resources.KindCompute, resources.FacetWasm, price.Price{Units: []price.UnitPrice{
			{resources.UnitWallMs, 1, 1},
			{resources.UnitWallMs, 2, 1},
		}}, mman.ErrInvalid},
		{"too many", resources.KindCompute, resources.FacetWasm, price.Price{Units: make([]price.UnitPrice, 10)}, mman.ErrTooLarge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := tc.price.Validate(tc.kind, tc.facet)
			if tc.want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, tc.want)
		})
	}
}

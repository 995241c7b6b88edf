package mman_test

import (
	"encoding/json"
	"math"
	"math/big"
	"strings"
	"testing"
	"testing/quick"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
)

func TestParseAmount(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text string
		want mman.Amount
	}{
		{"0MAN", 0},
		{"0uman", 0},
		{"5MAN", 5_000_000},
		{"0.25MAN", 250_000},
		{"250000uman", 250_000},
		{"0.000001MAN", 1},
		{"1.000000MAN", 1_000_000},
		{"007MAN", 7_000_000},
		{"9007199254.740991MAN", mman.MaxSupply},
		{"9007199254740991uman", mman.MaxSupply},
		{"18446744073709.551615MAN", math.MaxUint64},
		{"9999999999999999999uman", 9999999999999999999},
	} {
		got, err := mman.ParseAmount(tc.text)
		require.NoError(t, err, tc.text)
		require.Equal(t, tc.want, got, tc.text)
	}
}

func TestParseAmountRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, text string
		code       *mman.Error
	}{
		{"empty", "", mman.ErrInvalid},
		{"no unit", "5", mman.ErrInvalid},
		{"unit alone", "MAN", mman.ErrInvalid},
		{"unit alone", "uman", mman.ErrInvalid},
		{"unit in lower case", "5man", mman.ErrInvalid},
		{"another unit", "5ATOM", mman.ErrInvalid},
		{"space", "5 MAN", mman.ErrInvalid},
		{"space before", " 5MAN", mman.ErrInvalid},
		{"line end", "5MAN\n", mman.ErrInvalid},
		{"negative", "-5MAN", mman.ErrInvalid},
		{"plus", "+5MAN", mman.ErrInvalid},
		{"negative fraction", "0.-5MAN", mman.ErrInvalid},
		{"point without fraction", "5.MAN", mman.ErrInvalid},
		{"fraction without whole", ".5MAN", mman.ErrInvalid},
		{"two points", "1.2.3MAN", mman.ErrInvalid},
		{"comma", "0,25MAN", mman.ErrInvalid},
		{"thousands", "1_000MAN", mman.ErrInvalid},
		{"exponent", "1e3MAN", mman.ErrInvalid},
		{"hex", "0x10uman", mman.ErrInvalid},
		{"seven decimals", "0.0000001MAN", mman.ErrInvalid},
		{"decimals of the smallest unit", "0.5uman", mman.ErrInvalid},
		{"other digits", "٥MAN", mman.ErrInvalid},
		{"too many digits", strings.Repeat("9", 20) + "uman", mman.ErrInvalid},
		{"a megabyte of digits", strings.Repeat("9", 1<<20) + "MAN", mman.ErrInvalid},
		{"product overflows", "18446744073710MAN", mman.ErrOverflow},
		{"sum overflows", "18446744073709.551616MAN", mman.ErrOverflow},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := mman.ParseAmount(tc.text)
			require.ErrorIs(t, err, tc.code)
			require.Zero(t, got)
			require.Less(t, len(err.Error()), 300)
		})
	}
}

func TestAmountString(t *testing.T) {
	t.Parallel()
	for want, a := range map[string]mman.Amount{
		"0MAN":                     0,
		"0.000001MAN":              1,
		"0.25MAN":                  250_000,
		"1MAN":                     mman.MAN,
		"1.5MAN":                   1_500_000,
		"10MAN":                    10 * mman.MAN,
		"9007199254.740991MAN":     mman.MaxSupply,
		"18446744073709.551615MAN": math.MaxUint64,
	} {
		require.Equal(t, want, a.String())
	}
}

func TestAmountRoundTrip(t *testing.T) {
	t.Parallel()
	require.NoError(t, quick.Check(func(n uint64) bool {
		a, err := mman.ParseAmount(mman.Amount(n).String())
		return err == nil && a == mman.Amount(n)
	}, nil))
}

// TestAmountJSON: in JSON an amount is a number of uman, exact up to MaxSupply
// also for readers that know only doubles.
func TestAmountJSON(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(mman.MaxSupply)
	require.NoError(t, err)
	require.Equal(t, "9007199254740991", string(b))
	var f float64
	require.NoError(t, json.Unmarshal(b, &f))
	require.Equal(t, mman.MaxSupply, mman.Amount(f))
}

// TestAmountArithmetic compares every operation with math/big.
func TestAmountArithmetic(t *testing.T) {
	t.Parallel()
	bigOf := func(n uint64) *big.Int { return new(big.Int).SetUint64(n) }
	// agree reports whether an operation gave want, or ErrOverflow when want
	// does not fit.
	agree := func(got mman.Amount, err error, want *big.Int) bool {
		if want == nil || !want.IsUint64() {
			return err != nil && mman.CodeOf(err) == mman.ErrOverflow.Code && got == 0
		}
		return err == nil && uint64(got) == want.Uint64()
	}
	check := func(a, b, c uint64) bool {
		x := mman.Amount(a)
		sum, errSum := x.Add(mman.Amount(b))
		diff, errDiff := x.Sub(mman.Amount(b))
		floor, errFloor := x.MulDivFloor(b, c)
		ceil, errCeil := x.MulDivCeil(b, c)
		var wantFloor, wantCeil *big.Int
		if c != 0 {
			rem := new(big.Int)
			wantFloor, rem = new(big.Int).DivMod(new(big.Int).Mul(bigOf(a), bigOf(b)), bigOf(c), rem)
			wantCeil = wantFloor
			if rem.Sign() > 0 {
				wantCeil = new(big.Int).Add(wantFloor, big.NewInt(1))
			}
		}
		return agree(sum, errSum, new(big.Int).Add(bigOf(a), bigOf(b))) &&
			agree(diff, errDiff, new(big.Int).Sub(bigOf(a), bigOf(b))) &&
			agree(floor, errFloor, wantFloor) &&
			agree(ceil, errCeil, wantCeil) &&
			x.Min(mman.Amount(b)) == mman.Amount(min(a, b))
	}
	require.NoError(t, quick.Check(check, &quick.Config{MaxCount: 5000}))

	edges := []uint64{0, 1, 2, 999_999, 1_000_000, 1<<32 - 1, 1 << 32, 1<<53 - 1, 1 << 63, math.MaxUint64 - 1, math.MaxUint64}
	for _, a := range edges {
		for _, b := range edges {
			for _, c := range edges {
				require.True(t, check(a, b, c), "a=%d b=%d c=%d", a, b, c)
			}
		}
	}
}

func FuzzParseAmount(f *testing.F) {
	for _, s := range []string{"5MAN", "0.25MAN", "250000uman", "18446744073709.551615MAN", ".MAN", "-1uman"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := mman.ParseAmount(s)
		if err != nil {
			require.Contains(t, []mman.Code{mman.ErrInvalid.Code, mman.ErrOverflow.Code}, mman.CodeOf(err))
			return
		}
		again, err := mman.ParseAmount(a.String())
		require.NoError(t, err)
		require.Equal(t, a, again)
	})
}

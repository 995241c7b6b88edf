package bank_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/bank"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/internal/sig"
)

// TestAccountRecord: the bank writes an account as dagcbor does and reads the same;
// what is not so it leaves to dagcbor.
func TestAccountRecord(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	number := func() uint64 {
		edges := []uint64{0, 23, 24, math.MaxUint8, math.MaxUint8 + 1, math.MaxUint16, math.MaxUint16 + 1, math.MaxUint32, math.MaxUint32 + 1, math.MaxUint64}
		if n := rng.IntN(2 * len(edges)); n < len(edges) {
			return edges[n]
		}
		return rng.Uint64() >> rng.IntN(64)
	}
	for i := range 2000 {
		a := bank.Account{Number: number(), Sequence: number(), Balance: mman.Amount(number())}
		scheme := []sig.KeyType{0, sig.Ed25519, sig.Secp256k1}[i%3]
		if scheme > 0 {
			seed := mman.Sum256([]byte{byte(i), byte(i >> 8)})
			key, err := sig.FromSeed(scheme, seed[:])
			require.NoError(t, err)
			a.Key = key.Public()
		}
		want, err := dagcbor.Marshal(a)
		require.NoError(t, err)
		got, err := a.Encode()
		require.NoError(t, err)
		require.Equal(t, want, got, "%+v", a)

		back, ok := bank.ReadAccount(got)
		require.Equal(t, scheme != sig.Secp256k1, ok)
		if ok {
			require.Equal(t, a, back)
		}
		// Whatever is read at all is what dagcbor reads.
		for range 8 {
			bad := bytes.Clone(got)
			switch at := rng.IntN(len(bad)); rng.IntN(3) {
			case 0:
				bad[at] ^= 1 << rng.IntN(8)
			case 1:
				bad = bad[:at]
			default:
				bad = append(bad, byte(at))
			}
			if back, ok = bank.ReadAccount(bad); ok {
				strict, err := dagcbor.Unmarshal[bank.Account](bad, len(bad))
				require.NoError(t, err, "%x", bad)
				require.Equal(t, strict, back)
			}
		}
	}
}

package state_test

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/pokt-network/smt"
	"github.com/pokt-network/smt/kvstore/simplemap"
	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/abci/state"
)

// TestRootAgainstOracle writes random blocks into this store and into another
// implementation of the same tree and compares their roots after each.
func TestRootAgainstOracle(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 9))
	for _, keys := range []int{1, 3, 60, 3000} {
		oracle := smt.NewSparseMerkleTrie(simplemap.NewSimpleMap(), sha256.New())
		s, err := state.Open(state.NewMemory())
		require.NoError(t, err)
		live := map[string]bool{}
		for height := uint64(1); height <= 80; height++ {
			block, m := s.Begin(), model{}
			mutate(t, rng, block, m, rng.IntN(20))
			writes := map[string]string{}
			for range rng.IntN(40) {
				key, value := fmt.Appendf(nil, "k%d", rng.IntN(keys)), strconv.Itoa(1+rng.IntN(5))
				if rng.IntN(3) == 0 {
					require.NoError(t, block.Delete("oracle", key))
					value = ""
				} else {
					require.NoError(t, block.Set("oracle", key, []byte(value)))
				}
				writes["oracle/"+string(key)] = value
			}
			maps.Copy(writes, changed(t, block, m))
			for _, flat := range slices.Sorted(maps.Keys(writes)) {
				value := writes[flat]
				switch {
				case value != "":
					require.NoError(t, oracle.Update([]byte(flat), []byte(value)))
				case live[flat]:
					require.NoError(t, oracle.Delete([]byte(flat)))
				}
				live[flat] = value != ""
			}
			staged, err := s.Stage(block)
			require.NoError(t, err)
			require.NoError(t, s.Commit(staged, height, nil))
			want := oracle.Root()
			root := s.Root()
			require.Equal(t, []byte(want), root[:], "height %d", height)
		}
	}
}

// changed returns what mutate may have written, "" for what is not there.
func changed(t *testing.T, o *state.Overlay, m model) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, store := range []string{"bank", "market"} {
		for c := range 3 {
			for i := range 150 {
				key := fmt.Sprintf("%c%03d", 'a'+rune(c), i)
				value, ok, err := o.Get(store, []byte(key))
				require.NoError(t, err)
				if _, set := m[store+"/"+key]; set || !ok {
					out[store+"/"+key] = string(value)
				}
			}
		}
	}
	return out
}

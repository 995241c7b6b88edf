package store_test

import (
	"bufio"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/node/store"
)

// killDir tells the test binary, started as a child, where to write blocks.
const killDir = "MMAN_TEST_KILL_DIR"

// blockOf returns what block height writes: a few pairs, and in every fifth
// block more than one transaction of the database holds.
func blockOf(height uint64) map[string]string {
	rng := rand.New(rand.NewPCG(height, 5))
	n, size := 20, 100
	if height%5 == 0 {
		n, size = 400, 1000
	}
	block := map[string]string{}
	for range n {
		block[fmt.Sprintf("k%03d", rng.IntN(500))] = fmt.Sprintf("%0*d", size, height)
	}
	for range 5 {
		block[fmt.Sprintf("k%03d", rng.IntN(500))] = ""
	}
	return block
}

func stageBlock(t *testing.T, ledger *state.Store, height uint64) *state.Staged {
	t.Helper()
	o := ledger.Begin()
	for key, value := range blockOf(height) {
		if value == "" {
			require.NoError(t, o.Delete("bank", []byte(key)))
		} else {
			require.NoError(t, o.Set("bank", []byte(key), []byte(value)))
		}
	}
	staged, err := ledger.Stage(o)
	require.NoError(t, err)
	return staged
}

// TestKilledWriter kills a process that commits blocks, at random instants, and
// requires each time that what it left is a whole height.
func TestKilledWriter(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv(killDir); dir != "" {
		s, err := store.Open(config(dir))
		require.NoError(t, err)
		ledger, err := state.Open(s.State())
		require.NoError(t, err)
		for height := ledger.Height() + 1; ; height++ {
			fmt.Println("writes", height)
			require.NoError(t, ledger.Commit(stageBlock(t, ledger, height), height, state.Uint64Key(height)))
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 6))
	cfg := config(t.TempDir())
	model, err := state.Open(state.NewMemory())
	require.NoError(t, err)
	roots := []mman.Hash{model.Root()}
	for range 6 {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledWriter$")
		child.Env = append(os.Environ(), killDir+"="+cfg.Dir)
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		lines := bufio.NewScanner(out)
		for n := 1 + rng.IntN(40); n > 0 && lines.Scan(); n-- {
			continue
		}
		require.NoError(t, lines.Err())
		for range rng.IntN(1 << 20) { // an instant within the write of the block
			continue
		}
		require.NoError(t, child.Process.Kill())
		require.Error(t, child.Wait(), "the child ended by itself")

		s, err := store.Open(cfg)
		require.NoError(t, err)
		newest, err := s.State().Marker(math.MaxUint64)
		require.NoError(t, err)
		ledger, err := state.Open(s.State())
		require.NoError(t, err)
		require.Equal(t, newest.Height, ledger.Height(), "the newest height is whole")
		for height := uint64(len(roots)); height <= ledger.Height(); height++ {
			require.NoError(t, model.Commit(stageBlock(t, model, height), height, nil))
			roots = append(roots, model.Root())
		}
		require.Equal(t, roots[ledger.Height()], ledger.Root(), "height %d", ledger.Height())
		if ledger.Height() > 0 {
			require.Equal(t, state.Uint64Key(ledger.Height()), ledger.Latest().Data())
		}
		require.NoError(t, s.Close())
	}
	require.Greater(t, len(roots), 1, "nothing was ever written")
}

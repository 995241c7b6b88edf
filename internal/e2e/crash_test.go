package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cometbft/cometbft/config"
	cometstore "github.com/cometbft/cometbft/store"
	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/internal/localnet"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/node/consensus"
	"github.com/limboid/massive-man/node/store"
	"github.com/limboid/massive-man/sdk"
)

// fragile is a chain of one validator, which nobody can help after a crash, with
// a node that follows and remembers what was decided, with leases that hold money,
// and with load.
type fragile struct {
	*network

	only, witness *localnet.Node
	leases        int
}

func newFragile(t *testing.T) *fragile {
	t.Helper()
	n := raise(t, localnet.Spec{Validators: 1, Providers: []string{"witness"}, Consumers: []string{"me"}, Params: shortLeases(10_000, 10_000)}, 1000)
	f := &fragile{network: n, only: n.Validators[0], witness: n.Providers[0], leases: 3}
	n.publish(t, f.witness, "compute", computeListing, nil)
	client := n.consumer(t)
	wanted := sdk.DefaultWanted()
	wanted.Cap, wanted.Blocks, wanted.Fresh = 200_000, 10_000, true
	wanted.Algorithm = sdk.Content{File: write(t, t.TempDir(), "wordcount.wasm", examples.WordcountModule())}
	for range f.leases {
		_, err := client.Lease(t.Context(), wanted)
		require.NoError(t, err)
	}
	n.Validators = append(n.Validators, f.witness) // the audit asks both
	t.Cleanup(func() { n.Validators = n.Validators[:1] })
	both := n.rpcs()
	n.load(t, func() []string { return both })
	return f
}

// recovered starts the validator again and checks that it goes on from what the
// witness saw: same app hash, no money made or lost, every lease as it was.
func (f *fragile) recovered(t *testing.T) {
	t.Helper()
	f.start(t, f.only)
	f.await(t, f.only, 1)
	f.checked(t)
}

func (f *fragile) checked(t *testing.T) {
	t.Helper()
	st, err := f.rpc(t, f.witness).Status(t.Context())
	require.NoError(t, err)
	l := f.audit(t, st.Height)
	require.Len(t, l.leases, f.leases)
	for id, one := range l.leases {
		require.Equal(t, market.LeaseOpen, one.State, id.String())
		require.Equal(t, one.Cap, one.Escrow(), "lease %s", id)
	}
}

// notAhead checks that the ledger of the killed validator has no block that its
// store of blocks lacks: what it lacks itself is executed again, but nobody could
// take back a block that was not decided.
func (f *fragile) notAhead(t *testing.T) {
	t.Helper()
	stores, err := store.Open(store.DefaultConfig(filepath.Join(f.only.Home, "store"), slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	defer func() { require.NoError(t, stores.Close()) }()
	ledger, err := stores.State().Marker(math.MaxUint64)
	require.NoError(t, err)
	db, err := consensus.DBProvider(stores.Data())(&config.DBContext{ID: "blockstore"})
	require.NoError(t, err)
	blocks := cometstore.LoadBlockStoreState(db).Height
	require.LessOrEqual(t, int64(ledger.Height), blocks, "heights of the ledger and of the blocks")
}

// pointsEach is how many failure points a block of a lone validator passes:
// CometBFT's own, after each of its two votes, five while it finalizes, and four
// while it applies the block.
const pointsEach = 11

// TestEveryCrashPointIsKnown: the failure points that stand in CometBFT's source are
// those that pointsEach counts, so that another version's are noticed.
func TestEveryCrashPointIsKnown(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/cometbft/cometbft").Output()
	require.NoError(t, err)
	source := os.DirFS(strings.TrimSpace(string(dir)))
	points := map[string]int{}
	require.NoError(t, fs.WalkDir(source, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := fs.ReadFile(source, path)
		if n := bytes.Count(text, []byte("\tfail.Fail()")); n > 0 {
			points[path] = n
		}
		return err
	}))
	const eachVote, votes, finalizing, applying = 1, 2, 5, 4
	require.Equal(t, map[string]int{"consensus/state.go": eachVote + finalizing, "state/execution.go": applying}, points)
	require.Equal(t, pointsEach, votes*eachVote+finalizing+applying)
}

// crash starts the validator and waits until it has ended at the failure point of
// that number, and nowhere else.
func (f *fragile) crash(t *testing.T, index int) {
	t.Helper()
	log := filepath.Join(f.only.Home, "node.log")
	before, err := os.ReadFile(log)
	require.NoError(t, err)
	p, err := localnet.Runner{Program: program, Env: []string{"FAIL_TEST_INDEX=" + strconv.Itoa(index)}}.Start(f.only)
	require.NoError(t, err)
	select {
	case <-p.Done():
	case <-time.After(within):
		require.NoError(t, p.Kill())
		require.FailNow(t, "it did not come to the failure point", "%d", index)
	}
	after, err := os.ReadFile(log)
	require.NoError(t, err)
	said := string(after[len(before):])
	require.Contains(t, said, fmt.Sprintf("*** fail-test %d ***", index), "it ended elsewhere")
}

// TestCrashPoints ends a validator at each of CometBFT's failure points, in a
// block of its life and again where it takes up that block.
func TestCrashPoints(t *testing.T) {
	f := newFragile(t)
	first, last := pointsEach, 2*pointsEach
	if os.Getenv("MMAN_CRASHES") != "" {
		first, last = 0, 4*pointsEach
	}
	require.NoError(t, f.running[f.only].Stop())
	for point := first; point < last; point++ {
		for _, index := range []int{point, point % 4} { // the second one while it replays, or soon after
			f.crash(t, index)
		}
		f.notAhead(t)
		f.recovered(t)
		t.Logf("point %d: ok", point)
		require.NoError(t, f.running[f.only].Stop())
	}
	f.recovered(t)
	t.Logf("G2: %d failure points, and another crash while it recovered from each", last-first)
}

// TestCrashes kills a validator at random instants, also while it starts: 5 times,
// or MMAN_CRASHES.
func TestCrashes(t *testing.T) {
	crashes := abcitest.Setting(t, "MMAN_CRASHES", 5)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 5))
	f := newFragile(t)
	looked := 0
	for i := range crashes {
		instant := time.Duration(rng.IntN(1_500_000)) * time.Microsecond
		// An instant of its life: nothing happens at it that could be waited for.
		<-time.After(instant)
		f.kill(t, f.only)
		if i%2 == 0 { // not always: opening the stores repairs them
			f.notAhead(t)
			looked++
		}
		if i%5 == 4 || i == crashes-1 {
			f.recovered(t)
			continue
		}
		f.start(t, f.only)
	}
	t.Logf("G2: %d kills at random instants, the ledger never ahead of the blocks in %d looks", crashes, looked)
}

// TestPowerCut takes from a validator that was killed what it had written since the
// last sync: to its ledger, to its blocks, to both.
func TestPowerCut(t *testing.T) {
	f := newFragile(t)
	rpc := f.rpc(t, f.witness)
	for name, lost := range map[string]struct{ state, data bool }{
		"of the ledger": {state: true}, "of the blocks": {data: true}, "of both": {state: true, data: true},
	} {
		require.NoError(t, f.running[f.only].Stop())
		delete(f.running, f.only)
		// Since it was closed in order, all is synced; the ledger syncs nothing of
		// its own while it runs.
		ledger, saved := filepath.Join(f.only.Home, "store", "state"), filepath.Join(t.TempDir(), "state")
		copyTree(t, ledger, saved)
		before, err := rpc.Status(t.Context())
		require.NoError(t, err)
		v := corrupt(t, f.only, deedJournal)
		f.await(t, f.witness, before.Height+10)
		// Once more, at an instant at which something is unsynced.
		eventually(t, within, "an unsynced write", func(context.Context) (bool, error) {
			info, err := os.Stat(filepath.Join(f.only.Home, journalFile))
			return err == nil && info.Size() > 0, err
		})
		require.NoError(t, v.cmd.Process.Kill())
		_ = v.cmd.Wait() // it was killed

		writes := 0
		if lost.state {
			require.NoError(t, os.RemoveAll(ledger))
			copyTree(t, saved, ledger)
		}
		if lost.data {
			stores, err := store.Open(store.DefaultConfig(filepath.Join(f.only.Home, "store"), slog.New(slog.DiscardHandler)))
			require.NoError(t, err)
			writes, err = undo(f.only.Home, consensus.DBProvider(stores.Data()))
			require.NoError(t, err)
			require.NoError(t, stores.Close())
		} else {
			require.NoError(t, os.Remove(filepath.Join(f.only.Home, journalFile)))
		}
		f.notAhead(t)
		f.recovered(t)
		t.Logf("G2: unsynced writes %s were lost, %d of CometBFT's: ok", name, writes)
	}
}

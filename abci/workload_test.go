package abci_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market/rfp"
)

// perChain is how many operations one chain takes: with more of them each
// block's check of the whole state would take longer and longer.
const perChain = 5000

// longestStorage is more pairs of epochs than a storage lease has that is renewed as
// often as it can be.
const longestStorage = 50

// TestWorkload runs random operations, of every kind of message some that succeed, with
// every invariant checked after every block, and replays the blocks into other
// applications. MMAN_OPERATIONS says how many, 5000 on each chain; the first chain and
// every tenth are replayed. What the operations lead to is asked of all chains together:
// one alone may miss some of it.
func TestWorkload(t *testing.T) {
	t.Parallel()
	operations := abcitest.Setting(t, "MMAN_OPERATIONS", 2000)
	seed := rand.Uint64()
	if text := os.Getenv("MMAN_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	chains := (operations + perChain - 1) / perChain
	each := operations / chains
	var all outcomes
	t.Cleanup(func() { all.check(t, chains*each, seed) })
	for i := range chains {
		t.Run(fmt.Sprint("chain ", i), func(t *testing.T) {
			t.Parallel()
			workloadComesToRest(t, seed+uint64(i), each, i%10 == 0, &all)
		})
	}
}

// outcomes are what came of the operations of all chains.
type outcomes struct {
	mu                          sync.Mutex
	blocks                      uint64
	operations, matched, chains int
	paid                        mman.Amount
	bids                        map[rfp.BidState]int
	kinds                       map[string]int
}

func (o *outcomes) add(w *abcitest.Workload, matched int, paid mman.Amount, bids map[rfp.BidState]int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bids == nil {
		o.bids, o.kinds = map[rfp.BidState]int{}, map[string]int{}
	}
	o.chains, o.blocks, o.operations, o.matched, o.paid = o.chains+1, o.blocks+w.Height(), o.operations+w.Operations, o.matched+matched, o.paid+paid
	for state, n := range bids {
		o.bids[state] += n
	}
	for kind, n := range w.Kinds {
		o.kinds[kind] += n
	}
}

// check asks that the workload did what it is for, once all chains came to rest.
func (o *outcomes) check(t *testing.T, operations int, seed uint64) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	t.Logf("G6: %d operations in %d blocks, every invariant held after each; first seed %d", o.operations, o.blocks, seed)
	if t.Failed() || o.operations < operations {
		return // a chain says why, or not all were asked for
	}
	t.Log(o.bids, o.kinds)
	assert.Greater(t, o.matched, 20*o.chains)
	assert.Positive(t, o.paid)
	if operations < 4*perChain {
		return // too few to meet everything whatever the seed
	}
	for _, state := range []rfp.BidState{rfp.Served, rfp.Lost, rfp.Withheld} {
		assert.Positive(t, o.bids[state], state)
	}
	for _, url := range tx.TypeURLs() {
		assert.Positive(t, o.kinds[url], url)
	}
}

func workloadComesToRest(t *testing.T, seed uint64, operations int, replay bool, all *outcomes) {
	t.Helper()
	t.Logf("seed %d", seed)
	w := abcitest.RunWorkload(t, seed, operations)
	matched, paid := 0, mman.Amount(0)
	for _, r := range w.Requests {
		l, ok, err := w.App.View().Lease(r.ID.Lease())
		require.NoError(t, err)
		if ok {
			matched++
			paid += l.Paid
		}
	}
	t.Logf("%d blocks, %d requests, %d matched, %s paid", w.Height(), len(w.Requests), matched, paid)
	bids := map[rfp.BidState]int{}
	for _, r := range w.RFPs {
		one, _, err := w.App.View().RFP(r.ID)
		require.NoError(t, err)
		for _, e := range one.Bids {
			bids[e.State]++
		}
	}
	t.Logf("%d RFPs, bids: %v", len(w.RFPs), bids)
	if replay {
		complete(t, w)
	}
	if replay {
		rng := rand.New(rand.NewPCG(seed, 8))
		w.Replay(func(uint64) (restart, drop bool) { return rng.IntN(5) == 0, rng.IntN(3) == 0 })
	}
	// When nobody does anything any more, all that is due comes to an end.
	for _, p := range w.Providers {
		w.Absent(abcitest.Votes(t, p.Actor).Public().Bytes(), false)
	}
	w.Pass(80)
	var root []byte
	for range longestStorage { // replicas that are live are looked at in each epoch
		root = w.Root()
		if w.Pass(2 * w.Doc.Params.StorageEpochBlocks); bytes.Equal(root, w.Root()) {
			break
		}
	}
	require.Equal(t, root, w.Root())
	var s struct {
		Escrow mman.Amount `json:"escrow"`
	}
	code, log := w.Query("/mman/supply", &s)
	require.Zero(t, code, log)
	require.Zero(t, s.Escrow)
	all.add(w, matched, paid, bids)
}

// complete goes on until of every kind of message one has succeeded: what is rare, or
// takes many blocks, may not have come about yet.
func complete(t *testing.T, w *abcitest.Workload) {
	t.Helper()
	w.Honest = true
	for range 8 {
		if len(w.Missing()) > 0 {
			w.Run(500)
		}
	}
	require.Empty(t, w.Missing(), "every kind of message succeeds")
}

// rare are the kinds of message of which none may succeed in the short form of
// TestDeterminism; its long form lacks none.
func rare() []string {
	return []string{
		tx.TypeProveStorage, tx.TypePlaceStorage, tx.TypeRenewStorage, tx.TypeEndStorage, tx.TypeRedeemRetrieval,
		tx.TypeRedelegate, tx.TypeEditValidator, tx.TypeUnjail,
	}
}

// TestDeterminism runs the same blocks through applications with different
// numbers of processors, which are restarted at random heights, lose their caches
// at random and join by archives on the way. MMAN_OPERATIONS says how many
// operations.
//
//nolint:paralleltest // it changes GOMAXPROCS
func TestDeterminism(t *testing.T) {
	const short = 500
	operations := abcitest.Setting(t, "MMAN_OPERATIONS", short)
	work := func() *abcitest.Workload {
		w := abcitest.RunWorkload(t, 42, operations)
		if operations > short {
			complete(t, w)
		}
		return w
	}
	w := work()
	require.Subset(t, rare(), w.Missing())
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	rng := rand.New(rand.NewPCG(rand.Uint64(), 8))
	for _, procs := range []int{1, 2, 7} {
		runtime.GOMAXPROCS(procs)
		restarts, drops := 0, 0
		w.Replay(func(uint64) (restart, drop bool) {
			restart, drop = rng.IntN(procs+2) == 0, rng.IntN(2) == 0
			if restart {
				restarts++
			}
			if drop {
				drops++
			}
			return restart, drop
		})
		t.Logf("G1: %d operations in %d blocks on %d processors, %d restarts, caches dropped %d times, %d joined by archive: no root, result or event differs",
			operations, w.Height(), procs, restarts, drops, w.Height()/w.Doc.Params.EpochBlocks)
	}
	require.Equal(t, w.Root(), work().Root())
}

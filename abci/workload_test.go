package abci_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market/rfp"
)

// perChain is how many operations one chain takes: with more of them each
// block's check of the whole state would take longer and longer.
const perChain = 5000

// TestWorkload runs random operations with every invariant checked after every
// block, and replays the blocks into other applications. MMAN_OPERATIONS says how
// many, 5000 on each chain; the first chain and every tenth are replayed.
func TestWorkload(t *testing.T) {
	t.Parallel()
	operations := abcitest.Setting(t, "MMAN_OPERATIONS", 2000)
	seed := rand.Uint64()
	if text := os.Getenv("MMAN_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	var blocks, done atomic.Uint64
	t.Cleanup(func() {
		t.Logf("G6: %d operations in %d blocks, every invariant held after each; first seed %d", done.Load(), blocks.Load(), seed)
	})
	chains := (operations + perChain - 1) / perChain
	for i := range chains {
		t.Run(fmt.Sprint("chain ", i), func(t *testing.T) {
			t.Parallel()
			w := workloadComesToRest(t, seed+uint64(i), operations/chains, i%10 == 0)
			blocks.Add(w.Height())
			done.Add(uint64(w.Operations))
		})
	}
}

func workloadComesToRest(t *testing.T, seed uint64, operations int, replay bool) *abcitest.Workload {
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
	for _, state := range []rfp.BidState{rfp.Served, rfp.Lost, rfp.Withheld} {
		require.Positive(t, bids[state], state)
	}
	require.Greater(t, matched, 20, "the workload does what it is for")
	require.Positive(t, paid)
	t.Log(w.Kinds)
	for _, m := range []tx.Msg{
		tx.MsgBindNode{},
		tx.MsgOffer{},
		tx.MsgWithdrawOffer{},
		tx.MsgRequest{},
		tx.MsgCancelRequest{},
		tx.MsgSettle{},
		tx.MsgCloseLease{},
		tx.MsgAcceptLeases{},
		tx.MsgGrant{},
		tx.MsgRevoke{},
		tx.MsgOpenRFP{},
		tx.MsgCommitBids{},
		tx.MsgPostBid{},
		tx.MsgRevealBid{},
	} {
		require.Positive(t, w.Kinds[m.TypeURL()], "%s: the workload does what it is for", m.TypeURL())
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
	root := w.Root()
	w.Pass(2)
	require.Equal(t, root, w.Root())
	var s struct {
		Escrow mman.Amount `json:"escrow"`
	}
	code, log := w.Query("/mman/supply", &s)
	require.Zero(t, code, log)
	require.Zero(t, s.Escrow)
	return w
}

// TestDeterminism runs the same blocks through applications with different
// numbers of processors, which are restarted at random heights, lose their caches
// at random and join by archives on the way. MMAN_OPERATIONS says how many
// operations.
//
//nolint:paralleltest // it changes GOMAXPROCS
func TestDeterminism(t *testing.T) {
	operations := abcitest.Setting(t, "MMAN_OPERATIONS", 300)
	w := abcitest.RunWorkload(t, 42, operations)
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
	again := abcitest.RunWorkload(t, 42, operations)
	require.Equal(t, w.Root(), again.Root())
}

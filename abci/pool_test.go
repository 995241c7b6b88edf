package abci_test

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/tx"
)

// TestHonestProposalsAreAccepted proposes from random pools: shuffled, doubled,
// bent, cut, too dear, and with accounts that empty themselves on the way. What
// one node prepares every other accepts, and it can be decided.
func TestHonestProposalsAreAccepted(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var actors []abcitest.Actor
	for i := range 5 {
		actors = append(actors, abcitest.NewActor(t, strconv.Itoa(i)))
	}
	stranger := abcitest.NewActor(t, "stranger")
	c := abcitest.New(t, abcitest.Genesis(t, mman.MAN, actors...))
	c.Pass(1)
	refused := 0
	for range 150 {
		var pool [][]byte
		for range rng.IntN(20) {
			from, to := actors[rng.IntN(len(actors))], actors[rng.IntN(len(actors))]
			if rng.IntN(6) == 0 {
				to = stranger
			}
			amount := mman.Amount(1 + rng.Uint64N(50))
			if rng.IntN(5) == 0 {
				amount = max(1, c.Balance(from)-mman.Amount(rng.Uint64N(6000))) // nearly all
			}
			raw := c.Sign(from, send(from, to, amount))
			switch rng.IntN(12) {
			case 0:
				raw = bytes.Clone(raw)
				raw[rng.IntN(len(raw))] ^= 1 << rng.IntN(8)
			case 1:
				raw = raw[:rng.IntN(len(raw))]
			case 2:
				pool = append(pool, raw)
			case 3:
				raw = abcitest.Unsent(c).Sign(stranger, send(stranger, from, 1))
			case 4:
				raw = c.Sign(from, send(from, to, 1), func(d *tx.Draft) { d.GasLimit, d.Fee = 15_000_000, 1_500_000 })
			default:
			}
			pool = append(pool, raw)
		}
		if rng.IntN(3) == 0 {
			rng.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
		}
		next := c.Request()
		prepared, err := c.App.PrepareProposal(t.Context(), &types.RequestPrepareProposal{MaxTxBytes: rng.Int64N(6000), Txs: pool, Height: next.Height, Time: next.Time})
		require.NoError(t, err)
		refused += len(pool) - len(prepared.Txs)
		c.App.DropCaches() // another node has not seen them in its mempool
		req := c.Request(prepared.Txs...)
		answer, err := c.App.ProcessProposal(t.Context(), abcitest.Proposal(req))
		require.NoError(t, err)
		require.True(t, answer.IsAccepted())
		c.Force(prepared.Txs...)
	}
	require.Positive(t, refused)
	c.Replay(nil)
}

// TestConcurrentReaders asks and checks from other goroutines while blocks are
// made; each answer is of one whole height.
func TestConcurrentReaders(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Pass(1)
	fresh := f.Sign(f.cleo, send(f.cleo, f.dora.Actor, 5))
	var done atomic.Bool
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for !done.Load() {
				view := f.App.View()
				before, after := view.Height(), f.App.View().Height()
				if before > after {
					t.Errorf("the height went back from %d to %d", before, after)
				}
				for _, path := range []string{"/mman/supply", "/mman/offers", "/mman/params", "/mman/account/" + f.cleo.Address.String()} {
					answer, err := f.App.Query(t.Context(), &types.RequestQuery{Path: path})
					if err != nil || answer.Code != 0 {
						t.Errorf("%s: %v %v", path, err, answer)
					}
				}
				if _, err := f.App.CheckTx(t.Context(), &types.RequestCheckTx{Tx: fresh}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 30 {
		f.Force(f.Sign(f.dora.Actor, send(f.dora.Actor, f.paul.Actor, 3)))
	}
	done.Store(true)
	wg.Wait()
}

package abci_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
)

// TestHonestProposalsAreAccepted proposes from random pools: shuffled, doubled,
// bent, cut, too dear, with accounts that empty themselves on the way, and with
// requests, which need the beacon. What one node prepares every other accepts, and
// it can be decided. MMAN_POOLS says how many pools.
func TestHonestProposalsAreAccepted(t *testing.T) {
	t.Parallel()
	pools := abcitest.Setting(t, "MMAN_POOLS", 400)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var actors []abcitest.Actor
	for i := range 5 {
		actors = append(actors, abcitest.NewActor(t, strconv.Itoa(i)))
	}
	stranger := abcitest.NewActor(t, "stranger")
	c := abcitest.New(t, abcitest.Genesis(t, 10*mman.MAN, actors...))
	c.Pass(1)
	refused, taken, drawn := 0, 0, 0
	for made := 0; made < pools; {
		base := randomPool(t, rng, c, actors, stranger)
		var last [][]byte
		for range min(1+rng.IntN(40), pools-made) {
			made++
			pool := bend(rng, base)
			next := c.Request()
			room := rng.Int64N(8000)
			prepared, err := c.App.PrepareProposal(t.Context(), &types.RequestPrepareProposal{
				MaxTxBytes: room, Txs: pool, Height: next.Height, Time: next.Time, ProposerAddress: next.ProposerAddress,
			})
			require.NoError(t, err)
			last = prepared.Txs
			refused, taken = refused+len(pool)-len(last), taken+len(last)
			size := int64(0)
			for _, raw := range last {
				size += int64(1 + protowire.SizeBytes(len(raw)))
			}
			require.LessOrEqual(t, size, room)
			if len(last) > 0 && tx.IsBeacon(last[0]) {
				drawn++
			}
			c.App.DropCaches() // another node has not seen them in its mempool
			answer, err := c.App.ProcessProposal(t.Context(), abcitest.Proposal(c.Request(last...)))
			require.NoError(t, err)
			require.True(t, answer.IsAccepted())
		}
		c.Force(last...)
	}
	t.Logf("G3: %d pools, %d transactions proposed, %d left out, %d beacons, height %d: every proposal was accepted", pools, taken, refused, drawn, c.Height())
	require.Positive(t, refused)
	require.Positive(t, drawn)
	if pools < 1000 {
		c.Replay(nil)
	}
}

// randomPool signs what the accounts may want next.
func randomPool(t *testing.T, rng *rand.Rand, c *abcitest.Chain, actors []abcitest.Actor, stranger abcitest.Actor) (pool [][]byte) {
	t.Helper()
	for range rng.IntN(20) {
		from, to := actors[rng.IntN(len(actors))], actors[rng.IntN(len(actors))]
		if rng.IntN(6) == 0 {
			to = stranger
		}
		amount := mman.Amount(1 + rng.Uint64N(50))
		if rng.IntN(12) == 0 {
			amount = max(1, c.Balance(from)-mman.Amount(rng.Uint64N(60_000))) // nearly all
		}
		switch rng.IntN(12) {
		case 0:
			pool = append(pool, abcitest.Unsent(c).Sign(stranger, send(stranger, from, 1)))
		case 1:
			pool = append(pool, c.Sign(from, send(from, to, 1), func(d *tx.Draft) { d.GasLimit, d.Fee = 15_000_000, 1_500_000 }))
		case 2, 3:
			name := strconv.FormatUint(rng.Uint64(), 36)
			pool = append(pool, c.Sign(from, []tx.Msg{abcitest.Submit(t, abcitest.Ask(t, from, name, 500, c.Height()+3))}))
		default:
			pool = append(pool, c.Sign(from, send(from, to, amount)))
		}
	}
	return pool
}

// bend returns a pool made of that one.
func bend(rng *rand.Rand, base [][]byte) (pool [][]byte) {
	for _, raw := range base {
		switch rng.IntN(14) {
		case 0:
			raw = bytes.Clone(raw)
			raw[rng.IntN(len(raw))] ^= 1 << rng.IntN(8)
		case 1:
			raw = raw[:rng.IntN(len(raw))]
		case 2:
			pool = append(pool, raw)
		case 3:
			continue
		case 4:
			pool = append(pool, tx.EncodeBeacon(make([]byte, rng.IntN(90))))
		default:
		}
		pool = append(pool, raw)
	}
	if rng.IntN(3) == 0 {
		rng.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
	}
	return pool
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

// TestQueriesWaitForNoBlock asks while a block is being executed, which does not end
// before the answers are there.
func TestQueriesWaitForNoBlock(t *testing.T) {
	t.Parallel()
	begun, end := make(chan struct{}), make(chan struct{})
	slow := abci.Migration{Version: 2, Run: func(*block.Context) error {
		close(begun)
		<-end
		return nil
	}}
	c := abcitest.New(t, upgradeGenesis(t, genesis.Upgrade{Height: 4, Version: 2}), knows([]abci.Migration{slow}))
	c.Pass(3)
	req, decided := c.Request(), make(chan error, 1)
	go func() {
		_, err := c.App.FinalizeBlock(t.Context(), &req)
		decided <- err
	}()
	<-begun
	answered := make(chan error, 1)
	go func() {
		var errs []error
		for _, path := range []string{"/mman/supply", "/mman/params", "/mman/accounts", "/store/params/key"} {
			answer, err := c.App.Query(t.Context(), &types.RequestQuery{Path: path, Data: []byte("params")})
			if err == nil && answer.Height != 3 {
				err = fmt.Errorf("%s: of height %d, %s", path, answer.Height, answer.Log)
			}
			errs = append(errs, err)
		}
		if height := c.App.View().Height(); height != 3 {
			errs = append(errs, fmt.Errorf("a view of height %d", height))
		}
		answered <- errors.Join(errs...)
	}()
	var err error
	select {
	case err = <-answered:
	case <-time.After(time.Minute):
		err = errors.New("the queries wait for the block")
	}
	close(end)
	require.NoError(t, err)
	require.NoError(t, <-decided)
}

//go:build linux

package abci_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
)

// BenchmarkTransfers takes blocks of signed transfers from 1,000 accounts through
// all that a validator does with them, and through what a node does that executes
// decided blocks again. It reports the processor time of each step, of all threads,
// for one transfer: other work on the machine changes it little.
func BenchmarkTransfers(b *testing.B) {
	const senders = 1000
	var actors []abcitest.Actor
	for i := range senders {
		actors = append(actors, abcitest.NewActor(b, strconv.Itoa(i)))
	}
	doc := abcitest.Genesis(b, 1_000_000*mman.MAN, actors...)
	doc.Params.MaxGasPerBlock = 10_000_000_000
	live, again := newMeasured(b, doc), newMeasured(b, doc)
	numbers := map[mman.Address]uint64{}
	for i, a := range doc.Canonical().Accounts {
		numbers[a.Address] = uint64(i)
	}
	txs := make([][]byte, senders)
	for i := range uint64(b.N) {
		b.StopTimer()
		for n, from := range actors {
			signed, err := tx.Sign(from.Key, doc.ChainID, numbers[from.Address], tx.Draft{
				Msgs: send(from, actors[(n+7)%senders], 5), Sequence: i, GasLimit: 200_000, Fee: mman.MAN,
			})
			require.NoError(b, err)
			txs[n] = signed.Raw()
		}
		b.StartTimer()
		live.block(txs)
		again.replay(txs)
	}
	for name, spent := range live.spent {
		b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N*senders), name+"-ns/tx")
	}
	b.ReportMetric(float64(again.spent["replay"].Nanoseconds())/float64(b.N*senders), "replay-ns/tx")
}

// measured is an application and the processor time that it took.
type measured struct {
	b      *testing.B
	app    *abci.Application
	height int64
	doc    genesis.Document
	spent  map[string]time.Duration
}

func newMeasured(b *testing.B, doc genesis.Document) *measured {
	b.Helper()
	app, err := abci.New(abci.Config{DB: state.NewMemory()})
	require.NoError(b, err)
	first, err := doc.Encode()
	require.NoError(b, err)
	_, err = app.InitChain(b.Context(), &types.RequestInitChain{ChainId: doc.ChainID, InitialHeight: 1, AppStateBytes: first})
	require.NoError(b, err)
	m := &measured{b: b, app: app, doc: doc, spent: map[string]time.Duration{}}
	m.replay(nil)
	clear(m.spent)
	return m
}

// step adds the processor time of fn.
func (m *measured) step(name string, fn func() error) {
	m.b.Helper()
	var before, after unix.Timespec
	require.NoError(m.b, unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &before))
	err := fn()
	require.NoError(m.b, unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &after))
	require.NoError(m.b, err)
	m.spent[name] += time.Duration(after.Nano() - before.Nano())
}

func (m *measured) check(txs [][]byte, typ types.CheckTxType) func() error {
	return func() error {
		for _, raw := range txs {
			r, err := m.app.CheckTx(m.b.Context(), &types.RequestCheckTx{Tx: raw, Type: typ})
			if err != nil {
				return err
			}
			require.Zero(m.b, r.Code, r.Log)
		}
		return nil
	}
}

func (m *measured) block(txs [][]byte) {
	m.b.Helper()
	ctx := m.b.Context()
	m.step("check", m.check(txs, types.CheckTxType_New))
	// A quiet block while they wait.
	m.replay(nil)
	m.step("recheck", m.check(txs, types.CheckTxType_Recheck))
	m.height++
	at := time.Unix(1_800_000_000+m.height, 0)
	var prepared *types.ResponsePrepareProposal
	m.step("prepare", func() (err error) {
		prepared, err = m.app.PrepareProposal(ctx, &types.RequestPrepareProposal{MaxTxBytes: 1 << 20, Txs: txs, Height: m.height, Time: at})
		return err
	})
	require.Len(m.b, prepared.Txs, len(txs))
	hash := state.Uint64Key(uint64(m.height))
	m.step("process", func() error {
		answer, err := m.app.ProcessProposal(ctx, &types.RequestProcessProposal{Txs: txs, Hash: hash, Height: m.height, Time: at})
		require.True(m.b, answer.IsAccepted())
		return err
	})
	m.step("decide", func() error {
		_, err := m.app.FinalizeBlock(ctx, &types.RequestFinalizeBlock{Txs: txs, Hash: hash, Height: m.height, Time: at})
		return err
	})
	m.step("commit", func() error {
		_, err := m.app.Commit(ctx, &types.RequestCommit{})
		return err
	})
}

// replay decides a block that nobody proposed here.
func (m *measured) replay(txs [][]byte) {
	m.b.Helper()
	name := "replay"
	if len(txs) == 0 {
		name = "quiet"
	}
	m.height++
	m.step(name, func() error {
		answer, err := m.app.FinalizeBlock(m.b.Context(), &types.RequestFinalizeBlock{Txs: txs, Height: m.height, Time: time.Unix(1_800_000_000+m.height, 0)})
		if err != nil {
			return err
		}
		for _, r := range answer.TxResults {
			require.Zero(m.b, r.Code, r.Log)
		}
		_, err = m.app.Commit(m.b.Context(), &types.RequestCommit{})
		return err
	})
}

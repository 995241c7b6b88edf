package abci_test

import (
	"bytes"
	"testing"

	"github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/beacon"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/sig"
)

func (f *fixture) beacon(t *testing.T) (b beacon.Answer) {
	t.Helper()
	code, log := f.Query("/mman/beacon", &b)
	require.Zero(t, code, log)
	return b
}

// TestBeacon follows the beacon over blocks that draw and blocks that do not.
func TestBeacon(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Pass(1)
	first := f.beacon(t)
	hash, err := f.Doc.Hash()
	require.NoError(t, err)
	require.Equal(t, beacon.Answer{Beacon: beacon.Beacon{Height: 0, Value: hash}}, first)
	f.Do(f.cleo, send(f.cleo, f.dora.Actor, 5)...)
	root := f.Root()
	f.Pass(2)
	require.Equal(t, root, f.Root(), "quiet blocks change nothing")
	require.Equal(t, first, f.beacon(t), "a payment draws nothing")

	ask := func(name string) []byte {
		return f.Sign(f.cleo, []tx.Msg{abcitest.Submit(t, abcitest.Ask(t, f.cleo, name, 500, f.Height()+9))})
	}
	f.Block(ask("one"))
	second := f.beacon(t)
	require.Equal(t, f.Height(), second.Height)
	require.NotEqual(t, first.Value, second.Value)
	f.Pass(3)
	require.Equal(t, second, f.beacon(t))
	f.Block(ask("two"))
	third := f.beacon(t)
	require.Equal(t, f.Height(), third.Height)

	var asked beacon.Beacon
	code, log := f.Query("/mman/beacon?fixed=1", &asked)
	require.Zero(t, code, log)
	require.Equal(t, second.Beacon, asked)
	code, log = f.Query("/mman/beacon?fixed=4", &asked)
	require.Zero(t, code, log)
	require.Equal(t, third.Beacon, asked, "that of height 5 came too early for height 4")
	for _, path := range []string{"/mman/beacon?fixed=99", "/mman/beacon?fixed=x", "/mman/beacon?x=1", "/mman/beacon/1", "/mman/beacon?fixed=18446744073709551615"} {
		code, log := f.Query(path, nil)
		require.NotZero(t, code, path)
		require.NotEmpty(t, log)
	}
	f.Replay(func(h uint64) (restart, drop bool) { return h%2 == 0, h%3 == 0 })
}

// TestBeaconRefused checks that a block carries a beacon exactly when it needs
// one, and the right one; what is decided nevertheless changes no beacon.
func TestBeaconRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Pass(1)
	pay := f.Sign(f.dora.Actor, send(f.dora.Actor, f.cleo, 5))
	ask := f.Sign(f.cleo, []tx.Msg{abcitest.Submit(t, abcitest.Ask(t, f.cleo, "one", 500, 9))})
	prepare := func(app *abci.Application, room int64, txs ...[]byte) [][]byte {
		next := f.Request()
		answer, err := app.PrepareProposal(t.Context(), &types.RequestPrepareProposal{
			MaxTxBytes: room, Txs: txs, Height: next.Height, Time: next.Time, ProposerAddress: next.ProposerAddress,
		})
		require.NoError(t, err)
		return answer.Txs
	}
	good := prepare(f.App, 1<<20, pay, ask)
	require.Len(t, good, 3)
	system := good[0]
	require.True(t, tx.IsBeacon(system))
	require.Len(t, prepare(f.App, 1<<20, pay), 1, "a block that draws nothing has none")
	room := int64(len(ask) + len(system) + 5) // with tags and lengths
	require.Len(t, prepare(f.App, room, ask), 2)
	require.Empty(t, prepare(f.App, room-1, ask), "a request without its beacon stays out, and a beacon without one")

	stranger, err := sig.DeriveVRF(abcitest.NewActor(t, "stranger").Key)
	require.NoError(t, err)
	own, err := sig.DeriveVRF(f.Validator().Key)
	require.NoError(t, err)
	before := f.beacon(t).Beacon
	prove := func(key sig.VRFKey, chain string, height uint64, of beacon.Beacon) []byte {
		return tx.EncodeBeacon(key.Prove(beacon.Input(chain, height, of)))
	}
	require.Equal(t, system, prove(own, chainID, 2, before))
	flipped := bytes.Clone(system)
	flipped[len(flipped)-1] ^= 1
	for _, tc := range []struct {
		name string
		txs  [][]byte
		ok   bool
	}{
		{"as prepared", good, true},
		{"the other way round", [][]byte{system, ask, pay}, true},
		{"none", [][]byte{pay, ask}, false},
		{"not first", [][]byte{pay, system, ask}, false},
		{"last", [][]byte{pay, ask, system}, false},
		{"twice", [][]byte{system, system, ask}, false},
		{"not needed", [][]byte{system, pay}, false},
		{"alone", [][]byte{system}, false},
		{"of another key", [][]byte{prove(stranger, chainID, 2, before), ask}, false},
		{"of another height", [][]byte{prove(own, chainID, 3, before), ask}, false},
		{"of another chain", [][]byte{prove(own, "mman-local-1", 2, before), ask}, false},
		{"above another beacon", [][]byte{prove(own, chainID, 2, beacon.Beacon{}), ask}, false},
		{"changed", [][]byte{flipped, ask}, false},
		{"cut", [][]byte{system[:len(system)-1], ask}, false},
		{"longer", [][]byte{append(bytes.Clone(system), 0), ask}, false},
	} {
		answer, err := f.App.ProcessProposal(t.Context(), abcitest.Proposal(f.Request(tc.txs...)))
		require.NoError(t, err)
		require.Equal(t, tc.ok, answer.IsAccepted(), tc.name)
		if !tc.ok && tc.name != "twice" { // whose first one is in order
			twin := newFixture(t)
			twin.Pass(1)
			forced := twin.Force(tc.txs...)
			require.Len(t, forced.Results, len(tc.txs))
			require.Equal(t, before, twin.beacon(t).Beacon, tc.name)
		}
	}
	// Another proposer's proof is none.
	req := f.Request(good...)
	req.ProposerAddress = bytes.Repeat([]byte{7}, 20)
	answer, err := f.App.ProcessProposal(t.Context(), abcitest.Proposal(req))
	require.NoError(t, err)
	require.False(t, answer.IsAccepted())
	// Nobody sends one.
	check, err := f.App.CheckTx(t.Context(), &types.RequestCheckTx{Tx: system})
	require.NoError(t, err)
	require.Equal(t, uint32(mman.ErrTxDecode.Code), check.Code)

	// A node without the key, or with another, proposes what needs none.
	young := newFixture(t)
	pay = young.Sign(young.dora.Actor, send(young.dora.Actor, young.cleo, 5))
	ask = young.Sign(young.cleo, []tx.Msg{abcitest.Submit(t, abcitest.Ask(t, young.cleo, "one", 500, 9))})
	for _, prover := range []abci.Prover{nil, stranger} {
		app, err := abci.New(abci.Config{DB: state.NewMemory(), Beacon: prover})
		require.NoError(t, err)
		b, err := f.Doc.Encode()
		require.NoError(t, err)
		_, err = app.InitChain(t.Context(), &types.RequestInitChain{ChainId: chainID, InitialHeight: 1, AppStateBytes: b})
		require.NoError(t, err)
		answer, err := app.PrepareProposal(t.Context(), &types.RequestPrepareProposal{
			MaxTxBytes: 1 << 20, Txs: [][]byte{ask, pay}, Height: 1, ProposerAddress: f.Request().ProposerAddress,
		})
		require.NoError(t, err)
		require.Equal(t, [][]byte{pay}, answer.Txs)
	}
}

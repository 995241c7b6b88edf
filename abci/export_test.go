package abci_test

import (
	"bytes"
	"encoding/base64"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/block"
	ledger "github.com/limboid/massive-man/abci/market"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
)

// reborn exports the chain, founds one with what was exported, and requires that
// its export is the same to the byte.
func reborn(t *testing.T, c *abcitest.Chain, learn ...abcitest.Actor) *abcitest.Chain {
	t.Helper()
	doc, err := c.App.Export()
	require.NoError(t, err)
	first, err := doc.Encode()
	require.NoError(t, err)
	again, err := genesis.Decode(first)
	require.NoError(t, err)
	next := abcitest.New(t, again)
	for _, a := range learn {
		next.Learn(abcitest.Votes(t, a))
	}
	second, err := next.App.Export()
	require.NoError(t, err)
	b, err := second.Encode()
	require.NoError(t, err)
	require.True(t, bytes.Equal(first, b), "export, import, export")
	t.Logf("G5: export, import, export: the same %d bytes, %d pairs, height %d", len(first), len(doc.State.Pairs), c.Height())
	return next
}

// TestExportGoesOn: a chain that was exported goes on in another one with its
// offers, requests and leases.
func TestExportGoesOn(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := abcitest.RunWorkload(t, seed, abcitest.Setting(t, "MMAN_OPERATIONS", 400))
	next := reborn(t, w.Chain)
	next.Pass(1)
	require.Equal(t, w.Height()+1, next.Height())
	var was, is block.Page[ledger.OfferAnswer]
	code, log := w.Query("/mman/offers?limit=200", &was)
	require.Zero(t, code, log)
	code, log = next.Query("/mman/offers?limit=200", &is)
	require.Zero(t, code, log)
	ids := map[mman.CID]bool{}
	for _, o := range was.Items {
		ids[o.ID] = true
	}
	require.NotEmpty(t, is.Items)
	for _, o := range is.Items {
		require.True(t, ids[o.ID], o.ID)
	}
	twin := *w
	twin.Chain = next
	for range 20 {
		twin.Random(20)
	}
	next.Restart()
	next.Pass(60)
	next.Replay(func(h uint64) (restart, drop bool) { return h%5 == 0, h%2 == 0 })
}

// TestExportStake: validators, delegations and what is on its way out live on.
func TestExportStake(t *testing.T) {
	t.Parallel()
	s := newStaking(t, 2)
	s.Do(s.carol, s.create(s.carol, 25*mman.MAN, 100_000))
	s.Do(s.dave, tx.MsgDelegate{Delegator: s.dave.Address, Validator: s.bob.Address, Amount: 30 * mman.MAN})
	s.epoch()
	s.Do(s.dave, tx.MsgUndelegate{Delegator: s.dave.Address, Validator: s.bob.Address, Amount: 12 * mman.MAN})
	s.Do(s.eve, tx.MsgDelegate{Delegator: s.eve.Address, Validator: s.carol.Address, Amount: 5 * mman.MAN})
	s.Accuse(votes(t, s.alice).Public().Bytes())
	s.Pass(3)
	require.NotZero(t, s.Height()%s.Doc.Params.EpochBlocks, "what the epoch counts is exported too")
	next := reborn(t, s.Chain, s.alice, s.bob, s.carol)
	next.Pass(1)
	n := &staking{Chain: next, t: t, alice: s.alice, bob: s.bob, carol: s.carol, dave: s.dave, eve: s.eve}
	require.Equal(t, s.validator(s.bob), n.validator(s.bob))
	require.Equal(t, s.validator(s.alice), n.validator(s.alice))
	require.True(t, n.validator(s.alice).Tombstoned)
	require.Equal(t, s.unbondings(s.dave), n.unbondings(s.dave))
	require.Equal(t, s.Powers(), n.Powers())
	balance := n.Balance(s.dave)
	n.Do(s.eve, tx.MsgDelegate{Delegator: s.eve.Address, Validator: s.bob.Address, Amount: mman.MAN})
	n.Pass(60)
	require.Equal(t, balance+12*mman.MAN, n.Balance(s.dave), "the unbonding ends when it was to end")
	require.Zero(t, n.power(s.alice))
	next.Replay(func(h uint64) (restart, drop bool) { return h%5 == 0, h%2 == 0 })
}

// TestImportRefused bends an export; each bend is told.
func TestImportRefused(t *testing.T) {
	t.Parallel()
	s := newStaking(t, 2)
	s.Do(s.dave, tx.MsgDelegate{Delegator: s.dave.Address, Validator: s.bob.Address, Amount: 30 * mman.MAN})
	good, err := s.App.Export()
	require.NoError(t, err)
	find := func(d *genesis.Document, family state.Prefix) int {
		i := slices.IndexFunc(d.State.Pairs, func(p genesis.Pair) bool { return strings.HasPrefix(string(p.Key), string(family)) })
		require.GreaterOrEqual(t, i, 0)
		return i
	}
	for _, tc := range []struct {
		name   string
		change func(d *genesis.Document)
		says   string
	}{
		{"another height", func(d *genesis.Document) { d.InitialHeight++ }, "initial_height"},
		{"the first height", func(d *genesis.Document) { d.InitialHeight = 1 }, "initial_height"},
		{"no height is so large", func(d *genesis.Document) { d.State.Height, d.InitialHeight = 1<<64-1, 0 }, "initial_height"},
		{"before all time", func(d *genesis.Document) { d.State.Time = -1 }, "state.time"},
		{"accounts beside it", func(d *genesis.Document) { d.Accounts = []genesis.Account{{Address: mman.Address{1}, Balance: 5}} }, "accounts"},
		{"no pairs", func(d *genesis.Document) { d.State.Pairs = nil }, "no pairs"},
		{"an empty value", func(d *genesis.Document) { d.State.Pairs[3].Value = nil }, "empty"},
		{"an empty key", func(d *genesis.Document) { d.State.Pairs[3].Key = nil }, "empty"},
		{"a pair twice", func(d *genesis.Document) { d.State.Pairs[3] = d.State.Pairs[2] }, "not above"},
		{"out of order", func(d *genesis.Document) { d.State.Pairs[3], d.State.Pairs[2] = d.State.Pairs[2], d.State.Pairs[3] }, "not above"},
		{"a key without a store", func(d *genesis.Document) { d.State.Pairs[0].Key = []byte("!") }, "none of an export"},
		{"a key of the document's own", func(d *genesis.Document) {
			d.State.Pairs = append(d.State.Pairs, genesis.Pair{Key: []byte("params/vchain"), Value: []byte{1}})
			slices.SortFunc(d.State.Pairs, func(a, b genesis.Pair) int { return bytes.Compare(a.Key, b.Key) })
		}, "none of an export"},
		{"an impossible key", func(d *genesis.Document) { d.State.Pairs[0].Key = append([]byte("a/"), make([]byte, 500)...) }, "1 to 128"},
		{"a balance less", func(d *genesis.Document) {
			i := find(d, state.BankAccounts)
			d.State.Pairs = slices.Delete(d.State.Pairs, i, i+1)
		}, "bank"},
		{"a record of nothing", func(d *genesis.Document) { d.State.Pairs[find(d, state.BankAccounts)].Value = []byte("junk") }, "bank"},
		{"a total more", func(d *genesis.Document) {
			i := find(d, state.BankTotals)
			d.State.Pairs[i].Value = []byte{255, 255, 255, 255, 255, 255, 255, 255}
		}, "bank"},
		{"a delegation less", func(d *genesis.Document) {
			i := find(d, state.StakeDelegations)
			d.State.Pairs = slices.Delete(d.State.Pairs, i, i+1)
		}, "stake"},
		{"no validators", func(d *genesis.Document) { d.Validators = nil }, "0 validators"},
		{"another power", func(d *genesis.Document) { d.Validators[0].Power++ }, "elected"},
		{"a validator less", func(d *genesis.Document) { d.Validators = d.Validators[1:] }, "elected"},
		{"rules of the future", func(d *genesis.Document) { d.Upgrades = []genesis.Upgrade{{Height: d.InitialHeight, Version: 2}} }, "newer mman-node"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			doc := good
			doc.Validators = slices.Clone(good.Validators)
			st := *good.State
			st.Pairs = slices.Clone(st.Pairs)
			doc.State = &st
			tc.change(&doc)
			err := doc.Validate()
			if err == nil {
				var b []byte
				b, err = doc.Encode()
				require.NoError(t, err)
				app, aerr := abci.New(abci.Config{DB: state.NewMemory()})
				require.NoError(t, aerr)
				_, err = app.InitChain(t.Context(), &types.RequestInitChain{ChainId: doc.ChainID, InitialHeight: int64(doc.InitialHeight), AppStateBytes: b})
				require.Error(t, err)
				_, ferr := app.FinalizeBlock(t.Context(), &types.RequestFinalizeBlock{Height: 1})
				require.ErrorIs(t, ferr, mman.ErrBusy, "nothing of it is kept")
			}
			require.Contains(t, err.Error(), tc.says)
			require.Condition(t, func() bool { c := mman.CodeOf(err); return c == mman.ErrGenesis.Code || c == mman.ErrUpgrade.Code }, err)
		})
	}
	_, err = genesis.Decode([]byte(`{"state":{"pairs":[{"key":"` + base64.StdEncoding.EncodeToString([]byte("x")) + `"}],"pairs":[]}}`))
	require.ErrorIs(t, err, mman.ErrGenesis)
}

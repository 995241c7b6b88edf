package storage_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	vault "github.com/limboid/massive-man/abci/storage"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/market/storage"
)

const chainID = "mman-storage-test"

// purse is a bank of which every account has enough.
type purse struct {
	spent map[mman.Address]int64
	kept  mman.Amount
	burnt mman.Amount
}

func (p *purse) Keep(_ *block.Context, from mman.Address, a mman.Amount) error {
	p.spent[from] += int64(a)
	p.kept += a
	return nil
}

func (p *purse) Give(_ *block.Context, to mman.Address, a mman.Amount) error {
	p.spent[to] -= int64(a)
	p.kept -= a
	return nil
}

func (p *purse) Destroy(_ *block.Context, a mman.Amount) error {
	p.kept, p.burnt = p.kept-a, p.burnt+a
	return nil
}

func (p *purse) Kept(state.Reader) (mman.Amount, error) { return p.kept, nil }

// everyNode is bound to the account with its first byte.
type everyNode struct{}

func (everyNode) Bound(_ state.Reader, peer mman.PeerID) (mman.Address, bool, error) {
	return mman.Address{peer[0]}, true, nil
}

// dice come two heights after they were asked for.
type dice struct{}

func (dice) Ask(*block.Context) error { return nil }

func (dice) Drawn(_ state.Reader, fixed uint64) (uint64, mman.Hash, bool, error) {
	return fixed + 2, mman.Sum256(state.Uint64Key(fixed)), true, nil
}

// village is the module over a state, a purse, and replicas in the hands of two of
// three providers.
type village struct {
	t      *testing.T
	m      vault.Module
	state  state.Writer
	purse  *purse
	height uint64
	params genesis.Params
	id     mman.LeaseID
	data   [2][]byte
	trees  [2]storage.Tree
}

func newVillage(t *testing.T, without string) *village {
	t.Helper()
	store, err := state.Open(state.NewMemory())
	require.NoError(t, err)
	v := &village{t: t, state: state.NewOverlay(store.Latest()), purse: &purse{spent: map[mman.Address]int64{}}, height: 1, params: genesis.Defaults(genesis.Local)}
	v.params.StorageEpochBlocks, v.params.StorageWindowBlocks, v.params.StorageAcceptBlocks = 20, 5, 10
	v.m = vault.New(v.purse, everyNode{}, dice{})
	if without != "" {
		v.m = v.m.Undefended(without)
	}
	for i := range byte(3) {
		v.must(tx.MsgStorageOffer{Provider: mman.Address{i + 1}, Peer: mman.PeerID{i + 1}, Tier: storage.Fast, Price: mman.Amount(1000 + uint64(i)), Capacity: 64})
	}
	msg := tx.MsgStore{Consumer: mman.Address{9}, Key: [32]byte{1}, Bytes: 700 << 10, Tier: storage.Fast, MaxPrice: 2000, Epochs: 9}
	for i := range v.data {
		v.data[i] = bytes.Repeat([]byte{byte(i), 7, 3}, int(msg.Bytes)/3+1)[:msg.Bytes]
		v.trees[i], err = storage.Plant(bytes.NewReader(v.data[i]))
		require.NoError(t, err)
		msg.Roots = append(msg.Roots, v.trees[i].Root)
	}
	v.must(msg)
	v.id = mman.NewStorageID(chainID, mman.Sum256(state.Uint64Key(v.height)), 0)
	for i := range byte(2) {
		v.must(tx.MsgAcceptStorage{Provider: mman.Address{i + 1}, Replicas: []tx.ReplicaName{{Lease: v.id, Replica: i}}})
	}
	return v
}

func (v *village) context() *block.Context {
	var events []block.Event
	return &block.Context{
		Header: block.Header{ChainID: chainID, Height: v.height, Time: 1}, Params: v.params, State: v.state, Events: &events,
		TxHash: mman.Sum256(state.Uint64Key(v.height)),
	}
}

func (v *village) must(msg tx.Msg) {
	v.t.Helper()
	require.NoError(v.t, v.m.Execute(v.context(), msg))
}

// until ends blocks up to the one before the height.
func (v *village) until(height uint64) {
	v.t.Helper()
	for v.height < height {
		require.NoError(v.t, v.m.EndBlock(v.context()))
		require.NoError(v.t, v.m.Invariants(v.state))
		v.height++
	}
}

// proves sends a holder's proof for the epoch that runs, made of these bytes.
func (v *village) proves(holder byte, data []byte) {
	v.t.Helper()
	d, ok, err := vault.LookupDrawn(v.state)
	require.NoError(v.t, err)
	require.True(v.t, ok)
	p, err := storage.Prove(v.trees[holder-1], bytes.NewReader(data), v.id, holder-1, d.Value)
	require.NoError(v.t, err)
	v.must(tx.MsgProveStorage{Provider: mman.Address{holder}, Epoch: d.Epoch, Proofs: [][]byte{p.Encode()}})
}

func (v *village) lease() storage.Lease {
	v.t.Helper()
	l, ok, err := vault.LookupLease(v.state, v.id)
	require.NoError(v.t, err)
	require.True(v.t, ok)
	return l
}

// TestHostile: what a holder wins on the ledger by an attack in the second epoch,
// with the defence and without it. Holder 2 is honest in all of them.
func TestHostile(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		defence string
		attack  func(v *village)
		// won says whether it worked.
		won func(v *village) bool
	}{
		"dropped the data and guesses": {
			"verify",
			func(v *village) { v.until(23); v.proves(1, make([]byte, 700<<10)); v.proves(2, v.data[1]) },
			func(v *village) bool { return v.lease().Replicas[0].Proved > 0 },
		},
		"answers with another replica": {
			"verify",
			func(v *village) { v.until(23); v.proves(1, v.data[1]); v.proves(2, v.data[1]) },
			func(v *village) bool { return v.lease().Replicas[0].Proved > 0 },
		},
		"dropped the data and answers late": {
			"window",
			func(v *village) { v.until(23); v.proves(2, v.data[1]); v.until(28); v.proves(1, v.data[0]) },
			func(v *village) bool { return v.lease().Replicas[0].Proved > 0 },
		},
		"takes pay for one epoch and leaves with its deposit": {
			"slash",
			func(v *village) { v.until(23); v.proves(2, v.data[1]) },
			func(v *village) bool { return v.purse.spent[mman.Address{1}] <= 0 },
		},
		"leaves, and the file is thinner for ever": {
			"repair",
			func(v *village) { v.until(23); v.proves(2, v.data[1]) },
			func(v *village) bool { return v.lease().Replicas[0].Provider.IsZero() },
		},
	} {
		for _, without := range []string{"", tc.defence} {
			t.Run(fmt.Sprintf("%s, without %q", name, without), func(t *testing.T) {
				t.Parallel()
				v := newVillage(t, without)
				tc.attack(v)
				v.until(35)
				require.Equal(t, without != "", tc.won(v))
				l := v.lease()
				require.Equal(t, storage.Held, l.Replicas[1].State, "the honest holder keeps its replica")
				require.Equal(t, uint64(1), l.Replicas[1].Proved)
				if without == "" {
					require.Equal(t, mman.Address{3}, l.Replicas[0].Provider, "another one has it")
					require.Positive(t, v.purse.burnt)
				}
			})
		}
	}
}

// TestNoChallenge: when randomness fails to come, nobody is paid and nobody slashed.
func TestNoChallenge(t *testing.T) {
	t.Parallel()
	v := newVillage(t, "")
	v.m = vault.New(v.purse, everyNode{}, silence{})
	v.until(61)
	for _, r := range v.lease().Replicas {
		require.Equal(t, storage.Held, r.State)
		require.Zero(t, r.Proved)
	}
}

// silence is a beacon that never comes.
type silence struct{}

func (silence) Ask(*block.Context) error { return nil }

func (silence) Drawn(state.Reader, uint64) (uint64, mman.Hash, bool, error) {
	return 0, mman.Hash{}, false, nil
}

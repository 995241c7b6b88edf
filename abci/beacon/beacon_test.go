package beacon_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/beacon"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
)

// TestAfter asks and draws: nothing is decided by a beacon that came too early.
func TestAfter(t *testing.T) {
	t.Parallel()
	store, err := state.Open(state.NewMemory())
	require.NoError(t, err)
	w := store.Begin()
	m := beacon.New()
	at := func(height uint64) *block.Context {
		return &block.Context{Header: block.Header{ChainID: "mman-x", Height: height}, State: w, Events: new([]block.Event)}
	}
	_, err = beacon.Latest(w)
	require.ErrorIs(t, err, mman.ErrCorrupt)
	first := beacon.Beacon{Value: mman.Sum256([]byte("first"))}
	require.NoError(t, state.NewTable[beacon.Beacon](state.BeaconLatest, 64).Set(w, []byte("latest"), first))

	due := func(height uint64, want bool) {
		t.Helper()
		got, err := beacon.Due(w, height)
		require.NoError(t, err)
		require.Equal(t, want, got, "height %d", height)
	}
	require.NoError(t, m.Ask(at(7)))
	require.NoError(t, m.Ask(at(7)))
	due(8, false)
	due(9, true)
	due(12, true) // it stays due until a block carries it
	_, ok, err := m.After(w, 7)
	require.NoError(t, err)
	require.False(t, ok)

	// One that comes for another reason at height 8 is too early.
	early, err := beacon.Advance(at(8), []byte("a"))
	require.NoError(t, err)
	require.Equal(t, mman.Sum256(first.Value[:], []byte("a")), early)
	due(9, true)
	_, ok, err = m.After(w, 7)
	require.NoError(t, err)
	require.False(t, ok)
	value, err := beacon.Advance(at(10), []byte("b"))
	require.NoError(t, err)
	require.Equal(t, mman.Sum256(early[:], []byte("b")), value)
	due(1<<40, false)
	_, err = beacon.Advance(at(11), []byte("c"))
	require.NoError(t, err)
	got, ok, err := m.After(w, 7)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, beacon.Beacon{Height: 10, Value: value}, got, "the first one that is late enough")
	got, ok, err = m.After(w, 6)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, uint64(8), got.Height)
	require.NoError(t, m.Invariants(w))

	// Old ones go, and say so.
	for h := uint64(12); h < 12+beacon.Kept+20; h++ {
		_, err := beacon.Advance(at(h), []byte("d"))
		require.NoError(t, err)
	}
	rows, err := w.Iterate("beacon", []byte("v"), nil, state.MaxPage)
	require.NoError(t, err)
	require.LessOrEqual(t, len(rows), beacon.Kept)
	_, _, err = m.After(w, 7)
	require.ErrorIs(t, err, mman.ErrNotFound)
	require.NoError(t, m.Invariants(w))
}

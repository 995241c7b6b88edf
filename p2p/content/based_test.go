package content_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p/content"
)

// A file comes by Bitswap into a store of its own, without the leaves that another
// file has, and is in no other store then.
func TestFetchAboveABase(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, b := pair(t, config())
	old := random(t, 3<<20)
	data := append(bytes.Clone(old), random(t, 1<<20)...)
	root, size, err := b.AddCheckpoint(ctx, bytes.NewReader(data))
	require.NoError(t, err)
	have, err := content.LeavesOf(ctx, bytes.NewReader(old))
	require.NoError(t, err)

	below := content.Memory()
	var met uint64
	store := content.NewPublicStore(content.NewBased(below, bytes.NewReader(old), have, func(n uint64) { met += n }))
	into := a.Into(store)
	for range 2 {
		got, err := into.Fetch(ctx, root, size)
		require.NoError(t, err)
		require.Equal(t, size, got)
	}
	require.Greater(t, met, uint64(len(old)-128<<10), "all leaves but the last of the old file")
	require.LessOrEqual(t, met, uint64(len(old)), "each once")
	f, err := content.OpenFrom(ctx, into.Public(), root, size)
	require.NoError(t, err)
	got, err := io.ReadAll(f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.True(t, bytes.Equal(data, got))

	came := 0
	keys, err := below.AllKeysChan(ctx)
	require.NoError(t, err)
	for k := range keys {
		n, err := below.GetSize(ctx, k)
		require.NoError(t, err)
		came += n
	}
	require.Less(t, came, len(data)-len(old)+2*128<<10)
	has, err := a.store.Has(ctx, root)
	require.NoError(t, err)
	require.False(t, has)
	_, err = content.OpenFrom(ctx, content.NewPublicStore(below), root, size)
	require.NoError(t, err, "the root is below")

	// A base that changes meanwhile is found out.
	old[len(old)/2] ^= 1
	f, err = content.OpenFrom(ctx, store, root, size)
	require.NoError(t, err)
	_, err = io.ReadAll(f)
	require.ErrorIs(t, err, mman.ErrContent)
	require.NoError(t, f.Close())
}

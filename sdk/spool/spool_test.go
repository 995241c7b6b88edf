package spool_test

import (
	"os"
	"path/filepath"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/sdk/spool"
)

var _ content.Blockstore = (*spool.Spool)(nil)

func block(t *testing.T, data string) blocks.Block {
	t.Helper()
	k, err := cid.Cast(mman.SumCID(mman.CodecRaw, []byte(data)).Bytes())
	require.NoError(t, err)
	b, err := blocks.NewBlockWithCid([]byte(data), k)
	require.NoError(t, err)
	return b
}

func TestSpool(t *testing.T) {
	t.Parallel()
	dir, ctx := filepath.Join(t.TempDir(), "a", "b"), t.Context()
	var told uint64
	s, err := spool.Open(dir, func(n uint64) { told = n })
	require.NoError(t, err)
	_, err = spool.Open(dir, nil)
	require.ErrorIs(t, err, mman.ErrOtherHolder)
	one, two := block(t, "one"), block(t, "twenty")
	require.NoError(t, s.PutMany(ctx, []blocks.Block{one, two, one}))
	require.Equal(t, uint64(9), told)
	got, err := s.Get(ctx, two.Cid())
	require.NoError(t, err)
	require.Equal(t, two.RawData(), got.RawData())
	n, err := s.GetSize(ctx, two.Cid())
	require.NoError(t, err)
	require.Equal(t, 6, n)
	keys, err := s.AllKeysChan(ctx)
	require.NoError(t, err)
	seen := map[cid.Cid]bool{}
	for k := range keys {
		seen[k] = true
	}
	require.Equal(t, map[cid.Cid]bool{one.Cid(): true, two.Cid(): true}, seen)
	require.NoError(t, s.DeleteBlock(ctx, one.Cid()))
	require.NoError(t, s.DeleteBlock(ctx, one.Cid()))
	has, err := s.Has(ctx, one.Cid())
	require.NoError(t, err)
	require.False(t, has)
	_, err = s.Get(ctx, one.Cid())
	require.True(t, ipld.IsNotFound(err))
	_, err = s.Get(ctx, cid.Undef)
	require.True(t, ipld.IsNotFound(err))
	require.NoError(t, s.Sync())
	require.NoError(t, s.Close())

	// What a client that was killed left half-written is swept.
	part := filepath.Join(dir, "part-1")
	require.NoError(t, os.WriteFile(part, []byte("x"), 0o600))
	s, err = spool.Open(dir, func(n uint64) { told = n })
	require.NoError(t, err)
	require.NoFileExists(t, part)
	require.Equal(t, uint64(6), s.Bytes())
	require.NoError(t, s.Put(ctx, block(t, "1")))
	require.Equal(t, uint64(7), told, "what was there counts")
	require.NoError(t, s.Remove())
	require.NoDirExists(t, dir)
}

package content_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p/content"
)

// TestAt reads parts of a file that another node has: no more blocks come than hold them.
func TestAt(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config())
	data := random(t, 9*content.ChunkSize+17)
	root, _, err := a.AddPublic(t.Context(), bytes.NewReader(data))
	require.NoError(t, err)
	at, err := b.At(t.Context(), root, 1<<30)
	require.NoError(t, err)
	require.Equal(t, uint64(len(data)), at.Size())
	has := func(chunk int) bool {
		end := min(len(data), (chunk+1)*content.ChunkSize)
		ok, err := b.store.Has(t.Context(), mman.SumCID(mman.CodecRaw, data[chunk*content.ChunkSize:end]))
		require.NoError(t, err)
		return ok
	}
	p := make([]byte, 100)
	for _, off := range []int{3*content.ChunkSize - 50, 3 * content.ChunkSize, len(data) - 100} {
		n, err := at.Read(t.Context(), p, uint64(off))
		require.NoError(t, err)
		require.Equal(t, data[off:off+n], p)
	}
	for chunk := range 10 {
		require.Equal(t, chunk == 2 || chunk == 3 || chunk == 9 || chunk == 8, has(chunk), "chunk %d", chunk)
	}
	n, err := at.Read(t.Context(), p, uint64(len(data)-3))
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, 3, n)

	_, err = b.At(t.Context(), root, 1000)
	require.ErrorIs(t, err, mman.ErrTooLarge)
	empty, _, err := a.AddPublic(t.Context(), bytes.NewReader(nil))
	require.NoError(t, err)
	at, err = b.At(t.Context(), empty, 1000)
	require.NoError(t, err)
	_, err = at.Read(t.Context(), p, 0)
	require.ErrorIs(t, err, io.EOF)
}

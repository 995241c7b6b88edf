package merkle_test

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/merkle"
)

// leaves are numbers, and what a prover keeps of them.
type leaves struct {
	hashes, blocks []mman.Hash
}

func (l leaves) Leaf(i uint64) (mman.Hash, error)  { return l.hashes[i], nil }
func (l leaves) Block(i uint64) (mman.Hash, error) { return l.blocks[i], nil }

func plant(n uint64) (leaves, merkle.Edge) {
	var l leaves
	var e merkle.Edge
	for i := range n {
		var block *mman.Hash
		leaf := merkle.Leaf(binary.BigEndian.AppendUint64(nil, i))
		l.hashes = append(l.hashes, leaf)
		if e, block = e.Append(leaf); block != nil {
			l.blocks = append(l.blocks, *block)
		}
	}
	return l, e
}

// naive is the definition of RFC 6962, section 2.1.
func naive(hashes []mman.Hash) mman.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	k := 1
	for 2*k < len(hashes) {
		k *= 2
	}
	left, right := naive(hashes[:k]), naive(hashes[k:])
	return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
}

func TestTree(t *testing.T) {
	t.Parallel()
	for _, n := range []uint64{1, 2, 3, 7, 8, 255, 256, 257, 511, 700, 1025} {
		l, e := plant(n)
		require.Equal(t, naive(l.hashes), e.Root(), "%d leaves", n)
		for i := range n {
			path, err := merkle.Prove(l, i, n)
			require.NoError(t, err)
			require.True(t, merkle.Verify(e.Root(), n, i, l.hashes[i], path))
			require.False(t, merkle.Verify(e.Root(), n, i, merkle.Leaf(nil), path))
			require.False(t, merkle.Verify(e.Root(), n, i, l.hashes[i], append(path, mman.Hash{})))
			if n > 1 {
				require.False(t, merkle.Verify(e.Root(), n, (i+1)%n, l.hashes[i], path))
				require.False(t, merkle.Verify(e.Root(), n, i, l.hashes[i], path[1:]))
			}
		}
		_, err := merkle.Prove(l, n, n)
		require.ErrorIs(t, err, mman.ErrNotFound)
	}
	require.Zero(t, merkle.Edge{}.Root())
	require.False(t, merkle.Verify(mman.Hash{}, 0, 0, mman.Hash{}, nil))
}

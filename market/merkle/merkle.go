package merkle

import (
	"crypto/sha256"
	"fmt"
	"math/bits"
	"slices"

	mman "github.com/limboid/massive-man"
)

// BlockLeaves is how many leaves make a block, whose hash is worth keeping: a
// proof then reads the hashes of blocks and the leaves of two of them.
const BlockLeaves = 256

// MaxPath is the longest path that Verify reads: of a tree of 2⁶⁴ leaves.
const MaxPath = 64

// Leaf returns the hash of a leaf's bytes.
func Leaf(data []byte) mman.Hash {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(data)
	return mman.Hash(h.Sum(nil))
}

// Node returns the hash of two parts.
func Node(left, right mman.Hash) mman.Hash {
	var b [1 + 2*len(left)]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+len(left):], right[:])
	return sha256.Sum256(b[:])
}

// Edge is the edge of a tree: what is needed to append. The zero Edge is empty.
type Edge struct {
	Size uint64
	// Peaks are the roots of the whole subtrees, the largest first: one for each
	// bit of Size.
	Peaks []mman.Hash
}

// Append returns the tree with one leaf more. When that ends a block, block is
// the block's hash. The edge itself stays as it is.
func (e Edge) Append(leaf mman.Hash) (_ Edge, block *mman.Hash) {
	peaks, sum := slices.Clone(e.Peaks), leaf
	width := uint64(1)
	for n := e.Size; n&1 == 1; n >>= 1 {
		sum = Node(peaks[len(peaks)-1], sum)
		peaks = peaks[:len(peaks)-1]
		if width *= 2; width == BlockLeaves {
			whole := sum
			block = &whole
		}
	}
	return Edge{e.Size + 1, append(peaks, sum)}, block
}

// Root returns the tree's root, the zero hash of an empty tree.
func (e Edge) Root() mman.Hash {
	if len(e.Peaks) == 0 {
		return mman.Hash{}
	}
	root := e.Peaks[len(e.Peaks)-1]
	for _, peak := range slices.Backward(e.Peaks[:len(e.Peaks)-1]) {
		root = Node(peak, root)
	}
	return root
}

// Leaves is where a proof reads a tree.
type Leaves interface {
	// Leaf returns the hash of leaf i, Block that of the whole block i.
	Leaf(i uint64) (mman.Hash, error)
	Block(i uint64) (mman.Hash, error)
}

// Prove returns the path from the leaf to the root of the tree's first size
// leaves, the nearest neighbour first; mman.ErrNotFound for a leaf beyond them.
func Prove(from Leaves, index, size uint64) ([]mman.Hash, error) {
	if index >= size {
		return nil, fmt.Errorf("%w: leaf %d of a tree of %d", mman.ErrNotFound, index, size)
	}
	var path []mman.Hash
	lo, hi := uint64(0), size
	for hi-lo > 1 {
		mid := lo + split(hi-lo)
		other := [2]uint64{lo, mid}
		if index < mid {
			other = [2]uint64{mid, hi}
			hi = mid
		} else {
			lo = mid
		}
		h, err := subtree(from, other[0], other[1])
		if err != nil {
			return nil, err
		}
		path = append(path, h)
	}
	slices.Reverse(path)
	return path, nil
}

// split returns the largest power of two below n, which is at least 2.
func split(n uint64) uint64 { return 1 << (bits.Len64(n-1) - 1) }

// subtree returns the hash of the leaves from lo to before hi.
func subtree(from Leaves, lo, hi uint64) (mman.Hash, error) {
	switch {
	case hi-lo == 1:
		return from.Leaf(lo)
	case hi-lo == BlockLeaves && lo%BlockLeaves == 0:
		return from.Block(lo / BlockLeaves)
	}
	mid := lo + split(hi-lo)
	left, err := subtree(from, lo, mid)
	if err != nil {
		return mman.Hash{}, err
	}
	right, err := subtree(from, mid, hi)
	return Node(left, right), err
}

// Verify reports whether path proves that the leaf with the hash is at the index of
// the tree with size leaves and that root.
func Verify(root mman.Hash, size, index uint64, leaf mman.Hash, path []mman.Hash) bool {
	if index >= size || len(path) > MaxPath {
		return false
	}
	at, last, sum := index, size-1, leaf
	for _, h := range path {
		if last == 0 {
			return false
		}
		if at&1 == 1 || at == last {
			sum = Node(h, sum)
			for at&1 == 0 && at != 0 {
				at, last = at>>1, last>>1
			}
		} else {
			sum = Node(sum, h)
		}
		at, last = at>>1, last>>1
	}
	return last == 0 && sum == root
}

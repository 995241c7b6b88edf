package decision

import (
	"fmt"
	"math/bits"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/merkle"
)

// MaxEntries bounds a log: a lane of a lease.
const MaxEntries = 1 << 20

// BlockEntries is how many entries make a block, whose hash is worth keeping: a
// proof then reads the hashes of blocks and the entries of two of them.
const BlockEntries = merkle.BlockLeaves

// Head is a log's size and root; all zero for a log without entries.
type Head struct {
	Size uint64    `cbor:"size" json:"size"`
	Root mman.Hash `cbor:"root" json:"root"`
}

// Follows reports whether a log with this head can be the one with the head
// before, with perhaps more entries.
func (h Head) Follows(before Head) bool {
	return h.Size > before.Size && h.Size <= MaxEntries || h == before
}

// Log is the edge of a log: what is needed to append. The zero Log is empty.
type Log struct {
	Size uint64 `cbor:"size"`
	// Peaks are the roots of the whole subtrees, the largest first: one for each
	// bit of Size.
	Peaks []mman.Hash `cbor:"peaks,omitempty"`
}

// Valid reports whether the log can be one.
func (l Log) Valid() bool {
	return l.Size <= MaxEntries && len(l.Peaks) == bits.OnesCount64(l.Size)
}

// Append returns the log with one leaf more. When that ends a block, block is
// the block's hash.
func (l Log) Append(leaf mman.Hash) (_ Log, block *mman.Hash, err error) {
	if l.Size >= MaxEntries {
		return l, nil, fmt.Errorf("%w: the lane's log of decisions is full, %d entries: ask for a new lease", mman.ErrTooLarge, l.Size)
	}
	edge, block := merkle.Edge(l).Append(leaf)
	return Log(edge), block, nil
}

// Head returns the log's size and root.
func (l Log) Head() Head {
	return Head{l.Size, merkle.Edge(l).Root()}
}

// Leaf returns the hash of an entry's bytes.
func Leaf(entry []byte) mman.Hash { return merkle.Leaf(entry) }

// Leaves is where a proof reads a log: its entries are the leaves.
type Leaves = merkle.Leaves

// Prove returns the path from the entry to the root of the log's first size
// entries, the nearest neighbour first.
func Prove(from Leaves, index, size uint64) ([]mman.Hash, error) {
	if index >= size || size > MaxEntries {
		return nil, fmt.Errorf("%w: entry %d of a log of %d", mman.ErrNotFound, index, size)
	}
	return merkle.Prove(from, index, size)
}

// Verify reports whether path proves that the entry with the leaf hash is at the
// index of the log with the head; mman.ErrContent when it does not.
func Verify(head Head, index uint64, leaf mman.Hash, path []mman.Hash) error {
	if head.Size > MaxEntries || !merkle.Verify(head.Root, head.Size, index, leaf, path) {
		return fmt.Errorf("%w: the path of %d hashes does not prove entry %d of a log of %d", mman.ErrContent, len(path), index, head.Size)
	}
	return nil
}

package decision

import (
	"crypto/sha256"
	"fmt"
	"math/bits"
	"slices"

	mman "github.com/limboid/massive-man"
)

// MaxEntries bounds a log: a lane of a lease.
const MaxEntries = 1 << 20

// BlockEntries is how many entries make a block, whose hash is worth keeping: a
// proof then reads the hashes of blocks and the entries of two of them.
const BlockEntries = 256

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
	peaks, sum := slices.Clone(l.Peaks), leaf
	width := uint64(1)
	for n := l.Size; n&1 == 1; n >>= 1 {
		sum = Node(peaks[len(peaks)-1], sum)
		peaks = peaks[:len(peaks)-1]
		if width *= 2; width == BlockEntries {
			whole := sum
			block = &whole
		}
	}
	return Log{l.Size + 1, append(peaks, sum)}, block, nil
}

// Head returns the log's size and root.
func (l Log) Head() Head {
	if len(l.Peaks) == 0 {
		return Head{}
	}
	root := l.Peaks[len(l.Peaks)-1]
	for _, peak := range slices.Backward(l.Peaks[:len(l.Peaks)-1]) {
		root = Node(peak, root)
	}
	return Head{l.Size, root}
}

// Leaf returns the hash of an entry's bytes.
func Leaf(entry []byte) mman.Hash {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(entry)
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

// Leaves is where a proof reads a log.
type Leaves interface {
	// Leaf returns the hash of entry i, Block that of the whole block i.
	Leaf(i uint64) (mman.Hash, error)
	Block(i uint64) (mman.Hash, error)
}

// Prove returns the path from the entry to the root of the log's first size
// entries, the nearest neighbour first.
func Prove(from Leaves, index, size uint64) ([]mman.Hash, error) {
	if index >= size || size > MaxEntries {
		return nil, fmt.Errorf("%w: entry %d of a log of %d", mman.ErrNotFound, index, size)
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

// subtree returns the hash of the entries from lo to before hi.
func subtree(from Leaves, lo, hi uint64) (mman.Hash, error) {
	switch {
	case hi-lo == 1:
		return from.Leaf(lo)
	case hi-lo == BlockEntries && lo%BlockEntries == 0:
		return from.Block(lo / BlockEntries)
	}
	mid := lo + split(hi-lo)
	left, err := subtree(from, lo, mid)
	if err != nil {
		return mman.Hash{}, err
	}
	right, err := subtree(from, mid, hi)
	return Node(left, right), err
}

// Verify reports whether path proves that the entry with the leaf hash is at the
// index of the log with the head; mman.ErrContent when it does not.
func Verify(head Head, index uint64, leaf mman.Hash, path []mman.Hash) error {
	wrong := fmt.Errorf("%w: the path of %d hashes does not prove entry %d of a log of %d", mman.ErrContent, len(path), index, head.Size)
	if index >= head.Size || head.Size > MaxEntries {
		return wrong
	}
	at, last, sum := index, head.Size-1, leaf
	for _, h := range path {
		if last == 0 {
			return wrong
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
	if last != 0 || sum != head.Root {
		return wrong
	}
	return nil
}

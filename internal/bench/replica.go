package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/merkle"
	"github.com/limboid/massive-man/market/storage"
)

// synthetic is a replica of which no byte is kept.
type synthetic struct{ size, seed uint64 }

// ReadAt implements io.ReaderAt: each word is its place, mixed.
func (s synthetic) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || uint64(off) >= s.size {
		return 0, io.EOF
	}
	p = p[:min(uint64(len(p)), s.size-uint64(off))]
	for i := 0; i < len(p); {
		at := uint64(off) + uint64(i)
		word := (at/8 + 1 + s.seed<<48) * 0x9E3779B97F4A7C15
		if at%8 == 0 && len(p)-i >= 8 {
			binary.LittleEndian.PutUint64(p[i:], word)
			i += 8
			continue
		}
		p[i] = byte(word >> (8 * (at % 8)) & 0xff)
		i++
	}
	return len(p), nil
}

// stumpLeaves is how many leaves are under each hash that grown keeps at the bottom: two
// levels below the blocks that a holder keeps.
const stumpLeaves = merkle.BlockLeaves / 4

// grown is a replica with the hashes of its tree, so that a hundred thousand proofs of
// one replica cost little: a holder makes one in an epoch, and hashes them anew.
type grown struct {
	synthetic

	tree storage.Tree
	// levels are the hashes above each stumpLeaves leaves, from the bottom to the root. As
	// in RFC 6962 a last one without a neighbour goes up as it is.
	levels [][]mman.Hash
}

// grow reads a replica once.
func grow(ctx context.Context, data synthetic) (grown, error) {
	g := grown{synthetic: data}
	count := storage.Leaves(data.size)
	var level []mman.Hash
	for at := uint64(0); at < count; at += stumpLeaves {
		if err := given(ctx); err != nil {
			return g, err
		}
		hashes, err := g.leaves(at, stumpLeaves)
		if err != nil {
			return g, err
		}
		for len(hashes) > 1 {
			hashes = above(hashes)
		}
		level = append(level, hashes[0])
	}
	for g.levels = append(g.levels, level); len(level) > 1; g.levels = append(g.levels, level) {
		level = above(level)
	}
	g.tree = storage.Tree{Bytes: data.size, Root: level[0], Blocks: g.levels[2][:count/merkle.BlockLeaves]}
	return g, nil
}

// above returns the hashes of the next level.
func above(hashes []mman.Hash) []mman.Hash {
	out := make([]mman.Hash, 0, (len(hashes)+1)/2)
	for ; len(hashes) > 1; hashes = hashes[2:] {
		out = append(out, merkle.Node(hashes[0], hashes[1]))
	}
	return append(out, hashes...)
}

// leaves returns the hashes of up to n leaves.
func (g grown) leaves(from, n uint64) ([]mman.Hash, error) {
	n = min(n, storage.Leaves(g.size)-from)
	buf := make([]byte, min(n*storage.LeafSize, g.size-from*storage.LeafSize))
	if _, err := g.ReadAt(buf, int64(from*storage.LeafSize)); err != nil { //nolint:gosec // below its size
		return nil, fmt.Errorf("%w: read a replica: %w", mman.ErrInternal, err)
	}
	out := make([]mman.Hash, 0, n)
	for at := 0; at < len(buf); at += storage.LeafSize {
		out = append(out, merkle.Leaf(buf[at:min(at+storage.LeafSize, len(buf))]))
	}
	return out, nil
}

// prove makes the proof that storage.Prove makes.
func (g grown) prove(lease mman.LeaseID, replica uint8, challenge mman.Hash) (storage.Proof, error) {
	index := storage.Challenge(challenge, lease, replica, g.size)
	p := storage.Proof{Lease: lease, Replica: replica, Leaf: make([]byte, min(storage.LeafSize, g.size-index*storage.LeafSize))}
	if _, err := g.ReadAt(p.Leaf, int64(index*storage.LeafSize)); err != nil { //nolint:gosec // below its size
		return p, fmt.Errorf("%w: read a replica: %w", mman.ErrInternal, err)
	}
	at := index % stumpLeaves
	level, err := g.leaves(index-at, stumpLeaves)
	if err != nil {
		return p, err
	}
	for ; len(level) > 1; at, level = at/2, above(level) {
		p.Path = beside(p.Path, level, at)
	}
	at = index / stumpLeaves
	for _, level := range g.levels {
		p.Path = beside(p.Path, level, at)
		at /= 2
	}
	return p, nil
}

// beside adds a hash's neighbour, if it has one.
func beside(path, level []mman.Hash, at uint64) []mman.Hash {
	if at ^= 1; at < uint64(len(level)) {
		return append(path, level[at])
	}
	return path
}

// given says as an error that the user gave up.
func given(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", mman.ErrCanceled, context.Cause(ctx))
}

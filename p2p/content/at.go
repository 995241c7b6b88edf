package content

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"

	mman "github.com/limboid/massive-man"
)

const (
	// keptNodes bounds the nodes of a file that At remembers.
	keptNodes = 64
	// deepest is how many blocks stand above each other in a file that At reads.
	deepest = 32
)

// At reads parts of a public file where it lies: the blocks that hold them come, and
// no others, and stay here. It is safe for concurrent use, by one reader at a time.
type At struct {
	from func(ctx context.Context, c mman.CID, off uint64) (Block, error)
	root mman.CID
	size uint64

	mu    sync.Mutex
	nodes map[mman.CID]inside
	leaf  Block // that was read last
}

// inside is what a block holds of a file: bytes, then what is below.
type inside struct {
	data []byte
	Node
}

// At opens the file c, of at most maxBytes, without fetching more than its root. Errors
// are Fetch's.
func (s *Service) At(ctx context.Context, c mman.CID, maxBytes uint64) (*At, error) {
	session := blockservice.NewSession(ctx, s.blocks)
	return at(ctx, c, maxBytes, func(ctx context.Context, c mman.CID, _ uint64) (Block, error) {
		return s.Block(blockservice.EmbedSessionInContext(ctx, session), c)
	})
}

// AtFrom is At for blocks that from brings: the one of a CID, which holds the file's
// byte off or stands above it. One that does not hash to its CID is mman.ErrContent.
func AtFrom(ctx context.Context, c mman.CID, maxBytes uint64, from func(ctx context.Context, c mman.CID, off uint64) ([]byte, error)) (*At, error) {
	return at(ctx, c, maxBytes, func(ctx context.Context, c mman.CID, off uint64) (Block, error) {
		data, err := from(ctx, c, off)
		if err != nil {
			return Block{}, err
		}
		b := NewBlock(c.Codec(), data)
		if b.cid != c {
			return Block{}, fmt.Errorf("%w: %d bytes that hash to %s came for block %s", mman.ErrContent, len(data), b.cid, c)
		}
		return b, nil
	})
}

func at(ctx context.Context, c mman.CID, maxBytes uint64, from func(ctx context.Context, c mman.CID, off uint64) (Block, error)) (*At, error) {
	a := &At{from: from, root: c, nodes: make(map[mman.CID]inside)}
	if empty := NewBlock(mman.CodecRaw, []byte{}); c == empty.cid {
		return a, nil // Bitswap does not send blocks without bytes
	}
	root, err := a.look(ctx, Child{CID: c}, 0)
	if err != nil {
		return nil, err
	}
	if a.size = root.Size; a.size > maxBytes {
		return nil, tooLarge(c, a.size, maxBytes)
	}
	return a, nil
}

// Size returns the file's length in bytes.
func (a *At) Size() uint64 { return a.size }

// Read fills p from an offset on; io.EOF where the file ends before.
func (a *At) Read(ctx context.Context, p []byte, off uint64) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	done := 0
	for done < len(p) && off+uint64(done) < a.size {
		n, err := a.piece(ctx, p[done:], off+uint64(done))
		if err != nil {
			return done, err
		}
		done += n
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// piece copies what one block holds of a place below the file's end.
func (a *At) piece(ctx context.Context, p []byte, off uint64) (int, error) {
	next, place := Child{CID: a.root, Size: a.size}, off
	for range deepest {
		n, err := a.look(ctx, next, place)
		if err != nil {
			return 0, err
		}
		if off < uint64(len(n.data)) {
			return copy(p, n.data[off:]), nil
		}
		off -= uint64(len(n.data))
		found := false
		for _, c := range n.Children {
			if found = off < c.Size; found {
				next = c
				break
			}
			off -= c.Size
		}
		if !found {
			break
		}
	}
	return 0, fmt.Errorf("%w: file %s has no byte where its nodes say that one is", mman.ErrContent, a.root)
}

// look reads a block, which must have the size that the one above it said; that of the
// root is 0 before it is known.
func (a *At) look(ctx context.Context, c Child, off uint64) (inside, error) {
	if n, ok := a.nodes[c.CID]; ok && n.Size == c.Size {
		return n, nil
	}
	b := a.leaf
	if b.cid != c.CID {
		var err error
		if b, err = a.from(ctx, c.CID, off); err != nil {
			return inside{}, err
		}
	}
	n, err := insideOf(b)
	if err != nil {
		return n, err
	}
	if c.Size > 0 && n.Size != c.Size {
		return n, fmt.Errorf("%w: block %s has %d bytes of the file, the one above says %d", mman.ErrContent, c.CID, n.Size, c.Size)
	}
	if len(n.Children) == 0 {
		a.leaf = b
		return n, nil
	}
	if len(a.nodes) == keptNodes {
		clear(a.nodes)
	}
	a.nodes[c.CID] = n
	return n, nil
}

// insideOf tells what a block holds.
func insideOf(b Block) (inside, error) {
	node, err := ParseNode(b)
	if err != nil || b.cid.Codec() != mman.CodecDagPB {
		return inside{b.data, node}, err
	}
	nd, err := merkledag.DecodeProtobuf(b.data)
	if err != nil {
		return inside{}, fmt.Errorf("%w: block %s is not DAG-PB: %w", mman.ErrContent, b.cid, err)
	}
	meta, err := unixfs.FSNodeFromBytes(nd.Data())
	if err != nil {
		return inside{}, fmt.Errorf("%w: block %s is not UnixFS: %w", mman.ErrContent, b.cid, err)
	}
	return inside{meta.Data(), node}, nil
}

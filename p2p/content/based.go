package content

import (
	"context"
	"fmt"
	"io"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	mman "github.com/limboid/massive-man"
)

// Based is a block store over another one, in which the leaves that a file holds are
// there too, without being copied. What is put, deleted and listed is the other one's.
// It is safe for concurrent use, if that is.
type Based struct {
	Blockstore

	base io.ReaderAt
	have map[mman.CID]Leaf
	tell func(bytes uint64)

	mu  sync.Mutex
	met map[mman.CID]struct{} // leaves of base that were looked for
}

// NewBased makes a store over bs. have says which leaves base holds, as LeavesOf does;
// the store reads both and changes neither. What is read is compared with its CID by
// the PublicStore or PrivateStore above. tell, if set, is called with the size of each
// such leaf when it is first looked for, also concurrently.
func NewBased(bs Blockstore, base io.ReaderAt, have map[mman.CID]Leaf, tell func(bytes uint64)) *Based {
	return &Based{Blockstore: bs, base: base, have: have, tell: tell, met: make(map[mman.CID]struct{})}
}

// find returns where base holds a block.
func (s *Based) find(c cid.Cid) (mman.CID, Leaf, bool) {
	id, err := mman.CIDFromBytes(c.Bytes())
	if err != nil {
		return mman.CID{}, Leaf{}, false // not one of ours
	}
	leaf, ok := s.have[id]
	return id, leaf, ok
}

// Has implements Blockstore.
func (s *Based) Has(ctx context.Context, c cid.Cid) (bool, error) {
	if _, _, ok := s.find(c); ok {
		return true, nil
	}
	return s.Blockstore.Has(ctx, c)
}

// GetSize implements Blockstore.
func (s *Based) GetSize(ctx context.Context, c cid.Cid) (int, error) {
	id, leaf, ok := s.find(c)
	if !ok {
		return s.Blockstore.GetSize(ctx, c)
	}
	s.mu.Lock()
	_, again := s.met[id]
	s.met[id] = struct{}{}
	s.mu.Unlock()
	if !again && s.tell != nil {
		s.tell(uint64(leaf.Size)) //nolint:gosec // a size
	}
	return int(leaf.Size), nil
}

// Get implements Blockstore.
func (s *Based) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	_, leaf, ok := s.find(c)
	if !ok {
		return s.Blockstore.Get(ctx, c)
	}
	data := make([]byte, leaf.Size)
	if _, err := s.base.ReadAt(data, leaf.Offset); err != nil {
		return nil, fmt.Errorf("%w: block %s: %w", mman.ErrContent, c, err)
	}
	return blocks.NewBlockWithCid(data, c)
}

// Sync brings what was put to the disk, where the store below can.
func (s *Based) Sync() error {
	if disk, ok := s.Blockstore.(interface{ Sync() error }); ok {
		return disk.Sync()
	}
	return nil
}

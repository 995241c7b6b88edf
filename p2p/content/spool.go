package content

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	mman "github.com/limboid/massive-man"
)

// Spool is a block store of a client that fetches one file: blocks are appended to
// a file, and leaves that another file has already are read from there. It forgets
// all when it is closed. It is safe for concurrent use.
type Spool struct {
	f    *os.File
	base io.ReaderAt
	have map[mman.CID]Leaf // in base

	mu  sync.Mutex
	end int64
	at  map[string]Leaf // in f, by the CID's bytes
}

// NewSpool makes a spool over f, which it owns and fills from its beginning. base may
// be nil; have says which leaves it holds, as LeavesOf does. What is read from either
// is compared with its CID.
func NewSpool(f *os.File, base io.ReaderAt, have map[mman.CID]Leaf) *Spool {
	return &Spool{f: f, base: base, have: have, at: make(map[string]Leaf)}
}

// Close closes the spool's file.
func (s *Spool) Close() error { return coded("close the spool", s.f.Close()) }

// Bytes returns how many bytes of blocks were put.
func (s *Spool) Bytes() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(s.end) //nolint:gosec // it only grows from 0
}

func (s *Spool) find(c cid.Cid) (io.ReaderAt, Leaf, error) {
	s.mu.Lock()
	leaf, ok := s.at[c.KeyString()]
	s.mu.Unlock()
	if ok {
		return s.f, leaf, nil
	}
	id, err := mman.CIDFromBytes(c.Bytes())
	if err != nil {
		return nil, leaf, err
	}
	if leaf, ok = s.have[id]; ok && s.base != nil {
		return s.base, leaf, nil
	}
	return nil, leaf, fmt.Errorf("%w: block %s", mman.ErrNotFound, c)
}

// Has implements Blockstore.
func (s *Spool) Has(_ context.Context, c cid.Cid) (bool, error) {
	_, _, err := s.find(c)
	return err == nil, nil
}

// GetSize implements Blockstore.
func (s *Spool) GetSize(_ context.Context, c cid.Cid) (int, error) {
	_, leaf, err := s.find(c)
	return int(leaf.Size), err
}

// Get implements Blockstore.
func (s *Spool) Get(_ context.Context, c cid.Cid) (blocks.Block, error) {
	from, leaf, err := s.find(c)
	if err != nil {
		return nil, err
	}
	data := make([]byte, leaf.Size)
	if _, err := from.ReadAt(data, leaf.Offset); err != nil {
		return nil, fmt.Errorf("%w: block %s: %w", mman.ErrContent, c, err)
	}
	return blocks.NewBlockWithCid(data, c)
}

// Put implements Blockstore.
func (s *Spool) Put(ctx context.Context, b blocks.Block) error {
	return s.PutMany(ctx, []blocks.Block{b})
}

// PutMany implements Blockstore.
func (s *Spool) PutMany(_ context.Context, list []blocks.Block) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range list {
		key := b.Cid().KeyString()
		if _, ok := s.at[key]; ok {
			continue
		}
		data := b.RawData()
		if _, err := s.f.WriteAt(data, s.end); err != nil {
			return coded("spool a block", err)
		}
		s.at[key] = Leaf{s.end, int64(len(data))}
		s.end += int64(len(data))
	}
	return nil
}

// DeleteBlock implements Blockstore: the block is forgotten, its bytes stay.
func (s *Spool) DeleteBlock(_ context.Context, c cid.Cid) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.at, c.KeyString())
	return nil
}

// AllKeysChan implements Blockstore, for what was put.
func (s *Spool) AllKeysChan(ctx context.Context) (<-chan cid.Cid, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(chan cid.Cid, len(s.at))
	defer close(out)
	for key := range s.at {
		c, err := cid.Cast([]byte(key))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", mman.ErrInternal, err)
		}
		out <- c
	}
	return out, ctx.Err()
}

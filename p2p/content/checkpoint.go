package content

import (
	"bytes"
	"context"
	"io"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p/content/chunk"
)

// A checkpoint is a file whose leaves are cut where its content says so (package
// chunk), so that the next version of it shares all leaves but those that changed.
// Everything else is as in any other file: whoever reads UnixFS reads it.

// definedAhead is how many bytes are read at a time: each byte is moved once for
// every so many.
const definedAhead = 16 * chunk.Max

// buildDefined is build with leaves cut by content.
func buildDefined(ctx context.Context, r io.Reader, emit func(Block) error) (mman.CID, uint64, error) {
	return buildFrom(emit, func(b *builder) (uint64, error) {
		d := defined{cutter: chunk.New(), r: r}
		first, end, err := d.next(ctx)
		if err != nil {
			return 0, err
		}
		if end {
			return uint64(len(first)), b.leaf(NewBlock(mman.CodecRaw, first))
		}
		return b.hashed(first, func() ([]byte, bool, error) { return d.next(ctx) })
	})
}

// defined cuts what a reader gives.
type defined struct {
	cutter *chunk.Cutter
	r      io.Reader
	buf    []byte // read and not cut yet
	store  []byte
	ended  bool
}

// next returns a copy of the next chunk, and whether it is the last.
func (d *defined) next(ctx context.Context) (_ []byte, end bool, err error) {
	if len(d.buf) < chunk.Max && !d.ended {
		if d.store == nil {
			d.store = make([]byte, definedAhead)
		}
		n := copy(d.store, d.buf)
		var more []byte
		if more, d.ended, err = readChunk(ctx, d.r, d.store[n:]); err != nil {
			return nil, false, err
		}
		d.buf = d.store[:n+len(more)]
	}
	n := d.cutter.Cut(d.buf)
	cut := bytes.Clone(d.buf[:n])
	d.buf = d.buf[n:]
	return cut, d.ended && len(d.buf) == 0, nil
}

// AddCheckpoint adds the file r to the public store, cut by content; else it is as
// AddPublic.
func (s *Service) AddCheckpoint(ctx context.Context, r io.Reader) (mman.CID, uint64, error) {
	return s.addingFile(ctx, func(put func([]Block) error) (mman.CID, uint64, error) { return add(ctx, r, buildDefined, put) })
}

// AddCheckpointTo adds the file r to a private store, cut by content; else it is as
// AddTo.
func AddCheckpointTo(ctx context.Context, to *PrivateStore, r io.Reader) (mman.CID, uint64, error) {
	return add(ctx, r, buildDefined, func(batch []Block) error { return to.Put(ctx, batch) })
}

// Leaf is a place in a file that holds a leaf of a checkpoint.
type Leaf struct{ Offset, Size int64 }

// LeavesOf returns where the leaves of the checkpoint of r are in it: what a new
// version of the file need not fetch. It reads r to its end.
func LeavesOf(ctx context.Context, r io.Reader) (map[mman.CID]Leaf, error) {
	leaves, at := make(map[mman.CID]Leaf), int64(0)
	_, _, err := buildDefined(ctx, r, func(b Block) error {
		if b.cid.Codec() == mman.CodecRaw {
			leaves[b.cid] = Leaf{at, int64(len(b.data))}
			at += int64(len(b.data))
		}
		return nil
	})
	return leaves, err
}

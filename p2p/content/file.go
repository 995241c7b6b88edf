package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	uio "github.com/ipfs/boxo/ipld/unixfs/io"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	mman "github.com/limboid/massive-man"
)

// File reads a file by its CID. It is for one goroutine. Close frees it.
type File struct {
	cid  mman.CID
	r    uio.DagReader
	size uint64
	at   uint64

	watch *watch // of a file that comes as it is read
}

// watch ends a read that waits too long for the network.
type watch struct {
	cancel context.CancelFunc
	reads  atomic.Int64 // odd while one goes on
}

// run looks once in every period whether the same read goes on, until ctx ends.
func (w *watch) run(ctx context.Context, after func(time.Duration) <-chan time.Time, period time.Duration) {
	for {
		before := w.reads.Load()
		select {
		case <-ctx.Done():
			return
		case <-after(period):
		}
		if now := w.reads.Load(); now == before && now%2 == 1 {
			w.cancel()
		}
	}
}

// OpenFrom opens the file c from a store alone; ctx bounds every later read. A
// missing root is mman.ErrNotFound. The file may be at most maxBytes long,
// otherwise it is mman.ErrTooLarge.
func OpenFrom(ctx context.Context, from Store, c mman.CID, maxBytes uint64) (*File, error) {
	var bs *checked
	switch s := from.(type) {
	case *PublicStore:
		bs = s.bs
	case *PrivateStore:
		bs = s.bs
	default:
		return nil, fmt.Errorf("%w: open %s from a %T", mman.ErrUnsupported, c, from)
	}
	k, err := toCid(c)
	if err != nil {
		return nil, err
	}
	return openFile(ctx, nodes{bs}, k, c, maxBytes)
}

func openFile(ctx context.Context, dag ipld.NodeGetter, k cid.Cid, c mman.CID, maxBytes uint64) (*File, error) {
	root, err := dag.Get(ctx, k)
	if err != nil {
		return nil, coded("open "+c.String(), err)
	}
	r, err := uio.NewDagReader(ctx, root, dag)
	if err != nil {
		return nil, fmt.Errorf("%w: open %s: it is not a file: %w", mman.ErrUnsupported, c, err)
	}
	if r.Size() > maxBytes {
		return nil, errors.Join(tooLarge(c, r.Size(), maxBytes), r.Close())
	}
	return &File{cid: c, r: r, size: r.Size()}, nil
}

func tooLarge(c mman.CID, size, limit uint64) error {
	return fmt.Errorf("%w: content %s of %d bytes where at most %d are allowed", mman.ErrTooLarge, c, size, limit)
}

// Size returns the length of the file in bytes.
func (f *File) Size() uint64 { return f.size }

// CID returns what was opened.
func (f *File) CID() mman.CID { return f.cid }

// Read implements io.Reader. A file that ends early or late is
// mman.ErrContent.
func (f *File) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	left := f.size - f.at
	if left == 0 {
		return 0, io.EOF
	}
	if uint64(len(p)) > left {
		p = p[:left]
	}
	if f.watch != nil {
		f.watch.reads.Add(1)
		defer f.watch.reads.Add(1)
	}
	n, err := f.r.Read(p)
	f.at += uint64(n) //nolint:gosec // a count is not negative
	switch {
	case errors.Is(err, io.EOF) && f.at < f.size:
		return n, fmt.Errorf("%w: file %s ends after %d of %d bytes", mman.ErrContent, f.cid, f.at, f.size)
	case err == nil, errors.Is(err, io.EOF):
		return n, nil
	default:
		return n, coded("read "+f.cid.String(), err)
	}
}

// Seek implements io.Seeker; a place outside the file is mman.ErrInvalid.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	size, at := int64(f.size), int64(f.at) //nolint:gosec // bounded by maxBytes of real files
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += at
	case io.SeekEnd:
		offset += size
	default:
		return at, fmt.Errorf("%w: seek %s: whence %d", mman.ErrInvalid, f.cid, whence)
	}
	if offset < 0 || offset > size {
		return at, fmt.Errorf("%w: seek %s to %d: the file has %d bytes", mman.ErrInvalid, f.cid, offset, size)
	}
	if _, err := f.r.Seek(offset, io.SeekStart); err != nil {
		return at, coded("seek "+f.cid.String(), err)
	}
	f.at = uint64(offset)
	return offset, nil
}

// Close frees the file; it is safe twice.
func (f *File) Close() error {
	if f.watch != nil {
		f.watch.cancel()
	}
	return coded("close "+f.cid.String(), f.r.Close())
}

// nodes reads the nodes of a DAG from one store and never leaves this machine.
// Its errors are the store's, so that a missing block and a damaged one stay
// apart.
type nodes struct{ bs *checked }

func (n nodes) Get(ctx context.Context, c cid.Cid) (ipld.Node, error) {
	b, err := n.bs.Get(ctx, c)
	if err != nil {
		return nil, err
	}
	if c.Type() == cid.DagProtobuf {
		return merkledag.DecodeProtobufBlock(b)
	}
	return merkledag.NewRawNodeWPrefix(b.RawData(), c.Prefix())
}

// GetMany reads one node at a time and stops at the first that fails. A reader
// that goes away ends ctx.
func (n nodes) GetMany(ctx context.Context, list []cid.Cid) <-chan *ipld.NodeOption {
	out := make(chan *ipld.NodeOption)
	go func() {
		defer close(out)
		for _, c := range list {
			nd, err := n.Get(ctx, c)
			select {
			case out <- &ipld.NodeOption{Node: nd, Err: err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return out
}

package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/sdk/spool"
)

// Remote is a public file that is read where it lies: the blocks with what is read come,
// and, when much is read in one go, a few ahead. It is an io.ReaderAt, one read at a time.
type Remote struct {
	moved *atomic.Uint64
	spool *spool.Spool
	stop  context.CancelFunc
	size  uint64
	read  func(p []byte, off uint64) (int, error)
	open  func() (*content.File, error)

	mu   sync.Mutex
	file *content.File // nil before much was read in one go
	at   int64         // where the last read ended
	run  int64         // how much was read in one go
	pos  int64         // of file
}

// oneGo is how much is read in one go before blocks are fetched ahead, in bytes.
const oneGo = 4 << 20

// OpenRemote opens the public file root, or the one behind the manifest root, without
// fetching it. ctx bounds every later read. What comes is kept in a folder below dir
// until Close. Private content is mman.ErrNotPublic.
func (c *Client) OpenRemote(ctx context.Context, root mman.CID, dir string) (_ *Remote, err error) {
	r := &Remote{moved: new(atomic.Uint64)}
	if r.spool, err = spool.Open(filepath.Join(dir, "read-"+root.String()), r.moved.Store); err != nil {
		return nil, err
	}
	ctx, r.stop = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			r.stop()
			err = errors.Join(err, r.spool.Remove())
		}
	}()
	n, err := c.join(ctx)
	if err != nil {
		return nil, err
	}
	from := n.content.Into(content.NewPublicStore(r.spool))
	go c.seek(ctx, n, root)
	if root.Codec() == mman.CodecDagCBOR {
		m, err := c.Manifest(ctx, root)
		if err != nil {
			return nil, err
		}
		if m.Content.Public.IsZero() {
			return nil, fmt.Errorf("%s %q: %w: its owner keeps it; use it within a lease with mman request run --data, or read it with mman request data where that has a price", m.Kind, m.Name, mman.ErrNotPublic)
		}
		root = m.Content.Public
		go c.seek(ctx, n, root)
	}
	parts, err := from.At(ctx, root, maxExport)
	if err != nil {
		return nil, err
	}
	r.size = parts.Size()
	r.read = func(p []byte, off uint64) (int, error) { return parts.Read(ctx, p, off) }
	r.open = func() (*content.File, error) { return from.Stream(ctx, root, maxExport) }
	return r, nil
}

// Size returns the file's length in bytes.
func (r *Remote) Size() uint64 { return r.size }

// Moved returns how many bytes of blocks came over the network.
func (r *Remote) Moved() uint64 { return r.moved.Load() }

// ReadAt implements io.ReaderAt.
func (r *Remote) ReadAt(p []byte, off int64) (n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if uint64(max(off, 0)) >= r.size {
		return 0, io.EOF
	}
	if off != r.at {
		r.run = 0
	}
	if r.run < oneGo {
		n, err = r.read(p, uint64(max(off, 0)))
	} else {
		n, err = r.ahead(p, off)
	}
	r.run += int64(n)
	r.at = off + int64(n)
	return n, err
}

// ahead reads from the stream of the file.
func (r *Remote) ahead(p []byte, off int64) (n int, err error) {
	if r.file == nil {
		if r.file, err = r.open(); err != nil {
			return 0, err
		}
	}
	if off != r.pos {
		if _, err := r.file.Seek(off, io.SeekStart); err != nil {
			return 0, err
		}
	}
	n, err = io.ReadFull(r.file, p)
	r.pos = off + int64(n)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err //nolint:wrapcheck // the file says which
}

// Close deletes what came.
func (r *Remote) Close() (err error) {
	r.stop()
	if r.file != nil {
		err = r.file.Close()
	}
	return errors.Join(err, r.spool.Remove())
}

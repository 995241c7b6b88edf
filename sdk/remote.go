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

// Remote is a public file that is read where it lies: what is read comes, and a few
// blocks ahead. It is an io.ReaderAt, one read at a time.
type Remote struct {
	moved *atomic.Uint64
	spool *spool.Spool
	stop  context.CancelFunc

	mu   sync.Mutex
	file *content.File
	at   int64
}

// OpenRemote opens the public file root, or the one behind the manifest root, without
// fetching it. ctx bounds every later read. What comes is kept in a folder below dir
// until Close. Private content is mman.ErrNotPublic. As with Fetch, a Client does it
// once.
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
	n, err := c.joinWith(ctx, r.spool)
	if err != nil {
		return nil, err
	}
	go c.seek(ctx, n, root)
	if root.Codec() == mman.CodecDagCBOR {
		m, err := c.Manifest(ctx, root)
		if err != nil {
			return nil, err
		}
		if m.Content.Public.IsZero() {
			return nil, fmt.Errorf("%s %q: %w: its owner keeps it; use it within a lease with mman request run --data", m.Kind, m.Name, mman.ErrNotPublic)
		}
		root = m.Content.Public
		go c.seek(ctx, n, root)
	}
	r.file, err = n.content.Stream(ctx, root, maxExport)
	return r, err
}

// Size returns the file's length in bytes.
func (r *Remote) Size() uint64 { return r.file.Size() }

// Moved returns how many bytes of blocks came over the network.
func (r *Remote) Moved() uint64 { return r.moved.Load() }

// ReadAt implements io.ReaderAt.
func (r *Remote) ReadAt(p []byte, off int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if uint64(max(off, 0)) >= r.file.Size() {
		return 0, io.EOF
	}
	if off != r.at {
		if _, err := r.file.Seek(off, io.SeekStart); err != nil {
			return 0, err
		}
	}
	n, err := io.ReadFull(r.file, p)
	r.at = off + int64(n)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err //nolint:wrapcheck // the file says which
}

// Close deletes what came. The client is of no more use then.
func (r *Remote) Close() error {
	r.stop()
	return errors.Join(r.file.Close(), r.spool.Remove())
}

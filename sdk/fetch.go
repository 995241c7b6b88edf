package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/sdk/spool"
)

const (
	// fetchParallel is how many files of a folder are fetched at a time.
	fetchParallel = 16
	// seekEvery is how often a fetch looks for providers, and maxProviders how many
	// it connects to.
	seekEvery    = time.Second
	maxProviders = 8
)

// Fetched is public content that is here whole, in a folder of its own. Close keeps
// it, so that a fetch that failed goes on from there; Remove deletes it.
type Fetched struct {
	// Root is what was fetched; a manifest counts as a file.
	Root content.Entry
	// Files is how many files it has.
	Files uint64
	// Bytes is how many bytes they have.
	Bytes uint64

	client *Client
	spool  *spool.Spool
}

// Fetch brings the public file or folder root from the network into a folder of its
// own below dir. It may have at most maxBytes, otherwise it is mman.ErrTooLarge.
// wanted is asked when it is known what the root is, and an error of it ends the
// fetch. tell, if set, is told how far it is, by one goroutine at a time. A Client
// fetches once: it has one store.
func (c *Client) Fetch(ctx context.Context, root mman.CID, dir string, maxBytes uint64, wanted func(content.Entry) error, tell func(content.Progress)) (_ *Fetched, err error) {
	meter := content.NewMeter(c.cfg.Now, tell)
	into, err := spool.Open(filepath.Join(dir, root.String()), meter.At)
	if err != nil {
		return nil, err
	}
	f := &Fetched{client: c, spool: into}
	defer func() {
		if err != nil {
			_ = into.Close() // what came stays
		}
	}()
	n, err := c.joinWith(ctx, into)
	if err != nil {
		return nil, err
	}
	seeking, stop := context.WithCancel(ctx)
	defer stop()
	go c.seek(seeking, n, root)
	if f.Root, err = look(ctx, n.content, root); err != nil {
		return nil, err
	}
	if err := wanted(f.Root); err != nil {
		return nil, err
	}
	meter.SetTotal(max(f.Root.Bytes, f.Root.Below))
	if err := f.fetch(ctx, n.content, maxBytes); err != nil {
		return nil, err
	}
	meter.End()
	return f, nil
}

// joinWith enters the network with a store on disk.
func (c *Client) joinWith(ctx context.Context, into *spool.Spool) (*network, error) {
	c.mu.Lock()
	used := c.net != nil
	if !used {
		c.store = content.NewPublicStore(into)
	}
	c.mu.Unlock()
	if used {
		return nil, fmt.Errorf("%w: this client has entered the network before, with another store", mman.ErrUnsupported)
	}
	return c.join(ctx)
}

// seek connects to those who announced a root, and again when they were lost, until
// ctx ends. Bitswap asks whoever is connected, but searches itself only when a fetch
// begins, and what is below a root is announced by nobody.
func (c *Client) seek(ctx context.Context, n *network, root mman.CID) {
	for ctx.Err() == nil {
		found, err := n.disc.FindProviders(ctx, root, maxProviders)
		for _, p := range found {
			_, cerr := n.host.Connect(ctx, p.Addrs)
			err = errors.Join(err, cerr)
		}
		if err != nil && ctx.Err() == nil {
			c.log.DebugContext(ctx, "a provider was not reached", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
		case <-c.cfg.After(seekEvery):
		}
	}
}

// look says what a root is; a manifest is one block.
func look(ctx context.Context, from *content.Service, root mman.CID) (content.Entry, error) {
	if root.Codec() == mman.CodecDagCBOR {
		b, err := from.Block(ctx, root)
		return content.Entry{CID: root, Bytes: uint64(len(b.Data()))}, err
	}
	return from.Folders().Look(ctx, root)
}

// fetch brings all files, several at a time.
func (f *Fetched) fetch(ctx context.Context, from *content.Service, maxBytes uint64) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchParallel)
	file := func(_ string, e content.Entry) error {
		f.Files++
		f.Bytes += e.Bytes
		g.Go(func() error {
			_, err := from.Fetch(gctx, e.CID, e.Bytes)
			return err
		})
		return gctx.Err()
	}
	err := from.Folders().Save(gctx, f.Root, maxBytes, func(string) error { return nil }, file)
	if gerr := g.Wait(); gerr != nil {
		return gerr
	}
	return err
}

// Save calls folder and file for everything that was fetched, a folder before what
// is in it. Paths have slashes, and begin below the root; a file that is the root has
// the path "".
func (f *Fetched) Save(ctx context.Context, folder func(at string) error, file func(at string, r io.Reader) error) error {
	n, err := f.client.join(ctx)
	if err != nil {
		return err
	}
	return n.content.Folders().Save(ctx, f.Root, f.Bytes, folder, func(at string, e content.Entry) error {
		r, err := content.OpenFrom(ctx, n.content.Public(), e.CID, e.Bytes)
		if err != nil {
			return err
		}
		err = file(at, r)
		if cerr := r.Close(); err == nil {
			err = cerr
		}
		return err
	})
}

// ExportCAR writes what was fetched as a CAR file, version 1.
func (f *Fetched) ExportCAR(ctx context.Context, w io.Writer) error {
	n, err := f.client.join(ctx)
	if err != nil {
		return err
	}
	return n.content.ExportCAR(ctx, f.Root.CID, maxExport, w)
}

// maxExport bounds a CAR file: what was fetched is bounded already.
const maxExport = 1 << 60

// Close keeps what was fetched.
func (f *Fetched) Close() error { return f.spool.Close() }

// Remove deletes what was fetched. The client is of no more use then.
func (f *Fetched) Remove() error { return f.spool.Remove() }

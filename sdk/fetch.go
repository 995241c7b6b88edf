package sdk

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"path/filepath"
	"sync/atomic"
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

// Fetched is public content that is here whole, in a folder of its own. Remove deletes
// it; Leave keeps it for another try, when what was done with it failed.
type Fetched struct {
	// Root is what was fetched; a manifest counts as a file.
	Root content.Entry
	// Files is how many files it has.
	Files uint64
	// Bytes is how many bytes they have.
	Bytes uint64
	// Moved is how many bytes of blocks came over the network, without what was there
	// from before.
	Moved uint64

	from  *content.Service
	spool *spool.Spool
}

// Fetch brings the public file or folder root from the network into a folder of its
// own below dir. It may have at most maxBytes, otherwise it is mman.ErrTooLarge.
// wanted is asked when it is known what the root is, and an error of it ends the
// fetch. tell, if set, is told how far it is, by one goroutine at a time. What came
// before an error stays, unless it was mman.ErrContent.
func (c *Client) Fetch(ctx context.Context, root mman.CID, dir string, maxBytes uint64, wanted func(content.Entry) error, tell func(content.Progress)) (*Fetched, error) {
	return c.fetch(ctx, root, dir, wanted, PullOptions{MaxBytes: maxBytes, Progress: tell})
}

// fetch is Fetch; leaves that the bases have are read from there.
func (c *Client) fetch(ctx context.Context, root mman.CID, dir string, wanted func(content.Entry) error, o PullOptions) (_ *Fetched, err error) {
	meter := content.NewMeter(c.cfg.Now, o.Progress)
	var shared atomic.Uint64 // bytes that the bases have
	into, err := spool.Open(filepath.Join(dir, root.String()), func(came uint64) { meter.At(came + shared.Load()) })
	if err != nil {
		return nil, err
	}
	f := &Fetched{spool: into}
	defer func() {
		if err != nil {
			err = f.Leave(err)
		}
	}()
	before, store := into.Bytes(), content.Blockstore(into)
	for _, base := range o.Bases {
		have, err := content.LeavesOf(ctx, io.NewSectionReader(base, 0, math.MaxInt64))
		if err != nil {
			return nil, err
		}
		store = content.NewBased(store, base, have, func(n uint64) { meter.At(shared.Add(n) + into.Bytes()) })
	}
	n, err := c.join(ctx)
	if err != nil {
		return nil, err
	}
	f.from = n.content.Into(content.NewPublicStore(store))
	seeking, stop := context.WithCancel(ctx)
	defer stop()
	go c.seek(seeking, n, root)
	if f.Root, err = look(ctx, f.from, root); err != nil {
		return nil, err
	}
	if err := wanted(f.Root); err != nil {
		return nil, err
	}
	meter.SetTotal(max(f.Root.Bytes, f.Root.Below))
	if err := f.fetch(ctx, o.MaxBytes); err != nil {
		return nil, err
	}
	meter.End()
	f.Moved = into.Bytes() - before
	return f, nil
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
func (f *Fetched) fetch(ctx context.Context, maxBytes uint64) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchParallel)
	file := func(_ string, e content.Entry) error {
		f.Files++
		f.Bytes += e.Bytes
		g.Go(func() error {
			_, err := f.from.Fetch(gctx, e.CID, e.Bytes)
			return err
		})
		return gctx.Err()
	}
	err := f.from.Folders().Save(gctx, f.Root, maxBytes, func(string) error { return nil }, file)
	if gerr := g.Wait(); gerr != nil {
		return gerr
	}
	return err
}

// Save calls folder and file for everything that was fetched, a folder before what
// is in it. Paths have slashes, and begin below the root; a file that is the root has
// the path "".
func (f *Fetched) Save(ctx context.Context, folder func(at string) error, file func(at string, r io.Reader) error) error {
	return f.from.Folders().Save(ctx, f.Root, f.Bytes, folder, func(at string, e content.Entry) error {
		r, err := content.OpenFrom(ctx, f.from.Public(), e.CID, e.Bytes)
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
	return f.from.ExportCAR(ctx, f.Root.CID, maxExport, w)
}

// maxExport bounds a CAR file: what was fetched is bounded already.
const maxExport = 1 << 60

// Leave ends what failed with why, and returns why. What came stays for the next one,
// but not after mman.ErrContent: a block of it is damaged, and would be met again.
func (f *Fetched) Leave(why error) error {
	if errors.Is(why, mman.ErrContent) {
		return errors.Join(why, f.spool.Remove())
	}
	return errors.Join(why, f.spool.Close())
}

// Remove deletes what was fetched, which is of no more use then.
func (f *Fetched) Remove() error { return f.spool.Remove() }

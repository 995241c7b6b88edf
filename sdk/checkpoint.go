package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/protocol/blocks"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk/spool"
)

// Version is one version of a checkpoint that was pulled.
type Version struct {
	Resource mman.CID           `json:"resource"`
	Content  mman.CID           `json:"content"`
	Bytes    uint64             `json:"bytes"`
	Parents  []resources.Parent `json:"parents,omitempty"`
	// Moved is how many bytes of blocks came over the network.
	Moved uint64 `json:"moved_bytes"`
}

// PullOptions set how a version is pulled.
type PullOptions struct {
	// MaxBytes bounds the file. Required.
	MaxBytes uint64
	// Base is another version, of which the leaves that did not change are taken;
	// nil without one.
	Base *os.File
	// Progress is as of blocks.Job; it may be nil.
	Progress func(content.Progress)
}

// memoryPull is the largest file that is pulled by Bitswap, which keeps it in memory.
const memoryPull = 256 << 20

// Pull writes one version of a checkpoint, or any other public resource with content,
// to out. It fetches neither the versions before it nor leaves that Base has. The
// spool of what came is a file without a name beside the system's temporary files.
// Private content is mman.ErrNotPublic.
func (c *Client) Pull(ctx context.Context, resource mman.CID, out io.Writer, o PullOptions) (v Version, err error) {
	m, err := c.Manifest(ctx, resource)
	if err != nil {
		return v, err
	}
	v = Version{Resource: resource, Content: m.Content.Public, Bytes: m.Content.Bytes, Parents: m.Parents}
	if v.Content.IsZero() {
		return v, fmt.Errorf("%s %q: %w: its owner keeps it; use it within a lease with mman request run --data", m.Kind, m.Name, mman.ErrNotPublic)
	}
	held, err := newSpool(ctx, o.Base)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	into := content.NewPrivateStore(held)
	if err := c.fetch(ctx, v.Content, into, o); err != nil {
		return v, fmt.Errorf("pull %s: %w", resource, err)
	}
	v.Moved = held.Bytes()
	f, err := content.OpenFrom(ctx, into, v.Content, o.MaxBytes)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err := io.CopyBuffer(struct{ io.Writer }{out}, f, make([]byte, 1<<20))
	if err == nil && uint64(n) != v.Bytes { //nolint:gosec // a count is not negative
		err = fmt.Errorf("pull %s: %w: its manifest says %d bytes, the content has %d", resource, mman.ErrContent, v.Bytes, n)
	}
	return v, err
}

// fetch brings a public file into a store, in bulk from whoever has it, or else by
// Bitswap.
func (c *Client) fetch(ctx context.Context, root mman.CID, into *content.PrivateStore, o PullOptions) error {
	n, err := c.join(ctx)
	if err != nil {
		return err
	}
	cfg := blocks.Default()
	cfg.Now, cfg.After, cfg.Logger, cfg.Liars = c.cfg.Now, c.cfg.After, c.log, c.liars
	err = blocks.BulkWith(n.host, n.disc, cfg, o.Progress)(ctx, root, o.MaxBytes, into)
	if err == nil || ctx.Err() != nil || errors.Is(err, mman.ErrTooLarge) || errors.Is(err, mman.ErrDiskFull) {
		return err
	}
	f, serr := n.content.Open(ctx, root, min(o.MaxBytes, memoryPull))
	if serr != nil {
		return errors.Join(err, serr)
	}
	if err := copyBlocks(ctx, n.content.Public(), into, root, o.MaxBytes); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

// copyBlocks copies the blocks of a file from one store to another.
func copyBlocks(ctx context.Context, from content.Reader, to content.Store, root mman.CID, maxBytes uint64) error {
	walk := content.NewWalk(root, maxBytes)
	for {
		next := walk.Take(1)
		if len(next) == 0 {
			return nil
		}
		b, err := from.Get(ctx, next[0])
		if err != nil {
			return err
		}
		if err := walk.Accept(b, nil); err != nil {
			return err
		}
		if err := to.Put(ctx, []content.Block{b}); err != nil {
			return err
		}
	}
}

// newSpool makes a spool in a file without a name, over base when it is there.
func newSpool(ctx context.Context, base *os.File) (_ *content.Spool, err error) {
	f, err := spool.Nameless("mman-pull-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if base == nil {
		return content.NewSpool(f, nil, nil), nil
	}
	have, err := content.LeavesOf(ctx, base)
	if err != nil {
		return nil, err
	}
	return content.NewSpool(f, base, have), nil
}

package sdk

import (
	"context"
	"fmt"
	"io"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/resources"
)

// Version is one version of a checkpoint that was pulled.
type Version struct {
	Resource mman.CID           `json:"resource"`
	Content  mman.CID           `json:"content"`
	Bytes    uint64             `json:"bytes"`
	Parents  []resources.Parent `json:"parents,omitempty"`
	// Moved is how many bytes of blocks came over the network now: neither what a
	// base has, nor what was there from a pull that broke.
	Moved uint64 `json:"moved_bytes"`
}

// PullOptions set how a version is pulled.
type PullOptions struct {
	// MaxBytes bounds the file. Required.
	MaxBytes uint64
	// Bases are other versions, of which the leaves that did not change are taken.
	Bases []io.ReaderAt
	// Progress is told how far it is, by one goroutine at a time; it may be nil.
	Progress func(content.Progress)
}

// Pull brings one version of a checkpoint, or any other public resource with content,
// into a folder below dir, as Fetch does: neither the versions before it, nor leaves
// that a base has. The bases are read until what was fetched is saved. Private content is
// mman.ErrNotPublic.
func (c *Client) Pull(ctx context.Context, resource mman.CID, dir string, o PullOptions) (*Fetched, Version, error) {
	m, err := c.Manifest(ctx, resource)
	if err != nil {
		return nil, Version{}, err
	}
	v := Version{Resource: resource, Content: m.Content.Public, Bytes: m.Content.Bytes, Parents: m.Parents}
	if v.Content.IsZero() {
		return nil, v, fmt.Errorf("%s %q: %w: its owner keeps it; use it within a lease with mman request run --data", m.Kind, m.Name, mman.ErrNotPublic)
	}
	f, err := c.fetch(ctx, v.Content, dir, v.is, o)
	if err != nil {
		return nil, v, fmt.Errorf("pull %s: %w", resource, err)
	}
	v.Moved = f.Moved
	return f, v, nil
}

// is refuses content that is not what the manifest says.
func (v Version) is(e content.Entry) error {
	switch {
	case e.Folder:
		return fmt.Errorf("%w: %s is a folder: fetch it with mman get", mman.ErrUnsupported, v.Content)
	case e.Bytes != v.Bytes:
		return fmt.Errorf("%w: its manifest says %d bytes, the content has %d", mman.ErrContent, v.Bytes, e.Bytes)
	default:
		return nil
	}
}

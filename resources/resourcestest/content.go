package resourcestest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// Content is an Opener over blobs in memory. The zero value is empty and ready;
// it is safe for concurrent use.
type Content struct {
	mu      sync.Mutex
	blobs   map[mman.CID][]byte
	blocked map[mman.CID]chan struct{}
	open    int
}

var _ resources.Opener = (*Content)(nil)

// Add puts a blob in and returns its CID. It keeps b.
func (c *Content) Add(b []byte) mman.CID {
	id := mman.SumCID(mman.CodecRaw, b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.blobs == nil {
		c.blobs = map[mman.CID][]byte{}
	}
	c.blobs[id] = b
	return id
}

// AddBlocked is Add for a blob whose reads block until their context ends. The
// returned channel is closed when the first read has begun.
func (c *Content) AddBlocked(b []byte) (mman.CID, <-chan struct{}) {
	id := c.Add(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.blocked == nil {
		c.blocked = map[mman.CID]chan struct{}{}
	}
	c.blocked[id] = make(chan struct{})
	return id, c.blocked[id]
}

// Replace gives a CID other bytes, as a store does that lies.
func (c *Content) Replace(id mman.CID, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blobs[id] = b
}

// Forget removes a blob.
func (c *Content) Forget(id mman.CID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.blobs, id)
}

// Opened returns how many blobs are open.
func (c *Content) Opened() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// Open opens a blob, or fails with mman.ErrNotFound.
func (c *Content) Open(ctx context.Context, id mman.CID) (resources.Blob, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b, ok := c.blobs[id]
	if !ok {
		return nil, fmt.Errorf("%w: %s", mman.ErrNotFound, id)
	}
	c.open++
	begun := c.blocked[id]
	opened := &blob{Reader: bytes.NewReader(b), content: c}
	if begun != nil {
		var once sync.Once
		opened.block = func() error {
			once.Do(func() { close(begun) })
			<-ctx.Done()
			return ctx.Err()
		}
	}
	return opened, nil
}

type blob struct {
	*bytes.Reader
	content *Content
	block   func() error
	closed  bool
}

// Size returns the blob's size in bytes.
func (b *blob) Size() uint64 { return uint64(b.Reader.Size()) }

// Read reads at most 1000 bytes, so that short reads are met.
func (b *blob) Read(p []byte) (int, error) {
	if b.closed {
		return 0, fs.ErrClosed
	}
	if b.block != nil {
		return 0, b.block()
	}
	return b.Reader.Read(p[:min(len(p), 1000)])
}

// Close closes the blob, once.
func (b *blob) Close() error {
	b.content.mu.Lock()
	defer b.content.mu.Unlock()
	if b.closed {
		return errors.New("a blob was closed twice")
	}
	b.closed = true
	b.content.open--
	return nil
}

package prepare

import (
	"context"
	"errors"
	"fmt"
	"sync"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/folder"
)

// Sizes are the sizes of what a task reads, in bytes.
type Sizes struct {
	Stdin  uint64
	Inputs []uint64 // one for each of resources.Task.Inputs
	// Folders are what is in an input that is a folder, nil for others; one for each.
	Folders [][]folder.Entry
	Total   uint64 // at most resources.Limits.InputBytes
}

// Measure opens what a task reads for its size. What exceeds the limit is
// mman.ErrInputLimit; errors else are those of its Content.
func Measure(ctx context.Context, t resources.Task) (s Sizes, err error) {
	add := func(what string, id mman.CID) (uint64, error) {
		size, err := SizeOf(ctx, t, what, id)
		if err != nil {
			return 0, err
		}
		if size > t.Limits.InputBytes-s.Total {
			return 0, fmt.Errorf("%w: with the %d bytes of %s %s the inputs exceed %d bytes", mman.ErrInputLimit, size, what, id, t.Limits.InputBytes)
		}
		s.Total += size
		return size, nil
	}
	if !t.Stdin.IsZero() {
		if s.Stdin, err = add("stdin", t.Stdin); err != nil {
			return s, err
		}
	}
	for i, id := range t.Inputs {
		size, err := add(fmt.Sprintf("input %d", i), id)
		if err != nil {
			return s, err
		}
		s.Inputs = append(s.Inputs, size)
		var inside []folder.Entry
		if t.IsFolder(i) {
			if inside, err = list(ctx, t, id, size); err != nil {
				return s, fmt.Errorf("input %d: %w", i, err)
			}
		}
		s.Folders = append(s.Folders, inside)
	}
	return s, nil
}

// list reads what is in a folder; an empty one is not nil.
func list(ctx context.Context, t resources.Task, id mman.CID, size uint64) (_ []folder.Entry, err error) {
	blob, err := t.Content.Open(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("open folder %s: %w", id, err)
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	found, err := folder.Read(blob, size)
	return append([]folder.Entry{}, found...), err
}

// SizeOf opens a content of a task for its size; what names it in errors.
func SizeOf(ctx context.Context, t resources.Task, what string, id mman.CID) (uint64, error) {
	blob, err := t.Content.Open(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("open %s %s: %w", what, id, err)
	}
	size := blob.Size()
	if err := blob.Close(); err != nil {
		return 0, fmt.Errorf("close %s %s: %w", what, id, err)
	}
	return size, nil
}

// Error returns why preparing failed: when its context ended, that too, as the
// mman.ErrTimeout that ended it or as mman.ErrCanceled.
func Error(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	switch {
	case cause == nil:
		return err
	case errors.Is(cause, mman.ErrTimeout):
		return fmt.Errorf("%w: %w", cause, err)
	default:
		return fmt.Errorf("%w: %w", mman.ErrCanceled, err)
	}
}

// Claim is a prepared task's hold on what it runs, which it may run once. It is safe
// for concurrent use.
type Claim struct {
	once    sync.Once
	release func()
	mu      sync.Mutex
	taken   bool
}

// NewClaim returns a claim that is let go with release.
func NewClaim(release func()) *Claim { return &Claim{release: release} }

// Take marks the task as run, which is mman.ErrInvalid the second time and after
// Close.
func (c *Claim) Take() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken {
		return fmt.Errorf("%w: a prepared task runs once, and not after Close; prepare it again", mman.ErrInvalid)
	}
	c.taken = true
	return nil
}

// Release lets go of what the task runs. Safe twice.
func (c *Claim) Release() { c.once.Do(c.release) }

// Close frees a task that will not run; during a run it does nothing. Safe twice.
func (c *Claim) Close() error {
	if c.Take() == nil {
		c.Release()
	}
	return nil
}

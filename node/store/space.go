package store

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	mman "github.com/limboid/massive-man"
)

// spaceStep is how many bytes are written between two looks at the disk.
const spaceStep = 8 << 20

// space refuses writes before the disk is full. The database maps its files
// into memory: without this, a full disk is a bus error and not an error.
type space struct {
	dir     string
	minFree int64
	left    atomic.Int64 // bytes that may be written before the next look
}

// take asks for room for n bytes.
func (s *space) take(n int64) error {
	if s.left.Add(-n) >= 0 {
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(s.dir, &fs); err != nil {
		return fmt.Errorf("%w: look at the free space of %s: %w", mman.ErrHome, s.dir, err)
	}
	free := int64(min(fs.Bavail, 1<<40)) * int64(fs.Bsize) //nolint:unconvert // bounded; the field has another type on another system
	if free-n < s.minFree {
		s.left.Store(0)
		return fmt.Errorf("%w: %d MiB are free under %s and %d MiB must stay free: free some space",
			mman.ErrDiskFull, free>>20, s.dir, s.minFree>>20)
	}
	s.left.Store(min(spaceStep, (free-n-s.minFree)/2))
	return nil
}

package store

import (
	"fmt"

	"golang.org/x/sys/unix"

	mman "github.com/limboid/massive-man"
)

// space refuses writes before the disk is full. The database maps its files
// into memory: without this, a full disk is a bus error and not an error.
type space struct {
	dir     string
	minFree int64
}

// Room returns what asks for room on the disk under dir: mman.ErrDiskFull when fewer
// than minFree bytes would stay free. It is safe for concurrent use.
func Room(dir string, minFree int64) func(bytes int64) error { return (&space{dir, minFree}).take }

// take asks for room for n bytes. It looks at the disk each time, which takes a
// microsecond: others fill the disk too, however little is written here.
func (s *space) take(n int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(s.dir, &fs); err != nil {
		return fmt.Errorf("%w: look at the free space of %s: %w", mman.ErrHome, s.dir, err)
	}
	free := int64(min(fs.Bavail, 1<<40)) * int64(fs.Bsize) //nolint:unconvert // bounded; the field has another type on another system
	if free-n < s.minFree {
		return fmt.Errorf("%w: %d MiB are free under %s and %d MiB must stay free: free some space",
			mman.ErrDiskFull, free>>20, s.dir, s.minFree>>20)
	}
	return nil
}

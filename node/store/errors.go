package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/y"

	mman "github.com/limboid/massive-man"
)

// The database library drops the chain of wrapped errors, so some kinds can
// only be told by their text; the tests pin each of them.

// openError says why a database folder does not open.
func openError(dir string, err error) error {
	text := err.Error()
	switch {
	case isDiskFull(err):
		return fmt.Errorf("open %s: %w: free some space and start again: %w", dir, mman.ErrDiskFull, err)
	case isHeld(err):
		return fmt.Errorf("open %s: %w%s: stop it, or use another home", dir, mman.ErrOtherHolder, holder(dir))
	case errors.Is(err, fs.ErrPermission) || strings.Contains(text, syscall.EACCES.Error()),
		strings.Contains(text, syscall.EROFS.Error()), errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		return fmt.Errorf("open %s: %w: make it a folder that this user can write: %w", dir, mman.ErrHome, err)
	}
	return fmt.Errorf("open %s: %w: move the folder away and let the node fetch its contents again: %w", dir, mman.ErrCorrupt, err)
}

// isHeld reports whether a database did not open because somebody has it open.
func isHeld(err error) bool { return strings.Contains(err.Error(), "Cannot acquire directory lock") }

// holder names the process that the lock file names, when it does.
func holder(dir string) string {
	pid, err := os.ReadFile(filepath.Join(dir, "LOCK")) //nolint:gosec // a folder of our own
	if err != nil || len(pid) == 0 || len(pid) > 20 {
		return ""
	}
	return " (process " + strings.TrimSpace(string(pid)) + ")"
}

// wrap gives an error of an open database its code; nil stays nil.
func wrap(doing string, err error) error {
	var coded *mman.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &coded):
		return fmt.Errorf("%s: %w", doing, err)
	case isDiskFull(err):
		return fmt.Errorf("%s: %w: %w", doing, mman.ErrDiskFull, err)
	case errors.Is(err, badger.ErrDBClosed), errors.Is(err, badger.ErrBlockedWrites):
		return fmt.Errorf("%s: %w: the store is closed", doing, mman.ErrCanceled)
	case errors.Is(err, y.ErrChecksumMismatch), errors.Is(err, badger.ErrTruncateNeeded), strings.Contains(err.Error(), "checksum"):
		return fmt.Errorf("%s: %w: %w", doing, mman.ErrCorrupt, err)
	}
	return fmt.Errorf("%s: %w: %w", doing, mman.ErrInternal, err)
}

func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		strings.Contains(err.Error(), syscall.ENOSPC.Error()) || strings.Contains(err.Error(), syscall.EDQUOT.Error())
}

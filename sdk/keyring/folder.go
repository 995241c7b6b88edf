package keyring

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	mman "github.com/limboid/massive-man"
)

const (
	folderMode = 0o700
	fileMode   = 0o600
	openToAll  = 0o077 // the bits of the group and of others

	maxFileBytes = 8 << 10
	guardFile    = ".lock" // held while a file is added
	unfinished   = ".new"
)

// folder is an open folder of secret files. It is opened for each operation, so
// that nothing has to be closed later and a folder that was moved is noticed.
type folder struct {
	path string
	root *os.Root
}

// openFolder opens path, which must belong to the user alone. With create, it
// makes a folder that is missing.
func openFolder(path string, create bool) (*folder, error) {
	if create {
		if err := makeFolder(path); err != nil {
			return nil, fmt.Errorf("%w: folder %s: %w", mman.ErrKeyfile, path, err)
		}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: folder %s does not exist", mman.ErrNotFound, path)
		}
		return nil, fmt.Errorf("%w: folder %s: %w", mman.ErrKeyfile, path, err)
	}
	info, err := root.Stat(".")
	if err == nil && info.Mode().Perm()&openToAll != 0 {
		err = fmt.Errorf("others may enter it (mode %04o), run: chmod 700 %s", info.Mode().Perm(), path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: folder %s: %w", mman.ErrKeyfile, path, err), root.Close())
	}
	return &folder{path, root}, nil
}

func makeFolder(path string) error {
	if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(path, folderMode); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close()) // or the folder may be gone after a power cut
}

// close frees the folder's descriptor; nothing can be lost by its failure.
func (f *folder) close() { _ = f.root.Close() }

// read returns a file of at most maxFileBytes that belongs to the user alone.
// Its error wraps fs.ErrNotExist when there is none.
func (f *folder) read(name string) ([]byte, error) {
	file, err := f.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read from
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	case info.Mode().Perm()&openToAll != 0:
		return nil, fmt.Errorf("others may read it (mode %04o), run: chmod 600 %s", info.Mode().Perm(), filepath.Join(f.path, name))
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err == nil && len(data) > maxFileBytes {
		err = fmt.Errorf("it is larger than %d bytes", maxFileBytes)
	}
	return data, err
}

// add writes a new file, whole or not at all, and so that it outlives a power
// cut. Its error wraps fs.ErrExist when the name is taken.
func (f *folder) add(name string, data []byte) (err error) {
	guard, err := f.lock(guardFile)
	if err != nil {
		return err
	}
	defer guard()
	if _, err := f.root.Lstat(name); err == nil {
		return fs.ErrExist
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// The lock is ours, so an unfinished file is what a crash left.
	if err := f.root.Remove(unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := f.root.OpenFile(unfinished, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = f.root.Rename(unfinished, name)
	}
	if err != nil {
		return errors.Join(err, f.root.Remove(unfinished))
	}
	return f.sync()
}

func (f *folder) sync() error {
	dir, err := f.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// lock waits until this process alone holds the named lock file, and returns
// how to give it up. A dead process holds nothing.
func (f *folder) lock(name string) (unlock func(), err error) {
	file, err := f.root.OpenFile(name, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	if err := flock(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() { _ = file.Close() }, nil // closing gives the lock up
}

func flock(file *os.File) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var locked error
	err = conn.Control(func(fd uintptr) {
		for {
			locked = unix.Flock(int(fd), unix.LOCK_EX)
			if !errors.Is(locked, unix.EINTR) {
				return
			}
		}
	})
	return errors.Join(err, locked)
}

// checkName refuses names that are no [a-z0-9_-]{1,limit}.
func checkName(what, name string, limit int) error {
	bad := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-'
	}
	if name == "" || len(name) > limit || strings.ContainsFunc(name, bad) {
		return fmt.Errorf("%w: name of a %s %.80q: use 1 to %d of a-z, 0-9, _ and -", mman.ErrInvalid, what, name, limit)
	}
	return nil
}

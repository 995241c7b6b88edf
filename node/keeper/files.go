package keeper

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	mman "github.com/limboid/massive-man"
	vault "github.com/limboid/massive-man/abci/storage"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market/storage"
)

const (
	suffixPart = ".part"
	suffixTree = ".tree"
	// maxTree bounds a file of hashes: of a replica of 2 TiB.
	maxTree = 512 << 20
)

// files are the replicas on disk.
type files struct{ dir string }

func (f files) path(n vault.Name) string {
	return filepath.Join(f.dir, fmt.Sprintf("%s-%d", n.Lease, n.Replica))
}

// parse reads the name of a file; ok is false for one that is not ours.
func parse(name string) (n vault.Name, ok bool) {
	name = strings.TrimSuffix(strings.TrimSuffix(name, suffixPart), suffixTree)
	lease, number, found := strings.Cut(name, "-")
	if b, err := hex.DecodeString(lease); err != nil || len(b) != mman.IDSize || !found {
		return n, false
	}
	i, err := strconv.ParseUint(number, 10, 8)
	if err != nil || n.Lease.UnmarshalText([]byte(lease)) != nil {
		return n, false
	}
	n.Replica = uint8(i)
	return n, true
}

// kept returns the replicas of which there is any file.
func (f files) kept() (map[vault.Name]bool, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	out := make(map[vault.Name]bool)
	for _, e := range entries {
		if n, ok := parse(e.Name()); ok {
			out[n] = true
		}
	}
	return out, nil
}

// remove deletes all of a replica.
func (f files) remove(n vault.Name) error {
	var errs []error
	for _, suffix := range []string{"", suffixPart, suffixTree} {
		if err := os.Remove(f.path(n) + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("%w: %w", mman.ErrHome, err))
		}
	}
	return errors.Join(errs...)
}

// tree reads the hashes of a whole replica with that root; mman.ErrNotFound.
func (f files) tree(n vault.Name, root mman.Hash) (storage.Tree, error) {
	file, err := os.Open(f.path(n) + suffixTree)
	if err != nil {
		return storage.Tree{}, fmt.Errorf("%w: replica %d of lease %s", mman.ErrNotFound, n.Replica, n.Lease)
	}
	b, err := io.ReadAll(io.LimitReader(file, maxTree))
	if err = errors.Join(err, file.Close()); err != nil {
		return storage.Tree{}, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	t, err := dagcbor.Unmarshal[storage.Tree](b, maxTree)
	if err != nil || t.Root != root {
		return t, fmt.Errorf("%w: replica %d of lease %s with the root %s", mman.ErrNotFound, n.Replica, n.Lease, root)
	}
	return t, nil
}

// part is a replica that is on its way.
type part struct {
	files files
	name  vault.Name
	f     *os.File
	size  uint64
	at    uint64
	root  mman.Hash
}

// part opens what there is of a replica.
func (f files) part(n vault.Name, size uint64, root mman.Hash) (*part, error) {
	file, err := os.OpenFile(f.path(n)+suffixPart, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, diskError(err)
	}
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil || uint64(end) > size { //nolint:gosec // a length is not negative
		if err = errors.Join(err, file.Truncate(0)); err != nil {
			return nil, errors.Join(diskError(err), file.Close())
		}
		if end, err = file.Seek(0, io.SeekStart); err != nil {
			return nil, errors.Join(diskError(err), file.Close())
		}
	}
	return &part{f, n, file, size, uint64(end), root}, nil //nolint:gosec // as above
}

// Size returns the replica's length.
func (p *part) Size() uint64 { return p.size }

// Offset returns how much of it is here.
func (p *part) Offset() uint64 { return p.at }

// Write appends.
func (p *part) Write(b []byte) (int, error) {
	if uint64(len(b)) > p.size-p.at {
		return 0, fmt.Errorf("%w: more than the %d bytes of the replica", mman.ErrTooLarge, p.size)
	}
	n, err := p.f.Write(b)
	p.at += uint64(n) //nolint:gosec // a count is not negative
	return n, diskError(err)
}

// Close closes the file; what there is stays. It is safe twice.
func (p *part) Close() error {
	if err := p.f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return diskError(err)
	}
	return nil
}

// finish compares a whole replica with its root and gives it its name. One that is
// not what the lease says is deleted; mman.ErrContent.
func (p *part) finish() error {
	if _, err := p.f.Seek(0, io.SeekStart); err != nil {
		return diskError(err)
	}
	tree, err := storage.Plant(p.f)
	if err != nil {
		return err
	}
	if tree.Root != p.root || tree.Bytes != p.size {
		return errors.Join(fmt.Errorf("%w: replica %d of lease %s: %d bytes with the root %s came, the lease says %d with %s",
			mman.ErrContent, p.name.Replica, p.name.Lease, tree.Bytes, tree.Root, p.size, p.root), p.Close(), p.files.remove(p.name))
	}
	if err := errors.Join(p.f.Sync(), p.f.Close()); err != nil {
		return diskError(err)
	}
	b, err := dagcbor.Marshal(tree)
	if err != nil {
		return err
	}
	path := p.files.path(p.name)
	if err := os.Rename(path+suffixPart, path); err != nil {
		return diskError(err)
	}
	// The hashes last: where they are, the replica is whole.
	if err := writeSynced(path+suffixTree, b); err != nil {
		return err
	}
	return syncDir(p.files.dir)
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path+suffixPart, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // a folder of our own
	if err != nil {
		return diskError(err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return diskError(err)
	}
	return diskError(os.Rename(path+suffixPart, path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // a folder of our own
	if err != nil {
		return diskError(err)
	}
	return diskError(errors.Join(d.Sync(), d.Close()))
}

// diskError gives an error of a file its code.
func diskError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: keep a replica: %w", mman.ErrDiskFull, err)
	default:
		return fmt.Errorf("%w: keep a replica: %w", mman.ErrHome, err)
	}
}

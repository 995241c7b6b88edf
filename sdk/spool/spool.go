package spool

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"
	"golang.org/x/sys/unix"

	mman "github.com/limboid/massive-man"
)

const (
	// lockName is the file by which one process has the folder.
	lockName = "lock"
	// partPrefix begins the name of a file that is being written.
	partPrefix = "part-"
	// maxUnsynced is how many files are written before they are brought to disk.
	maxUnsynced = 1024
)

// Spool is a block store in a folder. It is safe for concurrent use.
type Spool struct {
	dir  string
	lock *os.File
	tell func(bytes uint64)

	mu       sync.Mutex
	bytes    uint64
	unsynced []string
}

// Open makes the folder or opens it again. tell, if set, is called with the bytes
// of all blocks whenever some came, also concurrently. A folder that another process
// has is mman.ErrOtherHolder.
func Open(dir string, tell func(bytes uint64)) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, coded("make folder "+dir, err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // in the folder that is named
	if err != nil {
		return nil, coded("open folder "+dir, err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		err = fmt.Errorf("%w: another mman fetches into %s: wait for it", mman.ErrOtherHolder, dir)
		return nil, errors.Join(err, lock.Close())
	}
	s := &Spool{dir: dir, lock: lock, tell: tell}
	if err := s.measure(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

// measure counts what is there and removes what is not whole.
func (s *Spool) measure() error {
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() || d.Name() == lockName:
			return nil
		case strings.HasPrefix(d.Name(), partPrefix):
			return os.Remove(path) //nolint:gosec // nobody else has the folder
		}
		info, err := d.Info()
		if err == nil {
			s.bytes += uint64(info.Size()) //nolint:gosec // sizes are not negative
		}
		return err
	})
	return coded("read folder "+s.dir, err)
}

// Bytes returns the bytes of all blocks, with those that were there from before.
func (s *Spool) Bytes() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// Close lets others have the folder.
func (s *Spool) Close() error { return coded("close folder "+s.dir, s.lock.Close()) }

// Remove deletes the folder and closes it.
func (s *Spool) Remove() error {
	return errors.Join(coded("remove folder "+s.dir, os.RemoveAll(s.dir)), s.Close())
}

// path returns where a block is. The codec does not matter, as in every store here.
func (s *Spool) path(c cid.Cid) string {
	name := hex.EncodeToString(c.Hash())
	return filepath.Join(s.dir, name[len(name)-2:], name)
}

// Has implements content.Blockstore.
func (s *Spool) Has(ctx context.Context, c cid.Cid) (bool, error) {
	_, err := s.GetSize(ctx, c)
	if ipld.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// GetSize implements content.Blockstore.
func (s *Spool) GetSize(_ context.Context, c cid.Cid) (int, error) {
	if !c.Defined() {
		return -1, ipld.ErrNotFound{Cid: c}
	}
	info, err := os.Stat(s.path(c))
	if err != nil {
		return -1, missing(c, err)
	}
	return int(info.Size()), nil
}

// Get implements content.Blockstore.
func (s *Spool) Get(_ context.Context, c cid.Cid) (blocks.Block, error) {
	if !c.Defined() {
		return nil, ipld.ErrNotFound{Cid: c}
	}
	b, err := os.ReadFile(s.path(c))
	if err != nil {
		return nil, missing(c, err)
	}
	block, err := blocks.NewBlockWithCid(b, c)
	return block, coded("block "+c.String(), err)
}

// Put implements content.Blockstore.
func (s *Spool) Put(ctx context.Context, b blocks.Block) error {
	return s.PutMany(ctx, []blocks.Block{b})
}

// PutMany implements content.Blockstore.
func (s *Spool) PutMany(ctx context.Context, list []blocks.Block) error {
	for _, b := range list {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%w: store blocks: %w", mman.ErrCanceled, err)
		}
		if has, err := s.Has(ctx, b.Cid()); err != nil || has {
			if err != nil {
				return err
			}
			continue
		}
		if err := s.write(s.path(b.Cid()), b.RawData()); err != nil {
			return coded("store block "+b.Cid().String(), err)
		}
	}
	return nil
}

func (s *Spool) write(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	var salt [8]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return err
	}
	part := filepath.Join(filepath.Dir(path), partPrefix+hex.EncodeToString(salt[:]))
	if err := os.WriteFile(part, data, 0o600); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	if err := os.Rename(part, path); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	s.mu.Lock()
	s.bytes += uint64(len(data))
	bytes, full := s.bytes, len(s.unsynced) == maxUnsynced
	s.unsynced = append(s.unsynced, path)
	s.mu.Unlock()
	if s.tell != nil {
		s.tell(bytes)
	}
	if full {
		return s.Sync()
	}
	return nil
}

// Sync returns when what was put before is safe from a crash of the machine.
func (s *Spool) Sync() error {
	s.mu.Lock()
	list := s.unsynced
	s.unsynced = nil
	s.mu.Unlock()
	for _, path := range list {
		f, err := os.Open(path) //nolint:gosec // made here
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted since
		}
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err != nil {
			return coded("sync folder "+s.dir, err)
		}
	}
	return nil
}

// DeleteBlock implements content.Blockstore.
func (s *Spool) DeleteBlock(ctx context.Context, c cid.Cid) error {
	n, err := s.GetSize(ctx, c)
	if ipld.IsNotFound(err) {
		return nil
	}
	if err == nil {
		err = os.Remove(s.path(c))
	}
	if err != nil {
		return coded("delete block "+c.String(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes -= uint64(n) //nolint:gosec // a size
	return nil
}

// AllKeysChan implements content.Blockstore: it sends every block's CID, with the
// codec raw.
func (s *Spool) AllKeysChan(ctx context.Context) (<-chan cid.Cid, error) {
	out := make(chan cid.Cid)
	go func() {
		defer close(out)
		_ = filepath.WalkDir(s.dir, func(_ string, d fs.DirEntry, err error) error { // what cannot be read is not listed
			if err != nil || d.IsDir() {
				return err
			}
			raw, err := hex.DecodeString(d.Name())
			if err != nil {
				return nil //nolint:nilerr // not a block
			}
			hash, err := multihash.Cast(raw)
			if err != nil {
				return nil //nolint:nilerr // likewise
			}
			select {
			case out <- cid.NewCidV1(cid.Raw, hash):
				return nil
			case <-ctx.Done():
				return fs.SkipAll
			}
		})
	}()
	return out, nil
}

func missing(c cid.Cid, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return ipld.ErrNotFound{Cid: c}
	}
	return coded("block "+c.String(), err)
}

// coded gives an error of the system its number.
func coded(did string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: free some space and fetch again, it goes on from what came: %s: %w", mman.ErrDiskFull, did, err)
	default:
		return fmt.Errorf("%w: %s: %w", mman.ErrHome, did, err)
	}
}

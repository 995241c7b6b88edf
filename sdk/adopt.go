package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/sdk/chain"
	"github.com/limboid/massive-man/sdk/submit"
)

const (
	// newPrefix begins the name of the folder of a storage lease that is not one yet.
	newPrefix = "new-"
	// newLock, in such a folder, is locked by the process that is at work in it; in the
	// folder of all of them, by the one that makes, takes or ends one.
	newLock = "lock"
)

// handing is what such a folder keeps as soon as a transaction may have been handed
// over.
type handing struct {
	Stored

	// Consumer signed the transactions, of which at most one gets into a block.
	Consumer mman.Address    `json:"consumer"`
	Handed   []submit.Handed `json:"handed"`
}

// lease returns the id of the lease that a transaction makes.
func (h handing) lease(i int) mman.LeaseID { return mman.NewStorageID(h.ChainID, h.Handed[i].Hash, 0) }

// making is the folder of a storage lease that is not one yet, which this process has.
type making struct {
	c    *Client
	dir  string
	lock *os.File
}

// fate is what became of such a folder.
type fate int

const (
	// waits: it may still become that of a lease, or nobody knows.
	waits fate = iota
	adopted
	removed
)

// Adopt sees to what a Store that was cut off left: when the ledger has its lease, the
// keys and what was encrypted become those of that lease; when it cannot have it any
// more, they are deleted. What another process is at work on, and what may still become
// a lease, stays.
func (c *Client) Adopt(ctx context.Context) error {
	entries, err := os.ReadDir(c.StorageDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	var errs []error
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), newPrefix) {
			continue
		}
		dir := filepath.Join(c.StorageDir(), e.Name())
		m, err := c.takeMaking(dir)
		if errors.Is(err, mman.ErrOtherHolder) || errors.Is(err, fs.ErrNotExist) {
			continue // somebody sees to it, or did
		}
		if err == nil {
			_, _, err = m.settle(ctx)
			err = errors.Join(err, m.lock.Close())
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("what a store that was cut off left in %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}

// alone runs do while no other process makes, takes or ends a folder of a new lease.
// That is done in milliseconds: the wait is bounded without ctx.
func (c *Client) alone(do func() error) (err error) {
	f, err := os.OpenFile(filepath.Join(c.StorageDir(), newLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("%w: lock %s: %w", mman.ErrHome, f.Name(), err)
	}
	return do()
}

// newMaking makes a folder.
func (c *Client) newMaking() (m *making, err error) {
	if err := os.MkdirAll(c.StorageDir(), 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	err = c.alone(func() error {
		dir, err := os.MkdirTemp(c.StorageDir(), newPrefix+"*")
		if err != nil {
			return fmt.Errorf("%w: %w", mman.ErrHome, err)
		}
		lock, err := tryLock(filepath.Join(dir, newLock))
		if err != nil {
			return err
		}
		if err := syncDir(c.StorageDir()); err != nil {
			return errors.Join(err, lock.Close())
		}
		m = &making{c, dir, lock}
		return nil
	})
	return m, err
}

// takeMaking takes a folder that another process left; mman.ErrOtherHolder when one is
// at work in it.
func (c *Client) takeMaking(dir string) (m *making, err error) {
	err = c.alone(func() error {
		lock, err := tryLock(filepath.Join(dir, newLock))
		m = &making{c, dir, lock}
		return err
	})
	return m, err
}

// noting returns what brings the keys, and the name of each transaction, to the disk
// before it is handed over.
func (m *making) noting(made Stored, consumer mman.Address) func(submit.Handed) error {
	kept := handing{Stored: made, Consumer: consumer}
	return func(h submit.Handed) error {
		kept.Handed = append(kept.Handed, h)
		return writeStored(m.dir, kept)
	}
}

// broke settles after a submission that failed, and says how to go on.
func (m *making) broke(ctx context.Context, cause error) (Stored, error) {
	kept, became, err := m.settle(ctx)
	switch {
	case became == removed:
		return Stored{}, errors.Join(cause, err)
	case became == adopted:
		return kept.Stored, fmt.Errorf("%w; go on with mman request store --resume %s", errors.Join(cause, err), kept.Lease)
	case len(kept.Handed) == 0:
		return Stored{}, fmt.Errorf("%w; the keys are kept in %s", errors.Join(cause, err), m.dir)
	}
	// Why it cannot be known now is most often the cause.
	id := kept.lease(len(kept.Handed) - 1)
	return Stored{}, fmt.Errorf("%w; the keys are kept: when it is in a block, go on with mman request store --resume %s", cause, id)
}

// settle finds out what became of the folder's lease, and returns what the folder kept.
func (m *making) settle(ctx context.Context) (kept handing, became fate, err error) {
	err = readStored(m.dir, &kept)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return kept, removed, m.remove() // nothing was handed over
	case err == nil && kept.Lease != (mman.LeaseID{}):
		return kept, adopted, m.keep(kept.Stored) // it was known already
	case err != nil || kept.ChainID != m.c.chainID || len(kept.Handed) == 0:
		return kept, waits, err
	}
	// The account is asked before the leases: once it has counted beyond a transaction,
	// a lease that is not there then was not made and never will be, or has ended.
	account, err := m.c.chain.Account(ctx, kept.Consumer)
	if err != nil {
		return kept, waits, err
	}
	passed := true
	for i, h := range kept.Handed {
		_, err := m.c.chain.StorageLease(ctx, kept.lease(i))
		if err == nil {
			kept.Lease = kept.lease(i)
			return kept, adopted, m.keep(kept.Stored)
		}
		if !chain.Gone(err) {
			return kept, waits, err
		}
		passed = passed && h.Sequence < account.Sequence
	}
	if !passed {
		return kept, waits, nil
	}
	return kept, removed, m.remove()
}

// keep makes the folder that of the lease that it has become.
func (m *making) keep(s Stored) error {
	if err := writeStored(m.dir, s); err != nil {
		return err
	}
	to := m.c.storedDir(s.Lease)
	return m.c.alone(func() error {
		if err := os.Rename(m.dir, to); err != nil {
			return fmt.Errorf("%w: %w", mman.ErrHome, err)
		}
		if err := os.Remove(filepath.Join(to, newLock)); err != nil {
			return fmt.Errorf("%w: %w", mman.ErrHome, err)
		}
		return syncDir(m.c.StorageDir())
	})
}

// remove deletes the folder.
func (m *making) remove() error {
	return m.c.alone(func() error {
		if err := os.RemoveAll(m.dir); err != nil {
			return fmt.Errorf("%w: %w", mman.ErrHome, err)
		}
		return nil
	})
}

// readStored reads what the folder of a storage lease keeps.
func readStored(dir string, into any) (err error) {
	f, err := os.Open(filepath.Join(dir, storedFile)) //nolint:gosec // a folder of our own
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := json.NewDecoder(io.LimitReader(f, 1<<20)).Decode(into); err != nil {
		return fmt.Errorf("%w: %s", mman.ErrCorrupt, f.Name())
	}
	return nil
}

// writeStored replaces it, and returns when it is safe from a crash of the machine.
func writeStored(dir string, s any) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, storedFile+".new"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // a folder of our own
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, storedFile))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // a folder of our own
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return nil
}

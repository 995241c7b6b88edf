package sdk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/decision"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk/keyring"
)

// LeaseBook keeps a consumer's leases in a folder: one sub-folder for each with
// the lease as it was opened, its key and, for each lane, the latest receipt.
// Several processes may share it: a lane belongs to the one that holds its
// lock.
type LeaseBook struct{ dir string }

// OpenLeaseBook returns the book in dir, which need not exist yet.
func OpenLeaseBook(dir string) *LeaseBook { return &LeaseBook{dir} }

// OwnLease is a lease of this consumer.
type OwnLease struct {
	ChainID string       `cbor:"chain"`
	Lease   market.Lease `cbor:"lease"`
	// Wanted is the digest of what was asked for, so that the same request can
	// use the lease again.
	Wanted mman.Hash `cbor:"wanted"`
	// InBytes is the size of the leased data that each run reads.
	InBytes uint64 `cbor:"in_bytes"`

	dir string
}

// laneState is what the consumer knows of a lane.
type laneState struct {
	// Written counts the times that the state was saved.
	Written uint64          `cbor:"written"`
	Receipt *market.Signed  `cbor:"receipt,omitempty"`
	Seq     uint64          `cbor:"seq"`
	Paid    mman.Amount     `cbor:"paid"`
	Usage   resources.Usage `cbor:"usage"`
	Run     uint64          `cbor:"run"`
	// Returned is the part of Paid that was paid ahead and not used.
	Returned mman.Amount `cbor:"returned,omitzero"`
	// Decisions is the head of the lane's log of decisions under the statement
	// that was signed for.
	Decisions decision.Head `cbor:"decisions,omitzero"`
}

// net is what the lane costs as far as it was signed for.
func (s laneState) net() mman.Amount { return s.Paid - min(s.Paid, s.Returned) }

// The book's files and their bounds. The lanes of a lease share one file: each
// has two slots that are written in turn, so that the state before is whole
// while the next one is written.
const (
	ownLeaseMax = 64 << 10
	leaseFile   = "lease"
	keyFolder   = "keys"
	lanesFile   = "lanes"
	slotBytes   = 2 << 10
	slotHead    = 4 + 8 // length and the first bytes of the body's SHA-256
	lanesBytes  = 2 * slotBytes * market.MaxLanes
)

// newKey makes the key of a lease that will be requested.
func (b *LeaseBook) newKey(random io.Reader) (sig.PrivateKey, error) {
	return keyring.NewLeaseKey(filepath.Join(b.dir, keyFolder), random)
}

// add remembers a lease that was opened.
func (b *LeaseBook) add(o OwnLease) (*OwnLease, error) {
	o.dir = filepath.Join(b.dir, o.Lease.ID.String())
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	enc, err := dagcbor.Marshal(o)
	if err != nil {
		return nil, err
	}
	return &o, replace(filepath.Join(o.dir, leaseFile), enc)
}

// Get returns a lease of this book, or mman.ErrNotFound.
func (b *LeaseBook) Get(id mman.LeaseID) (*OwnLease, error) {
	dir := filepath.Join(b.dir, id.String())
	enc, err := os.ReadFile(filepath.Join(dir, leaseFile)) //nolint:gosec // the name is an id
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("lease %s: %w: it was not opened from this home", id, mman.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	o, err := dagcbor.Unmarshal[OwnLease](enc, ownLeaseMax)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", mman.ErrCorrupt, dir, err)
	}
	o.dir = dir
	return &o, nil
}

// All returns the leases of this book, those that expire last first.
func (b *LeaseBook) All() ([]*OwnLease, error) {
	entries, err := os.ReadDir(b.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	var out []*OwnLease
	for _, e := range entries {
		var id mman.LeaseID
		if id.UnmarshalText([]byte(e.Name())) != nil {
			continue // the folder of keys
		}
		o, err := b.Get(id)
		if errors.Is(err, mman.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b *OwnLease) int { return int(b.Lease.Expires) - int(a.Lease.Expires) }) //nolint:gosec // heights
	return out, nil
}

// forget drops a lease that is closed. Its key stays.
func (o *OwnLease) forget() error {
	if err := os.RemoveAll(o.dir); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return nil
}

// key returns the lease's private key.
func (b *LeaseBook) key(o *OwnLease) (sig.PrivateKey, error) {
	name := keyring.LeaseKeyName(sig.Ed25519Key(o.Lease.LeaseKey))
	return keyring.LoadLeaseKey(filepath.Join(b.dir, keyFolder), name)
}

// Lane is a lane of an own lease that this process holds. Close gives it back.
type Lane struct {
	own   *OwnLease
	n     uint64
	lock  *os.File
	lanes *os.File
	state laneState
	// seen is what was read of the other lanes.
	seen lanesReader
}

// takeLane takes the first free lane.
func (o *OwnLease) takeLane() (*Lane, error) {
	for n := range uint64(market.MaxLanes) {
		lock, err := tryLock(o.laneFile(n) + ".lock")
		if errors.Is(err, mman.ErrOtherHolder) {
			continue
		}
		if err != nil {
			return nil, err
		}
		lanes, err := os.OpenFile(filepath.Join(o.dir, lanesFile), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%w: %w", mman.ErrHome, err), lock.Close())
		}
		l := &Lane{own: o, n: n, lock: lock, lanes: lanes}
		all, err := l.seen.read(lanes)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		l.state = all[n]
		return l, nil
	}
	return nil, fmt.Errorf("lease %s: %w: all of its %d lanes are in use, use --new-lease", o.Lease.ID, mman.ErrBusy, market.MaxLanes)
}

func (o *OwnLease) laneFile(n uint64) string { return filepath.Join(o.dir, fmt.Sprintf("lane-%d", n)) }

// lanesReader reads the file of lanes again and again, and decodes only what has
// changed. Its zero value is ready; one goroutine uses it.
type lanesReader struct {
	buf   []byte
	slots [2 * market.MaxLanes]struct {
		head  [slotHead]byte
		state laneState
	}
}

// read returns the newest whole state of every lane, zero for an unused one.
func (r *lanesReader) read(f io.ReaderAt) (all [market.MaxLanes]laneState, err error) {
	if r.buf == nil {
		r.buf = make([]byte, lanesBytes)
	}
	n, err := f.ReadAt(r.buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return all, fmt.Errorf("%w: read the lanes: %w", mman.ErrHome, err)
	}
	b := r.buf[:n]
	for lane := range all {
		used := false
		for slot := range 2 {
			at := (2*lane + slot) * slotBytes
			if at+slotHead > len(b) || binary.BigEndian.Uint32(b[at:]) == 0 {
				continue
			}
			used = true
			s, ok := r.slot(2*lane+slot, b[at:min(at+slotBytes, len(b))])
			if ok && s.Written > all[lane].Written {
				all[lane] = s
			}
		}
		if used && all[lane].Written == 0 {
			return all, fmt.Errorf("%w: lane %d: neither of its two records is whole", mman.ErrCorrupt, lane)
		}
	}
	return all, nil
}

// slot reads one record. Its head holds the sum of its body: the same head is the
// same record.
func (r *lanesReader) slot(i int, b []byte) (laneState, bool) {
	known := &r.slots[i]
	if bytes.Equal(known.head[:], b[:slotHead]) {
		return known.state, true
	}
	size := int(binary.BigEndian.Uint32(b))
	if size > len(b)-slotHead {
		return laneState{}, false
	}
	body := b[slotHead : slotHead+size]
	sum := mman.Sum256(body)
	if !bytes.Equal(sum[:slotHead-4], b[4:slotHead]) {
		return laneState{}, false
	}
	s, err := dagcbor.Unmarshal[laneState](body, slotBytes)
	if err != nil {
		return laneState{}, false
	}
	known.head, known.state = [slotHead]byte(b[:slotHead]), s
	return s, true
}

// Close gives the lane back. It is safe twice.
func (l *Lane) Close() error {
	if l.lock == nil {
		return nil
	}
	err := errors.Join(l.lanes.Close(), l.lock.Close())
	l.lock = nil
	return err
}

// save writes the lane's state in one write, into the slot that does not hold
// the state before. Nothing is synced: a crash of the process loses nothing.
func (l *Lane) save(next laneState) error {
	next.Written = l.state.Written + 1
	body, err := dagcbor.Marshal(next)
	if err != nil {
		return err
	}
	if len(body) > slotBytes-slotHead {
		return fmt.Errorf("%w: a lane's state of %d bytes", mman.ErrTooLarge, len(body))
	}
	sum := mman.Sum256(body)
	slot := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), sum[:slotHead-4]...) //nolint:gosec // bounded above
	at := (2*l.n + next.Written%2) * slotBytes
	if _, err := l.lanes.WriteAt(append(slot, body...), int64(at)); err != nil { //nolint:gosec // below lanesBytes
		if errors.Is(err, unix.ENOSPC) {
			return fmt.Errorf("%w: %w", mman.ErrDiskFull, err)
		}
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	l.state = next
	return nil
}

// others returns what was signed on the lease's other lanes.
func (l *Lane) others() (mman.Amount, error) {
	all, err := l.seen.read(l.lanes)
	if err != nil {
		return 0, err
	}
	all[l.n] = laneState{}
	return sumPaid(all)
}

func sumPaid(all [market.MaxLanes]laneState) (sum mman.Amount, err error) {
	for _, s := range all {
		if sum, err = sum.Add(s.net()); err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// Paid returns what this consumer signed on all lanes of the lease.
func (o *OwnLease) Paid() (mman.Amount, error) {
	all, err := o.signed()
	if err != nil {
		return 0, err
	}
	return sumPaid(all)
}

// signed returns the lanes as they are on disk.
func (o *OwnLease) signed() (all [market.MaxLanes]laneState, err error) {
	f, err := os.Open(filepath.Join(o.dir, lanesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return all, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if all, err = new(lanesReader).read(f); err != nil {
		return all, fmt.Errorf("lease %s: %w", o.Lease.ID, err)
	}
	return all, nil
}

// locked runs do while this process alone counts the lease's money. Whoever
// holds the lock counts for microseconds: the wait is bounded without ctx.
func (l *Lane) locked(ctx context.Context, do func() error) error {
	fd := int(l.lanes.Fd())
	if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
		return fmt.Errorf("%w: lock %s: %w", mman.ErrHome, l.lanes.Name(), err)
	}
	err := ctx.Err()
	if err == nil {
		err = do()
	} else {
		err = fmt.Errorf("%w: %w", mman.ErrCanceled, err)
	}
	if uerr := unix.Flock(fd, unix.LOCK_UN); uerr != nil {
		return errors.Join(err, fmt.Errorf("%w: unlock %s: %w", mman.ErrHome, l.lanes.Name(), uerr))
	}
	return err
}

func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // below the home
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		closing := f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("%w: %s", mman.ErrOtherHolder, path), closing)
		}
		return nil, errors.Join(fmt.Errorf("%w: lock %s: %w", mman.ErrHome, path, err), closing)
	}
	return f, nil
}

// replace writes a file so that a reader and a crash see the old or the new
// content. Nothing is synced: a crash of the process loses nothing.
func replace(path string, data []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		if errors.Is(err, unix.ENOSPC) {
			return fmt.Errorf("%w: %w", mman.ErrDiskFull, err)
		}
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return nil
}

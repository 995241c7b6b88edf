package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/internal/dagcbor"
)

// Kinds of keys in the state database.
const (
	pairKey   = 'p' // then the flat key
	markerKey = 'm' // then the height, u64be
)

// State implements state.DB. Every block is written at the next version of the
// database, and its marker says at which. Versions newer than the newest marker
// are what a crash left of a block; opening writes the older values over them.
// It is for one goroutine.
type State struct {
	db      *badger.DB
	room    *space
	markers []versioned // ascending by height, at most KeepHeights
	version uint64      // the newest version that was ever written
	failed  error       // the write that failed; nothing is written after it
	newest  atomic.Pointer[write]

	// applied is the newest height, synced the one of the last sync, flushed that
	// of the sync before it.
	applied, synced, flushed atomic.Uint64
}

// write is a block that is being written.
type write struct {
	done chan struct{} // closed at the end
	err  error         // set before
}

// settle waits for the write of the newest block and returns the first error of any.
func (s *State) settle() error {
	if w := s.newest.Load(); w != nil {
		<-w.done
		if s.failed == nil {
			s.failed = w.err
		}
	}
	return s.failed
}

// versioned is a marker and the version its block was written at.
type versioned struct {
	state.Marker
	version uint64
}

// markerRecord is a marker as it is stored.
type markerRecord struct {
	Version uint64 `cbor:"v"`
	Root    []byte `cbor:"r"`
	Data    []byte `cbor:"d"`
}

func openState(cfg Config) (*State, error) {
	// Values stay in the tables: there is no value log to collect.
	db, room, err := open(cfg, "state", 1<<20, 16<<20, true)
	if err != nil {
		return nil, err
	}
	s := &State{db: db, room: room, version: db.MaxVersion()}
	if err := s.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("open state database: %w", err), s.close())
	}
	return s, nil
}

// recover reads the markers and undoes a block that has none.
func (s *State) recover() error {
	txn := s.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{markerKey}})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		m, err := readMarker(it.Item())
		if err != nil {
			return err
		}
		s.markers = append(s.markers, m)
	}
	newest := s.find(math.MaxUint64)
	s.applied.Store(newest.Height)
	if newest.version < s.version {
		return s.Rewind(newest.Height)
	}
	s.forget()
	return nil
}

func readMarker(item *badger.Item) (versioned, error) {
	key := item.Key()
	var m versioned
	err := item.Value(func(b []byte) error {
		r, err := dagcbor.Unmarshal[markerRecord](b, state.MaxMarkerData+256)
		if err != nil {
			return err
		}
		if len(key) != 9 || len(r.Root) != len(m.Root) {
			return fmt.Errorf("%w: root of %d bytes", mman.ErrInvalid, len(r.Root))
		}
		m = versioned{state.Marker{Height: binary.BigEndian.Uint64(key[1:]), Root: mman.Hash(r.Root)}, r.Version}
		if len(r.Data) > 0 {
			m.Data = r.Data
		}
		return nil
	})
	if err != nil {
		return m, fmt.Errorf("%w: marker %x: %w", mman.ErrCorrupt, key, err)
	}
	return m, nil
}

// find returns the newest marker at or below height, or the zero marker.
func (s *State) find(height uint64) versioned {
	for _, m := range slices.Backward(s.markers) {
		if m.Height <= height {
			return m
		}
	}
	return versioned{}
}

// Marker implements state.DB.
func (s *State) Marker(height uint64) (state.Marker, error) {
	m := s.find(height).Marker
	m.Data = bytes.Clone(m.Data)
	return m, nil
}

// Iterate implements state.DB.
func (s *State) Iterate(height uint64, prefix string, fn func(key, value []byte) error) error {
	if err := s.settle(); err != nil {
		return wrap(fmt.Sprintf("read state at height %d after a failed write", height), err)
	}
	m := s.find(height)
	if m.Height == 0 {
		return nil
	}
	txn := s.db.NewTransactionAt(m.version, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: append([]byte{pairKey}, prefix...)})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		var failed error
		err := item.Value(func(value []byte) error {
			failed = fn(item.Key()[1:], value)
			return nil
		})
		if failed != nil {
			return failed
		}
		if err != nil {
			return wrap(fmt.Sprintf("read state at height %d", m.Height), err)
		}
	}
	return nil
}

// Apply implements state.DB. A block that fits one transaction is atomic by
// itself; a larger one is written in several, the marker in the last, which is still
// on its way to the log when Apply returns.
func (s *State) Apply(changes []state.Change, marker state.Marker) error {
	doing := fmt.Sprintf("write state of height %d", marker.Height)
	if newest := s.find(math.MaxUint64); marker.Height <= newest.Height {
		return fmt.Errorf("%w: %s after %d", mman.ErrInvalid, doing, newest.Height)
	}
	if err := s.settle(); err != nil {
		return wrap(doing+" after a failed write", err)
	}
	size := int64(len(marker.Data) + 256)
	for _, c := range changes {
		size += int64(len(c.Key) + len(c.Value) + 32)
	}
	if err := s.room.take(2 * size); err != nil {
		return wrap(doing, err)
	}
	m := versioned{marker, s.version + 1}
	m.Data = bytes.Clone(marker.Data)
	if err := s.write(changes, m); err != nil {
		s.failed = err
		return wrap(doing, err)
	}
	s.version = m.version
	s.markers = append(s.markers, m)
	if n := len(s.markers); n > state.KeepHeights {
		s.markers = slices.Clone(s.markers[n-state.KeepHeights:])
	}
	s.forget()
	return nil
}

// write writes the changes and the marker, and deletes the markers that it
// pushes out of the window.
func (s *State) write(changes []state.Change, m versioned) error {
	var old []versioned
	if n := len(s.markers) + 1 - state.KeepHeights; n > 0 {
		old = s.markers[:n]
	}
	txn := s.db.NewTransactionAt(math.MaxUint64, true)
	defer func() { txn.Discard() }()
	err := setPairs(txn, changes)
	if err == nil {
		err = setMarkers(txn, old, m)
	}
	if errors.Is(err, badger.ErrTxnTooBig) {
		txn.Discard()
		if err := s.writePairs(changes, m.version); err != nil {
			return err
		}
		txn = s.db.NewTransactionAt(math.MaxUint64, true)
		err = setMarkers(txn, old, m)
	}
	if err != nil {
		return err
	}
	w := &write{done: make(chan struct{})}
	s.newest.Store(w)
	return txn.CommitAt(m.version, func(err error) {
		if w.err = err; err == nil {
			s.applied.Store(m.Height)
		}
		close(w.done)
	})
}

// sink is what a transaction and a batch have in common.
type sink interface {
	Set(key, value []byte) error
	SetEntry(e *badger.Entry) error
	Delete(key []byte) error
}

func setPairs(to sink, changes []state.Change) error {
	for _, c := range changes {
		key := append([]byte{pairKey}, c.Key...)
		var err error
		if c.Value == nil {
			err = to.Delete(key)
		} else {
			err = to.Set(key, c.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writePairs writes changes without their marker.
func (s *State) writePairs(changes []state.Change, version uint64) error {
	batch := s.db.NewWriteBatchAt(version)
	defer batch.Cancel()
	if err := setPairs(batch, changes); err != nil {
		return err
	}
	return batch.Flush()
}

// setMarkers deletes the old markers and sets the new one, unless it is that of
// the empty state.
func setMarkers(to sink, old []versioned, m versioned) error {
	for _, o := range old {
		if err := to.Delete(markerName(o.Height)); err != nil {
			return err
		}
	}
	if m.Height == 0 {
		return nil
	}
	b, err := dagcbor.Marshal(markerRecord{m.version, m.Root[:], m.Data})
	if err != nil {
		return err
	}
	return to.Set(markerName(m.Height), b)
}

func markerName(height uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{markerKey}, height)
}

// Undo implements state.DB.
func (s *State) Undo(height uint64) ([]state.Change, error) {
	doing := fmt.Sprintf("read what came after height %d", height)
	m, err := s.kept(height, doing)
	if err != nil {
		return nil, err
	}
	undo, err := s.changesSince(m.version)
	return undo, wrap(doing, err)
}

// Rewind implements state.DB: it writes the values as of the marker again, at a
// version above everything that is to be forgotten.
func (s *State) Rewind(height uint64) error {
	doing := fmt.Sprintf("return state to height %d", height)
	m, err := s.kept(height, doing)
	if err != nil {
		return err
	}
	s.applied.Store(m.Height)
	s.synced.Store(min(s.synced.Load(), m.Height))
	s.flushed.Store(min(s.flushed.Load(), m.Height))
	undo, err := s.changesSince(m.version)
	if err != nil {
		return wrap(doing, err)
	}
	m.version, s.version = s.version+1, s.version+1
	if err := s.writePairs(undo, m.version); err != nil {
		s.failed = err
		return wrap(doing, err)
	}
	keep := slices.IndexFunc(s.markers, func(o versioned) bool { return o.Height > m.Height })
	if keep < 0 {
		keep = len(s.markers)
	}
	txn := s.db.NewTransactionAt(math.MaxUint64, true)
	defer txn.Discard()
	if err := setMarkers(txn, s.markers[keep:], m); err != nil {
		return wrap(doing, err)
	}
	if err := txn.CommitAt(m.version, nil); err != nil {
		s.failed = err
		return wrap(doing, err)
	}
	s.markers = s.markers[:keep:keep]
	if keep > 0 {
		s.markers[keep-1] = m
	}
	s.forget()
	return nil
}

// kept returns the marker of a height that doing needs, mman.ErrNotFound when it was
// forgotten or never there. A write that failed before is settled first.
func (s *State) kept(height uint64, doing string) (versioned, error) {
	if err := s.settle(); err != nil {
		return versioned{}, wrap(doing+" after a failed write", err)
	}
	m := s.find(height)
	if m.Height != height {
		return versioned{}, fmt.Errorf("%w: %s, which is not kept", mman.ErrNotFound, doing)
	}
	return m, nil
}

// changesSince returns what sets every pair that was written after version back
// to what it was.
func (s *State) changesSince(version uint64) ([]state.Change, error) {
	then := s.db.NewTransactionAt(version, false)
	defer then.Discard()
	now := s.db.NewTransactionAt(math.MaxUint64, false)
	defer now.Discard()
	// All versions, because the newest of a key may be its deletion.
	it := now.NewIterator(badger.IteratorOptions{Prefix: []byte{pairKey}, AllVersions: true})
	defer it.Close()
	var undo []state.Change
	var last []byte
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		if item.Version() <= version || bytes.Equal(item.Key(), last) {
			continue
		}
		last = item.KeyCopy(nil)
		c := state.Change{Key: string(last[1:])}
		old, err := then.Get(last)
		switch {
		case err == nil:
			if c.Value, err = old.ValueCopy(nil); err != nil {
				return nil, err
			}
		case !errors.Is(err, badger.ErrKeyNotFound):
			return nil, err
		}
		undo = append(undo, c)
	}
	return undo, nil
}

// Flushed returns a height whose blocks are on the disk for good: no power cut
// takes them back. Apply does not sync, Store.RunGC does now and then. It may be
// called at any time.
func (s *State) Flushed() uint64 { return s.flushed.Load() }

// sync makes what is written safe from a power cut. What the sync before this
// one found in an older write buffer is in a table by now, so that one counts.
func (s *State) sync() error {
	if w := s.newest.Load(); w != nil {
		<-w.done
	}
	height := s.applied.Load()
	if err := s.db.Sync(); err != nil {
		return wrap("sync state", err)
	}
	s.flushed.Store(s.synced.Swap(height))
	return nil
}

// forget lets compaction drop what no kept marker can see.
func (s *State) forget() {
	if len(s.markers) > 0 {
		s.db.SetDiscardTs(s.markers[0].version)
	}
}

func (s *State) close() error {
	return errors.Join(wrap("write state", s.settle()), wrap("close state database", s.db.Close()))
}

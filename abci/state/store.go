package state

import (
	"bytes"
	"fmt"
	"math"

	"github.com/google/btree"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/beside"
)

// Store is the committed state and the way to change it. One goroutine calls
// it; others read the Snapshots that it hands out.
type Store struct {
	db     DB
	recent Recent
}

// Staged is a block that was executed and hashed but not persisted. Drop it or
// Commit it; any number may be staged on one height.
type Staged struct {
	base    *Snapshot
	next    *Snapshot // its marker's height and data are not set yet
	changes []Change
}

// Root returns the root that the state has once s is committed.
func (s *Staged) Root() mman.Hash { return s.next.Root() }

// Snapshot returns the state as it is once s is committed, with height 0.
func (s *Staged) Snapshot() *Snapshot { return s.next }

// Changes returns how many pairs the block really changes.
func (s *Staged) Changes() int { return len(s.changes) }

// Open loads the whole state of the newest height and of the one below it. When the
// newest block's pairs do not give its root, because a power cut lost some of them, it
// returns to the newest height that is whole: the block store replays the rest.
// ErrCorrupt when no kept height is whole.
func Open(db DB) (*Store, error) {
	newest, err := db.Marker(math.MaxUint64)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	var root mman.Hash
	for m := newest; ; {
		s, err := load(db, m)
		if err != nil {
			return nil, fmt.Errorf("open state at height %d: %w", m.Height, err)
		}
		root = s.Root()
		if root == m.Root {
			if m.Height != newest.Height {
				if err := db.Rewind(m.Height); err != nil {
					return nil, fmt.Errorf("return to height %d: %w", m.Height, err)
				}
			}
			recent, err := recentOf(db, s)
			if err != nil {
				return nil, fmt.Errorf("open state below height %d: %w", m.Height, err)
			}
			return &Store{db: db, recent: recent}, nil
		}
		if m.Height == 0 {
			break
		}
		older, err := db.Marker(m.Height - 1)
		if err != nil {
			return nil, fmt.Errorf("open state below height %d: %w", m.Height, err)
		}
		if older.Height == 0 {
			break
		}
		m = older
	}
	return nil, fmt.Errorf("%w: state at height %d has root %s, not %s, and no older height is whole: "+
		"remove the state folder and let the node replay or state-sync", mman.ErrCorrupt, newest.Height, root, newest.Root)
}

// recentOf returns the newest snapshot and the one below it, if it is whole: its root is
// what the newest header holds, so without it nothing could be proved until the next block.
func recentOf(db DB, newest *Snapshot) (Recent, error) {
	alone := Recent{[]*Snapshot{newest}}
	if newest.Height() < 2 {
		return alone, nil
	}
	m, err := db.Marker(newest.Height() - 1)
	if err != nil || m.Height != newest.Height()-1 {
		return alone, err // nothing is below the first block of a chain or of a state sync
	}
	undo, err := db.Undo(m.Height)
	if err != nil {
		return alone, err
	}
	below := edition{base: newest}
	for _, c := range undo {
		below.add(newest.find(c.Key), c)
	}
	s := below.snapshot()
	if s.marker = m; s.Root() != m.Root {
		return alone, nil
	}
	return Recent{[]*Snapshot{s, newest}}, nil
}

// load builds the snapshot of a marker.
func load(db DB, m Marker) (*Snapshot, error) {
	s := &Snapshot{marker: m, index: newIndex()}
	if m.Height == 0 {
		return s, nil
	}
	var edits []edit
	err := db.Iterate(m.Height, "", func(key, value []byte) error {
		if err := checkValue(string(key), value); err != nil {
			return fmt.Errorf("%w: %w", mman.ErrCorrupt, err)
		}
		e := &entry{newTreeKey(string(key)), bytes.Clone(value)}
		s.index.ReplaceOrInsert(indexed{e.flat, e.treeKey})
		edits = append(edits, edit{e.path, e})
		return nil
	})
	if err != nil {
		return nil, err
	}
	sortEdits(edits)
	s.tree = build(edits, 0)
	return s, nil
}

// Height returns the latest committed height, 0 before the first commit.
func (s *Store) Height() uint64 { return s.Latest().Height() }

// Root returns the root at the latest committed height.
func (s *Store) Root() mman.Hash { return s.Latest().Root() }

// Latest returns the snapshot of the latest committed height.
func (s *Store) Latest() *Snapshot { return s.recent.Latest() }

// Recent returns the snapshots of the last heights, for queries. The value
// never changes: take it again after each Commit.
func (s *Store) Recent() Recent { return s.recent }

// Snapshot returns the snapshot of a height; see Recent.At.
func (s *Store) Snapshot(height uint64) (*Snapshot, error) { return s.recent.At(height) }

// Get implements Reader at the latest committed height.
func (s *Store) Get(store string, key []byte) ([]byte, bool, error) {
	return s.Latest().Get(store, key)
}

// Iterate implements Reader at the latest committed height.
func (s *Store) Iterate(store string, prefix, from []byte, limit int) ([]Pair, error) {
	return s.Latest().Iterate(store, prefix, from, limit)
}

// Begin returns an empty Overlay above the latest committed height.
func (s *Store) Begin() *Overlay { return NewOverlay(s.Latest()) }

// Stage computes the state with the block's writes and persists nothing. The
// Overlay must come from Begin at the latest height, and stays usable. Writes
// that change nothing are left out.
func (s *Store) Stage(block *Overlay) (*Staged, error) {
	base := s.Latest()
	if block.base != Reader(base) {
		return nil, fmt.Errorf("%w: staged block is not above height %d: begin a new overlay after each commit", mman.ErrInvalid, base.Height())
	}
	next := edition{base: base, edits: make([]edit, 0, block.writes.len())}
	staged := &Staged{base: base, changes: make([]Change, 0, block.writes.len())}
	block.writes.each(func(c Change) {
		if next.add(block.below(c.Key), c) {
			staged.changes = append(staged.changes, c)
		}
	})
	staged.next = next.snapshot()
	return staged, nil
}

// edition is what makes another snapshot of base.
type edition struct {
	base       *Snapshot
	edits      []edit
	born, gone []*treeKey
}

// add takes a change of a pair whose entry in base is old, nil when it has none, and
// reports whether it changes anything.
func (n *edition) add(old *entry, c Change) bool {
	switch {
	case c.Value == nil && old != nil:
		n.edits, n.gone = append(n.edits, edit{path: old.path}), append(n.gone, old.treeKey)
	case c.Value != nil && old == nil:
		e := &entry{newTreeKey(c.Key), c.Value}
		n.edits, n.born = append(n.edits, edit{e.path, e}), append(n.born, e.treeKey)
	case c.Value != nil && !bytes.Equal(c.Value, old.value):
		n.edits = append(n.edits, edit{old.path, &entry{old.treeKey, c.Value}})
	default:
		return false
	}
	return true
}

// snapshot returns base with all changes, without a marker.
func (n *edition) snapshot() *Snapshot {
	next := &Snapshot{index: n.base.index, tree: n.base.tree}
	if len(n.edits) == 0 {
		return next
	}
	index := beside.Start(func() *btree.BTreeG[indexed] { return reindexed(n.base.index, n.born, n.gone) })
	sortEdits(n.edits)
	next.tree = applyEdits(&n.base.tree, 0, n.edits)
	next.index = index()
	return next
}

// reindexed returns the index with keys more and others less.
func reindexed(index *btree.BTreeG[indexed], born, gone []*treeKey) *btree.BTreeG[indexed] {
	if len(born)+len(gone) == 0 {
		return index
	}
	next := index.Clone()
	for _, k := range gone {
		next.Delete(indexed{flat: k.flat})
	}
	for _, k := range born {
		next.ReplaceOrInsert(indexed{k.flat, k})
	}
	return next
}

// Commit persists a staged block as that of height, with the application's
// data beside it. Heights follow one another without a gap; the first may be
// any. After an error the store is as before, but the database may not be:
// stop the node and open again.
func (s *Store) Commit(staged *Staged, height uint64, data []byte) error {
	base := s.Latest()
	switch {
	case staged.base != base:
		return fmt.Errorf("%w: commit height %d: the block was staged above another height than %d", mman.ErrInvalid, height, base.Height())
	case height == 0 || height == math.MaxUint64 || (base.Height() != 0 && height != base.Height()+1):
		return fmt.Errorf("%w: commit height %d after %d", mman.ErrInvalid, height, base.Height())
	case len(data) > MaxMarkerData:
		return fmt.Errorf("%w: commit height %d: %d bytes of application data, at most %d are allowed", mman.ErrTooLarge, height, len(data), MaxMarkerData)
	}
	m := Marker{Height: height, Root: staged.Root(), Data: bytes.Clone(data)}
	if err := s.db.Apply(staged.changes, m); err != nil {
		return fmt.Errorf("commit height %d: %w", height, err)
	}
	next := &Snapshot{marker: m, tree: staged.next.tree, index: staged.next.index}
	if base.Height() == 0 {
		s.recent = Recent{[]*Snapshot{next}}
	} else {
		s.recent = s.recent.with(next)
	}
	return nil
}

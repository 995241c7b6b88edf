package state

import (
	"fmt"
	"strings"

	"github.com/google/btree"

	mman "github.com/limboid/massive-man"
)

// Snapshot is the whole state at one height. It never changes and is safe for
// concurrent use.
type Snapshot struct {
	marker Marker
	tree   subtree
	index  *btree.BTreeG[indexed]
}

// indexed is a key in the order of keys; its value is found in the tree, so that a
// block which only changes values leaves the index as it is. The flat key stands
// beside the pointer, since a search compares some twenty of them.
type indexed struct {
	flat string
	*treeKey
}

func newIndex() *btree.BTreeG[indexed] {
	return btree.NewG(indexDegree, func(a, b indexed) bool { return a.flat < b.flat })
}

// find returns the entry of a flat key, nil when there is none.
func (s *Snapshot) find(flat string) *entry {
	path := pathOf(flat)
	return s.tree.find(&path)
}

// Height returns the block's height, 0 before the first commit.
func (s *Snapshot) Height() uint64 { return s.marker.Height }

// Root returns the root of the tree.
func (s *Snapshot) Root() mman.Hash { return s.tree.hash }

// Data returns the application's data of the marker. Read, do not change.
func (s *Snapshot) Data() []byte { return s.marker.Data }

// Len returns the number of pairs.
func (s *Snapshot) Len() int { return s.index.Len() }

// Get implements Reader.
func (s *Snapshot) Get(store string, key []byte) ([]byte, bool, error) {
	flat, err := flatKey(store, key)
	if err != nil {
		return nil, false, err
	}
	if e := s.find(flat); e != nil {
		return e.value, true, nil
	}
	return nil, false, nil
}

// Iterate implements Reader.
func (s *Snapshot) Iterate(store string, prefix, from []byte, limit int) ([]Pair, error) {
	start, err := iterateStart(store, prefix, from, limit)
	if err != nil {
		return nil, err
	}
	within, skip := store+"/"+string(prefix), len(store)+1
	var out []Pair
	s.index.AscendGreaterOrEqual(indexed{flat: start}, func(e indexed) bool {
		if !strings.HasPrefix(e.flat, within) {
			return false
		}
		out = append(out, Pair{[]byte(e.flat[skip:]), s.tree.find(&e.path).value})
		return len(out) < limit
	})
	return out, nil
}

// Walk calls fn with every pair of every store in ascending order of flat keys,
// "store/key", beginning at the flat key from, until fn says stop. State sync
// uses it: two nodes with one root walk over the same bytes. fn must not change
// the value.
func (s *Snapshot) Walk(from string, fn func(flat string, value []byte) (more bool)) {
	s.index.AscendGreaterOrEqual(indexed{flat: from}, func(e indexed) bool { return fn(e.flat, s.tree.find(&e.path).value) })
}

// Recent is the snapshots of the last KeepHeights heights. It never changes and
// is safe for concurrent use.
type Recent struct {
	snapshots []*Snapshot // ascending, never empty
}

// Latest returns the newest snapshot.
func (r Recent) Latest() *Snapshot { return r.snapshots[len(r.snapshots)-1] }

// At returns the snapshot of a height; 0 means the newest. A height that is not
// kept is ErrNotFound.
func (r Recent) At(height uint64) (*Snapshot, error) {
	if height == 0 {
		return r.Latest(), nil
	}
	for _, s := range r.snapshots {
		if s.marker.Height == height {
			return s, nil
		}
	}
	return nil, fmt.Errorf("%w: state at height %d: heights %d to %d are kept", mman.ErrNotFound, height,
		r.snapshots[0].marker.Height, r.Latest().marker.Height)
}

// with returns the list with s appended and the oldest dropped.
func (r Recent) with(s *Snapshot) Recent {
	old := r.snapshots
	if len(old) >= KeepHeights {
		old = old[len(old)-KeepHeights+1:]
	}
	next := make([]*Snapshot, 0, len(old)+1)
	return Recent{append(append(next, old...), s)}
}

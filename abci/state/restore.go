package state

import (
	"bytes"
	"fmt"

	mman "github.com/limboid/massive-man"
)

// Restore fills an empty store with the state of another node, which Walk
// wrote. Nothing is kept before Commit; drop it to give up.
type Restore struct {
	store   *Store
	next    *Snapshot
	edits   []edit
	changes []Change
}

// Restore begins to fill the store, which must be empty.
func (s *Store) Restore() (*Restore, error) {
	if h := s.Height(); h > 0 {
		return nil, fmt.Errorf("%w: restore a state into a store at height %d: only an empty one takes it", mman.ErrExists, h)
	}
	return &Restore{store: s, next: &Snapshot{index: newIndex()}}, nil
}

// Add takes the next pair by flat key. Keys must ascend; a pair that the store
// could not hold is mman.ErrInvalid or mman.ErrTooLarge.
func (r *Restore) Add(flat string, value []byte) error {
	if len(r.changes) > 0 && flat <= r.changes[len(r.changes)-1].Key {
		return fmt.Errorf("%w: key %.40x of a restored state is not above the one before it", mman.ErrInvalid, flat)
	}
	if err := checkFlat(flat); err != nil {
		return err
	}
	if err := checkValue(flat, value); err != nil {
		return err
	}
	e := &entry{newTreeKey(flat), bytes.Clone(value)}
	r.next.index.ReplaceOrInsert(indexed{flat, e.treeKey})
	r.edits = append(r.edits, edit{e.path, e})
	r.changes = append(r.changes, Change{flat, e.value})
	return nil
}

// Commit persists the state as that of height when its root is the wanted one;
// another root is mman.ErrContent and leaves the store empty.
func (r *Restore) Commit(height uint64, root mman.Hash) error {
	sortEdits(r.edits)
	r.next.tree = build(r.edits, 0)
	if got := r.next.Root(); got != root {
		return fmt.Errorf("%w: the restored state of height %d has root %s, not %s", mman.ErrContent, height, got, root)
	}
	return r.store.Commit(&Staged{base: r.store.Latest(), next: r.next, changes: r.changes}, height, nil)
}

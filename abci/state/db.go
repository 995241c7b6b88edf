package state

import (
	"fmt"
	"strings"

	mman "github.com/limboid/massive-man"
)

// Limits of the store.
const (
	// MaxStoreName is the longest store name in bytes.
	MaxStoreName = 16
	// MaxKey is the longest key within a store in bytes.
	MaxKey = 128
	// MaxValue is the longest value in bytes.
	MaxValue = 64 << 10
	// MaxMarkerData is the longest application data in a Marker in bytes.
	MaxMarkerData = 1 << 20
	// MaxPage is the largest number of pairs that one Iterate returns.
	MaxPage = 4096
	// KeepHeights is how many of the latest committed heights can be read, proved
	// and returned to. After a start only two of them can be read and proved, the
	// others as blocks come.
	KeepHeights = 16
)

// Marker says which block the database holds. It is written last, so that a
// block without its marker never happened.
type Marker struct {
	// Height is the block's height; 0 means that nothing was committed yet.
	Height uint64
	// Root is the root of the tree over all pairs at Height.
	Root mman.Hash
	// Data belongs to the application and is outside the tree.
	Data []byte
}

// Change is one pair that a block wrote, by flat key. A nil Value deletes.
type Change struct {
	Key   string
	Value []byte
}

// DB is what the store needs of a database. The store is its only user and
// calls one method at a time. Statetest holds its conformance suite.
type DB interface {
	// Marker returns the newest marker at or below height, the zero Marker
	// when there is none. It reaches KeepHeights back.
	Marker(height uint64) (Marker, error)
	// Iterate calls fn with every pair whose flat key has the prefix, as of
	// the marker's height, in ascending order of bytes, until fn fails. The
	// slices are valid during the call only.
	Iterate(height uint64, prefix string, fn func(key, value []byte) error) error
	// Apply writes one block's changes and then its marker as one
	// recoverable unit: after a crash at any instant the newest marker and
	// the pairs as of its height are those of before or of after. It does not
	// sync, and may return while it still writes: what it meets then is the error
	// of the next call. Each key is among the changes once.
	Apply(changes []Change, marker Marker) error
	// Undo returns the changes that make the newest pairs those as of the marker of
	// height, and some that change nothing perhaps. A height whose marker is not kept
	// is mman.ErrNotFound.
	Undo(height uint64) ([]Change, error)
	// Rewind forgets whatever is newer than the marker of height, so that the
	// blocks after it can be applied again, possibly with other changes. 0 empties
	// the database; any other height whose marker is not kept is mman.ErrNotFound
	// and changes nothing.
	Rewind(height uint64) error
}

// flatKey checks a store's name and a key and joins them.
func flatKey(store string, key []byte) (string, error) {
	var room [MaxStoreName + 1 + MaxKey]byte
	flat, err := appendFlat(room[:0], store, key)
	return string(flat), err
}

// appendFlat is flatKey into a buffer.
func appendFlat(b []byte, store string, key []byte) ([]byte, error) {
	if err := checkStore(store); err != nil {
		return nil, err
	}
	if len(key) == 0 || len(key) > MaxKey {
		return nil, fmt.Errorf("%w: key %.40x… of store %s has %d bytes, 1 to %d are allowed",
			mman.ErrInvalid, key, store, len(key), MaxKey)
	}
	return append(append(append(b, store...), '/'), key...), nil
}

// checkFlat checks a key that flatKey is to have made.
func checkFlat(flat string) error {
	store, key, ok := strings.Cut(flat, "/")
	if !ok {
		return fmt.Errorf("%w: key %.40x names no store", mman.ErrInvalid, flat)
	}
	_, err := flatKey(store, []byte(key))
	return err
}

func checkStore(store string) error {
	if store == "" || len(store) > MaxStoreName {
		return badStore(store)
	}
	for _, c := range []byte(store) {
		if c < 'a' || c > 'z' {
			return badStore(store)
		}
	}
	return nil
}

func badStore(store string) error {
	return fmt.Errorf("%w: store name %.40q: 1 to %d lower-case letters are needed", mman.ErrInvalid, store, MaxStoreName)
}

func checkValue(flat string, value []byte) error {
	switch {
	case len(value) == 0:
		return fmt.Errorf("%w: empty value for key %.40x: delete the key instead", mman.ErrInvalid, flat)
	case len(value) > MaxValue:
		return fmt.Errorf("%w: value of %d bytes for key %.40x: at most %d are allowed", mman.ErrTooLarge, len(value), flat, MaxValue)
	}
	return nil
}

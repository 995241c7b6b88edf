package state

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
)

// Store returns the store's name.
func (p Prefix) Store() string {
	store, _, _ := strings.Cut(string(p), "/")
	return store
}

// Key returns the key within the store: the family's letter and the parts. All
// parts but the last must have a fixed length or come from AppendString.
func (p Prefix) Key(parts ...[]byte) []byte {
	_, letter, _ := strings.Cut(string(p), "/")
	size := len(letter)
	for _, part := range parts {
		size += len(part)
	}
	key := append(make([]byte, 0, size), letter...)
	for _, part := range parts {
		key = append(key, part...)
	}
	return key
}

// Uint64Key returns the eight bytes, big-endian, that sort as n does.
func Uint64Key(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// ParseUint64Key reads the number at the front of a key and returns the rest.
func ParseUint64Key(key []byte) (n uint64, rest []byte, err error) {
	if len(key) < 8 {
		return 0, nil, fmt.Errorf("%w: key %x: 8 bytes of a number are needed", mman.ErrCorrupt, key)
	}
	return binary.BigEndian.Uint64(key), key[8:], nil
}

// AppendString appends a string of at most 255 bytes behind its length, so that
// another part can follow it in a key; longer strings are cut, and no limit of
// the market lets one come here.
func AppendString(key []byte, s string) []byte {
	n := uint8(min(len(s), math.MaxUint8))
	return append(append(key, n), s[:n]...)
}

// Table is a family of records of one type in strict DAG-CBOR. It holds no
// state of its own and may be copied.
type Table[T any] struct {
	prefix Prefix
	limit  int
}

// NewTable returns the table of a family whose records have at most limit
// bytes, which is at most MaxValue.
func NewTable[T any](prefix Prefix, limit int) Table[T] {
	return Table[T]{prefix, min(limit, MaxValue)}
}

// Row is a record and its key within the family.
type Row[T any] struct {
	Key   []byte
	Value T
}

// Get returns the record; ok is false when there is none.
func (t Table[T]) Get(r Reader, key []byte) (record T, ok bool, err error) {
	b, ok, err := r.Get(t.prefix.Store(), t.prefix.Key(key))
	if err != nil || !ok {
		return record, false, err
	}
	record, err = t.Decode(key, b)
	return record, err == nil, err
}

// Set writes the record.
func (t Table[T]) Set(w Writer, key []byte, record T) error {
	b, err := dagcbor.Marshal(record)
	if err != nil {
		return fmt.Errorf("%s %x: %w", t.prefix, key, err)
	}
	if len(b) > t.limit {
		return fmt.Errorf("%w: record %s %x has %d bytes, at most %d are allowed", mman.ErrTooLarge, t.prefix, key, len(b), t.limit)
	}
	return w.Set(t.prefix.Store(), t.prefix.Key(key), b)
}

// Delete removes the record; a missing one is no error.
func (t Table[T]) Delete(w Writer, key []byte) error {
	return w.Delete(t.prefix.Store(), t.prefix.Key(key))
}

// Each calls fn with every record whose key has the prefix, in ascending order,
// until fn returns an error, which Each returns. It reads a page ahead, so fn may
// change the record that it is called with.
func (t Table[T]) Each(r Reader, prefix []byte, fn func(key []byte, record T) error) error {
	const size = 256
	var after []byte
	for {
		rows, err := t.Page(r, prefix, after, size)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if err := fn(row.Key, row.Value); err != nil {
				return err
			}
		}
		if len(rows) < size {
			return nil
		}
		after = rows[len(rows)-1].Key
	}
}

// Page returns up to limit records (1 to MaxPage) whose keys have the prefix
// and come after the key after, in ascending order; a nil after starts at the
// first.
func (t Table[T]) Page(r Reader, prefix, afterKey []byte, limit int) ([]Row[T], error) {
	pairs, err := page(r, t.prefix, prefix, afterKey, limit)
	if err != nil {
		return nil, err
	}
	rows := make([]Row[T], len(pairs))
	for i, p := range pairs {
		record, err := t.Decode(p.Key, p.Value)
		if err != nil {
			return nil, err
		}
		rows[i] = Row[T]{p.Key, record}
	}
	return rows, nil
}

// Decode decodes the bytes of a record, whose key is told in errors. The store wrote
// it, so one that does not decode means that the state is damaged or of another
// version.
func (t Table[T]) Decode(key, b []byte) (T, error) {
	record, err := dagcbor.UnmarshalOwn[T](b)
	if err != nil {
		return record, fmt.Errorf("%w: record %s %x: %w", mman.ErrCorrupt, t.prefix, key, err)
	}
	return record, nil
}

// page reads pairs of a family, with the family's letter cut off the keys.
func page(r Reader, family Prefix, prefix, afterKey []byte, limit int) ([]Pair, error) {
	var from []byte
	if afterKey != nil {
		from = after(family.Key(afterKey))
	}
	pairs, err := r.Iterate(family.Store(), family.Key(prefix), from, limit)
	if err != nil {
		return nil, err
	}
	letter := len(family.Key())
	for i := range pairs {
		pairs[i].Key = pairs[i].Key[letter:]
	}
	return pairs, nil
}

// Index is a family of keys without records: its members are sorted sets and
// height-ordered queues.
type Index struct{ prefix Prefix }

// NewIndex returns the index of a family.
func NewIndex(prefix Prefix) Index { return Index{prefix} }

// present is the value of an Index's key, because no value may be empty.
func present() []byte { return []byte{1} }

// Add puts the key in; one that is there already is no error.
func (x Index) Add(w Writer, key []byte) error {
	return w.Set(x.prefix.Store(), x.prefix.Key(key), present())
}

// Remove takes the key out; a missing one is no error.
func (x Index) Remove(w Writer, key []byte) error {
	return w.Delete(x.prefix.Store(), x.prefix.Key(key))
}

// Has reports whether the key is in.
func (x Index) Has(r Reader, key []byte) (bool, error) {
	_, ok, err := r.Get(x.prefix.Store(), x.prefix.Key(key))
	return ok, err
}

// Page returns up to limit keys (1 to MaxPage) that have the prefix and come
// after the key after, in ascending order; a nil after starts at the first.
func (x Index) Page(r Reader, prefix, afterKey []byte, limit int) ([][]byte, error) {
	pairs, err := page(r, x.prefix, prefix, afterKey, limit)
	if err != nil {
		return nil, err
	}
	keys := make([][]byte, len(pairs))
	for i, p := range pairs {
		keys[i] = p.Key
	}
	return keys, nil
}

// Due returns up to limit keys of a queue (height u64be first) whose height is
// at most the given one, the earliest first.
func (x Index) Due(r Reader, height uint64, limit int) ([][]byte, error) {
	keys, err := x.Page(r, nil, nil, limit)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		at, _, err := ParseUint64Key(key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", x.prefix, err)
		}
		if at > height {
			return keys[:i], nil
		}
	}
	return keys, nil
}

// Counter is a number under one name of a family, 0 until it is set.
type Counter struct {
	prefix Prefix
	name   string
}

// NewCounter returns the counter of that name.
func NewCounter(prefix Prefix, name string) Counter { return Counter{prefix, name} }

// Get returns the number.
func (c Counter) Get(r Reader) (uint64, error) {
	b, ok, err := r.Get(c.prefix.Store(), c.prefix.Key([]byte(c.name)))
	if err != nil || !ok {
		return 0, err
	}
	n, rest, err := ParseUint64Key(b)
	if err != nil || len(rest) != 0 {
		return 0, fmt.Errorf("%w: counter %s %s holds %x", mman.ErrCorrupt, c.prefix, c.name, b)
	}
	return n, nil
}

// Set writes the number. Zero is stored as the absence of the key, so that a
// counter that never moved and one that came back leave the same root.
func (c Counter) Set(w Writer, n uint64) error {
	if n == 0 {
		return w.Delete(c.prefix.Store(), c.prefix.Key([]byte(c.name)))
	}
	return w.Set(c.prefix.Store(), c.prefix.Key([]byte(c.name)), Uint64Key(n))
}

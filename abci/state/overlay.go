package state

import (
	"bytes"
	"fmt"
	"strings"

	mman "github.com/limboid/massive-man"
)

// Pair is a key and its value. The slices are shared: read, do not change.
type Pair struct {
	Key   []byte
	Value []byte
}

// Reader reads state. Snapshot and Overlay are Readers.
type Reader interface {
	// Get returns the value of the key in the named store; ok is false when
	// there is none. The slice is shared: read, do not change.
	Get(store string, key []byte) (value []byte, ok bool, err error)
	// Iterate returns up to limit pairs (1 to MaxPage) of the named store
	// whose key has the prefix and is not less than from, in ascending order
	// of bytes. A nil from starts at the prefix's first key. The result stays
	// as it is when the Reader is written to afterwards.
	Iterate(store string, prefix, from []byte, limit int) ([]Pair, error)
}

// Writer reads and changes state. Overlay is the Writer.
type Writer interface {
	Reader
	// Set gives the key a value of 1 to MaxValue bytes, which is copied.
	Set(store string, key, value []byte) error
	// Delete removes the key; a missing key is no error.
	Delete(store string, key []byte) error
}

// Degrees of the ordered indexes: wide for the whole state, narrow for what a block
// writes.
const (
	indexDegree   = 16
	overlayDegree = 8
)

// maxSeen bounds what an Overlay remembers of its Snapshot: the one that the mempool's
// transactions are checked on stands for as long as there is no block.
const maxSeen = 1 << 17

// Overlay buffers writes above a Reader: a block above a Snapshot, a
// transaction above the block. Dropping an Overlay drops its writes. It is for
// one goroutine. Do not write to a parent while its child is in use.
type Overlay struct {
	base   Reader
	parent *Overlay // the base when it is an Overlay, else nil
	writes writes

	snapshot *Snapshot // the base when it is a Snapshot, else nil
	// seen is what was read of the Snapshot, nil for what is not there: most of it
	// is read again, and compared with what was written.
	seen map[string]*entry
}

// NewOverlay returns an empty Overlay above the base. Stage it when the base is
// the store's latest Snapshot; otherwise it can only be read and dropped.
func NewOverlay(base Reader) *Overlay {
	o := &Overlay{base: base}
	if s, ok := base.(*Snapshot); ok {
		o.snapshot, o.seen = s, map[string]*entry{}
	}
	return o
}

// Nest returns an empty Overlay above o, whose Commit writes into o.
func (o *Overlay) Nest() *Overlay { return &Overlay{base: o, parent: o} }

// Commit moves the writes into the Overlay that Nest was called on and leaves
// o empty. An Overlay from NewOverlay has no such parent: ErrInvalid.
func (o *Overlay) Commit() error {
	if o.parent == nil {
		return fmt.Errorf("%w: commit an overlay without a parent: stage it in the store instead", mman.ErrInvalid)
	}
	o.writes.each(o.parent.writes.set)
	o.writes = writes{}
	return nil
}

// Len returns how many keys o itself has set or deleted.
func (o *Overlay) Len() int { return o.writes.len() }

// Get implements Reader.
func (o *Overlay) Get(store string, key []byte) ([]byte, bool, error) {
	var room [MaxStoreName + 1 + MaxKey]byte
	flat, err := appendFlat(room[:0], store, key)
	if err != nil {
		return nil, false, err
	}
	for p := o; ; p = p.parent {
		if c, ok := p.writes.get(flat); ok {
			return c.Value, c.Value != nil, nil
		}
		if p.parent != nil {
			continue
		}
		if p.snapshot == nil {
			return p.base.Get(store, key)
		}
		e, ok := p.seen[string(flat)]
		if !ok {
			e = p.see(string(flat))
		}
		if e == nil {
			return nil, false, nil
		}
		return e.value, true, nil
	}
}

// see looks a flat key up in the Snapshot and remembers what is there.
func (o *Overlay) see(flat string) *entry {
	e := o.snapshot.find(flat)
	if e != nil {
		flat = e.flat
	}
	if len(o.seen) >= maxSeen {
		clear(o.seen)
	}
	o.seen[flat] = e
	return e
}

// below returns the entry of a flat key in the Snapshot, nil when there is none. It
// changes nothing.
func (o *Overlay) below(flat string) *entry {
	if e, ok := o.seen[flat]; ok {
		return e
	}
	return o.snapshot.find(flat)
}

// Set implements Writer.
func (o *Overlay) Set(store string, key, value []byte) error {
	flat, err := flatKey(store, key)
	if err != nil {
		return err
	}
	if err := checkValue(flat, value); err != nil {
		return err
	}
	o.writes.set(Change{Key: flat, Value: bytes.Clone(value)})
	return nil
}

// Delete implements Writer.
func (o *Overlay) Delete(store string, key []byte) error {
	flat, err := flatKey(store, key)
	if err != nil {
		return err
	}
	o.writes.set(Change{Key: flat})
	return nil
}

// Iterate implements Reader.
func (o *Overlay) Iterate(store string, prefix, from []byte, limit int) ([]Pair, error) {
	start, err := iterateStart(store, prefix, from, limit)
	if err != nil {
		return nil, err
	}
	m := merge{
		out: nil, limit: limit, skip: len(store) + 1,
		dirty: &o.writes, within: store + "/" + string(prefix),
	}
	m.seek(start)
	next := []byte(start[m.skip:])
	for len(m.out) < limit {
		page, err := o.base.Iterate(store, prefix, next, limit)
		if err != nil {
			return nil, err
		}
		for _, p := range page {
			m.add(p)
		}
		if len(page) < limit {
			m.rest()
			break
		}
		next = after(page[len(page)-1].Key)
	}
	return m.out, nil
}

// after returns the smallest key above key.
func after(key []byte) []byte {
	return append(bytes.Clone(key), 0)
}

// iterateStart checks the arguments of Iterate and returns the flat key to
// start at.
func iterateStart(store string, prefix, from []byte, limit int) (string, error) {
	if err := checkStore(store); err != nil {
		return "", err
	}
	if limit < 1 || limit > MaxPage {
		return "", fmt.Errorf("%w: limit %d of a list: 1 to %d are allowed", mman.ErrInvalid, limit, MaxPage)
	}
	if bytes.Compare(from, prefix) < 0 {
		from = prefix
	}
	return store + "/" + string(from), nil
}

// merge puts a base's pairs and an overlay's changes into one ascending list.
type merge struct {
	out    []Pair
	limit  int
	skip   int // length of store ‖ '/'
	within string
	dirty  *writes
	head   Change // the next change, when more
	more   bool
}

// seek moves to the first change at or after the flat key.
func (m *merge) seek(flat string) {
	m.head, m.more = m.dirty.from(flat)
	m.more = m.more && strings.HasPrefix(m.head.Key, m.within)
}

// take emits the next change and moves on.
func (m *merge) take() {
	if m.head.Value != nil && len(m.out) < m.limit {
		m.out = append(m.out, Pair{[]byte(m.head.Key[m.skip:]), m.head.Value})
	}
	m.seek(m.head.Key + "\x00")
}

// add emits the changes before p, then p unless a change replaces it.
func (m *merge) add(p Pair) {
	for m.more && len(m.out) < m.limit {
		key := m.head.Key[m.skip:]
		if key > string(p.Key) {
			break
		}
		m.take()
		if key == string(p.Key) {
			return
		}
	}
	if len(m.out) < m.limit {
		m.out = append(m.out, p)
	}
}

// rest emits the changes after the base's last pair.
func (m *merge) rest() {
	for m.more && len(m.out) < m.limit {
		m.take()
	}
}

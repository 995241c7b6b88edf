package state

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/google/btree"

	mman "github.com/limboid/massive-man"
)

// Memory is a DB without a disk, for tests and for chains that live within one
// process. It is for one goroutine.
type Memory struct {
	pairs   *btree.BTreeG[history]
	markers []Marker // ascending by height, at most KeepHeights+1
}

// history is the versions of one key, ascending by height.
type history struct {
	key      string
	versions []version
}

type version struct {
	height uint64
	value  []byte // nil: deleted
}

// NewMemory returns an empty database.
func NewMemory() *Memory {
	return &Memory{pairs: btree.NewG(indexDegree, func(a, b history) bool { return a.key < b.key })}
}

// Marker implements DB.
func (d *Memory) Marker(height uint64) (Marker, error) {
	for _, m := range slices.Backward(d.markers) {
		if m.Height <= height {
			m.Data = bytes.Clone(m.Data)
			return m, nil
		}
	}
	return Marker{}, nil
}

// Iterate implements DB.
func (d *Memory) Iterate(height uint64, prefix string, fn func(key, value []byte) error) error {
	var failed error
	d.pairs.AscendGreaterOrEqual(history{key: prefix}, func(h history) bool {
		if !strings.HasPrefix(h.key, prefix) {
			return false
		}
		for _, v := range slices.Backward(h.versions) {
			if v.height <= height {
				if v.value != nil {
					failed = fn([]byte(h.key), v.value)
				}
				break
			}
		}
		return failed == nil
	})
	return failed
}

// Apply implements DB.
func (d *Memory) Apply(changes []Change, marker Marker) error {
	if n := len(d.markers); n > 0 && marker.Height <= d.markers[n-1].Height {
		return fmt.Errorf("%w: apply height %d after %d", mman.ErrInvalid, marker.Height, d.markers[n-1].Height)
	}
	d.markers = append(d.markers, marker)
	if len(d.markers) > KeepHeights {
		d.markers = d.markers[1:]
	}
	oldest := d.markers[0].Height
	for _, c := range changes {
		h, _ := d.pairs.Get(history{key: c.Key})
		h.key = c.Key
		h.versions = append(h.versions, version{marker.Height, bytes.Clone(c.Value)})
		for len(h.versions) > 1 && h.versions[1].height <= oldest {
			h.versions = h.versions[1:]
		}
		d.pairs.ReplaceOrInsert(h)
	}
	return nil
}

// Undo implements DB.
func (d *Memory) Undo(height uint64) ([]Change, error) {
	if err := d.kept(height); err != nil {
		return nil, err
	}
	var undo []Change
	d.pairs.Ascend(func(h history) bool {
		if n := h.until(height); n < len(h.versions) {
			c := Change{Key: h.key}
			if n > 0 {
				c.Value = bytes.Clone(h.versions[n-1].value)
			}
			undo = append(undo, c)
		}
		return true
	})
	return undo, nil
}

// Rewind implements DB.
func (d *Memory) Rewind(height uint64) error {
	if err := d.kept(height); err != nil {
		return err
	}
	for n := len(d.markers); n > 0 && d.markers[n-1].Height > height; n-- {
		d.markers = d.markers[:n-1]
	}
	var changed []history
	d.pairs.Ascend(func(h history) bool {
		if n := h.until(height); n < len(h.versions) {
			changed = append(changed, history{h.key, h.versions[:n:n]})
		}
		return true
	})
	for _, h := range changed {
		d.pairs.ReplaceOrInsert(h)
	}
	return nil
}

// kept reports a height that cannot be returned to.
func (d *Memory) kept(height uint64) error {
	if m, _ := d.Marker(height); m.Height != height { // its error is that of a disk
		return fmt.Errorf("%w: return to height %d, which is not kept", mman.ErrNotFound, height)
	}
	return nil
}

// until returns how many versions are not newer than height.
func (h history) until(height uint64) int {
	n := len(h.versions)
	for n > 0 && h.versions[n-1].height > height {
		n--
	}
	return n
}

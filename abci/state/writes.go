package state

import (
	"slices"
	"sort"

	"github.com/google/btree"
)

// fewWrites is how many changes are kept in a plain list: a transfer makes two to
// four, and nearly all transactions fewer than this.
const fewWrites = 24

// writes are the changes of an Overlay, the last of each key. The zero value is
// empty.
type writes struct {
	few []Change // ascending by key, while many is nil

	many map[string]*Change
	// order holds what was asked for in order before, fresh the rest of many: most
	// blocks are never asked.
	order *btree.BTreeG[*Change]
	fresh []*Change
}

func (w *writes) len() int {
	if w.many != nil {
		return len(w.many)
	}
	return len(w.few)
}

// search returns where a key stands in few, or would stand.
func (w *writes) search(flat string) int {
	return sort.Search(len(w.few), func(i int) bool { return w.few[i].Key >= flat })
}

// get returns the change of a key. It keeps no reference to the bytes.
func (w *writes) get(flat []byte) (Change, bool) {
	if w.many != nil {
		if c := w.many[string(flat)]; c != nil {
			return *c, true
		}
		return Change{}, false
	}
	for i := range w.few {
		if w.few[i].Key == string(flat) {
			return w.few[i], true
		}
	}
	return Change{}, false
}

func (w *writes) set(c Change) {
	if w.many != nil {
		w.add(c)
		return
	}
	i := w.search(c.Key)
	switch {
	case i < len(w.few) && w.few[i].Key == c.Key:
		w.few[i] = c
	case len(w.few) < fewWrites:
		w.few = slices.Insert(w.few, i, c)
	default:
		few := w.few
		*w = writes{
			many:  make(map[string]*Change, 4*fewWrites),
			order: btree.NewG(overlayDegree, func(a, b *Change) bool { return a.Key < b.Key }),
		}
		for _, old := range few {
			w.add(old)
		}
		w.add(c)
	}
}

// add sets a change of many.
func (w *writes) add(c Change) {
	if old := w.many[c.Key]; old != nil {
		old.Value = c.Value
		return
	}
	kept := &Change{c.Key, c.Value}
	w.many[c.Key] = kept
	w.fresh = append(w.fresh, kept)
}

// each calls fn with every change, in no order that means anything but always in the
// same.
func (w *writes) each(fn func(Change)) {
	if w.many == nil {
		for _, c := range w.few {
			fn(c)
		}
		return
	}
	w.order.Ascend(func(c *Change) bool {
		fn(*c)
		return true
	})
	for _, c := range w.fresh {
		fn(*c)
	}
}

// from returns the first change whose key is not less than flat.
func (w *writes) from(flat string) (first Change, ok bool) {
	if w.many == nil {
		if i := w.search(flat); i < len(w.few) {
			return w.few[i], true
		}
		return Change{}, false
	}
	for _, c := range w.fresh {
		w.order.ReplaceOrInsert(c)
	}
	w.fresh = w.fresh[:0]
	w.order.AscendGreaterOrEqual(&Change{Key: flat}, func(c *Change) bool {
		first, ok = *c, true
		return false
	})
	return first, ok
}

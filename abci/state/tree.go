package state

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sort"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/beside"
)

// treeKey is a flat key with its path in the tree.
type treeKey struct {
	flat string
	path mman.Hash
}

func newTreeKey(flat string) *treeKey { return &treeKey{flat: flat, path: pathOf(flat)} }

// pathOf returns the way from the root to a key's leaf, a bit for each step.
func pathOf(flat string) mman.Hash { return sha256.Sum256([]byte(flat)) }

// entry is one pair. It never changes once made, so trees of many heights share it,
// and the entries of one pair share its key.
type entry struct {
	*treeKey

	value []byte
}

// subtree is empty (neither set), a leaf (entry) or an inner node with at least two
// leaves under it. It is held by its parent together with its hash, so that hashing
// a parent reads nothing of the half that did not change.
type subtree struct {
	node  *node
	entry *entry
	hash  mman.Hash // zero when empty
}

// node is an inner node. It never changes once made.
type node struct{ left, right subtree }

func (s *subtree) empty() bool { return s.node == nil && s.entry == nil }

func leaf(e *entry) subtree {
	value := sha256.Sum256(e.value)
	var buf [65]byte
	copy(buf[1:33], e.path[:])
	copy(buf[33:], value[:])
	return subtree{entry: e, hash: sha256.Sum256(buf[:])}
}

// subtree returns what holds the two halves: nothing, a leaf that rises, or the node
// itself, which must not change any more.
func (n *node) subtree() subtree {
	switch {
	case n.left.empty() && n.right.node == nil:
		return n.right
	case n.right.empty() && n.left.node == nil:
		return n.left
	}
	var buf [65]byte
	buf[0] = 1
	copy(buf[1:33], n.left.hash[:])
	copy(buf[33:], n.right.hash[:])
	return subtree{node: n, hash: sha256.Sum256(buf[:])}
}

// find returns the entry of a path, nil when there is none.
func (s *subtree) find(path *mman.Hash) *entry {
	for depth := 0; s.node != nil; depth++ {
		if bit(path, depth) == 0 {
			s = &s.node.left
		} else {
			s = &s.node.right
		}
	}
	if s.entry == nil || s.entry.path != *path {
		return nil
	}
	return s.entry
}

// edit is one change of the tree; a nil entry removes the path.
type edit struct {
	path  mman.Hash
	entry *entry
}

func sortEdits(edits []edit) {
	slices.SortFunc(edits, func(a, b edit) int {
		// Eight bytes at once tell nearly all apart.
		if c := cmp.Compare(binary.BigEndian.Uint64(a.path[:]), binary.BigEndian.Uint64(b.path[:])); c != 0 {
			return c
		}
		return bytes.Compare(a.path[:], b.path[:])
	})
}

// bit returns bit depth of the path, counted from the most significant.
func bit(path *mman.Hash, depth int) byte {
	return path[depth/8] >> (7 - depth%8) & 1
}

// cut returns the index of the first edit in the right half at depth.
func cut(edits []edit, depth int) int {
	return sort.Search(len(edits), func(i int) bool { return bit(&edits[i].path, depth) == 1 })
}

// besideLeast is from how many edits on the two halves of a subtree are made at the
// same time: fewer cost less than handing them over.
const besideLeast = 512

// applyEdits returns the subtree at depth with the edits made. Edits are
// sorted by path and name each path once, and each changes something. Every node on a
// changed path is made and hashed exactly once for all edits together; the rest is
// shared.
func applyEdits(s *subtree, depth int, edits []edit) subtree {
	if s.node == nil {
		return build(withLeaf(s.entry, edits), depth)
	}
	n := *s.node
	if len(edits) == 1 { // as below the tree's top nearly everywhere
		half := &n.left
		if bit(&edits[0].path, depth) == 1 {
			half = &n.right
		}
		*half = applyEdits(half, depth+1, edits)
		return n.subtree()
	}
	i := cut(edits, depth)
	if len(edits) < besideLeast {
		n.left.apply(depth+1, edits[:i])
		n.right.apply(depth+1, edits[i:])
	} else {
		wait := beside.Start(func() struct{} {
			n.left.apply(depth+1, edits[:i])
			return struct{}{}
		})
		n.right.apply(depth+1, edits[i:])
		wait()
	}
	return n.subtree()
}

// apply makes the edits in one half of a node that is being made.
func (s *subtree) apply(depth int, edits []edit) {
	if len(edits) > 0 {
		*s = applyEdits(s, depth, edits)
	}
}

// withLeaf returns the edits that set something, with the leaf old among them
// unless an edit replaces it; nil when there is none.
func withLeaf(old *entry, edits []edit) []edit {
	live := make([]edit, 0, len(edits)+1)
	for _, e := range edits {
		if old != nil {
			switch order := bytes.Compare(old.path[:], e.path[:]); {
			case order == 0:
				old = nil
			case order < 0:
				live = append(live, edit{old.path, old})
				old = nil
			}
		}
		if e.entry != nil {
			live = append(live, e)
		}
	}
	if old != nil {
		live = append(live, edit{old.path, old})
	}
	return live
}

// build makes the subtree of the given leaves from nothing.
func build(live []edit, depth int) subtree {
	switch len(live) {
	case 0:
		return subtree{}
	case 1:
		return leaf(live[0].entry)
	}
	i, n := cut(live, depth), node{}
	if len(live) < besideLeast {
		n.left, n.right = build(live[:i], depth+1), build(live[i:], depth+1)
	} else {
		wait := beside.Start(func() subtree { return build(live[:i], depth+1) })
		n.right = build(live[i:], depth+1)
		n.left = wait()
	}
	return n.subtree()
}

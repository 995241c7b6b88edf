package state

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"sort"

	mman "github.com/limboid/massive-man"
)

// entry is one pair with its path in the tree. It never changes once made, so
// trees and indexes of many heights share it.
type entry struct {
	flat  string
	value []byte
	path  mman.Hash
}

func newEntry(flat string, value []byte) *entry {
	return &entry{flat: flat, value: value, path: sha256.Sum256([]byte(flat))}
}

// node is a leaf (entry set) or an inner node with at least two leaves under
// it. A nil node is an empty subtree. It never changes once made.
type node struct {
	left, right *node
	entry       *entry
	hash        mman.Hash
}

func leafNode(e *entry) *node {
	value := sha256.Sum256(e.value)
	var buf [65]byte
	copy(buf[1:33], e.path[:])
	copy(buf[33:], value[:])
	return &node{entry: e, hash: sha256.Sum256(buf[:])}
}

// join returns the subtree with the two halves: nothing, a leaf that rises, or
// an inner node.
func join(left, right *node) *node {
	switch {
	case left == nil && (right == nil || right.entry != nil):
		return right
	case right == nil && left.entry != nil:
		return left
	}
	var buf [65]byte
	buf[0] = 1
	l, r := rootOf(left), rootOf(right)
	copy(buf[1:33], l[:])
	copy(buf[33:], r[:])
	return &node{left: left, right: right, hash: sha256.Sum256(buf[:])}
}

func rootOf(n *node) mman.Hash {
	if n == nil {
		return mman.Hash{}
	}
	return n.hash
}

// edit is one change of the tree; a nil entry removes the path.
type edit struct {
	path  mman.Hash
	entry *entry
}

func sortEdits(edits []edit) {
	slices.SortFunc(edits, func(a, b edit) int { return bytes.Compare(a.path[:], b.path[:]) })
}

// bit returns bit depth of the path, counted from the most significant.
func bit(path *mman.Hash, depth int) byte {
	return path[depth/8] >> (7 - depth%8) & 1
}

// cut returns the index of the first edit in the right half at depth.
func cut(edits []edit, depth int) int {
	return sort.Search(len(edits), func(i int) bool { return bit(&edits[i].path, depth) == 1 })
}

// applyEdits returns the subtree at depth with the edits made. Edits are
// sorted by path and name each path once. Every node on a changed path is made
// and hashed exactly once for all edits together; the rest is shared.
func applyEdits(n *node, depth int, edits []edit) *node {
	if len(edits) == 0 {
		return n
	}
	if n == nil || n.entry != nil {
		return build(withLeaf(n, edits), depth)
	}
	i := cut(edits, depth)
	left := applyEdits(n.left, depth+1, edits[:i])
	right := applyEdits(n.right, depth+1, edits[i:])
	if left == n.left && right == n.right {
		return n
	}
	return join(left, right)
}

// withLeaf returns the edits that set something, with the leaf n among them
// unless an edit replaces it.
func withLeaf(n *node, edits []edit) []edit {
	live := make([]edit, 0, len(edits)+1)
	for _, e := range edits {
		if n != nil {
			switch order := bytes.Compare(n.entry.path[:], e.path[:]); {
			case order == 0:
				n = nil
			case order < 0:
				live = append(live, edit{n.entry.path, n.entry})
				n = nil
			}
		}
		if e.entry != nil {
			live = append(live, e)
		}
	}
	if n != nil {
		live = append(live, edit{n.entry.path, n.entry})
	}
	return live
}

// build makes the subtree of the given leaves from nothing.
func build(live []edit, depth int) *node {
	switch len(live) {
	case 0:
		return nil
	case 1:
		return leafNode(live[0].entry)
	}
	i := cut(live, depth)
	return join(build(live[:i], depth+1), build(live[i:], depth+1))
}

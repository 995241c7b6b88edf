package state

import (
	"bytes"
	"fmt"

	ics23 "github.com/cosmos/ics23/go"

	mman "github.com/limboid/massive-man"
)

// Prove returns the ICS-23 proof that the key has its value, or that it has
// none, against Root. The proof's key is the flat key; verify it with
// ics23.SmtSpec. The empty tree has no proofs: ErrNotFound.
func (s *Snapshot) Prove(store string, key []byte) (*ics23.CommitmentProof, error) {
	flat, err := flatKey(store, key)
	if err != nil {
		return nil, err
	}
	if s.tree == nil {
		return nil, fmt.Errorf("%w: proof for key %.40x of store %s: the state is empty", mman.ErrNotFound, key, store)
	}
	path := newEntry(flat, nil).path
	if e, ok := s.index.Get(&entry{flat: flat}); ok {
		return &ics23.CommitmentProof{Proof: &ics23.CommitmentProof_Exist{Exist: s.presence(e)}}, nil
	}
	absent := &ics23.NonExistenceProof{Key: []byte(flat)}
	left, right := neighbours(s.tree, path)
	if left != nil {
		absent.Left = s.presence(left)
	}
	if right != nil {
		absent.Right = s.presence(right)
	}
	return &ics23.CommitmentProof{Proof: &ics23.CommitmentProof_Nonexist{Nonexist: absent}}, nil
}

// presence returns the proof of an entry that is in the tree.
func (s *Snapshot) presence(e *entry) *ics23.ExistenceProof {
	var fromTop []*ics23.InnerOp
	n := s.tree
	for depth := 0; n.entry == nil; depth++ {
		op := &ics23.InnerOp{Hash: ics23.HashOp_SHA256, Prefix: []byte{1}}
		if bit(&e.path, depth) == 0 {
			sibling := rootOf(n.right)
			op.Suffix = sibling[:]
			n = n.left
		} else {
			sibling := rootOf(n.left)
			op.Prefix = append(op.Prefix, sibling[:]...)
			n = n.right
		}
		fromTop = append(fromTop, op)
	}
	path := make([]*ics23.InnerOp, len(fromTop))
	for i, op := range fromTop {
		path[len(path)-1-i] = op
	}
	return &ics23.ExistenceProof{
		Key:   []byte(e.flat),
		Value: bytes.Clone(e.value),
		Leaf: &ics23.LeafOp{
			Hash: ics23.HashOp_SHA256, PrehashKey: ics23.HashOp_SHA256, PrehashValue: ics23.HashOp_SHA256,
			Length: ics23.LengthOp_NO_PREFIX, Prefix: []byte{0},
		},
		Path: path,
	}
}

// neighbours returns the entries next to an absent path, nil at the tree's ends.
func neighbours(n *node, path mman.Hash) (left, right *entry) {
	var below, above *node // the nearest subtrees on either side
	for depth := 0; n != nil && n.entry == nil; depth++ {
		if bit(&path, depth) == 0 {
			if n.right != nil {
				above = n.right
			}
			n = n.left
		} else {
			if n.left != nil {
				below = n.left
			}
			n = n.right
		}
	}
	if n != nil {
		if bytes.Compare(n.entry.path[:], path[:]) < 0 {
			below = n
		} else {
			above = n
		}
	}
	return edge(below, true), edge(above, false)
}

// edge returns the last or the first entry of a subtree, nil of an empty one.
func edge(n *node, last bool) *entry {
	for n != nil && n.entry == nil {
		if next := n.left; (last && n.right != nil) || next == nil {
			n = n.right
		} else {
			n = next
		}
	}
	if n == nil {
		return nil
	}
	return n.entry
}

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
	if s.tree.empty() {
		return nil, fmt.Errorf("%w: proof for key %.40x of store %s: the state is empty", mman.ErrNotFound, key, store)
	}
	path := pathOf(flat)
	if e := s.tree.find(&path); e != nil {
		return &ics23.CommitmentProof{Proof: &ics23.CommitmentProof_Exist{Exist: s.presence(e)}}, nil
	}
	absent := &ics23.NonExistenceProof{Key: []byte(flat)}
	left, right := neighbours(&s.tree, path)
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
	at := &s.tree
	for depth := 0; at.entry == nil; depth++ {
		op := &ics23.InnerOp{Hash: ics23.HashOp_SHA256, Prefix: []byte{1}}
		if bit(&e.path, depth) == 0 {
			op.Suffix = bytes.Clone(at.node.right.hash[:])
			at = &at.node.left
		} else {
			op.Prefix = append(op.Prefix, at.node.left.hash[:]...)
			at = &at.node.right
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
func neighbours(at *subtree, path mman.Hash) (left, right *entry) {
	below, above := &subtree{}, &subtree{} // the nearest on either side
	for depth := 0; at.node != nil; depth++ {
		n := at.node
		if bit(&path, depth) == 0 {
			if !n.right.empty() {
				above = &n.right
			}
			at = &n.left
		} else {
			if !n.left.empty() {
				below = &n.left
			}
			at = &n.right
		}
	}
	if at.entry != nil {
		if bytes.Compare(at.entry.path[:], path[:]) < 0 {
			below = at
		} else {
			above = at
		}
	}
	return edge(below, true), edge(above, false)
}

// edge returns the last or the first entry of a subtree, nil of an empty one.
func edge(at *subtree, last bool) *entry {
	for at.node != nil {
		first, second := &at.node.left, &at.node.right
		if last {
			first, second = second, first
		}
		if at = first; at.empty() {
			at = second
		}
	}
	return at.entry
}

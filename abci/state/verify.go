package state

import (
	"fmt"

	ics23 "github.com/cosmos/ics23/go"

	mman "github.com/limboid/massive-man"
)

// maxProof bounds the bytes of a proof: two neighbours at the full depth of the
// tree, with the largest keys and values.
const maxProof = 2 * (256*80 + MaxKey + MaxValue + 1<<10)

// Verify checks the bytes of a proof of Snapshot.Prove against a root that the
// caller trusts: that the key has the value, or, for an empty value, that it has
// none. mman.ErrProof says that it proves something else or nothing.
func Verify(root mman.Hash, store string, key, value, proof []byte) error {
	flat, err := flatKey(store, key)
	if err != nil {
		return err
	}
	if len(proof) > maxProof {
		return fmt.Errorf("%w: a proof of %d bytes, at most %d are possible", mman.ErrProof, len(proof), maxProof)
	}
	var p ics23.CommitmentProof
	if err := p.Unmarshal(proof); err != nil {
		return fmt.Errorf("%w: key %.40x of store %s: the proof does not read: %w", mman.ErrProof, key, store, err)
	}
	if len(value) > 0 {
		if !ics23.VerifyMembership(ics23.SmtSpec, root[:], &p, []byte(flat), value) {
			return fmt.Errorf("%w: that key %.40x of store %s has this value under the root %s", mman.ErrProof, key, store, root)
		}
		return nil
	}
	if !ics23.VerifyNonMembership(ics23.SmtSpec, root[:], &p, []byte(flat)) {
		return fmt.Errorf("%w: that key %.40x of store %s is absent under the root %s", mman.ErrProof, key, store, root)
	}
	return nil
}

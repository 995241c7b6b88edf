package stake

import (
	"fmt"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/internal/dagcbor"
)

// service is what one validator did since the epoch began.
type service struct {
	Validator block.ConsensusAddress
	Missed    uint64
	// Points are the sum of its power over the blocks that it signed. Genesis
	// keeps power × blocks below 2⁶⁴.
	Points uint64
}

// tally is the service of all validators, sorted by address. It lives beside
// the tree until the epoch ends.
type tally []service

// row is a service as it is stored.
type row struct {
	Validator []byte `cbor:"v"`
	Missed    uint64 `cbor:"m"`
	Points    uint64 `cbor:"p"`
}

// tallyMaxBytes bounds the stored form: of every validator that any epoch can
// have, twice.
const tallyMaxBytes = 256 << 10

func decodeTally(b []byte) (tally, error) {
	if len(b) == 0 {
		return nil, nil
	}
	rows, err := dagcbor.Unmarshal[[]row](b, tallyMaxBytes)
	if err != nil {
		return nil, fmt.Errorf("%w: who signed in this epoch: %w", mman.ErrCorrupt, err)
	}
	t := make(tally, len(rows))
	for i, r := range rows {
		if len(r.Validator) != len(t[i].Validator) {
			return nil, fmt.Errorf("%w: who signed in this epoch: validator %x", mman.ErrCorrupt, r.Validator)
		}
		t[i] = service{block.ConsensusAddress(r.Validator), r.Missed, r.Points}
	}
	return t, nil
}

func (t tally) encode() ([]byte, error) {
	if len(t) == 0 {
		return nil, nil
	}
	rows := make([]row, len(t))
	for i, s := range t {
		rows[i] = row{s.Validator[:], s.Missed, s.Points}
	}
	return dagcbor.Marshal(rows)
}

// count adds a commit. The result shares nothing with t that t's owner sees
// changed.
func (t tally) count(votes []block.Vote) (tally, error) {
	t = slices.Clone(t)
	for _, v := range votes {
		i, ok := slices.BinarySearchFunc(t, v.Validator, func(s service, a block.ConsensusAddress) int {
			return slices.Compare(s.Validator[:], a[:])
		})
		if !ok {
			t = slices.Insert(t, i, service{Validator: v.Validator})
		}
		if !v.Signed {
			t[i].Missed++
			continue
		}
		sum, err := mman.Amount(t[i].Points).Add(mman.Amount(v.Power))
		if err != nil {
			return nil, fmt.Errorf("%w: points of validator %x: %w", mman.ErrInvariant, v.Validator, err)
		}
		t[i].Points = uint64(sum)
	}
	return t, nil
}

// points returns the points of all, which are below 2⁶⁴ as those of one are.
func (t tally) points() uint64 {
	var sum uint64
	for _, s := range t {
		sum += s.Points
	}
	return sum
}

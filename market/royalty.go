package market

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

const (
	// RoyaltyWhole is what a leg earns, in the unit of Royalty.Part.
	RoyaltyWhole = 1_000_000_000_000
	// MaxLineage is how far up royalties go: a parent is at 1.
	MaxLineage = 4
	// MaxRoyalties is how many accounts a leg's royalties go to at most.
	MaxRoyalties = 16
)

// Royalty is a part of what a leg earns that goes to the owner of a resource from
// which the leg's derives.
type Royalty struct {
	To       mman.Address `cbor:"to"       json:"to"`
	Resource mman.CID     `cbor:"resource" json:"resource"`
	// Part is of RoyaltyWhole, what that owner's own parents get taken off.
	Part uint64 `cbor:"part"     json:"part"`
	// Depth is 1 for a parent, 2 for a parent's parent, up to MaxLineage.
	Depth uint64 `cbor:"depth"    json:"depth"`
}

// Lineage returns the royalties of a resource with these parents, in the order in
// which they are paid: each parent, followed by its own lineage. above answers for
// a parent with its royalties. What a parent gets is shared with its parents as if
// it were a sale of its own, rounded down, so that the rounding stays with it. What
// is beyond MaxLineage or MaxRoyalties stays with the nearest parent.
func Lineage(parents []resources.Parent, above func(resources.Parent) ([]Royalty, error)) ([]Royalty, error) {
	var out []Royalty
	for i, p := range parents {
		own := Royalty{To: p.Owner, Resource: p.Resource, Part: p.Share * (RoyaltyWhole / resources.BasisPoints), Depth: 1}
		at := len(out)
		out = append(out, own)
		list, err := above(p)
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			if r.Depth >= MaxLineage || len(out)+len(parents)-i-1 >= MaxRoyalties {
				continue
			}
			part, err := mman.Amount(own.Part).MulDivFloor(r.Part, RoyaltyWhole)
			if err != nil {
				return nil, err
			}
			r.Part, r.Depth = uint64(part), r.Depth+1
			out = append(out, r)
			out[at].Part -= r.Part
		}
	}
	return out, nil
}

// validOfferParents checks the parents that an Offer names: who is paid, and how much.
func validOfferParents(parents []resources.Parent) error {
	if err := resources.ValidParents(parents); err != nil {
		return err
	}
	for i, p := range parents {
		if p.Owner.IsZero() || p.Share == 0 {
			return fmt.Errorf("%w: parents[%d]: an offer names parents that are paid, with owner and share", mman.ErrInvalid, i)
		}
	}
	return nil
}

// PaidParents returns the parents of a manifest to which an Offer of it pays: those
// with an owner and a share.
func PaidParents(m resources.Manifest) []resources.Parent {
	var out []resources.Parent
	for _, p := range m.Parents {
		if !p.Owner.IsZero() && p.Share > 0 {
			out = append(out, p)
		}
	}
	return out
}

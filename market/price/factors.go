package price

import (
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// Factors are all that the price of a lane is made of. Every Statement carries
// them, so that whoever reads it can compute its price from it alone.
type Factors struct {
	// Units are the compute leg's, and Factor multiplies their sum.
	Units  []UnitPrice `cbor:"units,omitempty"  json:"units,omitempty"`
	Factor Factor      `cbor:"factor,omitzero"  json:"factor,omitzero"`
	// Shares are what the other legs add to that, in the order of the legs.
	Shares []Share `cbor:"shares,omitempty" json:"shares,omitempty"`
	// Fixed is the sum of the prices per lease, which lane 0 owes.
	Fixed mman.Amount `cbor:"fixed"            json:"fixed_uman"`
}

// Share is what one leg adds to the price of the units: a part of it in basis
// points, multiplied by the leg's own factor, rounded up by itself.
type Share struct {
	Part   uint64 `cbor:"part"            json:"part_bp"`
	Factor Factor `cbor:"factor,omitzero" json:"factor,omitzero"`
}

// Gross returns what the usage of the lane costs. It returns mman.ErrOverflow
// when that is above the largest supply.
func (f Factors) Gross(usage resources.Usage) (mman.Amount, error) {
	session, err := Price{Units: f.Units}.With(usage, f.Factor)
	if err != nil {
		return 0, err
	}
	total, err := session.Add(f.Fixed)
	if err != nil {
		return 0, err
	}
	for _, s := range f.Shares {
		share, err := s.Factor.Share(session, s.Part)
		if err != nil {
			return 0, err
		}
		if total, err = total.Add(share); err != nil {
			return 0, err
		}
	}
	return total, nil
}

// Equal reports whether both make the same price of every usage, in the same
// way.
func (f Factors) Equal(g Factors) bool {
	return slices.Equal(f.Units, g.Units) && f.Factor == g.Factor && slices.Equal(f.Shares, g.Shares) && f.Fixed == g.Fixed
}

// Package price turns usage into money. It is pure integer arithmetic: the
// chain, the provider and the payer compute the same sum to the last uman, and
// so can anybody who reads a Statement.
package price

import (
	"fmt"
	"math/big"
	"slices"
	"strings"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// Bounds of a price.
const (
	maxUnits = 9
	maxPer   = 1 << 40
	maxUMan  = 1 << 40
	// MaxShare bounds what a leg outside the session may add to the session's
	// total: 100 %, in basis points.
	MaxShare = resources.BasisPoints
)

// Price is what one leg of a lease costs.
type Price struct {
	// PerLease is owed once the provider of the compute leg accepted.
	PerLease mman.Amount `cbor:"per_lease" json:"per_lease_uman"`
	// Share is added on top of the session's total, in basis points; for legs
	// that do not see the session (algorithm, data).
	Share uint64 `cbor:"share"     json:"share_bp,omitempty"`
	// Units are summed over the session's usage; for the compute leg.
	Units []UnitPrice `cbor:"units"     json:"units,omitempty"`
	// Load is the provider's own curve, at most 8 steps, both numbers growing.
	Load []LoadStep `cbor:"load,omitempty" json:"load,omitempty"`
}

// UnitPrice asks UMan for each Per of a unit.
type UnitPrice struct {
	Unit resources.Unit `cbor:"unit" json:"unit"`
	Per  uint64         `cbor:"per"  json:"per"`
	UMan mman.Amount    `cbor:"uman" json:"uman"`
}

// String says a price in words.
func (p Price) String() string {
	var parts []string
	if p.PerLease > 0 {
		parts = append(parts, p.PerLease.String()+" per lease")
	}
	if p.Share > 0 {
		parts = append(parts, fmt.Sprintf("%d.%02d %% of the run", p.Share/100, p.Share%100))
	}
	for _, u := range p.Units {
		parts = append(parts, fmt.Sprintf("%s per %d %s", u.UMan, u.Per, u.Unit))
	}
	if len(parts) == 0 {
		return "free"
	}
	return strings.Join(parts, " + ")
}

// Validate checks bounds, and that a leg charges only for what its kind can
// see: compute and endpoints by metered units, algorithm and data by lease and share.
func (p Price) Validate(kind resources.Kind, facet resources.Facet) error {
	if p.PerLease > mman.MaxSupply {
		return fmt.Errorf("%w: price.per_lease %d uman is more money than there can be", mman.ErrInvalid, p.PerLease)
	}
	if p.Share > MaxShare {
		return fmt.Errorf("%w: price.share %d: at most %d basis points", mman.ErrInvalid, p.Share, uint64(MaxShare))
	}
	if kind.Serves() && p.Share > 0 {
		return fmt.Errorf("%w: price.share: %s is priced by units and per lease", mman.ErrInvalid, kind)
	}
	if !kind.Serves() && len(p.Units) > 0 {
		return fmt.Errorf("%w: price.units: only compute and endpoints see the session, use per_lease and share", mman.ErrInvalid)
	}
	if err := validLoad(p.Load); err != nil {
		return err
	}
	if len(p.Units) > maxUnits {
		return fmt.Errorf("%w: price.units: %d of them, at most %d are allowed", mman.ErrTooLarge, len(p.Units), maxUnits)
	}
	for i, u := range p.Units {
		if !resources.Metered(facet, u.Unit) {
			return fmt.Errorf("%w: price.units[%d].unit %.32q: it is not metered for %s/%s", mman.ErrUnsupported, i, u.Unit, kind, facet)
		}
		if u.Per == 0 || u.Per > maxPer || u.UMan > maxUMan {
			return fmt.Errorf("%w: price.units[%d]: per %d, uman %d: per is 1 to 2^40, uman at most 2^40", mman.ErrInvalid, i, u.Per, u.UMan)
		}
		for _, earlier := range p.Units[:i] {
			if earlier.Unit == u.Unit {
				return fmt.Errorf("%w: price.units[%d].unit %q is priced twice", mman.ErrInvalid, i, u.Unit)
			}
		}
	}
	return nil
}

// Asks reports whether the unit has a price.
func (p Price) Asks(unit resources.Unit) bool {
	return slices.ContainsFunc(p.Units, func(u UnitPrice) bool { return u.Unit == unit && u.UMan > 0 })
}

// Of returns ⌈Σ uman·usage/per⌉ over the units, rounded up once. It returns
// mman.ErrOverflow when the sum is above the largest supply.
func (p Price) Of(usage resources.Usage) (mman.Amount, error) { return p.With(usage, Factor{}) }

// With returns ⌈factor · Σ uman·usage/per⌉, rounded up once; else it is as Of.
func (p Price) With(usage resources.Usage, factor Factor) (mman.Amount, error) {
	sum, term := new(big.Rat), new(big.Rat)
	for _, u := range p.Units {
		n, err := usage.Of(u.Unit)
		if err != nil {
			return 0, err
		}
		num := new(big.Int).Mul(new(big.Int).SetUint64(n), new(big.Int).SetUint64(uint64(u.UMan)))
		sum.Add(sum, term.SetFrac(num, new(big.Int).SetUint64(u.Per)))
	}
	if factor != (Factor{}) {
		sum.Mul(sum, term.SetFrac(new(big.Int).SetUint64(factor.parts()), new(big.Int).SetUint64(factorWhole)))
	}
	quo, rem := new(big.Int).QuoRem(sum.Num(), sum.Denom(), new(big.Int))
	if rem.Sign() > 0 {
		quo.Add(quo, big.NewInt(1))
	}
	if !quo.IsUint64() || mman.Amount(quo.Uint64()) > mman.MaxSupply {
		return 0, fmt.Errorf("%w: the price of this usage is above the largest supply", mman.ErrOverflow)
	}
	return mman.Amount(quo.Uint64()), nil
}

package price

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// Bounds of a load curve.
const (
	maxLoadSteps = 8
	// MaxLoad bounds what load may add to a price: nine times the price, in
	// basis points.
	MaxLoad = 9 * resources.BasisPoints
)

// LoadStep adds Add basis points to a price from the moment on at which At basis
// points of the offer's capacity are leased.
type LoadStep struct {
	At  uint64 `cbor:"at"  json:"at_bp"`
	Add uint64 `cbor:"add" json:"add_bp"`
}

// Factor is what multiplies the price of a leg, fixed when its lease is made:
// (10⁴ + Load) · (10⁴ − Discount) / 10⁸. The zero Factor changes nothing.
type Factor struct {
	// Load is what the provider's curve adds, in basis points.
	Load uint64 `cbor:"load,omitempty"     json:"load_bp,omitempty"`
	// Discount is what the consumer's reputation takes off, in basis points, at
	// most 10⁴. The ledger keeps no reputation yet: it is 0.
	Discount uint64 `cbor:"discount,omitempty" json:"discount_bp,omitempty"`
}

const factorWhole = resources.BasisPoints * resources.BasisPoints

// parts returns the factor as a fraction of factorWhole.
func (f Factor) parts() uint64 {
	return (resources.BasisPoints + min(f.Load, MaxLoad)) * (resources.BasisPoints - min(f.Discount, resources.BasisPoints))
}

// Apply returns ⌈amount · factor⌉; mman.ErrOverflow.
func (f Factor) Apply(amount mman.Amount) (mman.Amount, error) {
	return amount.MulDivCeil(f.parts(), factorWhole)
}

// Share returns ⌈session · share · factor⌉, what a leg outside the session adds
// to its total; mman.ErrOverflow.
func (f Factor) Share(session mman.Amount, share uint64) (mman.Amount, error) {
	return session.MulDivCeil(f.Weight(share), resources.BasisPoints*factorWhole)
}

// Weight returns share · factor, in units of which 10⁴ · 10⁸ are the whole of
// the session.
func (f Factor) Weight(share uint64) uint64 { return min(share, resources.BasisPoints) * f.parts() }

// LoadAt returns what the curve adds when open of capacity leases are open.
func (p Price) LoadAt(open, capacity uint64) uint64 {
	at, err := mman.Amount(open).MulDivFloor(resources.BasisPoints, max(capacity, 1))
	if err != nil {
		at = resources.BasisPoints // cannot happen below 2⁵⁰ leases
	}
	add := uint64(0)
	for _, s := range p.Load {
		if s.At <= uint64(at) {
			add = s.Add
		}
	}
	return add
}

func validLoad(steps []LoadStep) error {
	if len(steps) > maxLoadSteps {
		return fmt.Errorf("%w: price.load: %d steps, at most %d are allowed", mman.ErrTooLarge, len(steps), maxLoadSteps)
	}
	for i, s := range steps {
		switch {
		case s.At == 0 || s.At > resources.BasisPoints:
			return fmt.Errorf("%w: price.load[%d].at %d: 1 to %d basis points of the capacity", mman.ErrInvalid, i, s.At, uint64(resources.BasisPoints))
		case s.Add == 0 || s.Add > MaxLoad:
			return fmt.Errorf("%w: price.load[%d].add %d: 1 to %d basis points", mman.ErrInvalid, i, s.Add, uint64(MaxLoad))
		case i > 0 && (s.At <= steps[i-1].At || s.Add <= steps[i-1].Add):
			return fmt.Errorf("%w: price.load[%d]: at and add both grow from step to step", mman.ErrInvalid, i)
		}
	}
	return nil
}

// indexSession is the session of which a share is taken for the order of the
// index: 0.1 MAN.
const indexSession mman.Amount = 100_000

// Index returns the price's place in the ledger's order of offers: what one
// run of a second, 10⁹ fuel, 1 MiB in and 1 MiB out costs on a lease of its own,
// or for a share, of a session of 0.1 MAN. It is the price before load.
func (p Price) Index() uint64 {
	const mib = 1 << 20
	units, err := p.Of(resources.Usage{
		Fuel: 1_000_000_000, CPUMs: 1000, WallMs: 1000, MemoryMs: 1000, InBytes: mib, OutBytes: mib, CallCount: 1, Tokens: 1000, Steps: 1000,
	})
	if err != nil {
		return uint64(mman.MaxSupply)
	}
	share, err := indexSession.MulDivCeil(p.Share, resources.BasisPoints)
	if err != nil {
		return uint64(mman.MaxSupply)
	}
	return uint64(min(units+p.PerLease+share, mman.MaxSupply)) // each is at most 2⁵³
}

// Package settle splits what leaves a lease's escrow among the burn and the
// legs. It is pure, and exact to the last uman: what comes out is what went in.
package settle

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/resources"
)

// PPM is the whole in millionths, the unit of the burn rate.
const PPM = 1_000_000

// Payment is one provider's part.
type Payment struct {
	Leg    int          `json:"leg"`
	To     mman.Address `json:"to"`
	Amount mman.Amount  `json:"amount_uman"`
}

// Split divides delta, the amount by which a lease's total paid grew to
// total. burnPPM of it, rounded up, is burned. Of the rest the part below the
// lease's fixed prices is shared in proportion to those prices, the part above
// in proportion 10⁴ for compute to each other leg's share times its factor; both
// by largest remainder, ties to the earlier leg. Each growth is split by itself, because
// largest remainders of a running total may take back what was already paid.
func Split(lease market.Lease, total, delta mman.Amount, burnPPM uint64) (payments []Payment, burned mman.Amount, err error) {
	before, err := total.Sub(delta)
	if err != nil {
		return nil, 0, err
	}
	fixed, err := lease.Fixed()
	if err != nil {
		return nil, 0, err
	}
	if burnPPM > PPM {
		return nil, 0, fmt.Errorf("%w: burn of %d ppm", mman.ErrInvalid, burnPPM)
	}
	burned, err = delta.MulDivCeil(burnPPM, PPM)
	if err != nil {
		return nil, 0, err
	}
	net := delta - burned
	// The burn falls on both parts alike: the fixed part keeps its proportion.
	fixedGross := total.Min(fixed) - before.Min(fixed)
	fixedNet := mman.Amount(0)
	if delta > 0 {
		if fixedNet, err = net.MulDivFloor(uint64(fixedGross), uint64(delta)); err != nil {
			return nil, 0, err
		}
	}
	byLease, byShare := make([]uint64, len(lease.Legs)), make([]uint64, len(lease.Legs))
	for i, leg := range lease.Legs {
		fixed, err := leg.Fixed()
		if err != nil {
			return nil, 0, err
		}
		byLease[i], byShare[i] = uint64(fixed), leg.Factor.Weight(leg.Price.Share)
	}
	byShare[len(byShare)-1] = price.Factor{}.Weight(resources.BasisPoints)
	first, err := apportion(fixedNet, byLease)
	if err != nil {
		return nil, 0, err
	}
	second, err := apportion(net-fixedNet, byShare)
	if err != nil {
		return nil, 0, err
	}
	for i, leg := range lease.Legs {
		sum, err := first[i].Add(second[i])
		if err != nil {
			return nil, 0, err
		}
		if sum > 0 {
			payments = append(payments, Payment{i, leg.Provider, sum})
		}
	}
	return payments, burned, nil
}

// apportion divides amount by weights with the largest-remainder method, ties
// to the lower index. It needs a positive weight when amount is positive.
func apportion(amount mman.Amount, weights []uint64) ([]mman.Amount, error) {
	parts := make([]mman.Amount, len(weights))
	var whole uint64
	for _, w := range weights {
		sum, err := mman.Amount(whole).Add(mman.Amount(w))
		if err != nil {
			return nil, err
		}
		whole = uint64(sum)
	}
	if amount == 0 {
		return parts, nil
	}
	left := amount
	rests := make([]uint64, len(weights))
	for i, w := range weights {
		part, rest, err := amount.MulDivRem(w, whole)
		if err != nil {
			return nil, err
		}
		parts[i], rests[i] = part, rest
		left -= part
	}
	for ; left > 0; left-- {
		best := 0
		for i, r := range rests {
			if r > rests[best] {
				best = i
			}
		}
		rests[best] = 0
		parts[best]++
	}
	return parts, nil
}

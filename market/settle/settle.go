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

// Payment is one provider's part, or that of the owner of a parent of a leg's
// resource.
type Payment struct {
	Leg    int          `json:"leg"`
	To     mman.Address `json:"to"`
	Amount mman.Amount  `json:"amount_uman"`
	// Royalty is the parent, zero for the provider's own part.
	Royalty mman.CID `json:"royalty,omitzero"`
}

// Split divides delta, the amount by which a lease's total paid grew to
// total. burnPPM of it, rounded up, is burned. Of the rest the part below the
// lease's fixed prices is shared in proportion to those prices, the part above
// in proportion 10⁴ for compute to each other leg's share times its factor; both
// by largest remainder, ties to the earlier leg. What a leg gets is shared with the
// owners of its resource's parents in the same way; see market.Lineage. Payments are
// in the order of legs, the provider's first, then the royalties in theirs. Each growth is split by itself, because
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
	for i := range lease.Legs {
		sum, err := first[i].Add(second[i])
		if err != nil {
			return nil, 0, err
		}
		if payments, err = share(payments, lease, i, sum); err != nil {
			return nil, 0, err
		}
	}
	return payments, burned, nil
}

// share adds the payments of what a leg gets.
func share(payments []Payment, lease market.Lease, leg int, sum mman.Amount) ([]Payment, error) {
	royalties := lease.Legs[leg].Royalties
	weights := append(make([]uint64, 0, 1+len(royalties)), market.RoyaltyWhole)
	for _, r := range royalties {
		if r.Part > weights[0] {
			return nil, fmt.Errorf("%w: lease %s: the royalties of leg %d are more than it gets", mman.ErrInvalid, lease.ID, leg)
		}
		weights[0] -= r.Part
		weights = append(weights, r.Part)
	}
	parts, err := apportion(sum, weights)
	if err != nil {
		return nil, err
	}
	for i, part := range parts {
		switch {
		case part == 0:
		case i == 0:
			payments = append(payments, Payment{Leg: leg, To: lease.Legs[leg].Provider, Amount: part})
		default:
			payments = append(payments, Payment{leg, royalties[i-1].To, part, royalties[i-1].Resource})
		}
	}
	return payments, nil
}

// Owed returns what a lease owes at its end to the legs that are not of the
// compute leg's provider: once that accepted, their prices per lease are due, also
// when nobody signed a receipt for them. What receipts have paid of the lease's
// prices per lease counts for each leg in proportion. gross leaves the escrow: the
// burn of it, rounded up, and the payments, divided as in Split.
func Owed(lease market.Lease, burnPPM uint64) (gross mman.Amount, payments []Payment, burned mman.Amount, err error) {
	fixed, err := lease.Fixed()
	if err != nil || lease.Accepted == 0 || lease.Paid >= fixed {
		return 0, nil, 0, err
	}
	weights, others := make([]uint64, len(lease.Legs)), mman.Amount(0)
	for i, leg := range lease.Legs {
		if leg.Supplied || leg.Provider == lease.Compute().Provider {
			continue
		}
		own, err := leg.Fixed()
		if err != nil {
			return 0, nil, 0, err
		}
		weights[i] = uint64(own)
		others += own // at most fixed
	}
	if gross, err = others.MulDivCeil(uint64(fixed-lease.Paid), uint64(fixed)); err != nil {
		return 0, nil, 0, err
	}
	gross = gross.Min(lease.Escrow())
	if burned, err = gross.MulDivCeil(burnPPM, PPM); err != nil || gross == 0 {
		return 0, nil, 0, err
	}
	parts, err := apportion(gross-burned, weights)
	if err != nil {
		return 0, nil, 0, err
	}
	for i, part := range parts {
		if payments, err = share(payments, lease, i, part); err != nil {
			return 0, nil, 0, err
		}
	}
	return gross, payments, burned, nil
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

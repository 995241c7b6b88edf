package market

import (
	"cmp"
	"fmt"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/resources"
)

// MaxLanes is the number of lanes, and so of sessions at one time, that a lease
// can have.
const MaxLanes = 16

// LeaseState is where a Lease stands.
type LeaseState string

// A lease is open until somebody closes it or it expires, closing while late
// receipts may still come, and closed for ever.
const (
	LeaseOpen    LeaseState = "open"
	LeaseClosing LeaseState = "closing"
	LeaseClosed  LeaseState = "closed"
)

// Leg is one filled part of a Lease.
type Leg struct {
	Role     Role            `cbor:"role"     json:"role"`
	Facet    resources.Facet `cbor:"facet"    json:"facet"`
	Resource mman.CID        `cbor:"resource,omitzero" json:"resource,omitzero"`
	// Supplied legs come from the consumer: they have no offer and no provider.
	Supplied bool         `cbor:"supplied" json:"supplied,omitempty"`
	Offer    mman.CID     `cbor:"offer,omitzero" json:"offer,omitzero"`
	Provider mman.Address `cbor:"provider,omitzero" json:"provider,omitzero"`
	Peer     mman.PeerID  `cbor:"peer,omitzero" json:"peer,omitzero"`
	Sealed   bool         `cbor:"sealed"   json:"sealed,omitempty"`
	Price    price.Price  `cbor:"price"    json:"price"`
	// Factor multiplies the price; it was fixed when the lease was made.
	Factor price.Factor `cbor:"factor,omitzero" json:"factor,omitzero"`
	// Meter is the version of the meter that counts the fuel of the runs.
	Meter uint64 `cbor:"meter"    json:"meter,omitempty"`
	// Rules say what was decided of the offer's policy when it was matched.
	Rules policy.Record `cbor:"rules,omitzero" json:"rules,omitzero"`
	// Granted: a grant of the holder's decided, not the offer's own rules. It
	// must still stand when the work runs.
	Granted bool `cbor:"granted,omitempty" json:"granted,omitempty"`
	// Release says how output leaves, by the policy that the leg was matched under.
	Release *resources.Release `cbor:"release,omitempty" json:"release,omitempty"`
	// Royalties go to owners of parents, of what the leg earns, in this order.
	Royalties []Royalty `cbor:"royalties,omitempty" json:"royalties,omitempty"`
	// Region and Attributes are copied from the offer when a policy of the
	// bundle looks at its legs again while the work runs.
	Region     string                `cbor:"region,omitempty"     json:"region,omitempty"`
	Attributes []resources.Attribute `cbor:"attributes,omitempty" json:"attributes,omitempty"`
}

// ListedAs returns the CID under which a policy's list of algorithms knows the leg,
// the zero CID if no list can: see LegRequest.ListedAs.
func (l Leg) ListedAs() mman.CID { return listedAs(l.Facet, l.Resource, l.Supplied) }

// LanePaid is what the receipts of one lane have authorised so far.
type LanePaid struct {
	Lane uint64      `cbor:"lane" json:"lane"`
	Seq  uint64      `cbor:"seq"  json:"seq"`
	Paid mman.Amount `cbor:"paid" json:"paid_uman"`
}

// Lease is a matched Request: its legs, terms, escrow and what was paid.
type Lease struct {
	Version  uint64         `cbor:"v"         json:"version"`
	ID       mman.LeaseID   `cbor:"id"        json:"id"`
	Request  mman.RequestID `cbor:"request"   json:"request"`
	Consumer mman.Address   `cbor:"consumer"  json:"consumer"`
	LeaseKey mman.LeaseKey  `cbor:"lease_key" json:"lease_key"`
	Legs     []Leg          `cbor:"legs"      json:"legs"`
	// Cap is the escrow at the start and the most that can ever be paid.
	Cap    mman.Amount      `cbor:"cap"       json:"cap_uman"`
	Limits resources.Limits `cbor:"limits"    json:"limits"`
	// Residual is the hash of the rules left unknown at match time; see
	// match.ResidualHash.
	Residual mman.Hash `cbor:"residual"  json:"residual"`
	// Purpose and Accepts are the request's.
	Purpose string              `cbor:"purpose,omitempty" json:"purpose,omitempty"`
	Accepts []policy.Obligation `cbor:"accepts,omitempty" json:"accepts,omitempty"`
	// Opened and Expires are heights; sessions end before Expires.
	Opened  uint64     `cbor:"opened"    json:"opened"`
	Expires uint64     `cbor:"expires"   json:"expires"`
	State   LeaseState `cbor:"state"     json:"state"`
	// Accepted is the height at which the provider said on the ledger that it
	// serves the lease, by accepting it or by a receipt; 0 before.
	Accepted uint64 `cbor:"accepted,omitempty" json:"accepted,omitempty"`
	// CloseAt is the height at which the lease closes by itself and the rest of
	// the escrow goes back: expiry + grace, or the end of the dispute window.
	CloseAt uint64 `cbor:"close_at"  json:"close_at"`
	// Lanes are sorted by number.
	Lanes []LanePaid `cbor:"lanes"     json:"lanes,omitempty"`
	// Paid counts what left the escrow to providers and the burn, Burned the
	// part that was burned, Refunded what went back to the consumer.
	Paid     mman.Amount `cbor:"paid"      json:"paid_uman"`
	Burned   mman.Amount `cbor:"burned"    json:"burned_uman"`
	Refunded mman.Amount `cbor:"refunded"  json:"refunded_uman"`
}

// Compute returns the leg that carries out the work, an endpoint's too; every
// lease has one.
func (l Lease) Compute() Leg { return l.Legs[len(l.Legs)-1] }

// Algorithm returns the leg that is run; of an endpoint's lease that is the
// endpoint itself.
func (l Lease) Algorithm() Leg { return l.Legs[0] }

// Data returns the legs that the work sees, in mount order.
func (l Lease) Data() []Leg { return l.Legs[min(1, len(l.Legs)-1) : len(l.Legs)-1] }

// Outlet returns the one way by which what runs print leaves the compute leg's node,
// where the policy of a leg says so.
func (l Lease) Outlet() (resources.Outlet, bool) {
	var all []resources.Release
	for _, leg := range l.Legs {
		if leg.Release != nil {
			all = append(all, *leg.Release)
		}
	}
	return resources.Join(all)
}

// Involves reports whether the account is the consumer or a provider.
func (l Lease) Involves(a mman.Address) bool {
	return l.Consumer == a || slices.ContainsFunc(l.Legs, func(leg Leg) bool { return !leg.Supplied && leg.Provider == a })
}

// Escrow returns what is still held.
func (l Lease) Escrow() mman.Amount { return l.Cap - l.Paid - l.Refunded }

// Fixed returns the sum of the per-lease prices of all legs.
func (l Lease) Fixed() (mman.Amount, error) {
	var sum mman.Amount
	for _, leg := range l.Legs {
		fixed, err := leg.Fixed()
		if err != nil {
			return 0, err
		}
		if sum, err = sum.Add(fixed); err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// Fixed returns the leg's price per lease, with its factor.
func (l Leg) Fixed() (mman.Amount, error) { return l.Factor.Apply(l.Price.PerLease) }

// Factors returns what the price of a lane is made of: the compute leg's unit
// prices, each other leg's share of their sum, and on lane 0 the per-lease prices,
// each with its leg's factor.
func (l Lease) Factors(lane uint64) (f price.Factors, err error) {
	f.Units, f.Factor = l.Compute().Price.Units, l.Compute().Factor
	for _, leg := range l.Legs {
		if leg.Price.Share > 0 {
			f.Shares = append(f.Shares, price.Share{Part: leg.Price.Share, Factor: leg.Factor})
		}
	}
	if lane == 0 {
		f.Fixed, err = l.Fixed()
	}
	return f, err
}

// Gross returns what the cumulative usage of a lane costs in all; see Factors.
func (l Lease) Gross(lane uint64, usage resources.Usage) (mman.Amount, error) {
	f, err := l.Factors(lane)
	if err != nil {
		return 0, err
	}
	return f.Gross(usage)
}

// LanePaid returns what receipts authorised on a lane, zero for an unused one.
func (l Lease) LanePaid(lane uint64) LanePaid {
	i, ok := l.findLane(lane)
	if !ok {
		return LanePaid{Lane: lane}
	}
	return l.Lanes[i]
}

func (l Lease) findLane(lane uint64) (int, bool) {
	return slices.BinarySearchFunc(l.Lanes, lane, func(p LanePaid, n uint64) int { return cmp.Compare(p.Lane, n) })
}

// Settle applies a verified receipt: it returns the lease after it and the
// amount that leaves the escrow now. A receipt that adds nothing is no error,
// so that anybody may submit any receipt again; of two with one number the
// higher amount counts. What a receipt returns is not paid; what an earlier one
// paid stays paid, so whoever pays ahead risks one window.
func (l Lease) Settle(r Receipt) (Lease, mman.Amount, error) { return l.settle(r, highest) }

// highest is which of a lane's receipts counts: the one that pays most, whatever
// their numbers and their order.
func highest(before LanePaid, r Receipt) LanePaid {
	return LanePaid{Lane: r.Lane, Seq: max(before.Seq, r.Seq), Paid: max(before.Paid, r.Net())}
}

// settle applies a receipt; counts says what its lane has paid with it.
func (l Lease) settle(r Receipt, counts func(before LanePaid, r Receipt) LanePaid) (Lease, mman.Amount, error) {
	if l.State == LeaseClosed {
		return l, 0, fmt.Errorf("lease %s: %w: it is closed", l.ID, mman.ErrLeaseState)
	}
	if r.Lease != l.ID {
		return l, 0, fmt.Errorf("lease %s: %w: the receipt is for lease %s", l.ID, mman.ErrReceipt, r.Lease)
	}
	before := l.LanePaid(r.Lane)
	after := counts(before, r)
	delta := after.Paid - min(after.Paid, before.Paid)
	if delta > l.Escrow() {
		return l, 0, fmt.Errorf("lease %s: %w: the receipt asks for %s more, the escrow holds %s", l.ID, mman.ErrCapExceeded, delta, l.Escrow())
	}
	i, ok := l.findLane(r.Lane)
	l.Lanes = slices.Clone(l.Lanes)
	if !ok {
		l.Lanes = slices.Insert(l.Lanes, i, after)
	}
	l.Lanes[i] = after
	l.Paid += delta // within Cap, checked above
	return l, delta, nil
}

// OwesOthers reports whether the per-lease price of a leg that is not of the compute
// leg's provider may be unpaid: those prices are owed once the compute leg
// accepted, and come first in what is paid; see settle.Owed.
func (l Lease) OwesOthers() (bool, error) {
	fixed, err := l.Fixed()
	if err != nil || l.Paid >= fixed {
		return false, err
	}
	return slices.ContainsFunc(l.Legs, func(leg Leg) bool {
		return !leg.Supplied && leg.Price.PerLease > 0 && leg.Provider != l.Compute().Provider
	}), nil
}

// BeginClose starts the dispute window that a close without the provider's
// consent opens; a lease that is already closing keeps its date.
func (l Lease) BeginClose(height, window uint64) (Lease, error) {
	if l.State != LeaseOpen {
		return l, fmt.Errorf("lease %s: %w: it is %s", l.ID, mman.ErrLeaseState, l.State)
	}
	l.State = LeaseClosing
	l.CloseAt = min(l.CloseAt, height+window)
	return l, nil
}

// Close ends the lease and returns what goes back to the consumer.
func (l Lease) Close() (Lease, mman.Amount, error) {
	if l.State == LeaseClosed {
		return l, 0, fmt.Errorf("lease %s: %w: it is closed", l.ID, mman.ErrLeaseState)
	}
	refund := l.Escrow()
	l.State, l.Refunded = LeaseClosed, l.Refunded+refund
	return l, refund, nil
}

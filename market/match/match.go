// Package match decides which Offers fill a Request: all of its legs or none.
// It is pure and bounded: the caller hands it a Book to look into, and it says
// for every candidate that it turned down which rule did so.
package match

import (
	"cmp"
	"fmt"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/resources"
)

// MaxRejections is the number of turned-down candidates that a decision keeps.
const MaxRejections = 12

// Rejection says why a candidate was turned down.
type Rejection struct {
	Leg   uint64    `cbor:"leg"   json:"leg"`
	Offer mman.CID  `cbor:"offer,omitzero" json:"offer,omitzero"`
	Code  mman.Code `cbor:"code"  json:"code"`
	// Rule is the id of the policy rule that denied, or the field that did not
	// fit.
	Rule string `cbor:"rule"  json:"rule"`
}

// Outcome is how a request stands.
type Outcome string

// The outcomes. Expired, canceled, exhausted and unawarded are set by the ledger:
// its deadline passed, its consumer took it back, it looked at all the offers that
// were paid for, it was put out to bids and none of them is left that serves.
const (
	Matched   Outcome = "matched"
	Queued    Outcome = "queued"
	Expired   Outcome = "expired"
	Canceled  Outcome = "canceled"
	Exhausted Outcome = "exhausted"
	Unawarded Outcome = "unawarded"
)

// Decision is the record of the latest attempt to fill a request.
type Decision struct {
	Version uint64         `cbor:"v"        json:"version"`
	Request mman.RequestID `cbor:"request"  json:"request"`
	// Height and Time are of the attempt.
	Height  uint64  `cbor:"height"   json:"height"`
	Time    int64   `cbor:"time"     json:"time"`
	Outcome Outcome `cbor:"outcome"  json:"outcome"`
	// Ended is the height at which the ledger ended the request unfilled.
	Ended uint64 `cbor:"ended,omitempty" json:"ended,omitempty"`
	// Scanned is the number of offers that were looked at, over all attempts.
	Scanned uint64 `cbor:"scanned"  json:"scanned"`
	// More: there are offers that it has not looked at yet and will.
	More bool `cbor:"more,omitempty" json:"more,omitempty"`
	// Inputs is the hash of what the attempt decided upon.
	Inputs mman.Hash `cbor:"inputs"   json:"inputs"`
	// Chosen are the offers of a match, of the legs that are not supplied.
	Chosen     []mman.CID  `cbor:"chosen,omitempty" json:"chosen,omitempty"`
	Rejections []Rejection `cbor:"rejections" json:"rejections,omitempty"`
}

// MaxDecisionBytes bounds an encoded Decision: rejections that do not fit are
// left out, from the last.
const MaxDecisionBytes = 1 << 10

// End returns the decision on a request that the ledger ended unfilled.
func (d Decision) End(outcome Outcome, height uint64) Decision {
	d.Outcome, d.Ended, d.More = outcome, height, false
	return d
}

// Fit is what fills a request: the legs of the lease and the limits of its
// runs.
type Fit struct {
	Legs   []market.Leg
	Limits resources.Limits
	// Residual are the rules left unknown, sorted.
	Residual []Residual
}

// Residual is a rule of a leg's policy that is decided only while the work runs.
type Residual struct {
	Leg  uint64 `cbor:"leg"  json:"leg"`
	Rule string `cbor:"rule" json:"rule"`
}

// ResidualHash is what a lease says of its residual.
func ResidualHash(list []Residual) (mman.Hash, error) {
	b, err := dagcbor.Marshal(list)
	if err != nil {
		return mman.Hash{}, err
	}
	return mman.Sum256(b), nil
}

// Attempt is what came of one look into the book.
type Attempt struct {
	// Looked is false when there was nothing that an earlier attempt had not
	// seen; then only Progress counts.
	Looked   bool
	Decision Decision
	// Fit is empty unless the outcome is Matched.
	Fit      Fit
	Progress Progress
	Inputs   Inputs
	// Encoded are the inputs whose hash the decision names.
	Encoded []byte
	// Steps is what the policies cost.
	Steps uint64
}

// Fill makes an attempt to fill the request in the given block, from where the
// one before stopped, whose decision before is. Woken says that enough time has
// passed to ask policies again that depend on it.
//
// Candidates are the offers that a leg names, otherwise those of its class: in
// the order of their index price, at most MaxScan new ones in an attempt, and
// then whatever arrives. Of the candidates of an attempt for the compute leg the
// cheapest at the request's own limits wins, of those for another leg the
// cheapest per lease, then by share; ties go to the lower offer id. A sealed
// dataset pins the compute leg to the node that holds it.
//
// Policies are asked three times, each time with more known: each candidate by
// itself; the candidates beside a compute offer with that one; the whole bundle.
// The candidates beside a compute offer are taken one by one, the best that
// nothing speaks against; when their policies then refuse each other, the next
// compute offer is tried, not every combination.
func Fill(id mman.RequestID, r market.Request, book Book, at policy.Chain, p Progress, before []Rejection) (Attempt, error) {
	c, err := collect(r, book, p)
	if err != nil {
		return Attempt{}, err
	}
	if !c.fresh {
		return Attempt{Progress: c.progress}, nil
	}
	for _, b := range before {
		if !b.Offer.IsZero() && !slices.ContainsFunc(c.inputs.Looks, func(l Look) bool { return l.Offer == b.Offer }) {
			c.inputs.Before = append(c.inputs.Before, b)
		}
	}
	f, err := newFilling(id, r, book, at, &c.inputs, c.entries)
	if err != nil {
		return Attempt{}, err
	}
	fit, err := f.fill()
	if err != nil {
		return Attempt{}, err
	}
	c.keep(f)
	f.decision.Scanned, f.decision.More = c.progress.Scanned, f.decision.Outcome == Queued && c.progress.Goes(r)
	d, encoded, err := f.record()
	return Attempt{Looked: true, Decision: d, Fit: fit, Progress: c.progress, Inputs: c.inputs, Encoded: encoded, Steps: f.steps}, err
}

// Decide decides again upon the recorded inputs of an attempt and returns the
// decision, which is equal to the recorded one byte for byte when nobody lied.
// Offers returns an offer by its id. What the ledger added, the count of offers
// and how the request ended, is taken from the record.
func Decide(r market.Request, recorded Decision, in Inputs, offers func(mman.CID) (market.Offer, error)) (Decision, error) {
	entries := make([]Entry, len(in.Looks))
	for i, l := range in.Looks {
		if l.Gone {
			continue
		}
		o, err := offers(l.Offer)
		if err != nil {
			return Decision{}, fmt.Errorf("offer %s: %w", l.Offer, err)
		}
		entries[i] = Entry{ID: l.Offer, Offer: o}
	}
	f, err := newFilling(recorded.Request, r, recall(in.Looks), policy.Chain{Height: recorded.Height, Time: recorded.Time}, &in, entries)
	if err != nil {
		return Decision{}, err
	}
	if _, err := f.fill(); err != nil {
		return Decision{}, err
	}
	f.decision.Scanned, f.decision.More = recorded.Scanned, recorded.More
	d, _, err := f.record()
	if err == nil && recorded.Ended > 0 {
		d = d.End(recorded.Outcome, recorded.Ended)
	}
	return d, err
}

// recall answers with the facts that were recorded.
type recall []Look

func (r recall) look(e Entry) Look {
	for _, l := range r {
		if l.Offer == e.ID {
			return l
		}
	}
	return Look{}
}

// Open implements Records.
func (r recall) Open(e Entry) (uint64, error) { return r.look(e).Open, nil }

// Usage implements Records.
func (r recall) Usage(e Entry, _ mman.Address) (policy.Usage, error) {
	if u := r.look(e).Usage; u != nil {
		return *u, nil
	}
	return policy.Usage{}, nil
}

// Grant implements Records.
func (r recall) Grant(e Entry, _ mman.Address) (Grant, bool, error) {
	if g := r.look(e).Grant; g != nil {
		return *g, true, nil
	}
	return Grant{}, false, nil
}

// candidate is an offer that an attempt looks at.
type candidate struct {
	Entry

	look *Look
	// granted is what the consumer was granted, compiled; nil for nothing.
	granted *policy.Program
	asked   bool // whether there is a grant
	counted bool // whether look.Open is known
	cost    mman.Amount
}

// ruling is a policy's answer and the program that gave it.
type ruling struct {
	policy.Answer

	program *policy.Program
	granted bool
}

type filling struct {
	request  market.Request
	where    []*policy.Where // by leg, nil without one
	records  Records
	at       policy.Chain
	decision Decision
	inputs   *Inputs
	all      []*candidate
	asks     *policy.Request // what policies see of the request
	// candidates are those that fit by themselves, best first, later those that
	// time alone may make fit; by leg.
	candidates [][]*candidate
	later      [][]mman.CID
	steps      uint64 // spent on policies
}

func newFilling(id mman.RequestID, r market.Request, records Records, at policy.Chain, in *Inputs, entries []Entry) (*filling, error) {
	f := &filling{
		request: r, records: records, at: at, inputs: in, where: make([]*policy.Where, len(r.Legs)),
		decision:   Decision{Version: 1, Request: id, Height: at.Height, Time: at.Time, Outcome: Queued},
		candidates: make([][]*candidate, len(r.Legs)), later: make([][]mman.CID, len(r.Legs)),
	}
	f.asks = &policy.Request{Purpose: r.Purpose, Cap: r.Cap, Blocks: r.Blocks, Limits: r.Limits, Accepts: r.Accepts, Network: r.Network}
	for i, leg := range r.Legs {
		if leg.Where == "" {
			continue
		}
		var err error
		if f.where[i], err = policy.CompileWhere(leg.Where); err != nil {
			return nil, err
		}
	}
	for i, e := range entries {
		f.all = append(f.all, &candidate{Entry: e, look: &in.Looks[i]})
	}
	return f, nil
}

// fill decides upon the inputs.
func (f *filling) fill() (Fit, error) {
	for _, i := range f.inputs.Empty {
		if i < uint64(len(f.request.Legs)) {
			f.reject(i, mman.CID{}, mman.ErrResourceGone, string(f.request.Legs[i].Role))
		}
	}
	for i := range f.request.Legs {
		if err := f.sift(uint64(i)); err != nil {
			return Fit{}, err
		}
	}
	for _, c := range f.candidates[len(f.request.Legs)-1] {
		fit, ok, err := f.bundle(c)
		if err != nil {
			return Fit{}, err
		}
		if ok {
			f.decision.Outcome = Matched
			for _, leg := range fit.Legs {
				if !leg.Supplied {
					f.decision.Chosen = append(f.decision.Chosen, leg.Offer)
				}
			}
			return fit, nil
		}
	}
	return Fit{}, nil
}

// record closes the decision: it names its inputs, which it also returns
// encoded, and keeps to its size.
func (f *filling) record() (Decision, []byte, error) {
	encoded, err := dagcbor.Marshal(*f.inputs)
	if err != nil {
		return Decision{}, nil, err
	}
	d := f.decision
	d.Inputs = mman.Sum256(encoded)
	for _, r := range f.inputs.Before {
		if len(d.Rejections) < MaxRejections {
			d.Rejections = append(d.Rejections, r)
		}
	}
	for {
		b, err := dagcbor.Marshal(d)
		if err != nil || len(b) <= MaxDecisionBytes-endBytes || len(d.Rejections) == 0 {
			return d, encoded, err
		}
		d.Rejections = d.Rejections[:len(d.Rejections)-1]
	}
}

// endBytes is what End may add to an encoded Decision.
const endBytes = 32

func (f *filling) reject(leg uint64, offer mman.CID, err *mman.Error, rule string) {
	r := Rejection{leg, offer, err.Code, rule}
	if len(f.decision.Rejections) < MaxRejections && !slices.Contains(f.decision.Rejections, r) {
		f.decision.Rejections = append(f.decision.Rejections, r)
	}
}

// sift finds the candidates for a leg that fit by themselves, best first.
func (f *filling) sift(i uint64) error {
	var found []*candidate
	for _, c := range f.all {
		if c.look.Leg != i {
			continue
		}
		if c.look.Gone {
			f.reject(i, c.look.Offer, mman.ErrOfferGone, "expires")
			continue
		}
		ok, err := f.fits(i, c)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if c.cost, err = f.rank(c.Entry); err != nil {
			return fmt.Errorf("offer %s: %w", c.ID, err)
		}
		found = append(found, c)
	}
	slices.SortFunc(found, func(a, b *candidate) int {
		return cmp.Or(cmp.Compare(a.cost, b.cost), cmp.Compare(a.Offer.Price.Share, b.Offer.Price.Share), compareCID(a.ID, b.ID))
	})
	f.candidates[i] = found
	return nil
}

// rank is what an offer would cost at the request's limits: the whole wall
// time and all bytes, once, before load.
func (f *filling) rank(e Entry) (mman.Amount, error) {
	return Rank(f.request.Limits, e.Offer)
}

// Rank is what an offer would cost at most at the limits of one run on a lease
// of its own, before load: what candidates are compared by. A price beyond all
// money ranks last.
func Rank(limits resources.Limits, o market.Offer) (mman.Amount, error) {
	l := limits.Tighten(o.Policy.Limits.Run())
	units, err := o.Price.Of(resources.Usage{Fuel: l.Fuel, WallMs: l.WallMs, InBytes: l.InputBytes, OutBytes: l.OutputBytes, CallCount: 1})
	if err != nil {
		return mman.MaxSupply, nil //nolint:nilerr // as said
	}
	return units.Add(o.Price.PerLease)
}

func (f *filling) fits(i uint64, c *candidate) (bool, error) {
	leg, o := f.request.Legs[i], c.Offer
	switch {
	case o.Kind != leg.Role.Kind() || o.Facet != leg.Facet:
		f.reject(i, c.ID, mman.ErrInvalid, "kind")
		return false, nil
	case !leg.Resource.IsZero() && o.Resource != leg.Resource:
		f.reject(i, c.ID, mman.ErrInvalid, "resource")
		return false, nil
	}
	if w := f.where[i]; w != nil {
		f.steps += w.Cost()
		if !w.Holds(o.Listed()) {
			f.reject(i, c.ID, mman.ErrInvalid, RuleWhere)
			return false, nil
		}
	}
	chosen := make([]*candidate, len(f.request.Legs))
	chosen[i] = c
	said, err := f.decide(i, chosen)
	if err != nil {
		return false, err
	}
	if !said.Allowed() {
		if said.program.ReadsClock() {
			f.later[i] = append(f.later[i], c.ID)
		}
		return false, nil
	}
	open, err := f.open(c)
	if err != nil || open < o.Capacity {
		return err == nil, err
	}
	f.reject(i, c.ID, mman.ErrCapacity, "capacity")
	return false, nil
}

// RuleWhere names the consumer's own condition in a Rejection.
const RuleWhere = "where"

// open counts the open leases of a candidate, once.
func (f *filling) open(c *candidate) (uint64, error) {
	if !c.counted {
		n, err := f.records.Open(c.Entry)
		if err != nil {
			return 0, err
		}
		c.look.Open, c.counted = n, true
	}
	return c.look.Open, nil
}

func compareCID(a, b mman.CID) int {
	x, y := a.Digest(), b.Digest()
	return slices.Compare(x[:], y[:])
}

// Order sorts a block's requests in the order in which they are filled: by
// SHA-256(beacon ‖ id), which nobody can choose when the request is made.
func Order(beacon mman.Hash, ids []mman.RequestID) {
	key := func(id mman.RequestID) mman.Hash { return mman.Sum256(beacon[:], id[:]) }
	slices.SortFunc(ids, func(a, b mman.RequestID) int {
		x, y := key(a), key(b)
		return slices.Compare(x[:], y[:])
	})
}

// NewLease makes the lease that fills the request.
func NewLease(id mman.RequestID, r market.Request, fit Fit, height, grace uint64) (market.Lease, error) {
	residual, err := ResidualHash(fit.Residual)
	if err != nil {
		return market.Lease{}, err
	}
	return market.Lease{
		Version: 1, ID: id.Lease(), Request: id, Consumer: r.Consumer, LeaseKey: r.LeaseKey, Legs: fit.Legs,
		Cap: r.Cap, Limits: fit.Limits, Residual: residual, Purpose: r.Purpose, Accepts: r.Accepts,
		Opened: height, Expires: height + r.Blocks,
		State: market.LeaseOpen, CloseAt: height + r.Blocks + grace,
	}, nil
}

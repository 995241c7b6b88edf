package match

import (
	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
)

// bundle fills the other legs around one compute offer.
func (f *filling) bundle(candidates [][]Entry, compute Entry) (Fit, bool, error) {
	last := len(f.request.Legs) - 1
	chosen := make([]*Entry, last+1)
	chosen[last] = &compute
	for i, want := range f.request.Legs[:last] {
		if want.Supplied {
			continue
		}
		var err error
		if chosen[i], err = f.beside(uint64(i), candidates[i], chosen); err != nil || chosen[i] == nil {
			return Fit{}, false, err
		}
	}
	fixed := mman.Amount(0)
	for _, e := range chosen {
		if e == nil {
			continue
		}
		var err error
		if fixed, err = fixed.Add(e.Offer.Price.PerLease); err != nil {
			return Fit{}, false, err
		}
	}
	if fixed > f.request.Cap {
		f.reject(uint64(last), compute.ID, mman.ErrPrice, "cap") //nolint:gosec // an index
		return Fit{}, false, nil
	}
	return f.agreed(chosen)
}

// beside returns the best candidate for a leg that can stand with those that
// were chosen before, nil when there is none.
func (f *filling) beside(i uint64, candidates []Entry, chosen []*Entry) (*Entry, error) {
	compute := chosen[len(chosen)-1]
	for _, e := range candidates {
		if e.Offer.Sealed && e.Offer.Peer != compute.Offer.Peer {
			f.reject(i, e.ID, mman.ErrPolicy, policy.RuleSealed)
			continue
		}
		chosen[i] = &e
		answer, _, err := f.decide(i, chosen)
		if err != nil {
			return nil, err
		}
		if answer.Allowed() {
			return &e, nil
		}
	}
	return nil, nil //nolint:nilnil // no candidate is no error
}

// agreed asks every policy about the whole bundle and returns what they agree
// on.
func (f *filling) agreed(chosen []*Entry) (Fit, bool, error) {
	fit := Fit{Limits: f.request.Limits}
	again := false // a policy looks at the legs again while the work runs
	for i, want := range f.request.Legs {
		leg := market.Leg{Role: want.Role, Facet: want.Facet, Resource: want.Resource, Supplied: want.Supplied}
		if e := chosen[i]; e != nil {
			answer, program, err := f.decide(uint64(i), chosen)
			if err != nil || !answer.Allowed() {
				return Fit{}, false, err
			}
			again = again || program.ReadsLegs(answer.Record)
			leg.Resource, leg.Offer, leg.Provider, leg.Peer = e.Offer.Resource, e.ID, e.Offer.Provider, e.Offer.Peer
			leg.Sealed, leg.Price, leg.Meter, leg.Rules = e.Offer.Sealed, e.Offer.Price, e.Offer.Meter, answer.Record
			fit.Limits = fit.Limits.Tighten(e.Offer.Policy.Limits.Run())
			for _, rule := range answer.Residual {
				fit.Residual = append(fit.Residual, Residual{uint64(i), rule})
			}
		}
		fit.Legs = append(fit.Legs, leg)
	}
	for i, e := range chosen {
		if again && e != nil {
			fit.Legs[i].Region, fit.Legs[i].Attributes = e.Offer.Region, e.Offer.Attributes
		}
	}
	return fit, true, nil
}

// decide asks the policy of the i-th chosen offer, with the legs known that are
// chosen or supplied, and records a refusal.
func (f *filling) decide(i uint64, chosen []*Entry) (policy.Answer, *policy.Program, error) {
	e := chosen[i]
	program := e.Program
	if program == nil {
		var err error
		if program, err = e.Offer.Policy.Compile(); err != nil {
			return policy.Answer{}, nil, err
		}
	}
	if f.steps += program.Cost() + 1; f.steps > MaxSteps {
		f.reject(i, e.ID, mman.ErrTooLarge, "steps")
		return policy.Answer{}, program, nil
	}
	r := f.request
	c := policy.Context{
		Consumer: r.Consumer, Algorithm: r.Legs[0].Resource, Open: e.Open, Chain: &f.at, Storage: &policy.Legs{},
		Request: &policy.Request{Purpose: r.Purpose, Cap: r.Cap, Blocks: r.Blocks, Limits: r.Limits, Accepts: r.Accepts},
		Code:    f.leg(0, chosen), Compute: f.leg(len(chosen)-1, chosen), Data: f.data(chosen),
	}
	if program.ReadsUsage() {
		usage, err := f.book.Usage(*e, r.Consumer)
		if err != nil {
			return policy.Answer{}, nil, err
		}
		c.Usage = &usage
	}
	answer := program.Decide(c)
	if !answer.Allowed() {
		f.reject(i, e.ID, mman.ErrPolicy, answer.Rule)
	}
	return answer, program, nil
}

// leg returns a leg as policies see it, nil while it is open.
func (f *filling) leg(i int, chosen []*Entry) *policy.Leg {
	want := f.request.Legs[i]
	if want.Supplied {
		return &policy.Leg{Resource: want.Resource, Facet: want.Facet, Provider: f.request.Consumer, Supplied: true}
	}
	if chosen[i] == nil {
		return nil
	}
	o := chosen[i].Offer
	return &policy.Leg{
		Resource: o.Resource, Facet: o.Facet, Provider: o.Provider, Peer: o.Peer,
		Region: o.Region, Sealed: o.Sealed, Attributes: o.Attributes,
	}
}

// data returns the data legs, nil while one is open.
func (f *filling) data(chosen []*Entry) *policy.Legs {
	legs := policy.Legs{}
	for i := 1; i < len(chosen)-1; i++ {
		leg := f.leg(i, chosen)
		if leg == nil {
			return nil
		}
		legs = append(legs, *leg)
	}
	return &legs
}

// Facts returns the context of a decision while the work of a lease runs, but
// for the chain and the run: what the lease itself says.
func Facts(l market.Lease, leg market.Leg) policy.Context {
	c := policy.Context{
		Phase: policy.PhaseRun, Consumer: l.Consumer, Algorithm: l.Algorithm().Resource,
		Request: &policy.Request{Purpose: l.Purpose, Cap: l.Cap, Blocks: l.Expires - l.Opened, Limits: l.Limits, Accepts: l.Accepts},
		Code:    facts(l, l.Algorithm()), Compute: facts(l, l.Compute()), Data: &policy.Legs{}, Storage: &policy.Legs{},
		Match: &leg.Rules,
	}
	for _, d := range l.Data() {
		*c.Data = append(*c.Data, *facts(l, d))
	}
	return c
}

func facts(l market.Lease, leg market.Leg) *policy.Leg {
	out := &policy.Leg{
		Resource: leg.Resource, Facet: leg.Facet, Provider: leg.Provider, Peer: leg.Peer,
		Region: leg.Region, Supplied: leg.Supplied, Sealed: leg.Sealed, Attributes: leg.Attributes,
	}
	if leg.Supplied {
		out.Provider = l.Consumer
	}
	return out
}

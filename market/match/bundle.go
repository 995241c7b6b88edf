package match

import (
	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/resources"
)

// bundle fills the other legs around one compute offer.
func (f *filling) bundle(compute *candidate) (Fit, bool, error) {
	last := len(f.request.Legs) - 1
	chosen := make([]*candidate, last+1)
	chosen[last] = compute
	for i, want := range f.request.Legs[:last] {
		if want.Supplied {
			continue
		}
		var err error
		if chosen[i], err = f.beside(uint64(i), chosen); err != nil || chosen[i] == nil {
			return Fit{}, false, err
		}
	}
	fit, ok, err := f.agreed(chosen)
	if err != nil || !ok {
		return Fit{}, false, err
	}
	fixed, err := market.Lease{Legs: fit.Legs}.Fixed()
	if err != nil {
		return Fit{}, false, err
	}
	if fixed > f.request.Cap {
		f.reject(uint64(last), compute.ID, mman.ErrPrice, "cap") //nolint:gosec // an index
		return Fit{}, false, nil
	}
	return fit, true, nil
}

// beside returns the best candidate for a leg that can stand with those that
// were chosen before, nil when there is none.
func (f *filling) beside(i uint64, chosen []*candidate) (*candidate, error) {
	compute := chosen[len(chosen)-1]
	for _, c := range f.candidates[i] {
		if c.Offer.Sealed && c.Offer.Peer != compute.Offer.Peer {
			f.reject(i, c.ID, mman.ErrPolicy, policy.RuleSealed)
			continue
		}
		if c.Offer.Policy.Release != nil && compute.Offer.Facet != resources.FacetWasm {
			f.reject(i, c.ID, mman.ErrPolicy, policy.RuleRelease)
			continue
		}
		chosen[i] = c
		said, err := f.decide(i, chosen)
		if err != nil {
			return nil, err
		}
		if said.Allowed() {
			return c, nil
		}
	}
	return nil, nil //nolint:nilnil // no candidate is no error
}

// agreed asks every policy about the whole bundle and returns what they agree
// on.
func (f *filling) agreed(chosen []*candidate) (Fit, bool, error) {
	fit := Fit{Limits: f.request.Limits}
	again := false // a policy looks at the legs again while the work runs
	for i, want := range f.request.Legs {
		leg := market.Leg{Role: want.Role, Facet: want.Facet, Resource: want.Resource, Supplied: want.Supplied}
		if c := chosen[i]; c != nil {
			said, err := f.decide(uint64(i), chosen)
			if err != nil || !said.Allowed() {
				return Fit{}, false, err
			}
			open, err := f.open(c)
			if err != nil {
				return Fit{}, false, err
			}
			again = again || said.program.ReadsLegs(said.Record)
			leg.Resource, leg.Offer, leg.Provider, leg.Peer = c.Offer.Resource, c.ID, c.Offer.Provider, c.Offer.Peer
			leg.Sealed, leg.Price, leg.Meter, leg.Rules = c.Offer.Sealed, c.Offer.Price, c.Offer.Meter, said.Record
			leg.Royalties, leg.Release = c.Royalties, said.program.Release()
			leg.Factor, leg.Granted = price.Factor{Load: c.Offer.Price.LoadAt(open, c.Offer.Capacity)}, said.granted
			fit.Limits = fit.Limits.Tighten(said.program.Limits().Run())
			for _, rule := range said.Residual {
				fit.Residual = append(fit.Residual, Residual{uint64(i), rule})
			}
		}
		fit.Legs = append(fit.Legs, leg)
	}
	for i, c := range chosen {
		if again && c != nil {
			fit.Legs[i].Region, fit.Legs[i].Attributes = c.Offer.Region, c.Offer.Attributes
		}
	}
	return fit, true, nil
}

// decide asks the policy of the i-th chosen offer, with the legs known that are
// chosen or supplied, and records a refusal. Where one of its rules denies, it
// asks what the consumer was granted.
func (f *filling) decide(i uint64, chosen []*candidate) (ruling, error) {
	c := chosen[i]
	if c.Program == nil {
		var err error
		if c.Program, err = c.Offer.Policy.Compile(); err != nil {
			return ruling{}, err
		}
	}
	if f.steps += c.Program.Cost() + 1; f.steps > MaxSteps {
		f.reject(i, c.ID, mman.ErrTooLarge, "steps")
		return ruling{program: c.Program}, nil
	}
	context := f.context(chosen)
	said, err := f.ask(c, c.Program, context)
	if err != nil {
		return ruling{}, err
	}
	if !said.Allowed() && policy.ByRule(said.Rule) {
		revoked, err := f.grant(c)
		switch {
		case err != nil:
			return ruling{}, err
		case revoked:
			said.Rule = policy.RuleRevoked
		case c.granted != nil:
			f.steps += c.granted.Cost() + 1
			if said, err = f.ask(c, c.granted, context); err != nil {
				return ruling{}, err
			}
			said.granted = true
		}
	}
	if !said.Allowed() {
		f.reject(i, c.ID, mman.ErrPolicy, said.Rule)
	}
	return said, nil
}

// grant finds what the consumer was granted on the offer, once.
func (f *filling) grant(c *candidate) (revoked bool, err error) {
	if c.asked {
		return c.look.Grant != nil && c.look.Grant.Revoked, nil
	}
	c.asked = true
	g, ok, err := f.records.Grant(c.Entry, f.request.Consumer)
	if err != nil || !ok {
		return false, err
	}
	if c.look.Grant = &g; !g.Revoked {
		c.granted, err = c.Offer.Policy.Granted(g.Policy).Compile()
	}
	return g.Revoked, err
}

func (f *filling) ask(c *candidate, program *policy.Program, context policy.Context) (ruling, error) {
	if program.ReadsOpen() {
		open, err := f.open(c)
		if err != nil {
			return ruling{}, err
		}
		context.Open = open
	}
	if program.ReadsUsage() {
		if c.look.Usage == nil {
			usage, err := f.records.Usage(c.Entry, f.request.Consumer)
			if err != nil {
				return ruling{}, err
			}
			c.look.Usage = &usage
		}
		context.Usage = c.look.Usage
	}
	return ruling{Answer: program.Decide(context), program: program}, nil
}

// Alone is what the policy of an offer for one leg sees of the request before any
// other leg is chosen, but for what the ledger counts.
func Alone(r market.Request, leg uint64, o market.Offer, at policy.Chain) policy.Context {
	f := &filling{request: r, at: at, asks: &policy.Request{Purpose: r.Purpose, Cap: r.Cap, Blocks: r.Blocks, Limits: r.Limits, Accepts: r.Accepts, Network: r.Network}}
	chosen := make([]*candidate, len(r.Legs))
	if leg < uint64(len(chosen)) {
		chosen[leg] = &candidate{Entry: Entry{Offer: o}}
	}
	return f.context(chosen)
}

// context is what policies see of the request, the block and the legs.
func (f *filling) context(chosen []*candidate) policy.Context {
	r := f.request
	return policy.Context{
		Consumer: r.Consumer, Algorithm: r.Legs[0].ListedAs(), Chain: &f.at, Storage: &policy.Legs{},
		Request: f.asks, Code: f.leg(0, chosen), Compute: f.leg(len(chosen)-1, chosen), Data: f.data(chosen),
	}
}

// leg returns a leg as policies see it, nil while it is open.
func (f *filling) leg(i int, chosen []*candidate) *policy.Leg {
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
func (f *filling) data(chosen []*candidate) *policy.Legs {
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
		Phase: policy.PhaseRun, Consumer: l.Consumer, Algorithm: l.Algorithm().ListedAs(),
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

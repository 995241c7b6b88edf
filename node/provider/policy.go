package provider

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/decision"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/node/store"
	"github.com/limboid/massive-man/resources"
)

// guard is the policies of this node's own legs of a lease. The chain asked
// them when it matched; the guard asks again when a session opens, when a run
// begins and at every piece of output.
type guard struct {
	p     *Provider
	lease mman.LeaseID
	asked []asked
}

type asked struct {
	role    market.Role
	program *policy.Program
	context policy.Context
	digest  mman.Hash // of the context
	leg     market.Leg
	place   uint64 // of the leg in the lease
}

func (p *Provider) guard(lease market.Lease) (guard, error) {
	g := guard{p: p, lease: lease.ID}
	for i, leg := range lease.Legs {
		if leg.Supplied || leg.Peer != p.peer {
			continue
		}
		terms, err := p.terms(leg.Offer)
		switch {
		case notFound(err) && leg.Rules.Left == 0:
			continue // made before this node remembered its offers: all of it was decided on the chain
		case err != nil:
			return guard{}, fmt.Errorf("lease %s: policy of its %s: %w", lease.ID, leg.Role, err)
		}
		if leg.Granted {
			granted, err := p.granted(lease.ID, lease.Consumer, leg)
			if err != nil {
				return guard{}, err
			}
			terms = terms.Granted(granted)
		}
		program, err := terms.Compile()
		if err != nil {
			return guard{}, fmt.Errorf("lease %s: policy of its %s: %w", lease.ID, leg.Role, err)
		}
		context := match.Facts(lease, leg)
		g.asked = append(g.asked, asked{leg.Role, program, context, context.Digest(), leg, uint64(i)})
	}
	return g, nil
}

// granted returns what made the lease in the place of the offer's own rules, as
// long as it stands.
func (p *Provider) granted(lease mman.LeaseID, grantee mman.Address, leg market.Leg) (policy.Policy, error) {
	granted, err := p.ledger.Grant(leg, grantee)
	if notFound(err) {
		return granted, fmt.Errorf("lease %s: %w: rule %q: the share of its %s was revoked or has expired", lease, mman.ErrPolicy, policy.RuleRevoked, leg.Role)
	}
	if err != nil {
		return granted, fmt.Errorf("lease %s: share of its %s: %w", lease, leg.Role, err)
	}
	return granted, nil
}

// decide asks the policies of this node's own legs of a lease, between runs.
func (p *Provider) decide(lease market.Lease) error {
	g, err := p.guard(lease)
	if err != nil {
		return err
	}
	run, err := p.book.account(lease.ID).spent()
	if err != nil {
		return err
	}
	return g.decide(run, nil)
}

// ruling is one policy's answer: which of the guard's, about what, when.
type ruling struct {
	of     int
	asked  asked
	run    policy.Run
	chain  policy.Chain
	answer policy.Answer
}

// decide refuses what one of the policies denies, given what the lease's runs
// have done. Each answer is told to note, unless that is nil.
func (g guard) decide(run policy.Run, note func(ruling)) error {
	chain := policy.Chain{Height: g.p.ledger.Height()}
	if g.p.cfg.Now != nil {
		chain.Time = g.p.cfg.Now().Unix()
	}
	if note == nil {
		note = func(ruling) {}
	}
	for i, a := range g.asked {
		r := ruling{i, a, run, chain, policy.Answer{}}
		if a.leg.Granted {
			_, err := g.p.granted(g.lease, a.context.Consumer, a.leg)
			if errors.Is(err, mman.ErrPolicy) {
				r.answer = policy.Answer{Effect: policy.Deny, Rule: policy.RuleRevoked}
				note(r)
			}
			if err != nil {
				return err
			}
		}
		a.context.Run, a.context.Chain = &run, &chain
		r.answer = a.program.Decide(a.context)
		note(r)
		if !r.answer.Allowed() {
			why := ""
			if r.answer.Reason != "" {
				why = ": " + r.answer.Reason
			}
			return fmt.Errorf("lease %s: %w: rule %q of the %s's policy%s", g.lease, mman.ErrPolicy, r.answer.Rule, a.role, why)
		}
	}
	return nil
}

// allowed asks them about one more run, and logs what they say.
func (v *visit) allowed(number uint64) error {
	if err := v.account.room(v.lane); err != nil {
		return err
	}
	w, err := v.watch(number)
	if err != nil {
		return err
	}
	var entries []decision.Entry
	err = w.guard.decide(w.run, func(r ruling) { entries = append(entries, w.entry(decision.Start, r)) })
	if lerr := v.log(entries); lerr != nil {
		return errors.Join(err, lerr)
	}
	if err != nil { // no statement will bring it to disk
		err = errors.Join(err, v.flush())
	}
	return err
}

// watched lets output through only as far as the policies do, and counts it.
type watched struct {
	v      *visit
	guard  guard
	number uint64 // of the run

	mu    sync.Mutex // standard output and error may come at once
	run   policy.Run // with this run
	bytes uint64     // of this run
	// pieces are the latest decisions on output of each of the guard's policies,
	// which are logged when another answer comes or the run is over.
	pieces []decision.Entry
}

// watch returns what the policies see of a run that is about to begin.
func (v *visit) watch(number uint64) (*watched, error) {
	run, err := v.account.spent()
	run.Calls++
	return &watched{v: v, guard: v.guard, number: number, run: run, pieces: make([]decision.Entry, len(v.guard.asked))}, err
}

func (w *watched) entry(event decision.Event, r ruling) decision.Entry {
	about := decision.Entry{Lease: w.guard.lease, Lane: w.v.lane, Run: w.number, Event: event, Leg: r.asked.place, Offer: r.asked.leg.Offer}
	return decision.New(about, r.asked.digest, r.run, r.chain, r.answer)
}

// pass releases a piece of output.
func (w *watched) pass(to func([]byte) error) func([]byte) error {
	return func(b []byte) error {
		if err := w.admit(uint64(len(b))); err != nil {
			return err
		}
		return to(b) // not under the lock: a consumer that does not read blocks it
	}
}

func (w *watched) admit(n uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	run := w.run
	run.OutputBytes += n
	var over []decision.Entry
	err := w.guard.decide(run, func(r ruling) {
		e, last := w.entry(decision.Output, r), &w.pieces[r.of]
		switch {
		case last.Pieces > 0 && last.Same(r.answer):
			e.Pieces += last.Pieces
		case last.Pieces > 0:
			over = append(over, *last)
		}
		*last = e
	})
	if err = errors.Join(err, w.v.log(over)); err != nil {
		return err
	}
	w.run, w.bytes = run, w.bytes+n
	return nil
}

// end logs the decisions on the last pieces.
func (w *watched) end() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := slices.DeleteFunc(w.pieces, func(e decision.Entry) bool { return e.Pieces == 0 })
	w.pieces = nil
	return w.v.log(last)
}

// released is how much of the run's output went out.
func (w *watched) released() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes
}

// spent adds up what all runs of the lease did, whether they were paid or not.
func (a *account) spent() (run policy.Run, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var sum resources.Usage
	for _, l := range a.lanes {
		if sum, err = sum.Add(l.Used); err != nil {
			return run, err
		}
	}
	return policy.Run{Calls: sum.CallCount, InputBytes: sum.InBytes, OutputBytes: sum.OutBytes, WallMs: sum.WallMs}, nil
}

// denied remembers a run that a policy ended: nothing is owed for it, but it
// counts for the next.
func (v *visit) denied(bytes uint64) error {
	return v.p.book.update(v.account, v.lane, func(rec *laneRecord, _ *store.Batch) (bool, error) {
		var err error
		rec.Used, err = rec.Used.Add(resources.Usage{CallCount: 1, OutBytes: bytes})
		return true, err
	})
}

// terms returns the policy of an offer of this node, also of one that no longer
// stands: a lease keeps the terms that it was made under.
func (p *Provider) terms(offer mman.CID) (policy.Policy, error) {
	b, ok, err := p.records.Get(offerKey(offer))
	if err != nil {
		return policy.Policy{}, err
	}
	if ok && len(b) > expiryBytes {
		o, _, err := market.DecodeOffer(b[expiryBytes:])
		return o.Policy, err
	}
	o, err := p.ledger.Offer(offer)
	return o.Policy, err
}

const (
	// expiryBytes is the length of the height before an offer's bytes.
	expiryBytes = 8
	// longestLease is the greatest max_lease_blocks that a genesis may set.
	longestLease = 31_536_000
)

func offerKey(id mman.CID) []byte { return append([]byte{prefixOffer}, id.Bytes()...) }

// remember keeps an offer that is about to go to the chain, and drops those
// under which no lease can be open any more.
func (p *Provider) remember(id mman.CID, signed market.SignedOffer, expires uint64) error {
	batch := p.records.NewBatch()
	height := p.ledger.Height()
	it, err := p.records.Iterate([]byte{prefixOffer}, []byte{prefixOffer + 1}, false)
	if err != nil {
		return err
	}
	defer it.Close()
	for ; it.Valid(); it.Next() {
		if b := it.Value(); len(b) < expiryBytes || binary.BigEndian.Uint64(b)+longestLease < height {
			if err := batch.Delete(slices.Clone(it.Key())); err != nil {
				return err
			}
		}
	}
	if err := it.Err(); err != nil {
		return err
	}
	if err := batch.Set(offerKey(id), append(binary.BigEndian.AppendUint64(nil, expires), signed.Bytes...)); err != nil {
		return err
	}
	return batch.Write()
}

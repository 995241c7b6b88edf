package policy

import (
	"fmt"
	"slices"
	"strings"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/policy/condition"
	"github.com/limboid/massive-man/resources"
)

// Record is what a match leaves for the run: one bit for each rule, the lowest
// for the first.
type Record struct {
	// Held has the rules that held when the lease was matched.
	Held uint64 `cbor:"held" json:"held"`
	// Left has the rules that could not be decided then: the residual.
	Left uint64 `cbor:"left" json:"left"`
}

func (r Record) held(rule int) bool { return r.Held>>rule&1 == 1 }

func (r Record) left(rule int) bool { return r.Left>>rule&1 == 1 }

// Answer is a decision with the rule that made it.
type Answer struct {
	Effect Effect `json:"effect"`
	Rule   string `json:"rule"`
	// Reason says why a rule that could not be evaluated denied.
	Reason string `json:"reason,omitempty"`
	// Obligations are what the consumer takes on, when it is allowed.
	Obligations []Obligation `json:"obligations,omitempty"`
	// Residual are the ids of the rules left unknown, sorted; the allow stands
	// only until they are decided. Never at run time.
	Residual []string `json:"residual,omitempty"`
	// Record is for Context.Match of the decisions at run time.
	Record Record `json:"-"`
}

// Allowed reports whether the answer is an allow, perhaps with a residual.
func (a Answer) Allowed() bool { return a.Effect == Allow }

// Program is a policy ready to be evaluated. It is immutable and may be shared.
type Program struct {
	policy     Policy
	conditions []*condition.Condition // nil where a rule has none
	cost       uint64
	usage      bool   // a condition reads usage.leases_…
	open       bool   // a condition reads usage.open
	clock      bool   // a condition reads the height, the time or counts by days
	legs       uint64 // the rules that read a leg
	code       uint64 // the rules that read the algorithm leg
}

// Compile checks the conditions of all rules and their bounds. The errors are
// those of Validate, which calls it.
func (p Policy) Compile() (*Program, error) {
	g := &Program{policy: p, conditions: make([]*condition.Condition, len(p.Rules))}
	bytes := 0
	for i, r := range p.Rules {
		if r.When == "" {
			continue
		}
		if bytes += len(r.When); bytes > MaxWhenBytes {
			return nil, fmt.Errorf("%w: policy.rules: conditions of more than %d bytes together", mman.ErrTooLarge, MaxWhenBytes)
		}
		c, err := condition.Compile(r.When, words)
		if err != nil {
			return nil, fmt.Errorf("policy.rules[%d].when: %w", i, err)
		}
		g.conditions[i] = c
		if err := g.groups(i, r, c); err != nil {
			return nil, fmt.Errorf("policy.rules[%d].when: %w", i, err)
		}
		if g.cost += min(c.Cost(), MaxCost+1); g.cost > MaxCost {
			return nil, fmt.Errorf("%w: policy.rules[%d].when: with it, an evaluation may take more than %d steps; loop over fewer lists, or shorter ones", mman.ErrTooLarge, i, MaxCost)
		}
	}
	return g, nil
}

// groups looks at what a condition reads. Leases are counted by the chain when
// a request is matched, so nobody can answer for usage later.
func (g *Program) groups(i int, r Rule, c *condition.Condition) error {
	usage, run := "", ""
	for _, w := range c.Words() {
		name := words[w].Name
		switch group, _, _ := strings.Cut(name, "."); group {
		case "usage":
			usage = name
			g.open = g.open || name == "usage.open"
			g.usage = g.usage || name != "usage.open"
			g.clock = g.clock || name != "usage.open"
		case "chain":
			g.clock = true
		case "run":
			run = name
		case "algorithm":
			g.code |= 1 << i
			g.legs |= 1 << i
		case "compute", "data", "storage":
			g.legs |= 1 << i
		}
	}
	switch {
	case usage != "" && r.Phase != PhaseMatch:
		return fmt.Errorf("%w: %s is known when a request is matched, not in phase %s: use phase match", mman.ErrUnsupported, usage, r.Phase)
	case usage != "" && run != "":
		return fmt.Errorf("%w: %s is known when a request is matched, %s when the work runs: write two rules", mman.ErrUnsupported, usage, run)
	}
	return nil
}

// ChoosesAlgorithms reports whether the policy says what may be computed: it lists the
// algorithms, holds their output back, or allows nothing but by rules that read
// algorithm.*. Without that, whoever may compute on data may print it whole: what some
// rule does not deny, anybody can write and publish.
func (g *Program) ChoosesAlgorithms() bool {
	if len(g.policy.Algorithms) > 0 || g.policy.Release != nil {
		return true
	}
	for i, r := range g.policy.Rules {
		if describes := g.code>>i&1 == 1; r.Effect == Allow && !describes {
			return false
		}
	}
	return g.policy.Default != Allow
}

// ReadsUsage reports whether a decision needs Context.Usage.
func (g *Program) ReadsUsage() bool { return g.usage }

// ReadsOpen reports whether a decision needs Context.Open.
func (g *Program) ReadsOpen() bool { return g.open || g.policy.Limits.Concurrent > 0 }

// ReadsClock reports whether time alone can change a decision: a condition reads
// the height, the time, or leases counted by days.
func (g *Program) ReadsClock() bool { return g.clock }

// ReadsLegs reports whether a rule that is evaluated at run time looks at the
// legs.
func (g *Program) ReadsLegs(match Record) bool {
	for i, r := range g.policy.Rules {
		if (r.Phase != PhaseMatch || match.left(i)) && g.legs>>i&1 == 1 {
			return true
		}
	}
	return false
}

// Limits returns the limits of the policy.
func (g *Program) Limits() Limits { return g.policy.Limits }

// Release returns how output leaves under the policy, nil for as it comes.
func (g *Program) Release() *resources.Release { return g.policy.Release }

// Cost returns the worst cost of an evaluation, at most MaxCost.
func (g *Program) Cost() uint64 { return g.cost }

// Decide answers for the given context; see Program.Decide. A policy that
// Validate refuses denies.
func (p Policy) Decide(c Context) Answer {
	g, err := p.Compile()
	if err != nil {
		return Answer{Effect: Deny, Rule: RuleDefault, Reason: err.Error()}
	}
	return g.Decide(c)
}

// Decide answers for the given context: the algorithm list first; at match time
// the cap on open leases and the obligations; then the first rule that denies,
// or whose evaluation fails; then the first allow that applies; then the
// default. At match time, an allow rule that cannot be decided yet is enough
// for an allow with a residual; at run time, a rule that cannot be decided
// denies.
func (g *Program) Decide(c Context) Answer {
	if a, ok := g.envelope(&c); ok {
		return a
	}
	var record Record
	var residual []string
	granted, pending := "", ""
	known := &reading{context: &c}
	for i, r := range g.policy.Rules {
		truth := g.rule(i, known)
		switch {
		case truth.Truth == condition.Failed, truth.Truth == condition.True && r.Effect == Deny:
			return Answer{Effect: Deny, Rule: r.ID, Reason: truth.Reason}
		case truth.Truth == condition.Undecided && c.Phase == PhaseRun:
			return Answer{Effect: Deny, Rule: r.ID, Reason: g.missing(i, &c)}
		case truth.Truth == condition.Undecided:
			record.Left |= 1 << i
			residual = append(residual, r.ID)
			if r.Effect == Allow && pending == "" {
				pending = r.ID
			}
		case truth.Truth == condition.True:
			record.Held |= 1 << i
			if granted == "" {
				granted = r.ID
			}
		}
	}
	if granted == "" && g.policy.Default == Allow {
		granted = RuleDefault
	}
	if granted == "" {
		granted = pending
	}
	if granted == "" {
		return Answer{Effect: Deny, Rule: RuleDefault}
	}
	slices.Sort(residual)
	return Answer{Effect: Allow, Rule: granted, Obligations: g.policy.Obligations, Residual: residual, Record: record}
}

// envelope decides what needs no rule; it is silent when nothing denies.
func (g *Program) envelope(c *Context) (Answer, bool) {
	p := g.policy
	if len(p.Algorithms) > 0 && !slices.Contains(p.Algorithms, c.Algorithm) {
		return Answer{Effect: Deny, Rule: RuleAlgorithms}, true
	}
	if c.Phase == PhaseRun {
		return Answer{}, false // what follows was decided when the lease was matched
	}
	if p.Limits.Concurrent > 0 && c.Open >= p.Limits.Concurrent {
		return Answer{Effect: Deny, Rule: RuleConcurrent}, true
	}
	if c.Request != nil && c.Request.Network {
		return Answer{Effect: Deny, Rule: RuleNetwork, Reason: "work has no network"}, true
	}
	for _, o := range p.Obligations {
		if c.Request == nil || !slices.Contains(c.Request.Accepts, o) {
			return Answer{Effect: Deny, Rule: RuleObligations, Reason: "it does not accept " + o.String()}, true
		}
	}
	return Answer{}, false
}

// rule says whether a rule applies.
func (g *Program) rule(i int, words *reading) condition.Result {
	c := words.context
	r := g.policy.Rules[i]
	if c.Phase == PhaseRun && r.Phase == PhaseMatch && c.Match != nil && !c.Match.left(i) {
		if c.Match.held(i) {
			return condition.Result{Truth: condition.True}
		}
		return condition.Result{}
	}
	switch {
	case len(r.Accounts) > 0 && !slices.Contains(r.Accounts, c.Consumer):
		return condition.Result{}
	case r.Phase == PhaseRun && c.Phase != PhaseRun:
		return condition.Result{Truth: condition.Undecided}
	case g.conditions[i] == nil:
		return condition.Result{Truth: condition.True}
	default:
		return g.conditions[i].Eval(words.read)
	}
}

// missing names the first word that a rule needs and that is not known.
func (g *Program) missing(i int, c *Context) string {
	if g.conditions[i] != nil {
		for _, w := range g.conditions[i].Words() {
			if c.read(w).IsUnknown() {
				return words[w].Name + " is not known"
			}
		}
	}
	return "it cannot be decided"
}

// Verdict is what one rule says in a context, for people.
type Verdict struct {
	Rule   string          `json:"rule"`
	Effect Effect          `json:"effect"`
	Phase  Phase           `json:"phase"`
	Truth  condition.Truth `json:"-"`
	// Applies is the truth in a word: true, false, unknown or failed.
	Applies string `json:"applies"`
	Reason  string `json:"reason,omitempty"`
	// Facts are the words that its condition reads, with their values.
	Facts []Fact `json:"facts,omitempty"`
}

// Fact is a word with its value.
type Fact struct {
	Word  string `json:"word"`
	Value string `json:"value"`
}

// Explain evaluates every rule, also those that Decide does not need.
func (g *Program) Explain(c Context) []Verdict {
	out := make([]Verdict, len(g.policy.Rules))
	known := &reading{context: &c}
	for i, r := range g.policy.Rules {
		result := g.rule(i, known)
		v := Verdict{Rule: r.ID, Effect: r.Effect, Phase: r.Phase, Truth: result.Truth, Applies: result.Truth.String(), Reason: result.Reason}
		switch {
		case len(r.Accounts) > 0 && !slices.Contains(r.Accounts, c.Consumer):
			v.Reason = "the consumer is not among its accounts"
		case result.Truth == condition.Undecided && r.Phase == PhaseRun && c.Phase != PhaseRun:
			v.Reason = "it is decided when the work runs"
		case result.Truth == condition.Undecided:
			v.Reason = g.missing(i, &c)
		}
		if g.conditions[i] != nil {
			for _, w := range g.conditions[i].Words() {
				v.Facts = append(v.Facts, Fact{words[w].Name, c.read(w).String()})
			}
		}
		out[i] = v
	}
	return out
}

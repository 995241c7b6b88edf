package policy

import (
	"fmt"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// Effect is what a rule or a whole policy says.
type Effect string

// The two effects.
const (
	Allow Effect = "allow"
	Deny  Effect = "deny"
)

// Phase is when a rule is evaluated.
type Phase string

// The phases: on the chain when a request is matched, at the provider when the
// work runs, or both.
const (
	PhaseMatch Phase = "match"
	PhaseRun   Phase = "run"
	PhaseBoth  Phase = "both"
)

// Ids of the decisions that no rule of the author's made.
const (
	RuleDefault    = "default"           // nothing else decided
	RuleAlgorithms = "algorithms"        // the algorithm is not on the list
	RuleConcurrent = "limits.concurrent" // too many open leases
)

// Bounds of a policy.
const (
	MaxRules      = 32
	MaxAccounts   = 64
	MaxAlgorithms = 64
	maxID         = 64
)

// Policy is the provider's rules on a Resource.
type Policy struct {
	// Default decides when no rule does; an empty one means deny.
	Default Effect `cbor:"default"     json:"default"`
	// Rules are tried in order; any deny that applies overrides every allow.
	Rules  []Rule `cbor:"rules"       json:"rules,omitempty"`
	Limits Limits `cbor:"limits"      json:"limits"`
	// Algorithms, when there are any, are the only ones that may see the data:
	// CIDs of algorithm manifests, or of modules that the consumer supplies.
	Algorithms []mman.CID `cbor:"algorithms"  json:"algorithms,omitempty"`
	// Obligations are what the consumer takes on by signing the request.
	Obligations []Obligation `cbor:"obligations" json:"obligations,omitempty"`
	// Royalty is the owner's share when a child is sold, in basis points.
	Royalty uint64 `cbor:"royalty"     json:"royalty,omitempty"`
}

// Rule allows or denies the accounts that it names, or everybody when it names
// none.
type Rule struct {
	ID       string         `cbor:"id"       json:"id"`
	Effect   Effect         `cbor:"effect"   json:"effect"`
	Phase    Phase          `cbor:"phase"    json:"phase"`
	Accounts []mman.Address `cbor:"accounts" json:"accounts,omitempty"`
	// When is a condition in restricted CEL.
	When string `cbor:"when"     json:"when,omitempty"`
}

// Limits bound the work that a lease may do; zero bounds nothing.
type Limits struct {
	WallMs      uint64 `cbor:"wall_ms"      json:"wall_ms,omitempty"`
	MemoryBytes uint64 `cbor:"memory_bytes" json:"memory_bytes,omitempty"`
	InputBytes  uint64 `cbor:"input_bytes"  json:"input_bytes,omitempty"`
	OutputBytes uint64 `cbor:"output_bytes" json:"output_bytes,omitempty"`
	// Concurrent is the number of leases that may be open at once.
	Concurrent uint64 `cbor:"concurrent"   json:"concurrent,omitempty"`
	// Network is what the work may reach: "none".
	Network string `cbor:"network"      json:"network,omitempty"`
}

// Obligation is a named duty, with a value where it needs one.
type Obligation struct {
	Name  string `cbor:"name"  json:"name"`
	Value string `cbor:"value" json:"value,omitempty"`
}

// Run returns the bounds that an executor enforces.
func (l Limits) Run() resources.Limits {
	return resources.Limits{WallMs: l.WallMs, MemoryBytes: l.MemoryBytes, InputBytes: l.InputBytes, OutputBytes: l.OutputBytes}
}

// Context is what a decision may depend on.
type Context struct {
	// Consumer is the account that asks.
	Consumer mman.Address
	// Algorithm is the algorithm leg: its manifest's CID, or the module's own
	// when the consumer supplies it.
	Algorithm mman.CID
	// Open is the number of the offer's leases that are open now.
	Open uint64
}

// Answer is a decision with the rule that made it.
type Answer struct {
	Effect Effect `json:"effect"`
	Rule   string `json:"rule"`
}

// Allowed reports whether the answer is an allow.
func (a Answer) Allowed() bool { return a.Effect == Allow }

// Decide answers for the given context: the algorithm list first, then the cap
// on open leases, then any deny that applies, then the first allow that
// applies, then the default. The policy must be valid.
func (p Policy) Decide(c Context) Answer {
	if len(p.Algorithms) > 0 && !slices.Contains(p.Algorithms, c.Algorithm) {
		return Answer{Deny, RuleAlgorithms}
	}
	if p.Limits.Concurrent > 0 && c.Open >= p.Limits.Concurrent {
		return Answer{Deny, RuleConcurrent}
	}
	for _, effect := range []Effect{Deny, Allow} {
		for _, r := range p.Rules {
			if r.Effect == effect && r.applies(c) {
				return Answer{effect, r.ID}
			}
		}
	}
	if p.Default == Allow {
		return Answer{Allow, RuleDefault}
	}
	return Answer{Deny, RuleDefault}
}

func (r Rule) applies(c Context) bool {
	return len(r.Accounts) == 0 || slices.Contains(r.Accounts, c.Consumer)
}

// Validate reports the first field that breaks a rule (mman.ErrInvalid,
// ErrTooLarge) or that this version would not enforce (mman.ErrUnsupported).
func (p Policy) Validate() error {
	if p.Default != Allow && p.Default != Deny {
		return fmt.Errorf("%w: policy.default %.16q: use allow or deny", mman.ErrInvalid, p.Default)
	}
	if len(p.Rules) > MaxRules {
		return fmt.Errorf("%w: policy.rules: %d rules, at most %d are allowed", mman.ErrTooLarge, len(p.Rules), MaxRules)
	}
	for i, r := range p.Rules {
		if err := r.validate(); err != nil {
			return fmt.Errorf("policy.rules[%d]: %w", i, err)
		}
		for _, earlier := range p.Rules[:i] {
			if earlier.ID == r.ID {
				return fmt.Errorf("%w: policy.rules[%d].id %q is used twice", mman.ErrInvalid, i, r.ID)
			}
		}
	}
	if len(p.Algorithms) > MaxAlgorithms {
		return fmt.Errorf("%w: policy.algorithms: %d of them, at most %d are allowed", mman.ErrTooLarge, len(p.Algorithms), MaxAlgorithms)
	}
	for i, a := range p.Algorithms {
		if a.IsZero() || slices.Contains(p.Algorithms[:i], a) {
			return fmt.Errorf("%w: policy.algorithms[%d] %q: name each algorithm once by its cid", mman.ErrInvalid, i, a)
		}
	}
	if len(p.Obligations) > 0 {
		return fmt.Errorf("%w: policy.obligations: this version enforces none, take them out", mman.ErrUnsupported)
	}
	if p.Royalty > 0 {
		return fmt.Errorf("%w: policy.royalty: this version pays none, take it out", mman.ErrUnsupported)
	}
	return p.Limits.validate()
}

func (r Rule) validate() error {
	if r.ID == "" || len(r.ID) > maxID {
		return fmt.Errorf("%w: id %.80q: 1 to %d characters are needed", mman.ErrInvalid, r.ID, maxID)
	}
	for _, c := range []byte(r.ID) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return fmt.Errorf("%w: id %.80q: use a-z, 0-9, - and _", mman.ErrInvalid, r.ID)
		}
	}
	if r.ID == RuleDefault || r.ID == RuleAlgorithms {
		return fmt.Errorf("%w: id %q has a meaning of its own, choose another", mman.ErrInvalid, r.ID)
	}
	if r.Effect != Allow && r.Effect != Deny {
		return fmt.Errorf("%w: effect %.16q: use allow or deny", mman.ErrInvalid, r.Effect)
	}
	switch r.Phase {
	case PhaseMatch:
	case PhaseRun, PhaseBoth:
		return fmt.Errorf("%w: phase %q: this version evaluates rules at match time only, use match", mman.ErrUnsupported, r.Phase)
	default:
		return fmt.Errorf("%w: phase %.16q: use match", mman.ErrInvalid, r.Phase)
	}
	if r.When != "" {
		return fmt.Errorf("%w: when: this version enforces account lists only, use accounts", mman.ErrUnsupported)
	}
	if len(r.Accounts) > MaxAccounts {
		return fmt.Errorf("%w: accounts: %d of them, at most %d are allowed", mman.ErrTooLarge, len(r.Accounts), MaxAccounts)
	}
	for i, a := range r.Accounts {
		if a.IsZero() || slices.Contains(r.Accounts[:i], a) {
			return fmt.Errorf("%w: accounts[%d] %s: name each account once", mman.ErrInvalid, i, a)
		}
	}
	return nil
}

func (l Limits) validate() error {
	top := resources.MaxLimits()
	for _, f := range []struct {
		name       string
		value, max uint64
	}{
		{"wall", l.WallMs, top.WallMs},
		{"memory", l.MemoryBytes, top.MemoryBytes},
		{"input", l.InputBytes, top.InputBytes},
		{"output", l.OutputBytes, top.OutputBytes},
		{"concurrent", l.Concurrent, 1 << 20},
	} {
		if f.value > f.max {
			return fmt.Errorf("%w: policy.limits.%s %d: at most %d", mman.ErrInvalid, f.name, f.value, f.max)
		}
	}
	if l.Network != "" && l.Network != "none" {
		return fmt.Errorf("%w: policy.limits.network %.32q: work has no network, write none", mman.ErrUnsupported, l.Network)
	}
	return nil
}

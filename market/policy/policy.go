package policy

import (
	"fmt"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/policy/condition"
	"github.com/limboid/massive-man/resources"
)

// Effect is what a rule or a whole policy says.
type Effect string

// The two effects.
const (
	Allow Effect = "allow"
	Deny  Effect = "deny"
)

// Phase is when a rule is evaluated. A rule of the match phase is decided once
// and keeps its answer; only what it could not know is looked at again.
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
	RuleDefault     = "default"           // nothing else decided
	RuleAlgorithms  = "algorithms"        // the algorithm is not on the list
	RuleConcurrent  = "limits.concurrent" // too many open leases
	RuleNetwork     = "limits.network"    // the work wants a network
	RuleObligations = "obligations"       // the consumer does not accept one
	RuleSealed      = "sealed"            // sealed data and another node's compute; decided by market/match
	RuleRevoked     = "revoked"           // a grant that was taken back; decided by market/match
	RuleRelease     = "release"           // what is computed may not leave this way; decided by market/match and when the work runs
)

// Bounds of a policy.
const (
	MaxRules      = 32
	MaxAccounts   = 64
	MaxAlgorithms = 64
	maxID         = 64
	maxRoyalty    = 5000 // basis points
	// MaxWhenBytes bounds the conditions of all rules together.
	MaxWhenBytes = condition.MaxBytes
	// MaxCost bounds the cost of the worst evaluation of all conditions
	// together, in steps of some nanoseconds; see package condition.
	MaxCost = 16_000
)

// Policy is the provider's rules on a Resource.
type Policy struct {
	// Default decides when no rule does; an empty one means deny.
	Default Effect `cbor:"default"     json:"default"`
	// Rules are tried in order; any deny that applies overrides every allow.
	Rules  []Rule `cbor:"rules"       json:"rules,omitempty"`
	Limits Limits `cbor:"limits"      json:"limits"`
	// Algorithms, when there are any, are the only ones that may see the data:
	// CIDs of algorithm manifests, or of modules that the consumer supplies; a
	// script must be published to be listed, see market.LegRequest.ListedAs.
	Algorithms []mman.CID `cbor:"algorithms"  json:"algorithms,omitempty"`
	// Obligations are what the consumer takes on by signing the request.
	Obligations []Obligation `cbor:"obligations" json:"obligations,omitempty"`
	// Release says how what is computed on the data leaves its node; nil lets output
	// out as it comes. It takes runs of WebAssembly that are no conversations.
	Release *resources.Release `cbor:"release,omitempty" json:"release,omitempty"`
	// Royalty is the owner's share when a child is sold, in basis points, at most
	// 5000: an offer of a child that names less is refused while this one stands.
	Royalty uint64 `cbor:"royalty"     json:"royalty,omitempty"`
}

// Rule allows or denies the accounts that it names, or everybody when it names
// none, where its condition holds.
type Rule struct {
	ID       string         `cbor:"id"       json:"id"`
	Effect   Effect         `cbor:"effect"   json:"effect"`
	Phase    Phase          `cbor:"phase"    json:"phase"`
	Accounts []mman.Address `cbor:"accounts" json:"accounts,omitempty"`
	// When is a condition in restricted CEL over Words; an empty one holds.
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
	// Network is "none", or "port" when others may reach hosted work at a port of its
	// provider. Work itself reaches no network either way.
	Network string `cbor:"network"      json:"network,omitempty"`
}

// Run returns the bounds that an executor enforces.
func (l Limits) Run() resources.Limits {
	return resources.Limits{WallMs: l.WallMs, MemoryBytes: l.MemoryBytes, InputBytes: l.InputBytes, OutputBytes: l.OutputBytes}
}

// Granted returns the policy for an account to which the holder granted more:
// the grant's rules and default in the place of p's own; what bounds the work,
// the algorithms that may see the data, and the obligations stay, and the grant
// may only add to them.
func (p Policy) Granted(grant Policy) Policy {
	out := p
	out.Default, out.Rules = grant.Default, grant.Rules
	out.Limits = p.Limits.tighten(grant.Limits)
	out.Obligations = slices.Clone(p.Obligations)
	for _, o := range grant.Obligations {
		if !slices.ContainsFunc(out.Obligations, func(has Obligation) bool { return has.Name == o.Name }) {
			out.Obligations = append(out.Obligations, o)
		}
	}
	if p.Release == nil {
		out.Release = grant.Release
	}
	out.Obligations = out.Obligations[:min(len(out.Obligations), MaxObligations)]
	return out
}

func (l Limits) tighten(by Limits) Limits {
	lower := func(a, b uint64) uint64 {
		if a == 0 || b > 0 && b < a {
			return b
		}
		return a
	}
	return Limits{
		WallMs: lower(l.WallMs, by.WallMs), MemoryBytes: lower(l.MemoryBytes, by.MemoryBytes),
		InputBytes: lower(l.InputBytes, by.InputBytes), OutputBytes: lower(l.OutputBytes, by.OutputBytes),
		Concurrent: lower(l.Concurrent, by.Concurrent), Network: network(l.Network, by.Network),
	}
}

// network is the stricter of two words; a grant opens no port.
func network(a, b string) string {
	if a == "none" || b == "none" {
		return "none"
	}
	return a
}

// ByRule reports whether the id is of a rule of the author's or of the default,
// which a grant stands in for.
func ByRule(id string) bool {
	switch id {
	case RuleAlgorithms, RuleConcurrent, RuleNetwork, RuleObligations, RuleSealed, RuleRevoked, RuleRelease:
		return false
	default:
		return true
	}
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
	if err := ValidObligations(p.Obligations); err != nil {
		return fmt.Errorf("policy.obligations: %w", err)
	}
	if p.Royalty > maxRoyalty {
		return fmt.Errorf("%w: policy.royalty %d: at most %d basis points", mman.ErrInvalid, p.Royalty, maxRoyalty)
	}
	if err := p.Limits.validate(); err != nil {
		return err
	}
	if p.Release != nil {
		if err := p.Release.Validate(); err != nil {
			return fmt.Errorf("policy.release.%w", err)
		}
	}
	_, err := p.Compile()
	return err
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
	switch r.ID {
	case RuleDefault, RuleAlgorithms, RuleObligations, RuleSealed, RuleRevoked, RuleRelease:
		return fmt.Errorf("%w: id %q has a meaning of its own, choose another", mman.ErrInvalid, r.ID)
	}
	if r.Effect != Allow && r.Effect != Deny {
		return fmt.Errorf("%w: effect %.16q: use allow or deny", mman.ErrInvalid, r.Effect)
	}
	switch r.Phase {
	case PhaseMatch, PhaseRun, PhaseBoth:
	default:
		return fmt.Errorf("%w: phase %.16q: use match, run or both", mman.ErrInvalid, r.Phase)
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
	if l.Network != "" && l.Network != "none" && l.Network != "port" {
		return fmt.Errorf("%w: policy.limits.network %.32q: work has no network: write none, or port to let others reach hosted work", mman.ErrUnsupported, l.Network)
	}
	return nil
}

package policy_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/resources"
)

func rule(id string, effect policy.Effect, accounts ...mman.Address) policy.Rule {
	return policy.Rule{ID: id, Effect: effect, Phase: policy.PhaseMatch, Accounts: accounts}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	one, two := account(1), account(2)
	for _, tc := range []struct {
		name    string
		policy  policy.Policy
		context policy.Context
		want    policy.Answer
	}{
		{"default allow", policy.Policy{Default: policy.Allow}, policy.Context{Consumer: one}, policy.Answer{Effect: policy.Allow, Rule: policy.RuleDefault}},
		{"default deny", policy.Policy{Default: policy.Deny}, policy.Context{Consumer: one}, policy.Answer{Effect: policy.Deny, Rule: policy.RuleDefault}},
		{"no default is deny", policy.Policy{}, policy.Context{Consumer: one}, policy.Answer{Effect: policy.Deny, Rule: policy.RuleDefault}},
		{"allowed by name", policy.Policy{Default: policy.Deny, Rules: []policy.Rule{rule("a", policy.Allow, one)}}, policy.Context{Consumer: one}, policy.Answer{Effect: policy.Allow, Rule: "a"}},
		{"another is not", policy.Policy{Default: policy.Deny, Rules: []policy.Rule{rule("a", policy.Allow, one)}}, policy.Context{Consumer: two}, policy.Answer{Effect: policy.Deny, Rule: policy.RuleDefault}},
		{"deny overrides an earlier allow", policy.Policy{Default: policy.Allow, Rules: []policy.Rule{rule("a", policy.Allow), rule("b", policy.Deny, one)}}, policy.Context{Consumer: one}, policy.Answer{Effect: policy.Deny, Rule: "b"}},
		{"the first allow is named", policy.Policy{Rules: []policy.Rule{rule("a", policy.Allow, two), rule("b", policy.Allow), rule("c", policy.Allow)}}, policy.Context{Consumer: one}, policy.Answer{Effect: policy.Allow, Rule: "b"}},
		{"the first deny is named", policy.Policy{Rules: []policy.Rule{rule("a", policy.Deny, two), rule("b", policy.Deny, one), rule("c", policy.Deny)}}, policy.Context{Consumer: one}, policy.Answer{Effect: policy.Deny, Rule: "b"}},
		{"algorithm on the list", policy.Policy{Default: policy.Allow, Algorithms: []mman.CID{algorithm("x")}}, policy.Context{Algorithm: algorithm("x")}, policy.Answer{Effect: policy.Allow, Rule: policy.RuleDefault}},
		{"algorithm not on the list", policy.Policy{Default: policy.Allow, Algorithms: []mman.CID{algorithm("x")}, Rules: []policy.Rule{rule("a", policy.Allow)}}, policy.Context{Algorithm: algorithm("y")}, policy.Answer{Effect: policy.Deny, Rule: policy.RuleAlgorithms}},
		{"one place free", policy.Policy{Default: policy.Allow, Limits: policy.Limits{Concurrent: 2}}, policy.Context{Open: 1}, policy.Answer{Effect: policy.Allow, Rule: policy.RuleDefault}},
		{"a network is wanted", policy.Policy{Default: policy.Allow, Limits: policy.Limits{Network: "none"}}, policy.Context{Request: &policy.Request{Network: true}}, policy.Answer{Effect: policy.Deny, Rule: policy.RuleNetwork, Reason: "work has no network"}},
		{"no place free", policy.Policy{Default: policy.Allow, Limits: policy.Limits{Concurrent: 2}}, policy.Context{Open: 2}, policy.Answer{Effect: policy.Deny, Rule: policy.RuleConcurrent}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, func() error {
				p := tc.policy
				if p.Default == "" {
					p.Default = policy.Deny
				}
				return p.Validate()
			}())
			got := tc.policy.Decide(tc.context)
			got.Record = policy.Record{}
			require.Equal(t, tc.want, got)
			require.Equal(t, tc.want.Effect == policy.Allow, got.Allowed())
		})
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(p *policy.Policy)
		want   error
	}{
		{"good", func(*policy.Policy) {}, nil},
		{"no default", func(p *policy.Policy) { p.Default = "" }, mman.ErrInvalid},
		{"too many rules", func(p *policy.Policy) { p.Rules = make([]policy.Rule, policy.MaxRules+1) }, mman.ErrTooLarge},
		{"no id", func(p *policy.Policy) { p.Rules[0].ID = "" }, mman.ErrInvalid},
		{"long id", func(p *policy.Policy) { p.Rules[0].ID = strings.Repeat("a", 65) }, mman.ErrInvalid},
		{"odd id", func(p *policy.Policy) { p.Rules[0].ID = "A b" }, mman.ErrInvalid},
		{"id with a meaning", func(p *policy.Policy) { p.Rules[0].ID = policy.RuleDefault }, mman.ErrInvalid},
		{"id with a dot", func(p *policy.Policy) { p.Rules[0].ID = policy.RuleConcurrent }, mman.ErrInvalid},
		{"double id", func(p *policy.Policy) { p.Rules = append(p.Rules, p.Rules[0]) }, mman.ErrInvalid},
		{"effect", func(p *policy.Policy) { p.Rules[0].Effect = "maybe" }, mman.ErrInvalid},
		{"phase", func(p *policy.Policy) { p.Rules[0].Phase = "later" }, mman.ErrInvalid},
		{"run phase", func(p *policy.Policy) { p.Rules[0].Phase = policy.PhaseRun }, nil},
		{"both phases", func(p *policy.Policy) { p.Rules[0].Phase = policy.PhaseBoth }, nil},
		{"condition", func(p *policy.Policy) { p.Rules[0].When = "chain.height > 5" }, nil},
		{"no bool", func(p *policy.Policy) { p.Rules[0].When = "chain.height" }, mman.ErrInvalid},
		{"a word that is not known", func(p *policy.Policy) { p.Rules[0].When = "chain.hour > 5" }, mman.ErrInvalid},
		{"a regular expression", func(p *policy.Policy) { p.Rules[0].When = "consumer.id.matches('.*')" }, mman.ErrUnsupported},
		{"conditions too long together", func(p *policy.Policy) {
			for i := range 9 {
				p.Rules = append(p.Rules, policy.Rule{ID: "r" + strings.Repeat("x", i), Effect: policy.Deny, Phase: policy.PhaseMatch, When: "true" + strings.Repeat(" ", 500)})
			}
		}, mman.ErrTooLarge},
		{"conditions too costly together", func(p *policy.Policy) {
			for i := range 9 {
				p.Rules = append(p.Rules, policy.Rule{
					ID: "r" + strings.Repeat("x", i), Effect: policy.Deny, Phase: policy.PhaseMatch,
					When: "data.attributes.exists(a, data.attributes.exists(b, a == b))",
				})
			}
		}, mman.ErrTooLarge},
		{"too many accounts", func(p *policy.Policy) { p.Rules[0].Accounts = make([]mman.Address, policy.MaxAccounts+1) }, mman.ErrTooLarge},
		{"zero account", func(p *policy.Policy) { p.Rules[0].Accounts = []mman.Address{{}} }, mman.ErrInvalid},
		{"double account", func(p *policy.Policy) { p.Rules[0].Accounts = []mman.Address{account(1), account(1)} }, mman.ErrInvalid},
		{"too many algorithms", func(p *policy.Policy) { p.Algorithms = make([]mman.CID, policy.MaxAlgorithms+1) }, mman.ErrTooLarge},
		{"zero algorithm", func(p *policy.Policy) { p.Algorithms = []mman.CID{{}} }, mman.ErrInvalid},
		{"double algorithm", func(p *policy.Policy) { p.Algorithms = []mman.CID{algorithm("a"), algorithm("a")} }, mman.ErrInvalid},
		{"royalty", func(p *policy.Policy) { p.Royalty = 5001 }, mman.ErrInvalid},
		{"wall", func(p *policy.Policy) { p.Limits.WallMs = resources.MaxLimits().WallMs + 1 }, mman.ErrInvalid},
		{"memory", func(p *policy.Policy) { p.Limits.MemoryBytes = 1 << 63 }, mman.ErrInvalid},
		{"input", func(p *policy.Policy) { p.Limits.InputBytes = 1 << 63 }, mman.ErrInvalid},
		{"output", func(p *policy.Policy) { p.Limits.OutputBytes = 1 << 63 }, mman.ErrInvalid},
		{"concurrent", func(p *policy.Policy) { p.Limits.Concurrent = 1 << 63 }, mman.ErrInvalid},
		{"network", func(p *policy.Policy) { p.Limits.Network = "all" }, mman.ErrUnsupported},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := policy.Policy{Default: policy.Deny, Rules: []policy.Rule{rule("a", policy.Allow, account(1))}}
			tc.change(&p)
			err := p.Validate()
			if tc.want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, tc.want)
		})
	}
}

// TestChoosesAlgorithms: a policy says what may be computed, or it does not.
func TestChoosesAlgorithms(t *testing.T) {
	t.Parallel()
	rule := func(effect policy.Effect, when string, accounts ...mman.Address) policy.Rule {
		return policy.Rule{ID: "r" + when, Effect: effect, Phase: policy.PhaseMatch, When: when, Accounts: accounts}
	}
	listed := []mman.CID{mman.SumCID(mman.CodecRaw, nil)}
	for name, tc := range map[string]struct {
		p    policy.Policy
		want bool
	}{
		"everything":               {policy.Policy{Default: policy.Allow}, false},
		"a list":                   {policy.Policy{Default: policy.Allow, Algorithms: listed}, true},
		"held back":                {policy.Policy{Default: policy.Allow, Release: &resources.Release{}}, true},
		"some are denied":          {policy.Policy{Default: policy.Allow, Rules: []policy.Rule{rule(policy.Deny, "algorithm.supplied")}}, false},
		"denied to one account":    {policy.Policy{Default: policy.Allow, Rules: []policy.Rule{rule(policy.Deny, "algorithm.supplied", mman.Address{1})}}, false},
		"something else is denied": {policy.Policy{Default: policy.Allow, Rules: []policy.Rule{rule(policy.Deny, "request.wall_ms > 5")}}, false},
		"allowed twice":            {policy.Policy{Default: policy.Allow, Rules: []policy.Rule{rule(policy.Allow, "algorithm.supplied")}}, false},
		"nobody":                   {policy.Policy{Default: policy.Deny}, true},
		"some are allowed":         {policy.Policy{Default: policy.Deny, Rules: []policy.Rule{rule(policy.Allow, `algorithm.facet == "wasm"`), rule(policy.Deny, "data.sealed")}}, true},
		"an account for all":       {policy.Policy{Default: policy.Deny, Rules: []policy.Rule{rule(policy.Allow, "", mman.Address{1})}}, false},
		"a way around":             {policy.Policy{Default: policy.Deny, Rules: []policy.Rule{rule(policy.Allow, "algorithm.supplied"), rule(policy.Allow, "data.sealed")}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program, err := tc.p.Compile()
			require.NoError(t, err)
			require.Equal(t, tc.want, program.ChoosesAlgorithms())
		})
	}
}

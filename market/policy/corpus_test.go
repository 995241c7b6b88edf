package policy_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/policy/condition"
)

var update = flag.Bool("update", false, "write the golden corpus anew")

// corpus is policies, situations in YAML, and for each pair the answer.
type corpus struct {
	Policies   []policy.Policy `json:"policies"`
	Situations []string        `json:"situations"`
	// Answers has a line for each policy, a word for each situation.
	Answers [][]string `json:"answers"`
}

const corpusFile = "testdata/corpus.json"

func loadCorpus(tb testing.TB) corpus {
	tb.Helper()
	b, err := os.ReadFile(corpusFile)
	require.NoError(tb, err)
	var c corpus
	require.NoError(tb, json.Unmarshal(b, &c))
	return c
}

func contexts(tb testing.TB, situations []string, p policy.Policy) []policy.Context {
	tb.Helper()
	out := make([]policy.Context, len(situations))
	for i, text := range situations {
		s, err := policy.ParseSituation([]byte(text))
		require.NoError(tb, err, text)
		out[i], err = s.Context(p)
		require.NoError(tb, err, text)
	}
	return out
}

// TestCorpus: the answers are those of the day when the corpus was written.
// They may change only with the version of the chain's application.
func TestCorpus(t *testing.T) { //nolint:paralleltest // before the others, which read what it may write
	if *update {
		writeCorpus(t)
	}
	c := loadCorpus(t)
	pairs, seen := 0, map[string]int{}
	for i, p := range c.Policies {
		require.NoError(t, p.Validate())
		for j, context := range contexts(t, c.Situations, p) {
			got := say(p.Decide(context))
			require.Equal(t, c.Answers[i][j], got, "policy %d: %+v\nsituation %d: %s", i, p, j, c.Situations[j])
			pairs++
			seen[strings.Fields(got)[0]]++
		}
	}
	require.GreaterOrEqual(t, pairs, 2000)
	require.Greater(t, seen["allow"], pairs/5)
	require.Greater(t, seen["deny"], pairs/5)
}

// TestCorpusOracle: a second evaluator, cel-go under decision rules written
// down once more, gives every answer of the corpus.
func TestCorpusOracle(t *testing.T) {
	t.Parallel()
	c := loadCorpus(t)
	o := newSecond(t)
	for i, p := range c.Policies {
		for j, context := range contexts(t, c.Situations, p) {
			require.Equal(t, c.Answers[i][j], o.answer(t, p, context), "policy %d: %+v\nsituation %d: %s", i, p, j, c.Situations[j])
		}
	}
}

// TestCorpusDeterminism: neither the order of questions, nor what was asked
// before, nor compiling again changes an answer.
func TestCorpusDeterminism(t *testing.T) {
	t.Parallel()
	c := loadCorpus(t)
	programs := make([]*policy.Program, len(c.Policies))
	all := make([][]policy.Context, len(c.Policies))
	var order []int
	for i, p := range c.Policies {
		var err error
		programs[i], err = p.Compile()
		require.NoError(t, err)
		all[i] = contexts(t, c.Situations, p)
		for j := range c.Situations {
			order = append(order, i*len(c.Situations)+j)
		}
	}
	const seed = 7
	rnd := rand.New(rand.NewPCG(seed, seed))
	for range 3 {
		rnd.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, n := range order {
			i, j := n/len(c.Situations), n%len(c.Situations)
			require.Equal(t, c.Answers[i][j], say(programs[i].Decide(all[i][j])), "seed %d", seed)
		}
	}
}

// second is another evaluator: cel-go for the conditions.
type second struct {
	env      *cel.Env
	programs map[string]cel.Program
}

func newSecond(t *testing.T) second {
	t.Helper()
	var options []cel.EnvOption
	for _, w := range policy.Words() {
		kind := map[condition.Kind]*cel.Type{
			condition.Bool: cel.BoolType, condition.Int: cel.IntType, condition.Text: cel.StringType, condition.Texts: cel.ListType(cel.StringType),
		}[w.Kind]
		options = append(options, cel.Variable(w.Name, kind))
	}
	env, err := cel.NewEnv(options...)
	require.NoError(t, err)
	return second{env, map[string]cel.Program{}}
}

// truth is 't', 'f', 'u' for unknown or 'e' for an error.
func (s second) truth(t *testing.T, source string, facts map[string]any) byte {
	t.Helper()
	program, ok := s.programs[source]
	if !ok {
		ast, issues := s.env.Compile(source)
		require.NoError(t, issues.Err())
		var err error
		program, err = s.env.Program(ast, cel.EvalOptions(cel.OptPartialEval))
		require.NoError(t, err)
		s.programs[source] = program
	}
	var missing []*cel.AttributePatternType
	for _, w := range policy.Words() {
		if _, known := facts[w.Name]; !known {
			missing = append(missing, cel.AttributePattern(w.Name))
		}
	}
	vars, err := cel.PartialVars(facts, missing...)
	require.NoError(t, err)
	out, _, err := program.Eval(vars)
	switch {
	case err != nil:
		return 'e'
	case types.IsUnknown(out):
		return 'u'
	case out == types.True:
		return 't'
	default:
		return 'f'
	}
}

func (s second) answer(t *testing.T, p policy.Policy, c policy.Context) string {
	t.Helper()
	run := c.Phase == policy.PhaseRun
	for _, o := range p.Obligations {
		if !run && (c.Request == nil || !slices.Contains(c.Request.Accepts, o)) {
			return "deny obligations"
		}
	}
	facts := factsOf(c)
	var residual []string
	allow, maybe := "", ""
	for _, r := range p.Rules {
		truth := byte('t')
		switch {
		case len(r.Accounts) > 0 && !slices.Contains(r.Accounts, c.Consumer):
			truth = 'f'
		case r.Phase == policy.PhaseRun && !run:
			truth = 'u'
		case r.When != "":
			truth = s.truth(t, r.When, facts)
		}
		if truth == 'e' || truth == 't' && r.Effect == policy.Deny || truth == 'u' && run {
			return "deny " + r.ID
		}
		if truth == 'u' {
			residual = append(residual, r.ID)
		}
		if truth == 't' && allow == "" {
			allow = r.ID
		}
		if truth == 'u' && r.Effect == policy.Allow && maybe == "" {
			maybe = r.ID
		}
	}
	if allow == "" && p.Default == policy.Allow {
		allow = "default"
	}
	if allow == "" {
		allow = maybe
	}
	if allow == "" {
		return "deny default"
	}
	slices.Sort(residual)
	return strings.Join(append([]string{"allow " + allow}, residual...), " +")
}

// factsOf writes down once more what each word means.
func factsOf(c policy.Context) map[string]any {
	f := map[string]any{"consumer.id": c.Consumer.String(), "consumer.reputation": int64(c.Reputation), "usage.open": int64(c.Open)}
	pairs := func(l policy.Leg) []string {
		out := []string{}
		for _, a := range l.Attributes {
			out = append(out, a.Key+"="+a.Value)
		}
		return out
	}
	one := func(name string, l *policy.Leg) {
		if l == nil {
			return
		}
		f[name+".attributes"], f[name+".facet"], f[name+".provider"] = pairs(*l), string(l.Facet), l.Provider.String()
		f[name+".region"], f[name+".resource"] = l.Region, l.Resource.String()
		if name == "algorithm" {
			f[name+".supplied"] = l.Supplied
		} else {
			f[name+".peer"] = l.Peer.String()
		}
	}
	one("algorithm", c.Code)
	one("compute", c.Compute)
	many := func(name string, legs *policy.Legs) {
		if legs == nil {
			return
		}
		attributes, providers, regions, resources, sealed := []string{}, []string{}, []string{}, []string{}, false
		for _, l := range *legs {
			attributes, providers = append(attributes, pairs(l)...), append(providers, l.Provider.String())
			regions, resources, sealed = append(regions, l.Region), append(resources, l.Resource.String()), sealed || l.Sealed
		}
		f[name+".attributes"], f[name+".providers"], f[name+".regions"], f[name+".resources"] = attributes, providers, regions, resources
		f[name+".count"] = int64(len(*legs))
		if name == "data" {
			f[name+".sealed"] = sealed
		}
	}
	many("data", c.Data)
	many("storage", c.Storage)
	if r := c.Request; r != nil {
		accepts := []string{}
		for _, o := range r.Accepts {
			accepts = append(accepts, strings.TrimSuffix(o.Name+"="+o.Value, "="))
		}
		f["request.accepts"], f["request.blocks"], f["request.cap_uman"], f["request.purpose"] = accepts, int64(r.Blocks), int64(r.Cap), r.Purpose
		f["request.wall_ms"], f["request.memory_bytes"] = int64(r.Limits.WallMs), int64(r.Limits.MemoryBytes)
		f["request.input_bytes"], f["request.output_bytes"] = int64(r.Limits.InputBytes), int64(r.Limits.OutputBytes)
	}
	if c.Chain != nil {
		f["chain.height"], f["chain.time"] = int64(c.Chain.Height), c.Chain.Time
	}
	if u := c.Usage; u != nil {
		f["usage.leases_1d"], f["usage.leases_7d"], f["usage.leases_30d"] = int64(u.Leases1d), int64(u.Leases7d), int64(u.Leases30d)
	}
	if r := c.Run; r != nil {
		f["run.calls"], f["run.egress_bytes"], f["run.input_bytes"] = int64(r.Calls), int64(r.EgressBytes), int64(r.InputBytes)
		f["run.output_bytes"], f["run.wall_ms"] = int64(r.OutputBytes), int64(r.WallMs)
	}
	return f
}

// writeCorpus draws policies from a pool of conditions.
func writeCorpus(t *testing.T) {
	t.Helper()
	const policies, seed = 160, 20260105
	pool := []string{
		`consumer.reputation >= 60 && request.purpose in ["research"] && compute.region.startsWith("eu")`,
		`run.egress_bytes > 0 || run.output_bytes > 1048576`, `usage.leases_30d >= 100`, `usage.leases_1d * 7 > usage.leases_7d`,
		`algorithm.supplied || "licence=MIT" in algorithm.attributes`, `!data.sealed && data.count < 3`,
		`data.regions.all(r, r.startsWith("eu"))`, `data.attributes.exists(a, a.startsWith("licence=") && a.endsWith("MIT"))`,
		`chain.time % 86400 / 3600 >= 9 && chain.time % 86400 / 3600 < 17`, `(chain.time / 86400 + 3) % 7 >= 5`, `chain.height > 1000`,
		`request.cap_uman / request.blocks > 100`, `1000 / usage.open > 3`, `request.cap_uman * request.cap_uman > 0`,
		`"no_training" in request.accepts`, `request.accepts.exists(a, a.startsWith("delete_after="))`, `size(request.accepts) > 1`,
		`consumer.id == compute.provider`, `consumer.id in data.providers`, `algorithm.provider != consumer.id`,
		`run.calls > 3`, `run.calls > 3 && compute.region == "us-east"`, `run.wall_ms > 60000 ? true : run.input_bytes > 100`,
		`request.purpose == "" || request.purpose.contains("search")`, `request.wall_ms > 60000 && request.memory_bytes >= 268435456`,
		`compute.attributes.exists(a, a in algorithm.attributes)`, `storage.count == 0`, `storage.regions.all(r, false)`,
		`algorithm.facet == "wasm" && compute.facet == "wasm"`, `algorithm.resource.size() > 10`, `true`, `false`,
	}
	c := corpus{Situations: []string{
		"phase: match", "consumer: " + friend,
		"{consumer: " + friend + ", reputation: 70, request: {purpose: research, cap: 1MAN, blocks: 600}, compute: {region: eu-west, facet: wasm}, algorithm: {supplied: true, facet: wasm}, data: [], storage: [], chain: {height: 5, time: '2026-01-05T10:00:00Z'}, usage: {}}",
		"{consumer: " + friend + ", reputation: 59, request: {purpose: commerce, cap: 9MAN, blocks: 1, accepts: [no_training]}, compute: {region: us-east, facet: wasm, attributes: {gpu: 'no'}}, algorithm: {attributes: {licence: MIT}, provider: " + stranger + "}, data: [{region: eu-north, sealed: true}], storage: [], chain: {height: 5000, time: '2026-01-10T10:00:00Z'}, usage: {open: 3, leases_1d: 2, leases_7d: 9, leases_30d: 100}}",
		"{consumer: " + stranger + ", request: {cap: 0.000005MAN, blocks: 0, wall: 2m, memory: 1GiB, accepts: [attribution, {delete_after: 24h}]}, compute: {region: eu, provider: " + stranger + "}, data: [{region: eu, attributes: {licence: MIT}}, {region: us}, {region: eu}], chain: {time: '0'}, usage: {open: 500}}",
		"{consumer: " + stranger + ", request: {purpose: re-search, cap: 9007199254MAN, blocks: 3600}, algorithm: {facet: wasm, attributes: {gpu: 'no', licence: MIT}}, compute: {facet: wasm, attributes: {gpu: 'no'}}, chain: {height: 1001, time: '2026-01-05T17:00:00Z'}, usage: {open: 1, leases_1d: 1, leases_7d: 7, leases_30d: 29}}",
		"{compute: {region: eu-west}, chain: {height: 1}}", "{data: [{}], storage: [{region: eu}]}",
		"{phase: run, consumer: " + friend + ", run: {}}", "{phase: run, consumer: " + friend + "}",
		"{phase: run, consumer: " + friend + ", reputation: 70, request: {purpose: research, cap: 1MAN, blocks: 600}, compute: {region: us-east, facet: wasm}, algorithm: {supplied: true, facet: wasm}, data: [], storage: [], chain: {height: 5, time: '2026-01-05T10:00:00Z'}, usage: {open: 2}, run: {calls: 4, output_bytes: 9}}",
		"{phase: run, consumer: " + stranger + ", request: {cap: 3MAN, blocks: 60}, compute: {region: eu}, algorithm: {}, data: [{sealed: true}], storage: [], chain: {height: 2000, time: '2026-01-05T18:00:00Z'}, usage: {open: 2}, run: {calls: 1, output_bytes: 2000000, wall_ms: 60001}}",
		"{phase: run, consumer: " + stranger + ", reputation: 99, request: {purpose: research, cap: 3MAN, blocks: 60, accepts: [no_training]}, compute: {region: eu}, algorithm: {}, data: [], storage: [], chain: {height: 9, time: '2026-01-06T12:00:00Z'}, usage: {open: 2}, run: {input_bytes: 101}}",
		"{consumer: " + friend + ", reputation: 61, request: {purpose: research, cap: 2MAN, blocks: 60, accepts: [no_training, attribution]}, compute: {region: eu-south, facet: wasm}, algorithm: {facet: wasm}, data: [], storage: [], chain: {height: 77, time: '2026-01-07T12:00:00Z'}, usage: {open: 9, leases_30d: 3}}",
	}}
	rnd := rand.New(rand.NewPCG(seed, 1))
	someone, err := mman.ParseAddress(friend)
	require.NoError(t, err)
	for len(c.Policies) < policies {
		p := policy.Policy{Default: []policy.Effect{policy.Allow, policy.Deny}[rnd.IntN(2)]}
		for i := range 1 + rnd.IntN(4) {
			r := policy.Rule{ID: fmt.Sprintf("r%d", i), Effect: []policy.Effect{policy.Allow, policy.Deny}[rnd.IntN(2)]}
			r.Phase = []policy.Phase{policy.PhaseMatch, policy.PhaseMatch, policy.PhaseRun, policy.PhaseBoth}[rnd.IntN(4)]
			r.When = pool[rnd.IntN(len(pool))]
			if rnd.IntN(6) == 0 {
				r.When = "!(" + r.When + ") || " + pool[rnd.IntN(len(pool))]
			}
			if rnd.IntN(8) == 0 {
				r.Accounts = []mman.Address{someone}
			}
			p.Rules = append(p.Rules, r)
		}
		if rnd.IntN(10) == 0 {
			p.Obligations = []policy.Obligation{{Name: policy.NoTraining}}
		}
		if p.Validate() != nil {
			continue // usage in a rule of the run
		}
		c.Policies = append(c.Policies, p)
		var line []string
		for _, context := range contexts(t, c.Situations, p) {
			line = append(line, say(p.Decide(context)))
		}
		c.Answers = append(c.Answers, line)
	}
	b, err := json.MarshalIndent(c, "", " ")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(corpusFile, append(b, '\n'), 0o644))
}

// BenchmarkDecide measures one decision with the policy compiled before, and
// with compiling it each time.
func BenchmarkDecide(b *testing.B) {
	situation := "{reputation: 70, request: {purpose: research, cap: 1MAN, blocks: 600}, compute: {region: eu-west}, algorithm: {supplied: true}, data: [], chain: {height: 5}, usage: {}, run: {}}"
	attributes := make([]string, 32)
	for i := range attributes {
		attributes[i] = fmt.Sprintf("k%02d: '%s'", i, strings.Repeat("x", 256))
	}
	leg := "{attributes: {" + strings.Join(attributes, ", ") + "}}"
	deny := func(id, when string) policy.Rule {
		return policy.Rule{ID: id, Effect: policy.Deny, Phase: policy.PhaseMatch, When: when}
	}
	worst := policy.Policy{Default: policy.Allow}
	for i := range policy.MaxRules {
		worst.Rules = append(worst.Rules, deny(fmt.Sprintf("r%d", i), `data.attributes.exists(a, data.providers.exists(b, a == b))`))
		if worst.Validate() != nil {
			worst.Rules = worst.Rules[:i]
			break
		}
	}
	long := policy.Policy{Default: policy.Allow}
	for i := range policy.MaxRules {
		long.Rules = append(long.Rules, deny(fmt.Sprintf("r%d", i), strings.TrimSuffix(strings.Repeat("1>2||", 25), "||")))
	}
	for _, bm := range []struct {
		name, situation string
		policy          policy.Policy
	}{
		{"typical", situation, policy.Policy{Default: policy.Deny, Rules: []policy.Rule{
			{ID: "a", Effect: policy.Allow, Phase: policy.PhaseMatch, When: `consumer.reputation >= 60 && request.purpose in ["research"] && compute.region.startsWith("eu")`},
			{ID: "b", Effect: policy.Deny, Phase: policy.PhaseRun, When: `run.egress_bytes > 0 || run.output_bytes > 1048576`},
			{ID: "c", Effect: policy.Deny, Phase: policy.PhaseMatch, When: `usage.leases_30d >= 100`},
		}}},
		{"worst", "data: [" + strings.Repeat(leg+", ", 1) + leg + "]", worst},
		{"long", situation, long},
	} {
		g, err := bm.policy.Compile()
		require.NoError(b, err)
		s, err := policy.ParseSituation([]byte(strings.ReplaceAll(bm.situation, strings.Repeat("x", 256), strings.Repeat("x", 60))))
		require.NoError(b, err)
		c, err := s.Context(bm.policy)
		require.NoError(b, err)
		b.Run(bm.name+"/compiled", func(b *testing.B) {
			b.ReportMetric(float64(g.Cost()), "steps")
			for b.Loop() {
				g.Decide(c)
			}
		})
		b.Run(bm.name+"/compiling", func(b *testing.B) {
			for b.Loop() {
				bm.policy.Decide(c)
			}
		})
	}
}

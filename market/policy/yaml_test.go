package policy_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/policy"
)

func account(n byte) mman.Address { return mman.Address{19: n} }

func algorithm(name string) mman.CID { return mman.SumCID(mman.CodecDagCBOR, []byte(name)) }

func TestParseYAML(t *testing.T) {
	t.Parallel()
	text := `# who may use it
policy:
  default: deny
  rules:
    - id: friends
      effect: allow
      phase: match
      accounts: [` + account(1).String() + `, "` + account(2).String() + `"]
    - {id: nobody, effect: deny, accounts: [` + account(3).String() + `]}
    - id: sums
      effect: deny
      phase: run
      when: |
        run.calls > 3 &&  // three are free
        !(consumer.id in ["me"])
  obligations: [attribution, {delete_after: 1440m}, {cite: "Doe, 2020"}]
  limits: {wall: 1m30s, memory: 256MiB, input: 64 KiB, output: 1MiB, concurrent: 4, network: none}
  algorithms:
    - ` + algorithm("a").String() + `
`
	p, err := policy.ParseYAML([]byte(text))
	require.NoError(t, err)
	require.Equal(t, policy.Policy{
		Default: policy.Deny,
		Rules: []policy.Rule{
			{ID: "friends", Effect: policy.Allow, Phase: policy.PhaseMatch, Accounts: []mman.Address{account(1), account(2)}},
			{ID: "nobody", Effect: policy.Deny, Phase: policy.PhaseMatch, Accounts: []mman.Address{account(3)}},
			{ID: "sums", Effect: policy.Deny, Phase: policy.PhaseRun, When: "run.calls > 3 &&  // three are free\n!(consumer.id in [\"me\"])\n"},
		},
		Obligations: []policy.Obligation{{Name: policy.Attribution}, {Name: policy.DeleteAfter, Value: "24h"}, {Name: "cite", Value: "Doe, 2020"}},
		Limits: policy.Limits{
			WallMs: 90_000, MemoryBytes: 256 << 20, InputBytes: 64 << 10, OutputBytes: 1 << 20, Concurrent: 4, Network: "none",
		},
		Algorithms: []mman.CID{algorithm("a")},
	}, p)
	p, err = policy.ParseYAML([]byte("policy: {}"))
	require.NoError(t, err)
	require.Equal(t, policy.Deny, p.Default)
}

func TestParseYAMLRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, text string
		want       error
		says       string
	}{
		{"nothing", "", mman.ErrInvalid, "policy"},
		{"a comment", "# nothing\n", mman.ErrInvalid, "policy"},
		{"no top key", "default: allow", mman.ErrInvalid, "default"},
		{"null", "policy:", mman.ErrInvalid, "policy"},
		{"unknown key", "policy: {colour: red}", mman.ErrInvalid, "colour"},
		{"unknown key beside it", "policy: {}\nprice: 3", mman.ErrInvalid, "price"},
		{"unknown key in a rule", "policy: {rules: [{id: a, effect: allow, who: me}]}", mman.ErrInvalid, "who"},
		{"double key", "policy: {default: allow, default: deny}", mman.ErrInvalid, "default"},
		{"anchor", "policy: &p {default: allow}", mman.ErrInvalid, "anchor"},
		{"alias", "policy: {default: &d allow, limits: {network: *d}}", mman.ErrInvalid, "line 1"},
		{"merge key", "policy: {<<: {default: allow}}", mman.ErrInvalid, "merge"},
		{"tag", "policy: {default: !!str allow}", mman.ErrInvalid, "tag"},
		{"two documents", "policy: {}\n---\npolicy: {}", mman.ErrInvalid, "documents"},
		{"a list", "- policy", mman.ErrInvalid, "policy"},
		{"not yaml", "policy: [}", mman.ErrInvalid, "policy"},
		{"too long", "policy: {}\n#" + strings.Repeat("x", policy.YAMLMaxBytes), mman.ErrTooLarge, "16384"},
		{"deep flow", "policy: " + strings.Repeat("[", 5000), mman.ErrTooLarge, "nests"},
		{"deep block", "policy: " + strings.Repeat("- ", 5000), mman.ErrTooLarge, "nests"},
		{"wall without unit", "policy: {limits: {wall: 60}}", mman.ErrInvalid, "60s"},
		{"wall of nothing", "policy: {limits: {wall: 0s}}", mman.ErrInvalid, "wall"},
		{"wall negative", "policy: {limits: {wall: -1s}}", mman.ErrInvalid, "wall"},
		{"wall below a millisecond", "policy: {limits: {wall: 10us}}", mman.ErrInvalid, "milliseconds"},
		{"wall of two days", "policy: {limits: {wall: 48h}}", mman.ErrInvalid, "wall"},
		{"memory with a point", "policy: {limits: {memory: 1.5GiB}}", mman.ErrInvalid, "256MiB"},
		{"memory in decimal units", "policy: {limits: {memory: 256MB}}", mman.ErrInvalid, "256MiB"},
		{"memory beyond numbers", "policy: {limits: {memory: 99999999999GiB}}", mman.ErrInvalid, "memory"},
		{"negative count", "policy: {limits: {concurrent: -1}}", mman.ErrInvalid, "policy"},
		{"count with a point", "policy: {limits: {concurrent: 1.5}}", mman.ErrInvalid, "policy"},
		{"network", "policy: {limits: {network: all}}", mman.ErrUnsupported, "network"},
		{"account", "policy: {rules: [{id: a, effect: allow, accounts: [bob]}]}", mman.ErrInvalid, "accounts[0]"},
		{"algorithm", "policy: {algorithms: [bafy]}", mman.ErrInvalid, "algorithms[0]"},
		{"effect", "policy: {rules: [{id: a}]}", mman.ErrInvalid, "effect"},
		{"default", "policy: {default: perhaps}", mman.ErrInvalid, "default"},
		{"phase", "policy: {rules: [{id: a, effect: deny, phase: later}]}", mman.ErrInvalid, "phase"},
		{"condition", "policy: {rules: [{id: a, effect: deny, when: 'chain.height'}]}", mman.ErrInvalid, "rules[0].when"},
		{"obligation with a value too many", "policy: {obligations: [{attribution: me}]}", mman.ErrInvalid, "attribution"},
		{"obligation without its value", "policy: {obligations: [delete_after]}", mman.ErrInvalid, "24h"},
		{"obligation twice", "policy: {obligations: [no_training, no_training]}", mman.ErrInvalid, "twice"},
		{"obligation of two", "policy: {obligations: [{a: b, c: d}]}", mman.ErrInvalid, "policy"},
		{"royalty", "policy: {royalty: 5001}", mman.ErrInvalid, "royalty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := policy.ParseYAML([]byte(tc.text))
			require.ErrorIs(t, err, tc.want)
			require.ErrorContains(t, err, tc.says)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func FuzzParseYAML(f *testing.F) {
	f.Add([]byte("policy:\n  default: allow\n  limits: {wall: 60s, memory: 256MiB}\n"))
	f.Add([]byte("policy: &a {rules: [{id: x, effect: deny, accounts: []}], obligations: [a, {b: c}]}"))
	f.Add([]byte("%YAML 1.2\n---\npolicy: !!map {}\n..."))
	f.Add([]byte("policy: |\n  text\n? [a]\n: b"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := policy.ParseYAML(b)
		if err != nil {
			require.NotErrorIs(t, err, mman.ErrInternal)
			require.NotContains(t, err.Error(), "\n")
			return
		}
		require.NoError(t, p.Validate())
	})
}

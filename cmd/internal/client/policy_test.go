package client_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPolicyCheck tries policies without a network.
func TestPolicyCheck(t *testing.T) {
	t.Parallel()
	p := person{home: t.TempDir()}
	file := func(name, text string) string {
		path := filepath.Join(p.home, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	sealed := "../../../examples/policies/sealed-data.yaml"
	require.Contains(t, p.says(t, "policy", "check", sealed), "valid policy")
	require.Contains(t, p.says(t, "policy", "words"), "run.output_bytes")

	fine := file("fine.yaml", "{algorithm: {}, request: {accepts: [attribution]}}")
	out := p.says(t, "policy", "check", sealed, "--against", fine)
	require.Contains(t, out, `Answer: allow, by rule "known-code"; while the work runs these are decided: no-egress; the consumer takes on attribution.`)
	denied := p.json(t, 3, "policy", "check", sealed, "--against", file("out.yaml", "{phase: run, algorithm: {}, run: {output_bytes: 2000000}}"))
	require.Equal(t, "no-egress", part(t, denied, "answer")["rule"])
	require.Len(t, denied["verdicts"], 2)

	require.Contains(t, p.fails(t, 1, "policy", "check", file("bad.yaml", "policy: {rules: [{id: a, effect: deny, when: chain.hour > 9}]}")), "chain.height")
	require.Contains(t, p.fails(t, 1, "policy", "check", sealed, "--against", file("odd.yaml", "colour: red")), "colour")
	require.Contains(t, p.fails(t, 4, "policy", "check", filepath.Join(p.home, "none.yaml")), "none.yaml")
}

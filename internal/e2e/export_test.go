package e2e_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/genesis"
)

// TestExport: a network is stopped and exported, and goes on in a new home from
// the file alone and the validator's key, with its stake and what is on its way
// out.
func TestExport(t *testing.T) {
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	require.Zero(t, run(t, one, "init", "--home", one).code)
	refused := run(t, one, "export", "--home", one)
	require.Equal(t, 4, refused.code, "%s", &refused.errs)
	oneSentence(t, refused.errs.String(), "no chain yet")
	j := serve(t, one)
	height(t, j, one, 2)
	ask(t, one, 0, "send", someone(), "7MAN")
	ask(t, one, 0, "stake", "delegate", "node", "50MAN")
	ask(t, one, 0, "stake", "undelegate", "node", "20MAN")
	was := ask(t, one, 0, "stake", "show")
	busy := run(t, one, "export", "--home", one)
	require.NotZero(t, busy.code)
	oneSentence(t, busy.errs.String(), "another process")
	quit(t, j)

	file := filepath.Join(t.TempDir(), "genesis.json")
	e := run(t, one, "export", "--home", one, "--out", file, "-o", "json")
	require.Zero(t, e.code, "%s", &e.errs)
	again := run(t, one, "export", "--home", one)
	require.Zero(t, again.code, "%s", &again.errs)
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(b), again.out.String(), "the same state gives the same file")
	doc, err := genesis.Decode(b)
	require.NoError(t, err)
	require.Positive(t, doc.State.Time)

	require.Zero(t, run(t, two, "init", "--home", two, "--genesis", file).code)
	for _, name := range []string{"priv_validator_key.json", "priv_validator_state.json"} {
		b, err := os.ReadFile(filepath.Join(one, "consensus", name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(two, "consensus", name), b, 0o600))
	}
	keys, err := os.ReadDir(filepath.Join(one, "keys"))
	require.NoError(t, err)
	for _, k := range keys {
		b, err := os.ReadFile(filepath.Join(one, "keys", k.Name()))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(two, "keys", k.Name()), b, 0o600))
	}
	j = serve(t, two)
	require.Greater(t, height(t, j, two, doc.InitialHeight+2), doc.State.Height, "%s", &j.errs)
	is := ask(t, two, 0, "stake", "show")
	require.Equal(t, was["unbondings"], is["unbondings"])
	require.Equal(t, was["delegations"], is["delegations"])
	seen := ask(t, two, 0, "account", someone())
	require.InDelta(t, 7e6, seen["balance_uman"], 0)
	ask(t, two, 0, "send", someone(), "1MAN")
	quit(t, j)
}

package daemon_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/cmd/internal/daemon"
	"github.com/limboid/massive-man/node"
)

// TestMain makes the test's own binary mman-node when it is started as such: a
// verb that starts processes must not start the tests again.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		os.Exit(console.Failed)
	}
	os.Exit(m.Run())
}

// types runs mman-node once, in a home of its own.
func types(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	home := filepath.Join(t.TempDir(), "home")
	code = daemon.Main(t.Context(), args, console.Streams{
		In: strings.NewReader(""), Out: &out, Err: &errs,
		Env: func(name string) string {
			if name == "MMAN_HOME" {
				return home
			}
			return ""
		},
	})
	if code != console.Done {
		_, err := os.Stat(home)
		require.ErrorIs(t, err, os.ErrNotExist, "what is typed wrong makes no home")
	}
	return code, out.String(), errs.String()
}

// TestWrong types what people type wrong: each is one sentence with the value
// and the way out, the right exit code, and nothing is written.
func TestWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	one := filepath.Join(dir, "one")
	code, _, errs := types(t, "init", "--home", one)
	require.Zero(t, code, errs)
	busy := filepath.Join(dir, "busy")
	require.NoError(t, os.Mkdir(busy, 0o700))
	require.NoError(t, node.Running{ChainID: "mman-local-busy", PIDs: []int{os.Getpid()}}.Write(busy))
	town := filepath.Join(dir, "town")
	for _, home := range []string{"consumer", "provider-data", "provider-code"} {
		require.NoError(t, os.MkdirAll(filepath.Join(town, home), 0o700))
	}
	dead := filepath.Join(dir, "dead")
	require.NoError(t, os.Mkdir(dead, 0o700))
	require.NoError(t, node.Running{RPC: "http://127.0.0.1:1"}.Write(dead))
	listing := "resource:\n  kind: dataset\n  facet: file\n  name: n\n  content: data.csv\n"
	for _, tc := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"unknown verb", []string{"devnt"}, 2, `perhaps "devnet" is meant`},
		{"unknown flag", []string{"--bogus"}, 2, "unknown flag: --bogus"},
		{"a word too many", []string{"init", "here"}, 2, `"here"`},
		{"a listing without its flag", []string{"start", "data.yaml"}, 2, "listings come after --provide"},
		{"unknown format", []string{"version", "-o", "yaml"}, 2, `"yaml"`},
		{"unknown format of status", []string{"status", "-o", "yaml"}, 2, `"yaml"`},
		{"missing listing", []string{"--provide", "none.yaml"}, 4, "none.yaml"},
		{"missing listing, with =", []string{"--provide=none.yaml"}, 4, "none.yaml"},
		{"second listing missing", []string{"--provide", file("good.yaml", strings.Replace(listing, "data.csv", file("data.csv", "a\n1\n"), 1)), "none.yaml"}, 4, "none.yaml"},
		{"listing whose content is missing", []string{"--provide", file("gone.yaml", strings.Replace(listing, "data.csv", "gone.csv", 1))}, 4, "gone.csv"},
		{"listing with an unknown key", []string{"--provide", file("key.yaml", listing+"colour: red\n")}, 1, `"colour"`},
		{"listing that is no YAML", []string{"--provide", file("no.yaml", "resource: [")}, 1, "no.yaml"},
		{"empty listing", []string{"--provide", file("empty.yaml", "")}, 1, "it is empty"},
		{"listing of a strange kind", []string{"--provide", file("kind.yaml", strings.Replace(listing, "dataset", "gpu", 1))}, 1, `"gpu"`},
		{"algorithm that is no module", []string{"--provide", file("code.yaml", strings.NewReplacer("dataset", "algorithm", "facet: file", "facet: wasm").Replace(listing))}, 1, "not a runnable module"},
		{"policy with a field that is not enforced", []string{"--provide", file("policy.yaml", listing+"policy:\n  default: allow\n  mood: [good]\n")}, 1, `"mood"`},
		{"home is taken", []string{"init", "--home", one}, 1, "use an empty --home"},
		{"missing genesis", []string{"init", "--genesis", "none.json"}, 4, "none.json"},
		{"genesis that is none", []string{"init", "--genesis", file("genesis.json", "{}")}, 1, "genesis.json"},
		{"a node that ended without a word", []string{"status", "--home", dead}, 4, "mman-node --home " + dead},
		{"nothing runs", []string{"status"}, 4, "nothing runs in"},
		{"devnet in a node's home", []string{"devnet", "--home", one}, 1, "is the home of a node"},
		{"a node in a devnet's folder", []string{"start", "--home", town}, 1, "is the folder of a devnet"},
		{"init in a devnet's folder", []string{"init", "--home", town}, 1, "is the folder of a devnet"},
		{"bench chain with too few accounts", []string{"bench", "chain", "--accounts", "7"}, 2, "100 to 60000 accounts"},
		{"devnet twice", []string{"devnet", "--home", busy}, 1, "mman-local-busy runs in"},
		{"demo where a network runs", []string{"demo", "--home", busy}, 1, "mman-local-busy runs in"},
		{"demo on a missing table", []string{"demo", "--dataset", "none.csv"}, 4, "none.csv"},
		{"demo on what is no table", []string{"demo", "--dataset", file("book.txt", "It was, he said\nthe best of times\n")}, 1, "book.txt"},
		{"bad seed", []string{"demo", "--seed", "x"}, 2, "--seed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			code, _, errs := types(t, tc.args...)
			require.Equal(t, tc.code, code, errs)
			require.Contains(t, errs, tc.says)
			require.Equal(t, 1, strings.Count(errs, "\n"), errs)
			require.True(t, strings.HasPrefix(errs, "mman-node: "), errs)
			require.NotContains(t, errs, "goroutine")
		})
	}
	left, err := os.ReadDir(busy)
	require.NoError(t, err)
	require.Len(t, left, 1, "a folder in use is left as it is")
}

// TestDemoSaysWhyOnce: the step that fails is marked, and why is said last.
func TestDemoSaysWhyOnce(t *testing.T) {
	t.Parallel()
	code, out, errs := types(t, "demo", "--dataset", "none.csv")
	require.Equal(t, console.Missing, code)
	require.Regexp(t, `^FAIL +\d+ ms  network\n$`, out)
	require.Contains(t, errs, "none.csv")
	code, out, _ = types(t, "demo", "--dataset", "none.csv", "-o", "json")
	require.Equal(t, console.Missing, code)
	var report struct {
		OK    bool `json:"ok"`
		Steps []struct {
			Detail string `json:"detail"`
		} `json:"steps"`
	}
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	require.False(t, report.OK)
	require.Contains(t, report.Steps[0].Detail, "none.csv")
}

// TestJoin: a second home on the network of the first.
func TestJoin(t *testing.T) {
	t.Parallel()
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	code, _, errs := types(t, "init", "--home", one)
	require.Zero(t, code, errs)
	code, out, errs := types(t, "init", "--home", two, "--genesis", filepath.Join(one, "genesis.json"), "-o", "json")
	require.Zero(t, code, errs)
	first, err := node.ReadGenesis(one)
	require.NoError(t, err)
	second, err := node.ReadGenesis(two)
	require.NoError(t, err)
	require.Equal(t, first, second)
	var made map[string]string
	require.NoError(t, json.Unmarshal([]byte(out), &made))
	require.Equal(t, first.ChainID, made["chain_id"])
	require.NotEqual(t, first.Accounts[0].Address.String(), made["account"])
}

// TestHelp holds every verb to an example.
func TestHelp(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"", "start", "init", "demo", "devnet", "status", "bench", "bench request", "version"} {
		code, out, errs := types(t, append(strings.Fields(verb), "--help")...)
		require.Zero(t, code, errs)
		require.Contains(t, out, "Examples:\n  mman-node", verb)
	}
}

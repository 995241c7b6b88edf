package client_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/examples"
)

// TestWrong types what people type wrong: each is one sentence with the value
// and the way out, the right exit code, and nothing is written.
func TestWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	module := filepath.Join(dir, "wordcount.wasm")
	require.NoError(t, os.WriteFile(module, examples.WordcountModule(), 0o600))
	text := filepath.Join(dir, "book.txt")
	require.NoError(t, os.WriteFile(text, []byte("It was."), 0o600))
	nowhere := "http://127.0.0.1:1"
	id := strings.Repeat("ab", 20)
	cid := mman.SumCID(mman.CodecRaw, nil).String()
	run := func(args ...string) []string { return append([]string{"request", "run", module}, args...) }
	for _, tc := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"unknown verb", []string{"acount"}, 2, `perhaps "account" is meant`},
		{"unknown verb of a group", []string{"keys", "remove"}, 2, `"remove"`},
		{"a group alone", []string{"keys"}, 2, "export, import, list, new, show"},
		{"unknown flag", []string{"status", "--jsn"}, 2, "unknown flag: --jsn"},
		{"unknown short flag", []string{"status", "-x"}, 2, "unknown shorthand flag"},
		{"flag without value", []string{"status", "--node"}, 2, "--node"},
		{"unknown help", []string{"help", "acount"}, 2, `"account"`},
		{"unknown format", []string{"-o", "yaml", "status"}, 2, `"yaml"`},
		{"negative timeout", []string{"--timeout", "-1s", "status"}, 2, "-1s"},
		{"bad node", []string{"--node", "ftp://x", "status"}, 1, "ftp://x"},
		{"too many arguments", []string{"status", "now"}, 2, `"now"`},
		{"too few arguments", []string{"send", "man1x"}, 2, "TO and AMOUNT"},
		{"amount without unit", []string{"send", "man1x", "5"}, 2, "5MAN, 0.25MAN or 250000uman"},
		{"amount of nothing", []string{"send", "man1x", "0MAN"}, 2, "nothing"},
		{"amount below a uman", []string{"send", "man1x", "0.0000001MAN"}, 2, "0.0000001MAN"},
		{"negative amount", []string{"send", "man1x", "--", "-5MAN"}, 2, "-5MAN"},
		{"bad address", []string{"send", "man1x", "5MAN"}, 2, `"man1x"`},
		{"bad account", []string{"account", "cosmos1abc"}, 2, `"cosmos1abc"`},
		{"no key yet", []string{"account"}, 4, "mman keys new"},
		{"no such key", []string{"account", "--from", "nobody"}, 4, `"nobody"`},
		{"bad key type", []string{"keys", "new", "a", "--type", "rsa"}, 2, "rsa"},
		{"bad key name", []string{"keys", "new", "A b"}, 2, `"A b"`},
		{"no passphrase", []string{"keys", "new", "a"}, 1, "--passphrase-file"},
		{"no such passphrase file", []string{"keys", "new", "a", "--passphrase-file", dir + "/none"}, 1, "none"},
		{"import of nothing", []string{"keys", "import", "a"}, 2, "--mnemonic-file"},
		{"import of both", []string{"keys", "import", "a", text, "--mnemonic-file", text}, 2, "either"},
		{"import of no key file", []string{"keys", "import", "a", text}, 1, "key"},
		{"import of a missing file", []string{"keys", "import", "a", dir + "/none"}, 4, "none"},
		{"mnemonic that is none", []string{"keys", "import", "a", "--mnemonic-file", text}, 1, "mnemonic"},
		{"export of no key", []string{"keys", "export", "a"}, 4, "key a"},
		{"bad request id", []string{"why", "xyz"}, 2, "40 hex digits"},
		{"bad lease id", []string{"lease", "show", id + "00"}, 2, "40 hex digits"},
		{"bad hash", []string{"tx", id}, 2, "64 hex digits"},
		{"bad CID", []string{"offer", "show", "Qm123"}, 2, "Qm123"},
		{"bad kind", []string{"search", "--kind", "algorithms"}, 2, `"algorithms"`},
		{"bad limit", []string{"offer", "list", "--limit", "0"}, 2, "between 1 and"},
		{"bad discovery", []string{"search", "--discover", "both"}, 2, "index or dht"},
		{"no algorithm", []string{"request", "run"}, 2, "ALGORITHM"},
		{"missing algorithm", []string{"request", "run", "none.wasm"}, 4, `"none.wasm"`},
		{"algorithm that is no module", []string{"request", "run", text}, 1, "GOOS=wasip1"},
		{"algorithm that is a folder", []string{"request", "run", dir}, 2, "not a file"},
		{"missing data", run("--data", "none.csv"), 4, `"none.csv"`},
		{"data that is a device", run("--data", os.DevNull), 2, "not a file"},
		{"too much data", run(strings.Fields(strings.Repeat("--data "+text+" ", 9))...), 2, "at most 8"},
		{"missing input", run("--input", "none.txt"), 4, "none.txt"},
		{"input beyond its limit", run("--input", text, "--input-limit", "6B"), 1, "--input-limit"},
		{"piped input beyond its limit", run("--input", "-", "--input-limit", "3B"), 1, "--input-limit"},
		{"bad size", run("--memory", "64M"), 2, "64MiB"},
		{"size beyond all bounds", run("--memory", "99999999999GiB"), 2, "bounds"},
		{"memory of nothing", run("--memory", "0"), 2, "memory_bytes"},
		{"two days", run("--wall", "48h"), 2, "wall_ms"},
		{"no time", run("--wall", "0s"), 2, "--wall"},
		{"no blocks", run("--blocks", "0"), 2, "--blocks"},
		{"nothing to pay", run("--max", "0MAN"), 2, "--max"},
		{"bad price", run("--max", "cheap"), 2, "cheap"},
		{"bad seed", run("--seed", "0xff"), 2, "64 hex digits"},
		{"too many arguments of the algorithm", append(run("--"), strings.Fields(strings.Repeat("a ", 65))...), 2, "--arg"},
		{"output into a folder", run("--out", dir), 2, "not a file"},
		{"output nowhere", run("--out", dir+"/none/out.txt"), 2, "--out"},
		{"no node of one's own", []string{"resource", "add", text}, 4, "mman-node --provide"},
		{"no listing", []string{"offer", "add", dir + "/none.yaml"}, 4, "none.yaml"},
		{"node not running", []string{"status"}, 4, nowhere},
		{"node not running, in time", []string{"offer", "show", cid, "--timeout", "20s"}, 4, "is it running?"},
		{"out of time", []string{"status", "--timeout", "1ns"}, 4, "--timeout"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := person{home: filepath.Join(t.TempDir(), "home"), node: nowhere, stdin: "four"}
			require.Contains(t, p.fails(t, tc.code, tc.args...), tc.says)
			keys, err := filepath.Glob(filepath.Join(p.home, "keys", "*.json"))
			require.NoError(t, err)
			require.Empty(t, keys)

			// The same for scripts: a code and the sentence.
			code, out, _ := p.types(t, append([]string{"-o", "json"}, tc.args...)...)
			if tc.name == "unknown format" || tc.name == "too many arguments of the algorithm" {
				return // the later -o wins; -- ends the flags
			}
			require.Equal(t, tc.code, code)
			var v struct {
				Error struct {
					Code int    `json:"code"`
					Text string `json:"text"`
				} `json:"error"`
			}
			require.NoError(t, json.Unmarshal([]byte(out), &v), out)
			require.NotZero(t, v.Error.Code)
			require.Contains(t, v.Error.Text, tc.says)
		})
	}
}

// TestHelp holds every verb to an example.
func TestHelp(t *testing.T) {
	t.Parallel()
	p := person{home: filepath.Join(t.TempDir(), "home")}
	for _, verb := range []string{
		"", "keys", "keys new", "keys list", "keys show", "keys import", "keys export", "account", "send", "search", "request", "request run",
		"lease", "lease list", "lease show", "lease close", "receipt", "receipt verify", "receipt export", "resource", "resource list", "resource show", "resource add", "resource rm",
		"offer", "offer list", "offer show", "offer add", "offer withdraw", "tx", "status", "why", "version",
	} {
		out := p.says(t, append(strings.Fields(verb), "--help")...)
		require.Contains(t, out, "Examples:\n  mman", verb)
		require.Equal(t, out, p.says(t, append([]string{"help"}, strings.Fields(verb)...)...), verb)
	}
	require.Contains(t, p.says(t), "Exit codes:")
	require.Equal(t, "mman", p.json(t, 0, "version")["program"])
}

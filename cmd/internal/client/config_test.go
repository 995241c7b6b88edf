package client_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// rpc serves what a node's RPC answers to status, under a name.
func rpc(t *testing.T, name string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Method string            `json:"method"`
			Params map[string]string `json:"params"`
		}
		_ = json.NewDecoder(r.Body).Decode(&q) // other parameters than text are not looked at
		answer := map[string]any{"response": map[string]any{"code": 0, "height": "5", "value": []byte("{}")}}
		if q.Method == "status" {
			answer = map[string]any{
				"node_info": map[string]any{"network": "chain-of-" + name, "moniker": name + "\x1b[2J"},
				"sync_info": map[string]any{"latest_block_height": "5", "earliest_block_height": "1"},
			}
		}
		assertEncode(t, w, map[string]any{"result": answer})
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func assertEncode(t *testing.T, w http.ResponseWriter, v any) {
	t.Helper()
	if err := json.NewEncoder(w).Encode(v); err != nil {
		t.Error(err)
	}
}

// TestPrecedence: the command line before the environment before the config
// file before what runs in the home.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	p := person{home: t.TempDir(), env: map[string]string{}}
	chain := func(args ...string) any { return p.json(t, 0, append([]string{"status"}, args...)...)["chain_id"] }
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(p.home, name), []byte(text), 0o600))
	}
	write("run.json", `{"rpc": "`+rpc(t, "running")+`", "peers": [], "pids": {"any": 1}}`)
	require.Equal(t, "chain-of-running", chain())
	write("config.yaml", "node: "+rpc(t, "file")+"\ntimeout: 1m\nrequest:\n  run:\n    max: 0.5MAN\n    new_lease: true\n    data: [a, b]\nmoniker: of-the-node\n")
	require.Equal(t, "chain-of-file", chain())
	p.env["MMAN_NODE"] = rpc(t, "environment")
	require.Equal(t, "chain-of-environment", chain())
	require.Equal(t, "chain-of-flag", chain("--node", rpc(t, "flag")))

	// What a node says cannot steer the terminal.
	require.NotContains(t, p.says(t, "status"), "\x1b")

	write("config.yaml", "output: json\nverbose: false\npeer: [/ip4/127.0.0.1/tcp/1]\n")
	require.True(t, strings.HasPrefix(p.says(t, "status"), "{"))
	require.False(t, strings.HasPrefix(p.says(t, "status", "-o", "text"), "{"))
	p.env["MMAN_OUTPUT"] = "text"
	require.False(t, strings.HasPrefix(p.says(t, "status"), "{"))
}

// TestDefaults: flags of verbs take their values from the file too.
func TestDefaults(t *testing.T) {
	t.Parallel()
	p := person{home: t.TempDir()}
	write := func(text string) {
		require.NoError(t, os.WriteFile(filepath.Join(p.home, "config.yaml"), []byte(text), 0o600))
	}
	write("keys:\n  new:\n    unencrypted: true\n    type: secp256k1\naccount: second\n")
	require.Equal(t, "secp256k1", p.json(t, 0, "keys", "new", "first")["type"])
	second := p.json(t, 0, "keys", "new", "second", "--type", "ed25519")
	require.Equal(t, "ed25519", second["type"])
	require.Equal(t, second["address"], p.json(t, 0, "keys", "show")["address"])
	require.Equal(t, "first", p.json(t, 0, "keys", "show", "--from", "first")["name"])
}

func TestWrongConfig(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string][2]string{
		"unknown key":            {"nodes: x", "nodes"},
		"unknown verb":           {"reqest:\n  run: {}", "reqest"},
		"unknown key of a verb":  {"request:\n  run:\n    maximum: 1MAN", "request.run.maximum"},
		"a flag as it is typed":  {"request:\n  run:\n    new-lease: true", "new-lease"},
		"the home in the home":   {"home: /tmp", "home"},
		"help":                   {"help: true", "help"},
		"a list for one value":   {"node: [a, b]", "not a list"},
		"a list in a list":       {"peer: [[a]]", "peer"},
		"a fraction":             {"timeout: 1.5", "timeout"},
		"nothing":                {"node:", "node"},
		"a bad duration":         {"timeout: soon", "timeout"},
		"a bad format":           {"output: yaml", "yaml"},
		"twice":                  {"node: a\nnode: b", "node"},
		"no YAML":                {"node: [", "config.yaml"},
		"no map":                 {"- node", "config.yaml"},
		"too long":               {strings.Repeat("# padding\n", 7000), "bytes"},
		"a section that is text": {"request: run", "request"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := person{home: t.TempDir()}
			require.NoError(t, os.WriteFile(filepath.Join(p.home, "config.yaml"), []byte(tc[0]), 0o600))
			require.Contains(t, p.fails(t, 2, "keys", "list"), tc[1])
		})
	}
	p := person{home: t.TempDir(), env: map[string]string{"MMAN_TIMEOUT": "soon"}}
	require.Contains(t, p.fails(t, 2, "keys", "list"), "MMAN_TIMEOUT")
	require.Contains(t, person{}.fails(t, 2, "keys", "list"), "MMAN_HOME")
}

// TestOwnNode: the token goes to this machine only.
func TestOwnNode(t *testing.T) {
	t.Parallel()
	p := person{home: t.TempDir()}
	listing := filepath.Join(p.home, "listing.yaml")
	require.NoError(t, os.WriteFile(listing, []byte("resource: {}"), 0o600))
	for name, tc := range map[string]struct {
		run  string
		code int
		says string
	}{
		"elsewhere":   {`{"api": "http://example.com", "token": "secret"}`, 3, "not on this machine"},
		"no token":    {`{"api": "http://127.0.0.1:1"}`, 4, "no API"},
		"not running": {`{"api": "127.0.0.1:1", "token": "secret"}`, 4, "still running"},
		"damaged":     {`{`, 1, "run.json"},
	} {
		require.NoError(t, os.WriteFile(filepath.Join(p.home, "run.json"), []byte(tc.run), 0o600), name)
		said := p.fails(t, tc.code, "resource", "add", listing)
		require.Contains(t, said, tc.says, name)
		require.NotContains(t, said, "secret", name)
	}
}

// TestFoldedAccesses: what stands for several accesses says how many and what they came
// to, and is listed alone where that is asked for.
func TestFoldedAccesses(t *testing.T) {
	t.Parallel()
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/access" || r.URL.Query().Get("folded") != "true" {
			http.Error(w, "what?", http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, `{"items": [{"form": "run", "name": "secret", "decision": "allow", "bytes_in": 1, "bytes_out": 2, "over": true,
			"folded": {"count": 65537, "time": 86400, "bytes_in": 111, "bytes_out": 222}}]}`)
	}))
	t.Cleanup(node.Close)
	p := person{home: t.TempDir()}
	require.NoError(t, os.WriteFile(filepath.Join(p.home, "run.json"), []byte(`{"api": "`+node.URL+`", "token": "secret"}`), 0o600))
	said := p.says(t, "access", "list", "--folded")
	require.Contains(t, said, "1970-01-01T00:00:00Z", "the first")
	require.Contains(t, said, "65537 accesses until 1970-01-02T00:00:00Z, the first: allow")
	require.Regexp(t, `\b111 +222\b`, said)
	_, out, _ := p.types(t, "-o", "json", "access", "list", "--folded")
	require.Contains(t, out, `"count": 65537`)
}

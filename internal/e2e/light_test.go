package e2e_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/internal/localnet"
	"github.com/limboid/massive-man/sdk/chain"
)

// liar is a full node between a client and an honest one: it changes answers.
type liar struct {
	url  string
	turn atomic.Pointer[func(method string, answer []byte) []byte]
}

// newLiar begins to lie for an honest RPC; until told how it says the truth.
func newLiar(t *testing.T, honest string) *liar {
	t.Helper()
	to, err := url.Parse(honest)
	require.NoError(t, err)
	l := &liar{}
	front := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		turn := l.turn.Load()
		asked, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(asked))
		if turn == nil || r.Method != http.MethodPost {
			front.ServeHTTP(w, r)
			return
		}
		var call struct {
			Method string `json:"method"`
		}
		_ = json.Unmarshal(asked, &call) // an empty method is not lied about
		record := httptest.NewRecorder()
		front.ServeHTTP(record, r)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write((*turn)(call.Method, record.Body.Bytes())) // the client reads or fails
	}))
	t.Cleanup(server.Close)
	l.url = server.URL
	return l
}

func (l *liar) lie(fn func(method string, answer []byte) []byte) {
	if fn == nil {
		l.turn.Store(nil)
		return
	}
	l.turn.Store(&fn)
}

// lightProxy starts mman-node light and returns its RPC.
func lightProxy(t *testing.T, trust string, args ...string) string {
	t.Helper()
	j := begin(t, t.TempDir(), append([]string{"light", "--trust", trust, "--listen", "127.0.0.1:0"}, args...)...)
	ready := regexp.MustCompile(`rpc (http://\S+),`)
	var at string
	eventually(t, within, "the proxy listens", func(context.Context) (bool, error) {
		if j.ended() {
			require.FailNow(t, "the proxy ended", "%s", &j.errs)
		}
		if m := ready.FindStringSubmatch(j.out.String()); m != nil {
			at = m[1]
		}
		return at != "", nil
	})
	return at
}

// errRefused is an answer of the proxy that says no.
var errRefused = errors.New("refused")

// value is what abci_query answers for a raw key.
type value struct {
	Value  []byte `json:"value"`
	Height string `json:"height"`
	Info   string `json:"info"`
	Code   uint32 `json:"code"`
	Log    string `json:"log"`
}

func key(ctx context.Context, rpc, path string, data []byte) (value, error) {
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": "abci_query", "params": map[string]any{
		"path": path, "data": hex.EncodeToString(data), "height": "0", "prove": true,
	}})
	if err != nil {
		return value{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, rpc, bytes.NewReader(body))
	if err != nil {
		return value{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return value{}, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	var answer struct {
		Result struct {
			Response value `json:"response"`
		} `json:"result"`
		Error *struct {
			Data string `json:"data"`
		} `json:"error"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return value{}, err
	}
	if e := answer.Error; e != nil {
		return value{}, fmt.Errorf("%w: %s", errRefused, e.Data)
	}
	return answer.Result.Response, nil
}

// TestLight is gate G8: a light client proves what is there and what is not, and
// refuses every lie of a full node.
func TestLight(t *testing.T) {
	n := raise(t, localnet.Spec{Validators: 2, Consumers: []string{"me"}}, 2)
	honest := n.running[n.Validators[0]].Running.RPC
	me := n.Consumers[0]
	l := newLiar(t, honest)
	n.await(t, n.Validators[0], 4)
	trust, ok := object(t, run(t, n.Validators[0].Home, "status", "--home", n.Validators[0].Home, "-o", "json").out.Bytes())["trust"].(string)
	require.True(t, ok)

	height, hash, _ := strings.Cut(trust, ":")
	for _, bad := range []string{"", "12", "0:" + hash, height + ":" + someHash} {
		j := run(t, t.TempDir(), "light", "--trust", bad, "--listen", "127.0.0.1:0", honest)
		require.NotZero(t, j.code, bad)
		oneSentence(t, j.errs.String(), "trust")
	}
	first, err := n.rpc(t, n.Validators[0]).BlockHash(t.Context(), 1)
	require.NoError(t, err)
	old := run(t, t.TempDir(), "light", "--trust", "1:"+first.String(), "--listen", "127.0.0.1:0", honest)
	require.NotZero(t, old.code)
	oneSentence(t, old.errs.String(), "trusted block 1 is", "newer")
	foreign := run(t, t.TempDir(), "light", "--trust", trust, "--listen", "0.0.0.0:0", honest)
	require.NotZero(t, foreign.code)
	oneSentence(t, foreign.errs.String(), "loopback")

	rpc := lightProxy(t, trust, l.url, n.running[n.Validators[1]].Running.RPC)
	here, nobody := me.Address[:], make([]byte, mman.AddressSize)
	account := append([]byte("a"), here...)
	missing := append([]byte("a"), nobody...)
	got, err := key(t.Context(), rpc, "/store/bank/key", account)
	require.NoError(t, err)
	require.NotEmpty(t, got.Value, "presence is proved")
	require.Equal(t, "proved", got.Info)
	none, err := key(t.Context(), rpc, "/store/bank/key", missing)
	require.NoError(t, err)
	require.Empty(t, none.Value, "absence is proved")

	// The nouns, and the client program through the proxy.
	c, err := chain.New(rpc)
	require.NoError(t, err)
	defer c.Close()
	held, err := c.Account(t.Context(), me.Address)
	require.NoError(t, err)
	require.Equal(t, 10_000*mman.MAN, held.Balance)
	supply, err := c.Supply(t.Context())
	require.NoError(t, err)
	require.True(t, supply.Conserved())
	ask(t, me.Home, 0, "--node", rpc, "send", someone(), "1MAN") // signed here, sent, and seen in a proved block
	_, err = c.Account(t.Context(), mman.Address(nobody))
	require.ErrorIs(t, err, mman.ErrNotFound)
	_, err = c.Query(t.Context(), "/mman/validators?limit=3", new(any))
	require.ErrorIs(t, err, mman.ErrUnproved)
	_, err = c.Query(t.Context(), "/mman/nonsense", new(any))
	require.ErrorIs(t, err, mman.ErrUnsupported)
	marked, err := key(t.Context(), lightProxy(t, trust, "--unproved", honest), "/mman/validators?limit=3", nil)
	require.NoError(t, err)
	require.Contains(t, marked.Info, "NOT PROVED")
	require.NotEmpty(t, marked.Value)

	// What is changed on the way is refused.
	other, err := key(t.Context(), honest, "/store/bank/key", append([]byte("a"), n.Validators[0].Address[:]...))
	require.NoError(t, err)
	edit := func(method string, fn func(response map[string]any)) func(string, []byte) []byte {
		return func(called string, answer []byte) []byte {
			if called != method {
				return answer
			}
			var v map[string]any
			require.NoError(t, json.Unmarshal(answer, &v))
			result, ok := v["result"].(map[string]any)
			if !ok {
				return answer
			}
			if method == "abci_query" {
				result, ok = result["response"].(map[string]any)
				require.True(t, ok)
			}
			fn(result)
			out, err := json.Marshal(v)
			require.NoError(t, err)
			return out
		}
	}
	for name, lie := range map[string]func(string, []byte) []byte{
		"another value":                   edit("abci_query", func(r map[string]any) { r["value"] = other.Value }),
		"nothing there":                   edit("abci_query", func(r map[string]any) { delete(r, "value") }),
		"nothing there, and no proof":     edit("abci_query", func(r map[string]any) { delete(r, "value"); delete(r, "proofOps") }),
		"an error in place of the answer": edit("abci_query", func(r map[string]any) { r["code"], r["log"] = 4, "not found" }),
		"another key's answer": edit("abci_query", func(r map[string]any) {
			wrong, err := key(t.Context(), honest, "/store/bank/key", missing)
			require.NoError(t, err)
			r["key"], r["value"] = missing, wrong.Value
		}),
		"an older state": edit("abci_query", func(r map[string]any) { r["height"] = "1" }),
		"headers of another state": edit("commit", func(r map[string]any) {
			signed, ok := r["signed_header"].(map[string]any)
			require.True(t, ok)
			header, ok := signed["header"].(map[string]any)
			require.True(t, ok)
			header["app_hash"] = strings.ToUpper(someHash)
		}),
	} {
		fresh := lightProxy(t, trust, l.url)
		l.lie(lie)
		_, err = key(t.Context(), fresh, "/store/bank/key", account)
		require.ErrorIs(t, err, errRefused, name)
		_, err = key(t.Context(), fresh, "/mman/account/"+me.Address.String(), nil)
		require.ErrorIs(t, err, errRefused, name)
		l.lie(nil)
		eventually(t, within, "the truth again after "+name, func(ctx context.Context) (bool, error) {
			got, err := key(ctx, fresh, "/store/bank/key", account)
			return len(got.Value) > 0, err
		})
	}

	bend(t, l, lightProxy(t, trust, l.url), honest, edit, [][]byte{account, missing, append([]byte("a"), n.Validators[0].Address[:]...)})

	// The RPC of stock clients: a block, its results, validators, a search.
	for _, path := range []string{"/block", "/commit", "/header", "/validators", "/block_results", "/blockchain?minHeight=1&maxHeight=3", "/status", "/genesis", `/tx_search?query="tx.height>0"&per_page="5"`} {
		require.NotContains(t, page(t, rpc+strings.ReplaceAll(path, `"`, "%22")), `"error"`, path)
	}
}

// bend has a full node answer with one bit of the value, the key or the proof
// changed, 24 times or MMAN_LIES: the proxy refuses, or what it says is the truth,
// where the bit has no meaning.
func bend(t *testing.T, l *liar, proxy, honest string, edit func(string, func(map[string]any)) func(string, []byte) []byte, keys [][]byte) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 10))
	flip := func(holder map[string]any, field string) {
		text, _ := holder[field].(string)
		b, err := base64.StdEncoding.DecodeString(text)
		require.NoError(t, err)
		if len(b) == 0 {
			b = []byte{0} // of an absent key
		}
		b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		holder[field] = b
	}
	lies, refused := abcitest.Setting(t, "MMAN_LIES", 24), 0
	for range lies {
		asked := keys[rng.IntN(len(keys))]
		truth, err := key(t.Context(), honest, "/store/bank/key", asked)
		require.NoError(t, err)
		l.lie(edit("abci_query", func(r map[string]any) {
			proof, ok := r["proofOps"].(map[string]any)
			require.True(t, ok)
			ops, ok := proof["ops"].([]any)
			require.True(t, ok)
			op, ok := ops[0].(map[string]any)
			require.True(t, ok)
			switch rng.IntN(5) {
			case 0:
				flip(r, "value")
			case 1:
				flip(r, "key")
			case 2:
				flip(op, "key")
			default:
				flip(op, "data")
			}
		}))
		got, err := key(t.Context(), proxy, "/store/bank/key", asked)
		l.lie(nil)
		if err != nil {
			require.ErrorIs(t, err, errRefused)
			refused++
			continue
		}
		require.Equal(t, truth.Value, got.Value)
	}
	require.Greater(t, refused, lies/2)
	t.Logf("G8: %d answers with one bit changed: %d refused, the others still true", lies, refused)
}

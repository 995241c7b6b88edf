package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/node/api"
	"github.com/limboid/massive-man/node/library"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/sdk/chain"
)

const token = "secret"

// start serves the API over a node whose ledger answers every query with its
// own path.
func start(t *testing.T) string {
	t.Helper()
	rpc := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req struct {
			ID     json.RawMessage `json:"id"`
			Params struct {
				Path string `json:"path"`
			} `json:"params"`
		}
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			t.Error(err)
		}
		value, err := json.Marshal(map[string]string{"path": req.Params.Path})
		if err != nil {
			t.Error(err)
		}
		if err := json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", "id": req.ID, "result": map[string]any{"response": map[string]any{"value": value, "height": "5"}}}); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(rpc.Close)
	c, err := chain.New(rpc.URL)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	s, err := api.New(t.Context(), api.Config{Listen: "127.0.0.1:0", Token: token, Chain: c, Metrics: http.NotFoundHandler(), Gateway: http.NotFoundHandler(), Library: nobodys{}, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, s.Close())
	})
	return "http://" + s.Addr()
}

func TestRequests(t *testing.T) {
	t.Parallel()
	base := start(t)
	auth := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
	for name, tc := range map[string]struct {
		method, path, body string
		change             func(*http.Request)
		want               int
		text               string
	}{
		"query":             {path: "/v1/leases/0a?limit=3", want: 200, text: `"/mman/leases/0a?limit=3"`},
		"query stays whole": {path: "/v1/leases%3Fx", want: 200, text: `"/mman/leases%3Fx"`},
		"localhost":         {path: "/v1/x", change: func(r *http.Request) { r.Host = "localhost:1" }, want: 200},
		"ipv6 loopback":     {path: "/v1/x", change: func(r *http.Request) { r.Host = "[::1]:1" }, want: 200},
		"own origin":        {path: "/v1/x", change: func(r *http.Request) { r.Header.Set("Origin", "http://"+r.Host) }, want: 200},
		"foreign host":      {path: "/v1/x", change: func(r *http.Request) { r.Host = "evil.example" }, want: 403, text: "evil.example"},
		"rebound host":      {path: "/v1/x", change: func(r *http.Request) { r.Host = "127.0.0.1.evil.example:80" }, want: 403},
		"public address":    {path: "/v1/x", change: func(r *http.Request) { r.Host = "1.2.3.4" }, want: 403},
		"foreign origin":    {path: "/v1/x", change: func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, want: 403},
		"other local port":  {path: "/v1/x", change: func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:1") }, want: 403},
		"null origin":       {path: "/v1/x", change: func(r *http.Request) { r.Header.Set("Origin", "null") }, want: 403},
		"bad path":          {path: "/v2/x", want: 404},
		"bad method":        {method: "PUT", path: "/v1/listings", want: 405},
		"no token":          {method: "POST", path: "/v1/listings", body: `{}`, want: 401, text: "bearer token"},
		"wrong token":       {method: "POST", path: "/v1/listings", body: `{}`, change: func(r *http.Request) { r.Header.Set("Authorization", "Bearer secreT") }, want: 401},
		"bare token":        {method: "POST", path: "/v1/listings", body: `{}`, change: func(r *http.Request) { r.Header.Set("Authorization", token) }, want: 401},
		"delete, no token":  {method: "DELETE", path: "/v1/listings/x", want: 401},
		"not json":          {method: "POST", path: "/v1/listings", body: `x`, change: auth, want: 400},
		"unknown key":       {method: "POST", path: "/v1/listings", body: `{"path":"/a","x":1}`, change: auth, want: 400},
		"two bodies":        {method: "POST", path: "/v1/listings", body: `{"path":"/a"}{"path":"/b"}`, change: auth, want: 400},
		"relative path":     {method: "POST", path: "/v1/listings", body: `{"path":"a.yaml"}`, change: auth, want: 400, text: "absolute"},
		"oversize":          {method: "POST", path: "/v1/listings", body: `{"path":"/` + strings.Repeat("a", 70<<10) + `"}`, change: auth, want: 400},
		"no such file":      {method: "POST", path: "/v1/listings", body: `{"path":"/nowhere/at/all.yaml"}`, change: auth, want: 404, text: "nowhere"},
		"give, no token":    {method: "POST", path: "/v1/content", body: `{"path":"/a"}`, want: 401},
		"give nothing":      {method: "POST", path: "/v1/content", body: `{"path":"a"}`, change: auth, want: 400, text: "absolute"},
		"give a file":       {method: "POST", path: "/v1/content", body: `{"path":"/a"}`, change: auth, want: 200, text: `{"done":1,"total":2}` + "\n" + `{"error":{"code":4,`},
		"give a CAR file":   {method: "POST", path: "/v1/content", body: `{"path":"/a","car":true}`, change: auth, want: 200, text: `"name":"/a"`},
		"given":             {path: "/v1/content", want: 200, text: `{"items":[]}`},
		"not a cid":         {method: "DELETE", path: "/v1/listings/x", change: auth, want: 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			method := tc.method
			if method == "" {
				method = http.MethodGet
			}
			req, err := http.NewRequestWithContext(t.Context(), method, base+tc.path, strings.NewReader(tc.body))
			require.NoError(t, err)
			req.Host = req.URL.Host
			if tc.change != nil {
				tc.change(req)
			}
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			b, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, tc.want, resp.StatusCode, string(b))
			require.Contains(t, string(b), tc.text)
			require.Less(t, len(b), 1024)
		})
	}
}

func TestClientReadsErrors(t *testing.T) {
	t.Parallel()
	base := start(t)
	_, err := api.NewClient(base, "wrong").Publish(t.Context(), "/x")
	require.ErrorIs(t, err, mman.ErrDenied)
	_, err = api.NewClient(base, token).Publish(t.Context(), "/nowhere/at/all.yaml")
	require.ErrorIs(t, err, mman.ErrNotFound)
	_, err = api.NewClient("http://127.0.0.1:1", token).Publish(t.Context(), "/x")
	require.ErrorIs(t, err, mman.ErrUnreachable)
}

// nobodys is a library that can add nothing.
type nobodys struct{}

func (nobodys) Add(_ context.Context, path string, tell func(content.Progress)) (library.Item, error) {
	tell(content.Progress{Done: 1, Total: 2})
	return library.Item{}, fmt.Errorf("%w: %s", mman.ErrNotFound, path)
}

func (nobodys) Import(_ context.Context, path string, _ func(content.Progress)) ([]library.Item, error) {
	return []library.Item{{Root: mman.SumCID(mman.CodecRaw, nil), Name: path}}, nil
}

func (nobodys) Remove(context.Context, mman.CID, []mman.CID) (library.Item, uint64, error) {
	return library.Item{}, 0, mman.ErrNotFound
}

func (nobodys) Items() ([]library.Item, error) { return []library.Item{}, nil }

func TestListen(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"", "localhost:0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "127.0.0.1", "127.0.0.1:99999", strings.Repeat("x", 1000)} {
		_, err := api.New(t.Context(), api.Config{Listen: listen, Token: token, Metrics: http.NotFoundHandler(), Gateway: http.NotFoundHandler(), Library: nobodys{}})
		require.ErrorIs(t, err, mman.ErrInvalid, listen)
		require.Less(t, len(err.Error()), 300)
	}
	_, err := api.New(t.Context(), api.Config{Listen: "127.0.0.1:0"})
	require.ErrorIs(t, err, mman.ErrInvalid, "without a token everybody would be the operator")
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, ln.Close()) }()
	_, err = api.New(t.Context(), api.Config{Listen: ln.Addr().String(), Token: token, Metrics: http.NotFoundHandler(), Gateway: http.NotFoundHandler(), Library: nobodys{}})
	require.ErrorIs(t, err, mman.ErrPortInUse)
}

package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/resources/endpoint/call"
	"github.com/limboid/massive-man/sdk"
	"github.com/limboid/massive-man/sdk/gateway"
)

const token = "mman-0123456789abcdef"

// provider answers calls in the place of one, and remembers what it was asked.
type provider struct {
	mu    sync.Mutex
	heads []call.Request
	// answer returns a kind of content and a body, or how the call ended.
	answer func(call.Request) (kind, body string, outcome sdk.Outcome, err error)
}

func (p *provider) run(_ context.Context, w sdk.Work) (sdk.Outcome, error) {
	head, err := call.ReadRequest(w.Input)
	if err != nil {
		return sdk.Outcome{}, err
	}
	if _, err := io.Copy(io.Discard, w.Input); err != nil {
		return sdk.Outcome{}, err
	}
	p.mu.Lock()
	p.heads = append(p.heads, head)
	p.mu.Unlock()
	kind, body, outcome, err := "text/plain", "hello", sdk.Outcome{}, error(nil)
	if p.answer != nil {
		kind, body, outcome, err = p.answer(head)
	}
	if err != nil || outcome.Result.Code != 0 {
		return outcome, err
	}
	if err := call.WriteHead(w.Stdout, call.Response{Status: 200, Header: []call.Field{
		{Name: "content-type", Value: kind}, {Name: "set-cookie", Value: "session=1; Domain=evil.example; Path=/"}, {Name: "access-control-allow-origin", Value: "*"},
	}}); err != nil {
		return outcome, err
	}
	_, err = io.WriteString(w.Stdout, body)
	return outcome, err
}

func (p *provider) asked(path string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.heads {
		if strings.HasPrefix(h.Path, path) {
			n++
		}
	}
	return n
}

func open(t *testing.T, p *provider, api string, undefended ...string) string {
	t.Helper()
	g, err := gateway.New(t.Context(), gateway.Config{Listen: "127.0.0.1:0", Token: token, API: api, Run: p.run, Now: time.Now})
	require.NoError(t, err)
	for _, name := range undefended {
		g.Undefend(name)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	return g.Addr()
}

// reply is an answer that was read.
type reply struct {
	StatusCode int
	Header     http.Header
}

func send(t *testing.T, at, path string, change func(*http.Request)) (reply, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+at+path, http.NoBody)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	change(r)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(r)
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return reply{resp.StatusCode, resp.Header}, string(b)
}

// TestPages: what only somebody else's page, or a name that it made point here, would
// send is refused; each passes when its defence is off.
func TestPages(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		defence string
		change  func(*http.Request)
	}{
		"a rebound name":          {"host", func(r *http.Request) { r.Host = "evil.example:" + r.URL.Port() }},
		"a name without port":     {"host", func(r *http.Request) { r.Host = "127.0.0.1" }},
		"another port":            {"host", func(r *http.Request) { r.Host = "127.0.0.1:1" }},
		"a name like this":        {"host", func(r *http.Request) { r.Host = "127.0.0.1.evil.example:" + r.URL.Port() }},
		"another site":            {"origin", func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }},
		"a file":                  {"origin", func(r *http.Request) { r.Header.Set("Origin", "null") }},
		"another service here":    {"origin", func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:1") }},
		"an image of a page":      {"origin", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }},
		"a page of this machine":  {"origin", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }},
		"somebody with no token":  {"token", func(r *http.Request) { r.Header.Del("Authorization") }},
		"somebody with a guess":   {"token", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token[:20]) }},
		"a token of another kind": {"token", func(r *http.Request) { r.Header.Set("Authorization", "Basic "+token) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p provider
			resp, _ := send(t, open(t, &p, "http"), "/spend", c.change)
			require.Contains(t, []int{http.StatusForbidden, http.StatusUnauthorized}, resp.StatusCode)
			require.Empty(t, resp.Header.Get("Access-Control-Allow-Origin"))
			require.Zero(t, p.asked("/"))
			resp, body := send(t, open(t, &p, "http", c.defence), "/spend", c.change)
			require.Equal(t, http.StatusOK, resp.StatusCode)
			require.Equal(t, "hello", body)
			require.Empty(t, resp.Header.Get("Access-Control-Allow-Origin"), "pages elsewhere read nothing")
		})
	}
}

// TestWhatStaysHere: the token and the cookies of other services do not travel.
func TestWhatStaysHere(t *testing.T) {
	t.Parallel()
	for _, field := range []string{"Authorization", "X-Api-Key", "Api-Key", "X-Mman-Token"} {
		var p provider
		at := open(t, &p, "http")
		resp, _ := send(t, at, "/", func(r *http.Request) {
			value := token
			if r.Header.Del("Authorization"); field == "Authorization" {
				value = "Bearer " + token
			}
			r.Header.Set(field, value)
			r.Header.Set("Cookie", "jupyter=secret-of-another-service")
			r.Header.Set("Referer", "http://127.0.0.1/private")
		})
		require.Equal(t, http.StatusOK, resp.StatusCode, field)
		said := fmt.Sprint(p.heads)
		require.NotContains(t, said, token, field)
		require.NotContains(t, said, "another-service")
		require.NotContains(t, said, "private")
		cookie := resp.Header.Get("Set-Cookie")
		require.Contains(t, cookie, "-session=1")
		require.NotContains(t, cookie, "Domain")

		send(t, open(t, &p, "http", "cookies"), "/", func(r *http.Request) { r.Header.Set("Cookie", "jupyter=secret-of-another-service") })
		require.Contains(t, fmt.Sprint(p.heads), "another-service", "without the defence they do")
	}
	// A browser brings the token once, and then a cookie that no script reads.
	var p provider
	at := open(t, &p, "http")
	resp, _ := send(t, at, "/a?b=1&"+gateway.TokenParam+"="+token, func(r *http.Request) { r.Header.Del("Authorization") })
	require.Equal(t, http.StatusSeeOther, resp.StatusCode)
	require.Equal(t, "/a?b=1", resp.Header.Get("Location"))
	require.Contains(t, resp.Header.Get("Set-Cookie"), "HttpOnly; SameSite=Strict")
	cookie, _, _ := strings.Cut(resp.Header.Get("Set-Cookie"), ";")
	resp, _ = send(t, at, "/a", func(r *http.Request) {
		r.Header.Del("Authorization")
		r.Header.Set("Cookie", cookie)
	})
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.NotContains(t, fmt.Sprint(p.heads), token)
}

// TestEnds: an error has the form of the API, and an answer that broke off does not look
// whole.
func TestEnds(t *testing.T) {
	t.Parallel()
	var end error
	var code mman.Code
	p := provider{answer: func(call.Request) (string, string, sdk.Outcome, error) {
		return "", "", sdk.Outcome{}, end
	}}
	at := open(t, &p, call.OpenAI)
	for _, c := range []struct {
		err    error
		status int
		kind   string
	}{
		{mman.ErrCapExceeded, 402, "insufficient_quota"},
		{mman.ErrBusy, 429, "rate_limit_exceeded"},
		{mman.ErrPolicy, 403, "permission_denied"},
		{mman.ErrTimeout, 504, "api_error"},
		{mman.ErrPeerVanished, 502, "api_error"},
		{mman.ErrTooLarge, 413, "invalid_request_error"},
	} {
		end = fmt.Errorf("lease x: %w", c.err)
		resp, body := send(t, at, "/v1/models", func(*http.Request) {})
		require.Equal(t, c.status, resp.StatusCode)
		require.Contains(t, body, `"type":"`+c.kind+`"`)
		require.Contains(t, body, `"message":"lease x: `)
	}
	end = mman.ErrBusy
	resp, body := send(t, open(t, &p, "http"), "/", func(*http.Request) {})
	require.Equal(t, "application/problem+json", resp.Header.Get("Content-Type"))
	require.Contains(t, body, `"status":429`)

	code = mman.ErrDenied.Code
	p.answer = func(call.Request) (string, string, sdk.Outcome, error) {
		return "", "", sdk.Outcome{Result: market.RunResult{Code: code}}, nil
	}
	resp, _ = send(t, at, "/v1/models", func(*http.Request) {})
	require.Equal(t, http.StatusForbidden, resp.StatusCode)

	p.answer = func(call.Request) (string, string, sdk.Outcome, error) {
		return "text/event-stream", "data: {}\n\n", sdk.Outcome{Result: market.RunResult{ExitCode: 1}}, nil
	}
	_, body = send(t, at, "/v1/x", func(*http.Request) {})
	require.Contains(t, body, `data: {"error":`)
	p.answer = func(call.Request) (string, string, sdk.Outcome, error) {
		return "text/plain", "half", sdk.Outcome{Result: market.RunResult{ExitCode: 1}}, nil
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+at+"/v1/x", http.NoBody)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	broken, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		_, err = io.ReadAll(broken.Body)
		require.NoError(t, broken.Body.Close())
	}
	require.Error(t, err)
}

// TestOddRequests: what is too large or can be read in two ways goes nowhere.
func TestOddRequests(t *testing.T) {
	t.Parallel()
	var p provider
	at := open(t, &p, "http")
	for _, path := range []string{"/a//x", "/a/../b", "/%2e%2e/x", "/a%2fb", `/a\b`, "/a;b"} {
		resp, _ := send(t, at, "/", func(r *http.Request) { r.URL.Opaque = path })
		require.Equal(t, http.StatusBadRequest, resp.StatusCode, path)
	}
	resp, _ := send(t, at, "/", func(r *http.Request) { r.Header.Set("X-Big", strings.Repeat("x", 64<<10)) })
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, resp.StatusCode)
	require.Zero(t, p.asked("/"))
	_, err := gateway.New(t.Context(), gateway.Config{Listen: "0.0.0.0:0", Token: token, Run: p.run, Now: time.Now})
	require.ErrorIs(t, err, mman.ErrInvalid)
}

// TestBrowser lets a page of another service of this machine, in a real browser that
// has the gateway's cookie, spend its owner's money: with forms, with fetch, and with
// images; and a page whose name was made to point at the gateway.
func TestBrowser(t *testing.T) {
	t.Parallel()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is missing: on Debian, apt-get install chromium")
	}
	for _, defended := range []bool{true, false} {
		t.Run(fmt.Sprintf("defended %t", defended), func(t *testing.T) {
			t.Parallel()
			var off []string
			if !defended {
				off = []string{"origin", "host", "token"}
			}
			var next atomic.Pointer[string]
			p := &provider{answer: func(r call.Request) (string, string, sdk.Outcome, error) {
				if r.Path == "/home" {
					return "text/html", `<h1>hosted</h1><script>location = "` + *next.Load() + `"</script>`, sdk.Outcome{}, nil
				}
				return "text/html", "spent", sdk.Outcome{}, nil
			}}
			at := open(t, p, "http", off...)
			_, port, _ := strings.Cut(at, ":")
			attacker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				_, _ = fmt.Fprintf(w, `<iframe name="f"></iframe><form id="x" method="post" target="f" action="http://%[1]s/spend/form"><input name="a"></form>
<img src="http://%[1]s/spend/image"><iframe src="http://evil.example:%[2]s/spend/rebound"></iframe>
<script>
document.getElementById("x").submit();
fetch("http://%[1]s/spend/fetch", {method: "POST", mode: "no-cors", credentials: "include", body: "x"}).finally(() => { document.title = "done"; });
</script>`, at, port)
			}))
			t.Cleanup(attacker.Close)
			next.Store(&attacker.URL)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
				"--disable-component-update", "--disable-sync", "--no-first-run", "--user-data-dir="+t.TempDir(), "--host-resolver-rules=MAP evil.example 127.0.0.1",
				"--virtual-time-budget=8000", "--dump-dom", "http://"+at+"/home?"+gateway.TokenParam+"="+token)
			var errs bytes.Buffer
			cmd.Stderr = &errs
			out, err := cmd.Output()
			require.NoError(t, err, "%s", &errs)
			require.Equal(t, 1, p.asked("/home"), "the page itself was reached in the browser: %s %s", out, &errs)
			for _, way := range []string{"form", "image", "rebound", "fetch"} {
				if defended {
					require.Zero(t, p.asked("/spend/"+way), way)
				} else {
					require.Positive(t, p.asked("/spend/"+way), "%s: without the defence it works: %s", way, out)
				}
			}
		})
	}
}

package endpoint_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources/endpoint"
	"github.com/limboid/massive-man/resources/endpoint/call"
)

// TestLeaks lets upstreams put the provider's secret into their answers. Each does when
// nobody looks, and none when somebody does.
func TestLeaks(t *testing.T) {
	t.Parallel()
	reversed := []byte(secret)
	slices.Reverse(reversed)
	quoted, err := json.Marshal(secret)
	require.NoError(t, err)
	long := func(prefix string) string {
		return base64.StdEncoding.EncodeToString([]byte(prefix + secret + "after"))
	}
	write := func(parts ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for _, p := range parts {
				_, _ = io.WriteString(w, p)
				_ = http.NewResponseController(w).Flush()
			}
		}
	}
	for name, leak := range map[string]http.HandlerFunc{
		"plain":              write("you sent " + secret + " to me"),
		"split":              write("a ", secret[:9], secret[9:20], secret[20:]),
		"byte by byte":       write(strings.Split(secret, "")...),
		"in JSON":            write(`{"key":` + string(quoted) + `}`),
		"in a URL":           write("?key=" + url.QueryEscape(secret)),
		"in hexadecimal":     write(hex.EncodeToString([]byte(secret))),
		"in HEXADECIMAL":     write(strings.ToUpper(hex.EncodeToString([]byte(secret)))),
		"reversed":           write(string(reversed)),
		"in base64":          write(base64.StdEncoding.EncodeToString([]byte(secret))),
		"in base64, moved 1": write(long("a")),
		"in base64, moved 2": write(long("ab")),
		"in base64 for URLs": write(base64.RawURLEncoding.EncodeToString([]byte("??" + secret))),
		"in a header":        func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Etag", `"`+secret+`"`) },
		"in a redirection": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/?key="+url.QueryEscape(secret), http.StatusFound)
		},
		"echoed": func(w http.ResponseWriter, r *http.Request) { _ = r.Header.Write(w) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := upstream(t, leak)
			open := ask(t, serve(t, endpoint.Settings{Upstream: at}, "search"), get("/"), "")
			require.NoError(t, open.err)
			require.Greater(t, len(open.said()), 40, "without the defence it is all there")
			g := ask(t, serve(t, endpoint.Settings{Upstream: at}), get("/"), "")
			require.ErrorIs(t, g.err, mman.ErrDenied)
			require.NotContains(t, g.said(), secret[:8])
			require.NotContains(t, g.err.Error(), secret[:8])
		})
	}
}

// TestLeaksCompressed: nobody asked for compression, and what cannot be read is not
// passed on.
func TestLeaksCompressed(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := io.WriteString(z, "you sent "+secret)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	at := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", r.URL.Query().Get("as"))
		_, _ = w.Write(b.Bytes())
	})
	r := call.Request{Method: "GET", Path: "/", Query: "as=gzip"}
	open := ask(t, serve(t, endpoint.Settings{Upstream: at}, "decode"), r, "")
	require.NoError(t, open.err)
	unpacked, err := gzip.NewReader(strings.NewReader(open.body))
	require.NoError(t, err)
	text, err := io.ReadAll(unpacked)
	require.NoError(t, err)
	require.Contains(t, string(text), secret, "compressed it passes unseen")
	require.ErrorIs(t, ask(t, serve(t, endpoint.Settings{Upstream: at}), r, "").err, mman.ErrDenied)
	r.Query = "as=br"
	require.ErrorIs(t, ask(t, serve(t, endpoint.Settings{Upstream: at}), r, "").err, mman.ErrUnreachable)
}

// TestLeaksInPieces: a model that says its key in tokens is stopped before the last.
func TestLeaksInPieces(t *testing.T) {
	t.Parallel()
	at := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := 0; i < len(secret); i += 3 {
			piece, _ := json.Marshal(secret[i:min(i+3, len(secret))])
			_, _ = fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":%s}}]}\n\n", piece)
			_ = http.NewResponseController(w).Flush()
		}
	})
	r := call.Request{Method: "POST", Path: "/v1/chat/completions"}
	s := endpoint.Settings{Upstream: at, API: call.OpenAI}
	open := ask(t, serve(t, s, "search"), r, `{"stream":true}`)
	require.NoError(t, open.err)
	last, err := json.Marshal(secret[len(secret)-3:])
	require.NoError(t, err)
	require.Contains(t, open.body, string(last))
	g := ask(t, serve(t, s), r, `{"stream":true}`)
	require.ErrorIs(t, g.err, mman.ErrDenied)
	require.NotContains(t, g.body, string(last))
}

// TestRedirectsAreNotFollowed: the secret goes to nobody else.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 4)
	thief := upstream(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Get("Authorization") })
	at := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, thief, http.StatusTemporaryRedirect)
		case "/within":
			http.Redirect(w, r, "http://"+r.Host+"/there?x=1", http.StatusFound)
		case "/slashes":
			w.Header().Set("Location", `/\thief.example`)
			w.WriteHeader(http.StatusFound)
		}
	})
	open := ask(t, serve(t, endpoint.Settings{Upstream: at}, "redirects"), get("/away"), "")
	require.NoError(t, open.err)
	require.Equal(t, "Bearer "+secret, <-seen, "whoever follows hands it over")

	e := serve(t, endpoint.Settings{Upstream: at})
	g := ask(t, e, get("/away"), "")
	require.NoError(t, g.err)
	require.EqualValues(t, http.StatusTemporaryRedirect, g.head.Status)
	require.Empty(t, call.Get(g.head.Header, "location"))
	require.Empty(t, seen)
	require.Equal(t, "/there?x=1", call.Get(ask(t, e, get("/within"), "").head.Header, "location"), "the provider's address stays")
	require.Empty(t, call.Get(ask(t, e, get("/slashes"), "").head.Header, "location"))
}

// TestPaths: what is not listed cannot be reached, however it is written.
func TestPaths(t *testing.T) {
	t.Parallel()
	at := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.RequestURI, "admin") {
			_, _ = io.WriteString(w, "the keys of the house")
		}
	})
	s := endpoint.Settings{Upstream: at, Allow: []string{"GET /public/*", "POST /in"}}
	for _, path := range []string{
		"/admin", "/public/../admin", "//admin", "/public//../admin", "/public/%2e%2e/admin", `/public/..\admin`, "/public/..;/admin", "/Public/admin", "/public/./../admin",
	} {
		open := ask(t, serve(t, s, "routes", "paths"), get(path), "")
		require.NoError(t, open.err, path)
		require.Equal(t, "the keys of the house", open.body, path)
		g := ask(t, serve(t, s), get(path), "")
		require.Error(t, g.err, path)
		require.Contains(t, []mman.Code{mman.ErrDenied.Code, mman.ErrInvalid.Code}, mman.CodeOf(g.err), path)
		require.Empty(t, g.body)
	}
	e := serve(t, s)
	require.ErrorIs(t, ask(t, e, call.Request{Method: "DELETE", Path: "/public/x"}, "").err, mman.ErrDenied)
	require.ErrorIs(t, ask(t, e, get("/in"), "").err, mman.ErrDenied)
	require.NoError(t, ask(t, e, call.Request{Method: "HEAD", Path: "/public/x"}, "").err)
}

// TestHeaders: what speaks for the connection or for somebody else does not pass.
func TestHeaders(t *testing.T) {
	t.Parallel()
	at := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Forwarded-For") == "127.0.0.1" || r.Header.Get("X-Admin") != "" {
			_, _ = io.WriteString(w, "welcome")
		}
	})
	for _, f := range []call.Field{{Name: "x-forwarded-for", Value: "127.0.0.1"}, {Name: "x-admin", Value: "1"}} {
		r := call.Request{Method: "GET", Path: "/", Header: []call.Field{f}}
		require.Equal(t, "welcome", ask(t, serve(t, endpoint.Settings{Upstream: at}, "fields"), r, "").body)
		require.Empty(t, ask(t, serve(t, endpoint.Settings{Upstream: at}), r, "").body)
	}
}

// TestSmuggling: a body that holds a request stays a body.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	const inner = "0\r\n\r\nGET /admin HTTP/1.1\r\nHost: x\r\n\r\n"
	paths := make(chan string, 8)
	at := upstream(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		paths <- r.URL.Path
	})
	e := serve(t, endpoint.Settings{Upstream: at})
	for _, fields := range [][]call.Field{
		{{Name: "content-length", Value: "3"}},
		{{Name: "transfer-encoding", Value: "chunked"}},
		{{Name: "transfer-encoding", Value: "xchunked"}, {Name: "content-length", Value: "4"}},
		{{Name: "connection", Value: "content-length"}},
		{{Name: "expect", Value: "100-continue"}},
	} {
		g := ask(t, e, call.Request{Method: "POST", Path: "/in", Header: fields}, inner)
		require.NoError(t, g.err)
		require.Equal(t, "/in", <-paths)
	}
	require.Empty(t, paths)
	// A body of another size than its head says is no request at all.
	for _, size := range []uint64{3, 3000} {
		g := ask(t, e, call.Request{Method: "POST", Path: "/in", Sized: true, Bytes: size}, inner)
		require.Error(t, g.err)
	}
	for range len(paths) {
		require.Equal(t, "/in", <-paths)
	}
	// Bytes that would end the head do not get into it.
	g := ask(t, e, call.Request{Method: "GET", Path: "/in", Header: []call.Field{{Name: "accept", Value: "a\r\nx: y"}}}, "")
	require.ErrorIs(t, g.err, mman.ErrInvalid)
	// Nor does an answer's end begin another answer.
	twice, _ := raw(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", false)
	e = serve(t, endpoint.Settings{Upstream: twice})
	require.Equal(t, "ok", ask(t, e, get("/"), "").body)
	require.NotEqual(t, "evil", ask(t, e, get("/"), "").body)
}

// TestSizes: heads and bodies are bounded in both directions.
func TestSizes(t *testing.T) {
	t.Parallel()
	at := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/header":
			w.Header().Set("Etag", strings.Repeat("x", 100<<10))
		case "/endless":
			for range 64 {
				_, _ = w.Write(make([]byte, 64<<10))
			}
		default:
			_, _ = fmt.Fprint(w, n)
		}
	})
	s := endpoint.Settings{Upstream: at, MaxBody: 1000}
	big := strings.Repeat("x", 5000)
	post := call.Request{Method: "POST", Path: "/"}
	require.Equal(t, "5000", ask(t, serve(t, s, "body"), post, big).body)
	require.ErrorIs(t, ask(t, serve(t, s), post, big).err, mman.ErrTooLarge)
	var in bytes.Buffer // a body that does not say how long it is
	require.NoError(t, call.WriteHead(&in, call.Request{Method: "POST", Path: "/", Header: []call.Field{}}))
	in.WriteString(big)
	require.ErrorIs(t, send(t, serve(t, s), &input{r: &in}, task()).err, mman.ErrTooLarge)
	require.ErrorIs(t, ask(t, serve(t, s), get("/header"), "").err, mman.ErrUnreachable)

	few := task()
	few.Limits.OutputBytes = 100 << 10
	in.Reset()
	require.NoError(t, call.WriteHead(&in, call.Request{Method: "GET", Path: "/endless", Header: []call.Field{}, Sized: true}))
	g := send(t, serve(t, s), &input{r: &in}, few)
	require.ErrorIs(t, g.err, mman.ErrOutput)
	require.LessOrEqual(t, g.result.Usage.OutBytes, few.Limits.OutputBytes)

	in.Reset()
	require.NoError(t, call.WriteHead(&in, call.Request{Method: "POST", Path: "/", Header: []call.Field{}}))
	in.WriteString(strings.Repeat("x", 900))
	few.Limits.InputBytes = 500
	require.ErrorIs(t, send(t, serve(t, s), &input{r: &in}, few).err, mman.ErrInputLimit)

	head := append([]byte{0xff, 0xff, 0xff, 0xff}, big...)
	require.ErrorIs(t, send(t, serve(t, s), &input{r: bytes.NewReader(head)}, task()).err, mman.ErrTooLarge)
}

// TestSilence: nobody is waited for without end.
func TestSilence(t *testing.T) {
	t.Parallel()
	s := endpoint.Settings{AnswerMs: 50, PauseMs: 50}
	s.Upstream, _ = raw(t, "", true)
	require.ErrorIs(t, ask(t, serve(t, s), get("/"), "").err, mman.ErrTimeout, "it never answers")

	s.Upstream, _ = raw(t, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", true)
	g := ask(t, serve(t, s), get("/"), "")
	require.NoError(t, g.err, "what came is paid")
	require.EqualValues(t, 1, g.result.ExitCode, "and known to be broken")
	require.Equal(t, "half", g.body)

	// Without the defence only the limit of the run ends them.
	short := task()
	short.Limits.WallMs = 300
	var in bytes.Buffer
	require.NoError(t, call.WriteHead(&in, call.Request{Method: "GET", Path: "/", Header: []call.Field{}, Sized: true}))
	begun := time.Now()
	require.ErrorIs(t, send(t, serve(t, s, "pauses"), &input{r: &in}, short).err, mman.ErrWall)
	require.GreaterOrEqual(t, time.Since(begun), 300*time.Millisecond)

	// A consumer that does not go on holds its place only as long as its limit.
	in.Reset()
	in.WriteString("\x00\x00")
	require.ErrorIs(t, send(t, serve(t, s), &input{r: &in, stall: true}, short).err, mman.ErrWall)

	s.Upstream, _ = raw(t, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut", false)
	g = ask(t, serve(t, s), get("/"), "")
	require.NoError(t, g.err)
	require.EqualValues(t, 1, g.result.ExitCode)

	s.Upstream = "http://127.0.0.1:1"
	g = ask(t, serve(t, s), get("/"), "")
	require.ErrorIs(t, g.err, mman.ErrUnreachable)
	require.NotContains(t, g.err.Error(), "127.0.0.1", "the upstream's address is the provider's")
}

// TestPlaces: as many calls at once as the provider says.
func TestPlaces(t *testing.T) {
	t.Parallel()
	inside, leave := make(chan struct{}), make(chan struct{})
	at := upstream(t, func(_ http.ResponseWriter, _ *http.Request) {
		inside <- struct{}{}
		<-leave
	})
	e := serve(t, endpoint.Settings{Upstream: at, Calls: 1})
	done := make(chan got, 1)
	go func() { done <- ask(t, e, get("/"), "") }() //nolint:testifylint // its end is waited for
	<-inside
	require.ErrorIs(t, ask(t, e, get("/"), "").err, mman.ErrBusy)
	close(leave)
	require.NoError(t, (<-done).err)
}

// TestUsageLies: a server's usage counts only where it is possible.
func TestUsageLies(t *testing.T) {
	t.Parallel()
	at := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"choices":[{"message":{"content":"abcd"}}],"usage":{"prompt_tokens":1,"completion_tokens":999999,"total_tokens":1000000}}`)
	})
	r := call.Request{Method: "POST", Path: "/v1/chat/completions"}
	s := endpoint.Settings{Upstream: at, API: call.OpenAI}
	body := `{"messages":[{"role":"user","content":"abcd"}]}`
	require.EqualValues(t, 1_000_000, ask(t, serve(t, s, "usage"), r, body).result.Usage.Tokens)
	require.EqualValues(t, 3, ask(t, serve(t, s), r, body).result.Usage.Tokens, "12 bytes of text")
}

// TestOneReading: what the upstream reads is what was judged and counted.
func TestOneReading(t *testing.T) {
	t.Parallel()
	bodies := make(chan string, 1)
	at := upstream(t, func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies <- string(b)
	})
	e := serve(t, endpoint.Settings{Upstream: at, API: call.OpenAI, MaxTokens: 100})
	r := call.Request{Method: "POST", Path: "/v1/completions"}
	for body, want := range map[string]string{
		`{"stream":false,"stream":true}`:                           `{"max_tokens":100,"stream":true,"stream_options":{"include_usage":true}}`,
		`{"max_tokens":5}`:                                         `{"max_tokens":5}`,
		`{"max_tokens":5000,"max_completion_tokens":7}`:            `{"max_completion_tokens":7,"max_tokens":100}`,
		`{"max_tokens":-1}`:                                        `{"max_tokens":100}`,
		`{"stream":true,"stream_options":{"include_usage":false}}`: `{"max_tokens":100,"stream":true,"stream_options":{"include_usage":true}}`,
		`{"stream":true,"stream_options":null,"max_tokens":1e2}`:   `{"max_tokens":100,"stream":true,"stream_options":{"include_usage":true}}`,
	} {
		require.NoError(t, ask(t, e, r, body).err, body)
		require.JSONEq(t, want, <-bodies, body)
	}
	for _, body := range []string{`[]`, `x`, `{"stream":"yes"}`, `{"stream":true,"stream_options":1}`} {
		require.ErrorIs(t, ask(t, e, r, body).err, mman.ErrInvalid, body)
	}
}

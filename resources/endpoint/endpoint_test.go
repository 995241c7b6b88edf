package endpoint_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/endpoint"
	"github.com/limboid/massive-man/resources/endpoint/call"
)

// secret is the provider's in these tests.
const secret = "sk-provider+key/0123456789=secret"

func id() mman.CID { return mman.SumCID(mman.CodecRaw, []byte("endpoint")) }

// input is what a consumer sends: a text, and then nothing more, or a pause.
type input struct {
	r     io.Reader
	stall bool
}

func (i *input) Read(ctx context.Context, p []byte) (int, error) {
	n, err := i.r.Read(p)
	if err == io.EOF && i.stall {
		<-ctx.Done()
		return 0, context.Cause(ctx)
	}
	return n, err
}

func (i *input) Ready() bool { return true }

// nothing opens no content.
type nothing struct{}

func (nothing) Open(context.Context, mman.CID) (resources.Blob, error) { return nil, mman.ErrNotFound }

func task() resources.Task {
	return resources.Task{Algorithm: id(), Limits: resources.DefaultLimits(), Content: nothing{}}
}

// got is what came of a call.
type got struct {
	head   call.Response
	body   string
	result resources.Result
	err    error
}

// said is all that the consumer could read.
func (g got) said() string {
	var b strings.Builder
	for _, f := range g.head.Header {
		b.WriteString(f.Name + ": " + f.Value + "\n")
	}
	return b.String() + g.body
}

// serve returns an executor with an endpoint; undefended names defences to switch off.
func serve(t *testing.T, s endpoint.Settings, undefended ...string) *endpoint.Executor {
	t.Helper()
	e, err := endpoint.New(endpoint.Config{Clock: time.Now})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	for _, name := range undefended {
		e.Undefend(name)
	}
	s.SecretFile = filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(s.SecretFile, []byte(secret+"\n"), 0o600))
	if s.API == "" {
		s.API = "http"
	}
	if len(s.Allow) == 0 && s.API == "http" {
		s.Allow = []string{"* /*"}
	}
	require.NoError(t, e.Serve(id(), s))
	return e
}

// ask makes a call.
func ask(t *testing.T, e *endpoint.Executor, r call.Request, body string) got {
	t.Helper()
	if r.Header == nil {
		r.Header = []call.Field{}
	}
	if !r.Sized {
		r.Sized, r.Bytes = true, uint64(len(body))
	}
	var in bytes.Buffer
	require.NoError(t, call.WriteHead(&in, r))
	in.WriteString(body)
	return send(t, e, &input{r: &in}, task())
}

func send(t *testing.T, e *endpoint.Executor, in resources.Input, task resources.Task) (g got) {
	t.Helper()
	prepared, err := e.Prepare(t.Context(), task)
	require.NoError(t, err)
	var out bytes.Buffer
	g.result, g.err = e.Run(t.Context(), prepared, resources.IO{Stdin: in, Stdout: &out, Stderr: io.Discard})
	require.NoError(t, prepared.Close())
	require.EqualValues(t, out.Len(), g.result.Usage.OutBytes, "every byte is counted")
	if out.Len() > 0 {
		g.head, err = call.ReadResponse(&out)
		require.NoError(t, err)
	}
	g.body = out.String()
	return g
}

func get(path string) call.Request { return call.Request{Method: "GET", Path: path} }

// upstream starts a server.
func upstream(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL
}

func TestCall(t *testing.T) {
	t.Parallel()
	at := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Authorization") != "Bearer "+secret {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("X-Internal", "stays")
		w.Header().Set("X-Passed", "goes")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("X-Mine")+r.Header.Get("X-Other")+" "+string(b))
	})
	e := serve(t, endpoint.Settings{Upstream: at + "/base", RequestHeaders: []string{"X-Mine"}, ResponseHeaders: []string{"X-Passed"}})
	g := ask(t, e, call.Request{Method: "PUT", Path: "/a b", Query: "c=%20d", Header: []call.Field{{Name: "x-mine", Value: "1"}, {Name: "x-other", Value: "2"}, {Name: "authorization", Value: "Bearer mine"}}}, "hello")
	require.NoError(t, g.err)
	require.EqualValues(t, http.StatusCreated, g.head.Status)
	require.Equal(t, "PUT /base/a%20b?c=%20d 1 hello", g.body)
	require.Equal(t, "goes", call.Get(g.head.Header, "x-passed"))
	require.Empty(t, call.Get(g.head.Header, "x-internal"))
	require.EqualValues(t, 1, g.result.Usage.CallCount)
	require.Zero(t, g.result.Usage.Tokens)

	require.ErrorIs(t, e.Serve(id(), endpoint.Settings{Upstream: "ftp://x"}), mman.ErrInvalid)
	_, err := e.Prepare(t.Context(), resources.Task{Algorithm: mman.SumCID(mman.CodecRaw, nil), Limits: resources.DefaultLimits(), Content: nothing{}})
	require.ErrorIs(t, err, mman.ErrNotFound)
}

func TestStreamIsNotHeldBack(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	at := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		for _, part := range []string{"one ", "two s"} { // s begins the secret
			_, _ = io.WriteString(w, part)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
			}
		}
	})
	e := serve(t, endpoint.Settings{Upstream: at})
	var in bytes.Buffer
	require.NoError(t, call.WriteHead(&in, call.Request{Method: "GET", Path: "/", Header: []call.Field{}, Sized: true}))
	from, to := io.Pipe()
	prepared, err := e.Prepare(t.Context(), task())
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := e.Run(t.Context(), prepared, resources.IO{Stdin: &input{r: &in}, Stdout: to, Stderr: io.Discard})
		_ = to.Close()
		done <- err
	}()
	_, err = call.ReadResponse(from)
	require.NoError(t, err)
	for _, want := range []string{"one ", "two s"} {
		b := make([]byte, len(want))
		_, err = io.ReadFull(from, b)
		require.NoError(t, err)
		require.Equal(t, want, string(b), "it is here before the next part is sent")
		next <- struct{}{}
	}
	require.NoError(t, <-done)
}

func TestWebsocket(t *testing.T) {
	t.Parallel()
	at := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Sec-Websocket-Extensions") != "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		conn, both, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")
		_, _ = io.Copy(conn, both)
		_ = conn.Close()
	})
	e := serve(t, endpoint.Settings{Upstream: at, Websockets: true})
	r := call.Request{Method: "GET", Path: "/", Upgrade: true, Header: []call.Field{{Name: "sec-websocket-key", Value: "k"}, {Name: "sec-websocket-extensions", Value: "permessage-deflate"}}, Sized: true}
	var in bytes.Buffer
	require.NoError(t, call.WriteHead(&in, r))
	in.WriteString("to and fro, yes") // ends as the secret begins
	g := send(t, e, &input{r: &in}, task())
	require.NoError(t, g.err)
	require.EqualValues(t, http.StatusSwitchingProtocols, g.head.Status)
	require.Equal(t, "x", call.Get(g.head.Header, "sec-websocket-accept"))
	closed := serve(t, endpoint.Settings{Upstream: at})
	require.ErrorIs(t, ask(t, closed, r, "").err, mman.ErrDenied)
}

func TestProbe(t *testing.T) {
	t.Parallel()
	models := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"small"},{"id":"bad\nname"},{"id":"large"}]}`)
	})
	site := upstream(t, http.NotFound)
	e, err := endpoint.New(endpoint.Config{Clock: time.Now})
	require.NoError(t, err)
	s, names, err := e.Probe(t.Context(), endpoint.Settings{Upstream: models})
	require.NoError(t, err)
	require.Equal(t, call.OpenAI, s.API)
	require.Equal(t, []string{"small", "large"}, names)
	s, _, err = e.Probe(t.Context(), endpoint.Settings{Upstream: site, Allow: []string{"GET /*"}})
	require.NoError(t, err)
	require.Equal(t, "http", s.API)
	_, _, err = e.Probe(t.Context(), endpoint.Settings{Upstream: site, API: call.OpenAI})
	require.ErrorIs(t, err, mman.ErrUnreachable)
	_, _, err = e.Probe(t.Context(), endpoint.Settings{Upstream: site})
	require.ErrorIs(t, err, mman.ErrInvalid, "a plain site says what may be called")
}

func TestSettings(t *testing.T) {
	t.Parallel()
	ok := endpoint.Settings{Upstream: "http://127.0.0.1:1", API: "http", Allow: []string{"GET /*"}}
	require.NoError(t, ok.Filled().Validate())
	for name, change := range map[string]func(*endpoint.Settings){
		"no upstream":           func(s *endpoint.Settings) { s.Upstream = "" },
		"a user":                func(s *endpoint.Settings) { s.Upstream = "http://u:p@h" },
		"a query":               func(s *endpoint.Settings) { s.Upstream = "http://h/?a" },
		"another API":           func(s *endpoint.Settings) { s.API = "soap" },
		"nothing allowed":       func(s *endpoint.Settings) { s.Allow = nil },
		"a route without slash": func(s *endpoint.Settings) { s.Allow = []string{"GET x"} },
		"a route with dots":     func(s *endpoint.Settings) { s.Allow = []string{"GET /a/../b"} },
		"a star within":         func(s *endpoint.Settings) { s.Allow = []string{"GET /a*"} },
		"hop by hop":            func(s *endpoint.Settings) { s.RequestHeaders = []string{"Transfer-Encoding"} },
		"the secret's header":   func(s *endpoint.Settings) { s.SecretFile, s.RequestHeaders = "k", []string{"authorization"} },
		"a header without file": func(s *endpoint.Settings) { s.SecretHeader = "x" },
		"too many calls":        func(s *endpoint.Settings) { s.Calls = 1 << 20 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := ok
			change(&s)
			require.ErrorIs(t, s.Filled().Validate(), mman.ErrInvalid)
		})
	}
}

// raw starts a server that answers every connection with a text, whatever is asked, and
// tells what it was asked.
func raw(t *testing.T, answer string, hold bool) (at string, asked chan string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	asked = make(chan string, 16)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				b := make([]byte, 64<<10)
				n, _ := conn.Read(b)
				asked <- string(b[:n])
				_, _ = io.WriteString(conn, answer)
				if hold {
					_, _ = conn.Read(b) // until the other side gives up
				}
				_ = conn.Close()
			}()
		}
	}()
	return "http://" + ln.Addr().String(), asked
}

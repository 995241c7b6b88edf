package container_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/container"
	"github.com/limboid/massive-man/resources/container/hosting"
	"github.com/limboid/massive-man/resources/container/mux"
	"github.com/limboid/massive-man/resources/resourcestest"
)

// line is a run's input, which a consumer writes.
type line struct {
	pieces chan []byte
	rest   []byte
	once   sync.Once
}

func (l *line) Write(p []byte) (int, error) {
	l.pieces <- append([]byte(nil), p...)
	return len(p), nil
}

func (l *line) hangUp() { l.once.Do(func() { close(l.pieces) }) }

func (l *line) Ready() bool { return len(l.rest)+len(l.pieces) > 0 }

func (l *line) Read(ctx context.Context, p []byte) (int, error) {
	if len(l.rest) == 0 {
		select {
		case got, ok := <-l.pieces:
			if !ok {
				return 0, io.EOF
			}
			l.rest = got
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// boat is the consumer's side of a hosted run.
type boat struct {
	io.Reader

	up  *line
	out *io.PipeReader
}

func (b boat) Write(p []byte) (int, error) { return b.up.Write(p) }

func (b boat) Close() error { return b.out.Close() }

// notices is a resources.Notices.
type notices chan resources.Notice

func (n notices) Next(ctx context.Context) (resources.Notice, error) {
	select {
	case one := <-n:
		return one, nil
	case <-ctx.Done():
		return resources.Notice{}, ctx.Err()
	}
}

// guest is a hosted run under test.
type guest struct {
	t       *testing.T
	streams *mux.Session
	in      *line
	stop    context.CancelCauseFunc
	notices notices
	events  chan hosting.Event
	done    chan outcome
}

// host begins to host what a line of the shell does.
func host(t *testing.T, e *container.Executor, program string, service resources.Service, change ...func(*resources.Task, *resources.IO)) *guest {
	t.Helper()
	work := task(&resourcestest.Content{}, does(t, program))
	work.Limits.OutputBytes, work.Limits.InputBytes, work.Limits.WallMs = 1<<30, 1<<30, 300_000
	work.Service = &service
	g := &guest{t: t, in: &line{pieces: make(chan []byte)}, notices: make(notices, 1), events: make(chan hosting.Event, 256), done: make(chan outcome, 1)}
	from, to := io.Pipe()
	streams := resources.IO{Stdin: g.in, Stdout: to, Notices: g.notices}
	for _, c := range change {
		c(&work, &streams)
	}
	prepared, err := e.Prepare(t.Context(), work)
	require.NoError(t, err)
	ctx, stop := context.WithCancelCause(t.Context())
	g.stop = stop
	go func() {
		result, err := e.Run(ctx, prepared, streams)
		_ = to.Close()
		g.done <- outcome{result: result, err: errors.Join(err, prepared.Close())}
		for range g.in.pieces {
			continue // whoever still writes may go
		}
	}()
	g.streams, err = mux.Client(boat{from, g.in, from})
	require.NoError(t, err)
	t.Cleanup(func() {
		stop(mman.ErrCanceled)
		_ = g.streams.Close()
		g.in.hangUp()
	})
	stream, err := g.streams.Open(t.Context(), mux.KindEvents)
	if err != nil {
		close(g.events) // it ended at once
		return g
	}
	go func() {
		defer close(g.events)
		_ = hosting.ReadEvents(stream, func(e hosting.Event) { g.events <- e })
	}()
	return g
}

// until waits for an event.
func (g *guest) until(state hosting.State) hosting.Event {
	g.t.Helper()
	late := time.After(patience)
	var seen []hosting.Event
	for {
		select {
		case e, ok := <-g.events:
			require.True(g.t, ok, "%s never came, but %v", state, seen)
			if seen = append(seen, e); e.State == state {
				return e
			}
		case <-late:
			require.Fail(g.t, "late", "%s never came, but %v", state, seen)
		}
	}
}

// ended waits for the end of the run.
func (g *guest) ended() outcome {
	g.t.Helper()
	select {
	case o := <-g.done:
		return o
	case <-time.After(patience):
		require.Fail(g.t, "the run does not end")
		return outcome{}
	}
}

// get asks the hosted web service.
func (g *guest) get(path string) (string, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return g.streams.Open(ctx, mux.KindConn)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, "http://localhost"+path, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%d %s", resp.StatusCode, b), errors.Join(err, resp.Body.Close())
}

// log reads what the program printed until it holds a word.
func (g *guest) log(word string) string {
	g.t.Helper()
	stream, err := g.streams.Open(g.t.Context(), mux.KindLog)
	require.NoError(g.t, err)
	require.NoError(g.t, stream.SetReadDeadline(time.Now().Add(patience)))
	var text strings.Builder
	b := make([]byte, 1<<10)
	for !strings.Contains(text.String(), word) {
		n, err := stream.Read(b)
		text.Write(b[:n])
		require.NoError(g.t, err, "%q does not hold %q", text.String(), word)
	}
	require.NoError(g.t, stream.Close())
	return text.String()
}

// web serves a page.
const web = "mkdir /tmp/www; echo hello > /tmp/www/index.html; echo ready; exec busybox httpd -f -p 8080 -h /tmp/www"

func TestHosted(t *testing.T) {
	t.Parallel()
	for name, gvisor := range map[string]bool{"the engine's own": false, "gVisor": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := config(t)
			c.Plain = !gvisor
			e := open(t, c, container.Undefended{})
			if gvisor {
				require.Equal(t, resources.SandboxGVisor, e.Sandbox(), "apt-get install runsc, and name it to the engine")
			}
			g := host(t, e, web, resources.Service{Port: 8080, Health: "/index.html", HealthMs: 200})
			g.until(hosting.Healthy)
			page, err := g.get("/index.html")
			require.NoError(t, err)
			require.Equal(t, "200 hello\n", page)
			var many sync.WaitGroup
			for range 8 {
				many.Go(func() {
					page, err := g.get("/nothing")
					if err != nil || !strings.HasPrefix(page, "404") {
						t.Errorf("%q %v", page, err)
					}
				})
			}
			many.Wait()
			require.Contains(t, g.log("ready"), "ready")
			require.NoError(t, g.streams.Close())
			g.in.hangUp()
			end := g.ended()
			require.NoError(t, end.err)
			require.Positive(t, end.result.Usage.WallMs)
			require.Positive(t, end.result.Usage.InBytes)
			require.Positive(t, end.result.Usage.OutBytes)
			left, err := container.Containers(t.Context(), c.Host, c.Owner)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

func TestHostedRestarts(t *testing.T) {
	t.Parallel()
	e := open(t, config(t), container.Undefended{})
	const once = "if ! [ -e /tmp/been ]; then : > /tmp/been; echo first; exit 3; fi; "
	t.Run("on failure", func(t *testing.T) {
		t.Parallel()
		g := host(t, e, once+web, resources.Service{Port: 8080, HealthMs: 200, Restart: resources.RestartOnFailure})
		require.Equal(t, uint32(3), g.until(hosting.Exited).ExitCode)
		g.until(hosting.Restart)
		require.Equal(t, uint64(1), g.until(hosting.Healthy).Restarts)
		page, err := g.get("/index.html")
		require.NoError(t, err)
		require.Equal(t, "200 hello\n", page)
	})
	t.Run("never", func(t *testing.T) {
		t.Parallel()
		g := host(t, e, once+web, resources.Service{Port: 8080})
		require.Equal(t, uint32(3), g.until(hosting.Stopped).ExitCode)
		end := g.ended()
		require.NoError(t, end.err)
		require.Equal(t, uint32(3), end.result.ExitCode)
	})
	t.Run("when it does not answer", func(t *testing.T) {
		t.Parallel()
		const fragile = "mkdir -p /tmp/www; echo hello > /tmp/www/index.html; busybox httpd -f -vv -p 8080 -h /tmp/www 2>&1 | while read -r l; do case $l in *break*) busybox rm -f /tmp/www/index.html;; esac; done"
		g := host(t, e, fragile, resources.Service{Port: 8080, Health: "/index.html", HealthMs: 100, Restart: resources.RestartAlways})
		g.until(hosting.Healthy)
		_, err := g.get("/break")
		require.NoError(t, err)
		require.Contains(t, g.until(hosting.Unhealthy).Reason, "404")
		g.until(hosting.Restart)
		g.until(hosting.Healthy)
	})
	t.Run("when it kills what leads to it", func(t *testing.T) {
		t.Parallel()
		// The way may be there a moment after the program.
		g := host(t, e, "echo born; while :; do kill -9 -1; sleep 1; done", resources.Service{Port: 8080, Restart: resources.RestartAlways})
		g.until(hosting.Restart)
		require.Equal(t, uint64(1), g.until(hosting.Running).Restarts)
	})
}

// purse is a Credit that a test opens and closes.
type purse struct {
	mu    sync.Mutex
	empty bool
	more  chan struct{}
	asked chan struct{} // closed when somebody waits
}

func (p *purse) Covers(resources.Usage) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.empty
}

func (p *purse) Await(ctx context.Context, _ resources.Usage) error {
	p.mu.Lock()
	more := p.more
	close(p.asked)
	p.mu.Unlock()
	select {
	case <-more:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *purse) Fuel() uint64 { return 0 }

func (p *purse) MoreFuel(context.Context, uint64) (uint64, error) { return 0, nil }

func (p *purse) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.empty, p.more, p.asked = true, make(chan struct{}), make(chan struct{})
}

func (p *purse) fill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.empty = false
	close(p.more)
}

// waiting returns what is closed when the program rests for want of money.
func (p *purse) waiting() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// TestHostedUnpaid: a program rests while nobody pays for it, and is not taken for
// sick; when nobody ever does it is ended, and paid as far as it came.
func TestHostedUnpaid(t *testing.T) {
	t.Parallel()
	e := open(t, config(t), container.Undefended{})
	money := &purse{}
	g := host(t, e, web, resources.Service{Port: 8080, Health: "/index.html", HealthMs: 100, Restart: resources.RestartAlways},
		func(_ *resources.Task, s *resources.IO) { s.Credit = money })
	g.until(hosting.Healthy)
	money.drain()
	<-money.waiting()
	answered := make(chan string, 1)
	go func() {
		page, err := g.get("/index.html")
		answered <- fmt.Sprint(page, err)
	}()
	select {
	case page := <-answered:
		require.NotContains(t, page, "hello", "it answers while it rests")
	case <-time.After(time.Second): // a look at what must not come
	}
	money.fill()
	for page := ""; page != "200 hello\n"; {
		page, _ = g.get("/index.html") // a health check's worth of patience may be over
	}
	money.drain()
	<-money.waiting()
	g.stop(mman.ErrUnpaid)
	end := g.ended()
	require.ErrorIs(t, end.err, mman.ErrUnpaid)
	require.Positive(t, end.result.Usage.WallMs)
}

// TestHostedNotice: what ends a run says so before, and asks the program to end.
func TestHostedNotice(t *testing.T) {
	t.Parallel()
	c := config(t)
	e := open(t, c, container.Undefended{})
	g := host(t, e, "trap 'echo goodbye; exit 7' TERM; echo ready; while :; do sleep 0.1; done", resources.Service{Port: 8080})
	require.Contains(t, g.log("ready"), "ready")
	log, err := g.streams.Open(t.Context(), mux.KindLog)
	require.NoError(t, err)
	g.notices <- resources.Notice{Reason: "this node goes home", In: 100 * time.Millisecond}
	said := g.until(hosting.Notified)
	require.Equal(t, "this node goes home", said.Reason)
	require.Equal(t, uint64(100), said.InMs)
	text, err := io.ReadAll(log)
	require.NoError(t, err)
	require.Contains(t, string(text), "goodbye")
	end := g.ended()
	require.ErrorIs(t, end.err, mman.ErrStopped)
	require.ErrorContains(t, end.err, "this node goes home")
	require.Equal(t, uint32(7), end.result.ExitCode)
}

// TestHostedLimits: what is set aside for hosted programs has a bound, and so has
// each one's time, of which it is told before.
func TestHostedLimits(t *testing.T) {
	t.Parallel()
	c := config(t)
	c.MaxHosted, c.HostedBytes = 2, 128<<20
	e := open(t, c, container.Undefended{})
	host(t, e, "sleep 1000", resources.Service{Port: 8080}).until(hosting.Running)
	large := host(t, e, "sleep 1000", resources.Service{Port: 8080}, func(w *resources.Task, _ *resources.IO) { w.Limits.MemoryBytes = 65 << 20 })
	require.ErrorIs(t, large.ended().err, mman.ErrBusy)
	second := host(t, e, "sleep 1000", resources.Service{Port: 8080})
	second.until(hosting.Running)
	require.ErrorIs(t, host(t, e, "sleep 1000", resources.Service{Port: 8080}).ended().err, mman.ErrBusy)
	c = config(t)
	short := host(t, open(t, c, container.Undefended{}), "sleep 1000", resources.Service{Port: 8080}, func(w *resources.Task, _ *resources.IO) { w.Limits.WallMs = 3000 })
	require.Contains(t, short.until(hosting.Notified).Reason, "time")
	require.ErrorIs(t, short.ended().err, mman.ErrWall)
}

// door is a listener as a resources.Door.
type door struct{ net.Listener }

func (d door) Next() (resources.Visitor, error) {
	conn, err := d.Accept()
	if err != nil {
		return nil, err
	}
	return conn.(resources.Visitor), nil //nolint:errcheck // a TCP connection is one
}

func (d door) Addr() string { return d.Listener.Addr().String() }

// TestHostedFromTheNetwork: others get in where the provider opens a door, and only
// there.
func TestHostedFromTheNetwork(t *testing.T) {
	t.Parallel()
	e := open(t, config(t), container.Undefended{})
	service := resources.Service{Port: 8080, Health: "/index.html", HealthMs: 100, Network: true}
	require.ErrorIs(t, host(t, e, web, service).ended().err, mman.ErrPolicy)
	g := host(t, e, web, service, func(_ *resources.Task, s *resources.IO) {
		s.Door = func(ctx context.Context) (resources.Door, error) {
			ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
			return door{ln}, err
		}
	})
	at := g.until(hosting.Published).Addr
	g.until(hosting.Healthy)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+at+"/index.html", http.NoBody)
	require.NoError(t, err)
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, errors.Join(err, resp.Body.Close()))
	require.Equal(t, "hello\n", string(b))
	require.NoError(t, g.streams.Close())
	g.in.hangUp()
	require.NoError(t, g.ended().err)
	_, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", at)
	require.Error(t, err, "the door closes with the run")
}

// wire stands between an executor and its engine, so that a test can cut it.
type wire struct {
	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

var wires atomic.Int64

// between returns the address of a wire to the engine.
func between(t *testing.T, engine string) (*wire, string) {
	t.Helper()
	path := filepath.Join(os.TempDir(), fmt.Sprintf("wire-%d-%d", os.Getpid(), wires.Add(1))) // a socket's path must be short
	t.Cleanup(func() { _ = os.Remove(path) })
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	w := &wire{conns: map[net.Conn]bool{}}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go w.carry(conn, strings.TrimPrefix(engine, "unix://"))
		}
	}()
	return w, "unix://" + path
}

func (w *wire) carry(conn net.Conn, engine string) {
	up, err := (&net.Dialer{}).DialContext(context.Background(), "unix", engine)
	if err != nil || !w.add(conn, up) {
		_ = conn.Close()
		return
	}
	from, isUnix := conn.(*net.UnixConn)
	to, isAlso := up.(*net.UnixConn)
	if isUnix && isAlso {
		mux.Join(from, to)
	}
}

func (w *wire) add(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		w.conns[c] = true
		if w.cut {
			_ = c.Close()
		}
	}
	return !w.cut
}

// set cuts the wire, or mends it.
func (w *wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	for c := range w.conns {
		if cut {
			_ = c.Close()
		}
	}
}

// TestHostedEngineGone: when the engine is gone the run ends with what it used so far
// and says why; what it left is removed when the engine is back.
func TestHostedEngineGone(t *testing.T) {
	t.Parallel()
	c := config(t)
	engine := c.Host
	w, at := between(t, engine)
	c.Host = at
	e := open(t, c, container.Undefended{})
	g := host(t, e, web, resources.Service{Port: 8080, Health: "/index.html", HealthMs: 100, Restart: resources.RestartAlways})
	g.until(hosting.Healthy)
	_, err := g.get("/index.html")
	require.NoError(t, err)
	w.set(true)
	end := g.ended()
	require.ErrorIs(t, end.err, mman.ErrStopped)
	require.Positive(t, end.result.Usage.WallMs)
	require.Positive(t, end.result.Usage.OutBytes)
	left, err := container.Containers(t.Context(), engine, c.Owner)
	require.NoError(t, err)
	require.Len(t, left, 1, "nobody could end it")
	_, err = e.Sweep(t.Context())
	require.Error(t, err)

	w.set(false)
	other := host(t, e, web, resources.Service{Port: 8080, HealthMs: 100})
	other.until(hosting.Healthy)
	swept, err := e.Sweep(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, swept, "what lives is no orphan")
	page, err := other.get("/index.html")
	require.NoError(t, err)
	require.Equal(t, "200 hello\n", page)
}

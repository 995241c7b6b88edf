package session_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/p2ptest"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/p2p/protocol/wire"
)

func public(k ed25519.PrivateKey) []byte { return k[ed25519.SeedSize:] }

func sign(k ed25519.PrivateKey, purpose mman.SignContext, chain string, payload []byte) []byte {
	digest := mman.SignDigest(purpose, chain, payload)
	return ed25519.Sign(k, digest[:])
}

// The kinds of frames as they are on the wire.
const (
	kindHello wire.Kind = iota + 1
	kindAccept
	kindRun
	kindNeed
	kindBlob
	kindChunk
	kindStdout
	kindStderr
	kindStatement
	kindReceipt
	kindFailed
	kindCancel
	kindClose
	kindClosed
)

type blob struct {
	Content mman.CID `cbor:"content"`
	Bytes   uint64   `cbor:"bytes"`
}

type contents struct {
	Contents []mman.CID `cbor:"contents"`
}

type failed struct {
	Run   uint64     `cbor:"run"`
	Code  mman.Code  `cbor:"code"`
	Retry mman.Retry `cbor:"retry"`
	Text  string     `cbor:"text"`
}

type canceled struct {
	Run uint64 `cbor:"run"`
}

type closing struct {
	Settle bool `cbor:"settle"`
}

func need(c *wire.Conn) error {
	f, err := c.Read()
	if err == nil && f.Kind != kindNeed {
		err = fmt.Errorf("frame of kind %d came instead of a need", f.Kind)
	}
	return err
}

func helloOf(s *scene) session.Hello {
	o := s.opening()
	return signHello(session.Hello{Lease: o.Lease, Consumer: s.consumer.ID(), Provider: o.Provider, Nonce: o.Nonce, Lane: o.Lane})
}

func signHello(h session.Hello) session.Hello { return signHelloBy(h, leaseHost) }

func signHelloBy(h session.Hello, key int) session.Hello {
	h.Signature = nil
	b, err := dagcbor.Marshal(h)
	if err != nil {
		panic(err)
	}
	h.Signature = signer{key}.Sign(mman.SignHandshake, chainID, b)
	return h
}

// raw is an accepted session, spoken frame by frame.
func (s *scene) raw(t *testing.T) *wire.Conn {
	t.Helper()
	stream, err := s.consumer.Open(t.Context(), s.provider.ID(), session.Protocol)
	require.NoError(t, err)
	c := wire.New(stream, wire.Config{MaxRead: wire.MaxFrame, FrameTimeout: time.Minute})
	require.NoError(t, c.Send(kindHello, helloOf(s)))
	_, err = wire.Receive[session.Accept](c, kindAccept)
	require.NoError(t, err)
	return c
}

// TestHostileConsumers: what breaks the order ends the session with a reason,
// and everything is freed.
func TestHostileConsumers(t *testing.T) {
	t.Parallel()
	a, b := mman.SumCID(mman.CodecRaw, []byte("a")), mman.SumCID(mman.CodecRaw, []byte("b"))
	for name, act := range map[string]func(*wire.Conn) error{
		"garbage run":            func(c *wire.Conn) error { return c.Write(kindRun, []byte{0xff}) },
		"unknown kind":           func(c *wire.Conn) error { return c.Write(99, nil) },
		"second hello":           func(c *wire.Conn) error { return c.Write(kindHello, nil) },
		"statement of the other": func(c *wire.Conn) error { return c.Write(kindStatement, nil) },
		"garbage receipt":        func(c *wire.Conn) error { return c.Send(kindReceipt, market.Signed{Bytes: []byte("x")}) },
		"garbage cancel":         func(c *wire.Conn) error { return c.Write(kindCancel, []byte{1}) },
		"garbage close":          func(c *wire.Conn) error { return c.Write(kindClose, []byte{1}) },
		"chunk out of nowhere":   func(c *wire.Conn) error { return c.Write(kindChunk, []byte("x")) },
		"blob before a run":      func(c *wire.Conn) error { return c.Send(kindBlob, blob{a, 1}) },
		"blob that nobody wants": func(c *wire.Conn) error { return two(c, kindRun, aRun(1), kindBlob, blob{b, 1}) },
		"blobs in a wrong order": func(c *wire.Conn) error { return wanting(c, kindBlob, blob{b, 1}) },
		"blob without an end":    func(c *wire.Conn) error { return wanting(c, kindBlob, blob{a, 1 << 60}) },
		"empty chunk":            func(c *wire.Conn) error { return supplying(c, a, nil) },
		"chunk overflow":         func(c *wire.Conn) error { return supplying(c, a, []byte("abc")) },
		"blob within a blob": func(c *wire.Conn) error {
			return first([]error{wanting(c, kindBlob, blob{a, 2}), c.Send(kindBlob, blob{b, 1})})
		},
		"run while a run is busy": func(c *wire.Conn) error { return two(c, kindRun, aRun(1), kindRun, aRun(2)) },
		"close while running":     func(c *wire.Conn) error { return two(c, kindRun, aRun(1), kindClose, closing{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk()
			d.missing = func(session.Run) ([]mman.CID, error) { return []mman.CID{a, b}, nil }
			s := setUp(t, d, time.Minute)
			c := s.raw(t)
			require.NoError(t, act(c))
			var err error
			for err == nil {
				_, err = c.Read()
			}
			require.Contains(t, []mman.Code{mman.ErrProtocol.Code, mman.ErrInvalid.Code}, mman.CodeOf(err), err)
			require.Error(t, <-s.served)
			<-d.closed
		})
	}
}

func two(c *wire.Conn, k1 wire.Kind, v1 any, k2 wire.Kind, v2 any) error {
	return first([]error{c.Send(k1, v1), c.Send(k2, v2)})
}

// first returns the first error of steps that were taken one after the other.
func first(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func wanting(c *wire.Conn, kind wire.Kind, v any) error {
	if err := first([]error{c.Send(kindRun, aRun(1)), need(c)}); err != nil {
		return err
	}
	return c.Send(kind, v)
}

func supplying(c *wire.Conn, id mman.CID, chunk []byte) error {
	if err := wanting(c, kindBlob, blob{id, 1}); err != nil {
		return err
	}
	return c.Write(kindChunk, chunk)
}

// TestBytesThatAreNoFrames: the stream is reset.
func TestBytesThatAreNoFrames(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string][]byte{
		"empty frame":    {0},
		"oversize":       {0xff, 0xff, 0x7f, 1},
		"long length":    {0xff, 0xff, 0xff, 0xff, 1},
		"garbage hello":  append([]byte{6, 1}, "abcde"...),
		"no hello":       {1, byte(kindClose)},
		"cut off":        {100, 1, 2},
		"error at start": {1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setUp(t, newDesk(), time.Minute)
			stream, err := s.consumer.Open(t.Context(), s.provider.ID(), session.Protocol)
			require.NoError(t, err)
			_, err = stream.Write(raw)
			require.NoError(t, err)
			require.NoError(t, stream.CloseWrite())
			_, err = io.ReadAll(stream)
			require.ErrorIs(t, err, mman.ErrPeerVanished)
			require.Error(t, <-s.served)
		})
	}
}

// TestConsumerVanishes at every step of a session: the provider frees the
// session and cancels the run.
func TestConsumerVanishes(t *testing.T) {
	t.Parallel()
	id := mman.SumCID(mman.CodecRaw, []byte("ab"))
	for name, act := range map[string]func(*wire.Conn) error{
		"after the hello": func(*wire.Conn) error { return nil },
		"before contents": func(c *wire.Conn) error { return first([]error{c.Send(kindRun, aRun(1)), need(c)}) },
		"within a content": func(c *wire.Conn) error {
			return first([]error{wanting(c, kindBlob, blob{id, 2}), c.Write(kindChunk, []byte("a"))})
		},
		"during the run": func(c *wire.Conn) error {
			return first([]error{wanting(c, kindBlob, blob{id, 1}), c.Write(kindChunk, []byte("a")), output(c)})
		},
		"before a receipt": func(c *wire.Conn) error {
			return first([]error{wanting(c, kindBlob, blob{id, 1}), c.Write(kindChunk, []byte("a")), output(c), output(c)})
		},
		"in a cancelled run": func(c *wire.Conn) error {
			return first([]error{wanting(c, kindBlob, blob{id, 1}), c.Send(kindCancel, canceled{})})
		},
	} {
		for end, leave := range map[string]func(*wire.Conn) error{"reset": (*wire.Conn).Reset, "closed": (*wire.Conn).Close, "half closed": (*wire.Conn).CloseWrite} {
			t.Run(name+"/"+end, func(t *testing.T) {
				t.Parallel()
				d := newDesk()
				d.missing = func(session.Run) ([]mman.CID, error) { return []mman.CID{id}, nil }
				d.run = func(ctx context.Context, run session.Run, out session.Output) (*market.RunResult, error) {
					st, err := d.statement(run, nil)
					if err != nil {
						return nil, err
					}
					_ = first([]error{out.Stdout([]byte("x")), out.Statement(st)}) // the peer may be gone
					<-ctx.Done()
					return nil, ctx.Err()
				}
				s := setUp(t, d, time.Minute)
				c := s.raw(t)
				require.NoError(t, act(c))
				require.NoError(t, leave(c))
				<-d.closed
				if err := <-s.served; err != nil { // a half closed stream is a clean end
					require.NotEqual(t, mman.ErrInternal.Code, mman.CodeOf(err), err)
				}
			})
		}
	}
}

func output(c *wire.Conn) error {
	_, err := c.Read()
	return err
}

// TestProviderVanishesOrLies plays the provider frame by frame.
func TestProviderVanishesOrLies(t *testing.T) {
	t.Parallel()
	id := mman.SumCID(mman.CodecRaw, []byte("a"))
	statement := func(run session.Run, change func(*market.Statement)) market.Signed {
		work, err := run.Work(mman.LeaseID{5})
		if err != nil {
			panic(err)
		}
		st := market.Statement{Version: 1, Lease: mman.LeaseID{5}, Lane: 2, Seq: 1, Work: work, Result: &market.RunResult{Run: run.Number}}
		change(&st)
		s, _, err := market.SignStatement(chainID, st, signer{1})
		if err != nil {
			panic(err)
		}
		return s
	}
	send := func(kind wire.Kind, v any) func(*wire.Conn) error {
		return func(c *wire.Conn) error { return c.Send(kind, v) }
	}
	for name, tc := range map[string]struct {
		want error
		act  func(*wire.Conn) error
	}{
		"resets":             {mman.ErrPeerVanished, (*wire.Conn).Reset},
		"ends":               {mman.ErrPeerVanished, (*wire.Conn).Close},
		"an error frame":     {mman.ErrBusy, func(c *wire.Conn) error { return c.Fail(mman.ErrBusy) }},
		"unknown kind":       {mman.ErrProtocol, func(c *wire.Conn) error { return c.Write(99, nil) }},
		"a second accept":    {mman.ErrProtocol, func(c *wire.Conn) error { return c.Write(kindAccept, nil) }},
		"garbage need":       {mman.ErrProtocol, func(c *wire.Conn) error { return c.Write(kindNeed, []byte{1}) }},
		"garbage failure":    {mman.ErrProtocol, func(c *wire.Conn) error { return c.Write(kindFailed, []byte{1}) }},
		"garbage statement":  {mman.ErrProtocol, func(c *wire.Conn) error { return c.Write(kindStatement, []byte{1}) }},
		"oversize":           {mman.ErrTooLarge, func(c *wire.Conn) error { return c.Write(kindStdout, make([]byte, 1<<20)) }},
		"asks twice for one": {mman.ErrProtocol, send(kindNeed, contents{[]mman.CID{id, id}})},
		"asks again": {mman.ErrProtocol, func(c *wire.Conn) error {
			return two(c, kindNeed, contents{[]mman.CID{id}}, kindNeed, contents{[]mman.CID{id}})
		}},
		"asks for others":     {mman.ErrNotFound, send(kindNeed, contents{[]mman.CID{mman.SumCID(mman.CodecRaw, nil)}})},
		"fails another run":   {mman.ErrProtocol, send(kindFailed, failed{Run: 8, Code: mman.ErrBusy.Code})},
		"fails without why":   {mman.ErrProtocol, send(kindFailed, failed{Run: 1})},
		"fails with a novel":  {mman.ErrProtocol, send(kindFailed, failed{Run: 1, Code: mman.ErrBusy.Code, Text: strings.Repeat("x", 100_000)})},
		"broken statement":    {mman.ErrInvalid, send(kindStatement, market.Signed{Bytes: []byte("x")})},
		"not signed":          {mman.ErrBadSignature, send(kindStatement, market.Signed{Bytes: statement(aRun(1), func(*market.Statement) {}).Bytes})},
		"other lease":         {mman.ErrProtocol, send(kindStatement, statement(aRun(1), func(s *market.Statement) { s.Lease[0]++ }))},
		"other lane":          {mman.ErrProtocol, send(kindStatement, statement(aRun(1), func(s *market.Statement) { s.Lane++ }))},
		"other work":          {mman.ErrProtocol, send(kindStatement, statement(aRun(1), func(s *market.Statement) { s.Work[0]++ }))},
		"result of other run": {mman.ErrProtocol, send(kindStatement, statement(aRun(1), func(s *market.Statement) { s.Result.Run++ }))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hosts := p2ptest.New(t, 2)
			p2ptest.Connect(t, hosts[0], hosts[1])
			s := &scene{consumer: hosts[0], provider: hosts[1]}
			hosts[1].Handle(t.Context(), session.Protocol, func(_ context.Context, stream p2p.Stream) {
				c := wire.New(stream, wire.Config{MaxRead: wire.MaxFrame, FrameTimeout: time.Minute})
				h, err := wire.Receive[session.Hello](c, kindHello)
				if err != nil {
					return
				}
				a, _ := session.Accept{Lease: h.Lease, Lane: h.Lane, Nonce: h.Nonce}.Sign(chainID, signer{1})
				if c.Send(kindAccept, a) != nil {
					return
				}
				if _, err := c.Read(); err != nil {
					return
				}
				_ = tc.act(c)
				for err == nil {
					_, err = c.Read()
				}
			})
			c := s.dial(t)
			_, err := c.Run(t.Context(), aRun(1), func(got mman.CID) (io.ReadCloser, uint64, error) {
				if got != id {
					return nil, 0, fmt.Errorf("%w: it is no part of this run", mman.ErrNotFound)
				}
				return io.NopCloser(bytes.NewReader([]byte("a"))), 1, nil
			}, payer{}, quiet())
			if name == "broken statement" {
				require.Error(t, err)
			} else {
				require.ErrorIs(t, err, tc.want)
			}
			require.Less(t, len(err.Error()), 2048)
			require.NoError(t, c.Reset())
		})
	}
}

// TestLyingAccepts: nothing is asked of a provider that answers another hello
// or does not sign.
func TestLyingAccepts(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		want   error
		key    int
		change func(*session.Accept)
		answer func(*wire.Conn) error
	}{
		"other lease": {mman.ErrProtocol, 1, func(a *session.Accept) { a.Lease[0]++ }, nil},
		"other lane":  {mman.ErrProtocol, 1, func(a *session.Accept) { a.Lane++ }, nil},
		"other nonce": {mman.ErrProtocol, 1, func(a *session.Accept) { a.Nonce[0]++ }, nil},
		"other key":   {mman.ErrBadSignature, 3, func(*session.Accept) {}, nil},
		"garbage":     {mman.ErrProtocol, 0, nil, func(c *wire.Conn) error { return c.Write(kindAccept, []byte{1}) }},
		"vanishes":    {mman.ErrPeerVanished, 0, nil, (*wire.Conn).Reset},
		"ends":        {mman.ErrProtocol, 0, nil, (*wire.Conn).Close},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hosts := p2ptest.New(t, 2)
			p2ptest.Connect(t, hosts[0], hosts[1])
			s := &scene{consumer: hosts[0], provider: hosts[1]}
			hosts[1].Handle(t.Context(), session.Protocol, func(_ context.Context, stream p2p.Stream) {
				c := wire.New(stream, wire.Config{MaxRead: wire.MaxFrame, FrameTimeout: time.Minute})
				h, err := wire.Receive[session.Hello](c, kindHello)
				if err != nil {
					return
				}
				if tc.answer != nil {
					_ = tc.answer(c)
					return
				}
				a := session.Accept{Lease: h.Lease, Lane: h.Lane, Nonce: h.Nonce}
				tc.change(&a)
				a, _ = a.Sign(chainID, signer{tc.key})
				_ = c.Send(kindAccept, a)
				_, _ = c.Read()
			})
			_, err := session.Dial(t.Context(), s.consumer, s.opening(), signer{leaseHost})
			require.ErrorIs(t, err, tc.want)
		})
	}
}

func TestStalledProvider(t *testing.T) {
	t.Parallel()
	hosts := p2ptest.New(t, 2)
	p2ptest.Connect(t, hosts[0], hosts[1])
	s := &scene{consumer: hosts[0], provider: hosts[1]}
	hosts[1].Handle(t.Context(), session.Protocol, func(ctx context.Context, _ p2p.Stream) { <-ctx.Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := session.Dial(ctx, s.consumer, s.opening(), signer{leaseHost})
	require.ErrorIs(t, err, mman.ErrTimeout)
}

func TestRunValidate(t *testing.T) {
	t.Parallel()
	id := mman.SumCID(mman.CodecRaw, nil)
	for name, change := range map[string]func(*session.Run){
		"no number":         func(r *session.Run) { r.Number = 0 },
		"zero byte":         func(r *session.Run) { r.Args = []string{"\x00"} },
		"many arguments":    func(r *session.Run) { r.Args = make([]string, 1000) },
		"no limits":         func(r *session.Run) { r.Limits.MemoryBytes = 0 },
		"input without cid": func(r *session.Run) { r.StdinBytes = 1 },
		"other inline":      func(r *session.Run) { r.Stdin, r.StdinBytes, r.Inline = id, 2, []byte("a") },
		"long inline": func(r *session.Run) {
			r.Stdin, r.StdinBytes, r.Inline = id, session.InlineMax+1, make([]byte, session.InlineMax+1)
		},
	} {
		r := aRun(1)
		require.NoError(t, r.Validate())
		change(&r)
		require.Error(t, r.Validate(), name)
	}
}

func TestWorkNamesWhatDecidesTheResult(t *testing.T) {
	t.Parallel()
	base := aRun(1)
	want, err := base.Work(mman.LeaseID{1})
	require.NoError(t, err)
	same := base
	same.Number = 2
	got, err := same.Work(mman.LeaseID{1})
	require.NoError(t, err)
	require.Equal(t, want, got)
	other := base
	other.Seed[0]++
	got, err = other.Work(mman.LeaseID{1})
	require.NoError(t, err)
	require.NotEqual(t, want, got)
	got, err = base.Work(mman.LeaseID{2})
	require.NoError(t, err)
	require.NotEqual(t, want, got)
}

// pipeStream is a stream whose peer has sent everything already and reads
// whatever comes.
type pipeStream struct {
	in   *bytes.Reader
	peer mman.PeerID

	mu   sync.Mutex
	dead bool
}

func (s *pipeStream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return 0, mman.ErrPeerVanished
	}
	return s.in.Read(p)
}

func (s *pipeStream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return 0, mman.ErrPeerVanished
	}
	return len(p), nil
}

func (s *pipeStream) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
	return nil
}

func (*pipeStream) CloseWrite() error                   { return nil }
func (s *pipeStream) Close() error                      { return s.end() }
func (s *pipeStream) Reset() error                      { return s.end() }
func (*pipeStream) SetReadTimeout(time.Duration) error  { return nil }
func (*pipeStream) SetWriteTimeout(time.Duration) error { return nil }
func (s *pipeStream) RemotePeer() mman.PeerID           { return s.peer }

// FuzzServerFrames feeds the server whatever bytes after a sound hello: it
// returns, frees the session and does not panic.
func FuzzServerFrames(f *testing.F) {
	id := mman.SumCID(mman.CodecRaw, []byte("ab"))
	frames := func(list ...any) []byte {
		s := &recorder{}
		c := wire.New(s, wire.Config{MaxRead: 1, FrameTimeout: time.Minute})
		for i := 0; i < len(list); i += 2 {
			kind, _ := list[i].(wire.Kind)
			var err error
			if b, ok := list[i+1].([]byte); ok {
				err = c.Write(kind, b)
			} else {
				err = c.Send(kind, list[i+1])
			}
			if err != nil {
				f.Fatal(err)
			}
		}
		return s.buf.Bytes()
	}
	supply := []any{kindRun, aRun(1), kindBlob, blob{id, 2}, kindChunk, []byte("a"), kindChunk, []byte("b")}
	f.Add([]byte{})
	f.Add(frames(supply...))
	f.Add(frames(append(supply, kindCancel, canceled{}, kindClose, closing{true})...))
	f.Add(frames(append(supply, kindRun, aRun(2))...))
	f.Add(frames(kindRun, aRun(1), kindCancel, canceled{}, kindBlob, blob{id, 2}, kindChunk, []byte("abc")))
	f.Add(frames(kindReceipt, market.Signed{Bytes: []byte("x")}))
	f.Add(frames(kindBlob, blob{id, 1 << 50}, kindClose, closing{}))
	peer := mman.PeerID(public(p2ptest.Key(0)))
	hello := frames(kindHello, signHello(session.Hello{Consumer: peer, Provider: mman.PeerID(public(p2ptest.Key(1)))}))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := newDesk()
		d.missing = func(session.Run) ([]mman.CID, error) { return []mman.CID{id}, nil }
		stream := &pipeStream{in: bytes.NewReader(append(bytes.Clone(hello), b...)), peer: peer}
		_ = (&session.Server{Provider: d, Idle: time.Minute}).Serve(t.Context(), stream)
		<-d.closed
	})
}

// recorder keeps what is written.
type recorder struct {
	pipeStream

	buf bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) { return r.buf.Write(p) }

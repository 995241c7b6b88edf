package session_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/p2ptest"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/p2p/protocol/wire"
	"github.com/limboid/massive-man/resources"
)

// linger is how long the provider of a scene waits for a consumer to come back.
const linger = 20 * time.Second

// The kinds of frames of interactive runs.
const (
	kindInput wire.Kind = iota + 15
	kindInputEnd
	kindTaken
	kindGot
	kindResumed
)

type frames struct {
	Frames uint64 `cbor:"frames"`
}

func interactive(n uint64) session.Run {
	r := aRun(n)
	r.Interactive = true
	return r
}

// reader reads an Input as guests do.
type reader func(p []byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }

// echo answers each line with its upper case.
func echo(ctx context.Context, in resources.Input, out session.Output) error {
	lines := bufio.NewReaderSize(reader(func(p []byte) (int, error) { return in.Read(ctx, p) }), 16)
	for {
		line, err := lines.ReadString('\n')
		if werr := out.Stdout([]byte(strings.ToUpper(line))); werr != nil {
			return werr
		}
		if errors.Is(err, io.EOF) {
			return out.Stderr([]byte("bye\n"))
		}
		if err != nil {
			return err
		}
	}
}

// person types lines and reads answers.
type person struct {
	*io.PipeWriter

	in      io.Reader
	out     *io.PipeWriter
	answers *bufio.Reader
	sinks   session.Sinks
	stderr  *bytes.Buffer
}

func newPerson() *person {
	in, typed := io.Pipe()
	answers, out := io.Pipe()
	p := &person{PipeWriter: typed, in: in, out: out, answers: bufio.NewReader(answers), stderr: &bytes.Buffer{}}
	p.sinks = session.Sinks{Stdin: in, Stdout: out, Stderr: p.stderr}
	return p
}

// talk begins a conversation; what says how it ended comes when it has.
func (p *person) talk(ctx context.Context, c *session.Client, run session.Run) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := c.Run(ctx, run, noSource, payer{}, p.sinks)
		_ = p.out.CloseWithError(err) // nobody waits for more
		done <- err
	}()
	return done
}

func (p *person) say(t *testing.T, line, want string) {
	t.Helper()
	_, err := io.WriteString(p, line+"\n")
	require.NoError(t, err)
	got, err := p.answers.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, want+"\n", got)
}

func TestConversation(t *testing.T) {
	t.Parallel()
	d := newDesk()
	d.talk = echo
	s := setUp(t, d, time.Minute)
	c := s.dial(t)
	for n := range uint64(2) { // one after the other
		p := newPerson()
		done := p.talk(t.Context(), c, interactive(n+1))
		for i := range 100 {
			p.say(t, fmt.Sprintf("line %d", i), fmt.Sprintf("LINE %d", i))
		}
		require.NoError(t, p.Close())
		require.NoError(t, <-done)
		require.Equal(t, "bye\n", p.stderr.String())
		require.True(t, (<-d.receipts).Final)
	}
	_, err := c.Run(t.Context(), aRun(3), noSource, payer{}, quiet()) // and one that is not interactive
	require.NoError(t, err)
	_, err = c.Close(t.Context(), false)
	require.NoError(t, err)
	require.NoError(t, <-s.served)
}

// TestMuchInput: more than the window goes both ways, at the guest's pace.
func TestMuchInput(t *testing.T) {
	t.Parallel()
	d := newDesk()
	d.talk = echo
	s := setUp(t, d, time.Minute)
	c := s.dial(t)
	text := strings.Repeat("all of this comes back\n", 100_000)
	var out bytes.Buffer
	_, err := c.Run(t.Context(), interactive(1), noSource, payer{}, session.Sinks{Stdin: strings.NewReader(text), Stdout: &out, Stderr: io.Discard})
	require.NoError(t, err)
	require.Equal(t, strings.ToUpper(text), out.String())
}

func TestNoInput(t *testing.T) {
	t.Parallel()
	d := newDesk()
	d.talk = echo
	s := setUp(t, d, time.Minute)
	c := s.dial(t)
	_, err := c.Run(t.Context(), interactive(1), noSource, payer{}, quiet())
	require.NoError(t, err)
	run := interactive(2)
	run.IdleMs = 20
	p := newPerson()
	_, err = c.Run(t.Context(), run, noSource, payer{}, p.sinks)
	require.ErrorIs(t, err, mman.ErrIdle)
}

func TestInteractiveRunsAreBounded(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*session.Run){
		"input by content": func(r *session.Run) { r.Stdin = mman.SumCID(mman.CodecRaw, nil) },
		"idle too long":    func(r *session.Run) { r.IdleMs = session.MaxIdleMs + 1 },
		"idle for nothing": func(r *session.Run) { r.Interactive, r.IdleMs = false, 1 },
	} {
		run := interactive(1)
		change(&run)
		require.ErrorIs(t, run.Validate(), mman.ErrInvalid, name)
	}
}

// TestCanceledConversation: a guest that waits for input does not outlive the
// consumer's patience.
func TestCanceledConversation(t *testing.T) {
	t.Parallel()
	d := newDesk()
	ended := make(chan error, 1)
	d.talk = func(ctx context.Context, in resources.Input, out session.Output) error {
		err := echo(ctx, in, out)
		ended <- err
		return err
	}
	s := setUp(t, d, time.Minute)
	c := s.dial(t)
	p := newPerson()
	ctx, cancel := context.WithCancel(t.Context())
	done := p.talk(ctx, c, interactive(1))
	p.say(t, "hello", "HELLO")
	cancel()
	require.ErrorIs(t, <-ended, mman.ErrCanceled)
	require.ErrorIs(t, <-done, mman.ErrCanceled)
}

// TestHostileTyping: input that breaks the order ends the session.
func TestHostileTyping(t *testing.T) {
	t.Parallel()
	for name, act := range map[string]func(*wire.Conn) error{
		"input before a run": func(c *wire.Conn) error { return c.Write(kindInput, []byte("x")) },
		"input of a batch run": func(c *wire.Conn) error {
			return errors.Join(c.Send(kindRun, aRun(1)), c.Write(kindInput, []byte("x")))
		},
		"empty input": func(c *wire.Conn) error { return talking(c, kindInput, nil) },
		"input after its end": func(c *wire.Conn) error {
			return errors.Join(talking(c, kindInputEnd, nil), c.Write(kindInput, []byte("x")))
		},
		"an end with a body":   func(c *wire.Conn) error { return talking(c, kindInputEnd, []byte("x")) },
		"more than the window": func(c *wire.Conn) error { return talking(c, kindInput, make([]byte, session.InputWindow+1)) },
		"garbage got":          func(c *wire.Conn) error { return talking(c, kindGot, []byte{1}) },
		"frames that were none": func(c *wire.Conn) error {
			return errors.Join(talking(c, kindInput, []byte("x")), c.Send(kindGot, frames{1 << 60}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk()
			d.talk = func(ctx context.Context, _ resources.Input, out session.Output) error {
				err := out.Stdout([]byte("ready"))
				<-ctx.Done()
				return errors.Join(err, mman.ErrCanceled)
			}
			d.run = func(ctx context.Context, _ session.Run, _ session.Output) (*market.RunResult, error) {
				<-ctx.Done()
				return nil, mman.ErrCanceled
			}
			s := setUp(t, d, time.Minute)
			c := s.raw(t)
			require.NoError(t, act(c))
			var err error
			for err == nil {
				_, err = c.Read()
			}
			require.ErrorIs(t, err, mman.ErrProtocol)
			require.Error(t, <-s.served)
			<-d.closed
		})
	}
}

// talking begins an interactive run, waits until it runs and sends a frame.
func talking(c *wire.Conn, kind wire.Kind, body []byte) error {
	if err := c.Send(kindRun, interactive(1)); err != nil {
		return err
	}
	if _, err := c.Read(); err != nil {
		return err
	}
	return c.Write(kind, body)
}

// cutter is a Dialer whose streams can be cut.
type cutter struct {
	session.Dialer

	mu      sync.Mutex
	last    p2p.Stream
	blocked chan struct{} // Open waits for it, nil does not
	opened  int
}

func (c *cutter) Open(ctx context.Context, to mman.PeerID, protocol string) (p2p.Stream, error) {
	c.mu.Lock()
	blocked := c.blocked
	c.mu.Unlock()
	if blocked != nil {
		select {
		case <-blocked:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", mman.ErrUnreachable, ctx.Err())
		}
	}
	s, err := c.Dialer.Open(ctx, to, protocol)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = s
	c.opened++
	return s, err
}

func (c *cutter) cut(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	require.NoError(t, c.last.Reset())
}

// TestReattach: a conversation survives that its stream breaks, again and again,
// with every byte once and in order, whatever side was speaking.
func TestReattach(t *testing.T) {
	t.Parallel()
	d := newDesk()
	d.talk = echo
	s := setUp(t, d, time.Minute)
	dialer := &cutter{Dialer: s.consumer}
	o := s.opening()
	o.Linger = linger
	c, err := session.Dial(t.Context(), dialer, o, signer{leaseHost})
	require.NoError(t, err)
	p := newPerson()
	losses := 0
	p.sinks.Lost = func(err error) {
		if err != nil {
			losses++
		}
	}
	done := p.talk(t.Context(), c, interactive(1))
	const rounds = 20
	for i := range rounds {
		p.say(t, fmt.Sprintf("before %d", i), fmt.Sprintf("BEFORE %d", i))
		dialer.cut(t)
		p.say(t, fmt.Sprintf("after %d", i), fmt.Sprintf("AFTER %d", i))
	}
	require.NoError(t, p.Close())
	require.NoError(t, <-done)
	require.Equal(t, "bye\n", p.stderr.String())
	require.Equal(t, rounds, losses)
	require.True(t, (<-d.receipts).Final)
	_, err = c.Close(t.Context(), false)
	require.NoError(t, err)
}

// TestReattachInTheFlood: cuts in the middle of much output lose and double
// nothing.
func TestReattachInTheFlood(t *testing.T) {
	t.Parallel()
	d := newDesk()
	d.talk = echo
	s := setUp(t, d, time.Minute)
	dialer := &cutter{Dialer: s.consumer}
	o := s.opening()
	o.Linger = linger
	c, err := session.Dial(t.Context(), dialer, o, signer{leaseHost})
	require.NoError(t, err)
	var text strings.Builder
	for i := range 40_000 {
		fmt.Fprintf(&text, "line number %d of many\n", i)
	}
	var out bytes.Buffer
	cuts := 0
	sink := writer(func(p []byte) (int, error) {
		if out.Len()/200_000 > cuts && cuts < 4 {
			cuts++
			dialer.cut(t)
		}
		return out.Write(p)
	})
	_, err = c.Run(t.Context(), interactive(1), noSource, payer{}, session.Sinks{Stdin: strings.NewReader(text.String()), Stdout: sink, Stderr: io.Discard})
	require.NoError(t, err)
	require.Equal(t, strings.ToUpper(text.String()), out.String())
	require.Equal(t, 4, cuts)
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// TestNobodyComesBack: a run whose consumer is gone ends when its time is over,
// and one that never lingers at once.
func TestNobodyComesBack(t *testing.T) {
	t.Parallel()
	for _, wait := range []time.Duration{0, 50 * time.Millisecond} {
		t.Run(wait.String(), func(t *testing.T) {
			t.Parallel()
			d := newDesk()
			d.talk = echo
			hosts := p2ptest.New(t, 2)
			p2ptest.Connect(t, hosts[0], hosts[1])
			server := &session.Server{Provider: d, Idle: time.Minute, Linger: wait}
			served := make(chan error, 2)
			hosts[1].Handle(t.Context(), session.Protocol, func(ctx context.Context, stream p2p.Stream) { served <- server.Serve(ctx, stream) })
			s := &scene{hosts[0], hosts[1], served}
			dialer := &cutter{Dialer: s.consumer}
			o := s.opening()
			o.Linger = linger
			c, err := session.Dial(t.Context(), dialer, o, signer{leaseHost})
			require.NoError(t, err)
			p := newPerson()
			done := p.talk(t.Context(), c, interactive(1))
			p.say(t, "hello", "HELLO")
			back := make(chan struct{})
			dialer.mu.Lock()
			dialer.blocked = back
			dialer.mu.Unlock()
			dialer.cut(t)
			require.ErrorIs(t, <-served, mman.ErrPeerVanished)
			<-d.closed
			close(back) // too late
			require.ErrorIs(t, <-done, mman.ErrNotFound)
			require.Error(t, <-served)
		})
	}
}

// TestStolenConversation: another key cannot come back to a run.
func TestStolenConversation(t *testing.T) {
	t.Parallel()
	d := newDesk()
	d.talk = echo
	s := setUp(t, d, time.Minute)
	c := s.dial(t)
	p := newPerson()
	done := p.talk(t.Context(), c, interactive(1))
	p.say(t, "hello", "HELLO")
	for name, tc := range map[string]struct {
		key  int
		run  uint64
		lane uint64
		want error
	}{
		"foreign key":  {6, 1, 2, mman.ErrBadSignature},
		"another run":  {leaseHost, 2, 2, mman.ErrNotFound},
		"another lane": {leaseHost, 1, 3, mman.ErrNotFound},
	} {
		stream, err := s.consumer.Open(t.Context(), s.provider.ID(), session.Protocol)
		require.NoError(t, err)
		conn := wire.New(stream, wire.Config{MaxRead: wire.MaxFrame, FrameTimeout: time.Minute})
		h := helloOf(s)
		h.Lane, h.Resume = tc.lane, &session.Resume{Run: tc.run}
		require.NoError(t, conn.Send(kindHello, signHelloBy(h, tc.key)))
		_, err = conn.Read()
		require.ErrorIs(t, err, tc.want, name)
	}
	p.say(t, "still here", "STILL HERE")
	require.NoError(t, p.Close())
	require.NoError(t, <-done)
}

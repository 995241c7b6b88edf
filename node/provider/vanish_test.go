package provider_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
)

// flow is one direction of a connection in memory.
type flow struct {
	mu   sync.Mutex
	more *sync.Cond
	buf  []byte
	end  error // what follows the bytes, nil while there may be more
	dead bool  // the reader is gone: nothing is taken any more
}

func newFlow() *flow {
	f := &flow{}
	f.more = sync.NewCond(&f.mu)
	return f
}

func (f *flow) put(p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.end != nil || f.dead {
		return vanished()
	}
	f.buf = append(f.buf, p...)
	f.more.Broadcast()
	return nil
}

func (f *flow) get(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.buf) == 0 && f.end == nil && !f.dead {
		f.more.Wait()
	}
	switch {
	case f.dead:
		return 0, vanished()
	case len(f.buf) == 0:
		return 0, f.end
	}
	n := copy(p, f.buf)
	f.buf = f.buf[n:]
	return n, nil
}

// finish ends the flow after the bytes that are on their way.
func (f *flow) finish(end error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.end == nil {
		f.end = end
	}
	f.more.Broadcast()
}

// abandon is the end of its reader.
func (f *flow) abandon() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
	f.more.Broadcast()
}

func vanished() error { return fmt.Errorf("%w: the connection is cut", mman.ErrPeerVanished) }

// side is one end of a connection. It vanishes with the frame number cut that it
// sends, which still arrives: the protocol writes a small frame in one piece.
type side struct {
	peer    mman.PeerID
	in, out *flow
	cut     int64 // 0 for never
	frames  atomic.Int64
}

func (s *side) Read(p []byte) (int, error) { return s.in.get(p) }

func (s *side) Write(p []byte) (int, error) {
	if err := s.out.put(p); err != nil {
		return 0, err
	}
	if s.frames.Add(1) == s.cut {
		return len(p), s.Reset()
	}
	return len(p), nil
}

func (s *side) CloseWrite() error { s.out.finish(io.EOF); return nil }

func (s *side) Close() error {
	s.out.finish(io.EOF)
	s.in.abandon()
	return nil
}

func (s *side) Reset() error {
	s.out.finish(vanished())
	s.in.abandon()
	return nil
}

func (*side) SetReadTimeout(time.Duration) error  { return nil }
func (*side) SetWriteTimeout(time.Duration) error { return nil }
func (s *side) RemotePeer() mman.PeerID           { return s.peer }

// vanishingLinger is how long either side of these tests waits for the other.
const vanishingLinger = 2 * time.Second

// cable connects a consumer with the provider's server. The first connection is
// cut with the frame of that number, of the side that is to vanish.
type cable struct {
	server   *session.Server
	consumer mman.PeerID
	provider mman.PeerID
	fromHere bool // the consumer vanishes, else the provider
	cut      int64

	first  *side // that vanishes
	served sync.WaitGroup
}

func (c *cable) ID() mman.PeerID { return c.consumer }

func (c *cable) Open(ctx context.Context, to mman.PeerID, _ string) (p2p.Stream, error) {
	there, back := newFlow(), newFlow()
	near, far := &side{peer: to, in: back, out: there}, &side{peer: c.consumer, in: there, out: back}
	if c.first == nil {
		if c.first = far; c.fromHere {
			c.first = near
		}
		c.first.cut = c.cut
	}
	// A node serves a stream however long its dialling took; how that ends is told by
	// what it leaves.
	c.served.Go(func() { _ = c.server.Serve(context.WithoutCancel(ctx), far) })
	return near, nil
}

// wasCut reports whether there were that many frames.
func (c *cable) wasCut() bool { return c.first.frames.Load() >= c.cut }

// purse pays what is asked, 1010 uman ahead while a conversation goes on, and
// takes back with each result what was not used.
type purse struct {
	c                    *consumer
	gross, top, returned mman.Amount
	seq                  uint64
}

func (p *purse) Acknowledge(s market.Signed) (market.Signed, bool, error) {
	st, _ := p.c.statement(s)
	return p.c.sign(s, func(r *market.Receipt) {
		p.gross, p.seq = st.Gross, st.Seq
		if st.Result == nil {
			p.top = max(p.top, st.Gross+p.returned+1010)
		} else {
			p.returned = max(p.returned, p.top-min(p.top, st.Gross))
			p.top = st.Gross + p.returned
		}
		r.Paid, r.Returned = p.top, p.returned
	}), true, nil
}

// plain is a guest that says a word and costs 1005 uman.
func plain(_ context.Context, _ resources.Task, streams resources.IO) (resources.Result, error) {
	_, err := io.WriteString(streams.Stdout, "done\n")
	return resources.Result{Usage: resources.Usage{CallCount: 1, WallMs: 5, OutBytes: 5}}, err
}

func algorithm(mman.CID) (io.ReadCloser, uint64, error) {
	return io.NopCloser(bytes.NewReader(module)), uint64(len(module)), nil
}

// vanishing is a consumer on one lease whose first connection breaks.
type vanishing struct {
	*consumer
	cable *cable
	purse *purse
}

func (v *vanishing) dial(ctx context.Context) (*session.Client, error) {
	return session.Dial(ctx, v.cable, session.Opening{
		ChainID: chainID, Lease: v.lease.ID, Provider: v.l.host.ID(), Last: v.last, Linger: vanishingLinger,
	}, signer{v.l.leaseKey})
}

func (v *vanishing) once(ctx context.Context, conn *session.Client, number uint64) error {
	var out bytes.Buffer
	_, err := conn.Run(ctx, session.Run{Number: number, Limits: v.lease.Limits}, algorithm, v.purse, session.Sinks{Stdout: &out, Stderr: io.Discard})
	if err == nil && out.String() != "done\n" {
		return fmt.Errorf("it said %q", &out)
	}
	return err
}

// runs are two runs in one session, until something breaks.
func (v *vanishing) runs(ctx context.Context) error {
	conn, err := v.dial(ctx)
	for number := uint64(1); err == nil && number <= 2; number++ {
		err = v.once(ctx, conn, number)
	}
	if err != nil {
		return err
	}
	_, err = conn.Close(ctx, false)
	return err
}

// converse is a conversation of three lines. One that has begun does not end by
// the cut, and says every line once.
func (v *vanishing) converse(ctx context.Context) error {
	conn, err := v.dial(ctx)
	if err != nil {
		return err
	}
	in, typed := io.Pipe()
	out, written := io.Pipe()
	said := make(chan error, 1)
	go func() {
		answers := bufio.NewReader(out)
		for i := range 3 {
			line := fmt.Sprintf("line %d\n", i)
			if _, err := io.WriteString(typed, line); err != nil {
				said <- err
				return
			}
			if got, err := answers.ReadString('\n'); err != nil || got != line {
				said <- fmt.Errorf("it answered %q to %q: %w", got, line, err)
				return
			}
		}
		said <- typed.Close()
	}()
	losses := 0
	_, err = conn.Run(ctx, session.Run{Number: 1, Limits: v.lease.Limits, Interactive: true}, algorithm, v.purse, session.Sinks{
		Stdin: in, Stdout: written, Stderr: io.Discard, Lost: func(err error) {
			if err != nil {
				losses++
			}
		},
	})
	require.LessOrEqual(v.tb, losses, 1, "it is cut once")
	err = errors.Join(err, in.CloseWithError(vanished()), written.CloseWithError(vanished()))
	if talk := <-said; err == nil {
		err = talk
	}
	if err != nil {
		require.Nil(v.tb, v.last, "it had begun: %v", err)
		return err
	}
	_, err = conn.Close(ctx, false)
	return err
}

// TestVanish cuts the connection after each frame of the protocol in turn, of
// either side, in runs and in a conversation. After each, also when the provider is
// started again from its disk, the next session on the lease goes on from the last
// receipt: it counts what that acknowledges and nothing else, and the provider
// settles exactly what the last receipt says. No guest, goroutine or lane stays
// taken.
func TestVanish(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fromHere bool
		use      func(*vanishing, context.Context) error
		least    int64 // frames that the side sends at least
	}{
		"consumer in a run":            {true, (*vanishing).runs, 8},
		"provider in a run":            {false, (*vanishing).runs, 7},
		"consumer in the conversation": {true, (*vanishing).converse, 10},
		"provider in the conversation": {false, (*vanishing).converse, 8},
	} {
		for how, restart := range map[string]bool{"": false, ", then the provider stops": true} {
			t.Run(name+how, func(t *testing.T) {
				t.Parallel()
				frames := cutEach(t, name+how, tc.fromHere, restart, tc.use)
				t.Logf("cut after each of %d frames", frames)
				require.GreaterOrEqual(t, frames, tc.least, "one for each step")
			})
		}
	}
}

// cutEach cuts after the first frame, on another lease after the second, and so on
// until all came; it returns how many there were.
func cutEach(t *testing.T, name string, fromHere, restart bool, use func(*vanishing, context.Context) error) int64 {
	t.Helper()
	l := newLender(t, 0)
	var guests atomic.Int64
	l.executor.Play = func(ctx context.Context, task resources.Task, streams resources.IO) (resources.Result, error) {
		guests.Add(1)
		defer guests.Add(-1)
		if streams.Credit == nil {
			return plain(ctx, task, streams)
		}
		return echo(ctx, task, streams)
	}
	for cut := int64(1); cut <= 100; cut++ {
		v := l.vanishing(t, byte(cut), fromHere, cut)
		label := fmt.Sprintf("%s, frame %d", name, cut)
		pprof.Do(t.Context(), pprof.Labels("vanish", label), func(ctx context.Context) {
			if err := use(v, ctx); !v.cable.wasCut() {
				require.NoError(t, err)
			}
			v.cable.served.Wait()
		})
		l.eventually(t, label+": a goroutine is left", func() bool { return !labelled(label) })
		require.Zero(t, guests.Load(), label)
		done := !v.cable.wasCut()
		if restart {
			l.restart(t)
		}
		v.goOn(t, label)
		if done {
			return cut - 1
		}
	}
	require.FailNow(t, "it never ends")
	return 0
}

func (l *lender) vanishing(t *testing.T, lease byte, fromHere bool, cut int64) *vanishing {
	t.Helper()
	c := l.consumer(t, l.lease(lease), 0)
	return &vanishing{c, &cable{
		server:   &session.Server{Provider: l, Idle: time.Minute, Linger: vanishingLinger},
		consumer: mman.PeerID(accountKey(t, "consumer's node").Public().Bytes()), provider: l.host.ID(), fromHere: fromHere, cut: cut,
	}, &purse{c: c}}
}

// labelled reports whether a goroutine that the label was given to still lives.
func labelled(label string) bool {
	var b strings.Builder
	return pprof.Lookup("goroutine").WriteTo(&b, 1) != nil || strings.Contains(b.String(), fmt.Sprintf("%q:%q", "vanish", label))
}

// goOn uses the lease once more, and settles.
func (v *vanishing) goOn(t *testing.T, label string) {
	t.Helper()
	before, seq := v.purse.gross, v.purse.seq
	conn, err := v.dial(t.Context())
	require.NoError(t, err, "%s: the lane is free", label)
	require.GreaterOrEqual(t, conn.Accept().Issued, seq, label)
	require.NoError(t, v.once(t.Context(), conn, 100), label)
	require.Equal(t, before+1005, v.purse.gross, "%s: what was acknowledged counts, and nothing else", label)
	v.l.chain.take()
	_, err = conn.Close(t.Context(), true)
	require.NoError(t, err, label)
	v.cable.served.Wait()
	var paid [][]byte
	for _, m := range v.l.chain.take() {
		if s, ok := m.(tx.MsgSettle); ok {
			for _, item := range s.Items {
				paid = append(paid, item.Receipt)
			}
		}
	}
	require.Equal(t, [][]byte{v.last.Bytes}, paid, "%s: the provider is paid what the last receipt says", label)
	r, err := market.DecodeReceipt(paid[0])
	require.NoError(t, err)
	require.Equal(t, v.purse.gross, r.Net(), label)
}

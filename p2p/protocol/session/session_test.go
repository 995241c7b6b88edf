package session_test

import (
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

const chainID = p2ptest.NetworkID

// signer is an ed25519 key of the test swarm.
type signer struct{ host int }

func (s signer) Sign(purpose mman.SignContext, chain string, payload []byte) []byte {
	return sign(p2ptest.Key(s.host), purpose, chain, payload)
}

// leaseHost is the number of the key that plays the lease key.
const leaseHost = 7

func leaseKey() mman.LeaseKey { return mman.LeaseKey(public(p2ptest.Key(leaseHost))) }

// desk is a Provider and the Work of its one session. Its hooks are set before
// the session begins.
type desk struct {
	node    market.Signer
	open    func(session.Hello) error
	missing func(session.Run) ([]mman.CID, error)
	supply  func(id mman.CID, size uint64, r io.Reader) error
	run     func(ctx context.Context, run session.Run, out session.Output) (*market.RunResult, error)
	settle  func() (mman.Hash, error)
	talk    func(ctx context.Context, in resources.Input, out session.Output) error

	mu       sync.Mutex
	lease    mman.LeaseID
	lane     uint64
	seq      uint64
	supplied map[mman.CID][]byte
	receipts chan market.Receipt
	closed   chan struct{}
}

func newDesk() *desk {
	return &desk{node: signer{1}, supplied: map[mman.CID][]byte{}, receipts: make(chan market.Receipt, 64), closed: make(chan struct{})}
}

func (d *desk) Open(_ context.Context, h session.Hello) (session.Work, session.Accept, error) {
	if d.open != nil {
		if err := d.open(h); err != nil {
			return nil, session.Accept{}, err
		}
	}
	if err := h.Verify(chainID, leaseKey()); err != nil {
		return nil, session.Accept{}, err
	}
	d.lease, d.lane = h.Lease, h.Lane
	a, err := session.Accept{Lease: h.Lease, Lane: h.Lane, Nonce: h.Nonce}.Sign(chainID, d.node)
	return d, a, err
}

func (d *desk) Missing(_ context.Context, r session.Run) ([]mman.CID, error) {
	if d.missing == nil {
		return nil, nil
	}
	return d.missing(r)
}

func (d *desk) Supply(_ context.Context, id mman.CID, size uint64, r io.Reader) error {
	if d.supply != nil {
		return d.supply(id, size, r)
	}
	b, err := io.ReadAll(r)
	d.mu.Lock()
	d.supplied[id] = b
	d.mu.Unlock()
	return err
}

func (d *desk) statement(run session.Run, result *market.RunResult) (market.Signed, error) {
	d.mu.Lock()
	d.seq++
	seq := d.seq
	d.mu.Unlock()
	work, err := run.Work(d.lease)
	if err != nil {
		return market.Signed{}, err
	}
	s, _, err := market.SignStatement(chainID, market.Statement{Version: 1, Lease: d.lease, Lane: d.lane, Seq: seq, Work: work, Result: result}, d.node)
	return s, err
}

func (d *desk) Run(ctx context.Context, run session.Run, in resources.Input, out session.Output) (market.Signed, error) {
	result := &market.RunResult{Run: run.Number}
	if d.talk != nil && in != nil {
		if err := d.talk(ctx, in, out); err != nil {
			return market.Signed{}, err
		}
	}
	if d.run != nil {
		var err error
		if result, err = d.run(ctx, run, out); err != nil {
			return market.Signed{}, err
		}
	}
	return d.statement(run, result)
}

func (d *desk) Receipt(_ context.Context, r market.Signed) error {
	got, err := market.OpenReceipt(chainID, r, leaseKey())
	if err != nil {
		return err
	}
	d.receipts <- got
	return nil
}

func (d *desk) Settle(context.Context) (mman.Hash, error) {
	if d.settle == nil {
		return mman.Hash{9}, nil
	}
	return d.settle()
}

func (d *desk) Resume(_ context.Context, h session.Hello) (session.Accept, error) {
	if err := h.Verify(chainID, leaseKey()); err != nil {
		return session.Accept{}, err
	}
	return session.Accept{Lease: h.Lease, Lane: h.Lane, Nonce: h.Nonce}.Sign(chainID, d.node)
}

func (d *desk) Close() { close(d.closed) }

// payer signs every statement.
type payer struct{ err error }

func (p payer) Acknowledge(s market.Signed) (market.Signed, bool, error) {
	if p.err != nil {
		return market.Signed{}, false, p.err
	}
	st, id, err := market.OpenStatement(chainID, s, mman.PeerID(public(p2ptest.Key(1))))
	if err != nil {
		return market.Signed{}, false, err
	}
	r, err := market.SignReceipt(chainID, market.Receipt{Version: 1, Statement: id, Lease: st.Lease, Lane: st.Lane, Seq: st.Seq, Final: st.Result != nil}, signer{leaseHost})
	return r, true, err
}

// scene is a consumer's and a provider's host, the latter serving the desk.
type scene struct {
	consumer, provider *p2p.Host
	served             chan error
}

func setUp(tb testing.TB, d session.Provider, idle time.Duration) *scene {
	tb.Helper()
	hosts := p2ptest.New(tb, 2)
	p2ptest.Connect(tb, hosts[0], hosts[1])
	s := &scene{hosts[0], hosts[1], make(chan error, 64)}
	server := &session.Server{Provider: d, Idle: idle, Linger: linger}
	hosts[1].Handle(tb.Context(), session.Protocol, func(ctx context.Context, stream p2p.Stream) { s.served <- server.Serve(ctx, stream) })
	return s
}

func (s *scene) opening() session.Opening {
	return session.Opening{ChainID: chainID, Lease: mman.LeaseID{5}, Lane: 2, Provider: s.provider.ID(), Nonce: mman.Hash{8}}
}

func (s *scene) dial(tb testing.TB) *session.Client {
	tb.Helper()
	c, err := session.Dial(tb.Context(), s.consumer, s.opening(), signer{leaseHost})
	require.NoError(tb, err)
	return c
}

func aRun(n uint64) session.Run {
	return session.Run{Number: n, Args: []string{"a"}, Limits: resources.DefaultLimits()}
}

func noSource(id mman.CID) (io.ReadCloser, uint64, error) {
	return nil, 0, fmt.Errorf("%w: %s", mman.ErrNotFound, id)
}

func quiet() session.Sinks { return session.Sinks{Stdout: io.Discard, Stderr: io.Discard} }

func TestRunsFollowEachOther(t *testing.T) {
	t.Parallel()
	d := newDesk()
	big, small := bytes.Repeat([]byte("0123456789abcdef"), 20_000), []byte("small")
	contents := map[mman.CID][]byte{mman.SumCID(mman.CodecRaw, big): big, mman.SumCID(mman.CodecRaw, small): small, mman.SumCID(mman.CodecRaw, nil): {}}
	d.missing = func(session.Run) ([]mman.CID, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		var out []mman.CID
		for id := range contents {
			if _, ok := d.supplied[id]; !ok {
				out = append(out, id)
			}
		}
		return out, nil
	}
	d.run = func(_ context.Context, run session.Run, out session.Output) (*market.RunResult, error) {
		st, err := d.statement(run, nil)
		if err != nil {
			return nil, err
		}
		return &market.RunResult{Run: run.Number, OutputBytes: uint64(len(big))}, errors.Join(out.Stdout(big), out.Stderr(run.Inline), out.Statement(st))
	}
	s := setUp(t, d, time.Minute)
	c := s.dial(t)
	require.Equal(t, uint64(2), c.Accept().Lane)
	for n := uint64(1); n <= 3; n++ {
		run := aRun(n)
		run.Inline = []byte("inline")
		run.Stdin, run.StdinBytes = mman.SumCID(mman.CodecRaw, run.Inline), uint64(len(run.Inline))
		var stdout, stderr bytes.Buffer
		last, err := c.Run(t.Context(), run, func(id mman.CID) (io.ReadCloser, uint64, error) {
			return io.NopCloser(bytes.NewReader(contents[id])), uint64(len(contents[id])), nil
		}, payer{}, session.Sinks{Stdout: &stdout, Stderr: &stderr})
		require.NoError(t, err)
		require.True(t, bytes.Equal(big, stdout.Bytes()))
		require.Equal(t, "inline", stderr.String())
		st, err := market.DecodeStatement(last.Bytes)
		require.NoError(t, err)
		require.Equal(t, n, st.Result.Run)
		require.False(t, (<-d.receipts).Final)
		require.Equal(t, 2*n, (<-d.receipts).Seq)
	}
	for id, b := range contents {
		require.True(t, bytes.Equal(b, d.supplied[id]))
	}
	closed, err := c.Close(t.Context(), true)
	require.NoError(t, err)
	require.Equal(t, mman.Hash{9}, closed.TxHash)
	require.NoError(t, <-s.served)
	<-d.closed
}

func TestRefusedAtHello(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		want  error
		retry mman.Retry
		open  func(session.Hello) error
		key   int
		peer  int
	}{
		"unknown lease": {want: mman.ErrLeaseUnknown, retry: mman.RetryHere, key: leaseHost, open: func(h session.Hello) error {
			return fmt.Errorf("lease %s: %w: %s", h.Lease, mman.ErrLeaseUnknown, strings.Repeat("long ", 1000))
		}},
		"bad signature":   {want: mman.ErrBadSignature, key: 3},
		"other peer":      {want: mman.ErrNotYourLease, key: leaseHost, peer: 4},
		"broken text":     {want: mman.ErrPolicy, retry: mman.RetryElsewhere, key: leaseHost, open: func(session.Hello) error { return fmt.Errorf("%w: \xff%s", mman.ErrPolicy, strings.Repeat("é", 600)) }},
		"not coded error": {want: mman.ErrInternal, key: leaseHost, open: func(session.Hello) error { return io.ErrUnexpectedEOF }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk()
			d.open = tc.open
			s := setUp(t, d, time.Minute)
			var from session.Dialer = s.consumer
			if tc.peer > 0 {
				from = alias{s.consumer, mman.PeerID(public(p2ptest.Key(tc.peer)))}
			}
			_, err := session.Dial(t.Context(), from, s.opening(), signer{tc.key})
			require.ErrorIs(t, err, tc.want)
			require.Equal(t, tc.retry, mman.RetryOf(err))
			require.Less(t, len(err.Error()), 1024)
			require.Error(t, <-s.served)
		})
	}
}

// alias is a host that says it is another.
type alias struct {
	*p2p.Host

	id mman.PeerID
}

func (a alias) ID() mman.PeerID { return a.id }

// TestRefusalsLeaveNoStreams dials more often than streams may be open.
func TestRefusalsLeaveNoStreams(t *testing.T) {
	t.Parallel()
	d := newDesk()
	d.open = func(session.Hello) error { return mman.ErrLeaseUnknown }
	s := setUp(t, d, time.Minute)
	for range 300 {
		_, err := session.Dial(t.Context(), s.consumer, s.opening(), signer{leaseHost})
		require.ErrorIs(t, err, mman.ErrLeaseUnknown)
		require.ErrorIs(t, <-s.served, mman.ErrLeaseUnknown)
	}
}

func TestFailedRunKeepsTheSession(t *testing.T) {
	t.Parallel()
	a, b := []byte("a"), bytes.Repeat([]byte("b"), 300_000)
	ids := []mman.CID{mman.SumCID(mman.CodecRaw, a), mman.SumCID(mman.CodecRaw, b)}
	for name, tc := range map[string]struct {
		want error
		set  func(*desk)
		run  func(*session.Run)
	}{
		"not valid":   {want: mman.ErrInvalid, run: func(r *session.Run) { r.Limits.WallMs = 0 }},
		"number 0":    {want: mman.ErrInvalid, run: func(r *session.Run) { r.Number = 0 }},
		"unpaid":      {want: mman.ErrUnpaid, set: func(d *desk) { d.missing = func(session.Run) ([]mman.CID, error) { return nil, mman.ErrUnpaid } }},
		"used number": {want: mman.ErrProtocol, set: func(d *desk) { d.missing = func(session.Run) ([]mman.CID, error) { return nil, mman.ErrProtocol } }},
		"first content refused": {want: mman.ErrContent, set: func(d *desk) {
			d.missing = func(session.Run) ([]mman.CID, error) { return ids, nil }
			d.supply = func(mman.CID, uint64, io.Reader) error { return mman.ErrContent }
		}},
		"second content refused half way": {want: mman.ErrInputLimit, set: func(d *desk) {
			d.missing = func(session.Run) ([]mman.CID, error) { return ids, nil }
			d.supply = func(id mman.CID, _ uint64, r io.Reader) error {
				if id == ids[0] {
					_, err := io.Copy(io.Discard, r)
					return err
				}
				_, err := io.CopyN(io.Discard, r, 10)
				return errors.Join(mman.ErrInputLimit, err)
			}
		}},
		"host failed": {want: mman.ErrDiskFull, set: func(d *desk) {
			d.run = func(context.Context, session.Run, session.Output) (*market.RunResult, error) {
				return nil, mman.ErrDiskFull
			}
		}},
		"long broken text": {want: mman.ErrDiskFull, set: func(d *desk) {
			d.run = func(context.Context, session.Run, session.Output) (*market.RunResult, error) {
				return nil, fmt.Errorf("%w: x%s", mman.ErrDiskFull, strings.Repeat("é\xff", 600))
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk()
			if tc.set != nil {
				tc.set(d)
			}
			s := setUp(t, d, time.Minute)
			c := s.dial(t)
			source := func(id mman.CID) (io.ReadCloser, uint64, error) {
				if id == ids[0] {
					return io.NopCloser(bytes.NewReader(a)), uint64(len(a)), nil
				}
				return io.NopCloser(bytes.NewReader(b)), uint64(len(b)), nil
			}
			run := aRun(1)
			if tc.run != nil {
				tc.run(&run)
			}
			for range 3 {
				_, err := c.Run(t.Context(), run, source, payer{}, quiet())
				require.ErrorIs(t, err, tc.want)
				require.Less(t, len(err.Error()), 1024)
			}
			_, err := c.Close(t.Context(), false)
			require.NoError(t, err)
			require.NoError(t, <-s.served)
		})
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	d := newDesk()
	started := make(chan struct{})
	d.run = func(ctx context.Context, run session.Run, _ session.Output) (*market.RunResult, error) {
		close(started)
		<-ctx.Done()
		return &market.RunResult{Run: run.Number, Code: mman.ErrCanceled.Code}, nil
	}
	s := setUp(t, d, time.Minute)
	c := s.dial(t)
	require.NoError(t, c.Cancel()) // nothing is under way: no harm
	go func() {
		<-started
		_ = c.Cancel()
	}()
	last, err := c.Run(t.Context(), aRun(1), noSource, payer{}, quiet())
	require.NoError(t, err)
	st, err := market.DecodeStatement(last.Bytes)
	require.NoError(t, err)
	require.Equal(t, mman.ErrCanceled.Code, st.Result.Code)
	require.True(t, (<-d.receipts).Final)
	d.run = nil
	_, err = c.Run(t.Context(), aRun(2), noSource, payer{}, quiet())
	require.NoError(t, err)
	_, err = c.Close(t.Context(), false)
	require.NoError(t, err)
}

func TestCancelWhileContentIsDue(t *testing.T) {
	t.Parallel()
	d := newDesk()
	id := mman.SumCID(mman.CodecRaw, nil)
	d.missing = func(session.Run) ([]mman.CID, error) { return []mman.CID{id}, nil }
	s := setUp(t, d, time.Minute)
	c := s.dial(t)
	_, err := c.Run(t.Context(), aRun(1), func(mman.CID) (io.ReadCloser, uint64, error) {
		// Whatever comes first, the cancel or the content: the session stays.
		return io.NopCloser(bytes.NewReader(nil)), 0, c.Cancel()
	}, payer{}, quiet())
	if err != nil {
		require.ErrorIs(t, err, mman.ErrCanceled)
	}
	_, err = c.Close(t.Context(), false)
	require.NoError(t, err)
	require.NoError(t, <-s.served)
}

func TestSettleThatFailsSaysWhy(t *testing.T) {
	t.Parallel()
	d := newDesk()
	d.settle = func() (mman.Hash, error) { return mman.Hash{}, mman.ErrFunds }
	s := setUp(t, d, time.Minute)
	_, err := s.dial(t).Close(t.Context(), true)
	require.ErrorIs(t, err, mman.ErrFunds)
	require.ErrorIs(t, <-s.served, mman.ErrFunds)
}

func TestCallerCancels(t *testing.T) {
	t.Parallel()
	d := newDesk()
	started := make(chan struct{})
	d.run = func(ctx context.Context, _ session.Run, _ session.Output) (*market.RunResult, error) {
		close(started)
		<-ctx.Done()
		return nil, mman.ErrCanceled
	}
	s := setUp(t, d, time.Minute)
	c := s.dial(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-started
		cancel()
	}()
	_, err := c.Run(ctx, aRun(1), noSource, payer{}, quiet())
	require.ErrorIs(t, err, mman.ErrCanceled)
	require.Error(t, <-s.served)
	<-d.closed
}

func TestPayerRefuses(t *testing.T) {
	t.Parallel()
	d := newDesk()
	s := setUp(t, d, time.Minute)
	c := s.dial(t)
	_, err := c.Run(t.Context(), aRun(1), noSource, payer{mman.ErrReceipt}, quiet())
	require.ErrorIs(t, err, mman.ErrReceipt)
	require.Error(t, <-s.served)
	<-d.closed
}

func TestIdleSessionEnds(t *testing.T) {
	t.Parallel()
	id := mman.SumCID(mman.CodecRaw, []byte("x"))
	for name, act := range map[string]func(*wire.Conn) error{
		"no hello":    nil,
		"no run":      func(*wire.Conn) error { return nil },
		"no contents": func(c *wire.Conn) error { return c.Send(kindRun, aRun(1)) },
		"half content": func(c *wire.Conn) error {
			return errors.Join(c.Send(kindRun, aRun(1)), need(c), c.Send(kindBlob, blob{id, 2}), c.Write(kindChunk, []byte("x")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk()
			d.missing = func(session.Run) ([]mman.CID, error) { return []mman.CID{id}, nil }
			s := setUp(t, d, 50*time.Millisecond)
			var c *wire.Conn
			if act == nil {
				stream, err := s.consumer.Open(t.Context(), s.provider.ID(), session.Protocol)
				require.NoError(t, err)
				c = wire.New(stream, wire.Config{MaxRead: wire.MaxFrame, FrameTimeout: time.Minute})
				_, err = stream.Write([]byte{50})
				require.NoError(t, err)
			} else {
				c = s.raw(t)
				require.NoError(t, act(c))
			}
			require.Error(t, <-s.served)
			for {
				if _, err := c.Read(); err != nil {
					break
				}
			}
			if act != nil {
				<-d.closed
			}
		})
	}
}

package decisions_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/decision"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/p2ptest"
	"github.com/limboid/massive-man/p2p/protocol/decisions"
	"github.com/limboid/massive-man/p2p/protocol/wire"
)

type shelf func(context.Context, decisions.Query) (decisions.Answer, error)

func (s shelf) Decisions(ctx context.Context, q decisions.Query, remote mman.PeerID) (decisions.Answer, error) {
	if q.Asker != remote {
		return decisions.Answer{}, errors.New("asked in another's name")
	}
	return s(ctx, q)
}

func hosts(t *testing.T) (asker, holder *p2p.Host) {
	t.Helper()
	h := p2ptest.New(t, 2)
	p2ptest.Connect(t, h[0], h[1])
	return h[0], h[1]
}

func query(by *p2p.Host, change func(*decisions.Query)) decisions.Query {
	q := decisions.Query{Lease: mman.LeaseID{1}, Asker: by.ID(), Count: 2, Signature: make([]byte, 64)}
	change(&q)
	return q
}

func TestAsk(t *testing.T) {
	t.Parallel()
	asker, holder := hosts(t)
	page := decisions.Answer{Size: 9, Entries: [][]byte{{1}, {2}}, Path: []mman.Hash{{3}}}
	require.NoError(t, decisions.Serve(t.Context(), holder, shelf(func(_ context.Context, q decisions.Query) (decisions.Answer, error) {
		switch q.From {
		case 0:
			return page, nil
		case 1: // too many
			return decisions.Answer{Entries: make([][]byte, 3)}, nil
		case 2: // too long a path
			return decisions.Answer{Path: make([]mman.Hash, 40)}, nil
		default:
			return decisions.Answer{}, errors.New("secret path")
		}
	}), decisions.Default()))
	for name, tc := range map[string]struct {
		change func(*decisions.Query)
		want   error
	}{
		"a page":         {func(*decisions.Query) {}, nil},
		"too many":       {func(q *decisions.Query) { q.From = 1 }, mman.ErrProtocol},
		"long path":      {func(q *decisions.Query) { q.From = 2 }, mman.ErrProtocol},
		"refused":        {func(q *decisions.Query) { q.From = 3 }, mman.ErrNotFound},
		"another's name": {func(q *decisions.Query) { q.Asker = mman.PeerID{1} }, mman.ErrNotFound},
		"no entries":     {func(q *decisions.Query) { q.Count = 0 }, mman.ErrInvalid},
		"a large page":   {func(q *decisions.Query) { q.Count = decisions.MaxPage + 1 }, mman.ErrInvalid},
		"no such entry":  {func(q *decisions.Query) { q.From = decision.MaxEntries }, mman.ErrInvalid},
		"no such lane":   {func(q *decisions.Query) { q.Lane = market.MaxLanes }, mman.ErrInvalid},
		"no signature":   {func(q *decisions.Query) { q.Signature = nil }, mman.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := decisions.Ask(t.Context(), asker, holder.ID(), query(asker, tc.change), decisions.Default())
			if tc.want != nil {
				require.ErrorIs(t, err, tc.want)
				require.NotContains(t, err.Error(), "secret")
				return
			}
			require.NoError(t, err)
			require.Equal(t, page, got)
		})
	}
	require.ErrorIs(t, decisions.Serve(t.Context(), holder, nil, decisions.Config{}), mman.ErrInvalid)
}

func TestBusyHolder(t *testing.T) {
	t.Parallel()
	asker, holder := hosts(t)
	cfg := decisions.Default()
	cfg.MaxAnswers = 1
	waits, hold := make(chan struct{}), make(chan struct{})
	require.NoError(t, decisions.Serve(t.Context(), holder, shelf(func(context.Context, decisions.Query) (decisions.Answer, error) {
		close(waits)
		<-hold
		return decisions.Answer{}, nil
	}), cfg))
	first := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	q := query(asker, func(*decisions.Query) {})
	go func() {
		_, err := decisions.Ask(ctx, asker, holder.ID(), q, decisions.Default())
		first <- err
	}()
	<-waits
	_, err := decisions.Ask(t.Context(), asker, holder.ID(), q, decisions.Default())
	require.ErrorIs(t, err, mman.ErrBusy)
	cancel()
	require.ErrorIs(t, <-first, mman.ErrCanceled)
	close(hold)
}

func TestHostileFrames(t *testing.T) {
	t.Parallel()
	asker, holder := hosts(t)
	require.NoError(t, decisions.Serve(t.Context(), holder, shelf(func(context.Context, decisions.Query) (decisions.Answer, error) {
		return decisions.Answer{}, nil
	}), decisions.Default()))
	for name, raw := range map[string][]byte{"garbage": {5, 1, 2, 3, 4, 5}, "oversize": {0xff, 0x7f, 1}, "kind": {1, 9}} {
		stream, err := asker.Open(t.Context(), holder.ID(), decisions.Protocol)
		require.NoError(t, err, name)
		_, err = stream.Write(raw)
		require.NoError(t, err, name)
		_, err = io.ReadAll(stream)
		require.ErrorIs(t, err, mman.ErrPeerVanished, name)
	}
	for name, act := range map[string]func(*wire.Conn){
		"garbage":  func(c *wire.Conn) { _ = c.Write(2, []byte{0xff}) },
		"kind":     func(c *wire.Conn) { _ = c.Write(9) },
		"hangs up": func(c *wire.Conn) { _ = c.Reset() },
		"oversize": func(c *wire.Conn) { _ = c.Write(2, make([]byte, 1<<20)) },
	} {
		holder.Handle(t.Context(), decisions.Protocol, func(_ context.Context, s p2p.Stream) {
			c := wire.New(s, wire.Config{MaxRead: 4096, FrameTimeout: 10 * time.Second})
			if _, err := c.Read(); err == nil {
				act(c)
			}
		})
		_, err := decisions.Ask(t.Context(), asker, holder.ID(), query(asker, func(*decisions.Query) {}), decisions.Default())
		require.Error(t, err, name)
		require.NotZero(t, mman.CodeOf(err), name)
	}
}

package bids_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/p2ptest"
	"github.com/limboid/massive-man/p2p/protocol/bids"
	"github.com/limboid/massive-man/p2p/protocol/wire"
)

// desk answers requests by their first byte.
type desk struct {
	mu   sync.Mutex
	acks map[mman.RequestID][]byte
}

func (d *desk) Bid(_ context.Context, id mman.RequestID) (bids.Sealed, error) {
	switch id[0] {
	case 1:
		return bids.Sealed{Commitment: []byte("digest"), Key: []byte("key"), Signature: []byte("sig")}, nil
	case 2:
		return bids.Sealed{Commitment: make([]byte, 257), Key: []byte("key"), Signature: []byte("sig")}, nil
	default:
		return bids.Sealed{}, fmt.Errorf("%w: not for this", mman.ErrNoBid)
	}
}

func (d *desk) Acknowledged(_ context.Context, id mman.RequestID, signature []byte) error {
	if len(signature) != 64 {
		return mman.ErrBadSignature
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.acks[id] = signature
	return nil
}

func hosts(t *testing.T) (consumer, provider *p2p.Host) {
	t.Helper()
	h := p2ptest.New(t, 2)
	p2ptest.Connect(t, h[0], h[1])
	return h[0], h[1]
}

func TestInvite(t *testing.T) {
	t.Parallel()
	consumer, provider := hosts(t)
	d := &desk{acks: map[mman.RequestID][]byte{}}
	require.NoError(t, bids.Serve(t.Context(), provider, d, bids.Default()))
	good := bytes.Repeat([]byte{7}, 64)
	for _, tc := range []struct {
		name  string
		id    mman.RequestID
		ack   []byte
		fails error // of the consumer
		want  error
	}{
		{"bids", mman.RequestID{1}, good, nil, nil},
		{"declines", mman.RequestID{3}, good, nil, mman.ErrNoBid},
		{"is damaged", mman.RequestID{2}, good, nil, mman.ErrInternal},
		{"is not acknowledged", mman.RequestID{1, 1}, nil, mman.ErrBadSignature, mman.ErrBadSignature},
		{"does not take the acknowledgement", mman.RequestID{1, 2}, []byte{1}, nil, mman.ErrBadSignature},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := bids.Invite(t.Context(), consumer, provider.ID(), tc.id, bids.Default(), func(s bids.Sealed) ([]byte, error) {
				require.Equal(t, []byte("digest"), s.Commitment)
				return tc.ack, tc.fails
			})
			d.mu.Lock()
			defer d.mu.Unlock()
			if tc.want != nil {
				require.ErrorIs(t, err, tc.want)
				require.NotContains(t, d.acks, tc.id)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.ack, d.acks[tc.id])
		})
	}
}

// TestLyingPeers: garbage, floods, stalls and vanishing at each step.
func TestLyingPeers(t *testing.T) {
	t.Parallel()
	const kindCommitment, kindEnd = 2, 4
	sealed := bids.Sealed{Commitment: []byte("c"), Key: []byte("k"), Signature: []byte("s")}
	for _, tc := range []struct {
		name string
		act  func(*wire.Conn)
		want error
	}{
		{"garbage", func(c *wire.Conn) { _ = c.Write(kindCommitment, []byte{0xff}) }, mman.ErrProtocol},
		{"empty parts", func(c *wire.Conn) { _ = c.Send(kindCommitment, bids.Sealed{}) }, mman.ErrProtocol},
		{"oversize", func(c *wire.Conn) { _ = c.Write(kindCommitment, make([]byte, 1<<20)) }, mman.ErrTooLarge},
		{"another kind", func(c *wire.Conn) { _ = c.Send(9, sealed) }, mman.ErrProtocol},
		{"hangs up", func(c *wire.Conn) { _ = c.CloseWrite() }, mman.ErrProtocol},
		{"stalls", func(*wire.Conn) {}, mman.ErrTimeout},
		{"hangs up before the end", func(c *wire.Conn) { _ = c.Send(kindCommitment, sealed); _, _ = c.Read(); _ = c.CloseWrite() }, mman.ErrPeerVanished},
		{"full end", func(c *wire.Conn) {
			_ = c.Send(kindCommitment, sealed)
			_, _ = c.Read()
			_ = c.Write(kindEnd, []byte{1})
		}, mman.ErrProtocol},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			consumer, provider := hosts(t)
			provider.Handle(t.Context(), bids.Protocol, func(_ context.Context, s p2p.Stream) {
				c := wire.New(s, wire.Config{MaxRead: 4096, FrameTimeout: 10 * time.Second})
				if _, err := c.Read(); err != nil {
					return
				}
				tc.act(c)
				_, _ = c.Read() // until the consumer is gone
			})
			cfg := bids.Default()
			if errors.Is(tc.want, mman.ErrTimeout) {
				cfg.FrameTimeout = 100 * time.Millisecond
			}
			err := bids.Invite(t.Context(), consumer, provider.ID(), mman.RequestID{1}, cfg, func(bids.Sealed) ([]byte, error) { return []byte("ack"), nil })
			require.ErrorIs(t, err, tc.want)
		})
	}
}

// TestLyingConsumers: a provider takes no acknowledgement out of turn, and none
// that is too long.
func TestLyingConsumers(t *testing.T) {
	t.Parallel()
	const kindInvite, kindAck = 1, 3
	type ack struct {
		Signature []byte `cbor:"signature"`
	}
	type invite struct {
		Request mman.RequestID `cbor:"request"`
	}
	for _, tc := range []struct {
		name string
		act  func(*wire.Conn) error
	}{
		{"no invitation", func(c *wire.Conn) error { return c.Send(kindAck, ack{make([]byte, 64)}) }},
		{"garbage", func(c *wire.Conn) error { return c.Write(kindInvite, []byte{0xff}) }},
		{"long acknowledgement", func(c *wire.Conn) error {
			return errors.Join(c.Send(kindInvite, invite{mman.RequestID{1}}), c.Send(kindAck, ack{make([]byte, 4096)}))
		}},
		{"invites twice", func(c *wire.Conn) error {
			return errors.Join(c.Send(kindInvite, invite{mman.RequestID{1}}), c.Send(kindInvite, invite{mman.RequestID{1}}))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			consumer, provider := hosts(t)
			d := &desk{acks: map[mman.RequestID][]byte{}}
			require.NoError(t, bids.Serve(t.Context(), provider, d, bids.Default()))
			s, err := consumer.Open(t.Context(), provider.ID(), bids.Protocol)
			require.NoError(t, err)
			c := wire.New(s, wire.Config{MaxRead: 4096, IdleTimeout: 10 * time.Second, FrameTimeout: 10 * time.Second})
			require.NoError(t, tc.act(c))
			for err == nil {
				_, err = c.Read()
			}
			require.Error(t, err)
			d.mu.Lock()
			defer d.mu.Unlock()
			require.Empty(t, d.acks)
		})
	}
	require.ErrorIs(t, bids.Serve(t.Context(), nil, nil, bids.Config{}), mman.ErrInvalid)
}

// FuzzSealed: what decodes is whole and encodes back.
func FuzzSealed(f *testing.F) {
	f.Add([]byte{0xa0})
	f.Add([]byte("\xa3ckeyAkisignatureAsjcommitmentAc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := wire.Decode[bids.Sealed](wire.Frame{Kind: 2, Body: b})
		if err == nil && s.Validate() == nil {
			require.NotEmpty(t, s.Commitment)
			require.LessOrEqual(t, len(s.Commitment)+len(s.Key)+len(s.Signature), len(b))
		}
	})
}

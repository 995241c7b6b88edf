package offers_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/p2ptest"
	"github.com/limboid/massive-man/p2p/protocol/offers"
	"github.com/limboid/massive-man/p2p/protocol/wire"
)

type shelf func(offers.Query) ([]offers.Signed, error)

func (s shelf) Offers(_ context.Context, q offers.Query) ([]offers.Signed, error) { return s(q) }

func signed(n int) []offers.Signed {
	out := make([]offers.Signed, n)
	for i := range out {
		out[i] = offers.Signed{Offer: bytes.Repeat([]byte{byte(i)}, offers.MaxOffer), Signature: []byte("sig"), Key: []byte("key")}
	}
	return out
}

func hosts(t *testing.T) (asker, provider *p2p.Host) {
	t.Helper()
	h := p2ptest.New(t, 2)
	p2ptest.Connect(t, h[0], h[1])
	return h[0], h[1]
}

func TestAsk(t *testing.T) {
	t.Parallel()
	wasm := offers.Query{Kind: "algorithm", Facet: "wasm"}
	resource := offers.Query{Resource: mman.SumCID(mman.CodecDagCBOR, []byte("manifest"))}
	asker, provider := hosts(t)
	require.NoError(t, offers.Serve(t.Context(), provider, shelf(func(q offers.Query) ([]offers.Signed, error) {
		switch q {
		case wasm:
			return signed(3), nil
		case resource:
			return signed(offers.MaxOffers + 5), nil
		case offers.Query{Kind: "broken"}:
			return nil, errors.New("secret path")
		case offers.Query{Kind: "damaged"}:
			return []offers.Signed{{Offer: make([]byte, offers.MaxOffer+1)}}, nil
		}
		return nil, nil
	}), offers.Default()))
	for _, tc := range []struct {
		name string
		q    offers.Query
		want []offers.Signed
		err  error
	}{
		{"kind and facet", wasm, signed(3), nil},
		{"resource, cut at the bound", resource, signed(offers.MaxOffers), nil},
		{"nothing", offers.Query{Kind: "dataset"}, nil, nil},
		{"source fails", offers.Query{Kind: "broken"}, nil, mman.ErrBusy},
		{"damaged offer", offers.Query{Kind: "damaged"}, nil, mman.ErrInternal},
		{"empty query", offers.Query{}, nil, mman.ErrInvalid},
		{"facet alone", offers.Query{Facet: "x", Resource: resource.Resource}, nil, mman.ErrInvalid},
		{"both", offers.Query{Kind: "x", Resource: resource.Resource}, nil, mman.ErrInvalid},
		{"long kind", offers.Query{Kind: strings.Repeat("x", 65)}, nil, mman.ErrInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := offers.Ask(t.Context(), asker, provider.ID(), tc.q, offers.Default())
			if tc.err != nil {
				require.ErrorIs(t, err, tc.err)
				require.NotContains(t, err.Error(), "secret")
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
}

func TestLyingProviders(t *testing.T) {
	t.Parallel()
	const kindOffer, kindEnd = 2, 3
	for _, tc := range []struct {
		name string
		act  func(*wire.Conn)
		want error
	}{
		{"endless", func(c *wire.Conn) {
			for _, o := range signed(offers.MaxOffers + 1) {
				if c.Send(kindOffer, o) != nil {
					return
				}
			}
		}, mman.ErrProtocol},
		{"garbage", func(c *wire.Conn) { _ = c.Write(kindOffer, []byte{0xff}) }, mman.ErrProtocol},
		{"empty offer", func(c *wire.Conn) { _ = c.Send(kindOffer, offers.Signed{}) }, mman.ErrProtocol},
		{"oversize", func(c *wire.Conn) { _ = c.Write(kindOffer, make([]byte, 2*offers.MaxOffer)) }, mman.ErrTooLarge},
		{"full end", func(c *wire.Conn) { _ = c.Write(kindEnd, []byte{1}) }, mman.ErrProtocol},
		{"hangs up", func(c *wire.Conn) { _ = c.CloseWrite() }, mman.ErrPeerVanished},
		{"stalls", func(*wire.Conn) {}, mman.ErrTimeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			asker, provider := hosts(t)
			provider.Handle(t.Context(), offers.Protocol, func(_ context.Context, s p2p.Stream) {
				c := wire.New(s, wire.Config{MaxRead: 4096, FrameTimeout: 10 * time.Second})
				if _, err := c.Read(); err != nil {
					return
				}
				tc.act(c)
				_, _ = c.Read() // until the asker is gone
			})
			cfg := offers.Default()
			if errors.Is(tc.want, mman.ErrTimeout) {
				cfg.FrameTimeout = 100 * time.Millisecond
			}
			_, err := offers.Ask(t.Context(), asker, provider.ID(), offers.Query{Kind: "x"}, cfg)
			require.ErrorIs(t, err, tc.want)
		})
	}
}

func TestAskerGivesUp(t *testing.T) {
	t.Parallel()
	asker, provider := hosts(t)
	asked := make(chan struct{})
	provider.Handle(t.Context(), offers.Protocol, func(ctx context.Context, _ p2p.Stream) {
		close(asked)
		<-ctx.Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	_, err := offers.Ask(ctx, asker, provider.ID(), offers.Query{Kind: "x"}, offers.Default())
	require.ErrorIs(t, err, mman.ErrCanceled)
	require.ErrorIs(t, offers.Serve(t.Context(), provider, nil, offers.Config{}), mman.ErrInvalid)
}

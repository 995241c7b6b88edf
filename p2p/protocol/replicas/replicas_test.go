package replicas_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/p2ptest"
	"github.com/limboid/massive-man/p2p/protocol/replicas"
	"github.com/limboid/massive-man/p2p/protocol/wire"
)

// The kinds of frames, as they are on the wire.
const (
	kindAsk    wire.Kind = 1
	kindAnswer wire.Kind = 2
	kindData   wire.Kind = 3
	kindPay    wire.Kind = 4
	kindDone   wire.Kind = 5
)

// shelf is a Keeper with one replica.
type shelf struct {
	mu     sync.Mutex
	data   []byte // what was brought, or is given
	size   uint64
	whole  bool
	price  mman.Amount
	paid   []uint64 // for how many bytes promises came
	closed int
	refuse error
}

func (s *shelf) Take(context.Context, replicas.Ask, mman.PeerID) (replicas.Upload, error) {
	return s, s.refuse
}

func (s *shelf) Give(context.Context, replicas.Ask, mman.PeerID) (replicas.Download, error) {
	return given{s, bytes.NewReader(s.data)}, s.refuse
}

func (s *shelf) Size() uint64 { return s.size }

func (s *shelf) Offset() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.data))
}

func (s *shelf) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = append(s.data, b...)
	return len(b), nil
}

func (s *shelf) Finish(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.whole = true
	return nil
}

func (s *shelf) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	return nil
}

// ends reports how many transfers were closed, and whether one was finished.
func (s *shelf) ends() (closed int, whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed, s.whole
}

type given struct {
	*shelf
	*bytes.Reader
}

func (g given) Size() uint64                            { return g.size }
func (g given) Price() mman.Amount                      { return g.price }
func (g given) ReadAt(p []byte, off int64) (int, error) { return g.Reader.ReadAt(p, off) }

func (g given) Paid(_ context.Context, p replicas.Promise, n uint64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if uint64(p.Amount) < n {
		return mman.ErrUnpaid
	}
	g.paid = append(g.paid, n)
	return nil
}

func config() replicas.Config {
	c := replicas.Default()
	c.FrameTimeout, c.TurnTimeout = time.Minute, time.Minute
	return c
}

// pair is an asker and a holder that serves the shelf.
func pair(t *testing.T, s *shelf, cfg replicas.Config) (asker, holder *p2p.Host) {
	t.Helper()
	hosts := p2ptest.New(t, 2)
	p2ptest.Connect(t, hosts[0], hosts[1])
	require.NoError(t, replicas.Serve(t.Context(), hosts[1], s, cfg))
	return hosts[0], hosts[1]
}

func noise(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // it never fails
	return b
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, time.Minute, 5*time.Millisecond, what)
}

func TestThereAndBack(t *testing.T) {
	t.Parallel()
	data := noise(2*replicas.Window + 12345)
	s := &shelf{size: uint64(len(data)), data: bytes.Clone(data[:replicas.Piece+7]), price: 3}
	asker, holder := pair(t, s, config())
	var told uint64
	require.NoError(t, replicas.Bring(t.Context(), asker, holder.ID(), replicas.Ask{Asker: asker.ID()}, bytes.NewReader(data), s.size, func(n uint64) { told = n }, config()))
	require.True(t, bytes.Equal(data, s.data), "it goes on from what is there")
	require.Equal(t, s.size, told)

	// What follows is paid for in windows before it comes.
	var out bytes.Buffer
	from := uint64(1000)
	w := replicas.Wanted{Ask: replicas.Ask{Asker: asker.ID(), Offset: from}, Size: s.size, MaxPrice: 3, Pay: func(_ mman.Amount, n uint64) (replicas.Promise, error) {
		return replicas.Promise{Amount: mman.Amount(n)}, nil
	}}
	require.NoError(t, replicas.Fetch(t.Context(), asker, holder.ID(), w, &out, config()))
	require.True(t, bytes.Equal(data[from:], out.Bytes()))
	require.Equal(t, []uint64{replicas.Window, 2 * replicas.Window, s.size - from}, s.paid)

	w.MaxPrice = 2
	require.ErrorIs(t, replicas.Fetch(t.Context(), asker, holder.ID(), w, &out, config()), mman.ErrPrice)
	w.MaxPrice, w.Pay = 3, func(mman.Amount, uint64) (replicas.Promise, error) { return replicas.Promise{}, nil }
	require.ErrorIs(t, replicas.Fetch(t.Context(), asker, holder.ID(), w, &out, config()), mman.ErrUnpaid)
	eventually(t, "every transfer is closed", func() bool { closed, _ := s.ends(); return closed == 4 })
}

// TestRefusals: what the keeper says reaches who asked, with its code.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, want := range []*mman.Error{mman.ErrDiskFull, mman.ErrNotYourLease, mman.ErrLeaseState, mman.ErrUnpaid} {
		s := &shelf{size: 9, refuse: want}
		asker, holder := pair(t, s, config())
		a := replicas.Ask{Asker: asker.ID()}
		require.ErrorIs(t, replicas.Bring(t.Context(), asker, holder.ID(), a, bytes.NewReader(noise(9)), 9, nil, config()), want)
		require.ErrorIs(t, replicas.Fetch(t.Context(), asker, holder.ID(), replicas.Wanted{Ask: a, Size: 9}, &bytes.Buffer{}, config()), want)
	}
}

// TestHostileAskers: whatever an asker sends, nothing is finished and its place is free
// again.
func TestHostileAskers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		say  func(c *wire.Conn, me mman.PeerID) error
		want *mman.Error
	}{
		"no ask":       {func(c *wire.Conn, _ mman.PeerID) error { return c.Write(kindData, []byte("data")) }, mman.ErrProtocol},
		"noise":        {func(c *wire.Conn, _ mman.PeerID) error { return c.Write(kindAsk, noise(100)) }, nil},
		"a large ask":  {func(c *wire.Conn, _ mman.PeerID) error { return c.Write(kindAsk, noise(4000)) }, mman.ErrProtocol},
		"another name": {func(c *wire.Conn, _ mman.PeerID) error { return c.Send(kindAsk, replicas.Ask{Verb: replicas.Put}) }, mman.ErrDenied},
		"another verb": {func(c *wire.Conn, me mman.PeerID) error {
			return c.Send(kindAsk, replicas.Ask{Verb: "steal", Asker: me})
		}, mman.ErrProtocol},
		"beyond the end": {func(c *wire.Conn, me mman.PeerID) error {
			return c.Send(kindAsk, replicas.Ask{Verb: replicas.Get, Asker: me, Offset: 1 << 40})
		}, mman.ErrInvalid},
		"more than the replica": {putting(func(c *wire.Conn) error { return c.Write(kindData, noise(1001)) }), mman.ErrProtocol},
		"nothing as data":       {putting(func(c *wire.Conn) error { return c.Write(kindData) }), mman.ErrProtocol},
		"no data":               {putting(func(c *wire.Conn) error { return c.Write(kindPay, noise(10)) }), mman.ErrProtocol},
		"too little":            {putting(func(c *wire.Conn) error { return errors.Join(c.Write(kindData, noise(999)), c.CloseWrite()) }), mman.ErrPeerVanished},
		"an end without data":   {putting(func(c *wire.Conn) error { return c.Write(kindDone) }), mman.ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &shelf{size: 1000}
			cfg := config()
			cfg.MaxStreams, cfg.PeerStreams = 1, 1
			asker, holder := pair(t, s, cfg)
			stream, err := asker.Open(t.Context(), holder.ID(), replicas.Protocol)
			require.NoError(t, err)
			conn := wire.New(stream, wire.Config{MaxRead: replicas.Piece, IdleTimeout: time.Minute, FrameTimeout: time.Minute})
			require.NoError(t, tc.say(conn, asker.ID()))
			_, err = conn.Read()
			for err == nil { // what it was answered before
				_, err = conn.Read()
			}
			if tc.want != nil {
				require.ErrorIs(t, err, tc.want)
			}
			_ = conn.Reset() // it is over
			_, whole := s.ends()
			require.False(t, whole)
			s.mu.Lock()
			s.data = nil
			s.mu.Unlock()
			eventually(t, "the place is free", func() bool {
				err := replicas.Bring(t.Context(), asker, holder.ID(), replicas.Ask{Asker: asker.ID()}, bytes.NewReader(noise(1000)), 1000, nil, cfg)
				if err != nil {
					require.ErrorIs(t, err, mman.ErrBusy)
				}
				return err == nil
			})
		})
	}
}

// putting begins to bring a replica.
func putting(then func(c *wire.Conn) error) func(*wire.Conn, mman.PeerID) error {
	return func(c *wire.Conn, me mman.PeerID) error {
		err := c.Send(kindAsk, replicas.Ask{Verb: replicas.Put, Asker: me})
		if err == nil {
			_, err = c.Read()
		}
		return errors.Join(err, then(c))
	}
}

// TestSlowAsker: one that begins and says nothing more loses its place, and what it
// brought stays for its next try.
func TestSlowAsker(t *testing.T) {
	t.Parallel()
	s := &shelf{size: 1000}
	cfg := config()
	cfg.FrameTimeout, cfg.MaxStreams, cfg.PeerStreams = 200*time.Millisecond, 1, 1
	asker, holder := pair(t, s, cfg)
	stream, err := asker.Open(t.Context(), holder.ID(), replicas.Protocol)
	require.NoError(t, err)
	conn := wire.New(stream, wire.Config{MaxRead: replicas.Piece, IdleTimeout: time.Minute, FrameTimeout: time.Minute})
	require.NoError(t, putting(func(c *wire.Conn) error { return c.Write(kindData, noise(1000)[:400]) })(conn, asker.ID()))
	_, err = conn.Read()
	require.Error(t, err)
	eventually(t, "it is over", func() bool { closed, _ := s.ends(); return closed == 1 })
	require.EqualValues(t, 400, s.Offset())
}

// TestHostileHolders: whatever a holder answers, the asker ends with an error and has
// not more than it asked for.
func TestHostileHolders(t *testing.T) {
	t.Parallel()
	type answer struct {
		Size   uint64      `cbor:"size"`
		Offset uint64      `cbor:"offset"`
		Price  mman.Amount `cbor:"price"`
	}
	whole := answer{Size: 1000}
	for name, tc := range map[string]struct {
		say  func(c *wire.Conn) error
		want *mman.Error
	}{
		"silence":       {func(c *wire.Conn) error { return c.Close() }, nil},
		"noise":         {func(c *wire.Conn) error { return c.Write(kindAnswer, noise(50)) }, nil},
		"another size":  {func(c *wire.Conn) error { return c.Send(kindAnswer, answer{Size: 999}) }, mman.ErrContent},
		"another place": {func(c *wire.Conn) error { return c.Send(kindAnswer, answer{Size: 1000, Offset: 1}) }, mman.ErrContent},
		"a price":       {func(c *wire.Conn) error { return c.Send(kindAnswer, answer{Size: 1000, Price: 1}) }, mman.ErrPrice},
		"data first":    {func(c *wire.Conn) error { return c.Write(kindData, noise(1000)) }, nil},
		"too little":    {func(c *wire.Conn) error { return errors.Join(c.Send(kindAnswer, whole), c.Write(kindData, noise(999))) }, mman.ErrProtocol},
		"too much": {func(c *wire.Conn) error {
			return errors.Join(c.Send(kindAnswer, whole), c.Write(kindData, noise(1001)))
		}, mman.ErrProtocol},
		"an early end": {func(c *wire.Conn) error { return errors.Join(c.Send(kindAnswer, whole), c.Close()) }, mman.ErrPeerVanished},
		"no end": {func(c *wire.Conn) error {
			return errors.Join(c.Send(kindAnswer, whole), c.Write(kindData, noise(1000)), c.Close())
		}, mman.ErrPeerVanished},
		"another end": {func(c *wire.Conn) error {
			return errors.Join(c.Send(kindAnswer, whole), c.Write(kindData, noise(1000)), c.Write(kindPay, []byte("x")))
		}, mman.ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hosts := p2ptest.New(t, 2)
			p2ptest.Connect(t, hosts[0], hosts[1])
			hosts[1].Handle(t.Context(), replicas.Protocol, func(_ context.Context, s p2p.Stream) {
				c := wire.New(s, wire.Config{MaxRead: replicas.Piece, IdleTimeout: time.Minute, FrameTimeout: time.Minute})
				if _, err := c.Read(); err == nil {
					_ = tc.say(c) // the other side may have had enough
				}
			})
			var out bytes.Buffer
			err := replicas.Fetch(t.Context(), hosts[0], hosts[1].ID(), replicas.Wanted{Ask: replicas.Ask{Asker: hosts[0].ID()}, Size: 1000}, &out, config())
			require.Error(t, err)
			if tc.want != nil {
				require.ErrorIs(t, err, tc.want)
			}
			require.LessOrEqual(t, out.Len(), 1000)
		})
	}
}

// TestSlowHolder: an asker does not wait for ever.
func TestSlowHolder(t *testing.T) {
	t.Parallel()
	hosts := p2ptest.New(t, 2)
	p2ptest.Connect(t, hosts[0], hosts[1])
	hosts[1].Handle(t.Context(), replicas.Protocol, func(ctx context.Context, _ p2p.Stream) { <-ctx.Done() })
	cfg := config()
	cfg.FrameTimeout, cfg.TurnTimeout = 200*time.Millisecond, 200*time.Millisecond
	require.Error(t, replicas.Fetch(t.Context(), hosts[0], hosts[1].ID(), replicas.Wanted{Ask: replicas.Ask{Asker: hosts[0].ID()}, Size: 1000}, &bytes.Buffer{}, cfg))
}

func TestValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, replicas.Default().Validate())
	for _, change := range []func(*replicas.Config){
		func(c *replicas.Config) { c.FrameTimeout = 0 },
		func(c *replicas.Config) { c.TurnTimeout = -1 },
		func(c *replicas.Config) { c.MaxStreams = 0 },
		func(c *replicas.Config) { c.PeerStreams = 0 },
		func(c *replicas.Config) { c.Logger = nil },
	} {
		c := replicas.Default()
		change(&c)
		require.ErrorIs(t, c.Validate(), mman.ErrInvalid)
	}
}

// TestAskSigned: a signature holds for the ask that was signed and no other.
func TestAskSigned(t *testing.T) {
	t.Parallel()
	pub, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	a, err := replicas.Ask{Verb: replicas.Get, Replica: 1}.Sign("chain", key)
	require.NoError(t, err)
	require.True(t, a.Verify("chain", pub))
	require.False(t, a.Verify("another", pub))
	require.False(t, a.Verify("chain", pub[1:]))
	again, err := a.Sign("chain", key)
	require.NoError(t, err)
	require.NotEqual(t, a.Nonce, again.Nonce, "each ask is its own")
	a.Offset++
	require.False(t, a.Verify("chain", pub))
}

// FuzzAsk: what is read as an ask has one encoding.
func FuzzAsk(f *testing.F) {
	seed, err := dagcbor.Marshal(replicas.Ask{Verb: replicas.Put, Replica: 3, Signature: []byte("s")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(seed[:len(seed)-1])
	f.Add([]byte{0xa1, 0x60, 0x60})
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := wire.Decode[replicas.Ask](wire.Frame{Kind: kindAsk, Body: raw})
		if err != nil {
			return
		}
		again, err := dagcbor.Marshal(a)
		require.NoError(t, err)
		require.Equal(t, raw, again)
	})
}

package blocks_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/p2ptest"
	"github.com/limboid/massive-man/p2p/protocol/blocks"
	"github.com/limboid/massive-man/p2p/protocol/wire"
)

const unlimited = 1 << 40

// desk is an Authorizer with one lease.
type desk struct {
	lease mman.LeaseID
	key   ed25519.PublicKey
	grant blocks.Grant
	// When set, an answer says that it waits, and waits.
	waits, hold chan struct{}
}

func (d *desk) Authorize(ctx context.Context, r blocks.Request, remote mman.PeerID) (blocks.Grant, error) {
	if d.hold != nil {
		d.waits <- struct{}{}
		select {
		case <-d.hold:
		case <-ctx.Done():
		}
	}
	switch {
	case r.Lease != d.lease || r.Asker != remote:
		return blocks.Grant{}, mman.ErrNotYourLease
	case !r.Verify(p2ptest.NetworkID, d.key):
		return blocks.Grant{}, mman.ErrBadSignature
	case r.Root == d.grant.Root, len(d.grant.Salt) == blocks.SaltSize && r.Name == blocks.Name([blocks.SaltSize]byte(d.grant.Salt), d.grant.Root):
		return d.grant, nil
	}
	g := d.grant
	g.Root = r.Root // allowed, and perhaps not there
	return g, nil
}

type scene struct {
	asker, holder *p2p.Host
	desk          *desk
	key           ed25519.PrivateKey
	data          []byte
	into          *content.PrivateStore
}

func config() blocks.Config {
	cfg := blocks.Default()
	cfg.FrameTimeout = 10 * time.Second
	return cfg
}

func setUp(t *testing.T, size int) *scene {
	t.Helper()
	hosts := p2ptest.New(t, 2)
	p2ptest.Connect(t, hosts[0], hosts[1])
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	s := &scene{asker: hosts[0], holder: hosts[1], key: key, data: make([]byte, size), into: content.NewPrivateStore(content.Memory())}
	_, err = rand.Read(s.data)
	require.NoError(t, err)
	store := content.NewPrivateStore(content.Memory())
	root, _, err := content.AddTo(t.Context(), store, bytes.NewReader(s.data))
	require.NoError(t, err)
	s.desk = &desk{lease: mman.LeaseID{7}, key: pub, grant: blocks.Grant{Store: store, Root: root, Salt: bytes.Repeat([]byte{9}, blocks.SaltSize)}}
	return s
}

func (s *scene) request(t *testing.T, change ...func(*blocks.Request)) blocks.Request {
	t.Helper()
	r := blocks.Request{Lease: s.desk.lease, Asker: s.asker.ID(), Root: s.desk.grant.Root}
	for _, f := range change {
		f(&r)
	}
	r, err := r.Sign(p2ptest.NetworkID, s.key)
	require.NoError(t, err)
	return r
}

func (s *scene) fetch(t *testing.T, r blocks.Request, maxBytes uint64) (blocks.Result, error) {
	t.Helper()
	return blocks.Fetch(t.Context(), s.asker, s.job(r, maxBytes), config())
}

func (s *scene) job(r blocks.Request, maxBytes uint64) blocks.Job {
	return blocks.Job{Sources: []blocks.Source{{Peer: s.holder.ID(), Request: r}}, Into: s.into, MaxBytes: maxBytes}
}

func TestFetch(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"empty": 0, "one block": 1000, "many blocks": 20<<20 + 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setUp(t, size)
			require.NoError(t, blocks.Serve(t.Context(), s.holder, s.desk, config()))
			begin := time.Now()
			got, err := s.fetch(t, s.request(t), uint64(size))
			require.NoError(t, err)
			t.Logf("%d bytes in %s", size, time.Since(begin))
			require.Equal(t, s.desk.grant.Root, got.Root)
			require.Equal(t, s.desk.grant.Salt, got.Salt)
			require.Equal(t, uint64(size), got.Size)
			require.GreaterOrEqual(t, got.Received, got.Size)
			f, err := content.OpenFrom(t.Context(), s.into, got.Root, unlimited)
			require.NoError(t, err)
			data, err := io.ReadAll(f)
			require.NoError(t, err)
			require.True(t, bytes.Equal(s.data, data))
			require.NoError(t, f.Close())

			byName := s.request(t, func(r *blocks.Request) {
				r.Root, r.Name = mman.CID{}, blocks.Name([blocks.SaltSize]byte(s.desk.grant.Salt), s.desk.grant.Root)
			})
			again, err := s.fetch(t, byName, uint64(size))
			require.NoError(t, err)
			require.Equal(t, got.Root, again.Root)
			require.LessOrEqual(t, again.Received, uint64(2000), "only the root comes again")
		})
	}
}

func TestRefusalLooksLikeMissing(t *testing.T) {
	t.Parallel()
	s := setUp(t, 1000)
	require.NoError(t, blocks.Serve(t.Context(), s.holder, s.desk, config()))
	_, missing := s.fetch(t, s.request(t, func(r *blocks.Request) { r.Root = mman.SumCID(mman.CodecRaw, []byte("missing")) }), unlimited)
	require.ErrorIs(t, missing, mman.ErrNotFound)
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	for name, r := range map[string]blocks.Request{
		"other lease": s.request(t, func(r *blocks.Request) { r.Lease = mman.LeaseID{8} }),
		"other asker": s.request(t, func(r *blocks.Request) { r.Asker = s.holder.ID() }),
		"other name":  s.request(t, func(r *blocks.Request) { r.Root, r.Name = mman.CID{}, mman.Hash{1} }),
		"other key": func() blocks.Request {
			r, err := s.request(t).Sign(p2ptest.NetworkID, stranger)
			require.NoError(t, err)
			return r
		}(),
		"other chain": func() blocks.Request {
			r, err := s.request(t).Sign("other", s.key)
			require.NoError(t, err)
			return r
		}(),
	} {
		_, err := s.fetch(t, r, unlimited)
		require.ErrorIs(t, err, mman.ErrNotFound, name)
		if name != "other lease" { // its text names the lease that was asked for
			require.Equal(t, missing.Error(), err.Error(), name)
		}
	}
	_, err = s.fetch(t, blocks.Request{}, unlimited)
	require.ErrorIs(t, err, mman.ErrInvalid)
	_, err = blocks.Fetch(t.Context(), s.asker, blocks.Job{Into: s.into}, config())
	require.ErrorIs(t, err, mman.ErrInvalid)
}

func TestOversizeIsRefusedBeforeItsBlocks(t *testing.T) {
	t.Parallel()
	s := setUp(t, 3<<20)
	require.NoError(t, blocks.Serve(t.Context(), s.holder, s.desk, config()))
	_, err := s.fetch(t, s.request(t), 3<<20-1)
	require.ErrorIs(t, err, mman.ErrTooLarge)
	has, err := s.into.Has(t.Context(), s.desk.grant.Root)
	require.NoError(t, err)
	require.False(t, has)
}

func TestIncompleteContent(t *testing.T) {
	t.Parallel()
	s := setUp(t, 3<<20)
	store, ok := s.desk.grant.Store.(*content.PrivateStore)
	require.True(t, ok)
	data, err := store.Get(t.Context(), s.desk.grant.Root)
	require.NoError(t, err)
	node, err := content.ParseNode(data)
	require.NoError(t, err)
	require.NoError(t, store.Delete(t.Context(), node.Children[1].CID))
	require.NoError(t, blocks.Serve(t.Context(), s.holder, s.desk, config()))
	_, err = s.fetch(t, s.request(t), unlimited)
	require.ErrorIs(t, err, mman.ErrNotFound)
}

func TestBusyHolder(t *testing.T) {
	t.Parallel()
	s := setUp(t, 10)
	s.desk.waits, s.desk.hold = make(chan struct{}, 1), make(chan struct{})
	cfg := config()
	cfg.MaxAnswers = 1
	require.NoError(t, blocks.Serve(t.Context(), s.holder, s.desk, cfg))
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	r := s.request(t)
	go func() {
		_, err := blocks.Fetch(ctx, s.asker, s.job(r, unlimited), config())
		first <- err
	}()
	<-s.desk.waits
	_, err := s.fetch(t, r, unlimited)
	require.ErrorIs(t, err, mman.ErrBusy)

	patient, waits := config(), 0
	patient.Patience, patient.After = time.Hour, func(time.Duration) <-chan time.Time {
		if waits++; waits == 3 {
			cancel()
			if err := <-first; !errors.Is(err, mman.ErrCanceled) {
				t.Error(err)
			}
			close(s.desk.hold)
		}
		return time.After(time.Millisecond)
	}
	got, err := blocks.Fetch(t.Context(), s.asker, s.job(r, unlimited), patient)
	require.NoError(t, err, "who may wait comes in when there is a place")
	require.NotZero(t, got.Received)
	require.GreaterOrEqual(t, waits, 3)
}

type head struct {
	Root mman.CID `cbor:"root"`
	Salt []byte   `cbor:"salt"`
	Size uint64   `cbor:"size"`
}

// TestLyingHolders scripts a holder frame by frame.
func TestLyingHolders(t *testing.T) {
	t.Parallel()
	const kindHeader, kindBlock, kindMissing = 2, 3, 5
	type holder struct {
		c     *wire.Conn
		root  mman.CID
		first []byte
		leafs [][]byte
		size  uint64
	}
	begin := func(h holder) { _ = h.c.Send(kindHeader, head{h.root, nil, h.size}) }
	for _, tc := range []struct {
		name string
		want error
		act  func(holder)
	}{
		{"other root", mman.ErrContent, func(h holder) {
			_ = h.c.Send(kindHeader, head{mman.SumCID(mman.CodecRaw, nil), nil, h.size})
		}},
		{"bad salt", mman.ErrProtocol, func(h holder) { _ = h.c.Send(kindHeader, head{h.root, []byte{1}, h.size}) }},
		{"no header", mman.ErrProtocol, func(h holder) { _ = h.c.Write(kindBlock, h.first) }},
		{"garbage header", mman.ErrProtocol, func(h holder) { _ = h.c.Write(kindHeader, []byte{0xff}) }},
		{"other size", mman.ErrContent, func(h holder) {
			_ = h.c.Send(kindHeader, head{h.root, nil, h.size - 1})
			_ = h.c.Write(kindBlock, h.first)
		}},
		{"corrupted block", mman.ErrContent, func(h holder) {
			begin(h)
			_ = h.c.Write(kindBlock, h.first)
			bad := bytes.Clone(h.leafs[0])
			bad[5] ^= 1
			_ = h.c.Write(kindBlock, bad)
		}},
		{"wrong order", mman.ErrContent, func(h holder) {
			begin(h)
			_ = h.c.Write(kindBlock, h.first)
			_ = h.c.Write(kindBlock, h.leafs[1])
		}},
		{"other kind", mman.ErrProtocol, func(h holder) {
			begin(h)
			_ = h.c.Write(kindBlock, h.first)
			_ = h.c.Write(77)
		}},
		{"lost some", mman.ErrNotFound, func(h holder) {
			begin(h)
			_ = h.c.Write(kindBlock, h.first)
			_ = h.c.Write(kindBlock, h.leafs[0])
			_ = h.c.Write(kindMissing)
		}},
		{"hangs up", mman.ErrPeerVanished, func(h holder) {
			begin(h)
			_ = h.c.CloseWrite()
		}},
		{"resets", mman.ErrPeerVanished, func(h holder) {
			begin(h)
			_ = h.c.Reset()
		}},
		{"oversize block", mman.ErrTooLarge, func(h holder) {
			begin(h)
			_ = h.c.Write(kindBlock, make([]byte, content.MaxBlock+1))
		}},
		{"stalls", mman.ErrTimeout, begin},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := setUp(t, 2<<20)
			store := s.desk.grant.Store
			first, err := store.Get(t.Context(), s.desk.grant.Root)
			require.NoError(t, err)
			node, err := content.ParseNode(first)
			require.NoError(t, err)
			var leafs [][]byte
			for _, child := range node.Children {
				data, err := store.Get(t.Context(), child.CID)
				require.NoError(t, err)
				leafs = append(leafs, data.Data())
			}
			s.holder.Handle(t.Context(), blocks.Protocol, func(_ context.Context, stream p2p.Stream) {
				c := wire.New(stream, wire.Config{MaxRead: 4096, FrameTimeout: 10 * time.Second})
				if _, err := c.Read(); err != nil {
					return
				}
				tc.act(holder{c, s.desk.grant.Root, first.Data(), leafs, node.Size})
				_, _ = c.Read() // until the asker is gone
			})
			cfg := config()
			if errors.Is(tc.want, mman.ErrTimeout) {
				cfg.FrameTimeout = 100 * time.Millisecond
			}
			_, err = blocks.Fetch(t.Context(), s.asker, s.job(s.request(t), unlimited), cfg)
			require.ErrorIs(t, err, tc.want)
			has, err := s.into.Has(t.Context(), s.desk.grant.Root)
			require.NoError(t, err)
			require.False(t, has, "the root stands for the whole file")
		})
	}
}

func TestGarbageRequests(t *testing.T) {
	t.Parallel()
	s := setUp(t, 10)
	require.NoError(t, blocks.Serve(t.Context(), s.holder, s.desk, config()))
	for name, raw := range map[string][]byte{
		"garbage":  {5, 1, 2, 3, 4, 5},
		"oversize": {0xff, 0x7f, 1},
		"kind":     {1, 9},
	} {
		stream, err := s.asker.Open(t.Context(), s.holder.ID(), blocks.Protocol)
		require.NoError(t, err, name)
		_, err = stream.Write(raw)
		require.NoError(t, err, name)
		_, err = io.ReadAll(stream)
		require.ErrorIs(t, err, mman.ErrPeerVanished, name)
	}
}

func TestRequestEncoding(t *testing.T) {
	t.Parallel()
	r := blocks.Request{Lease: mman.LeaseID{1}, Root: mman.SumCID(mman.CodecRaw, nil), Signature: make([]byte, 64)}
	b, err := dagcbor.Marshal(r)
	require.NoError(t, err)
	got, err := dagcbor.Unmarshal[blocks.Request](b, 1024)
	require.NoError(t, err)
	require.Equal(t, r, got)
	require.NoError(t, r.Validate())
	r.Name = mman.Hash{1}
	require.ErrorIs(t, r.Validate(), mman.ErrInvalid)
	require.False(t, r.Verify("x", nil))
	require.ErrorIs(t, blocks.Config{}.Validate(), mman.ErrInvalid)
	require.ErrorIs(t, blocks.Serve(t.Context(), p2ptest.Start(t, 0), &desk{}, blocks.Config{}), mman.ErrInvalid)
}

// paired is a store whose first block comes only when the second one is asked for.
type paired struct {
	content.Reader

	calls  atomic.Int64
	second chan struct{}
}

func (p *paired) Unchecked(ctx context.Context, c mman.CID) ([]byte, error) {
	switch p.calls.Add(1) {
	case 1:
		select {
		case <-p.second:
		case <-time.After(time.Minute):
			return nil, fmt.Errorf("%w: nobody asks for the next block", mman.ErrTimeout)
		}
	case 2:
		close(p.second)
	}
	return p.Reader.Unchecked(ctx, c)
}

// TestReadsAhead: a holder reads a block while it has the one before it in its hands.
func TestReadsAhead(t *testing.T) {
	t.Parallel()
	s := setUp(t, 5<<20)
	s.desk.grant.Store = &paired{Reader: s.desk.grant.Store, second: make(chan struct{})}
	require.NoError(t, blocks.Serve(t.Context(), s.holder, s.desk, config()))
	got, err := s.fetch(t, s.request(t), 5<<20)
	require.NoError(t, err)
	require.Equal(t, uint64(5<<20), got.Size)
}

// lending is a store that counts the blocks that are in somebody's hands.
type lending struct {
	content.Reader

	mu        sync.Mutex
	now, most int
}

func (l *lending) Lend(ctx context.Context, c mman.CID, use func(data []byte) error) error {
	data, err := l.Unchecked(ctx, c)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.now++
	l.most = max(l.most, l.now)
	l.mu.Unlock()
	err = use(data)
	l.mu.Lock()
	l.now--
	l.mu.Unlock()
	return err
}

func (l *lending) lent() (now, most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now, l.most
}

// TestALeaseEndsInTheMiddle: blocks that were read ahead do not leave when a lease has
// ended, and are given back.
func TestALeaseEndsInTheMiddle(t *testing.T) {
	t.Parallel()
	s := setUp(t, 10<<20)
	store := &lending{Reader: s.desk.grant.Store}
	s.desk.grant.Store = store
	const allowed = 5
	var asked atomic.Int64
	s.desk.grant.Still = func() error {
		if asked.Add(1) > allowed {
			return fmt.Errorf("%w: the lease has ended", mman.ErrDenied)
		}
		return nil
	}
	sent := make(chan uint64, 1)
	s.desk.grant.Over = func(n uint64) { sent <- n }
	require.NoError(t, blocks.Serve(t.Context(), s.holder, s.desk, config()))
	first, err := store.Get(t.Context(), s.desk.grant.Root)
	require.NoError(t, err)
	node, err := content.ParseNode(first)
	require.NoError(t, err)
	want := uint64(len(first.Data()))
	for _, child := range node.Children[:allowed] {
		data, err := store.Unchecked(t.Context(), child.CID)
		require.NoError(t, err)
		want += uint64(len(data))
	}
	for range 20 { // more often than blocks are read ahead for all streams together
		asked.Store(0)
		s.into = content.NewPrivateStore(content.Memory())
		_, err := s.fetch(t, s.request(t), unlimited)
		require.ErrorIs(t, err, mman.ErrNotFound, "as if the block were not there")
		require.Equal(t, want, <-sent)
	}
	now, most := store.lent()
	require.Zero(t, now)
	require.Equal(t, 2, most, "one is sent, the next one is read")
}

// TestWhoStopsToReadHoldsLittle: peers that ask for much and read nothing have one block
// each, and a few together that were read ahead.
func TestWhoStopsToReadHoldsLittle(t *testing.T) {
	t.Parallel()
	const streams, turns = 8, 1
	s := setUp(t, 20<<20)
	store := &lending{Reader: s.desk.grant.Store}
	s.desk.grant.Store = store
	cfg := config()
	cfg.PeerAnswers, cfg.Turns, cfg.After = streams, turns, time.After
	require.NoError(t, blocks.Serve(t.Context(), s.holder, s.desk, cfg))
	const kindRequest, kindHeader, kindWant = 1, 2, 4
	for range streams {
		stream, err := s.asker.Open(t.Context(), s.holder.ID(), blocks.Protocol)
		require.NoError(t, err)
		c := wire.New(stream, wire.Config{MaxRead: content.MaxBlock, FrameTimeout: 10 * time.Second})
		require.NoError(t, c.Send(kindRequest, s.request(t)))
		frame, err := c.Read()
		require.NoError(t, err)
		require.Equal(t, wire.Kind(kindHeader), frame.Kind)
		require.NoError(t, c.Send(kindWant, wanted{Path: []uint32{}, To: 20}))
	}
	require.Eventually(t, func() bool { now, _ := store.lent(); return now >= streams }, 5*time.Second, 10*time.Millisecond)
	require.Never(t, func() bool { _, most := store.lent(); return most > streams+4*turns }, 500*time.Millisecond, 10*time.Millisecond)
}

type wanted struct {
	Path []uint32 `cbor:"path"`
	From uint32   `cbor:"from"`
	To   uint32   `cbor:"to"`
}

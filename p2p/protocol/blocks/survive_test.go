package blocks_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	goblocks "github.com/ipfs/go-block-format"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/p2ptest"
	"github.com/limboid/massive-man/p2p/protocol/blocks"
)

// open is an Authorizer of public content.
type open struct{ store content.Reader }

func (o open) Authorize(_ context.Context, r blocks.Request, remote mman.PeerID) (blocks.Grant, error) {
	if !r.IsPublic() || r.Asker != remote {
		return blocks.Grant{}, mman.ErrNotYourLease
	}
	return blocks.Grant{Store: o.store, Root: r.Root}, nil
}

// gate is a store that lets so many blocks out and then calls shut once, before
// the next.
type gate struct {
	content.Reader
	left atomic.Int64
	once sync.Once
	shut func()
}

func (g *gate) Unchecked(ctx context.Context, c mman.CID) ([]byte, error) {
	if g.left.Add(-1) < 0 {
		g.once.Do(g.shut)
	}
	return g.Reader.Unchecked(ctx, c)
}

// liar sends a wrong block after so many right ones.
type liar struct {
	content.Reader
	left atomic.Int64
}

func (l *liar) Unchecked(ctx context.Context, c mman.CID) ([]byte, error) {
	data, err := l.Reader.Unchecked(ctx, c)
	if l.left.Add(-1) < 0 {
		data = bytes.Clone(data)
		data[len(data)/2] ^= 1
	}
	return data, err
}

// crowd is one file at several holders, and an asker that knows them all.
type crowd struct {
	asker   *p2p.Host
	holders []*p2p.Host
	data    []byte
	root    mman.CID
	stores  []content.Reader
	into    *content.PublicStore
}

func gather(t *testing.T, holders, size int) *crowd {
	t.Helper()
	hosts := p2ptest.New(t, holders+1)
	c := &crowd{asker: hosts[0], holders: hosts[1:], data: make([]byte, size), into: content.NewPublicStore(content.Memory())}
	for i := range c.data {
		c.data[i] = byte(i>>20) ^ byte(i>>8) ^ byte(i)
	}
	for _, h := range c.holders {
		p2ptest.Connect(t, c.asker, h)
		store := content.NewPrivateStore(content.Memory())
		root, _, err := content.AddTo(t.Context(), store, bytes.NewReader(c.data))
		require.NoError(t, err)
		c.root = root
		c.stores = append(c.stores, store)
	}
	return c
}

func (c *crowd) serve(t *testing.T, i int, store content.Reader, cfg blocks.Config) {
	t.Helper()
	require.NoError(t, blocks.Serve(t.Context(), c.holders[i], open{store}, cfg))
}

func (c *crowd) job() blocks.Job {
	j := blocks.Job{Into: c.into, MaxBytes: unlimited}
	for _, h := range c.holders {
		j.Sources = append(j.Sources, blocks.Source{Peer: h.ID(), Request: blocks.Public(c.asker.ID(), c.root)})
	}
	return j
}

func (c *crowd) check(t *testing.T) {
	t.Helper()
	f, err := content.OpenFrom(t.Context(), c.into, c.root, unlimited)
	require.NoError(t, err)
	got, err := io.ReadAll(f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.True(t, bytes.Equal(c.data, got))
}

func (c *crowd) whole(t *testing.T) bool {
	t.Helper()
	has, err := c.into.Has(t.Context(), c.root)
	require.NoError(t, err)
	return has
}

func TestSeveralSourcesShareTheWork(t *testing.T) {
	t.Parallel()
	c := gather(t, 3, 48<<20)
	counted := make([]*gate, 3)
	for i := range c.holders {
		counted[i] = &gate{Reader: c.stores[i], shut: func() {}}
		counted[i].left.Store(1 << 40)
		c.serve(t, i, counted[i], config())
	}
	var last content.Progress
	left := 0
	job := c.job()
	job.Progress = func(p content.Progress) {
		require.GreaterOrEqual(t, p.Done, last.Done)
		if last = p; p.Left > 0 {
			require.Positive(t, p.Rate)
			require.Less(t, p.Done, p.Total)
			left++
		}
	}
	cfg := config()
	cfg.Window = 1 << 20
	now := time.Unix(0, 0)
	cfg.Now = func() time.Time { now = now.Add(100 * time.Millisecond); return now } // called under a lock
	got, err := blocks.Fetch(t.Context(), c.asker, job, cfg)
	require.NoError(t, err)
	require.Empty(t, got.Dropped)
	require.LessOrEqual(t, got.Received, uint64(50<<20))
	c.check(t)
	for i, g := range counted {
		require.Less(t, g.left.Load(), int64(1<<40), "source %d sent nothing", i)
	}
	require.Equal(t, uint64(48<<20), last.Total)
	require.Equal(t, last.Total, last.Done)
	require.Positive(t, last.Rate)
	require.Zero(t, last.Left)
	require.Positive(t, left, "on its way it said how long the rest takes")
}

func TestAnotherFinishesWhenAProviderDies(t *testing.T) {
	t.Parallel()
	c := gather(t, 2, 24<<20)
	// The first has the asker for itself until half is there, and dies.
	half := make(chan struct{})
	dying := &gate{Reader: c.stores[0], shut: func() {
		close(half)
		require.NoError(t, c.holders[0].Libp2p().Close())
	}}
	dying.left.Store(12)
	c.serve(t, 0, dying, config())
	c.serve(t, 1, held{c.stores[1], half}, config())
	got, err := blocks.Fetch(t.Context(), c.asker, c.job(), config())
	require.NoError(t, err)
	require.Equal(t, []mman.PeerID{c.holders[0].ID()}, got.Dropped)
	c.check(t)
}

// held gives its root at once and nothing more before begin.
type held struct {
	content.Reader
	begin <-chan struct{}
}

func (h held) Unchecked(ctx context.Context, c mman.CID) ([]byte, error) {
	select {
	case <-h.begin:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return h.Reader.Unchecked(ctx, c)
}

func TestALiarIsDropped(t *testing.T) {
	t.Parallel()
	t.Run("others finish", func(t *testing.T) {
		t.Parallel()
		c := gather(t, 2, 16<<20)
		bad := &liar{Reader: c.stores[0]}
		c.serve(t, 0, bad, config())
		// The honest one sends nothing before the lie was found.
		found := make(chan struct{})
		find := sync.OnceFunc(func() { close(found) })
		c.serve(t, 1, held{c.stores[1], found}, config())
		cfg, now := config(), time.Now()
		cfg.Liars = blocks.NewLiars(func() time.Time {
			find()
			return now
		})
		got, err := blocks.Fetch(t.Context(), c.asker, c.job(), cfg)
		require.NoError(t, err)
		require.Equal(t, []mman.PeerID{c.holders[0].ID()}, got.Dropped)
		c.check(t)

		// Another transfer does not ask it.
		left := bad.left.Load()
		c.into = content.NewPublicStore(content.Memory())
		got, err = blocks.Fetch(t.Context(), c.asker, c.job(), cfg)
		require.NoError(t, err)
		require.Equal(t, []mman.PeerID{c.holders[0].ID()}, got.Dropped)
		require.Equal(t, left, bad.left.Load())
		job := c.job()
		job.Sources = job.Sources[:1]
		_, err = blocks.Fetch(t.Context(), c.asker, job, cfg)
		require.ErrorIs(t, err, mman.ErrContent)
		require.False(t, cfg.Liars.Has(c.holders[1].ID()))
		now = now.Add(24 * time.Hour)
		require.False(t, cfg.Liars.Has(c.holders[0].ID()), "a day later it may have mended its disk")
	})
	t.Run("alone", func(t *testing.T) {
		t.Parallel()
		c := gather(t, 1, 16<<20)
		bad := &liar{Reader: c.stores[0]}
		bad.left.Store(5)
		c.serve(t, 0, bad, config())
		cfg := config()
		cfg.Patience, cfg.After = time.Hour, func(time.Duration) <-chan time.Time {
			t.Error("nobody waits for a liar")
			return nil
		}
		_, err := blocks.Fetch(t.Context(), c.asker, c.job(), cfg)
		require.ErrorIs(t, err, mman.ErrContent)
		require.False(t, c.whole(t))
	})
}

// TestACutIsWaitedOut cuts the connection in the middle, for 30 s of the
// asker's clock.
func TestACutIsWaitedOut(t *testing.T) {
	t.Parallel()
	c := gather(t, 1, 24<<20)
	addrs := c.holders[0].Addrs()
	cut := &gate{Reader: c.stores[0]}
	away := make(chan struct{})
	cut.shut = func() {
		close(away)
		require.NoError(t, c.asker.Disconnect(c.holders[0].ID()))
	}
	cut.left.Store(10)
	life, leave := context.WithCancel(t.Context())
	require.NoError(t, blocks.Serve(life, c.holders[0], open{cut}, config()))
	cfg := config()
	var waited time.Duration
	cfg.Patience = time.Minute
	cfg.After = func(d time.Duration) <-chan time.Time {
		<-away
		leave() // nothing answers
		if waited += d; waited >= 30*time.Second {
			assertNoError(t, blocks.Serve(t.Context(), c.holders[0], open{c.stores[0]}, config()))
			_, err := c.asker.Connect(t.Context(), addrs)
			assertNoError(t, err)
		}
		now := make(chan time.Time, 1)
		now <- time.Time{}
		return now
	}
	got, err := blocks.Fetch(t.Context(), c.asker, c.job(), cfg)
	require.NoError(t, err)
	require.GreaterOrEqual(t, waited, 30*time.Second)
	require.LessOrEqual(t, got.Received, uint64(25<<20), "what came before the cut is not fetched again")
	c.check(t)
}

func assertNoError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	c := gather(t, 1, 8<<20)
	dying := &gate{Reader: c.stores[0], shut: func() { require.NoError(t, c.holders[0].Libp2p().Close()) }}
	dying.left.Store(3)
	c.serve(t, 0, dying, config())
	cfg := config()
	var waited time.Duration
	cfg.Patience, cfg.After = time.Minute, func(d time.Duration) <-chan time.Time {
		waited += d
		now := make(chan time.Time, 1)
		now <- time.Time{}
		return now
	}
	_, err := blocks.Fetch(t.Context(), c.asker, c.job(), cfg)
	require.Error(t, err)
	require.Contains(t, []*mman.Error{mman.ErrPeerVanished, mman.ErrUnreachable}, codeOf(err))
	require.InDelta(t, time.Minute.Seconds(), waited.Seconds(), 6)
	require.False(t, c.whole(t))
}

func codeOf(err error) *mman.Error {
	e, _ := errors.AsType[*mman.Error](err)
	return e
}

// full is a disk with room for so many blocks.
type full struct {
	content.Blockstore
	room int
}

func (f *full) PutMany(ctx context.Context, list []goblocks.Block) error {
	if f.room -= len(list); f.room < 0 {
		return syscall.ENOSPC
	}
	return f.Blockstore.PutMany(ctx, list)
}

func TestAFullDisk(t *testing.T) {
	t.Parallel()
	c := gather(t, 2, 32<<20)
	for i := range c.holders {
		c.serve(t, i, c.stores[i], config())
	}
	disk := &full{content.Memory(), 20}
	c.into = content.NewPublicStore(disk)
	_, err := blocks.Fetch(t.Context(), c.asker, c.job(), config())
	require.ErrorIs(t, err, mman.ErrDiskFull)
	require.False(t, c.whole(t), "nothing is half published")

	// With room it goes on from where it was.
	disk.room = 100
	got, err := blocks.Fetch(t.Context(), c.asker, c.job(), config())
	require.NoError(t, err)
	require.Less(t, got.Received, uint64(20<<20))
	c.check(t)
}

func TestTwoHundredFetchers(t *testing.T) {
	t.Parallel()
	const fetchers = 200
	holder := p2ptest.Start(t, 0, func(_ int, cfg *p2p.Config) { cfg.Limits.LowConns, cfg.Limits.HighConns = 400, 500 })
	store := content.NewPrivateStore(content.Memory())
	data := bytes.Repeat([]byte("two hundred "), 3<<20/12+5)
	root, _, err := content.AddTo(t.Context(), store, bytes.NewReader(data))
	require.NoError(t, err)
	require.NoError(t, blocks.Serve(t.Context(), holder, open{store}, config()))
	// They connect a few at a time, and fetch all at once.
	hosts := make([]*p2p.Host, fetchers)
	for i := range hosts {
		cfg := p2p.Client()
		cfg.NetworkID, cfg.Now, cfg.PrivateKey = p2ptest.NetworkID, time.Now, p2ptest.Key(i+1)
		cfg.Limits.DialTimeout = time.Minute
		hosts[i], err = p2p.New(cfg)
		require.NoError(t, err)
		p2ptest.Closing(t, hosts[i])
	}
	var connecting errgroup.Group
	connecting.SetLimit(16)
	for _, h := range hosts {
		connecting.Go(func() error {
			_, err := h.Connect(t.Context(), holder.Addrs()[:1])
			return err
		})
	}
	require.NoError(t, connecting.Wait())
	var fetching errgroup.Group
	for _, h := range hosts {
		fetching.Go(func() error {
			into := content.NewPublicStore(content.Memory())
			job := blocks.Job{Sources: []blocks.Source{{Peer: holder.ID(), Request: blocks.Public(h.ID(), root)}}, Into: into, MaxBytes: unlimited}
			cfg := config()
			cfg.FrameTimeout = time.Minute
			got, err := blocks.Fetch(t.Context(), h, job, cfg)
			if err == nil && got.Size != uint64(len(data)) {
				err = mman.ErrContent
			}
			return err
		})
	}
	require.NoError(t, fetching.Wait())
}

// TestPeersTakeTurns has one peer ask with four streams and another with one,
// where blocks are read one at a time: the second is not four times behind.
func TestPeersTakeTurns(t *testing.T) {
	t.Parallel()
	const size = 12 << 20
	hosts := p2ptest.New(t, 3)
	holder, greedy, modest := hosts[0], hosts[1], hosts[2]
	p2ptest.Connect(t, greedy, holder)
	p2ptest.Connect(t, modest, holder)
	store := content.NewPrivateStore(content.Memory())
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i >> 20)
	}
	root, _, err := content.AddTo(t.Context(), store, bytes.NewReader(data))
	require.NoError(t, err)
	desk := &pace{Reader: store, begin: make(chan struct{}), served: make(map[mman.PeerID]int)}
	cfg := config()
	cfg.Turns = 1
	require.NoError(t, blocks.Serve(t.Context(), holder, desk, cfg))
	var fetching sync.WaitGroup
	fetch := func(h *p2p.Host) {
		fetching.Go(func() {
			into := content.NewPublicStore(content.Memory())
			job := blocks.Job{Sources: []blocks.Source{{Peer: holder.ID(), Request: blocks.Public(h.ID(), root)}}, Into: into, MaxBytes: unlimited}
			_, err := blocks.Fetch(t.Context(), h, job, config())
			assertNoError(t, err)
		})
	}
	for range 4 {
		fetch(greedy)
	}
	fetch(modest)
	require.Eventually(t, func() bool { return desk.waiting.Load() == 5 }, 20*time.Second, time.Millisecond)
	close(desk.begin)
	fetching.Wait()
	require.LessOrEqual(t, desk.behind, 24, "of 48 blocks of the greedy peer, those sent before the modest one had all its 12")
}

// pace counts which peer's blocks are read.
type pace struct {
	content.Reader
	begin   chan struct{}
	waiting atomic.Int64

	mu     sync.Mutex
	served map[mman.PeerID]int
	behind int
}

func (p *pace) Authorize(_ context.Context, r blocks.Request, _ mman.PeerID) (blocks.Grant, error) {
	return blocks.Grant{Store: &paced{p, r.Asker}, Root: r.Root}, nil
}

type paced struct {
	*pace
	peer mman.PeerID
}

// Get reads the root; all five wait here for each other.
func (p *paced) Get(ctx context.Context, c mman.CID) (content.Block, error) {
	p.waiting.Add(1)
	<-p.begin
	return p.Reader.Get(ctx, c)
}

func (p *paced) Unchecked(ctx context.Context, c mman.CID) ([]byte, error) {
	p.mu.Lock()
	p.served[p.peer]++
	if modest := mman.PeerID(p2ptest.Key(2)[ed25519.SeedSize:]); p.peer == modest && p.served[modest] == 12 {
		p.behind = p.served[mman.PeerID(p2ptest.Key(1)[ed25519.SeedSize:])]
	}
	p.mu.Unlock()
	return p.Reader.Unchecked(ctx, c)
}

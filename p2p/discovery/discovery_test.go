package discovery_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/discovery"
	"github.com/limboid/massive-man/p2p/p2ptest"
)

func config() discovery.Config {
	cfg := discovery.Default()
	cfg.After, cfg.Now = time.After, time.Now
	return cfg
}

func start(t *testing.T, h *p2p.Host, cfg discovery.Config) *discovery.Discovery {
	t.Helper()
	d, err := discovery.New(h, cfg)
	require.NoError(t, err)
	p2ptest.Closing(t, d)
	return d
}

func local(t *testing.T, d *discovery.Discovery, c mman.CID) []discovery.Provider {
	t.Helper()
	got, err := d.Local(t.Context(), c)
	require.NoError(t, err)
	return got
}

// network starts n hosts that know host 0 only.
func network(t *testing.T, n int) ([]*p2p.Host, []*discovery.Discovery) {
	t.Helper()
	hosts := make([]*p2p.Host, n)
	found := make([]*discovery.Discovery, n)
	for i := range hosts {
		hosts[i] = p2ptest.Start(t, i, func(i int, cfg *p2p.Config) {
			if i > 0 {
				cfg.Bootstrap = hosts[0].Addrs()
			}
		})
		found[i] = start(t, hosts[i], config())
		require.NoError(t, found[i].Bootstrap(t.Context()))
	}
	for _, d := range found {
		require.NoError(t, d.WaitReady(t.Context()))
	}
	return hosts, found
}

func TestFindAcrossTheBootstrapPeer(t *testing.T) {
	t.Parallel()
	hosts, found := network(t, 4)
	topic := discovery.Topic(p2ptest.NetworkID, "algorithm", "wasm")
	require.NotEqual(t, topic, discovery.Topic(p2ptest.NetworkID, "algorithm", "js"))
	require.NoError(t, found[2].Provide(t.Context(), topic))

	begin := time.Now()
	got, err := found[3].FindProviders(t.Context(), topic, 1)
	require.NoError(t, err)
	t.Logf("found in %s", time.Since(begin))
	require.Len(t, got, 1)
	require.Equal(t, hosts[2].ID(), got[0].ID)
	require.NotEmpty(t, got[0].Addrs, "loopback addresses must be in the record")

	addrs, err := found[3].FindPeer(t.Context(), hosts[2].ID())
	require.NoError(t, err)
	id, err := hosts[3].Connect(t.Context(), addrs)
	require.NoError(t, err)
	require.Equal(t, hosts[2].ID(), id)

	begin = time.Now()
	require.False(t, found[2].Provided(topic).IsZero())
	require.True(t, found[3].Provided(topic).IsZero())
	none, err := found[3].FindProviders(t.Context(), discovery.Topic(p2ptest.NetworkID, "algorithm", "none"), 4)
	require.NoError(t, err)
	require.Empty(t, none)
	t.Logf("found nobody in %s", time.Since(begin))
	_, err = found[3].FindPeer(t.Context(), mman.PeerID(p2ptest.Key(99)[32:]))
	require.ErrorIs(t, err, mman.ErrNotFound)
}

func TestClientFindsAndDoesNotProvide(t *testing.T) {
	t.Parallel()
	hosts, found := network(t, 3)
	c := mman.SumCID(mman.CodecRaw, []byte("something"))
	require.NoError(t, found[1].Provide(t.Context(), c))
	cfg := p2p.Client()
	cfg.NetworkID, cfg.Now, cfg.Bootstrap = p2ptest.NetworkID, time.Now, hosts[0].Addrs()
	client, err := p2p.New(cfg)
	require.NoError(t, err)
	p2ptest.Closing(t, client)
	d := start(t, client, config())
	require.NoError(t, d.Bootstrap(t.Context()))
	require.NoError(t, d.WaitReady(t.Context()))
	got, err := d.FindProviders(t.Context(), c, 3)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, hosts[1].ID(), got[0].ID)
	require.ErrorIs(t, d.Provide(t.Context(), c), mman.ErrUnsupported)
}

func TestAloneThenFound(t *testing.T) {
	t.Parallel()
	hosts := p2ptest.New(t, 2)
	first, second := start(t, hosts[0], config()), start(t, hosts[1], config())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- first.Run(ctx) }()

	c := mman.SumCID(mman.CodecRaw, []byte("alone"))
	require.NoError(t, first.Provide(t.Context(), c)) // nobody is there to tell
	require.True(t, first.Provided(c).IsZero())
	p2ptest.Connect(t, hosts[1], hosts[0])
	require.NoError(t, second.WaitReady(t.Context()))

	// The second host must have been told: it looks at its own records only.
	require.Eventually(t, func() bool { return len(local(t, second, c)) == 1 }, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, hosts[0].ID(), local(t, second, c)[0].ID)
	cancel()
	require.NoError(t, <-done)
}

func TestReprovideOnTheClock(t *testing.T) {
	t.Parallel()
	hosts := p2ptest.New(t, 2)
	tick := make(chan time.Time)
	cfg := config()
	cfg.After = func(d time.Duration) <-chan time.Time {
		if d == cfg.ReprovideInterval {
			return tick
		}
		return time.After(d)
	}
	first := start(t, hosts[0], cfg)
	p2ptest.Connect(t, hosts[1], hosts[0])
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- first.Run(ctx) }()
	c := mman.SumCID(mman.CodecRaw, []byte("again"))
	require.NoError(t, first.Provide(t.Context(), c))

	second := start(t, hosts[1], config()) // was not there when it was announced
	require.NoError(t, second.WaitReady(t.Context()))
	require.NoError(t, first.WaitReady(t.Context()))
	require.Eventually(t, func() bool {
		select {
		case tick <- time.Time{}:
		default:
		}
		return len(local(t, second, c)) == 1
	}, 10*time.Second, 5*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
}

func TestOtherNetworksStayApart(t *testing.T) {
	t.Parallel()
	hosts := p2ptest.New(t, 2, func(i int, cfg *p2p.Config) { cfg.NetworkID = []string{"net-a", "net-b"}[i] })
	a, b := start(t, hosts[0], config()), start(t, hosts[1], config())
	p2ptest.Connect(t, hosts[0], hosts[1])
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, a.WaitReady(ctx), mman.ErrUnreachable)
	require.Zero(t, b.Peers())
}

func TestBounds(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.MaxProvided = 1
	d := start(t, p2ptest.Start(t, 0), cfg)
	one, two := mman.SumCID(mman.CodecRaw, []byte("1")), mman.SumCID(mman.CodecRaw, []byte("2"))
	require.NoError(t, d.Provide(t.Context(), one))
	require.NoError(t, d.Provide(t.Context(), one))
	require.ErrorIs(t, d.Provide(t.Context(), two), mman.ErrCapacity)
	d.Withdraw(one)
	require.NoError(t, d.Provide(t.Context(), two))
	require.ErrorIs(t, d.Provide(t.Context(), mman.CID{}), mman.ErrInvalid)
	_, err := d.FindProviders(t.Context(), two, 0)
	require.ErrorIs(t, err, mman.ErrInvalid)
}

// TestReserve: what is reserved is there for who reserved it, and nobody else can.
func TestReserve(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.MaxProvided = 3
	d := start(t, p2ptest.Start(t, 0), cfg)
	cids := contents(3, "reserved")
	require.NoError(t, d.Provide(t.Context(), cids[0]))
	free, err := d.Reserve(2)
	require.NoError(t, err)
	_, err = d.Reserve(1)
	require.ErrorIs(t, err, mman.ErrCapacity)
	require.ErrorContains(t, err, "announces 3 CIDs of at most 3")
	require.NoError(t, d.Provide(t.Context(), cids[1]))
	require.NoError(t, d.Provide(t.Context(), cids[2]))
	free()
	free()
	_, err = d.Reserve(1)
	require.ErrorIs(t, err, mman.ErrCapacity, "they are provided now")
	d.Withdraw(cids[0])
	_, err = d.Reserve(2)
	require.ErrorIs(t, err, mman.ErrCapacity)
	_, err = d.Reserve(1)
	require.NoError(t, err)
}

func TestValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, config().Validate())
	for name, change := range map[string]func(*discovery.Config){
		"provided": func(c *discovery.Config) { c.MaxProvided = 0 },
		"records":  func(c *discovery.Config) { c.MaxRecords = 20*c.MaxProvided - 1 },
		"interval": func(c *discovery.Config) { c.ReprovideInterval = 0 },
		"find":     func(c *discovery.Config) { c.FindTimeout = 0 },
		"grace":    func(c *discovery.Config) { c.FindGrace = -1 },
		"clock":    func(c *discovery.Config) { c.After = nil },
	} {
		cfg := config()
		change(&cfg)
		require.ErrorIs(t, cfg.Validate(), mman.ErrInvalid, name)
	}
	_, err := discovery.New(p2ptest.Start(t, 0), discovery.Config{})
	require.ErrorIs(t, err, mman.ErrInvalid)
}

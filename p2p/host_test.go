package p2p_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/p2ptest"
)

const echo = "/mman/echo/1"

func echoHandler(_ context.Context, s p2p.Stream) {
	if _, err := io.Copy(s, s); err != nil {
		_ = s.Reset()
	}
}

// overEachTransport runs the test with two hosts and a stream from the first to the
// second, which sends back what comes.
func overEachTransport(t *testing.T, test func(*testing.T, []*p2p.Host, p2p.Stream)) {
	t.Helper()
	for _, listen := range []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"} {
		t.Run(listen, func(t *testing.T) {
			t.Parallel()
			hosts := p2ptest.New(t, 2, func(_ int, cfg *p2p.Config) { cfg.Listen = []string{listen} })
			hosts[1].Handle(t.Context(), echo, echoHandler)
			p2ptest.Connect(t, hosts[0], hosts[1])
			s, err := hosts[0].Open(t.Context(), hosts[1].ID(), echo)
			require.NoError(t, err)
			test(t, hosts, s)
			require.NoError(t, s.Close())
		})
	}
}

func TestStreamsOverEachTransport(t *testing.T) {
	t.Parallel()
	overEachTransport(t, func(t *testing.T, hosts []*p2p.Host, s p2p.Stream) {
		t.Helper()
		require.Equal(t, hosts[1].ID(), s.RemotePeer())
		_, err := s.Write([]byte("hello"))
		require.NoError(t, err)
		require.NoError(t, s.CloseWrite())
		got, err := io.ReadAll(s)
		require.NoError(t, err)
		require.Equal(t, "hello", string(got))
		require.Contains(t, hosts[1].Peers(), hosts[0].ID())
		require.NotEmpty(t, hosts[0].Addrs())
		require.True(t, strings.HasSuffix(hosts[0].Addrs()[0], "/p2p/"+hosts[0].ID().String()))
	})
}

func TestClientListensNowhere(t *testing.T) {
	t.Parallel()
	server := p2ptest.Start(t, 0)
	server.Handle(t.Context(), echo, echoHandler)
	cfg := p2p.Client()
	cfg.NetworkID, cfg.Now, cfg.Bootstrap = p2ptest.NetworkID, time.Now, server.Addrs()
	client, err := p2p.New(cfg)
	require.NoError(t, err)
	p2ptest.Closing(t, client)
	require.NoError(t, client.Start(t.Context()))
	require.Empty(t, client.Addrs())
	require.NoError(t, client.Remember(server.Addrs()))
	s, err := client.Open(t.Context(), server.ID(), echo)
	require.NoError(t, err)
	require.NoError(t, s.CloseWrite())
	_, err = io.ReadAll(s)
	require.NoError(t, err)
}

func TestOpenSaysWhy(t *testing.T) {
	t.Parallel()
	hosts := p2ptest.New(t, 2)
	p2ptest.Connect(t, hosts[0], hosts[1])
	t.Run("unknown protocol", func(t *testing.T) {
		t.Parallel()
		s, err := hosts[0].Open(t.Context(), hosts[1].ID(), "/mman/nothing/1")
		if err == nil {
			_, err = io.ReadAll(s)
		}
		require.ErrorIs(t, err, mman.ErrUnsupported)
	})
	t.Run("unknown peer", func(t *testing.T) {
		t.Parallel()
		_, err := hosts[0].Open(t.Context(), mman.PeerID(p2ptest.Key(77)[ed25519.SeedSize:]), echo)
		require.ErrorIs(t, err, mman.ErrUnreachable)
	})
	t.Run("gone peer", func(t *testing.T) {
		t.Parallel()
		gone := mman.PeerID(p2ptest.Key(78)[ed25519.SeedSize:])
		_, err := hosts[0].Connect(t.Context(), []string{"/ip4/127.0.0.1/tcp/1/p2p/" + gone.String()})
		require.ErrorIs(t, err, mman.ErrUnreachable)
		require.EqualError(t, err, "not reachable: peer "+gone.String()+": it does not answer at /ip4/127.0.0.1/tcp/1 (connection refused)")
	})
	t.Run("read timeout", func(t *testing.T) {
		t.Parallel()
		hosts[1].Handle(t.Context(), "/mman/silent/1", func(ctx context.Context, _ p2p.Stream) { <-ctx.Done() })
		s, err := hosts[0].Open(t.Context(), hosts[1].ID(), "/mman/silent/1")
		require.NoError(t, err)
		require.NoError(t, s.SetReadTimeout(20*time.Millisecond))
		_, err = s.Read(make([]byte, 1))
		require.ErrorIs(t, err, mman.ErrTimeout)
		require.NoError(t, s.Reset())
	})
	t.Run("reset", func(t *testing.T) {
		t.Parallel()
		hosts[1].Handle(t.Context(), "/mman/rude/1", func(_ context.Context, s p2p.Stream) { _ = s.Reset() })
		s, err := hosts[0].Open(t.Context(), hosts[1].ID(), "/mman/rude/1")
		if err == nil {
			_, err = io.ReadAll(s)
		}
		require.ErrorIs(t, err, mman.ErrPeerVanished)
	})
}

func TestFloodOfStreamsIsBounded(t *testing.T) {
	t.Parallel()
	const limit = 4
	hosts := p2ptest.New(t, 2, func(_ int, cfg *p2p.Config) { cfg.Limits.PeerStreams = limit })
	hosts[1].Handle(t.Context(), echo, echoHandler)
	p2ptest.Connect(t, hosts[0], hosts[1])
	ping := func(s p2p.Stream) error {
		_, werr := s.Write([]byte("x"))
		_, rerr := io.ReadFull(s, make([]byte, 1))
		return errors.Join(werr, rerr)
	}
	open := func() (p2p.Stream, error) { return hosts[0].Open(t.Context(), hosts[1].ID(), echo) }
	var held []p2p.Stream
	for range limit {
		s, err := open()
		require.NoError(t, err)
		require.NoError(t, ping(s))
		held = append(held, s)
	}
	s, err := open()
	if err == nil {
		err = ping(s)
	}
	require.ErrorIs(t, err, mman.ErrBusy)
	// A stream that ends makes room again.
	require.NoError(t, held[0].CloseWrite())
	_, err = io.ReadAll(held[0])
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		s, err := open()
		return err == nil && ping(s) == nil
	}, 5*time.Second, 5*time.Millisecond)
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	first := p2ptest.Start(t, 0)
	for _, addr := range first.Addrs() {
		addr, _, _ = strings.Cut(addr, "/p2p/")
		cfg := p2p.Default()
		cfg.NetworkID, cfg.Now, cfg.Listen = p2ptest.NetworkID, time.Now, []string{addr}
		second, err := p2p.New(cfg)
		require.NoError(t, err)
		p2ptest.Closing(t, second)
		err = second.Start(t.Context())
		require.ErrorIs(t, err, mman.ErrPortInUse)
		require.ErrorContains(t, err, addr)
		require.ErrorContains(t, err, "--listen")
	}
}

func TestHandlersEndWithTheHost(t *testing.T) {
	t.Parallel()
	hosts := p2ptest.New(t, 2)
	entered, left := make(chan struct{}), make(chan struct{})
	hosts[1].Handle(t.Context(), echo, func(ctx context.Context, _ p2p.Stream) {
		close(entered)
		<-ctx.Done()
		close(left)
	})
	p2ptest.Connect(t, hosts[0], hosts[1])
	s, err := hosts[0].Open(t.Context(), hosts[1].ID(), echo)
	require.NoError(t, err)
	_, err = s.Write([]byte("x"))
	require.NoError(t, err)
	<-entered
	require.NoError(t, hosts[1].Close())
	select {
	case <-left:
	default:
		t.Fatal("Close returned before the handler")
	}
	require.NoError(t, hosts[1].Close())
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	cfg := p2p.Default()
	cfg.NetworkID, cfg.Now, cfg.Listen = p2ptest.NetworkID, time.Now, []string{"/ip4/127.0.0.1/tcp/0"}
	h, err := p2p.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	cancel()
	require.NoError(t, <-done)
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	h := p2ptest.Start(t, 0)
	sig := h.Sign(mman.SignAccept, "chain", []byte("payload"))
	require.True(t, p2p.Verify(h.ID(), mman.SignAccept, "chain", []byte("payload"), sig))
	require.False(t, p2p.Verify(h.ID(), mman.SignStatement, "chain", []byte("payload"), sig))
	require.False(t, p2p.Verify(h.ID(), mman.SignAccept, "other", []byte("payload"), sig))
	require.False(t, p2p.Verify(h.ID(), mman.SignAccept, "chain", []byte("payload"), nil))
}

func TestIdentityFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "node.key")
	first, err := p2p.LoadOrCreateIdentity(path)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	again, err := p2p.LoadOrCreateIdentity(path)
	require.NoError(t, err)
	require.True(t, first.Equal(again))

	require.NoError(t, os.Chmod(path, 0o644))
	_, err = p2p.LoadOrCreateIdentity(path)
	require.ErrorIs(t, err, mman.ErrKeyfile)
	require.ErrorContains(t, err, "chmod 600")

	for name, content := range map[string]string{
		"empty":   "",
		"garbage": "not a key",
		"large":   strings.Repeat("x", 1<<16),
		"broken":  "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
	} {
		bad := filepath.Join(t.TempDir(), "node.key")
		require.NoError(t, os.WriteFile(bad, []byte(content), 0o600))
		_, err = p2p.LoadOrCreateIdentity(bad)
		require.ErrorIs(t, err, mman.ErrKeyfile, name)
		kept, rerr := os.ReadFile(bad)
		require.NoError(t, rerr)
		require.Equal(t, content, string(kept), "a damaged key file must not be replaced")
	}
	_, err = p2p.LoadOrCreateIdentity(filepath.Join(t.TempDir(), "no", "such", "dir"))
	require.ErrorIs(t, err, mman.ErrKeyfile)
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := p2p.Default()
	good.NetworkID, good.Now = "chain-1", time.Now
	require.NoError(t, good.Validate())
	for name, change := range map[string]func(*p2p.Config){
		"mode":      func(c *p2p.Config) { c.Mode = "both" },
		"no listen": func(c *p2p.Config) { c.Listen = nil },
		"listen":    func(c *p2p.Config) { c.Listen = []string{"127.0.0.1:4051"} },
		"network":   func(c *p2p.Config) { c.NetworkID = "" },
		"network /": func(c *p2p.Config) { c.NetworkID = "a/b" },
		"clock":     func(c *p2p.Config) { c.Now = nil },
		"key":       func(c *p2p.Config) { c.PrivateKey = make([]byte, 5) },
		"bootstrap": func(c *p2p.Config) { c.Bootstrap = []string{"/ip4/127.0.0.1/tcp/1"} },
		"rsa peer": func(c *p2p.Config) {
			c.Bootstrap = []string{"/ip4/127.0.0.1/tcp/1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"}
		},
		"memory":     func(c *p2p.Config) { c.Limits.Memory = 1 },
		"fds":        func(c *p2p.Config) { c.Limits.FileDescriptors = 1 },
		"conns":      func(c *p2p.Config) { c.Limits.LowConns = c.Limits.HighConns + 1 },
		"streams":    func(c *p2p.Config) { c.Limits.PeerStreams = 0 },
		"no timeout": func(c *p2p.Config) { c.Limits.DialTimeout = 0 },
	} {
		cfg := good
		change(&cfg)
		require.ErrorIs(t, cfg.Validate(), mman.ErrInvalid, name)
	}
}

// TestReach: a host says from where it is reached, by what either version of AutoNAT
// found last.
func TestReach(t *testing.T) {
	t.Parallel()
	require.Equal(t, p2p.ReachMachine, p2ptest.Start(t, 0).Reach())
	one := []ma.Multiaddr{ma.StringCast("/ip4/203.0.113.1/tcp/4001")}
	host := func(reachability network.Reachability) any {
		return event.EvtLocalReachabilityChanged{Reachability: reachability}
	}
	for name, tc := range map[string]struct {
		found []any
		want  p2p.Reach
	}{
		"nobody tried":                 {nil, p2p.ReachUnknown},
		"host, not known":              {[]any{host(network.ReachabilityUnknown)}, p2p.ReachUnknown},
		"host, public":                 {[]any{host(network.ReachabilityPublic)}, p2p.ReachPublic},
		"host, private":                {[]any{host(network.ReachabilityPrivate)}, p2p.ReachPrivate},
		"host, private later":          {[]any{host(network.ReachabilityPublic), host(network.ReachabilityPrivate)}, p2p.ReachPrivate},
		"addresses, reached":           {[]any{event.EvtHostReachableAddrsChanged{Reachable: one, Unreachable: one}}, p2p.ReachPublic},
		"addresses, not reached":       {[]any{event.EvtHostReachableAddrsChanged{Unreachable: one}}, p2p.ReachPrivate},
		"addresses, not known":         {[]any{event.EvtHostReachableAddrsChanged{Unknown: one}}, p2p.ReachUnknown},
		"addresses, not reached later": {[]any{event.EvtHostReachableAddrsChanged{Reachable: one}, event.EvtHostReachableAddrsChanged{Unreachable: one}}, p2p.ReachPrivate},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Of a network beyond this machine, which it never dials.
			h := p2ptest.Start(t, 0, func(_ int, cfg *p2p.Config) {
				cfg.Bootstrap, cfg.EnableNAT = []string{"/ip4/203.0.113.1/tcp/1/p2p/12D3KooWGatU9DoHGRMtWxRSEfPqtf2c6hZ2h1PFgkUZP3LVcVfR"}, false
			})
			require.Equal(t, p2p.ReachUnknown, h.Reach())
			for _, found := range tc.found {
				kind := any(new(event.EvtLocalReachabilityChanged))
				if _, ok := found.(event.EvtHostReachableAddrsChanged); ok {
					kind = new(event.EvtHostReachableAddrsChanged)
				}
				emitter, err := h.Libp2p().EventBus().Emitter(kind, eventbus.Stateful)
				require.NoError(t, err)
				require.NoError(t, emitter.Emit(found))
				require.NoError(t, emitter.Close())
			}
			require.Eventually(t, func() bool { return h.Reach() == tc.want }, time.Minute, time.Millisecond)
		})
	}
}

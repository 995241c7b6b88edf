package p2ptest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/limboid/massive-man/p2p"
)

// NetworkID is the chain id of the hosts that New makes.
const NetworkID = "mman-test"

// New starts n server hosts on loopback that do not know each other. Host i
// has the same key in every test. Each change, if any, is applied to every
// configuration before its host is built.
func New(tb testing.TB, n int, change ...func(i int, cfg *p2p.Config)) []*p2p.Host {
	tb.Helper()
	hosts := make([]*p2p.Host, n)
	for i := range hosts {
		hosts[i] = Start(tb, i, change...)
	}
	return hosts
}

// Start starts host i of a swarm.
func Start(tb testing.TB, i int, change ...func(i int, cfg *p2p.Config)) *p2p.Host {
	tb.Helper()
	cfg := p2p.Default()
	cfg.NetworkID = NetworkID
	cfg.Listen = []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}
	cfg.PrivateKey = Key(i)
	cfg.Now = time.Now //nolint:forbidigo // test code over real sockets needs the real clock
	for _, f := range change {
		f(i, &cfg)
	}
	h, err := p2p.New(cfg)
	if err != nil {
		tb.Fatalf("p2ptest: host %d: %v", i, err)
	}
	Closing(tb, h)
	if err := h.Start(tb.Context()); err != nil {
		tb.Fatalf("p2ptest: start host %d: %v", i, err)
	}
	return h
}

// Key returns the node key of host i.
func Key(i int) ed25519.PrivateKey {
	seed := sha256.Sum256(fmt.Appendf(nil, "p2ptest host %d", i))
	return ed25519.NewKeyFromSeed(seed[:])
}

// Connect connects a to b and fails the test when that does not work.
func Connect(tb testing.TB, a, b *p2p.Host) {
	tb.Helper()
	if _, err := a.Connect(tb.Context(), b.Addrs()); err != nil {
		tb.Fatalf("p2ptest: connect: %v", err)
	}
}

// Closing closes c when the test ends.
func Closing(tb testing.TB, c io.Closer) {
	tb.Helper()
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Errorf("p2ptest: close: %v", err)
		}
	})
}

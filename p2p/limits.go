package p2p

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	ma "github.com/multiformats/go-multiaddr"

	mman "github.com/limboid/massive-man"
)

// resourceManager gives libp2p hard limits: its own scaled defaults for the
// services inside it, and ours where a peer or a protocol could eat the host.
func resourceManager(l Limits) (network.ResourceManager, error) {
	scaling := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaling)
	conns := 2 * l.HighConns
	perPeer := l.PeerStreams + 16 // our own count refuses first, with an answer
	limits := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Memory:        rcmgr.LimitVal64(l.Memory),
			FD:            rcmgr.LimitVal(l.FileDescriptors),
			Conns:         rcmgr.LimitVal(conns),
			ConnsInbound:  rcmgr.LimitVal(conns),
			ConnsOutbound: rcmgr.LimitVal(conns),
		},
		// A crowd that comes at once is let in: what is still shaking hands may be as
		// many as the connections that we like to have.
		Transient: rcmgr.ResourceLimits{
			FD:              rcmgr.LimitVal(l.FileDescriptors / 2),
			Conns:           rcmgr.LimitVal(l.HighConns),
			ConnsInbound:    rcmgr.LimitVal(l.HighConns),
			ConnsOutbound:   rcmgr.LimitVal(l.HighConns),
			Streams:         rcmgr.LimitVal(4 * conns),
			StreamsInbound:  rcmgr.LimitVal(4 * conns),
			StreamsOutbound: rcmgr.LimitVal(4 * conns),
		},
		PeerDefault: rcmgr.ResourceLimits{
			Memory:          rcmgr.LimitVal64(l.Memory / 4),
			Conns:           16,
			ConnsInbound:    8,
			ConnsOutbound:   8,
			Streams:         rcmgr.LimitVal(8 * perPeer),
			StreamsInbound:  rcmgr.LimitVal(4 * perPeer),
			StreamsOutbound: rcmgr.LimitVal(4 * perPeer),
		},
		ProtocolPeerDefault: rcmgr.ResourceLimits{
			Memory:          rcmgr.LimitVal64(l.Memory / 4),
			Streams:         rcmgr.LimitVal(2 * perPeer),
			StreamsInbound:  rcmgr.LimitVal(perPeer),
			StreamsOutbound: rcmgr.LimitVal(2 * perPeer),
		},
	}.Build(scaling.Scale(l.Memory, l.FileDescriptors))
	manager, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits), rcmgr.WithMetricsDisabled())
	if err != nil {
		return nil, fmt.Errorf("%w: p2p limits: %w", mman.ErrInvalid, err)
	}
	return manager, nil
}

// gater refuses peers whose key is not ed25519, so that every connected peer
// has a mman.PeerID, and all peers while the host is cut off.
type gater struct{ off atomic.Bool }

// InterceptPeerDial implements libp2p's gater.
func (g *gater) InterceptPeerDial(p peer.ID) bool { return !g.off.Load() && usable(p) }

// InterceptAddrDial implements it.
func (g *gater) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return !g.off.Load() }

// InterceptAccept implements it.
func (g *gater) InterceptAccept(network.ConnMultiaddrs) bool { return !g.off.Load() }

// InterceptUpgraded implements it.
func (g *gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) {
	return !g.off.Load(), 0
}

// InterceptSecured implements it.
func (g *gater) InterceptSecured(_ network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return usable(p)
}

func usable(p peer.ID) bool {
	_, err := mman.PeerIDFromBytes([]byte(p))
	return err == nil
}

type slot struct {
	protocol string
	peer     mman.PeerID
}

// flood counts the open inbound streams of each protocol and peer.
type flood struct {
	max  int
	mu   sync.Mutex
	open map[slot]int
}

func newFlood(limit int) *flood { return &flood{max: limit, open: make(map[slot]int)} }

func (f *flood) enter(s slot) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open[s] >= f.max {
		return false
	}
	f.open[s]++
	return true
}

func (f *flood) leave(s slot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open[s]--; f.open[s] == 0 {
		delete(f.open, s)
	}
}

package p2p

import (
	"context"
	"fmt"
	"net"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/quic-go/quic-go"

	mman "github.com/limboid/massive-man"
)

// sockets makes the manager of QUIC's sockets that libp2p makes by itself, with the
// same limits on those who knock, but over sockets of ours. libp2p calls it, by its
// arguments' types; Close ends it.
func (h *Host) sockets(reset quic.StatelessResetKey, token quic.TokenGeneratorKey, limits network.ResourceManager) (*quicreuse.ConnManager, error) {
	enter := func(ctx context.Context, who *quic.ClientInfo) (context.Context, error) {
		from, err := quicreuse.ToQuicMultiaddr(who.RemoteAddr, quic.Version1)
		if err != nil {
			from = nil // the limits for whoever has no address
		}
		scope, err := limits.OpenConnection(network.DirInbound, false, from)
		if err != nil {
			return ctx, err
		}
		ctx = network.WithConnManagementScope(ctx, scope)
		context.AfterFunc(ctx, scope.Done)
		return ctx, nil
	}
	m, err := quicreuse.NewConnManager(reset, token,
		quicreuse.ConnContext(enter),
		quicreuse.VerifySourceAddress(func(from net.Addr) bool { return limits.VerifySourceAddress(from) }),
		quicreuse.OverrideListenUDP(listenUDP))
	if err != nil {
		return nil, fmt.Errorf("%w: sockets for QUIC: %w", mman.ErrInternal, err)
	}
	h.quic = m
	return m, nil
}

// closeSockets ends what sockets made.
func (h *Host) closeSockets() error {
	if h.quic == nil {
		return nil
	}
	return h.quic.Close()
}

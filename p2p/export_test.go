package p2p

import (
	"net"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/sec"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

// MessageBytes is the longest message of the multiplexer.
const MessageBytes = messageBytes

// NewBurstTLS is how a host secures its TCP connections.
func NewBurstTLS(key crypto.PrivKey) (sec.SecureTransport, error) {
	return newBurstTLS(libp2ptls.ID, key, nil)
}

// ListenUDP is how a host opens its sockets for QUIC.
func ListenUDP(at *net.UDPAddr) (net.PacketConn, error) { return listenUDP("udp4", at) }

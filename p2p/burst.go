package p2p

import (
	"context"
	"net"
	"sync"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

const (
	// messageBytes is the most that a stream puts on a connection before others have
	// their turn, twice the multiplexer's own: fewer messages cost less of a processor,
	// and with more, what is small and urgent waits longer on a slow line.
	messageBytes = 128 << 10
	// recordBytes is the most that TLS has in a record, which it writes to the socket
	// as soon as it is sealed.
	recordBytes = 16 << 10
	// smallRecord is what fits into a record also at the beginning of a connection,
	// when TLS makes them small.
	smallRecord = 1 << 10
	// burstBytes is how much is written to the socket at a time: a whole message of the
	// multiplexer, with what sealing adds to each of its records.
	burstBytes = messageBytes + 64*(messageBytes/recordBytes)
)

// multiplexer is libp2p's, with larger messages.
func multiplexer() *yamux.Transport {
	t := *yamux.DefaultTransport
	t.MaxMessageSize = messageBytes
	return &t
}

// burstTLS is TLS that hands a large message to the kernel in one call instead of one
// for each record of it. A call costs a walk through the kernel's network layers and
// wakes the peer, which is most of what sending costs on a fast line.
type burstTLS struct {
	*libp2ptls.Transport

	buffers *sync.Pool // of *[]byte, empty, with room for burstBytes
}

// newBurstTLS is what libp2p calls, by its arguments' types.
func newBurstTLS(id protocol.ID, key crypto.PrivKey, muxers []upgrader.StreamMuxer) (*burstTLS, error) {
	t, err := libp2ptls.New(id, key, muxers)
	if err != nil {
		return nil, err
	}
	return &burstTLS{t, &sync.Pool{New: func() any {
		b := make([]byte, 0, burstBytes)
		return &b
	}}}, nil
}

// SecureInbound implements libp2p's sec.SecureTransport.
func (t *burstTLS) SecureInbound(ctx context.Context, insecure net.Conn, p peer.ID) (sec.SecureConn, error) {
	socket := &burst{Conn: insecure}
	c, err := t.Transport.SecureInbound(ctx, socket, p)
	return t.wrap(c, socket, err)
}

// SecureOutbound implements it.
func (t *burstTLS) SecureOutbound(ctx context.Context, insecure net.Conn, p peer.ID) (sec.SecureConn, error) {
	socket := &burst{Conn: insecure}
	c, err := t.Transport.SecureOutbound(ctx, socket, p)
	return t.wrap(c, socket, err)
}

func (t *burstTLS) wrap(c sec.SecureConn, socket *burst, err error) (sec.SecureConn, error) {
	if err != nil {
		return nil, err
	}
	return &burstConn{SecureConn: c, socket: socket, buffers: t.buffers}, nil
}

// burstConn is a connection whose larger writes reach the socket whole.
type burstConn struct {
	sec.SecureConn

	socket  *burst
	buffers *sync.Pool
	mu      sync.Mutex // one write at a time is gathered
}

// Write implements net.Conn. An error of the socket is the connection's end: what TLS
// sealed before it did not arrive.
func (c *burstConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(p) < smallRecord {
		return c.SecureConn.Write(p)
	}
	buf, ok := c.buffers.Get().(*[]byte)
	if !ok {
		return c.SecureConn.Write(p) // the pool makes nothing else
	}
	defer c.buffers.Put(buf)
	c.socket.gather((*buf)[:0])
	n, err := c.SecureConn.Write(p)
	if sent := c.socket.flush(); err == nil && sent != nil {
		return 0, sent
	}
	return n, err
}

// burst is a socket that gathers what is written to it, between gather and flush, and
// passes it on at once otherwise, as for alerts and handshakes.
type burst struct {
	net.Conn

	mu   sync.Mutex
	held []byte // nil when nothing is gathered
	err  error  // of the first write that failed: what follows makes no sense to the peer
}

func (s *burst) gather(into []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = into
}

// Write implements net.Conn.
func (s *burst) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		return s.write(p)
	}
	if len(s.held)+len(p) > cap(s.held) {
		if err := s.empty(); err != nil {
			return 0, err
		}
	}
	if len(p) > cap(s.held) {
		return s.write(p)
	}
	s.held = append(s.held, p...)
	return len(p), nil
}

// flush writes what was gathered and ends the gathering.
func (s *burst) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.empty()
	s.held = nil
	return err
}

// empty writes what was gathered. s.mu is held.
func (s *burst) empty() error {
	if len(s.held) == 0 {
		return s.err
	}
	_, err := s.write(s.held)
	s.held = s.held[:0]
	return err
}

// write passes bytes on. s.mu is held.
func (s *burst) write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.Conn.Write(p)
	s.err = err
	return n, err
}

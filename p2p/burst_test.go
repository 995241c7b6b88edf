package p2p_test

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/p2p"
)

// counted is a socket that counts what is written to it, until it breaks.
type counted struct {
	net.Conn

	calls  atomic.Int64
	broken atomic.Bool
}

func (c *counted) Write(p []byte) (int, error) {
	c.calls.Add(1)
	if c.broken.Load() {
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(p)
}

// secured returns both ends of a connection, and the socket below the first.
func secured(t *testing.T) (sec.SecureConn, sec.SecureConn, *counted) {
	t.Helper()
	ends := [2]sec.SecureTransport{}
	ids := [2]peer.ID{}
	for i := range ends {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		require.NoError(t, err)
		ids[i], err = peer.IDFromPrivateKey(key)
		require.NoError(t, err)
		ends[i], err = p2p.NewBurstTLS(key)
		require.NoError(t, err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close() //nolint:errcheck // both ends are there
	dialled, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	accepted, err := l.Accept()
	require.NoError(t, err)
	socket := &counted{Conn: dialled}
	type result struct {
		c   sec.SecureConn
		err error
	}
	in := make(chan result, 1)
	go func() {
		c, err := ends[1].SecureInbound(t.Context(), accepted, ids[0])
		in <- result{c, err}
	}()
	a, err := ends[0].SecureOutbound(t.Context(), socket, ids[1])
	require.NoError(t, err)
	b := <-in
	require.NoError(t, b.err)
	t.Cleanup(func() {
		_ = a.Close() // a test may have broken it
		_ = b.c.Close()
	})
	return a, b.c, socket
}

func TestLargeMessagesReachTheSocketInOneCall(t *testing.T) {
	t.Parallel()
	a, b, socket := secured(t)
	for _, n := range []int{1, 1023, 1024, 16 << 10, 16<<10 + 1, p2p.MessageBytes, p2p.MessageBytes - 12, p2p.MessageBytes, 3 * p2p.MessageBytes} {
		sent := make([]byte, n)
		_, err := rand.Read(sent)
		require.NoError(t, err)
		before := socket.calls.Load()
		type read struct {
			data []byte
			err  error
		}
		done := make(chan read, 1)
		go func() {
			got := make([]byte, n)
			_, err := io.ReadFull(b, got)
			done <- read{got, err}
		}()
		m, err := a.Write(sent)
		require.NoError(t, err)
		require.Equal(t, n, m)
		got := <-done
		require.NoError(t, got.err)
		require.True(t, bytes.Equal(sent, got.data), "%d bytes", n)
		// The first bytes of a connection go in small records, which take more room.
		calls := socket.calls.Load() - before
		require.LessOrEqual(t, calls, int64(n/p2p.MessageBytes+1), "%d bytes", n)
	}
}

func TestABrokenSocketEndsTheConnection(t *testing.T) {
	t.Parallel()
	a, _, socket := secured(t)
	socket.broken.Store(true)
	message := make([]byte, p2p.MessageBytes)
	n, err := a.Write(message)
	require.ErrorIs(t, err, io.ErrClosedPipe)
	require.Zero(t, n)
	// What would follow makes no sense to the peer, who misses what came before.
	socket.broken.Store(false)
	for _, size := range []int{1, len(message)} {
		_, err = a.Write(message[:size])
		require.ErrorIs(t, err, io.ErrClosedPipe)
	}
}

func TestStreamsCarryWritesOfAnySize(t *testing.T) {
	t.Parallel()
	overEachTransport(t, func(t *testing.T, _ []*p2p.Host, s p2p.Stream) {
		t.Helper()
		sent := make([]byte, 5<<20+7)
		_, err := rand.Read(sent)
		require.NoError(t, err)
		failed := make(chan error, 1)
		go func() {
			left := sent
			for i := 0; len(left) > 0; i++ {
				n := min(len(left), 1<<(i%21)+i%3)
				if _, err := s.Write(left[:n]); err != nil {
					failed <- err
					return
				}
				left = left[n:]
			}
			failed <- s.CloseWrite()
		}()
		got, err := io.ReadAll(s)
		require.NoError(t, err)
		require.NoError(t, <-failed)
		require.True(t, bytes.Equal(sent, got))
	})
}

package p2p

import (
	"encoding/binary"
	"net"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	// trainBytes is the largest run of datagrams that the kernel hands over as one.
	trainBytes = 64 << 10
	// trains is how many of them are taken in one call.
	trains = 4
	// trainControl is the room for what the kernel says about a run.
	trainControl = 128
)

// listenUDP opens a socket that takes runs of datagrams from the kernel whole, where
// it can (since Linux 5.0): for a large transfer every datagram's own way through the
// kernel is most of what receiving costs, and on one machine of what sending costs.
func listenUDP(network string, at *net.UDPAddr) (net.PacketConn, error) {
	conn, err := net.ListenUDP(network, at)
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return conn, nil //nolint:nilerr // a socket without it serves as well
	}
	var refused error
	err = raw.Control(func(fd uintptr) {
		refused = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	})
	if err != nil || refused != nil {
		return conn, nil //nolint:nilerr // an old kernel
	}
	c := &trainConn{UDPConn: conn, batch: ipv4.NewPacketConn(conn), got: make([]ipv4.Message, trains)}
	for i := range c.got {
		c.got[i].Buffers = [][]byte{make([]byte, trainBytes)}
		c.got[i].OOB = make([]byte, trainControl)
	}
	return c, nil
}

// trainConn reads runs of datagrams of one sender, all of one size but the last, and
// deals them out one by one. One goroutine reads at a time; QUIC's does.
type trainConn struct {
	*net.UDPConn

	batch *ipv4.PacketConn
	got   []ipv4.Message // trains; the first n hold what came last
	n     int
	next  int // of the n, the one that is dealt out
	at    int // bytes of it that were
}

// ReadBatch fills ms with one datagram each and says how many. It waits for the first
// only. A datagram that is longer than its buffer is cut off, as the kernel does.
func (c *trainConn) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	if c.next == c.n {
		n, err := c.batch.ReadBatch(c.got, flags)
		if err != nil {
			c.next, c.n = 0, 0
			return 0, err
		}
		c.next, c.n, c.at = 0, n, 0
	}
	dealt := 0
	for dealt < len(ms) && c.next < c.n {
		from := &c.got[c.next]
		data, said := from.Buffers[0][:from.N], from.OOB[:from.NN]
		end := len(data)
		if size := trainSize(said); size > 0 {
			end = min(c.at+size, end)
		}
		to := &ms[dealt]
		to.N = copy(to.Buffers[0], data[c.at:end])
		to.NN = copy(to.OOB, said)
		to.Flags, to.Addr = from.Flags, from.Addr
		dealt++
		if c.at = end; end == len(data) {
			c.next, c.at = c.next+1, 0
		}
	}
	return dealt, nil
}

// trainSize returns how long each datagram of a run is, from what the kernel says
// about it; 0 when it is a single one.
func trainSize(said []byte) int {
	for len(said) > 0 {
		head, body, rest, err := unix.ParseOneSocketControlMessage(said)
		if err != nil {
			return 0
		}
		if head.Level == unix.IPPROTO_UDP && head.Type == unix.UDP_GRO && len(body) >= 4 {
			return int(int32(binary.NativeEndian.Uint32(body))) //nolint:gosec // the kernel's int
		}
		said = rest
	}
	return 0
}

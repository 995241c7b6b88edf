package p2p_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/limboid/massive-man/p2p"
)

// segmented is the control message that has the kernel cut what is sent into
// datagrams of so many bytes.
func segmented(size int) []byte {
	b := make([]byte, unix.CmsgSpace(2))
	head := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	head.Level, head.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	head.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(b[unix.CmsgLen(0):], uint16(size))
	return b
}

func TestRunsOfDatagramsAreDealtOutOneByOne(t *testing.T) {
	t.Parallel()
	loopback := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}
	c, err := p2p.ListenUDP(loopback)
	require.NoError(t, err)
	defer c.Close() //nolint:errcheck // only read
	r, ok := c.(interface {
		ReadBatch(ms []ipv4.Message, flags int) (int, error)
	})
	require.True(t, ok, "this kernel hands over no runs of datagrams: Linux 5.0 or later does")
	require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
	to, ok := c.LocalAddr().(*net.UDPAddr)
	require.True(t, ok)
	from, err := net.ListenUDP("udp4", loopback)
	require.NoError(t, err)
	defer from.Close() //nolint:errcheck // only written

	for _, run := range []struct {
		name        string
		size, total int
	}{
		{"one", 1200, 1200},
		{"empty", 0, 0},
		{"fewer than fit", 1200, 2 * 1200},
		{"the last one is shorter", 1200, 5*1200 + 7},
		{"many", 1000, 40 * 1000},
		{"longer than the buffers", 1500, 3 * 1500},
		{"one after many", 9, 9},
	} {
		sent := bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7}, run.total/7+1)[:run.total]
		var control []byte
		if run.total > run.size {
			control = segmented(run.size)
		}
		_, _, err := from.WriteMsgUDP(sent, control, to)
		require.NoError(t, err, run.name)
		for first := true; len(sent) > 0 || first; first = false {
			ms := make([]ipv4.Message, 3)
			for i := range ms {
				ms[i].Buffers, ms[i].OOB = [][]byte{make([]byte, 1452)}, make([]byte, 128)
			}
			n, err := r.ReadBatch(ms, 0)
			require.NoError(t, err, run.name)
			require.Positive(t, n, run.name)
			for _, m := range ms[:n] {
				whole := min(run.size, len(sent))
				require.Equal(t, min(whole, 1452), m.N, run.name)
				require.Equal(t, sent[:m.N], m.Buffers[0][:m.N], run.name)
				require.Equal(t, from.LocalAddr().String(), m.Addr.String(), run.name)
				sent = sent[whole:]
			}
		}
		require.Empty(t, sent, run.name)
	}
	require.NoError(t, c.SetReadDeadline(time.Now().Add(-time.Second)))
	_, err = r.ReadBatch(make([]ipv4.Message, 1), 0)
	require.ErrorContains(t, err, "timeout")
}

package e2e_test

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// island is a network of its own on this machine. What runs there reaches the nodes
// of this test at their own addresses, and by nothing but cables, which the test can
// hold and cut as it likes.
type island struct {
	work   chan func()
	cables []*cable
}

// newIsland makes a network namespace. Without the right to, the test cannot say
// anything: it is skipped for a developer and fails in CI.
func newIsland(t *testing.T) *island {
	t.Helper()
	i, ready := &island{work: make(chan func())}, make(chan error)
	go i.live(ready)
	if err := <-ready; err != nil {
		require.Empty(t, os.Getenv("CI"), "make a network namespace: %v", err)
		t.Skipf("cables that can be cut need the right to make a network namespace: %v", err)
	}
	t.Cleanup(func() { close(i.work) })
	return i
}

// live does what is asked for on a thread that is in the island for good: it is never
// unlocked, so that it ends with this goroutine.
func (i *island) live(ready chan<- error) {
	runtime.LockOSThread()
	err := unix.Unshare(unix.CLONE_NEWNET)
	if err == nil {
		err = loopback()
	}
	ready <- err
	for err == nil {
		do, ok := <-i.work
		if !ok {
			return
		}
		do()
	}
}

// loopback brings up the loopback of this thread's network.
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	lo, err := unix.NewIfreq("lo")
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, lo)
	}
	if err == nil {
		lo.SetUint16(lo.Uint16() | unix.IFF_UP)
		err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
	}
	return errors.Join(err, unix.Close(fd))
}

// there runs something on the island.
func (i *island) there(do func()) {
	done := make(chan struct{})
	i.work <- func() {
		defer close(done)
		do()
	}
	<-done
}

// start begins a process on the island.
func (i *island) start(t *testing.T, j *job) *job {
	t.Helper()
	i.there(func() { j.start(t) })
	return j
}

// cable leads from an address on the island to the same one on this machine, over TCP.
// It passes on what comes, unless it is held; then what is under way waits in it.
type cable struct {
	to       string
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	moved  chan struct{} // closed at each change
	held   bool
	left   int64 // bytes towards the island until it holds itself
	passed int64 // bytes towards the island
	conns  map[net.Conn]struct{}
	closed bool
}

// endless is more than ever passes.
const endless = 1 << 60

// connect lays a cable to an address of this machine.
func (i *island) connect(t *testing.T, to string) *cable {
	t.Helper()
	c := &cable{to: to, left: endless, moved: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	i.there(func() {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", to)
		if assert.NoError(t, err) {
			c.listener = l
		}
	})
	require.NotNil(t, c.listener)
	c.running.Go(func() { c.serve(t.Context()) })
	i.cables = append(i.cables, c)
	t.Cleanup(func() {
		assert.NoError(t, c.listener.Close())
		c.change(func() { c.closed = true })
		c.drop()
		c.running.Wait()
	})
	return c
}

// change changes something and wakes who waits for it.
func (c *cable) change(what func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	what()
	close(c.moved)
	c.moved = make(chan struct{})
}

func (c *cable) serve(ctx context.Context) {
	for {
		near, err := c.listener.Accept()
		if err != nil {
			return // closed
		}
		far, err := new(net.Dialer).DialContext(ctx, "tcp", c.to)
		if err != nil {
			_ = near.Close() // nobody is there, as near learns
			continue
		}
		c.change(func() { c.conns[near], c.conns[far] = struct{}{}, struct{}{} })
		c.running.Go(func() { c.pass(far, near, false) })
		c.running.Go(func() { c.pass(near, far, true) })
	}
}

// pass moves bytes one way until either end is closed, and closes both.
func (c *cable) pass(to, from net.Conn, inwards bool) {
	defer c.change(func() {
		for _, end := range []net.Conn{to, from} {
			_ = end.Close() // twice at times
			delete(c.conns, end)
		}
	})
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && c.await(n, inwards) {
			_, werr := to.Write(buf[:n])
			err = errors.Join(err, werr)
		}
		if err != nil {
			return // io.EOF too: libp2p does not close a connection by halves
		}
	}
}

// await waits until so many bytes may pass; false when the cable is gone.
func (c *cable) await(n int, inwards bool) bool {
	for {
		c.mu.Lock()
		moved, held, closed := c.moved, c.held, c.closed
		if inwards && !held && c.left <= 0 {
			held = true
		}
		if !held && inwards {
			c.left -= int64(n)
			c.passed += int64(n)
			full := c.left <= 0
			if full {
				close(c.moved)
				c.moved = make(chan struct{})
			}
		}
		c.mu.Unlock()
		if closed || !held {
			return !closed
		}
		<-moved
	}
}

// hold lets nothing pass any more, either way, as in a cable that was pulled: neither
// end hears of it.
func (c *cable) hold() { c.change(func() { c.held = true }) }

// release lets everything pass again.
func (c *cable) release() { c.change(func() { c.held, c.left = false, endless }) }

// allow lets so many bytes more pass towards the island before it holds them back.
func (c *cable) allow(n int64) { c.change(func() { c.left, c.passed = n, 0 }) }

// drop closes every connection over the cable.
func (c *cable) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		_ = conn.Close() // pass closes it again
	}
}

// full waits until the cable has passed all that allow said.
func (c *cable) full(t *testing.T) {
	t.Helper()
	eventually(t, within, "bytes over the cable to "+c.to, func(context.Context) (bool, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.left <= 0, nil
	})
}

// brought is how many bytes passed towards the island since allow.
func (c *cable) brought() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.passed
}

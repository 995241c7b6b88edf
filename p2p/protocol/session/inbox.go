package session

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
)

// inbox is the input of an interactive run on its way to the guest, at most
// InputWindow of it. The reader of the stream puts, the guest reads.
type inbox struct {
	idle time.Duration
	// tell says how much the guest has taken in all.
	tell func(taken uint64) error

	mu       sync.Mutex
	buf      []byte
	received uint64
	taken    uint64
	told     uint64
	ended    bool
	more     chan struct{} // closed when something came
}

// tellEvery is how much the guest takes until the consumer is told.
const tellEvery = InputWindow / 4

func newInbox(idle time.Duration, tell func(uint64) error) *inbox {
	return &inbox{idle: idle, tell: tell, more: make(chan struct{})}
}

// after returns a channel that is closed when d has passed, and what stops that.
func after(d time.Duration) (late <-chan struct{}, stop func() bool) {
	c := make(chan struct{})
	return c, time.AfterFunc(d, func() { close(c) }).Stop
}

// put takes a frame of input. It never waits: a consumer that sends more than
// there is room for breaks the protocol.
func (b *inbox) put(p []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended || len(p) == 0 || len(b.buf)+len(p) > InputWindow {
		return fmt.Errorf("%w: %d bytes of input where %d wait already and %d may (ended %t)", mman.ErrProtocol, len(p), len(b.buf), InputWindow, b.ended)
	}
	b.buf = append(b.buf, p...)
	b.received += uint64(len(p))
	b.wake()
	return nil
}

// end says that no more input comes.
func (b *inbox) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.wake()
}

func (b *inbox) wake() {
	close(b.more)
	b.more = make(chan struct{})
}

// total returns how much input came.
func (b *inbox) total() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.received
}

// Ready reports whether Read would return at once.
func (b *inbox) Ready() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.buf) > 0 || b.ended
}

// Read waits for input; see resources.Input.
func (b *inbox) Read(ctx context.Context, p []byte) (int, error) {
	n, tell, more := b.take(p)
	if more != nil {
		late, stop := after(b.idle)
		defer stop()
		for more != nil {
			select {
			case <-more:
			case <-ctx.Done():
				return 0, fmt.Errorf("%w: %w", mman.ErrCanceled, context.Cause(ctx))
			case <-late:
				return 0, fmt.Errorf("%w: no input for %s", mman.ErrIdle, b.idle)
			}
			n, tell, more = b.take(p)
		}
	}
	if tell > 0 {
		if err := b.tell(tell); err != nil {
			return 0, err
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// take returns what is there; more is what to wait for when that is nothing.
func (b *inbox) take(p []byte) (n int, tell uint64, more <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.buf) == 0 {
		if b.ended {
			return 0, 0, nil
		}
		return 0, 0, b.more
	}
	n = copy(p, b.buf)
	b.buf = b.buf[n:]
	if len(b.buf) == 0 {
		b.buf = nil
	}
	b.taken += uint64(n) //nolint:gosec // copy counts upwards
	if b.taken-b.told >= tellEvery {
		b.told, tell = b.taken, b.taken
	}
	return n, tell, nil
}

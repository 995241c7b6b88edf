package session

import (
	"context"
	"fmt"
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/p2p/protocol/wire"
)

const (
	// outWindow is how much an interactive run may write that did not come yet,
	// frameCost what a frame counts for beside its body.
	outWindow = 128 << 10
	frameCost = 64
	// stall is how long a run waits for a consumer that takes no output.
	stall = 2 * time.Minute
	// gotEvery and gotBytes are after how many frames and bytes a consumer says
	// that they came.
	gotEvery = 32
	gotBytes = outWindow / 8
)

// outbox is what the provider says of an interactive run, numbered, until the
// consumer has it. It is the run's Output.
type outbox struct {
	ctx context.Context //nolint:containedctx // an outbox lives as long as its run

	mu      sync.Mutex
	frames  []wire.Frame  // those that did not come yet
	first   uint64        // the number of the first of them
	sent    uint64        // the number of the first that was never sent
	bytes   int           // what they count for
	ended   bool          // the last of them is the run's end
	changed chan struct{} // closed at every change
}

func newOutbox(ctx context.Context) *outbox {
	return &outbox{ctx: ctx, changed: make(chan struct{})}
}

func (o *outbox) wake() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// put adds a frame. Output waits until there is room, other frames do not: they
// are few.
func (o *outbox) put(kind wire.Kind, body []byte, wait bool) error {
	var late <-chan struct{}
	for {
		changed, ok := o.add(kind, body, wait)
		if ok {
			return nil
		}
		if late == nil {
			var stop func() bool
			late, stop = after(stall)
			defer stop()
		}
		select {
		case <-changed:
		case <-o.ctx.Done():
			return fmt.Errorf("%w: %w", mman.ErrCanceled, o.ctx.Err())
		case <-late:
			return fmt.Errorf("%w: the consumer took no output for %s", mman.ErrTimeout, stall)
		}
	}
}

func (o *outbox) add(kind wire.Kind, body []byte, wait bool) (changed <-chan struct{}, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if wait && o.bytes >= outWindow {
		return o.changed, false
	}
	last := len(o.frames) - 1
	if wait && last >= 0 && o.frames[last].Kind == kind && o.first+uint64(last) >= o.sent && len(o.frames[last].Body)+len(body) <= chunkSize {
		o.frames[last].Body = append(o.frames[last].Body, body...)
		o.bytes += len(body)
	} else {
		o.frames = append(o.frames, wire.Frame{Kind: kind, Body: append([]byte(nil), body...)})
		o.bytes += len(body) + frameCost
	}
	o.wake()
	return nil, true
}

// next returns the frame with the number n, or what to wait for. There is none
// after the end.
func (o *outbox) next(n uint64) (f wire.Frame, changed <-chan struct{}, over bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := n - o.first
	if i < uint64(len(o.frames)) {
		o.sent = max(o.sent, n+1)
		return o.frames[i], nil, false
	}
	return wire.Frame{}, o.changed, o.ended
}

// got drops the frames below n: they came.
func (o *outbox) got(n uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n < o.first || n > o.sent {
		return fmt.Errorf("%w: %d frames came, %d were known to have come and %d were sent", mman.ErrProtocol, n, o.first, o.sent)
	}
	for _, f := range o.frames[:n-o.first] {
		o.bytes -= len(f.Body) + frameCost
	}
	o.frames = append([]wire.Frame(nil), o.frames[n-o.first:]...)
	o.first = n
	o.wake()
	return nil
}

// delivered reports whether the run has ended and the consumer knows.
func (o *outbox) delivered() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ended && len(o.frames) == 0
}

// end adds the frame that ends the run.
func (o *outbox) end(kind wire.Kind, v any) error {
	body, err := dagcbor.Marshal(v)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.frames = append(o.frames, wire.Frame{Kind: kind, Body: body})
	o.bytes += len(body) + frameCost
	o.ended = true
	o.wake()
	return nil
}

// pump sends the frames from the number n on until the run has ended, the stream
// breaks or stop is closed.
func (o *outbox) pump(conn *wire.Conn, n uint64, stop <-chan struct{}) {
	for {
		f, changed, over := o.next(n)
		switch {
		case changed == nil:
			if conn.Write(f.Kind, f.Body) != nil {
				return // the reader of the stream sees it too
			}
			n++
			continue
		case over:
			return
		}
		select {
		case <-changed:
		case <-stop:
			return
		}
	}
}

// Stdout sends standard output.
func (o *outbox) Stdout(p []byte) error { return o.raw(kindStdout, p) }

// Stderr sends standard error.
func (o *outbox) Stderr(p []byte) error { return o.raw(kindStderr, p) }

// Aside sends answers to records.
func (o *outbox) Aside(p []byte) error { return o.raw(kindAside, p) }

func (o *outbox) raw(kind wire.Kind, p []byte) error {
	for len(p) > 0 {
		n := min(len(p), chunkSize)
		if err := o.put(kind, p[:n], true); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// Statement sends a Statement.
func (o *outbox) Statement(s market.Signed) error {
	body, err := dagcbor.Marshal(s)
	if err != nil {
		return err
	}
	return o.put(kindStatement, body, false)
}

// taken says how much of the input the guest has read.
func (o *outbox) taken(n uint64) error {
	body, err := dagcbor.Marshal(taken{n})
	if err != nil {
		return err
	}
	return o.put(kindTaken, body, false)
}

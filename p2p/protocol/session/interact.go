package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/p2p/protocol/wire"
)

const (
	// redialTime bounds one attempt to come back to a run, redialPause is the
	// rest between two.
	redialTime  = 10 * time.Second
	redialPause = 250 * time.Millisecond
	// farewell is how long a canceled run may take to say what it cost.
	farewell = 3 * time.Second
	// readSize is the most input that is read at a time.
	readSize = 4 << 10
)

// interact follows an interactive run to its end, over as many streams as it
// takes.
func (r *running) interact(ctx context.Context) (market.Signed, error) {
	r.hand = &hand{conn: r.c.conn, room: make(chan struct{})}
	defer r.hand.stop()
	if err := r.c.conn.Send(kindRun, r.run); err != nil {
		return market.Signed{}, fmt.Errorf("run %d: %w", r.run.Number, r.c.cause(ctx, err))
	}
	if r.sinks.Stdin == nil {
		r.hand.end()
	} else {
		go r.hand.copy(r.sinks.Stdin)
	}
	for {
		last, end, err := r.follow(ctx)
		if end {
			if err != nil {
				err = fmt.Errorf("run %d: %w", r.run.Number, err)
			}
			return last, err
		}
		if lost(ctx, err) {
			err = r.resume(ctx, err)
		}
		if err != nil {
			return market.Signed{}, errors.Join(fmt.Errorf("run %d: %w", r.run.Number, r.c.cause(ctx, err)), r.c.conn.Reset())
		}
	}
}

// lost reports whether the stream broke by itself.
func lost(ctx context.Context, err error) bool {
	return ctx.Err() == nil && (errors.Is(err, mman.ErrPeerVanished) || errors.Is(err, mman.ErrTimeout))
}

// follow takes frames until the run ends or its stream does. When ctx ends the
// provider is asked to stop, and has a moment to say what was used.
func (r *running) follow(ctx context.Context) (last market.Signed, end bool, err error) {
	conn := r.c.conn
	over := make(chan struct{})
	defer close(over)
	defer context.AfterFunc(ctx, func() {
		if conn.Send(kindCancel, cancel{r.run.Number}) == nil {
			late, stop := after(farewell)
			defer stop()
			select {
			case <-over:
				return
			case <-late:
			}
		}
		_ = conn.Close() // the provider need not wait for us
	})()
	for !end && err == nil {
		last, end, err = r.step()
	}
	return last, end, err
}

// step takes a frame and says now and then that they came.
func (r *running) step() (last market.Signed, end bool, err error) {
	f, err := r.read()
	if err != nil {
		return last, false, err
	}
	last, end, err = r.frame(f)
	if f.Kind == kindNeed || (err != nil && !end) {
		return last, false, err // what is needed is asked for before the run begins
	}
	r.frames++
	r.unsaid++
	r.weight += uint64(len(f.Body))
	if end || r.unsaid >= gotEvery || r.weight >= gotBytes {
		r.unsaid, r.weight = 0, 0
		if serr := r.c.conn.Send(kindGot, got{r.frames}); serr != nil && !end {
			return last, false, serr
		}
	}
	return last, end, err
}

// resume dials again until the run goes on or the time for that is over.
func (r *running) resume(ctx context.Context, why error) error {
	linger := r.c.opening.Linger
	if linger == 0 {
		return why
	}
	r.hand.cut()
	if r.sinks.Lost != nil {
		r.sinks.Lost(why)
	}
	ctx, stop := context.WithTimeout(ctx, linger)
	defer stop()
	for {
		err := r.redial(ctx)
		if err == nil {
			if r.sinks.Lost != nil {
				r.sinks.Lost(nil)
			}
			return nil
		}
		if !lost(ctx, err) && !errors.Is(err, mman.ErrUnreachable) {
			return errors.Join(why, err)
		}
		rested, stopPause := after(redialPause)
		select {
		case <-rested:
		case <-ctx.Done():
			stopPause()
			return errors.Join(why, err)
		}
	}
}

func (r *running) redial(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, redialTime)
	defer stop()
	r.c.opening.Nonce = mman.Sum256(r.c.opening.Nonce[:], []byte("again"))
	if err := r.c.dial(ctx, &Resume{Run: r.run.Number, Got: r.frames}); err != nil {
		return err
	}
	defer r.c.watch(ctx)()
	back, err := wire.Receive[resumed](r.c.conn, kindResumed)
	if err == nil {
		err = r.hand.resume(r.c.conn, back.Received)
	}
	if err != nil {
		return errors.Join(err, r.c.conn.Reset())
	}
	r.unsaid, r.weight = 0, 0
	return nil
}

// hand writes the input of an interactive run, never more than InputWindow ahead
// of what the guest took, and keeps what may have to be said again.
type hand struct {
	mu    sync.Mutex
	conn  *wire.Conn // nil while the stream is broken
	base  uint64     // what the guest took
	buf   []byte     // what was read after that
	ended bool
	over  bool
	room  chan struct{} // closed when there may be room
}

// copy reads the input to its end.
func (h *hand) copy(in io.Reader) {
	p := make([]byte, readSize)
	for {
		n, err := in.Read(p)
		if n > 0 && !h.write(p[:n]) {
			return
		}
		if err != nil {
			h.end()
			return
		}
	}
}

// write sends p when there is room; false means that the run is over.
func (h *hand) write(p []byte) bool {
	for {
		h.mu.Lock()
		if h.over {
			h.mu.Unlock()
			return false
		}
		if len(h.buf)+len(p) <= InputWindow {
			h.buf = append(h.buf, p...)
			h.send(kindInput, p)
			h.mu.Unlock()
			return true
		}
		room := h.room
		h.mu.Unlock()
		<-room
	}
}

// send sends a frame if there is a stream; the reader notices that one broke.
func (h *hand) send(kind wire.Kind, body []byte) {
	if h.conn != nil && h.conn.Write(kind, body) != nil {
		h.conn = nil
	}
}

func (h *hand) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.over {
		h.ended = true
		h.send(kindInputEnd, nil)
	}
}

// taken makes room.
func (h *hand) taken(n uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n < h.base || n-h.base > uint64(len(h.buf)) {
		return fmt.Errorf("%w: the guest is said to have taken %d bytes of the %d that were sent", mman.ErrProtocol, n, h.base+uint64(len(h.buf)))
	}
	h.buf = append([]byte(nil), h.buf[n-h.base:]...)
	h.base = n
	h.wake()
	return nil
}

func (h *hand) wake() {
	close(h.room)
	h.room = make(chan struct{})
}

// cut says that the stream broke.
func (h *hand) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conn = nil
}

// resume goes on over another stream, from what the provider received.
func (h *hand) resume(conn *wire.Conn, received uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if received < h.base || received-h.base > uint64(len(h.buf)) {
		return fmt.Errorf("%w: the provider says that it received %d bytes of input, %d were taken and %d sent", mman.ErrProtocol, received, h.base, h.base+uint64(len(h.buf)))
	}
	h.conn = conn
	for again := h.buf[received-h.base:]; len(again) > 0; {
		n := min(len(again), readSize)
		h.send(kindInput, again[:n])
		again = again[n:]
	}
	if h.ended {
		h.send(kindInputEnd, nil)
	}
	return nil
}

// stop ends the writing.
func (h *hand) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	h.wake()
}

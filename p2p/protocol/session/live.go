package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p/protocol/wire"
)

// live is an interactive run: what goes to the guest and what comes from it,
// apart from the stream that carries it at the moment.
type live struct {
	run uint64
	in  *inbox
	out *outbox

	mu      sync.Mutex    // one attaches or detaches at a time
	stop    chan struct{} // ends the pump of the stream of this moment, nil without one
	pumping chan struct{} // closed when it has ended
	begun   bool          // all that it needs is there
}

func (l *live) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun = true
}

// lasting reports whether the run can go on without its stream, and would be of
// use.
func (l *live) lasting() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.begun && !l.out.delivered()
}

// attach lets what the run says go out on the stream, from the frame n on.
func (l *live) attach(conn *wire.Conn, n uint64) {
	l.detach()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stop, l.pumping = make(chan struct{}), make(chan struct{})
	go func(stop, pumping chan struct{}) {
		defer close(pumping)
		l.out.pump(conn, n, stop)
	}(l.stop, l.pumping)
}

// detach ends that. It is safe twice.
func (l *live) detach() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop != nil {
		close(l.stop)
		<-l.pumping
		l.stop = nil
	}
}

// interactive returns the interactive run under way or just ended, or nil.
func (v *visit) interactive() *live {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.live
}

// announce makes room for the input of a run that is interactive, which may
// follow at once, and lets go of the one before: the consumer has its end.
func (v *visit) announce(ctx context.Context, run Run) {
	if l := v.interactive(); l != nil {
		l.detach()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.live = nil
	if !run.Interactive {
		return
	}
	idle := defaultIdle
	if run.IdleMs > 0 {
		idle = time.Duration(run.IdleMs) * time.Millisecond //nolint:gosec // Validate bounds it
	}
	l := &live{run: run.Number, out: newOutbox(ctx)}
	l.in = newInbox(idle, l.out.taken)
	l.attach(v.conn, 0)
	v.live = l
}

// interact takes a frame that belongs to an interactive run. Those that come
// when it is over were on their way.
func (v *visit) interact(f wire.Frame) error {
	l := v.interactive()
	if l == nil {
		return fmt.Errorf("%w: frame of kind %d without an interactive run", mman.ErrProtocol, f.Kind)
	}
	switch f.Kind { //nolint:exhaustive // the others do not come here
	case kindInput:
		return l.in.put(f.Body)
	case kindInputEnd:
		if len(f.Body) > 0 {
			return fmt.Errorf("%w: the end of the input has a body of %d bytes", mman.ErrProtocol, len(f.Body))
		}
		l.in.end()
		return nil
	default:
		g, err := wire.Decode[got](f)
		if err != nil {
			return err
		}
		return l.out.got(g.Frames)
	}
}

// adoption is a stream on which a consumer came back.
type adoption struct {
	conn *wire.Conn
	from Resume
	left chan struct{} // closed when the session no longer uses the stream
}

// resume brings a consumer back to its interactive run, and returns when the
// stream is no longer used.
func (s *Server) resume(ctx context.Context, here *visit, hello Hello) error {
	conn := here.conn
	v, accept, err := s.find(ctx, hello)
	if err != nil {
		return errors.Join(err, conn.Fail(err))
	}
	if err := conn.Send(kindAccept, accept); err != nil {
		return err
	}
	v.reset() // the stream before may not know yet that it is broken
	a := &adoption{conn: conn, from: *hello.Resume, left: make(chan struct{})}
	select {
	case v.adopt <- a:
		here.idle.Stop()
		<-a.left
		return nil
	case <-v.over:
		err := gone(hello)
		return errors.Join(err, conn.Fail(err))
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
	}
}

func gone(hello Hello) error {
	return fmt.Errorf("lease %s lane %d: %w: run %d does not wait here for its consumer", hello.Lease, hello.Lane, mman.ErrNotFound, hello.Resume.Run)
}

// find returns the session that the hello speaks of.
func (s *Server) find(ctx context.Context, hello Hello) (*visit, Accept, error) {
	s.mu.Lock()
	v := s.visits[place{hello.Lease, hello.Lane}]
	s.mu.Unlock()
	if v == nil || s.Linger == 0 {
		return nil, Accept{}, gone(hello)
	}
	accept, err := v.work.Resume(ctx, hello)
	if err != nil {
		return nil, Accept{}, err
	}
	if l := v.interactive(); l == nil || l.run != hello.Resume.Run {
		return nil, Accept{}, gone(hello)
	}
	return v, accept, nil
}

// park keeps an interactive run whose stream broke until its consumer is back;
// it is not when nobody came in time.
func (v *visit) park(ctx context.Context, linger time.Duration) (back bool) {
	l := v.interactive()
	if l == nil || linger == 0 || !l.lasting() {
		return false
	}
	late, stop := after(linger)
	defer stop()
	for {
		select {
		case a := <-v.adopt:
			if v.take(a, l) == nil {
				return true
			}
		case <-late:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// take goes on with the run on another stream.
func (v *visit) take(a *adoption, l *live) error {
	err := l.out.got(a.from.Got)
	if err == nil {
		err = a.conn.Send(kindResumed, resumed{l.in.total()})
	}
	if err != nil {
		defer close(a.left)
		return errors.Join(err, a.conn.Fail(err))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.guest, v.conn = a, a.conn
	l.attach(a.conn, a.from.Got)
	return nil
}

// leave lets go of the stream that was read last.
func (v *visit) leave() {
	if l := v.interactive(); l != nil {
		l.detach()
	}
	if v.guest != nil {
		close(v.guest.left)
		v.guest = nil
	}
}

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
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/protocol/wire"
	"github.com/limboid/massive-man/resources"
)

// Provider admits sessions. It is safe for concurrent use.
type Provider interface {
	// Open verifies the hello against the lease and returns the work that may
	// be done under it and the signed accept, or the reason why not.
	Open(ctx context.Context, hello Hello) (Work, Accept, error)
}

// Work is one accepted session at the provider. Its methods are called one at a
// time, but Receipt and Resume also while Missing, Supply or Run are under way.
type Work interface {
	// Missing returns the contents that the consumer must supply before run can
	// start, or the reason why it will not be carried out.
	Missing(ctx context.Context, run Run) ([]mman.CID, error)
	// Supply stores a content of the given size; it must match id.
	Supply(ctx context.Context, id mman.CID, size uint64, r io.Reader) error
	// Run carries out the run and returns the Statement with its result. An
	// error means that nothing was run and nothing is owed. in is the input of an
	// interactive run, nil for another.
	Run(ctx context.Context, run Run, in resources.Input, out Output) (market.Signed, error)
	// Resume verifies the hello of a consumer that comes back to an interactive
	// run, and returns the signed accept, or the reason why not.
	Resume(ctx context.Context, hello Hello) (Accept, error)
	// Receipt takes the payer's signature under a Statement.
	Receipt(ctx context.Context, r market.Signed) error
	// Settle submits what the lease's receipts authorise and ends the lease; it
	// returns the transaction.
	Settle(ctx context.Context) (mman.Hash, error)
	// Close frees what the session held.
	Close()
}

// Output takes what a run produces on its way.
type Output interface {
	Stdout(p []byte) error
	Stderr(p []byte) error
	// Aside answers the records of a framed run.
	Aside(p []byte) error
	// Statement sends a Statement without a result.
	Statement(s market.Signed) error
}

const (
	// helloTimeout is how long a peer may take to say which lease it comes for.
	helloTimeout = 30 * time.Second
	// defaultIdle is how long an interactive run waits for input unless the
	// consumer asks for another time.
	defaultIdle = 5 * time.Minute
)

// Server speaks the provider's side. It is safe for concurrent use.
type Server struct {
	// Provider decides and works.
	Provider Provider
	// Idle is how long a session may rest between two runs, and how long the
	// next part of a content may take that the consumer supplies; positive.
	Idle time.Duration
	// Linger is how long an interactive run goes on without its consumer when
	// the stream breaks; 0 ends it at once.
	Linger time.Duration

	mu     sync.Mutex
	visits map[place]*visit
}

// place is what one session at a time can hold.
type place struct {
	lease mman.LeaseID
	lane  uint64
}

// Serve speaks on the stream until the session ends. It returns nil at a clean
// end and otherwise why the session ended; the stream is closed.
func (s *Server) Serve(ctx context.Context, stream p2p.Stream) error {
	conn := wire.New(stream, wireConfig())
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	v := &visit{conn: conn, rest: s.Idle, adopt: make(chan *adoption), over: make(chan struct{})}
	defer close(v.over)
	// Deferred after stop, so that an ended session is not reset: its last frame
	// may still be on its way.
	defer context.AfterFunc(ctx, v.reset)()
	v.idle = time.AfterFunc(min(s.Idle, helloTimeout), stop)
	defer v.idle.Stop()

	hello, err := wire.Receive[Hello](conn, kindHello)
	if err != nil {
		return errors.Join(fmt.Errorf("hello: %w", err), conn.Reset())
	}
	if hello.Consumer != conn.RemotePeer() {
		err := fmt.Errorf("lease %s: %w: the hello speaks for peer %s, the stream comes from %s", hello.Lease, mman.ErrNotYourLease, hello.Consumer, conn.RemotePeer())
		return errors.Join(err, conn.Fail(err))
	}
	if hello.Resume != nil {
		return s.resume(ctx, v, hello)
	}
	work, accept, err := s.Provider.Open(ctx, hello)
	if err != nil {
		return errors.Join(err, conn.Fail(err))
	}
	defer work.Close()
	if err := conn.Send(kindAccept, accept); err != nil {
		return err
	}
	v.work = work
	defer s.enter(place{hello.Lease, hello.Lane}, v)()
	v.idle.Reset(s.Idle)
	defer v.wait()
	for {
		err := v.loop(ctx)
		v.leave()
		var broken cutError
		if !errors.As(err, &broken) || !v.park(ctx, s.Linger) {
			return err
		}
	}
}

// enter makes the session known to those that come back to it.
func (s *Server) enter(at place, v *visit) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.visits == nil {
		s.visits = make(map[place]*visit)
	}
	s.visits[at] = v
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.visits, at)
	}
}

// visit is one accepted session under way. The reading goroutine takes frames;
// at most one other carries out a run.
type visit struct {
	work Work
	idle *time.Timer
	rest time.Duration

	running sync.WaitGroup
	cancel  context.CancelFunc // of the run under way
	busy    chan struct{}      // closed when the run under way has ended; nil before the first
	turns   chan turn          // runs for carry; nil before the first
	supply  *supply            // where chunks go; nil when no blob is under way
	feed    chan *supply       // blobs for the run under way

	adopt chan *adoption // a consumer that came back
	guest *adoption      // the one that is here now, nil for the first
	over  chan struct{}  // closed at the end of the session

	mu   sync.Mutex
	conn *wire.Conn // changes only while no stream is read
	due  []mman.CID // what was asked for and has not begun to arrive
	live *live      // the interactive run under way or just ended
}

// stream is the connection of this moment.
func (v *visit) stream() *wire.Conn {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.conn
}

func (v *visit) reset() { _ = v.stream().Reset() } // a second reset has nothing to say

func (v *visit) wait() {
	if v.cancel != nil {
		v.cancel()
	}
	v.endSupply(mman.ErrPeerVanished)
	if v.turns != nil {
		close(v.turns)
	}
	v.running.Wait()
	v.leave() // a run that began late
}

// cutError is the end of a stream that nobody wanted.
type cutError struct{ err error }

func (e cutError) Error() string { return e.err.Error() }

func (e cutError) Unwrap() error { return e.err }

func (v *visit) loop(ctx context.Context) error {
	conn := v.stream()
	for {
		f, err := conn.Read()
		if err == io.EOF { //nolint:errorlint // the bare value is the clean end
			return conn.Close()
		}
		if err != nil {
			err = errors.Join(err, conn.Close())
			if errors.Is(err, mman.ErrPeerVanished) || errors.Is(err, mman.ErrTimeout) {
				return cutError{err}
			}
			return err
		}
		end, err := v.frame(ctx, f)
		if err != nil {
			return errors.Join(err, conn.Fail(err))
		}
		if end {
			return conn.Close()
		}
	}
}

func (v *visit) frame(ctx context.Context, f wire.Frame) (end bool, err error) {
	switch f.Kind {
	case kindRun:
		run, err := wire.Decode[Run](f)
		if err != nil {
			return false, err
		}
		return false, v.start(ctx, run)
	case kindBlob:
		b, err := wire.Decode[blob](f)
		if err != nil {
			return false, err
		}
		return false, v.beginSupply(ctx, b)
	case kindChunk:
		return false, v.chunk(f.Body)
	case kindReceipt:
		r, err := wire.Decode[market.Signed](f)
		if err != nil {
			return false, err
		}
		return false, v.work.Receipt(ctx, r)
	case kindInput, kindInputEnd, kindGot:
		return false, v.interact(f)
	case kindCancel:
		if _, err := wire.Decode[cancel](f); err != nil {
			return false, err
		}
		if v.cancel != nil {
			v.cancel()
		}
		return false, nil
	case kindClose:
		c, err := wire.Decode[closing](f)
		if err != nil {
			return false, err
		}
		return true, v.end(ctx, c)
	case wire.KindError: // Read returns it as an error
		fallthrough
	default:
		return false, fmt.Errorf("%w: frame of kind %d", mman.ErrProtocol, f.Kind)
	}
}

func (v *visit) idleRun() bool {
	if v.busy == nil {
		return true
	}
	select {
	case <-v.busy:
		return true
	default:
		return false
	}
}

func (v *visit) start(ctx context.Context, run Run) error {
	if !v.idleRun() {
		return fmt.Errorf("run %d: %w: the run before it has not ended", run.Number, mman.ErrProtocol)
	}
	if v.supply != nil || len(v.asked()) > 0 {
		return fmt.Errorf("run %d: %w: contents of the run before it are still due", run.Number, mman.ErrProtocol)
	}
	v.idle.Reset(v.rest)
	if err := run.Validate(); err != nil {
		return v.failed(run, err)
	}
	ctx, v.cancel = context.WithCancel(ctx) // one run at a time; wait cancels the last
	v.busy, v.feed = make(chan struct{}), make(chan *supply)
	v.announce(ctx, run)
	if v.turns == nil {
		v.turns = make(chan turn, 1) // the run before may still be saying how it ended
		v.running.Add(1)
		go v.carry(v.turns)
	}
	v.turns <- turn{ctx, v.cancel, run, v.busy}
	return nil
}

// turn is a run that is about to be carried out.
type turn struct {
	ctx    context.Context //nolint:containedctx // of this one run
	cancel context.CancelFunc
	run    Run
	busy   chan<- struct{} // closed when it has ended
}

// carry carries out the session's runs, one after another on one goroutine: its
// stack has the size that runs need from the second on.
func (v *visit) carry(turns <-chan turn) {
	defer v.running.Done()
	for t := range turns {
		st, err := v.run(t.ctx, t.run)
		v.idle.Reset(v.rest)
		// The run has ended before the consumer can know: its next frame may
		// follow at once.
		close(t.busy)
		if err := v.ended(t.run, st, err); err != nil {
			v.reset() // the reader sees it and ends the session
		}
		t.cancel()
	}
}

// ended says how the run ended.
func (v *visit) ended(run Run, st market.Signed, err error) error {
	kind, last := kindStatement, any(st)
	if err != nil {
		kind, last = kindFailed, failure(run, err)
	}
	if l := v.interactive(); l != nil {
		return l.out.end(kind, last)
	}
	return v.stream().Send(kind, last)
}

func (v *visit) run(ctx context.Context, run Run) (market.Signed, error) {
	missing, err := v.work.Missing(ctx, run)
	if err != nil {
		return market.Signed{}, err
	}
	conn := v.stream()
	if len(missing) > 0 {
		v.mu.Lock()
		v.due = missing
		v.mu.Unlock()
		if err := conn.Send(kindNeed, need{missing}); err != nil {
			return market.Signed{}, err
		}
		for _, id := range missing {
			if err := v.store(ctx); err != nil {
				return market.Signed{}, fmt.Errorf("supply of %s: %w", id, err)
			}
		}
	}
	v.idle.Stop() // its limits bound the run
	l := v.interactive()
	if l == nil {
		return v.work.Run(ctx, run, nil, output{conn})
	}
	l.begin()
	return v.work.Run(ctx, run, l.in, l.out)
}

// store takes the next blob; the reader sees to their order.
func (v *visit) store(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
	case s := <-v.feed:
		err := v.work.Supply(ctx, s.Content, s.Bytes, io.LimitReader(s.r, int64(s.Bytes))) //nolint:gosec // beginSupply bounds Bytes
		return errors.Join(err, s.r.CloseWithError(err))
	}
}

// asked returns the contents that have not begun to arrive.
func (v *visit) asked() []mman.CID {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.due
}

func (v *visit) failed(run Run, err error) error {
	return v.stream().Send(kindFailed, failure(run, err))
}

// supply is a blob whose chunks are arriving.
type supply struct {
	blob
	left uint64
	r    *io.PipeReader
	w    *io.PipeWriter
}

// beginSupply takes the next of the contents that were asked for. A run that
// gave up leaves the rest of them on their way: they are thrown away.
func (v *visit) beginSupply(ctx context.Context, b blob) error {
	due := v.asked()
	if v.supply != nil || len(due) == 0 || due[0] != b.Content || b.Bytes > resources.MaxContentBytes {
		return fmt.Errorf("%w: unexpected blob %s of %d bytes", mman.ErrProtocol, b.Content, b.Bytes)
	}
	v.mu.Lock()
	v.due = due[1:]
	v.mu.Unlock()
	v.idle.Reset(v.rest)
	s := &supply{blob: b, left: b.Bytes}
	s.r, s.w = io.Pipe()
	select {
	case v.feed <- s:
	case <-v.busy:
		_ = s.r.CloseWithError(mman.ErrCanceled) // always nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
	}
	v.supply = s
	if s.left == 0 {
		v.endSupply(nil)
	}
	return nil
}

func (v *visit) chunk(p []byte) error {
	s := v.supply
	if s == nil || len(p) == 0 || uint64(len(p)) > s.left {
		return fmt.Errorf("%w: unexpected chunk of %d bytes", mman.ErrProtocol, len(p))
	}
	v.idle.Reset(v.rest) // before the run can go on: it stops the timer
	_, _ = s.w.Write(p)  // an error means that the reader gave up: the rest is thrown away
	if s.left -= uint64(len(p)); s.left == 0 {
		v.endSupply(nil)
	}
	return nil
}

func (v *visit) endSupply(err error) {
	if v.supply != nil {
		_ = v.supply.w.CloseWithError(err) // always nil
		v.supply = nil
	}
}

func (v *visit) end(ctx context.Context, c closing) error {
	if !v.idleRun() {
		return fmt.Errorf("%w: close while a run is under way; cancel it first", mman.ErrProtocol)
	}
	var closed Closed
	if c.Settle {
		var err error
		if closed.TxHash, err = v.work.Settle(ctx); err != nil {
			return err
		}
	}
	return v.stream().Send(kindClosed, closed)
}

// output sends what a run writes.
type output struct{ conn *wire.Conn }

func (o output) Stdout(p []byte) error { return o.raw(kindStdout, p) }
func (o output) Stderr(p []byte) error { return o.raw(kindStderr, p) }
func (o output) Aside(p []byte) error  { return o.raw(kindAside, p) }

func (o output) raw(kind wire.Kind, p []byte) error {
	for len(p) > 0 {
		n := min(len(p), chunkSize)
		if err := o.conn.Write(kind, p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

func (o output) Statement(s market.Signed) error { return o.conn.Send(kindStatement, s) }

package container

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/moby/moby/client"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/container/hosting"
	"github.com/limboid/massive-man/resources/container/mux"
)

const (
	// ferryFile and ferryPath are where the way into a hosted container lies, in the
	// executor's folder and in containers.
	ferryFile = "ferry"
	ferryPath = "/.mman-ferry"

	// logBytes and eventBytes bound what is kept of what a hosted program prints and
	// of what became of it.
	logBytes   = 1 << 20
	eventBytes = 64 << 10
	// logRate is how much of it is read in a second: a program that prints more
	// waits.
	logRate = 1 << 20

	// stopGrace is how long a program may take to end after SIGTERM.
	stopGrace = 10 * time.Second
	// noticeWithin is how long before its end by a limit a run is told, at most a
	// tenth of it.
	noticeWithin = time.Minute
	// sickAfter is how many health checks in a row must fail, checkWithin how long one
	// may take, and bornWithin how long a program may take to be healthy at first.
	sickAfter   = 3
	checkWithin = 5 * time.Second
	bornWithin  = 2 * time.Minute
	// A program is begun again after backoffLeast, and after twice as long each time
	// up to backoffMost; one that ran for steadyAfter begins anew.
	backoffLeast = 500 * time.Millisecond
	backoffMost  = time.Minute
	steadyAfter  = time.Minute
	// headWithin is how long a consumer may take to say what a stream is for.
	headWithin = 10 * time.Second
	// dialWithin is how long the program's port may take to accept a connection.
	dialWithin = 30 * time.Second
	// byeWithin is how long the last lines may take.
	byeWithin = time.Second
	// look is the pause between two looks at a program that closed its streams.
	look = 250 * time.Millisecond
)

// exitTerm is the exit code of a program that SIGTERM ended.
const exitTerm = 143

// Causes of a context that ended a hosted run in good order.
var (
	errLeft  = errors.New("the consumer has ended it")
	errEnded = errors.New("the program has ended")
	errSick  = errors.New("the program does not answer")
)

// hosted is a hosted run: its program in one container after another, and the way
// between it and its consumer.
type hosted struct {
	r       *run
	service resources.Service
	logs    *journal
	events  *journal
	front   *mux.Session
	// leave ends the run in good order: the program is asked to end.
	leaving context.Context //nolint:containedctx // as long as the run
	leave   context.CancelCauseFunc

	begin sync.Once // the time that is billed

	mu       sync.Mutex
	ferry    *mux.Session // nil while there is no container
	restarts uint64
	exit     uint32
}

// serve carries out a hosted run. The container exists, or will, with the mounts.
func (r *run) serve(ctx context.Context, mounts []string) (resources.Result, error) {
	if r.streams.Stdin == nil {
		return r.result(0), fmt.Errorf("%w: a hosted run is an interactive one", mman.ErrInvalid)
	}
	h := &hosted{r: r, service: *r.p.task.Service, logs: newJournal(logBytes), events: newJournal(eventBytes)}
	h.leaving, h.leave = context.WithCancelCause(ctx)
	defer h.leave(nil)
	aside, stop := context.WithCancel(ctx)
	defer stop()
	front, err := mux.Server(&shore{r: r, ctx: aside, stop: stop})
	if err != nil {
		return r.result(0), fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	h.front = front
	var work sync.WaitGroup
	work.Go(func() { h.greet(aside, &work) })
	work.Go(func() { h.warn(aside) })
	err = h.open(aside, &work)
	if err == nil {
		err = h.lives(ctx, append(mounts, r.e.path(ferryFile)+":"+ferryPath+":ro"))
	}
	r.watch.stop()
	result, err := h.result(ctx, err)
	h.tell(hosting.Event{State: hosting.Stopped, ExitCode: h.exit, Reason: why(err)})
	h.logs.close()
	h.events.close()
	h.farewell(front)
	r.out.close()
	stop()
	_ = front.Close() // the run is over
	work.Wait()
	result.Usage = r.result(0).Usage // with the last bytes
	return result, err
}

// why is the reason of an end for its consumer.
func why(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// farewell gives the followers time for the last lines.
func (h *hosted) farewell(front *mux.Session) {
	late := h.r.e.config.After(byeWithin)
	for {
		if h.readers() == 0 {
			select {
			case <-front.Heard():
			case <-front.Done():
			case <-late:
			}
			return
		}
		select {
		case <-front.Done():
			return
		case <-late:
			return
		case <-h.r.e.config.After(exitLook):
		}
	}
}

// readers counts who follows the journals.
func (h *hosted) readers() int { return h.logs.reading() + h.events.reading() }

// result says how the run ended.
func (h *hosted) result(ctx context.Context, err error) (resources.Result, error) {
	result := h.r.result(h.exit)
	if cause := context.Cause(ctx); cause != nil {
		return result, h.r.reason(ctx, cause)
	}
	switch left := context.Cause(h.leaving); { //nolint:contextcheck // it is derived from ctx
	case errors.Is(left, mman.ErrStopped):
		return result, left
	case errors.Is(left, errLeft):
		if result.ExitCode == exitTerm || result.ExitCode == exitKill {
			result.ExitCode = 0 // as it was asked
		}
		return result, nil
	case errors.Is(err, errEnded):
		return result, nil
	case errors.Is(err, errDied):
		return result, fmt.Errorf("%w: %w", mman.ErrStopped, err)
	}
	return result, err
}

// shore is the run's input and output as one connection.
type shore struct {
	r    *run
	ctx  context.Context //nolint:containedctx // as long as the run
	stop context.CancelFunc
}

// Read takes what the consumer sends, within the limit.
func (s *shore) Read(p []byte) (int, error) {
	n, err := s.r.streams.Stdin.Read(s.ctx, p)
	if s.r.in.Add(uint64(n)) > s.r.p.task.Limits.InputBytes { //nolint:gosec // readers count upwards
		err = fmt.Errorf("%w: %d bytes", mman.ErrInputLimit, s.r.p.task.Limits.InputBytes)
		s.r.end(err)
	}
	if err != nil && !errors.Is(err, io.EOF) && s.ctx.Err() == nil {
		s.r.end(err)
	}
	return n, err
}

// Write sends to the consumer, within the limit.
func (s *shore) Write(p []byte) (int, error) {
	if err := s.r.out.write(0, p); err != nil {
		if s.ctx.Err() == nil {
			s.r.end(err)
		}
		return 0, err
	}
	return len(p), nil
}

// Close lets the reader go.
func (s *shore) Close() error {
	s.stop()
	return nil
}

// tell adds to the events.
func (h *hosted) tell(e hosting.Event) {
	h.mu.Lock()
	e.Restarts = h.restarts
	h.mu.Unlock()
	_, _ = h.events.Write(e.Line()) // it never fails
}

// greet answers the consumer's streams until it has none any more, which ends the
// run.
func (h *hosted) greet(ctx context.Context, work *sync.WaitGroup) {
	for {
		stream, err := h.front.Accept()
		if err != nil {
			h.leave(errLeft)
			return
		}
		work.Go(func() { h.answer(ctx, stream) })
	}
}

func (h *hosted) answer(ctx context.Context, stream mux.Stream) {
	_ = stream.SetReadDeadline(h.r.e.config.Clock().Add(headWithin)) // streams have deadlines
	kind, err := stream.Head()
	_ = stream.SetReadDeadline(time.Time{}) // as above
	switch {
	case err != nil:
	case kind == mux.KindConn:
		if way, err := h.dial(ctx); err == nil {
			mux.Join(way, stream)
			return
		}
	case kind == mux.KindLog:
		h.logs.serve(ctx, stream)
		return
	case kind == mux.KindEvents:
		h.events.serve(ctx, stream)
		return
	}
	_ = stream.Reset() // it is over, or nobody knows what it is for
}

// dial reaches the program's port.
func (h *hosted) dial(ctx context.Context) (mux.Stream, error) {
	h.mu.Lock()
	ferry := h.ferry
	h.mu.Unlock()
	if ferry == nil {
		return mux.Stream{}, fmt.Errorf("%w: the container is not there now", mman.ErrUnreachable)
	}
	way, err := ferry.Open(ctx, mux.KindConn)
	if err != nil {
		return way, err
	}
	_ = way.SetReadDeadline(h.r.e.config.Clock().Add(dialWithin)) // streams have deadlines
	if _, err := way.Head(); err != nil {
		_ = way.Reset() // nobody is there
		return way, fmt.Errorf("%w: port %d takes no connection", mman.ErrUnreachable, h.service.Port)
	}
	_ = way.SetReadDeadline(time.Time{}) // as above
	return way, nil
}

// open lets others in, where that was asked for.
func (h *hosted) open(ctx context.Context, work *sync.WaitGroup) error {
	if !h.service.Network {
		return nil
	}
	if h.r.streams.Door == nil {
		return fmt.Errorf("%w: this provider opens no port to its network", mman.ErrPolicy)
	}
	door, err := h.r.streams.Door(ctx)
	if err != nil {
		return err
	}
	h.tell(hosting.Event{State: hosting.Published, Addr: door.Addr()})
	context.AfterFunc(ctx, func() { _ = door.Close() }) // it was open
	work.Go(func() {
		mux.Admit(work, mux.MaxStreams/2, door.Next, func(v resources.Visitor) { h.visit(ctx, v) })
	})
	return nil
}

// visit is somebody from the network.
func (h *hosted) visit(ctx context.Context, conn resources.Visitor) {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	way, err := h.dial(ctx)
	if err != nil {
		_ = conn.Close() // nobody is there
		return
	}
	mux.Join(conn, way)
}

// warn tells the consumer before the run is ended by its limit or its provider, and
// ends it then.
func (h *hosted) warn(ctx context.Context) {
	wall := time.Duration(h.r.p.task.Limits.WallMs) * time.Millisecond //nolint:gosec // at most a day
	within := min(noticeWithin, wall/10)
	soon := h.r.e.config.After(wall - within)
	said := make(chan resources.Notice)
	if h.r.streams.Notices != nil {
		go func() {
			if n, err := h.r.streams.Notices.Next(ctx); err == nil {
				select {
				case said <- n:
				case <-ctx.Done():
				}
			}
		}()
	}
	var end <-chan time.Time
	var reason string
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-said:
			reason, end = n.Reason, h.r.e.config.After(n.In)
			h.tell(hosting.Event{State: hosting.Notified, Reason: n.Reason, InMs: uint64(n.In.Milliseconds())}) //nolint:gosec // not negative
		case <-soon:
			if rest := wall - h.r.watch.spent(); rest > within {
				soon = h.r.e.config.After(rest - within) // it rested
				continue
			}
			soon = nil
			h.tell(hosting.Event{State: hosting.Notified, Reason: "the time of the run is nearly over", InMs: uint64(within.Milliseconds())}) //nolint:gosec // not negative
		case <-end:
			h.leave(fmt.Errorf("%w: %s", mman.ErrStopped, reason))
			return
		}
	}
}

// lives runs containers, one after another, until the run is over.
func (h *hosted) lives(ctx context.Context, mounts []string) error {
	pause := backoffLeast
	for {
		begun := h.r.e.config.Clock()
		err := h.life(ctx, mounts)
		died := errors.Is(err, errDied) || errors.Is(err, mman.ErrMemory)
		if ctx.Err() != nil || h.leaving.Err() != nil || !died || !h.service.Again(true) {
			return err
		}
		if h.r.e.config.Clock().Sub(begun) >= steadyAfter {
			pause = backoffLeast
		}
		h.r.watch.stop() // nothing is set aside meanwhile
		if !h.rest(ctx, pause, err) {
			return err
		}
		h.r.watch.resume()
		pause = min(2*pause, backoffMost)
	}
}

// rest waits before the next beginning; false means that there is none.
func (h *hosted) rest(ctx context.Context, pause time.Duration, cause error) bool {
	h.mu.Lock()
	h.restarts++
	h.mu.Unlock()
	h.tell(hosting.Event{State: hosting.Restart, Reason: why(cause), InMs: uint64(pause.Milliseconds())}) //nolint:gosec // not negative
	select {
	case <-ctx.Done():
		return false
	case <-h.leaving.Done():
		return false
	case <-h.r.e.config.After(pause):
		return true
	}
}

// life is one container.
func (h *hosted) life(ctx context.Context, mounts []string) (err error) {
	r, eng := h.r, h.r.e.engine
	lost := func(err error) error {
		if ctx.Err() != nil {
			return err
		}
		return fmt.Errorf("%w: the container engine: %w", mman.ErrStopped, err)
	}
	if r.id, err = eng.create(ctx, r.p.image, r.p.task.Limits, mounts); err != nil {
		return lost(err)
	}
	defer func() {
		if ferr := r.finish(ctx); ferr != nil && err == nil {
			err = ferr
		}
	}()
	before, err := eng.measure(ctx, r.id)
	if err != nil {
		return lost(err)
	}
	r.base, r.died = before.cpu-time.Duration(r.cpu.Load()), make(chan struct{})
	h.begin.Do(r.watch.start)
	aside, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer func() {
		stop()
		work.Wait()
		r.settle(ctx)
	}()
	work.Go(func() { r.mourn(aside) })
	work.Go(func() { r.meter(aside) })
	conn, err := eng.start(ctx, r.id, client.ExecCreateOptions{Cmd: []string{ferryPath, strconv.FormatUint(h.service.Port, 10)}, WorkingDir: "/"}, client.ExecAttachOptions{})
	if err != nil {
		return lost(err)
	}
	ferry, err := mux.Client(&deck{conn: conn.HijackedResponse, frames: frames{r: conn.Reader}})
	if err != nil {
		conn.Close()
		return fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	h.setFerry(ferry)
	defer func() {
		h.setFerry(nil)
		_ = ferry.Close() // with the container
	}()
	err = h.programs(aside, ferry)
	if errors.Is(err, errDied) {
		err = h.dead(ctx)
	}
	return err
}

// dead says why the whole container ended.
func (h *hosted) dead(ctx context.Context) error {
	select {
	case <-h.r.died:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-h.r.e.config.After(byeWithin):
		return fmt.Errorf("%w: the program has ended what leads to it", errDied)
	}
	_, oom, err := h.r.exit(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", mman.ErrStopped, err)
	case oom:
		return fmt.Errorf("%w: %d bytes", mman.ErrMemory, h.r.p.task.Limits.MemoryBytes)
	default:
		return errDied
	}
}

func (h *hosted) setFerry(s *mux.Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ferry = s
}

// programs runs the program in one container, again and again where that is wanted.
func (h *hosted) programs(ctx context.Context, ferry *mux.Session) error {
	pause := backoffLeast
	for {
		begun := h.r.e.config.Clock()
		code, err := h.program(ctx, ferry)
		sick := errors.Is(err, errSick)
		if err != nil && !sick {
			return err
		}
		h.mu.Lock()
		h.exit = code
		h.mu.Unlock()
		failed := code != 0 || sick
		h.tell(hosting.Event{State: hosting.Exited, ExitCode: code, Reason: why(err)})
		if h.leaving.Err() != nil || !h.service.Again(failed) {
			return errEnded
		}
		h.signal(ctx, ferry, syscall.SIGKILL) // what it left behind
		if h.r.e.config.Clock().Sub(begun) >= steadyAfter {
			pause = backoffLeast
		}
		if !h.rest(ctx, pause, err) {
			return errEnded
		}
		pause = min(2*pause, backoffMost)
	}
}

// signal signals all processes of the program.
func (h *hosted) signal(ctx context.Context, ferry *mux.Session, s syscall.Signal) {
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	stream, err := ferry.Open(ctx, mux.KindSignal, byte(s)) //nolint:gosec // signals are small
	if err != nil {
		return // the container's end will do
	}
	_ = stream.SetReadDeadline(h.r.e.config.Clock().Add(checkWithin)) // streams have deadlines
	_, _ = stream.Head()                                              // until it was done
	_ = stream.Close()
}

// program runs the program once. It fails with errSick, errDied or what ended ctx.
func (h *hosted) program(ctx context.Context, ferry *mux.Session) (code uint32, err error) {
	r := h.r
	conn, err := r.e.engine.start(ctx, r.id, client.ExecCreateOptions{Cmd: r.p.command, WorkingDir: r.folder(), Env: []string{"HOME=" + ScratchDir}}, client.ExecAttachOptions{})
	if err != nil {
		return 0, fmt.Errorf("%w: begin the program: %w", mman.ErrInternal, err)
	}
	_ = conn.CloseWrite() // it has no input
	h.tell(hosting.Event{State: hosting.Running})
	ctx, end := context.WithCancelCause(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer end(nil)
	work.Go(func() { h.nurse(ctx, end) })
	printed := make(chan struct{})
	work.Go(func() {
		defer close(printed)
		h.read(ctx, conn.Reader)
	})
	defer conn.Close() // before work is waited for
	code, err = h.exited(ctx, ferry, conn.id, printed, h.leaving.Done())
	if errors.Is(err, errSick) {
		h.signal(context.WithoutCancel(ctx), ferry, syscall.SIGKILL)
		return exitKill, err
	}
	if !errors.Is(err, errLeave) {
		return code, err
	}
	h.signal(ctx, ferry, syscall.SIGTERM)
	grace, cancel := context.WithTimeoutCause(ctx, stopGrace, errEnded)
	defer cancel()
	code, err = h.exited(grace, ferry, conn.id, printed, nil)
	if errors.Is(err, errEnded) {
		return exitKill, nil // it would not
	}
	return code, err
}

// errLeave says that the program is to be asked to end.
var errLeave = errors.New("the run is to end")

// exited waits for the program's end.
func (h *hosted) exited(ctx context.Context, ferry *mux.Session, exec string, printed, leaving <-chan struct{}) (uint32, error) {
	for {
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-h.r.died:
			return exitKill, errDied
		case <-ferry.Done():
			return exitKill, errDied
		case <-leaving:
			return 0, errLeave
		case <-printed:
		}
		within, cancel := aside(ctx)
		got, err := h.r.e.engine.ExecInspect(within, exec, client.ExecInspectOptions{})
		cancel()
		if err != nil {
			return 0, fmt.Errorf("%w: the container engine: %w", mman.ErrStopped, err)
		}
		if !got.Running {
			if h.r.e.engine.refused(got) {
				return 0, fmt.Errorf("%w: the image cannot run %.100q: there is no such program in it that runs here, or no such folder", mman.ErrModule, h.r.p.command[0])
			}
			return uint32(got.ExitCode & 0xff), nil
		}
		select {
		case <-ctx.Done():
		case <-h.r.died:
		case <-leaving:
		case <-h.r.e.config.After(look): // it closed its streams and goes on
		}
	}
}

// read keeps what the program prints, not faster than logRate.
func (h *hosted) read(ctx context.Context, from io.Reader) {
	in, b := frames{r: from}, make([]byte, pieceBytes)
	since, n := h.r.e.config.Clock(), 0
	for {
		got, err := in.Read(b)
		_, _ = h.logs.Write(b[:got]) // it never fails
		if err != nil {
			return // the program ended, or its container
		}
		if n += got; n < logRate {
			continue
		}
		if passed := h.r.e.config.Clock().Sub(since); passed < time.Second {
			select {
			case <-ctx.Done():
			case <-h.r.e.config.After(time.Second - passed):
			}
		}
		since, n = h.r.e.config.Clock(), 0
	}
}

// nurse looks after the program's health; one that is sick ends where it would be
// begun again.
func (h *hosted) nurse(ctx context.Context, end context.CancelCauseFunc) {
	every := time.Duration(h.service.HealthMs) * time.Millisecond //nolint:gosec // at most an hour
	if every == 0 {
		every = resources.HealthDefaultMs * time.Millisecond
	}
	begun, failed, healthy, said := h.r.e.config.Clock(), 0, false, false
	for {
		err := h.check(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if !healthy {
				h.tell(hosting.Event{State: hosting.Healthy})
			}
			failed, healthy, said = 0, true, false
		case h.r.watch.resting():
			// Nothing answers while it is not paid for.
		default:
			failed++
			sick := failed >= sickAfter && (healthy || h.r.e.config.Clock().Sub(begun) >= bornWithin)
			if sick && !said {
				h.tell(hosting.Event{State: hosting.Unhealthy, Reason: why(err)})
				healthy, said = false, true
				if h.service.Again(true) {
					end(fmt.Errorf("%w: %w", errSick, err))
					return
				}
			}
		}
		pause := every
		if !healthy && failed < 100 {
			pause = min(every, look) // it is being born
		}
		select {
		case <-ctx.Done():
			return
		case <-h.r.e.config.After(pause):
		}
	}
}

// check looks once.
func (h *hosted) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	if h.service.Health == "" {
		way, err := h.dial(ctx)
		if err == nil {
			_ = way.Reset() // it was opened to be closed
		}
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: pieceBytes, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return h.dial(ctx)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost:"+strconv.FormatUint(h.service.Port, 10)+h.service.Health, http.NoBody)
	if err != nil {
		return fmt.Errorf("%w: health check: %w", mman.ErrInvalid, err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("%w: GET %s: %w", mman.ErrUnreachable, h.service.Health, err)
	}
	_ = resp.Body.Close() // its head says all
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%w: GET %s: status %d", mman.ErrUnreachable, h.service.Health, resp.StatusCode)
	}
	return nil
}

// frames reads the standard output of a program, and its standard error with it, out
// of an engine's frames.
type frames struct {
	r    io.Reader
	left uint32
}

// Read reads on.
func (f *frames) Read(p []byte) (int, error) {
	for f.left == 0 {
		var head [frameHead]byte
		if _, err := io.ReadFull(f.r, head[:]); err != nil {
			return 0, io.EOF
		}
		if head[0] > 2 {
			return 0, fmt.Errorf("%w: %.8q", errSpoke, head[:])
		}
		f.left = binary.BigEndian.Uint32(head[4:])
	}
	n, err := f.r.Read(p[:min(uint64(len(p)), uint64(f.left))])
	f.left -= uint32(n) //nolint:gosec // at most left
	return n, err
}

// deck is the ferry's input and output as one connection.
type deck struct {
	frames

	conn client.HijackedResponse
}

// Write hands p to the ferry.
func (d *deck) Write(p []byte) (int, error) { return d.conn.Conn.Write(p) }

// Close ends it.
func (d *deck) Close() error {
	d.conn.Close()
	return nil
}

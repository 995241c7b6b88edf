package wasm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/alarm"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/environment"
	"github.com/limboid/massive-man/resources/folder"
	"github.com/limboid/massive-man/resources/wasm/meter"
)

const (
	// chunkBytes is the most that passes between a guest and the outside in one
	// piece.
	chunkBytes = 64 << 10
	// progressPeriod is how often a run reports what it used so far.
	progressPeriod = 250 * time.Millisecond
	// maxTrapText bounds what an error repeats of a trap.
	maxTrapText = 256
)

// errWallTime is the cause of a context that ended with the run's wall time.
var errWallTime = errors.New("wall time is over")

// run is one guest's state. The guest's goroutine owns it but for outBytes.
type run struct {
	// done ends with the run's context; open uses that context.
	done    <-chan struct{}
	open    func(mman.CID) (resources.Blob, error)
	args    []string
	stdin   *source
	inputs  []*source
	folders [][]folder.Entry // what is in inputs that are folders
	script  *source          // nil for an algorithm that is a module itself
	files   []*file
	stdout  *output
	stderr  *output
	random  *rand.ChaCha8
	elapsed uint64 // of the guest's clocks, ns
	memory  memory

	outLimit uint64
	outBytes atomic.Uint64
	// inBytes is what the guest was given.
	inLimit uint64
	inBytes atomic.Uint64

	live   resources.Input      // of an interactive run, nil for another
	talk   *talk                // as live
	umpire *environment.Referee // of an environment, nil for another
	desk   *desk                // of a framed run, nil for another
	watch  stopwatch
	meter  atomic.Pointer[gauge] // gauge, once there is one

	// fuel is what the run may use; gauge shows what it used.
	fuel  uint64
	gauge gauge

	// buffer takes what is read; the guest's memory is never handed to content.
	buffer []byte
	// pending is an operation that was left behind when the run ended.
	pending <-chan ioResult
	exited  bool
	code    uint32
	stop    error // why the host ended the run
}

// source is a content that the guest reads.
type source struct {
	id   mman.CID
	size uint64
	blob resources.Blob // nil until it is first read
	at   uint64         // where the blob stands
	// pack is the folder's pack in which a file begins at base; nil for a content of
	// its own.
	pack *source
	base uint64
}

// output is one stream that the guest writes.
type output struct{ w io.Writer }

type ioResult struct{ err error }

// stopped unwinds a guest whose run is over; its reason is in the run.
type stopped struct{}

func (stopped) Error() string { return "the run is over" }

// fail ends the run for a reason of the host's.
func (r *run) fail(err error) {
	r.stop = err
	panic(stopped{})
}

func (r *run) exit(code uint32) {
	r.exited, r.code = true, code
	panic(stopped{})
}

// checkDone ends the run when its context is over, inside long host calls.
func (r *run) checkDone() {
	select {
	case <-r.done:
		panic(stopped{})
	default:
	}
}

// await runs an operation of the outside, which may block, and leaves it behind
// when the run's context ends first.
func (r *run) await(operation func() error) error {
	result := make(chan ioResult, 1)
	go func() { result <- ioResult{operation()} }()
	if r.talk != nil {
		return r.awaitTalking(result)
	}
	select {
	case got := <-result:
		return got.err
	case <-r.done:
		r.pending = result
		panic(stopped{})
	}
}

// readAt returns up to want bytes of s from offset, all that there are.
func (r *run) readAt(s *source, offset, want uint64) []byte {
	n := min(want, s.size-min(offset, s.size))
	if n == 0 {
		return nil
	}
	r.gauge.charge(n)
	if r.buffer == nil {
		r.buffer = make([]byte, chunkBytes)
	}
	b := r.buffer[:n]
	if err := r.await(func() error { return s.readAt(r.open, b, offset) }); err != nil {
		r.fail(err)
	}
	return b
}

func (s *source) readAt(open func(mman.CID) (resources.Blob, error), b []byte, offset uint64) error {
	if s.pack != nil {
		return s.pack.readAt(open, b, s.base+offset)
	}
	if s.blob == nil {
		blob, err := open(s.id)
		if err != nil {
			return fmt.Errorf("open %s: %w", s.id, err)
		}
		if blob.Size() != s.size {
			return errors.Join(fmt.Errorf("%w: %s had %d bytes and now has %d", mman.ErrContent, s.id, s.size, blob.Size()), blob.Close())
		}
		s.blob = blob
	}
	if s.at != offset {
		if _, err := s.blob.Seek(int64(offset), io.SeekStart); err != nil { //nolint:gosec // below the content's size
			return fmt.Errorf("read %s: %w", s.id, err)
		}
		s.at = offset
	}
	n, err := io.ReadFull(s.blob, b)
	s.at += uint64(n) //nolint:gosec // io.Reader counts upwards
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %s ends at byte %d of %d", mman.ErrContent, s.id, s.at, s.size)
	case err != nil:
		return fmt.Errorf("read %s: %w", s.id, err)
	}
	return nil
}

// write passes the guest's bytes on, up to the output limit, where the run ends.
func (r *run) write(out *output, b []byte) {
	r.gauge.charge(uint64(len(b)))
	for len(b) > 0 {
		room := r.outLimit - r.outBytes.Load()
		if room == 0 {
			r.fail(fmt.Errorf("%w: %d bytes; ask for a higher limit or print less", mman.ErrOutput, r.outLimit))
		}
		chunk := append([]byte(nil), b[:min(uint64(len(b)), room, chunkBytes)]...)
		steps := r.judge(out, chunk)
		if err := r.await(func() error { return writeAll(out.w, chunk) }); err != nil {
			r.fail(fmt.Errorf("pass the output on: %w", err))
		}
		r.outBytes.Add(uint64(len(chunk)))
		if steps > 0 { // its user has them before they are billed
			r.umpire.Count(steps)
		}
		b = b[len(chunk):]
	}
}

// judge looks at what an environment answers, before anybody sees it.
func (r *run) judge(out *output, b []byte) (steps uint64) {
	if r.umpire == nil || out != r.stdout {
		return 0
	}
	steps, err := r.umpire.Judge(b)
	if err != nil {
		r.fail(err)
	}
	return steps
}

func writeAll(w io.Writer, b []byte) error {
	n, err := w.Write(b)
	if err == nil && n < len(b) {
		return io.ErrShortWrite
	}
	return err
}

// close frees the contents; nothing of the run uses them any more.
func (r *run) close() error {
	var errs []error
	for _, s := range append(r.inputs, r.stdin, r.script) {
		if s != nil && s.blob != nil {
			errs = append(errs, s.blob.Close())
		}
	}
	return errors.Join(errs...)
}

// Run runs the guest once. Usage counts the wall time from the moment that the
// guest could start, not what it waited for a free place.
func (e *Executor) Run(ctx context.Context, prepared resources.Prepared, streams resources.IO) (resources.Result, error) {
	p, ok := prepared.(*preparedTask)
	if !ok {
		return resources.Result{}, fmt.Errorf("%w: a %T was not prepared by this executor", mman.ErrInvalid, prepared)
	}
	if p.task.Environment && streams.Stdin == nil {
		return resources.Result{}, fmt.Errorf("%w: an environment is reset and stepped while it runs, and this run has no input", mman.ErrInvalid)
	}
	if streams.Framed && (p.task.Environment || streams.Stdin == nil) || streams.Terminal != nil {
		return resources.Result{}, fmt.Errorf("%w: files are put and asked for in a conversation, and terminals are of containers", mman.ErrUnsupported)
	}
	if err := p.Take(); err != nil {
		return resources.Result{}, err
	}
	defer p.Release()
	if streams.Stdin != nil {
		select {
		case e.guests <- struct{}{}:
			defer func() { <-e.guests }()
		default:
			return resources.Result{}, fmt.Errorf("%w: %d interactive runs are under way, which is as many as there may be", mman.ErrBusy, cap(e.guests))
		}
	}
	select {
	case e.places <- struct{}{}:
	case <-ctx.Done():
		return resources.Result{}, fmt.Errorf("wait for one of %d places: %w: %w", cap(e.places), mman.ErrCanceled, context.Cause(ctx))
	case <-e.closing:
		return resources.Result{}, errClosed()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	leave, err := e.enter(cancel)
	if err != nil {
		<-e.places
		return resources.Result{}, err
	}
	wall := time.Duration(p.task.Limits.WallMs) * time.Millisecond //nolint:gosec // a day at most
	r := newRun(ctx, p, streams)
	r.memory.spare = &e.spare
	// What ran to its wall limit is billed up to it: the watch starts before.
	r.watch.start(e.config.Clock)
	defer alarm.After(wall, func() { cancel(errWallTime) })()
	usage := func() resources.Usage {
		// Waking the guest up takes its time; nobody pays for what lies
		// beyond the limit.
		spent := min(wall, r.watch.spent())
		return resources.Usage{
			WallMs:  uint64((spent + time.Millisecond - 1) / time.Millisecond), //nolint:gosec // not negative
			InBytes: r.inBytes.Load(), OutBytes: r.outBytes.Load(), CallCount: 1,
			Fuel: r.fuelSoFar(), Steps: r.steps(),
		}
	}
	if streams.Stdin != nil {
		r.talk = newTalk(ctx, r.live, streams.Credit, e.places, usage)
	}
	stopProgress := e.progress(streams.Progress, usage)
	err = p.module.call(ctx, r)
	stopProgress()
	if r.desk != nil && (err == nil || r.exited) && ctx.Err() == nil {
		if lerr := r.answerLate(); lerr != nil && !errors.Is(lerr, stopped{}) {
			r.exited, r.stop, err = false, lerr, lerr
		}
	}
	result := resources.Result{ExitCode: r.code, Usage: usage()}
	result.Usage.Fuel = r.fuelUsed(ctx, err)
	// The place is free, and the executor may close, once nothing of the run is
	// left, though the caller need not wait for a blocked stream of its own.
	end := func() error {
		defer leave()
		defer r.leavePlace(e.places)
		return r.close()
	}
	if r.pending != nil {
		cancel(nil)
		go func() {
			<-r.pending
			_ = end() // the run is told why it ended; this comes too late
		}()
		return result, r.outcome(ctx, err)
	}
	if closeErr := end(); closeErr != nil && err == nil {
		err = fmt.Errorf("close the inputs: %w", closeErr)
	}
	return result, r.outcome(ctx, err)
}

func newRun(ctx context.Context, p *preparedTask, streams resources.IO) *run {
	r := &run{
		done:     ctx.Done(),
		open:     func(id mman.CID) (resources.Blob, error) { return p.task.Content.Open(ctx, id) },
		args:     p.arguments(),
		stdin:    &source{id: p.task.Stdin, size: p.sizes.Stdin},
		stdout:   newOutput(streams.Stdout),
		stderr:   newOutput(streams.Stderr),
		random:   rand.NewChaCha8(randomKey(p.task.Seed)),
		outLimit: p.task.Limits.OutputBytes,
		fuel:     p.task.Limits.Fuel,
	}
	for i, id := range p.task.Inputs {
		r.inputs = append(r.inputs, &source{id: id, size: p.sizes.Inputs[i]})
	}
	r.folders = p.sizes.Folders
	r.memory.limit = p.task.Limits.MemoryBytes
	r.inBytes.Store(p.sizes.Total)
	r.inLimit = p.task.Limits.InputBytes
	if r.live = streams.Stdin; p.task.Environment {
		r.umpire = environment.NewReferee(streams.Stdin)
		r.live = r.umpire
	}
	if streams.Framed {
		r.desk = &desk{in: streams.Stdin, aside: newOutput(streams.Aside), now: r.now}
		r.live = r.desk
	}
	r.openFiles()
	r.mountScript(p)
	return r
}

func newOutput(w io.Writer) *output {
	if w == nil {
		w = io.Discard
	}
	return &output{w}
}

// randomKey keys the guest's randomness, apart from other uses of the seed.
func randomKey(seed mman.Hash) [32]byte {
	return sha256.Sum256(append([]byte("mman/wasm/random/1\x00"), seed[:]...))
}

// call instantiates the module and runs it to its end.
func (m *module) call(ctx context.Context, r *run) error {
	ctx = context.WithValue(experimental.WithMemoryAllocator(ctx, &r.memory), runKey{}, r)
	// The engine's own source is never asked, and making one costs as much as a run.
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions().WithRandSource(r.random)
	instance, err := m.runtime.InstantiateModule(ctx, m.compiled, config)
	if err != nil {
		return err
	}
	if r.gauge, err = newGauge(instance, r.fuel); err != nil {
		return errors.Join(err, instance.Close(context.WithoutCancel(ctx)))
	}
	r.meter.Store(&r.gauge)
	// The guest stops at its next look at the limit; in a host call it is
	// stopped there.
	lowered := make(chan struct{})
	over := context.AfterFunc(ctx, func() {
		defer close(lowered)
		r.gauge.stop()
	})
	stopFollowing := r.follow(ctx)
	for _, name := range []string{meter.StartFunction, startExport} {
		if f := instance.ExportedFunction(name); f != nil && err == nil {
			_, err = f.Call(ctx)
		}
	}
	stopFollowing()
	if !over() {
		<-lowered
	}
	r.meter.Store(nil)
	r.gauge.read()
	return errors.Join(err, instance.Close(context.WithoutCancel(ctx)))
}

// outcome tells how the run ended: by the host, by the guest, out of fuel, by
// the context, by a trap, in this order.
func (r *run) outcome(ctx context.Context, err error) error {
	ended := r.exited || err == nil
	switch {
	case r.stop != nil:
		return r.stop
	case r.gauge.fuel > r.fuel:
		return fmt.Errorf("%w: %d; ask for a higher limit", mman.ErrFuel, r.fuel)
	case r.gauge.fuel > r.gauge.allowed && ctx.Err() == nil:
		return fmt.Errorf("%w: the guest computed beyond the %d fuel that was paid for without a word", mman.ErrUnpaid, r.gauge.allowed)
	case ended && r.code != 0 && r.memory.refused:
		return fmt.Errorf("%w: the guest was refused memory above %d bytes and gave up with exit code %d", mman.ErrMemory, r.memory.limit, r.code)
	case ended:
		return nil
	case errors.Is(context.Cause(ctx), errWallTime):
		return mman.ErrWall
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", mman.ErrCanceled, context.Cause(ctx))
	case r.memory.refused:
		return fmt.Errorf("%w: %d bytes; the guest asked for more", mman.ErrMemory, r.memory.limit)
	case r.gauge.reason == meter.StopStack:
		return fmt.Errorf("%w: its calls need more than %d words of stack", mman.ErrGuestTrap, meter.StackWords)
	default:
		return fmt.Errorf("%w: %s", mman.ErrGuestTrap, trapText(err))
	}
}

// fuelSoFar is what the guest has used at least; any goroutine may ask while the
// guest runs.
func (r *run) fuelSoFar() uint64 {
	if g := r.meter.Load(); g != nil {
		return min(g.sample(), r.fuel)
	}
	return 0
}

// steps is how many steps of an environment were answered.
func (r *run) steps() uint64 {
	if r.umpire == nil {
		return 0
	}
	return r.umpire.Steps()
}

// fuelUsed is what is billed. A guest that ended by itself, or was stopped in a
// host call or by the context, used what the meter says. A trap leaves the
// meter behind by up to a loop's work, so that a guest could hide it: it costs
// the whole budget, as running out does.
func (r *run) fuelUsed(ctx context.Context, err error) uint64 {
	budget := min(r.fuel, r.gauge.allowed)
	if r.exited || err == nil || r.stop != nil || ctx.Err() != nil {
		return min(r.gauge.fuel, budget)
	}
	return budget
}

// trapText returns the first line of a trap, without the trace and bounded: a
// guest chooses its functions' names.
func trapText(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	line = strings.TrimPrefix(line, "wasm error: ")
	if len(line) > maxTrapText {
		line = line[:maxTrapText]
	}
	return strings.ToValidUTF8(line, "?")
}

// progress reports usage from a goroutine until the returned function is called,
// which waits for its end.
func (e *Executor) progress(report func(resources.Usage), usage func() resources.Usage) func() {
	if report == nil || e.config.Ticker == nil {
		return func() {}
	}
	ticks, stopTicker := e.config.Ticker(progressPeriod)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-ticks:
				report(usage())
			case <-stop:
				return
			}
		}
	}()
	return func() {
		stopTicker()
		close(stop)
		<-stopped
	}
}

package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/folder"
)

const (
	// progressPeriod is how often a run reports what it used so far.
	progressPeriod = 250 * time.Millisecond
	// pieceBytes is the most that passes to a program in one piece.
	pieceBytes = 64 << 10
)

// errWallTime is the cause of a context that ended with the run's wall time.
var errWallTime = errors.New("wall time is over")

// run is one program's life.
type run struct {
	e       *Executor
	p       *preparedTask
	streams resources.IO
	end     context.CancelCauseFunc
	watch   stopwatch
	out     *output
	in      atomic.Uint64
	id      string        // the container
	exec    string        // the program in it
	base    time.Duration // processor time before it
	cpu     atomic.Int64  // processor time of it, ns
	tight   bool          // the memory limit was reached
	refused bool          // the engine could not start the program
	died    chan struct{} // closed when the whole container has ended
	still   sync.Mutex    // held while the container rests: nothing can begin in it then

	mu   sync.Mutex
	late []string // files that are asked for at the end
}

// Run carries out a prepared task once, and frees it. See resources.Executor.
func (e *Executor) Run(ctx context.Context, prepared resources.Prepared, streams resources.IO) (resources.Result, error) {
	p, ok := prepared.(*preparedTask)
	if !ok {
		return resources.Result{}, fmt.Errorf("%w: a %T was not prepared by this executor", mman.ErrInvalid, prepared)
	}
	if err := p.Take(); err != nil {
		return resources.Result{}, err
	}
	defer p.Release()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	leave, err := e.enter(end)
	if err != nil {
		return resources.Result{}, err
	}
	defer leave()
	place, err := e.place(ctx, p.task, streams.Stdin != nil)
	if err != nil {
		return resources.Result{}, err
	}
	defer place()
	r := &run{e: e, p: p, streams: streams, end: end, died: make(chan struct{})}
	r.out = newOutput(p.task.Limits.OutputBytes, streams, end, e.config.After)
	if e.engine.off.output {
		r.out.left = math.MaxInt64
	}
	r.watch = stopwatch{clock: e.config.Clock, limit: time.Duration(p.task.Limits.WallMs) * time.Millisecond, over: func() { end(errWallTime) }} //nolint:gosec // at most a day
	r.in.Store(p.sizes.Total)
	return r.whole(ctx)
}

// place waits for a place among those that run. The interactive ones have places
// of their own, for they wait most of the time, and so have the hosted ones, which
// stay.
func (e *Executor) place(ctx context.Context, task resources.Task, interactive bool) (leave func(), err error) {
	if task.Service != nil {
		return e.hosts.take(task.Limits.MemoryBytes)
	}
	if interactive {
		select {
		case e.guests <- struct{}{}:
			return func() { <-e.guests }, nil
		default:
			return nil, fmt.Errorf("%w: %d conversations go on here already", mman.ErrBusy, cap(e.guests))
		}
	}
	select {
	case e.places <- struct{}{}:
		return func() { <-e.places }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", mman.ErrCanceled, context.Cause(ctx))
	}
}

// whole stages, runs, ends and measures.
func (r *run) whole(ctx context.Context) (result resources.Result, err error) {
	if ctx.Err() != nil {
		return r.result(0), canceled(ctx)
	}
	mounts, unstage, err := r.stage(ctx)
	defer func() { err = errors.Join(err, unstage()) }()
	if err != nil {
		return r.result(0), r.reason(ctx, err)
	}
	if r.p.task.Service != nil {
		return r.serve(ctx, mounts)
	}
	e := r.e.engine
	if r.id = r.ready(ctx); r.id == "" {
		r.id, err = e.create(ctx, r.p.image, r.p.task.Limits, mounts)
	}
	if err != nil {
		return r.result(0), r.reason(ctx, err)
	}
	defer func() { err = errors.Join(err, r.finish(ctx)) }()
	before, err := e.measure(ctx, r.id)
	if err != nil {
		return r.result(0), r.reason(ctx, err)
	}
	r.base = before.cpu
	conn, err := r.begin(ctx)
	if err != nil {
		return r.result(0), r.reason(ctx, err)
	}
	defer conn.Close()
	return r.live(ctx, conn)
}

// ready takes a container that stands ready for a conversation, if there is one.
func (r *run) ready(ctx context.Context) string {
	if r.streams.Stdin == nil || len(r.p.task.Inputs) > 0 {
		return ""
	}
	return r.e.pool.take(ctx, kind{r.p.task.Algorithm, r.p.task.Limits.MemoryBytes})
}

// finish ends the container, and with it everything that still runs.
func (r *run) finish(ctx context.Context) error {
	if r.e.engine.off.kill {
		within, cancel := aside(ctx)
		defer cancel()
		_, err := r.e.engine.ContainerKill(within, r.id, client.ContainerKillOptions{Signal: "SIGTERM"})
		return err
	}
	return r.e.engine.remove(ctx, r.id)
}

// stage writes the inputs where the engine can mount them.
func (r *run) stage(ctx context.Context) (mounts []string, unstage func() error, err error) {
	if len(r.p.task.Inputs) == 0 {
		return nil, func() error { return nil }, nil
	}
	dir, err := os.MkdirTemp(r.e.config.Dir, "run-")
	if err != nil {
		return nil, func() error { return nil }, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	unstage = func() error {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("%w: %w", mman.ErrHome, err)
		}
		return nil
	}
	for i, id := range r.p.task.Inputs {
		path, stage := filepath.Join(dir, strconv.Itoa(i)), r.stageOne
		if entries := r.p.sizes.Folders[i]; entries != nil {
			stage = func(ctx context.Context, path string, id mman.CID, size uint64) error {
				return r.stageFolder(ctx, path, id, size, entries)
			}
		}
		if err := stage(ctx, path, id, r.p.sizes.Inputs[i]); err != nil {
			return nil, unstage, fmt.Errorf("input %d: %w", i, err)
		}
		mounts = append(mounts, path+":"+DataDir+"/"+strconv.Itoa(i)+":ro")
	}
	return mounts, unstage, nil
}

// stageFolder writes the files of a pack. Only the folder above keeps others out: the
// program reads them as nobody.
func (r *run) stageFolder(ctx context.Context, dir string, id mman.CID, size uint64, entries []folder.Entry) (err error) {
	src, err := r.open(ctx, id, size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // see above
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, filepath.FromSlash(e.Path))
		if e.Folder {
			if err := os.Mkdir(path, 0o755); err != nil { //nolint:gosec // see above
				return fmt.Errorf("%w: %w", mman.ErrHome, err)
			}
			continue
		}
		if _, err := src.Seek(int64(e.Offset), io.SeekStart); err != nil { //nolint:gosec // below the content's size
			return fmt.Errorf("read %s: %w", id, err)
		}
		if err := writeInput(path, io.LimitReader(src, int64(e.Size)), id, e.Size); err != nil { //nolint:gosec // as above
			return err
		}
	}
	return nil
}

func (r *run) stageOne(ctx context.Context, path string, id mman.CID, size uint64) (err error) {
	src, err := r.open(ctx, id, size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	return writeInput(path, src, id, size)
}

func writeInput(path string, src io.Reader, id mman.CID, size uint64) error {
	dst, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o444) //nolint:gosec // the program reads it as nobody; the folder above is ours alone
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return errors.Join(copyAll(dst, src, id, size), dst.Close())
}

// open opens a content that must be as large as it was.
func (r *run) open(ctx context.Context, id mman.CID, size uint64) (resources.Blob, error) {
	blob, err := r.p.task.Content.Open(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", id, err)
	}
	if blob.Size() != size {
		return nil, errors.Join(fmt.Errorf("%w: %s had %d bytes and now has %d", mman.ErrContent, id, size, blob.Size()), blob.Close())
	}
	return blob, nil
}

// errGone is what a write to a program fails with that does not listen any more.
var errGone = errors.New("the program does not read")

func copyAll(dst io.Writer, src io.Reader, id mman.CID, size uint64) error {
	n, err := io.Copy(dst, struct{ io.Reader }{src})
	if err == nil && uint64(n) != size { //nolint:gosec // it counts upwards
		err = fmt.Errorf("%w: %s ends at byte %d of %d", mman.ErrContent, id, n, size)
	}
	return err
}

// begin starts the program.
func (r *run) begin(ctx context.Context) (client.HijackedResponse, error) {
	options := client.ExecCreateOptions{
		Cmd: r.p.command, WorkingDir: r.folder(), Env: []string{"HOME=" + ScratchDir},
	}
	var attach client.ExecAttachOptions
	if screen := r.streams.Terminal; screen != nil {
		options.TTY, options.ConsoleSize = true, consoleSize(*screen)
		options.Env = append(options.Env, term(*screen)...)
		attach = client.ExecAttachOptions{TTY: true, ConsoleSize: options.ConsoleSize}
	}
	got, err := r.e.engine.start(ctx, r.id, options, attach)
	r.exec = got.id
	if err != nil {
		return client.HijackedResponse{}, fmt.Errorf("begin the program: %w", err)
	}
	r.watch.start()
	return got.HijackedResponse, nil
}

// folder is where the program begins: where its image says, and otherwise, if
// somebody may put files there, in the folder for them.
func (r *run) folder() string {
	switch dir := r.p.image.process.WorkingDir; {
	case dir != "" && dir != "/":
		return dir
	case r.streams.Framed:
		return ScratchDir
	default:
		return "/"
	}
}

// live passes the streams until the program ends or is ended.
func (r *run) live(ctx context.Context, conn client.HijackedResponse) (resources.Result, error) {
	aside, stopAside := context.WithCancel(ctx)
	defer stopAside()
	go r.mourn(aside)
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		r.feed(aside, conn)
	}()
	read := make(chan error, 1)
	go func() {
		if r.streams.Terminal != nil {
			read <- r.out.copy(conn.Reader)
			return
		}
		read <- r.out.follow(conn.Reader)
	}()
	metered := make(chan struct{})
	go func() {
		defer close(metered)
		r.meter(aside)
	}()
	var err error
	select {
	case err = <-read:
	case <-r.died:
		r.end(errDied)
	case <-ctx.Done():
	}
	r.watch.stop()
	if err == nil && ctx.Err() == nil {
		err = r.answerLate(ctx)
	}
	r.out.close()
	stopAside()
	<-metered
	conn.Close()
	<-fed
	r.settle(ctx)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errDied) {
		return r.result(0), r.reason(ctx, cause)
	}
	return r.ended(ctx, err)
}

// errDied is the cause of a context that ended with the whole container.
var errDied = errors.New("the container ended")

// mourn tells when the whole container has ended, as gVisor's does at its memory
// limit.
func (r *run) mourn(ctx context.Context) {
	wait := r.e.engine.ContainerWait(ctx, r.id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	select {
	case <-wait.Result:
		close(r.died)
	case <-wait.Error: //nolint:errcheck // the run is over, or the engine, which the streams tell
	}
}

// feed gives the program its standard input.
func (r *run) feed(ctx context.Context, conn client.HijackedResponse) {
	r.firstSize(ctx)
	err := r.give(ctx, conn)
	if err != nil && !errors.Is(err, errGone) {
		r.end(err)
		return
	}
	if err == nil {
		_ = conn.CloseWrite() // the program may have ended
	}
}

func (r *run) give(ctx context.Context, conn client.HijackedResponse) (err error) {
	if r.streams.Stdin != nil {
		return r.pass(ctx, conn)
	}
	if r.p.task.Stdin.IsZero() {
		return nil
	}
	src, err := r.open(ctx, r.p.task.Stdin, r.p.sizes.Stdin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	return copyAll(pipe{conn.Conn}, src, r.p.task.Stdin, r.p.sizes.Stdin)
}

// pipe is the way to a program, which need not read.
type pipe struct{ w io.Writer }

// Write writes p.
func (p pipe) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	if err != nil {
		err = fmt.Errorf("%w: %w", errGone, err)
	}
	return n, err
}

// pass hands on what comes while the program runs. Who waits for a program that
// talks is not idle.
func (r *run) pass(ctx context.Context, conn client.HijackedResponse) error {
	b := make([]byte, pieceBytes)
	desk := desk{r: r, conn: conn, order: resources.RecordOrder{Terminal: r.streams.Terminal != nil}}
	for {
		before := r.out.passed()
		n, err := r.streams.Stdin.Read(ctx, b)
		if n > 0 {
			if r.in.Add(uint64(n)) > r.p.task.Limits.InputBytes {
				return fmt.Errorf("%w: %d bytes", mman.ErrInputLimit, r.p.task.Limits.InputBytes)
			}
			if err := desk.take(ctx, b[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return desk.end()
		case ctx.Err() != nil:
			return errGone
		case errors.Is(err, mman.ErrIdle) && r.out.passed() > before:
		case err != nil:
			return err
		}
	}
}

// meter reports what the run used so far, and lets it rest while that is not paid.
func (r *run) meter(ctx context.Context) {
	if r.e.config.Ticker == nil {
		return
	}
	ticks, stop := r.e.config.Ticker(progressPeriod)
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
		}
		got, err := r.e.engine.measure(ctx, r.id)
		if err != nil {
			continue // the container may have ended
		}
		r.count(got)
		used := r.result(0).Usage
		if r.streams.Progress != nil {
			r.streams.Progress(used)
		}
		if r.streams.Credit != nil && !r.streams.Credit.Covers(used) {
			r.rest(ctx, used)
		}
	}
}

// rest freezes the program until what it used is paid.
func (r *run) rest(ctx context.Context, used resources.Usage) {
	r.still.Lock()
	defer r.still.Unlock()
	if _, err := r.e.engine.ContainerPause(ctx, r.id, client.ContainerPauseOptions{}); err != nil {
		if ctx.Err() == nil {
			r.end(fmt.Errorf("%w: an unpaid program cannot be paused: %w", mman.ErrUnpaid, err))
		}
		return
	}
	r.watch.stop()
	if err := r.streams.Credit.Await(ctx, used); err != nil {
		return // the run is over
	}
	if _, err := r.e.engine.ContainerUnpause(ctx, r.id, client.ContainerUnpauseOptions{}); err != nil && ctx.Err() == nil {
		r.end(fmt.Errorf("%w: a paused program does not go on: %w", mman.ErrInternal, err))
	}
	r.watch.resume()
}

// count takes what the engine counted.
func (r *run) count(got measured) {
	r.cpu.Store(int64(max(0, got.cpu-r.base)))
	r.tight = got.strict
}

// settle reads the last figures, as far as there are any.
func (r *run) settle(ctx context.Context) {
	if got, err := r.e.engine.measure(ctx, r.id); err == nil && got.cpu > 0 {
		r.count(got)
	}
}

// result is how the run stands. The memory is what was set aside for it, however
// much of that it took; and nobody pays for more processor time than there was.
func (r *run) result(code uint32) resources.Result {
	limits := r.p.task.Limits
	wall := min(uint64((r.watch.spent()+time.Millisecond-1)/time.Millisecond), limits.WallMs) //nolint:gosec // it is not negative
	cpu := uint64((time.Duration(r.cpu.Load()) + time.Millisecond - 1) / time.Millisecond)    //nolint:gosec // it is not negative
	return resources.Result{ExitCode: code, Usage: resources.Usage{
		WallMs: wall, CPUMs: min(cpu, wall*resources.ContainerCPUs), MemoryMs: wall * limits.Mebibytes(),
		InBytes: r.in.Load(), OutBytes: r.out.passed(), CallCount: 1,
	}}
}

func canceled(ctx context.Context) error {
	return fmt.Errorf("%w: %w", mman.ErrCanceled, context.Cause(ctx))
}

// reason says in the words of resources.Executor why a run did not end by itself.
func (r *run) reason(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	switch {
	case cause == nil:
		return err
	case errors.Is(cause, errWallTime):
		return fmt.Errorf("%w: %d ms", mman.ErrWall, r.p.task.Limits.WallMs)
	case errors.Is(cause, errDied):
		return err
	case errors.Is(cause, context.Canceled), errors.Is(cause, context.DeadlineExceeded):
		return canceled(ctx)
	default:
		return cause // ours, or the caller's own
	}
}

// Exit codes of a program that a signal ended: 128 and the signal.
const (
	exitIll  = 132
	exitAbrt = 134
	exitBus  = 135
	exitFpe  = 136
	exitKill = 137
	exitSegv = 139
)

// ended says how a program ended that was not ended by us.
func (r *run) ended(ctx context.Context, streamed error) (resources.Result, error) {
	code, oom, err := r.exit(ctx)
	if err != nil {
		return r.result(0), err
	}
	result := r.result(code)
	switch {
	case r.refused:
		return result, fmt.Errorf("%w: the image cannot run %.100q: there is no such program in it that runs here, or no such folder %.100q", mman.ErrModule, r.p.command[0], r.p.image.process.WorkingDir)
	case oom || code == exitKill && r.tight:
		return result, fmt.Errorf("%w: %d bytes", mman.ErrMemory, r.p.task.Limits.MemoryBytes)
	case streamed != nil:
		return result, fmt.Errorf("%w: the engine's streams: %w", mman.ErrInternal, streamed)
	}
	switch code {
	case exitIll, exitAbrt, exitBus, exitFpe, exitSegv:
		return result, fmt.Errorf("%w: signal %d", mman.ErrGuestTrap, code-128)
	default:
		return result, nil
	}
}

// exit asks the engine how the program ended; oom is set when the whole container
// did for want of memory.
func (r *run) exit(ctx context.Context) (code uint32, oom bool, err error) {
	within, cancel := aside(ctx)
	defer cancel()
	select {
	case <-r.died:
		return r.exitOfAll(within)
	default:
	}
	for {
		got, err := r.e.engine.ExecInspect(within, r.exec, client.ExecInspectOptions{})
		if r.sandboxGone(within, got, err) {
			return r.exitOfAll(within)
		}
		if err != nil {
			return 0, false, fmt.Errorf("%w: how the program ended: %w", mman.ErrInternal, err)
		}
		if !got.Running {
			r.refused = r.e.engine.refused(got)
			return uint32(got.ExitCode & 0xff), false, nil
		}
		// Its streams are closed, so that it will end, or it never does: a program
		// may close its output and go on.
		select {
		case <-ctx.Done():
			return 0, false, r.reason(ctx, ctx.Err())
		case <-r.died:
			return exitKill, true, nil
		case <-r.e.config.After(exitLook):
		}
	}
}

// exitOfAll asks how the whole container ended.
func (r *run) exitOfAll(ctx context.Context) (code uint32, oom bool, err error) {
	state, err := r.state(ctx)
	if err != nil {
		return 0, false, fmt.Errorf("%w: the container ended, and the engine does not say why: %w", mman.ErrInternal, err)
	}
	// gVisor ends as a whole when the kernel takes its memory away.
	return uint32(state.ExitCode), state.OOMKilled || r.e.engine.runtime == RuntimeGVisor, nil //nolint:gosec // 0 to 255
}

// state asks the engine how the whole container stands.
func (r *run) state(ctx context.Context) (*container.State, error) {
	got, err := r.e.engine.ContainerInspect(ctx, r.id, client.ContainerInspectOptions{})
	if err == nil && got.Container.State == nil {
		err = errors.New("its answer holds no state")
	}
	return got.Container.State, err
}

// sandboxGone reports whether a program ended because its sandbox did, of which the
// engine tells a moment later: the program is unknown then, or was lost by gVisor's own
// command.
func (r *run) sandboxGone(ctx context.Context, got client.ExecInspectResult, err error) bool {
	lost := r.e.engine.runtime == RuntimeGVisor && !got.Running && (got.ExitCode == exitLost || got.ExitCode == exitKill)
	if err == nil && !lost {
		return false
	}
	if err == nil && got.ExitCode == exitKill { // of which the program may be the cause
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, goneWithin)
		defer cancel()
	}
	for {
		if state, err := r.state(ctx); err == nil && !state.Running {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-r.e.config.After(goneLook):
		}
	}
}

// exitLost is how gVisor's command ends when the sandbox does in which it started a
// program; goneWithin bounds how much later the engine knows, where the program may
// have ended so by itself, and goneLook is the pause between two looks.
const (
	exitLost   = 128
	goneWithin = 3 * time.Second
	goneLook   = 20 * time.Millisecond
)

// exitLook is the pause between two looks at a program that closed its streams.
const exitLook = 5 * time.Millisecond

package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/feed"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/gate"
)

// Keep stores a run's output and returns its CID and size.
type Keep func(ctx context.Context, r io.Reader) (mman.CID, uint64, error)

// Job is a task with the places where its output goes.
type Job struct {
	Facet resources.Facet
	Task  resources.Task
	Keep  Keep
	// Stdin and Credit are of an interactive job; see resources.IO.
	Stdin  resources.Input
	Credit resources.Credit
	// Framed, Terminal and Aside are of a framed one; see resources.IO.
	Framed   bool
	Terminal *resources.Terminal
	Aside    func(p []byte) error
	// Notices and Door are of a hosted job; see resources.IO.
	Notices resources.Notices
	Door    func(ctx context.Context) (resources.Door, error)
	// Stdout and Stderr take the output as it comes; an error ends the run.
	Stdout, Stderr func(p []byte) error
	// Progress takes the usage so far now and then; it must not block.
	Progress func(resources.Usage)
}

// Done is how a run ended.
type Done struct {
	resources.Result

	// Code is 0 when the guest ended by itself, otherwise that of the limit or
	// fault that ended it.
	Code mman.Code
	// Output is the CID of everything written to standard output.
	Output      mman.CID
	OutputBytes uint64
}

// Worker runs jobs. It is safe for concurrent use.
type Worker struct {
	executors map[resources.Facet]resources.Executor
}

// New returns a worker over one executor for each facet that the node offers.
func New(executors map[resources.Facet]resources.Executor) *Worker {
	return &Worker{executors}
}

// Run carries out the job. An error means that nothing ran, or that the host
// failed, and that nothing is owed; a guest that fails or is stopped at a limit
// is no error, its Code says so and its usage counts.
func (w *Worker) Run(ctx context.Context, job Job) (Done, error) {
	executor, err := w.executor(job.Facet)
	if err != nil {
		return Done{}, err
	}
	prepared, err := executor.Prepare(ctx, job.Task)
	if err != nil {
		return Done{}, err
	}
	done, err := w.run(ctx, executor, prepared, job)
	return done, errors.Join(err, prepared.Close())
}

// compiler is an executor that can compile a program before a task runs it.
type compiler interface {
	Ahead(ctx context.Context, program mman.CID, open func(context.Context) (resources.Blob, error))
}

// Ahead tells the executor of a facet that a program has come that it may be asked to
// run, if it compiles; see wasm.Executor.Ahead. It does not wait.
func (w *Worker) Ahead(ctx context.Context, facet resources.Facet, program mman.CID, open func(context.Context) (resources.Blob, error)) {
	if c, ok := w.executors[facet].(compiler); ok {
		c.Ahead(ctx, program, open)
	}
}

// Guard prepares a task on guarded data; see gate.Prepare.
func (w *Worker) Guard(ctx context.Context, facet resources.Facet, task resources.Task, o resources.Outlet) (*gate.Run, error) {
	executor, err := w.executor(facet)
	if err != nil {
		return nil, err
	}
	return gate.Prepare(ctx, executor, task, o)
}

func (w *Worker) executor(facet resources.Facet) (resources.Executor, error) {
	executor, ok := w.executors[facet]
	if !ok {
		return nil, fmt.Errorf("%w: this node has no executor for %s", mman.ErrUnsupported, facet)
	}
	return executor, nil
}

func (w *Worker) run(ctx context.Context, executor resources.Executor, prepared resources.Prepared, job Job) (Done, error) {
	keep := newKeeper(context.WithoutCancel(ctx), job.Keep)
	var open tap
	streams := resources.IO{
		Stdout: open.writer(func(p []byte) error {
			if err := job.Stdout(p); err != nil {
				return err // the output is what was let through
			}
			return keep.write(p)
		}),
		Stderr:   open.writer(job.Stderr),
		Stdin:    job.Stdin,
		Credit:   job.Credit,
		Framed:   job.Framed,
		Terminal: job.Terminal,
		Progress: job.Progress,
		Notices:  job.Notices,
		Door:     job.Door,
	}
	if job.Framed {
		streams.Aside = open.writer(job.Aside)
	}
	result, err := executor.Run(ctx, prepared, streams)
	open.shut()
	done := Done{Result: result}
	var kept error
	done.Output, done.OutputBytes, kept = keep.end()
	if kept != nil {
		return Done{}, fmt.Errorf("keep the output: %w", kept)
	}
	for _, stop := range []*mman.Error{mman.ErrFuel, mman.ErrWall, mman.ErrMemory, mman.ErrOutput, mman.ErrGuestTrap, mman.ErrIdle, mman.ErrInputLimit, mman.ErrUnpaid, mman.ErrCapExceeded, mman.ErrStopped, mman.ErrEnvironment, mman.ErrCanceled} {
		if errors.Is(err, stop) {
			done.Code = stop.Code
			return done, explain(job, err)
		}
	}
	return done, err
}

// explain tells the consumer, where a runtime would, what a trap was: the code
// that ends the run says only that there was one. A limit needs no words, the
// consumer knows what it asked for.
func explain(job Job, end error) error {
	if errors.Is(end, mman.ErrStopped) || errors.Is(end, mman.ErrEnvironment) {
		return job.Stderr([]byte(end.Error() + "\n"))
	}
	if !errors.Is(end, mman.ErrGuestTrap) {
		return nil
	}
	reason, found := strings.CutPrefix(end.Error(), mman.ErrGuestTrap.Error()+": ")
	if !found {
		reason = end.Error()
	}
	return job.Stderr([]byte("trap: " + reason + "\n"))
}

// tap lets a run write until it has ended. An executor may leave a blocked
// write behind; what comes of it must not land in the next run.
type tap struct {
	mu   sync.Mutex
	over bool
}

// shut waits for the write under way; those that come later fail.
func (g *tap) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = true
}

func (g *tap) writer(w func(p []byte) error) io.Writer { return tapped{g, w} }

type tapped struct {
	tap *tap
	w   func(p []byte) error
}

// Write hands p on whole.
func (g tapped) Write(p []byte) (int, error) {
	g.tap.mu.Lock()
	defer g.tap.mu.Unlock()
	if g.tap.over {
		return 0, fmt.Errorf("%w: the run is over", mman.ErrCanceled)
	}
	if err := g.w(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// keeper hands the output on to Keep.
type keeper struct {
	*feed.Feed

	id   mman.CID
	size uint64
}

func newKeeper(ctx context.Context, keep Keep) *keeper {
	k := &keeper{}
	k.Feed = feed.New(func(r io.Reader) (err error) {
		k.id, k.size, err = keep(ctx, r)
		return err
	})
	return k
}

func (k *keeper) write(p []byte) error {
	_, err := k.Write(p)
	return err
}

func (k *keeper) end() (mman.CID, uint64, error) {
	if err := k.End(); err != nil {
		return mman.CID{}, 0, err
	}
	return k.id, k.size, nil
}

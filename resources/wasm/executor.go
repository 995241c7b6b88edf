package wasm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/tetratelabs/wazero/experimental"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/prepare"
)

// Executor runs WASI command modules. It is safe for concurrent use.
type Executor struct {
	config  Config
	host    map[string]hostFunc
	cache   *cache
	places  chan struct{}
	guests  chan struct{} // the interactive ones
	ahead   ahead
	closing chan struct{}
	spare   spares

	mu     sync.Mutex
	closed bool
	// ends cancels the runs in progress, by a number of their own.
	ends map[uint64]context.CancelCauseFunc
	next uint64
	work sync.WaitGroup
}

var _ resources.Executor = (*Executor)(nil)

// New returns an executor; Close frees it. It fails with mman.ErrInvalid for a
// config out of range and with mman.ErrHome when the cache folder cannot be used.
func New(config Config) (*Executor, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config = config.withDefaults()
	compiled, err := newCache(config)
	if err != nil {
		return nil, err
	}
	e := &Executor{
		config: config, cache: compiled, host: map[string]hostFunc{},
		places: make(chan struct{}, config.MaxRuns), guests: make(chan struct{}, config.MaxInteractive), closing: make(chan struct{}),
		ahead: newAhead(), ends: map[uint64]context.CancelCauseFunc{},
	}
	for _, f := range hostFuncs() {
		e.host[f.name] = f
	}
	return e, nil
}

func errClosed() error { return fmt.Errorf("%w: the executor is closed", mman.ErrCanceled) }

// enter counts a piece of work that Close waits for; cancel, when set, is how
// Close ends it. The returned function must be called at its end.
func (e *Executor) enter(cancel context.CancelCauseFunc) (leave func(), err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errClosed()
	}
	e.work.Add(1)
	id := e.next
	e.next++
	if cancel != nil {
		e.ends[id] = cancel
	}
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.ends, id)
		e.work.Done()
	}, nil
}

// Close ends the runs in progress, waits for them and for compiling modules, and
// frees all memory. Tasks that were prepared cannot run any more. Safe twice.
func (e *Executor) Close() error {
	e.mu.Lock()
	if !e.closed {
		e.closed = true
		close(e.closing)
	}
	for _, cancel := range e.ends {
		cancel(errClosed())
	}
	e.mu.Unlock()
	e.work.Wait()
	e.cache.close()
	return nil
}

// preparedTask is a task whose module is compiled and held in the cache.
type preparedTask struct {
	*prepare.Claim

	task       resources.Task
	module     *module
	sizes      prepare.Sizes
	scriptSize uint64
}

// Prepare checks that the task's content is there and within the limits, and
// compiles the algorithm or finds it compiled. Content is opened again by Run,
// under its own context; a Blob must let go when the context that it was opened
// under ends.
func (e *Executor) Prepare(ctx context.Context, task resources.Task) (resources.Prepared, error) {
	if err := task.Validate(); err != nil {
		return nil, err
	}
	leave, err := e.enter(nil)
	if err != nil {
		return nil, err
	}
	defer leave()
	ctx, cancel := context.WithTimeoutCause(ctx, e.config.PrepareTimeout,
		fmt.Errorf("%w: preparing took longer than %s", mman.ErrTimeout, e.config.PrepareTimeout))
	defer cancel()
	p := &preparedTask{task: task}
	if err := p.measure(ctx); err != nil {
		return nil, prepare.Error(ctx, err)
	}
	// The algorithm is opened also when it is compiled already: whether the
	// task may have it is for its content to say.
	blob, err := task.Content.Open(ctx, task.Module())
	if err != nil {
		return nil, prepare.Error(ctx, fmt.Errorf("open %s: %w", program(task), err))
	}
	entry, err := e.module(ctx, task.Module(), blob)
	if err = errors.Join(err, blob.Close()); err != nil {
		if entry != nil {
			e.cache.release(entry)
		}
		return nil, prepare.Error(ctx, fmt.Errorf("%s: %w", program(task), err))
	}
	if need := uint64(entry.module.minPages) * pageSize; need > task.Limits.MemoryBytes {
		e.cache.release(entry)
		return nil, fmt.Errorf("%s: %w: it starts with %d bytes, the limit is %d", program(task), mman.ErrMemory, need, task.Limits.MemoryBytes)
	}
	p.module = entry.module
	p.Claim = prepare.NewClaim(func() { e.cache.release(entry) })
	return p, nil
}

// program names what a task runs, for errors.
func program(task resources.Task) string {
	if i, ok := resources.InterpreterOf(task.Facet); ok {
		return fmt.Sprintf("%s, module %s", i.Name, i.Module)
	}
	return "algorithm " + task.Algorithm.String()
}

// measure opens what the guest reads for its size.
func (p *preparedTask) measure(ctx context.Context) (err error) {
	if p.task.Module() != p.task.Algorithm {
		if p.scriptSize, err = prepare.SizeOf(ctx, p.task, "script", p.task.Algorithm); err != nil {
			return err
		}
		if p.scriptSize > resources.ScriptMaxBytes {
			return fmt.Errorf("%w: script %s has %d bytes, at most %d are allowed", mman.ErrTooLarge, p.task.Algorithm, p.scriptSize, resources.ScriptMaxBytes)
		}
	}
	p.sizes, err = prepare.Measure(ctx, p.task)
	return err
}

// module returns the compiled algorithm, held in the cache.
func (e *Executor) module(ctx context.Context, id mman.CID, blob resources.Blob) (*cacheEntry, error) {
	if entry := e.cache.get(id); entry != nil {
		return entry, nil
	}
	if blob.Size() > ModuleMaxBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", mman.ErrModule, blob.Size(), ModuleMaxBytes)
	}
	entry, done, err := e.cache.begin(ctx, id)
	if err != nil || entry != nil {
		return entry, err
	}
	started := false
	defer func() {
		if !started {
			done()
		}
	}()
	source := make([]byte, blob.Size())
	if _, err := io.ReadFull(blob, source); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: it is shorter than %d bytes", mman.ErrContent, blob.Size())
		}
		return nil, err
	}
	checked, err := admit(source, func(name string) bool {
		_, ok := e.host[name]
		return ok
	})
	if err != nil {
		return nil, err
	}
	leave, err := e.enter(nil)
	if err != nil {
		return nil, err
	}
	// Compiling cannot be interrupted. Who waits for it may leave; it goes on
	// in its place and the next one finds it in the cache.
	type compiled struct {
		entry *cacheEntry
		err   error
	}
	result := make(chan compiled, 1)
	started = true
	go func(ctx context.Context) {
		defer leave()
		defer done()
		if _, ok := resources.InterpreterAt(id); ok {
			// A fault of the compiler's in another goroutine would end the node, so
			// that only what is known is compiled by several.
			ctx = experimental.WithCompilationWorkers(ctx, runtime.GOMAXPROCS(0))
		}
		m, err := e.cache.compile(ctx, id, checked, e.host)
		if err != nil {
			result <- compiled{nil, err}
			return
		}
		result <- compiled{e.cache.add(id, m), nil}
	}(context.WithoutCancel(ctx))
	select {
	case c := <-result:
		return c.entry, c.err
	case <-ctx.Done():
		go func() {
			if c := <-result; c.entry != nil {
				e.cache.release(c.entry)
			}
		}()
		return nil, fmt.Errorf("compile %d bytes: %w", len(source), context.Cause(ctx))
	}
}

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
)

// Executor runs WASI command modules. It is safe for concurrent use.
type Executor struct {
	config  Config
	host    map[string]hostFunc
	cache   *cache
	places  chan struct{}
	guests  chan struct{} // the interactive ones
	closing chan struct{}

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
		ends: map[uint64]context.CancelCauseFunc{},
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
	task       resources.Task
	module     *module
	inBytes    uint64
	stdinSize  uint64
	inputSizes []uint64
	scriptSize uint64

	once    sync.Once
	release func() // lets the module go; safe twice
	mu      sync.Mutex
	taken   bool
}

// take marks the task as run.
func (p *preparedTask) take() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken {
		return fmt.Errorf("%w: a prepared task runs once, and not after Close; prepare it again", mman.ErrInvalid)
	}
	p.taken = true
	return nil
}

// Close frees a task that will not run; during a run it does nothing. Safe twice.
func (p *preparedTask) Close() error {
	if p.take() == nil {
		p.release()
	}
	return nil
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
		return nil, prepareError(ctx, err)
	}
	// The algorithm is opened also when it is compiled already: whether the
	// task may have it is for its content to say.
	blob, err := task.Content.Open(ctx, task.Module())
	if err != nil {
		return nil, prepareError(ctx, fmt.Errorf("open %s: %w", program(task), err))
	}
	entry, err := e.module(ctx, task.Module(), blob)
	if err = errors.Join(err, blob.Close()); err != nil {
		if entry != nil {
			e.cache.release(entry)
		}
		return nil, prepareError(ctx, fmt.Errorf("%s: %w", program(task), err))
	}
	if need := uint64(entry.module.minPages) * pageSize; need > task.Limits.MemoryBytes {
		e.cache.release(entry)
		return nil, fmt.Errorf("%s: %w: it starts with %d bytes, the limit is %d", program(task), mman.ErrMemory, need, task.Limits.MemoryBytes)
	}
	p.module = entry.module
	p.release = func() { p.once.Do(func() { e.cache.release(entry) }) }
	return p, nil
}

// program names what a task runs, for errors.
func program(task resources.Task) string {
	if i, ok := resources.InterpreterOf(task.Facet); ok {
		return fmt.Sprintf("%s, module %s", i.Name, i.Module)
	}
	return "algorithm " + task.Algorithm.String()
}

// prepareError says in the words of this package that the context ended.
func prepareError(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	switch {
	case cause == nil:
		return err
	case errors.Is(cause, mman.ErrTimeout):
		return fmt.Errorf("%w: %w", cause, err)
	default:
		return fmt.Errorf("%w: %w", mman.ErrCanceled, err)
	}
}

// sizeOf opens a content for its size.
func (p *preparedTask) sizeOf(ctx context.Context, what string, id mman.CID) (uint64, error) {
	blob, err := p.task.Content.Open(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("open %s %s: %w", what, id, err)
	}
	size := blob.Size()
	if err := blob.Close(); err != nil {
		return 0, fmt.Errorf("close %s %s: %w", what, id, err)
	}
	return size, nil
}

// measure opens what the guest reads for its size.
func (p *preparedTask) measure(ctx context.Context) error {
	add := func(what string, id mman.CID) (uint64, error) {
		size, err := p.sizeOf(ctx, what, id)
		if err != nil {
			return 0, err
		}
		if room := p.task.Limits.InputBytes - p.inBytes; size > room {
			return 0, fmt.Errorf("%w: with the %d bytes of %s %s the inputs exceed %d bytes", mman.ErrInputLimit, size, what, id, p.task.Limits.InputBytes)
		}
		p.inBytes += size
		return size, nil
	}
	var err error
	if p.task.Module() != p.task.Algorithm {
		if p.scriptSize, err = p.sizeOf(ctx, "script", p.task.Algorithm); err != nil {
			return err
		}
		if p.scriptSize > resources.ScriptMaxBytes {
			return fmt.Errorf("%w: script %s has %d bytes, at most %d are allowed", mman.ErrTooLarge, p.task.Algorithm, p.scriptSize, resources.ScriptMaxBytes)
		}
	}
	if !p.task.Stdin.IsZero() {
		if p.stdinSize, err = add("stdin", p.task.Stdin); err != nil {
			return err
		}
	}
	for i, id := range p.task.Inputs {
		size, err := add(fmt.Sprintf("input %d", i), id)
		if err != nil {
			return err
		}
		p.inputSizes = append(p.inputSizes, size)
	}
	return nil
}

// module returns the compiled algorithm, held in the cache.
func (e *Executor) module(ctx context.Context, id mman.CID, blob resources.Blob) (*cacheEntry, error) {
	if entry := e.cache.get(id); entry != nil {
		return entry, nil
	}
	if blob.Size() > ModuleMaxBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", mman.ErrModule, blob.Size(), ModuleMaxBytes)
	}
	select {
	case e.cache.workers <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the compiler: %w", context.Cause(ctx))
	}
	started := false
	defer func() {
		if !started {
			<-e.cache.workers
		}
	}()
	if entry := e.cache.get(id); entry != nil { // another one was faster
		return entry, nil
	}
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
		defer func() { <-e.cache.workers }()
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

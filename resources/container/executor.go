package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/container/ferry"
	"github.com/limboid/massive-man/resources/prepare"
)

// Where our own first process lies, in the executor's folder and in containers.
const (
	idleFile = "idle"
	idlePath = "/.mman-idle"
)

// Executor runs programs of images. It is safe for concurrent use.
type Executor struct {
	config Config
	engine *engine
	images *images
	places chan struct{}
	guests chan struct{} // the interactive ones
	hosts  *harbour      // the hosted ones
	swept  int
	pool   *pool
	life   context.Context //nolint:containedctx // that of New without its end: what goes on in the background

	mu     sync.Mutex
	closed bool
	// ends cancels the runs in progress, by a number of their own.
	ends map[uint64]context.CancelCauseFunc
	next uint64
	work sync.WaitGroup
}

var _ resources.Executor = (*Executor)(nil)

// New asks the engine what it is, removes what an earlier process of the same
// owner left behind, and returns an executor; Close frees it. It fails with
// mman.ErrInvalid for a config out of range, mman.ErrUnreachable without an engine,
// mman.ErrUnsupported for one that will not do, and mman.ErrHome.
func New(ctx context.Context, config Config) (*Executor, error) {
	return newExecutor(ctx, config, undefended{})
}

func newExecutor(ctx context.Context, config Config, off undefended) (_ *Executor, err error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config = config.withDefaults()
	c, err := dial(config.Host)
	if err != nil {
		return nil, err
	}
	eng := &engine{Client: c, owner: config.Owner, idle: filepath.Join(config.Dir, idleFile), off: &off}
	e := &Executor{
		config: config, engine: eng, places: make(chan struct{}, config.MaxRuns), guests: make(chan struct{}, config.MaxInteractive),
		ends: map[uint64]context.CancelCauseFunc{}, life: context.WithoutCancel(ctx),
	}
	e.pool = newPool(e)
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if eng.facts, err = ask(ctx, c, config.Host); err != nil {
		return nil, err
	}
	if eng.facts.GVisor && !config.Plain {
		eng.runtime = RuntimeGVisor
	}
	e.hosts = &harbour{most: config.MaxHosted, bytes: config.HostedBytes}
	if e.hosts.bytes == 0 {
		e.hosts.bytes = eng.facts.MemoryBytes / 2
	}
	if e.swept, err = eng.orphans(ctx); err != nil {
		return nil, err
	}
	if err := e.furnish(); err != nil {
		return nil, err
	}
	e.images, err = openImages(ctx, eng, config.ImageBytes, config.CacheBytes)
	return e, err
}

// furnish empties the folder and puts our own programs there.
func (e *Executor) furnish() error {
	first, err := idle(e.engine.facts.Arch)
	if err != nil {
		return err
	}
	way, err := ferry.Program(e.engine.facts.Arch)
	if err != nil {
		return err
	}
	ours := map[string][]byte{e.engine.idle: first, e.path(ferryFile): way}
	if e.engine.facts.Podman {
		e.engine.profile = e.path(profileFile)
		if ours[e.engine.profile], err = restrict(profiles()); err != nil {
			return err
		}
	}
	err = os.RemoveAll(e.config.Dir)
	if err == nil {
		err = os.MkdirAll(e.config.Dir, 0o700)
	}
	for path, program := range ours {
		if err == nil {
			err = os.WriteFile(path, program, 0o600)
		}
		if err == nil {
			err = os.Chmod(path, 0o555) //nolint:gosec // a program, which holds nothing secret
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return nil
}

// path is where a file of ours lies.
func (e *Executor) path(file string) string { return filepath.Join(e.config.Dir, file) }

// Facts returns what the engine said of itself.
func (e *Executor) Facts() Facts { return e.engine.facts }

// Sandbox returns what programs run in: see resources.SandboxGVisor.
func (e *Executor) Sandbox() string {
	if e.engine.runtime == RuntimeGVisor {
		return resources.SandboxGVisor
	}
	return resources.SandboxEngine
}

// Swept returns how many containers of an earlier process New removed.
func (e *Executor) Swept() int { return e.swept }

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

// Close ends the runs in progress and waits for them. Images stay in the engine.
// Tasks that were prepared cannot run any more. Safe twice.
func (e *Executor) Close() error {
	e.mu.Lock()
	first := !e.closed
	e.closed = true
	for _, cancel := range e.ends {
		cancel(errClosed())
	}
	e.mu.Unlock()
	e.work.Wait()
	if !first {
		return nil
	}
	return e.engine.Close()
}

// preparedTask is a task whose image is in the engine.
type preparedTask struct {
	*prepare.Claim

	task    resources.Task
	image   *loaded
	command []string
	sizes   prepare.Sizes
}

// Prepare checks that the task's content is there and within the limits, and loads
// the image or finds it loaded. Content is opened again by Run, under its own
// context.
func (e *Executor) Prepare(ctx context.Context, task resources.Task) (resources.Prepared, error) {
	if err := task.Validate(); err != nil {
		return nil, err
	}
	if task.Facet != "" && task.Facet != resources.FacetContainer {
		return nil, fmt.Errorf("%w: an algorithm of facet %s does not run in a container", mman.ErrUnsupported, task.Facet)
	}
	if task.Limits.MemoryBytes < MinMemoryBytes {
		return nil, fmt.Errorf("%w: a container needs %d bytes, the limit is %d", mman.ErrMemory, MinMemoryBytes, task.Limits.MemoryBytes)
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
	if p.sizes, err = prepare.Measure(ctx, task); err != nil {
		return nil, prepare.Error(ctx, err)
	}
	// The image is opened also when it is loaded already: whether the task may
	// have it is for its content to say.
	blob, err := task.Content.Open(ctx, task.Algorithm)
	if err != nil {
		return nil, prepare.Error(ctx, fmt.Errorf("open image %s: %w", task.Algorithm, err))
	}
	img, err := e.images.take(ctx, task.Algorithm, blob)
	if err = errors.Join(err, blob.Close()); err != nil {
		if img != nil {
			e.images.release(img)
		}
		return nil, prepare.Error(ctx, fmt.Errorf("image %s: %w", task.Algorithm, err))
	}
	p.image = img
	p.Claim = prepare.NewClaim(func() { e.images.release(img) })
	args := task.Args
	if len(args) == 0 {
		args = img.process.Cmd
	}
	if p.command = slices.Concat(img.process.Entrypoint, args); len(p.command) == 0 || p.command[0] == "" {
		p.Release()
		return nil, fmt.Errorf("image %s: %w: it does not say what to run: name a command after --", task.Algorithm, mman.ErrModule)
	}
	return p, nil
}

package resourcestest

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// Fake is an executor that plays a script and runs nothing. It checks the task
// and opens the algorithm, as a real one does. Set its fields before the first
// use; it is safe for concurrent use.
type Fake struct {
	// PrepareErr, when set, is how Prepare answers.
	PrepareErr error
	// Play is the run. Nil prints the algorithm's bytes to standard output.
	Play func(ctx context.Context, task resources.Task, streams resources.IO) (resources.Result, error)

	mu    sync.Mutex
	tasks []resources.Task
	came  []mman.CID
}

var _ resources.Executor = (*Fake)(nil)

// Tasks returns the tasks that were run, in their order.
func (f *Fake) Tasks() []resources.Task {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]resources.Task(nil), f.tasks...)
}

// Ahead notes a program that can be opened.
func (f *Fake) Ahead(ctx context.Context, program mman.CID, open func(context.Context) (resources.Blob, error)) {
	if blob, err := open(ctx); err == nil && blob.Close() == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.came = append(f.came, program)
	}
}

// Came returns what Ahead was told of, in its order.
func (f *Fake) Came() []mman.CID {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.came)
}

type fakePrepared struct{ task resources.Task }

// Close frees nothing.
func (*fakePrepared) Close() error { return nil }

// Prepare admits any valid task whose algorithm is there.
func (f *Fake) Prepare(ctx context.Context, task resources.Task) (resources.Prepared, error) {
	if f.PrepareErr != nil {
		return nil, f.PrepareErr
	}
	if err := task.Validate(); err != nil {
		return nil, err
	}
	blob, err := task.Content.Open(ctx, task.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("open algorithm: %w", err)
	}
	return &fakePrepared{task}, blob.Close()
}

// Run plays the script.
func (f *Fake) Run(ctx context.Context, prepared resources.Prepared, streams resources.IO) (resources.Result, error) {
	p, ok := prepared.(*fakePrepared)
	if !ok {
		return resources.Result{}, fmt.Errorf("%w: a %T was not prepared by this executor", mman.ErrInvalid, prepared)
	}
	f.mu.Lock()
	f.tasks = append(f.tasks, p.task)
	f.mu.Unlock()
	if f.Play != nil {
		return f.Play(ctx, p.task, streams)
	}
	blob, err := p.task.Content.Open(ctx, p.task.Algorithm)
	if err != nil {
		return resources.Result{}, fmt.Errorf("open algorithm: %w", err)
	}
	n, err := io.Copy(streams.Stdout, blob)
	if closeErr := blob.Close(); err == nil {
		err = closeErr
	}
	return resources.Result{Usage: resources.Usage{WallMs: 1, OutBytes: uint64(n), CallCount: 1}}, err
}

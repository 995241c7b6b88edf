package container

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/moby/moby/client"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// Standing is an image for which containers stand ready, so that a conversation
// begins at once.
type Standing struct {
	// Image names the archive, Open opens it.
	Image mman.CID
	Open  func(ctx context.Context) (resources.Blob, error)
	// MemoryBytes is the memory limit of the runs that they are for; others get a
	// container of their own.
	MemoryBytes uint64
}

// kind is what containers that stand ready have in common.
type kind struct {
	image  mman.CID
	memory uint64
}

// standing is a container that waits, paused, with nothing in it but our own
// process.
type standing struct {
	id    string
	image *loaded
}

// pool are the containers that stand ready.
type pool struct {
	e    *Executor
	wake chan struct{} // one place: something changed
	once sync.Once

	mu      sync.Mutex
	want    []Standing
	ready   map[kind][]standing
	failure map[kind]error // why there are none; until the next Stand
	settled chan struct{}  // closed when nothing is under way
}

func newPool(e *Executor) *pool {
	return &pool{e: e, wake: make(chan struct{}, 1), ready: map[kind][]standing{}, failure: map[kind]error{}, settled: make(chan struct{})}
}

// Stand says for which images containers stand ready, in the place of what was said
// before. They are made one by one, in the background, at most Config.Warm for each
// and Config.WarmMost in all; Close removes them.
func (e *Executor) Stand(want []Standing) {
	p := e.pool
	p.mu.Lock()
	p.want = want
	clear(p.failure)
	select {
	case <-p.settled:
		p.settled = make(chan struct{})
	default:
	}
	p.mu.Unlock()
	p.once.Do(func() {
		ctx, end := context.WithCancelCause(e.life)
		leave, err := e.enter(end)
		if err != nil {
			return // it is closed
		}
		go func() {
			defer leave()
			p.run(ctx)
		}()
	})
	p.poke()
}

// Ready waits until the containers stand that were asked for, or cannot, and
// returns how many do and why others do not.
func (e *Executor) Ready(ctx context.Context) (int, error) {
	p := e.pool
	p.mu.Lock()
	settled := p.settled
	p.mu.Unlock()
	select {
	case <-settled:
	case <-ctx.Done():
		return 0, canceled(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, err := range p.failure {
		errs = append(errs, err)
	}
	return p.count(), errors.Join(errs...)
}

// CountReady returns how many containers stand ready of an owner; see Config.Owner.
func CountReady(ctx context.Context, host, owner string) (_ int, err error) {
	c, err := dial(host)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	e := &engine{Client: c, owner: owner}
	got, err := e.ContainerList(ctx, client.ContainerListOptions{Filters: e.mine().Add("status", "paused")})
	if err != nil {
		return 0, fmt.Errorf("%w: list containers: %w", mman.ErrUnreachable, err)
	}
	return len(got.Items), nil
}

// count returns how many stand; p is locked.
func (p *pool) count() (n int) {
	for _, s := range p.ready {
		n += len(s)
	}
	return n
}

func (p *pool) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run makes what is missing and removes what is not wanted, until ctx ends.
func (p *pool) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			p.stop(ctx)
			return
		case <-p.wake:
		}
		p.remove(ctx, p.unwanted())
		for ctx.Err() == nil {
			s, ok := p.missing()
			if !ok {
				break
			}
			p.add(ctx, s)
		}
	}
}

// stop removes all.
func (p *pool) stop(ctx context.Context) {
	p.mu.Lock()
	p.want = nil
	p.mu.Unlock()
	p.remove(ctx, p.unwanted())
	p.missing() // there is none
}

func (p *pool) remove(ctx context.Context, which []standing) {
	for _, s := range which {
		_ = p.e.engine.remove(ctx, s.id) // the next start finds it by its label
		p.e.images.release(s.image)
	}
}

// unwanted takes out those for which nobody asks any more.
func (p *pool) unwanted() (out []standing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted := map[kind]bool{}
	for _, s := range p.want {
		wanted[kind{s.Image, s.MemoryBytes}] = true
	}
	for k, s := range p.ready {
		if !wanted[k] {
			out = append(out, s...)
			delete(p.ready, k)
		}
	}
	return out
}

// missing returns what lacks a container most. When nothing does, those that wait
// for that are told.
func (p *pool) missing() (found Standing, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	least := p.e.config.Warm
	for _, s := range p.want {
		k := kind{s.Image, s.MemoryBytes}
		if n := len(p.ready[k]); n < least && p.failure[k] == nil {
			found, least, ok = s, n, true
		}
	}
	if ok = ok && p.count() < p.e.config.WarmMost; ok {
		return found, true
	}
	select {
	case <-p.settled:
	default:
		close(p.settled)
	}
	return found, false
}

// add makes one container.
func (p *pool) add(ctx context.Context, s Standing) {
	made, err := p.make(ctx, s)
	p.mu.Lock()
	defer p.mu.Unlock()
	k := kind{s.Image, s.MemoryBytes}
	if err != nil {
		p.failure[k] = fmt.Errorf("a container of image %s to stand ready: %w", s.Image, err)
		return
	}
	p.ready[k] = append(p.ready[k], made)
}

func (p *pool) make(ctx context.Context, s Standing) (_ standing, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.e.config.PrepareTimeout)
	defer cancel()
	blob, err := s.Open(ctx)
	if err != nil {
		return standing{}, err
	}
	img, err := p.e.images.take(ctx, s.Image, blob)
	if err = errors.Join(err, blob.Close()); err != nil {
		if img != nil {
			p.e.images.release(img)
		}
		return standing{}, err
	}
	id, err := p.e.engine.create(ctx, img, resources.Limits{MemoryBytes: s.MemoryBytes}, nil)
	if err != nil {
		p.e.images.release(img)
		return standing{}, err
	}
	if _, err := p.e.engine.ContainerPause(ctx, id, client.ContainerPauseOptions{}); err != nil {
		p.e.images.release(img)
		return standing{}, errors.Join(fmt.Errorf("pause a container: %w", err), p.e.engine.remove(ctx, id))
	}
	return standing{id, img}, nil
}

// take returns a container that goes on, "" for none.
func (p *pool) take(ctx context.Context, k kind) string {
	for {
		p.mu.Lock()
		all := p.ready[k]
		if len(all) == 0 {
			p.mu.Unlock()
			return ""
		}
		s := all[len(all)-1]
		p.ready[k] = all[:len(all)-1]
		p.mu.Unlock()
		p.poke()
		p.e.images.release(s.image) // the run holds it too
		if _, err := p.e.engine.ContainerUnpause(ctx, s.id, client.ContainerUnpauseOptions{}); err == nil {
			return s.id
		}
		_ = p.e.engine.remove(ctx, s.id) // somebody ended it
	}
}

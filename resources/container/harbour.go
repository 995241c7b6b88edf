package container

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/moby/moby/client"

	mman "github.com/limboid/massive-man"
)

// harbour bounds the hosted programs, which stay: their number, and the memory that
// is set aside for them.
type harbour struct {
	most  int
	bytes uint64

	mu    sync.Mutex
	count int
	used  uint64
}

// take takes a place for a program with a memory limit.
func (b *harbour) take(bytes uint64) (leave func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.count >= b.most {
		return nil, fmt.Errorf("%w: %d hosted containers run here, which is all that may", mman.ErrBusy, b.count)
	}
	if bytes > b.bytes-b.used {
		return nil, fmt.Errorf("%w: %d bytes of memory are asked for, %d of the %d for hosted containers are free", mman.ErrBusy, bytes, b.bytes-b.used, b.bytes)
	}
	b.count++
	b.used += bytes
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.count--
		b.used -= bytes
	}, nil
}

// living are the containers that belong to something.
type living struct {
	mu sync.Mutex
	m  map[string]bool
}

func (l *living) add(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = make(map[string]bool)
	}
	l.m[id] = true
}

func (l *living) drop(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.m, id)
}

func (l *living) has(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.m[id]
}

// Sweep removes the containers of this executor that belong to nothing any more, as
// an engine leaves them behind that could not be reached when they ended. It returns
// how many.
func (e *Executor) Sweep(ctx context.Context) (int, error) {
	leave, err := e.enter(nil)
	if err != nil {
		return 0, err
	}
	defer leave()
	// Between the engine's answer and the look below nothing is created and told.
	e.engine.making.Lock()
	got, err := e.engine.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: e.engine.mine()})
	var left []string
	for _, c := range got.Items {
		if !e.engine.living.has(c.ID) {
			left = append(left, c.ID)
		}
	}
	e.engine.making.Unlock()
	if err != nil {
		return 0, fmt.Errorf("%w: list containers: %w", mman.ErrUnreachable, err)
	}
	swept := 0
	var errs []error
	for _, id := range left {
		if err := e.engine.remove(ctx, id); err != nil {
			errs = append(errs, err)
			continue
		}
		swept++
	}
	return swept, errors.Join(errs...)
}

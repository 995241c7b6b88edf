package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// Bare starts a task's program in a terminal of its own and returns the engine's
// stream to it, with nothing between: what a conversation is measured by. Closing it
// ends the container.
func (e *Executor) Bare(ctx context.Context, task resources.Task, screen resources.Terminal) (_ io.ReadWriteCloser, err error) {
	prepared, err := e.Prepare(ctx, task)
	if err != nil {
		return nil, err
	}
	p, ok := prepared.(*preparedTask)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%w: a %T", mman.ErrInternal, prepared), prepared.Close())
	}
	r := &run{e: e, p: p, streams: resources.IO{Framed: true, Terminal: &screen}}
	r.watch = stopwatch{clock: e.config.Clock, limit: time.Hour, over: func() {}}
	if r.id, err = e.engine.create(ctx, p.image, task.Limits, nil); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	conn, err := r.begin(ctx)
	if err != nil {
		return nil, errors.Join(err, r.finish(ctx), p.Close())
	}
	return &bare{Reader: conn.Reader, Writer: conn.Conn, close: func() error {
		r.watch.stop()
		conn.Close()
		return errors.Join(r.finish(ctx), p.Close())
	}}, nil
}

// bare is a program's stream.
type bare struct {
	io.Reader
	io.Writer

	close func() error
}

// Close ends the container.
func (b *bare) Close() error { return b.close() }

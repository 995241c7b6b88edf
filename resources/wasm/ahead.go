package wasm

import (
	"context"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// aheadMost bounds the modules that wait to be compiled before anybody runs them, with
// the one that is being compiled. One more is compiled when it runs.
const aheadMost = 16

// ahead holds back what is compiled before anybody runs it.
type ahead struct {
	waiting chan struct{} // a place for each that waits or is compiled
	turn    chan struct{} // one at a time
}

func newAhead() ahead {
	return ahead{make(chan struct{}, aheadMost), make(chan struct{}, 1)}
}

// Ahead starts compiling a module that has just come, so that the first task that runs
// it finds it compiled, or waits for the same compiler; it returns at once. Modules are
// compiled one after the other, each within Config.PrepareTimeout; open is called when
// its turn has come. What fails here fails again, and is told, when a task is prepared.
// Close ends what has begun. ctx is only carried.
func (e *Executor) Ahead(ctx context.Context, module mman.CID, open func(context.Context) (resources.Blob, error)) {
	select {
	case e.ahead.waiting <- struct{}{}:
	default:
		return
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	leave, err := e.enter(cancel)
	if err != nil { // it is closed
		cancel(err)
		<-e.ahead.waiting
		return
	}
	go func() {
		defer leave()
		defer cancel(nil)
		defer func() { <-e.ahead.waiting }()
		select {
		case e.ahead.turn <- struct{}{}:
		case <-ctx.Done():
			return
		}
		defer func() { <-e.ahead.turn }()
		ctx, stop := context.WithTimeout(ctx, e.config.PrepareTimeout)
		defer stop()
		blob, err := open(ctx)
		if err != nil {
			return
		}
		// Nobody waits for the errors: a task meets the same.
		if entry, _ := e.module(ctx, module, blob); entry != nil {
			e.cache.release(entry)
		}
		_ = blob.Close()
	}()
}

package console

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// ErrTerminated is the cause of a context that SIGTERM ended: whoever sent it waits for
// an orderly end, unlike a person who presses Ctrl-C.
var ErrTerminated = errors.New("asked to end by SIGTERM")

// Signals returns a context that ends at the first SIGINT or SIGTERM; a second signal
// ends the program at once. Call stop at the end.
func Signals(parent context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	got := make(chan os.Signal, 1)
	signal.Notify(got, os.Interrupt, syscall.SIGTERM)
	go func() {
		var cause error
		select {
		case s := <-got:
			if s == syscall.SIGTERM {
				cause = ErrTerminated
			}
		case <-ctx.Done():
		}
		signal.Stop(got)
		cancel(cause)
	}()
	return ctx, func() { cancel(nil) }
}

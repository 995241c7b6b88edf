package beside

import "sync/atomic"

// Start runs fn on a goroutine of its own. The function that it returns gives the
// result, and panics with what fn panicked with: it waits for the goroutine, or runs fn
// itself when no processor was free to begin with it. It must be called, by one
// goroutine.
func Start[T any](fn func() T) (wait func() T) {
	var result T
	var panicked any
	var claimed atomic.Bool
	done := make(chan struct{})
	run := func() {
		defer close(done)
		defer func() { panicked = recover() }()
		result = fn()
	}
	claim := func() {
		if claimed.CompareAndSwap(false, true) {
			run()
		}
	}
	go claim()
	return func() T {
		claim()
		<-done
		if panicked != nil {
			panic(panicked)
		}
		return result
	}
}

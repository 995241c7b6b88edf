package beside

// Start runs fn on a goroutine of its own. The function that it returns waits for the
// result, and panics with what fn panicked with. It must be called, by one goroutine.
func Start[T any](fn func() T) (wait func() T) {
	var result T
	var panicked any
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { panicked = recover() }()
		result = fn()
	}()
	return func() T {
		<-done
		if panicked != nil {
			panic(panicked)
		}
		return result
	}
}

package concurrency

func spawn(f func()) {
	go f() // want `go statement in the state machine`
}

func channels(in <-chan int) { // want `channel type in the state machine`
	out := make(chan int, 1) // want `channel type in the state machine`
	out <- 1                 // want `channel send in the state machine`
	_ = <-in                 // want `channel receive in the state machine`
	for v := range in {      // want `range over a channel in the state machine`
		_ = v
	}
	select { // want `select in the state machine`
	default:
	}
}

func allowed(f func()) { defer f() }

package container

import (
	"sync"
	"time"
)

// stopwatch measures the time that is billed, and ends it. It is safe for
// concurrent use.
type stopwatch struct {
	clock func() time.Time
	limit time.Duration
	over  func()

	mu      sync.Mutex
	running bool
	since   time.Time // while it runs
	before  time.Duration
	alarm   *time.Timer
}

// start begins; over is called, once, when the limit is reached.
func (w *stopwatch) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running, w.since = true, w.clock()
	w.alarm = time.AfterFunc(w.limit, w.over)
}

// spent returns the time without the rests.
func (w *stopwatch) spent() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.running {
		return w.before
	}
	return w.before + max(0, w.clock().Sub(w.since))
}

// resting reports whether it stands still.
func (w *stopwatch) resting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.running
}

// stop stops the watch until resume is called, or for ever.
func (w *stopwatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running {
		w.running = false
		w.before += max(0, w.clock().Sub(w.since))
		w.alarm.Stop()
	}
}

// resume goes on after stop.
func (w *stopwatch) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.running {
		w.running, w.since = true, w.clock()
		w.alarm.Reset(max(0, w.limit-w.before))
	}
}

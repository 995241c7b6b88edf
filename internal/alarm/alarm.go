package alarm

import (
	"sync/atomic"
	"time"
)

// early is how long before its time an alarm is waited for by a thread of its
// own. The runtime's timers wait in whole milliseconds, and are a little late.
const early = 3 * time.Millisecond

// After calls f, on a goroutine of its own, when d has passed, unless it is stopped
// before; stopping twice is safe. f may still be called while stop returns.
func After(d time.Duration, f func()) (stop func()) {
	at := instantIn(d)
	var stopped atomic.Bool
	timer := time.AfterFunc(max(0, d-early), func() {
		if !stopped.Load() {
			at.wait()
		}
		if !stopped.Load() {
			f()
		}
	})
	return func() {
		stopped.Store(true)
		timer.Stop()
	}
}

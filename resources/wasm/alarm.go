package wasm

import (
	"sync/atomic"
	"time"
)

// alarmEarly is how long before its time an alarm is waited for by a thread of its
// own. The runtime's timers wait in whole milliseconds, and are a little late.
const alarmEarly = 3 * time.Millisecond

// alarm calls f when d has passed, or nearly so that nobody notices, unless it is
// stopped before. f may still be called while stop returns.
func alarm(d time.Duration, f func()) (stop func()) {
	at := instantIn(d)
	var stopped atomic.Bool
	timer := time.AfterFunc(max(0, d-alarmEarly), func() {
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

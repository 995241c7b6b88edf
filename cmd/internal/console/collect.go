package console

import "runtime/debug"

// collectPercent is how much the heap grows before it is collected. Signing,
// encoding and streams leave much behind beside a small heap: at Go's own 100 a
// fifth of the processor time of a request went into collecting.
const collectPercent = 200

// Collect makes Go's collector run less often than it would, unless the user set
// GOGC.
func Collect(getenv func(string) string) {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(collectPercent)
	}
}

package console

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// collectPercent is how much the heap grows at least before it is collected.
	// Signing, encoding and streams leave much behind beside a small heap: at Go's
	// own 100 a fifth of the processor time of a request went into collecting.
	collectPercent = 200
	// collectFrom is how large a heap becomes at least before it is collected, in
	// bytes. A program's memory is then about the same whether a few buffers more
	// are in use or not, and a small heap is collected seldom.
	collectFrom = 128 << 20
	// leastLive is what is taken to be in use at least.
	leastLive = 4 << 20
)

// Collect makes Go's collector run less often than it would, unless the user set
// GOGC or GOMEMLIMIT: when the heap has reached 128 MiB or three times of what was
// in use, whichever is more.
func Collect(getenv func(string) string) {
	if getenv("GOGC") == "" && getenv("GOMEMLIMIT") == "" {
		collectAnew()
	}
}

// collectAnew sets how much the heap may grow from what is in use now, and once more
// after the next collection.
func collectAnew() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if live[0].Value.Kind() == metrics.KindUint64 {
		debug.SetGCPercent(percent(live[0].Value.Uint64()))
	}
	// It is found unused by the next collection. Go allocates what is smaller together
	// with others.
	lap := new([64]byte)
	runtime.AddCleanup(lap, func(struct{}) { collectAnew() }, struct{}{})
}

// percent returns how much of itself a heap of which so many bytes are in use may
// grow before it is collected.
func percent(live uint64) int {
	live = max(live, leastLive)
	if live >= collectFrom {
		return collectPercent
	}
	return max(collectPercent, int((collectFrom-live)*100/live)) //nolint:gosec // a few thousand
}

package console

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// collectFrom is how large a heap becomes at least before it is collected, in
	// bytes. Signing, encoding and streams leave much behind beside a small heap: at
	// Go's own 100 percent a fifth of the processor time of a request went into
	// collecting. A program's memory is then the same whether a few buffers more are
	// in use or not, as long as those are half of it.
	collectFrom = 128 << 20
	// smallPercent is how much the heap may grow beyond that while less than
	// collectFrom is in use, largePercent when it is more: there memory is spent to
	// save time.
	smallPercent = 100
	largePercent = 200
	// leastLive is what is taken to be in use at least.
	leastLive = 4 << 20
)

// Collect makes Go's collector run less often than it would, unless the user set
// GOGC or GOMEMLIMIT: when the heap has reached 128 MiB or twice of what was in use,
// whichever is more, and three times of it when that was 128 MiB itself.
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
		return largePercent
	}
	return max(smallPercent, int((collectFrom-live)*100/live)) //nolint:gosec // a few thousand
}

package meter_test

import (
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/limboid/massive-man/resources/wasm/meter"
)

// threadTime is the processor time of this thread, which other programs on the
// machine disturb less than the time of day.
func threadTime(b *testing.B) time.Duration {
	b.Helper()
	var now unix.Timespec
	require.NoError(b, unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now))
	return time.Duration(now.Nano())
}

// BenchmarkMetered reports the processor time of the metered kernels, with all
// rules and without some, over that of the plain ones: the least of the rounds of
// each, which take turns. "control" is the plain module again.
func BenchmarkMetered(b *testing.B) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	plain := readKernels(b)
	e := compiler(b)
	variants := []struct {
		name   string
		module []byte
		least  time.Duration
		logs   float64
	}{
		{name: "plain", module: plain},
		{name: "control", module: plain},
		{name: "metered", module: instrument(b, plain)},
		{name: "nostack", module: instrument(b, plain, meter.Switches{NoStack: true})},
		{name: "nonan", module: instrument(b, plain, meter.Switches{NoNaN: true})},
	}
	for _, k := range kernels() {
		b.Run(k.name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for i := range variants {
				variants[i].least = math.MaxInt64
			}
			var checksum []uint64
			for b.Loop() {
				for i := range variants {
					v := &variants[i]
					m := e.instantiate(b, v.module)
					setLimit(m, noLimit)
					f := m.ExportedFunction(k.name)
					start := threadTime(b)
					got, err := f.Call(b.Context(), k.rounds)
					v.least = min(v.least, threadTime(b)-start)
					require.NoError(b, err)
					require.NoError(b, m.Close(b.Context()))
					require.True(b, checksum == nil || slices.Equal(checksum, got))
					checksum = got
				}
			}
			for i := range variants[1:] {
				v := &variants[i+1]
				ratio := float64(v.least) / float64(variants[0].least)
				v.logs += math.Log(ratio)
				b.ReportMetric(ratio, v.name+"/plain")
			}
		})
	}
	for _, v := range variants[1:] {
		b.Logf("geometric mean of %s over plain: %.3f", v.name, math.Exp(v.logs/float64(len(kernels()))))
	}
}

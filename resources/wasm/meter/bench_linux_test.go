package meter_test

import (
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero/api"
	"golang.org/x/sys/unix"

	"github.com/limboid/massive-man/resources/wasm/kernel"
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
// rules and without some, over that of the plain ones: the median of the ratios of
// rounds in which all take turns. "control" is the plain module again.
func BenchmarkMetered(b *testing.B) {
	plain := kernel.Module()
	e := compiler(b)
	variants := []*variant{
		{name: "plain", module: plain},
		{name: "control", module: plain},
		{name: "metered", module: instrument(b, plain)},
		{name: "nochecks", module: instrument(b, plain, meter.Switches{NoChecks: true})},
		{name: "nostack", module: instrument(b, plain, meter.Switches{NoStack: true})},
		{name: "nonan", module: instrument(b, plain, meter.Switches{NoNaN: true})},
	}
	for _, v := range variants {
		v.instance = e.instantiate(b, v.module)
		setLimit(v.instance, noLimit)
	}
	for _, k := range kernel.List() {
		b.Run(k.Name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for _, v := range variants {
				v.ratios = nil
				v.run(b, k)
			}
			for b.Loop() {
				for _, v := range variants {
					v.took = v.run(b, k)
				}
				for _, v := range variants {
					v.ratios = append(v.ratios, float64(v.took)/float64(variants[0].took))
				}
			}
			for _, v := range variants[1:] {
				slices.Sort(v.ratios)
				ratio := v.ratios[len(v.ratios)/2]
				v.logs += math.Log(ratio)
				b.ReportMetric(ratio, v.name)
			}
		})
	}
	for _, v := range variants[1:] {
		b.Logf("geometric mean of %s over plain: %.3f", v.name, math.Exp(v.logs/float64(len(kernel.List()))))
	}
}

type variant struct {
	name     string
	module   []byte
	instance api.Module
	took     time.Duration
	ratios   []float64
	logs     float64
}

func (v *variant) run(b *testing.B, k kernel.Kernel) time.Duration {
	b.Helper()
	f := v.instance.ExportedFunction(k.Name)
	start := threadTime(b)
	_, err := f.Call(b.Context(), uint64(k.Rounds))
	took := threadTime(b) - start
	require.NoError(b, err)
	return took
}

package meter_test

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/resources/wasm/meter"
)

// kernels are the functions of testdata/kernels.wasm, with rounds that take some
// milliseconds, and few for the
// interpreter; 0 where one round takes it long.
func kernels() []kernel {
	return []kernel{
		{"sha256", 20, 1},
		{"nbody", 200_000, 1000},
		{"fannkuch", 9, 6},
		{"sieve", 15, 1},
		{"sort", 3, 1},
		{"json", 30, 1},
		{"interpreter", 3_000_000, 1000},
		{"tightloop", 50_000_000, 1000},
		{"matmul", 40, 1},
		{"fib", 31, 15},
		{"copies", 1_000_000, 1000},
	}
}

type kernel struct {
	name          string
	rounds, short uint64
}

func readKernels(tb testing.TB) []byte {
	tb.Helper()
	b, err := os.ReadFile("testdata/kernels.wasm")
	require.NoError(tb, err)
	return b
}

// BenchmarkMetered reports the time of the metered kernels over that of the plain
// ones: the median of pairs, each divided by the mean of the plain runs around.
func BenchmarkMetered(b *testing.B) {
	plain := readKernels(b)
	e := compiler(b)
	modules := map[string][]byte{"all": instrument(b, plain)}
	if os.Getenv("METER_VARIANTS") != "" {
		modules["naive"] = instrument(b, plain, meter.Switches{Naive: true})
		modules["nonan"] = instrument(b, plain, meter.Switches{NoNaN: true})
		modules["nostack"] = instrument(b, plain, meter.Switches{NoStack: true})
		modules["everynan"] = instrument(b, plain, meter.Switches{EveryNaN: true})
		modules["control"] = plain
	}
	names := make([]string, 0, len(modules))
	for name := range modules {
		names = append(names, name)
	}
	slices.Sort(names)
	logs := map[string]float64{}
	for _, k := range kernels() {
		b.Run(k.name, func(b *testing.B) {
			var checksum []uint64
			run := func(module []byte) float64 {
				m := e.instantiate(b, module)
				setLimit(m, noLimit)
				f := m.ExportedFunction(k.name)
				start := time.Now()
				got, err := f.Call(b.Context(), k.rounds)
				d := time.Since(start)
				require.NoError(b, err)
				if checksum != nil {
					require.Equal(b, checksum, got)
				}
				checksum = got
				require.NoError(b, m.Close(b.Context()))
				return d.Seconds()
			}
			run(plain)
			ratios := map[string][]float64{}
			for b.Loop() {
				for _, name := range names {
					before := run(plain)
					metered := run(modules[name])
					ratios[name] = append(ratios[name], 2*metered/(before+run(plain)))
				}
			}
			for _, name := range names {
				slices.SortFunc(ratios[name], cmp.Compare)
				r := ratios[name][len(ratios[name])/2]
				b.ReportMetric(r, name+"/plain")
				logs[name] += math.Log(r)
			}
		})
	}
	for _, name := range names {
		fmt.Printf("geometric mean of %s over plain: %.3f\n", name, math.Exp(logs[name]/float64(len(kernels()))))
	}
}

func TestKernelsGiveTheSame(t *testing.T) {
	t.Parallel()
	plain := readKernels(t)
	metered := instrument(t, plain)
	naive := instrument(t, plain, meter.Switches{Naive: true})
	e, slow := compiler(t), interpreter(t)
	for _, k := range kernels() {
		rounds := max(k.short, 1)
		want := e.invoke(t, plain, noLimit, k.name, rounds)
		require.Empty(t, want.trap)
		got := e.invoke(t, metered, noLimit, k.name, rounds)
		same(t, want, got, "%s", k.name)
		counted := e.invoke(t, naive, noLimit, k.name, rounds)
		same(t, want, counted, "%s", k.name)
		require.Equal(t, counted.used, got.used, k.name)
		if k.short > 0 {
			require.Equal(t, got, slow.invoke(t, metered, noLimit, k.name, rounds), k.name)
		}
		t.Logf("%s: %d units", k.name, got.used)
	}
}

package meter_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/resources/wasm/meter"
)

// kernels are the functions of testdata/kernels.wasm, with rounds that take some
// milliseconds, and few for the
// interpreter; 0 where one round takes it long.
func kernels() []kernel {
	return []kernel{
		{"sha256", 1, 0},
		{"nbody", 40_000, 200},
		{"fannkuch", 8, 6},
		{"sieve", 1, 0},
		{"sort", 1, 0},
		{"json", 3, 0},
		{"interpreter", 200_000, 1000},
		{"tightloop", 5_000_000, 1000},
		{"matmul", 8, 0},
		{"fib", 26, 15},
		{"copies", 100_000, 1000},
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

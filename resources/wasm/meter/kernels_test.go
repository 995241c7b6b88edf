package meter_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/resources/wasm/kernel"
	"github.com/limboid/massive-man/resources/wasm/meter"
)

func TestKernelsGiveTheSame(t *testing.T) {
	t.Parallel()
	plain := kernel.Module()
	metered := instrument(t, plain)
	naive := instrument(t, plain, meter.Switches{Naive: true})
	e, slow := compiler(t), interpreter(t)
	for _, k := range kernel.List() {
		rounds := uint64(max(k.Short, 1))
		want := e.invoke(t, plain, noLimit, k.Name, rounds)
		require.Empty(t, want.trap)
		got := e.invoke(t, metered, noLimit, k.Name, rounds)
		same(t, want, got, "%s", k.Name)
		counted := e.invoke(t, naive, noLimit, k.Name, rounds)
		same(t, want, counted, "%s", k.Name)
		require.Equal(t, counted.used, got.used, k.Name)
		if k.Short > 0 {
			require.Equal(t, got, slow.invoke(t, metered, noLimit, k.Name, rounds), k.Name)
		}
		t.Logf("%s: %d units", k.Name, got.used)
	}
}

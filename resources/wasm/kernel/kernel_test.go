package kernel_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources/wasm/kernel"
	"github.com/limboid/massive-man/resources/wasm/meter"
)

func open(t *testing.T, module []byte) *kernel.Instance {
	t.Helper()
	i, err := kernel.Open(t.Context(), module)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, i.Close(t.Context())) })
	return i
}

// The compiled kernels, metered and not, compute what they compute in Go.
func TestKernelsComputeTheSame(t *testing.T) {
	t.Parallel()
	metered, err := meter.Instrument(kernel.Module(), meter.Options{})
	require.NoError(t, err)
	plain, counted := open(t, kernel.Module()), open(t, metered.Module)
	measured := 0
	for _, k := range kernel.List() {
		want, err := plain.Run(t.Context(), k.Name, k.Rounds)
		require.NoError(t, err, k.Name)
		before := counted.Fuel()
		got, err := counted.Run(t.Context(), k.Name, k.Rounds)
		require.NoError(t, err, k.Name)
		require.Equal(t, want, got, k.Name)
		require.Greater(t, counted.Fuel(), before+1000, k.Name)
		if k.Native != nil {
			measured++
			require.Equal(t, want, k.Native(k.Rounds), k.Name)
		}
	}
	require.Equal(t, 8, measured)
	require.Zero(t, plain.Fuel())
}

func TestKernelsThatAreNotThere(t *testing.T) {
	t.Parallel()
	_, err := open(t, kernel.Module()).Run(t.Context(), "none", 1)
	require.ErrorIs(t, err, mman.ErrNotFound)
	_, err = kernel.Open(t.Context(), []byte("none"))
	require.ErrorIs(t, err, mman.ErrModule)
}

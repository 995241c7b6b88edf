package wasm_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// onProcessors starts a process that has so many of the machine's processors, or all
// if there are fewer: it inherits those of the thread that starts it.
func onProcessors(tb testing.TB, n int, start func() error) {
	tb.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, some unix.CPUSet
	require.NoError(tb, unix.SchedGetaffinity(0, &all))
	for i := 0; some.Count() < min(n, all.Count()); i++ {
		if all.IsSet(i) {
			some.Set(i)
		}
	}
	require.NoError(tb, unix.SchedSetaffinity(0, &some))
	defer func() { require.NoError(tb, unix.SchedSetaffinity(0, &all)) }()
	require.NoError(tb, start())
}

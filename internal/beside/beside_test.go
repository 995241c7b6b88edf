package beside_test

import (
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/internal/beside"
)

func TestStart(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}), make(chan struct{})
	wait := beside.Start(func() int {
		close(begun)
		<-goOn
		return 7
	})
	<-begun // it runs while nobody waits
	close(goOn)
	require.Equal(t, 7, wait())
	require.Equal(t, 7, wait())
}

// TestWaitAtOnce: who waits before a processor was free does the work himself.
func TestWaitAtOnce(t *testing.T) { //nolint:paralleltest // it takes all processors but one from the process
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	sum, own := 0, 0
	for i := range 1000 {
		sum += beside.Start(func() int {
			if strings.Contains(string(debug.Stack()), "TestWaitAtOnce(") {
				own++
			}
			return i
		})()
	}
	require.Equal(t, 499_500, sum)
	require.Greater(t, own, 900)
}

func TestStartPanics(t *testing.T) {
	t.Parallel()
	wait := beside.Start(func() int { panic("broken") })
	require.PanicsWithValue(t, "broken", func() { wait() })
}

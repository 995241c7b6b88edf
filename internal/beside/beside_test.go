package beside_test

import (
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

// TestWaitAtOnce: who waits at once mostly does the work himself.
func TestWaitAtOnce(t *testing.T) {
	t.Parallel()
	sum := 0
	for i := range 1000 {
		sum += beside.Start(func() int { return i })()
	}
	require.Equal(t, 499_500, sum)
}

func TestStartPanics(t *testing.T) {
	t.Parallel()
	wait := beside.Start(func() int { panic("broken") })
	require.PanicsWithValue(t, "broken", func() { wait() })
}

package alarm_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/internal/alarm"
)

func TestAlarmIsNeverEarly(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{-time.Second, 0, time.Microsecond, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond} {
		begun, rang := time.Now(), make(chan time.Duration, 1)
		stop := alarm.After(d, func() { rang <- time.Since(begun) })
		require.GreaterOrEqual(t, <-rang, d)
		stop()
		stop()
	}
}

func TestStoppedAlarmStaysSilent(t *testing.T) {
	t.Parallel()
	var rang atomic.Bool
	alarm.After(50*time.Millisecond, func() { rang.Store(true) })()
	done := make(chan struct{})
	alarm.After(60*time.Millisecond, func() { close(done) })
	<-done
	require.False(t, rang.Load())
}

package alarm

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// instant is a time of the monotonic clock, in nanoseconds.
type instant int64

func instantIn(d time.Duration) instant {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // which every Linux has
	return instant(now.Nano() + int64(d))
}

// wait blocks a thread until the instant has come.
func (i instant) wait() {
	at := unix.NsecToTimespec(int64(i))
	for errors.Is(unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &at, nil), unix.EINTR) {
	}
}

package bench

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	mman "github.com/limboid/massive-man"
)

// processorTime is what this thread has used of a processor, which other programs
// on the machine disturb less than the time of day.
func processorTime() (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		return 0, fmt.Errorf("%w: read the thread's clock: %w", mman.ErrInternal, err)
	}
	return time.Duration(now.Nano()), nil
}

// processor returns the processor time that this process has used.
func processor() time.Duration {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &now) != nil {
		return time.Duration(time.Now().UnixNano()) // no Linux is without that clock
	}
	return time.Duration(now.Nano())
}

//go:build !linux

package bench

import "time"

// processorTime is the time of day: this system has no clock of a thread.
func processorTime() (time.Duration, error) { return time.Duration(time.Now().UnixNano()), nil }

// processor is the time of day: this system has no clock of a process.
func processor() time.Duration { return time.Duration(time.Now().UnixNano()) }

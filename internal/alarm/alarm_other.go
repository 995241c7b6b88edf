//go:build !linux

package alarm

import "time"

// instant is when a timer of the runtime fires.
type instant <-chan struct{}

func instantIn(d time.Duration) instant {
	come := make(chan struct{})
	time.AfterFunc(d, func() { close(come) })
	return come
}

// wait blocks until the instant has come.
func (i instant) wait() { <-i }

package mux

import (
	"io"
	"sync"
)

// Admit serves what next gives, each in a goroutine of work, until next fails. What
// comes while so many are served is closed.
func Admit[C io.Closer](work *sync.WaitGroup, most int, next func() (C, error), serve func(C)) {
	places := make(chan struct{}, most)
	for {
		conn, err := next()
		if err != nil {
			return // it is closed
		}
		select {
		case places <- struct{}{}:
		default:
			_ = conn.Close() // there are too many
			continue
		}
		work.Go(func() {
			defer func() { <-places }()
			serve(conn)
		})
	}
}

package container

import (
	"bytes"
	"context"
	"io"
	"sync"

	"github.com/limboid/massive-man/resources/container/mux"
)

// journal keeps the last of what was written, whole lines of it, for any number of
// readers who follow. It is safe for concurrent use.
type journal struct {
	most int

	mu      sync.Mutex
	buf     []byte
	at      uint64 // how much was forgotten before buf
	closed  bool
	more    chan struct{} // closed when there is more, or no more
	readers int
}

func newJournal(most int) *journal { return &journal{most: most, more: make(chan struct{})} }

// Write never fails.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return len(p), nil
	}
	j.buf = append(j.buf, p...)
	if over := len(j.buf) - j.most; over > 0 {
		if i := bytes.IndexByte(j.buf[over:], '\n'); i >= 0 {
			over += i + 1
		}
		j.buf, j.at = append([]byte(nil), j.buf[over:]...), j.at+uint64(over)
	}
	j.wake()
	return len(p), nil
}

func (j *journal) wake() {
	close(j.more)
	j.more = make(chan struct{})
}

// close says that nothing more will be written. Safe twice.
func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.closed {
		j.closed = true
		j.wake()
	}
}

// follow writes all that is kept and what comes, until the journal is closed or ctx
// ends.
func (j *journal) follow(ctx context.Context, w io.Writer) error {
	at := uint64(0)
	for {
		j.mu.Lock()
		at = max(at, j.at)
		rest := append([]byte(nil), j.buf[at-j.at:]...)
		closed, more := j.closed, j.more
		j.mu.Unlock()
		if len(rest) > 0 {
			if _, err := w.Write(rest); err != nil {
				return err
			}
			at += uint64(len(rest))
			continue
		}
		if closed {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// serve sends a stream what is kept and what comes, and its end. Until then it is one
// of those who follow.
func (j *journal) serve(ctx context.Context, stream mux.Stream) {
	j.count(1)
	defer j.count(-1)
	if j.follow(ctx, stream) != nil {
		_ = stream.Reset() // it is broken, or the run is over
		return
	}
	_ = stream.Close()
}

func (j *journal) count(n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.readers += n
}

// reading returns how many follow.
func (j *journal) reading() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.readers
}

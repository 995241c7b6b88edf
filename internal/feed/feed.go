package feed

import (
	"bytes"
	"io"
)

// Held is how many bytes wait for the end before the reader begins beside the
// writer.
const Held = 64 << 10

// Feed is a writer whose reader is a function. One goroutine uses it. Its zero value
// is not ready: see New.
type Feed struct {
	read func(io.Reader) error
	held []byte
	w    *io.PipeWriter // nil as long as everything is held
	done chan error     // the reader's answer, once there is a pipe
}

// New returns a Feed for read, which is called once and reads to the end, or returns
// an error. End must be called.
func New(read func(io.Reader) error) *Feed { return &Feed{read: read} }

// Write adds p. Once the reader has begun it fails with the reader's error, or with
// io.ErrClosedPipe when the reader returned early without one.
func (f *Feed) Write(p []byte) (int, error) {
	if f.w == nil {
		if len(f.held)+len(p) <= Held {
			f.held = append(f.held, p...)
			return len(p), nil
		}
		f.begin()
	}
	return f.w.Write(p)
}

// begin lets the reader read beside the writer.
func (f *Feed) begin() {
	r, w := io.Pipe()
	f.w, f.done = w, make(chan error, 1)
	held := f.held
	f.held = nil
	go func() {
		err := f.read(io.MultiReader(bytes.NewReader(held), r))
		_ = r.CloseWithError(err) // always nil; a reader that gave up fails the writes that follow
		f.done <- err
	}()
}

// End waits until the reader has returned, and returns its error. It is called once,
// after the last Write.
func (f *Feed) End() error {
	if f.w == nil {
		return f.read(bytes.NewReader(f.held))
	}
	_ = f.w.Close() // always nil
	return <-f.done
}

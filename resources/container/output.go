package container

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// output is what a program writes, on its way out, up to a limit.
type output struct {
	to    [3]io.Writer // standard output and error, and answers to records
	end   context.CancelCauseFunc
	after func(time.Duration) <-chan time.Time
	// token is held during a write; who has it when the output is closed is left
	// behind.
	token chan struct{}

	mu     sync.Mutex
	left   uint64
	out    uint64
	closed bool
}

func newOutput(limit uint64, streams resources.IO, end context.CancelCauseFunc, after func(time.Duration) <-chan time.Time) *output {
	o := &output{to: [3]io.Writer{streams.Stdout, streams.Stderr, streams.Aside}, end: end, after: after, left: limit, token: make(chan struct{}, 1)}
	for i, w := range o.to {
		if w == nil {
			o.to[i] = io.Discard
		}
	}
	return o
}

// passed returns how much was written.
func (o *output) passed() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.out
}

// room returns how much may still be written.
func (o *output) room() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.left
}

// leaveAfter is how long a write under way is waited for when the run is over.
const leaveAfter = 100 * time.Millisecond

// close lets nothing more out. A write that hangs is left behind.
func (o *output) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	select {
	case o.token <- struct{}{}:
		<-o.token
	case <-o.after(leaveAfter):
	}
}

// toAside is the place of the answers to records among an output's writers.
const toAside = 2

// Sizes of the engine's frames: a byte for the stream, three of nothing, four for
// the length.
const (
	frameHead = 8
	saidMost  = 1 << 10
)

// errSpoke is what an engine says in the place of a program's streams.
var errSpoke = errors.New("the engine says")

// follow passes on what the program writes until it ends.
func (o *output) follow(r io.Reader) error {
	head, b := make([]byte, frameHead), make([]byte, pieceBytes)
	for {
		n, err := io.ReadFull(r, head)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if n > 0 && head[0] > 2 { // no frame: the engine's own words
			rest, _ := io.ReadAll(io.LimitReader(r, saidMost)) // what there is
			return fmt.Errorf("%w: %.300q", errSpoke, string(head[:n])+string(rest))
		}
		if err != nil {
			return err
		}
		stream := 0
		if head[0] == 2 {
			stream = 1
		}
		for size := int64(binary.BigEndian.Uint32(head[4:])); size > 0; {
			n, err := r.Read(b[:min(size, int64(len(b)))])
			if werr := o.write(stream, b[:n]); werr != nil {
				o.end(werr)
				return nil
			}
			if size -= int64(n); err != nil {
				return err
			}
		}
	}
}

// copy passes on what a program with a terminal of its own writes until it ends.
func (o *output) copy(r io.Reader) error {
	b := make([]byte, pieceBytes)
	for {
		n, err := r.Read(b)
		if n > 0 {
			if werr := o.write(0, b[:n]); werr != nil {
				o.end(werr)
				return nil
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, syscall.EIO): // how a terminal ends
			return nil
		case err != nil:
			return err
		}
	}
}

// write passes b on, as far as the limit allows.
func (o *output) write(stream int, b []byte) error {
	o.token <- struct{}{}
	defer func() { <-o.token }()
	o.mu.Lock()
	closed, room := o.closed, min(uint64(len(b)), o.left)
	o.mu.Unlock()
	if closed {
		return fmt.Errorf("%w: the run is over", mman.ErrCanceled)
	}
	if room > 0 {
		n, err := o.to[stream].Write(b[:room])
		if err == nil && uint64(n) < room { //nolint:gosec // writers count upwards
			err = io.ErrShortWrite
		}
		if err != nil {
			return fmt.Errorf("pass the output on: %w", err)
		}
		o.mu.Lock()
		o.out, o.left = o.out+room, o.left-room
		o.mu.Unlock()
	}
	if room < uint64(len(b)) {
		return fmt.Errorf("%w: ask for a higher limit or print less", mman.ErrOutput)
	}
	return nil
}

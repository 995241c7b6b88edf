package environment

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	mman "github.com/limboid/massive-man"
)

// judge holds what an environment says against what it was asked. The user's side and
// the provider's have one each.
type judge struct {
	keep     bool // whole frames, in frame
	refusals bool // the provider may answer in the environment's place

	mu     sync.Mutex
	spec   *Spec
	due    FrameKind // the answer that is due, 0 for none
	n      uint32    // for so many environments
	stream frames
	kind   FrameKind // of the frame under way
	least  int       // of its body, without info
	body   []byte    // of the frame under way, when it is kept; a spec always is
	count  [countBytes]byte
	done   []answer

	answered atomic.Uint64
	steps    uint64 // of the frame that has just ended
}

// answer is a whole frame.
type answer struct {
	kind FrameKind
	n    uint32
	body []byte
}

// expect says what was asked, before it is. It fails when an answer is due still.
func (j *judge) expect(answer FrameKind, n uint32) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.spec == nil || j.due != 0 {
		return fmt.Errorf("%w: one request at a time, and this one comes before the answer to the last", mman.ErrInvalid)
	}
	j.due, j.n = answer, n
	return nil
}

// idle reports whether no answer is due, and the spec came.
func (j *judge) idle() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.spec != nil && j.due == 0 && len(j.stream.head) == 0
}

// known returns the environment's spec, nil before it came.
func (j *judge) known() *Spec {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.spec
}

// push takes what the environment says next and returns the whole frames, where they
// are kept, and how many steps they answer.
func (j *judge) push(p []byte) (whole []answer, steps uint64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	err = j.stream.push(p, j)
	whole, steps = j.done, j.steps
	j.done, j.steps = nil, 0
	return whole, steps, err
}

// begin takes the head of a frame; j is locked.
func (j *judge) begin(kind FrameKind, size int) error {
	j.kind, j.least, j.body = kind, 0, nil
	switch {
	case j.spec == nil && kind == FrameSpec:
		if size > SpecMaxBytes {
			return fmt.Errorf("%w: its spec has %d bytes, at most %d are allowed", mman.ErrEnvironment, size, SpecMaxBytes)
		}
		return nil
	case j.spec == nil:
		return fmt.Errorf("%w: it begins with a frame of kind %d, the first is its spec", mman.ErrEnvironment, kind)
	case j.due == 0:
		return fmt.Errorf("%w: it sends a frame of kind %d that nobody asked for", mman.ErrEnvironment, kind)
	case kind == FrameFailed && j.refusals:
		if size > FailedMaxBytes {
			return fmt.Errorf("%w: a refusal of %d bytes, at most %d are allowed", mman.ErrEnvironment, size, FailedMaxBytes)
		}
		return nil
	case kind != j.due:
		return fmt.Errorf("%w: it answers with a frame of kind %d where %d is due", mman.ErrEnvironment, kind, j.due)
	}
	j.least = j.spec.answerBytes(kind, j.n)
	if size < j.least || size > j.least+InfoMaxBytes {
		return fmt.Errorf("%w: it answers for %d with %d bytes where %d are due, and up to %d of info", mman.ErrEnvironment, j.n, size, j.least, InfoMaxBytes)
	}
	return nil
}

// part takes a piece of a frame's body; j is locked.
func (j *judge) part(at int, p []byte) error {
	if j.keep || j.kind == FrameSpec {
		j.body = append(j.body, p...)
	}
	if j.least == 0 {
		return nil
	}
	if at < countBytes {
		n := copy(j.count[at:], p)
		if got := binary.LittleEndian.Uint32(j.count[:]); at+n == countBytes && got != j.n {
			return fmt.Errorf("%w: it answers for %d environments where it was asked for %d", mman.ErrEnvironment, got, j.n)
		}
	}
	if j.kind != FrameMoved {
		return nil
	}
	// The flags are the last bytes before the info.
	low, high := max(j.least-2*int(j.n), at), min(j.least, at+len(p))
	for i := low; i < high; i++ {
		if p[i-at] > 1 {
			return fmt.Errorf("%w: terminated and truncated are 0 or 1, it says %d", mman.ErrEnvironment, p[i-at])
		}
	}
	return nil
}

// end takes the end of a frame; j is locked.
func (j *judge) end() error {
	if j.kind == FrameSpec {
		spec, err := ParseSpec(j.body)
		if err != nil {
			return err
		}
		j.spec = &spec
	} else {
		if j.kind == FrameMoved {
			j.steps += uint64(j.n)
		}
		j.due = 0
	}
	if j.keep {
		j.done = append(j.done, answer{j.kind, j.n, j.body})
	}
	j.body = nil
	return nil
}

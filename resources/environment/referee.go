package environment

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// maxRefusals is how many requests of one run are refused; the next ends it. What is
// said in the environment's place is not bounded by the run's output limit.
const maxRefusals = 64

// Referee stands between an environment and its user. It is the environment's input
// and its output; one goroutine at a time uses it, but Steps.
type Referee struct {
	in    resources.Input
	judge judge

	envs     uint32 // of the run, 0 before the first reset
	rest     []byte // of the request that the environment is reading
	refusals int
}

// NewReferee returns the referee of a run whose user speaks on in.
func NewReferee(in resources.Input) *Referee { return &Referee{in: in} }

// RefusalError is a request that the environment does not see. Its user is told; the run
// goes on.
type RefusalError struct{ Frame []byte }

// Error is the sentence.
func (r *RefusalError) Error() string { return string(r.Frame[headBytes:]) }

// Steps returns how many steps were answered. It is safe for concurrent use.
func (r *Referee) Steps() uint64 { return r.judge.answered.Load() }

// Ready reports whether Read returns at once: within a request it does.
func (r *Referee) Ready() bool { return len(r.rest) > 0 }

// Read gives the environment its input: never more than one request, and that only
// when it has answered the one before. It fails with a *RefusalError, which the user must
// be told before Read is called again, with mman.ErrEnvironment when one of the two
// breaks the protocol, and else as its input does.
func (r *Referee) Read(ctx context.Context, p []byte) (int, error) {
	if len(r.rest) == 0 {
		if !r.judge.idle() {
			return 0, fmt.Errorf("%w: it waits for a request before it has said what it is, or answered the last", mman.ErrEnvironment)
		}
		if err := r.next(ctx); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// next takes the user's next request.
func (r *Referee) next(ctx context.Context) error {
	head := make([]byte, headBytes)
	if err := r.full(ctx, head, true); err != nil {
		return err
	}
	kind, size := FrameKind(head[0]), binary.LittleEndian.Uint32(head[1:])
	if size > MaxRequestBytes || kind < FrameReset || kind > FrameClose {
		return fmt.Errorf("%w: the consumer sends a frame of kind %d with %d bytes; there are kinds %d to %d with at most %d", mman.ErrEnvironment, kind, size, FrameReset, FrameClose, MaxRequestBytes)
	}
	body := make([]byte, size)
	if err := r.full(ctx, body, false); err != nil {
		return err
	}
	if err := r.check(kind, body); err != nil {
		if r.refusals++; r.refusals > maxRefusals {
			return fmt.Errorf("%w: the consumer sent more than %d requests that were refused, the last: %w", mman.ErrEnvironment, maxRefusals, err)
		}
		text := strings.ToValidUTF8(err.Error()[:min(len(err.Error()), FailedMaxBytes)], "")
		return &RefusalError{AppendFrame(nil, FrameFailed, []byte(text))}
	}
	r.rest = slices.Concat(head, body)
	return nil
}

// full fills b; at the beginning of a frame the input may end.
func (r *Referee) full(ctx context.Context, b []byte, first bool) error {
	for got := 0; got < len(b); {
		n, err := r.in.Read(ctx, b[got:])
		got += n
		switch {
		case err == nil || got == len(b):
		case errors.Is(err, io.EOF) && got == 0 && first:
			return io.EOF
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: the consumer's last frame ends in its middle", mman.ErrEnvironment)
		default:
			return err
		}
	}
	return nil
}

// check refuses what the environment need not see, and says what is due for the rest.
func (r *Referee) check(kind FrameKind, body []byte) error {
	if kind == FrameClose {
		if len(body) > 0 {
			return fmt.Errorf("%w: close has no body, this one has %d bytes", mman.ErrInvalid, len(body))
		}
		return nil
	}
	spec := r.judge.known()
	if len(body) < countBytes {
		return fmt.Errorf("%w: a request of %d bytes does not say for how many environments it is", mman.ErrInvalid, len(body))
	}
	n := binary.LittleEndian.Uint32(body)
	if most := spec.MaxNumEnvs(); n == 0 || int64(n) > int64(most) {
		return fmt.Errorf("%w: a batch of %d: 1 to %d of %s fit into one", mman.ErrInvalid, n, most, spec.ID)
	}
	if want := spec.requestBytes(kind, n); len(body) != want {
		return fmt.Errorf("%w: a request for %d of %s with %d bytes, %d are needed", mman.ErrInvalid, n, spec.ID, len(body), want)
	}
	if kind == FrameReset {
		if err := r.reset(body[countBytes:], n); err != nil {
			return err
		}
		return r.judge.expect(FrameBegun, n)
	}
	if n != r.envs {
		return fmt.Errorf("%w: %d actions for %d environments; a reset says how many there are", mman.ErrInvalid, n, r.envs)
	}
	each := spec.ActionSpace.Bytes()
	for i := range int(n) {
		if err := spec.ActionSpace.validBytes(body[countBytes+i*each:]); err != nil {
			return fmt.Errorf("action %d: %w", i, err)
		}
	}
	return r.judge.expect(FrameMoved, n)
}

// reset checks which environments are reset: a batch of another size begins anew as a
// whole.
func (r *Referee) reset(seeds []byte, n uint32) error {
	for i := range int(n) {
		switch how := seeds[i*seedBytes]; {
		case how > 2:
			return fmt.Errorf("%w: reset %d says %d; 0 leaves it, 1 resets it, 2 does so with the seed", mman.ErrInvalid, i, how)
		case how == 0 && n != r.envs:
			return fmt.Errorf("%w: reset leaves environment %d as it is, and the run has %d, not %d; reset all of them", mman.ErrInvalid, i, r.envs, n)
		}
	}
	r.envs = n
	return nil
}

// Judge takes what the environment writes, before anybody sees it, and returns how many
// steps that answers. It fails with mman.ErrEnvironment.
func (r *Referee) Judge(p []byte) (steps uint64, err error) {
	_, steps, err = r.judge.push(p)
	return steps, err
}

// Count adds steps whose answer has left.
func (r *Referee) Count(steps uint64) { r.judge.answered.Add(steps) }

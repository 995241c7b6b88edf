package environment

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	mman "github.com/limboid/massive-man"
)

// FrameKind says what a frame is.
type FrameKind byte

// The kinds of frames. A frame is its kind, the length of its body as a 32-bit
// little-endian number, and the body.
const (
	FrameSpec   FrameKind = 1 // from the environment, once, first: a Spec in JSON
	FrameReset  FrameKind = 2 // count, then for each a byte (0 leave, 1 reset, 2 reset with the seed) and a 64-bit seed
	FrameStep   FrameKind = 3 // count, then so many actions
	FrameClose  FrameKind = 4 // no body
	FrameBegun  FrameKind = 5 // answers FrameReset: count, observations, info in JSON
	FrameMoved  FrameKind = 6 // answers FrameStep: count, observations, rewards as float64, terminated and truncated as bytes, info in JSON
	FrameFailed FrameKind = 7 // from the provider: why a Reset or a Step was refused
)

const (
	// MaxBatch is how many environments a run may have at a time.
	MaxBatch = 4096
	// MaxRequestBytes bounds the body of a frame to the environment, MaxAnswerBytes
	// that of one from it.
	MaxRequestBytes = 1 << 20
	MaxAnswerBytes  = 4 << 20 //nolint:revive // the comment above is of both
	// SpecMaxBytes bounds a Spec, InfoMaxBytes the info of an answer, FailedMaxBytes
	// the sentence of a refusal.
	SpecMaxBytes   = 64 << 10
	InfoMaxBytes   = 64 << 10
	FailedMaxBytes = 512

	headBytes  = 5
	countBytes = 4
	seedBytes  = 9
	// flagBytes is what a step's answer has beside each observation: a reward and two
	// flags.
	flagBytes = 10
)

// Spec is what an environment says of itself before it is asked for anything, in
// Gymnasium's words.
type Spec struct {
	// ID names it, for example CartPole-v1.
	ID string `json:"id"`
	// ObservationSpace and ActionSpace are those of one environment of a batch.
	ObservationSpace Space `json:"observation_space"`
	ActionSpace      Space `json:"action_space"`
	// MaxEpisodeSteps is after how many steps an episode is truncated, 0 for never.
	MaxEpisodeSteps uint64 `json:"max_episode_steps,omitempty"`
	// AutoresetMode is Gymnasium's name for what a step does after an episode's end:
	// NextStep (the action is dropped, the step resets) or Disabled.
	AutoresetMode string `json:"autoreset_mode"`
}

// The modes of Spec.AutoresetMode.
const (
	NextStep = "NextStep"
	Disabled = "Disabled"
)

const maxID = 64

// ParseSpec reads and validates a Spec. Unknown keys are refused.
func ParseSpec(b []byte) (s Spec, err error) {
	if len(b) > SpecMaxBytes {
		return s, fmt.Errorf("%w: its spec has %d bytes, at most %d are allowed", mman.ErrEnvironment, len(b), SpecMaxBytes)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return s, fmt.Errorf("%w: its spec: %w", mman.ErrEnvironment, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return s, fmt.Errorf("%w: its spec goes on after its end", mman.ErrEnvironment)
	}
	return s, s.validate()
}

func (s Spec) validate() error {
	if s.ID == "" || len(s.ID) > maxID {
		return fmt.Errorf("%w: its spec: id %.80q: 1 to %d bytes", mman.ErrEnvironment, s.ID, maxID)
	}
	if s.AutoresetMode != NextStep && s.AutoresetMode != Disabled {
		return fmt.Errorf("%w: its spec: autoreset_mode %.20q: use %s or %s", mman.ErrEnvironment, s.AutoresetMode, NextStep, Disabled)
	}
	for _, one := range []struct {
		name  string
		space Space
	}{{"observation_space", s.ObservationSpace}, {"action_space", s.ActionSpace}} {
		if err := one.space.Validate(); err != nil {
			return fmt.Errorf("%w: its spec: %s: %w", mman.ErrEnvironment, one.name, err)
		}
	}
	if s.MaxNumEnvs() < 1 {
		return fmt.Errorf("%w: its spec: an observation of %d bytes and an action of %d do not fit into frames of %d and %d", mman.ErrEnvironment,
			s.ObservationSpace.Bytes(), s.ActionSpace.Bytes(), MaxAnswerBytes, MaxRequestBytes)
	}
	return nil
}

// answerBytes is the least that an answer for n environments has.
func (s Spec) answerBytes(kind FrameKind, n uint32) int {
	each := s.ObservationSpace.Bytes()
	if kind == FrameMoved {
		each += flagBytes
	}
	return countBytes + int(n)*each
}

// requestBytes is what a request for n environments has.
func (s Spec) requestBytes(kind FrameKind, n uint32) int {
	if kind == FrameReset {
		return countBytes + int(n)*seedBytes
	}
	return countBytes + int(n)*s.ActionSpace.Bytes()
}

// MaxNumEnvs is how many environments of this kind fit into one batch.
func (s Spec) MaxNumEnvs() int {
	n := min(MaxBatch, (MaxRequestBytes-countBytes)/max(seedBytes, s.ActionSpace.Bytes()))
	return min(n, (MaxAnswerBytes-InfoMaxBytes-countBytes)/(s.ObservationSpace.Bytes()+flagBytes))
}

// AppendFrame appends a frame to b. Its body has at most MaxAnswerBytes.
func AppendFrame(b []byte, kind FrameKind, body []byte) []byte {
	b = append(b, byte(kind))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body))) //nolint:gosec // bounded
	return append(b, body...)
}

// frames cuts a stream into frames, without keeping their bodies. The zero value is
// at its beginning.
type frames struct {
	head []byte
	at   int // of the body
	size int
}

// taker takes the frames of a stream: the beginning of each, its body in pieces that
// are valid only during the call, and its end.
type taker interface {
	begin(kind FrameKind, size int) error
	part(at int, p []byte) error
	end() error
}

func (f *frames) push(p []byte, to taker) error {
	for len(p) > 0 {
		if len(f.head) < headBytes {
			n := min(headBytes-len(f.head), len(p))
			f.head, p = append(f.head, p[:n]...), p[n:]
			if len(f.head) < headBytes {
				return nil
			}
			f.at, f.size = 0, int(binary.LittleEndian.Uint32(f.head[1:]))
			if err := to.begin(FrameKind(f.head[0]), f.size); err != nil {
				return err
			}
		}
		if n := min(f.size-f.at, len(p)); n > 0 {
			if err := to.part(f.at, p[:n]); err != nil {
				return err
			}
			f.at, p = f.at+n, p[n:]
		}
		if f.at == f.size {
			f.head = f.head[:0]
			if err := to.end(); err != nil {
				return err
			}
		}
	}
	return nil
}

package cartpole

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"math"
)

// spec says what the environment is, in Gymnasium's words.
const spec = `{"id":"CartPole-v1","observation_space":{"type":"Box","dtype":"float32","shape":[4],` +
	`"low":[-4.8,null,-0.41887903,null],"high":[4.8,null,0.41887903,null]},` +
	`"action_space":{"type":"Discrete","dtype":"int64","shape":[],"n":2},"max_episode_steps":500,"autoreset_mode":"NextStep"}`

// The kinds of frames.
const (
	kindSpec  = 1
	kindReset = 2
	kindStep  = 3
	kindClose = 4
	kindBegun = 5
	kindMoved = 6
)

// mostBytes bounds a request, as the provider does.
const mostBytes = 1 << 20

// ErrRequest says that a request is none.
var ErrRequest = errors.New("not a request")

// batch are the carts of a run.
type batch struct {
	poles []*Pole
	fresh func() (uint64, error) // seeds where none is given
	out   []byte
}

// Serve answers requests until the last. Carts without a seed get one from fresh.
func Serve(in io.Reader, out io.Writer, fresh func() (uint64, error)) error {
	b := &batch{fresh: fresh}
	if _, err := out.Write(b.frame(kindSpec, []byte(spec))); err != nil {
		return err
	}
	r := bufio.NewReaderSize(in, 64<<10)
	var head [5]byte
	var body []byte
	for {
		if _, err := io.ReadFull(r, head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		size := binary.LittleEndian.Uint32(head[1:])
		if size > mostBytes {
			return ErrRequest
		}
		if uint32(cap(body)) < size { //nolint:gosec // bounded
			body = make([]byte, size)
		}
		if _, err := io.ReadFull(r, body[:size]); err != nil {
			return err
		}
		if head[0] == kindClose {
			return nil
		}
		answer, err := b.answer(head[0], body[:size])
		if err != nil {
			return err
		}
		if _, err := out.Write(answer); err != nil {
			return err
		}
	}
}

func (b *batch) frame(kind byte, body []byte) []byte {
	b.out = binary.LittleEndian.AppendUint32(append(b.out[:0], kind), uint32(len(body))) //nolint:gosec // small
	return append(b.out, body...)
}

func (b *batch) answer(kind byte, body []byte) ([]byte, error) {
	if len(body) < 4 {
		return nil, ErrRequest
	}
	n, rest := int(binary.LittleEndian.Uint32(body)), body[4:]
	switch {
	case kind == kindReset && len(rest) == 9*n:
		return b.reset(n, rest)
	case kind == kindStep && len(rest) == 8*n && n == len(b.poles):
		return b.step(rest), nil
	}
	return nil, ErrRequest
}

func (b *batch) reset(n int, how []byte) ([]byte, error) {
	if n != len(b.poles) {
		b.poles = make([]*Pole, n)
	}
	for i := range n {
		seed := binary.LittleEndian.Uint64(how[9*i+1:])
		pole := b.poles[i]
		switch {
		case how[9*i] == 2:
			pole = NewPole(seed)
		case pole == nil:
			own, err := b.fresh()
			if err != nil {
				return nil, err
			}
			pole = NewPole(own)
		}
		b.poles[i] = pole
		if how[9*i] > 0 {
			pole.Reset()
		}
	}
	b.begin(kindBegun, 4+16*n)
	b.observations()
	return b.out, nil
}

func (b *batch) step(actions []byte) []byte {
	n := len(b.poles)
	b.begin(kindMoved, 4+26*n)
	rewards, flags := make([]float64, n), make([]byte, 2*n)
	for i, p := range b.poles {
		reward, terminated, truncated := p.Step(int64(binary.LittleEndian.Uint64(actions[8*i:]))) //nolint:gosec // its bits
		rewards[i] = reward
		if terminated {
			flags[i] = 1
		}
		if truncated {
			flags[n+i] = 1
		}
	}
	b.observations()
	for _, reward := range rewards {
		b.out = binary.LittleEndian.AppendUint64(b.out, math.Float64bits(reward))
	}
	b.out = append(b.out, flags...)
	return b.out
}

func (b *batch) begin(kind byte, size int) {
	b.out = binary.LittleEndian.AppendUint32(append(b.out[:0], kind), uint32(size)) //nolint:gosec // small
	b.out = binary.LittleEndian.AppendUint32(b.out, uint32(len(b.poles)))           //nolint:gosec // small
}

func (b *batch) observations() {
	for _, p := range b.poles {
		for _, v := range p.Observation() {
			b.out = binary.LittleEndian.AppendUint32(b.out, math.Float32bits(v))
		}
	}
}

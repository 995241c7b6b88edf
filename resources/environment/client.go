package environment

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"sync"

	mman "github.com/limboid/massive-man"
)

// Client is an environment's user. What comes of the environment is written to it; one
// goroutine resets and steps. Write, Steps and End are safe for concurrent use.
type Client struct {
	out     io.Writer
	judge   judge
	envs    int
	waiting bool // the last request has no answer yet

	begun   chan struct{} // closed when the spec is here
	answers chan answer
	over    chan struct{} // closed by End
	end     sync.Once
	err     error // of End
}

// NewClient returns a client whose requests go to out.
func NewClient(out io.Writer) *Client {
	return &Client{
		out: out, judge: judge{keep: true, refusals: true},
		begun: make(chan struct{}), answers: make(chan answer, 1), over: make(chan struct{}),
	}
}

// Write takes what the environment says. It fails with mman.ErrEnvironment for what
// does not answer what was asked.
func (c *Client) Write(p []byte) (int, error) {
	whole, steps, err := c.judge.push(p)
	c.judge.answered.Add(steps)
	for _, a := range whole {
		if a.kind == FrameSpec {
			close(c.begun)
			continue
		}
		c.answers <- a // there is room: one request at a time is under way
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Steps returns how many steps were answered.
func (c *Client) Steps() uint64 { return c.judge.answered.Load() }

// End says that nothing more comes, and why. Safe twice.
func (c *Client) End(err error) {
	c.end.Do(func() {
		c.err = err
		close(c.over)
	})
}

// ended is what there is to say of a run that is over.
func (c *Client) ended() error {
	if c.err != nil {
		return c.err
	}
	return fmt.Errorf("%w: the environment has ended", mman.ErrEnvironment)
}

// Spec waits for what the environment is.
func (c *Client) Spec(ctx context.Context) (Spec, error) {
	select {
	case <-c.begun:
		return *c.judge.known(), nil
	default:
	}
	select {
	case <-c.begun:
		return *c.judge.known(), nil
	case <-c.over:
		return Spec{}, c.ended()
	case <-ctx.Done():
		return Spec{}, fmt.Errorf("wait for the environment: %w: %w", mman.ErrCanceled, context.Cause(ctx))
	}
}

// Reset says which environments begin an episode.
type Reset struct {
	// NumEnvs is how many environments the run has from now on, 1 to
	// Spec.MaxNumEnvs. 0 leaves their number as it is, or makes it 1.
	NumEnvs int
	// Seeds are one for all, of which the i-th environment gets Seeds[0]+i, or one
	// for each. Without any an environment goes on with its own randomness, which at
	// first comes from the seed of the run.
	Seeds []uint64
	// Mask says which are reset; without one all are.
	Mask []bool
}

// Begun is the answer to a Reset.
type Begun struct {
	// Observation has those of all environments, in row order.
	Observation []float64
	Info        json.RawMessage
}

// Moved is the answer to a step of all environments; its lists have one entry for
// each.
type Moved struct {
	Observation []float64 // in row order
	Reward      []float64
	Terminated  []bool
	Truncated   []bool
	Info        json.RawMessage
}

// NumEnvs returns how many environments the run has, 0 before the first Reset.
func (c *Client) NumEnvs() int { return c.envs }

// Reset begins episodes. It fails with mman.ErrInvalid for what cannot be asked, with
// mman.ErrEnvironment for an answer that is none, and as the run ended.
func (c *Client) Reset(ctx context.Context, r Reset) (Begun, error) {
	spec, err := c.Spec(ctx)
	if err != nil {
		return Begun{}, err
	}
	n := r.NumEnvs
	if n == 0 {
		n = max(1, c.envs)
	}
	if most := spec.MaxNumEnvs(); n < 0 || n > most {
		return Begun{}, fmt.Errorf("%w: a batch of %d: 1 to %d of %s fit into one", mman.ErrInvalid, n, most, spec.ID)
	}
	if l := len(r.Seeds); l > 1 && l != n || r.Mask != nil && (len(r.Mask) != n || c.envs != n) {
		return Begun{}, fmt.Errorf("%w: reset of %d environments with %d seeds and a mask of %d; give one seed or one for each, and a mask only for those that are there", mman.ErrInvalid, n, l, len(r.Mask))
	}
	body := binary.LittleEndian.AppendUint32(nil, uint32(n)) //nolint:gosec // bounded
	for i := range n {
		how, seed := byte(1), uint64(0)
		switch len(r.Seeds) {
		case 0:
		case 1:
			how, seed = 2, r.Seeds[0]+uint64(i)
		default:
			how, seed = 2, r.Seeds[i]
		}
		if r.Mask != nil && !r.Mask[i] {
			how, seed = 0, 0
		}
		body = binary.LittleEndian.AppendUint64(append(body, how), seed)
	}
	got, err := c.ask(ctx, FrameReset, FrameBegun, n, body)
	if err != nil {
		return Begun{}, err
	}
	c.envs = n
	size := n * spec.ObservationSpace.Bytes()
	info, err := parseInfo(got[size:])
	return Begun{spec.ObservationSpace.Decode(got[:size]), info}, err
}

// Step gives each environment its action, the numbers of all in row order. It fails
// as Reset does.
func (c *Client) Step(ctx context.Context, actions []float64) (Moved, error) {
	spec, err := c.Spec(ctx)
	if err != nil {
		return Moved{}, err
	}
	n := c.envs
	if n == 0 {
		return Moved{}, fmt.Errorf("%w: a step before the first reset, which says how many environments there are", mman.ErrInvalid)
	}
	packed, err := spec.ActionSpace.Encode(actions, n)
	if err != nil {
		return Moved{}, fmt.Errorf("action: %w", err)
	}
	body := append(binary.LittleEndian.AppendUint32(nil, uint32(n)), packed...) //nolint:gosec // bounded
	got, err := c.ask(ctx, FrameStep, FrameMoved, n, body)
	if err != nil {
		return Moved{}, err
	}
	size := n * spec.ObservationSpace.Bytes()
	m := Moved{Observation: spec.ObservationSpace.Decode(got[:size])}
	got = got[size:]
	for i := range n {
		m.Reward = append(m.Reward, math.Float64frombits(binary.LittleEndian.Uint64(got[8*i:])))
		m.Terminated = append(m.Terminated, got[8*n+i] == 1)
		m.Truncated = append(m.Truncated, got[9*n+i] == 1)
	}
	m.Info, err = parseInfo(got[flagBytes*n:])
	return m, err
}

// Close tells the environment that nothing more is asked. It does not wait.
func (c *Client) Close() error {
	_, err := c.out.Write(AppendFrame(nil, FrameClose, nil))
	return err
}

// ask sends a request and returns its answer without the count.
func (c *Client) ask(ctx context.Context, kind, due FrameKind, n int, body []byte) ([]byte, error) {
	if c.waiting {
		return nil, fmt.Errorf("%w: the answer to the last request was not waited for", mman.ErrInvalid)
	}
	if err := c.judge.expect(due, uint32(n)); err != nil { //nolint:gosec // bounded
		return nil, err
	}
	c.waiting = true
	go func() { // an environment may never read it
		_, _ = c.out.Write(AppendFrame(nil, kind, body)) // then the run is over, or over soon
	}()
	select {
	case a := <-c.answers:
		return c.answer(a)
	case <-c.over:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the environment's answer: %w: %w", mman.ErrCanceled, context.Cause(ctx))
	}
	select {
	case a := <-c.answers: // it came before the end
		return c.answer(a)
	default:
		return nil, c.ended()
	}
}

func (c *Client) answer(a answer) ([]byte, error) {
	c.waiting = false
	if a.kind == FrameFailed {
		return nil, fmt.Errorf("refused by the provider: %w: %q", mman.ErrInvalid, a.body)
	}
	return a.body[countBytes:], nil
}

// parseInfo reads Gymnasium's info, a dictionary.
func parseInfo(b []byte) (json.RawMessage, error) {
	if len(b) == 0 {
		return json.RawMessage("{}"), nil
	}
	var dictionary map[string]json.RawMessage
	if err := json.Unmarshal(b, &dictionary); err != nil || dictionary == nil {
		return nil, fmt.Errorf("%w: its info is no object of JSON: %.80q", mman.ErrEnvironment, b)
	}
	return json.RawMessage(b), nil
}

package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/resources/environment"
	"github.com/limboid/massive-man/sdk"
)

// envLineMax bounds a line that is read.
const envLineMax = 4 << 20

func (a *app) requestEnv() *cobra.Command {
	std := sdk.DefaultWanted()
	w := work{max: money(std.Cap), limits: std.Limits, wall: replWall}
	w.limits.Fuel = replFuel
	idle := replIdle
	cmd := &cobra.Command{
		Use: "env ENVIRONMENT [flags] [-- ARG…]", Short: "Reset and step an environment at a provider, and pay by the step",
		Long: `Reset and step an environment at a provider, and pay by the step.

ENVIRONMENT is the CID of a resource of kind environment, or a file here: a WASM
module that speaks as docs/environments.md says. Names and shapes are Gymnasium's.

One line of JSON on standard input is one request, one line on standard output its
answer; the first line says what the environment is.

  {"reset": {"num_envs": 2, "seed": 42}}    also "seed": [1, 2] and "mask": [true, false]
  {"step": [0, 1]}                          an action for each, in nested lists or not
  {"close": true}                           or the end of the input

A request that cannot be is answered with {"error": …}, and nothing is stepped for it.
Each step of each environment of a batch is one step of the bill. It is paid a window
ahead, 2 % of --max; what was not used comes back at the end. The same requests with
the same --seed have the same answers everywhere: mman replay runs them again.

The last line says what it came to, as the answer of request run -o json does.`,
		Example: `  mman request env cartpole.wasm < requests.jsonl
  mman request env baf… --max 0.5MAN
  python3 examples/cartpole/balance.py -- mman request env baf…`,
		Args: func(cmd *cobra.Command, args []string) error {
			own := args
			if n := cmd.ArgsLenAtDash(); n >= 0 {
				own, w.args = args[:n], append(w.args, args[n:]...)
			}
			return console.Args(1, 1, "ENVIRONMENT")(cmd, own)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if idle <= 0 || idle > replIdles {
				return console.Wrong("--idle %s: use up to %s", idle, replIdles)
			}
			return a.env(cmd.Context(), args[0], w, idle)
		},
	}
	w.flags(cmd.Flags())
	cmd.Flags().DurationVar(&idle, "idle", idle, "how long the environment waits for a request")
	return cmd
}

// env does the whole of request env.
func (a *app) env(ctx context.Context, word string, w work, idle time.Duration) (err error) {
	begun := a.now()
	wanted, err := w.wanted(word)
	if err != nil {
		return err
	}
	wanted.Environment, wanted.Algorithm = wanted.Algorithm, sdk.Content{}
	c, err := a.signer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	params, lease, err := a.engage(ctx, c, wanted)
	if err != nil {
		return err
	}
	s, err := c.Open(ctx, lease)
	if err != nil {
		return err
	}
	bye := context.WithoutCancel(ctx)
	env, spec, err := s.Environment(ctx, sdk.Work{
		Args: w.args, Idle: idle, Seed: w.seed.hash, Limits: w.limits,
		Held: func(err error) { a.note("not paid for the moment: %s", err) },
		Lost: func(err error) {
			if err != nil {
				a.note("the connection broke, trying again: %s", err)
			}
		},
	})
	if err != nil {
		if lease.Match > 0 && hopeless(err) {
			return a.giveBack(bye, s, lease, err)
		}
		return errors.Join(err, s.Close(bye))
	}
	asked := a.serveEnv(ctx, env, spec)
	closing, stop := context.WithTimeout(bye, farewell)
	defer stop()
	outcome, ended := env.Close(closing)
	if outcome.Receipt.IsZero() {
		return errors.Join(asked, ended, s.Close(closing))
	}
	answer, err := newAnswer(lease, outcome, mman.Hash{}, params)
	if err != nil {
		return err
	}
	if w.settle {
		answer.Settled, err = s.Settle(closing)
	} else {
		err = s.Close(closing)
	}
	answer.MS.Total = a.now().Sub(begun).Milliseconds()
	if failed := errors.Join(asked, ended); failed != nil {
		answer.Error = console.NewProblem(failed)
	}
	a.note("%d steps, paid %s, receipt %s", outcome.Usage.Steps, answer.Paid, answer.Receipt)
	return errors.Join(asked, ended, err, a.sayLine(map[string]any{"closed": answer}))
}

// envRequest is a line that was read: one of the three.
type envRequest struct {
	Reset *envReset       `json:"reset"`
	Step  json.RawMessage `json:"step"`
	Close bool            `json:"close"`
}

type envReset struct {
	NumEnvs int    `json:"num_envs"`
	Seed    seeds  `json:"seed"`
	Mask    []bool `json:"mask"`
}

// seeds are one number or a list.
type seeds []uint64

// UnmarshalJSON reads them.
func (s *seeds) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	if b[0] != '[' {
		b = append(append([]byte("["), b...), ']')
	}
	if err := json.Unmarshal(b, (*[]uint64)(s)); err != nil {
		return fmt.Errorf("%w: seed: a whole number from 0 or a list of them: %w", mman.ErrInvalid, err)
	}
	return nil
}

// parseEnv reads a line.
func parseEnv(line []byte) (r envRequest, err error) {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return r, fmt.Errorf("%w: a request is a line of JSON with reset, step or close: %w", mman.ErrInvalid, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return r, fmt.Errorf("%w: one request a line, this one goes on", mman.ErrInvalid)
	}
	asked := 0
	for _, is := range []bool{r.Reset != nil, r.Step != nil, r.Close} {
		if is {
			asked++
		}
	}
	if asked != 1 {
		return r, fmt.Errorf("%w: a request is one of reset, step and close, this one has %d of them", mman.ErrInvalid, asked)
	}
	return r, nil
}

// flat appends the numbers of nested lists.
func flat(out []float64, v any) ([]float64, error) {
	switch v := v.(type) {
	case float64:
		return append(out, v), nil
	case bool:
		if v {
			return append(out, 1), nil
		}
		return append(out, 0), nil
	case []any:
		var err error
		for _, one := range v {
			if out, err = flat(out, one); err != nil {
				return nil, err
			}
		}
		return out, nil
	default:
		return nil, fmt.Errorf("%w: step: numbers in lists, not %v", mman.ErrInvalid, v)
	}
}

// serveEnv answers the lines of standard input until close or their end.
func (a *app) serveEnv(ctx context.Context, env *sdk.Environment, spec environment.Spec) error {
	if err := a.sayLine(map[string]any{"spec": spec}); err != nil {
		return err
	}
	lines := bufio.NewScanner(a.streams.In)
	lines.Buffer(nil, envLineMax)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		r, err := parseEnv(lines.Bytes())
		if err == nil && r.Close {
			return nil
		}
		var answer any
		if err == nil {
			answer, err = askEnv(ctx, env, spec, r)
		}
		if errors.Is(err, mman.ErrInvalid) || errors.Is(err, mman.ErrPrice) {
			answer, err = map[string]string{"error": console.Clean(err.Error())}, nil
		}
		if err == nil {
			err = a.sayLine(answer)
		}
		if err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("standard input: %w: %w", mman.ErrInvalid, err)
	}
	return nil
}

// sayLine writes a line of JSON.
func (a *app) sayLine(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	_, err = a.streams.Out.Write(append(b, '\n'))
	return err
}

func askEnv(ctx context.Context, env *sdk.Environment, spec environment.Spec, r envRequest) (any, error) {
	if r.Reset != nil {
		got, err := env.Reset(ctx, environment.Reset{NumEnvs: r.Reset.NumEnvs, Seeds: r.Reset.Seed, Mask: r.Reset.Mask})
		if err != nil {
			return nil, err
		}
		return map[string]any{"observation": shaped(got.Observation, spec.ObservationSpace.Shape), "info": got.Info}, nil
	}
	var actions any
	if err := json.Unmarshal(r.Step, &actions); err != nil {
		return nil, fmt.Errorf("%w: step: %w", mman.ErrInvalid, err)
	}
	values, err := flat(nil, actions)
	if err != nil {
		return nil, err
	}
	got, err := env.Step(ctx, values)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"observation": shaped(got.Observation, spec.ObservationSpace.Shape), "reward": shaped(got.Reward, nil),
		"terminated": got.Terminated, "truncated": got.Truncated, "info": got.Info,
	}, nil
}

// shaped nests a batch of numbers in lists of a shape. JSON has no infinite numbers
// and no NaN: those are null.
func shaped(values []float64, shape []uint64) []any {
	out := make([]any, 0, len(values))
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			out = append(out, nil)
		} else {
			out = append(out, v)
		}
	}
	for _, size := range slices.Backward(shape) {
		n := int(size) //nolint:gosec // the space is valid
		nested := make([]any, 0, len(out)/n)
		for ; len(out) >= n; out = out[n:] {
			nested = append(nested, out[:n:n])
		}
		out = nested
	}
	return out
}

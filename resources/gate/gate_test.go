package gate_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/gate"
	"github.com/limboid/massive-man/resources/resourcestest"
)

// scene is a fake executor with an algorithm and two gates.
type scene struct {
	content          resourcestest.Content
	algorithm, upper mman.CID
	bang             mman.CID
}

func newScene() *scene {
	s := &scene{}
	s.algorithm, s.upper, s.bang = s.content.Add([]byte("algorithm")), s.content.Add([]byte("upper")), s.content.Add([]byte("bang"))
	return s
}

// play is what the guests do; algorithm is what the first one does.
func (s *scene) play(algorithm func(resources.IO) (uint32, error)) func(context.Context, resources.Task, resources.IO) (resources.Result, error) {
	return func(ctx context.Context, task resources.Task, streams resources.IO) (resources.Result, error) {
		u := resources.Usage{Fuel: 100, WallMs: 3, InBytes: 5, OutBytes: 999, CallCount: 1}
		if task.Algorithm == s.algorithm {
			code, err := algorithm(streams)
			return resources.Result{ExitCode: code, Usage: u}, err
		}
		in, err := task.Content.Open(ctx, task.Stdin)
		if err != nil {
			return resources.Result{}, err
		}
		b, err := io.ReadAll(in)
		if err != nil {
			return resources.Result{}, err
		}
		text := string(b) + "!"
		if task.Algorithm == s.upper {
			text = strings.ToUpper(string(b))
		}
		if strings.Contains(text, "BAD") {
			_, _ = fmt.Fprintln(streams.Stderr, "it is bad\nreally")
			return resources.Result{ExitCode: 3, Usage: u}, nil
		}
		_, err = io.WriteString(streams.Stdout, text)
		return resources.Result{Usage: u}, err
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	says := func(text string, code uint32, err error) func(resources.IO) (uint32, error) {
		return func(streams resources.IO) (uint32, error) {
			_, _ = io.WriteString(streams.Stderr, "why\x1b[31m\n")
			if _, werr := io.WriteString(streams.Stdout, text); werr != nil {
				return 0, werr
			}
			return code, err
		}
	}
	for name, tc := range map[string]struct {
		does    func(resources.IO) (uint32, error)
		verdict gate.Verdict
		output  string
		fuel    uint64 // that is seen
		reason  string
		code    *mman.Error
	}{
		"passed":            {does: says("abc", 0, nil), verdict: gate.Passed, output: "ABC!\n\n\n\n", fuel: 500},
		"nothing":           {does: says("", 0, nil), verdict: gate.Passed, output: "!\n\n\n\n\n\n\n", fuel: 500},
		"exit code":         {does: says("abc", 9, nil), verdict: gate.Failed, fuel: 125, reason: "why[31m"},
		"trap":              {does: says("abc", 0, mman.ErrGuestTrap), verdict: gate.Failed, fuel: 125, reason: "trap", code: mman.ErrGuestTrap},
		"a gate refuses":    {does: says("bad", 0, nil), verdict: gate.Blocked, fuel: 250, reason: "ended with 3: it is bad"},
		"too much":          {does: says("abcdefgh", 0, nil), verdict: gate.Large, fuel: 500, reason: "9 bytes, 8 may leave"},
		"more than is held": {does: says(strings.Repeat("x", resources.ReleaseMaxOutput+1), 0, nil), verdict: gate.Failed, fuel: 125, reason: "held back", code: mman.ErrOutput},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			executor := &resourcestest.Fake{Play: s.play(tc.does)}
			limits := resources.DefaultLimits()
			limits.Fuel = 1000
			o := resources.Outlet{
				Gates:   []resources.Gate{{Module: s.upper}, {Module: s.bang}},
				Release: resources.Release{Bits: 1, OutputBytes: 8, PadBytes: 8, FuelSteps: 4, SlotMs: 1},
			}
			run, err := gate.Prepare(t.Context(), executor, resources.Task{Algorithm: s.algorithm, Limits: limits, Content: &s.content}, o)
			require.NoError(t, err)
			done := run.Go(t.Context())
			require.Equal(t, tc.verdict, done.Verdict, done.Reason)
			require.Equal(t, tc.output, string(done.Output))
			require.Contains(t, done.Reason, tc.reason)
			require.NotContains(t, done.Reason, "\x1b")
			require.Equal(t, resources.Usage{Fuel: tc.fuel, InBytes: 5, OutBytes: uint64(len(tc.output)), CallCount: 1}, done.Seen)
			if tc.code != nil {
				require.Equal(t, tc.code.Code, done.Code)
			}
		})
	}
}

// TestGateIsNotThere: it is refused before anything runs.
func TestGateIsNotThere(t *testing.T) {
	t.Parallel()
	s := newScene()
	executor := &resourcestest.Fake{Play: s.play(func(resources.IO) (uint32, error) { panic("it ran") })}
	o := resources.Outlet{Gates: []resources.Gate{{Module: mman.SumCID(mman.CodecRaw, []byte("nowhere"))}}, Release: resources.DefaultRelease()}
	_, err := gate.Prepare(t.Context(), executor, resources.Task{Algorithm: s.algorithm, Limits: resources.DefaultLimits(), Content: &s.content}, o)
	require.ErrorIs(t, err, mman.ErrNotFound)
}

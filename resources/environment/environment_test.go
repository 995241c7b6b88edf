package environment_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/examples/cartpole"
	"github.com/limboid/massive-man/resources/environment"
)

// piped is the input of an environment in this process.
type piped struct{ io.Reader }

func (p piped) Read(_ context.Context, b []byte) (int, error) { return p.Reader.Read(b) }

func (p piped) Ready() bool { return false }

// program is how an environment is written for this test.
type program func(in io.Reader, out io.Writer) error

func pole(in io.Reader, out io.Writer) error {
	return cartpole.Serve(in, out, func() (uint64, error) { return 7, nil })
}

// heard lets a program read through a referee, as an executor does.
type heard struct {
	ctx     context.Context //nolint:containedctx // io.Reader has none
	referee *environment.Referee
	user    io.Writer
}

func (r heard) Read(p []byte) (int, error) {
	for {
		n, err := r.referee.Read(r.ctx, p)
		var refusal *environment.RefusalError
		if !errors.As(err, &refusal) {
			return n, err
		}
		if _, err := r.user.Write(refusal.Frame); err != nil {
			return 0, err
		}
	}
}

// judged lets a program write through a referee.
type judged struct {
	referee *environment.Referee
	user    io.Writer
}

func (j judged) Write(p []byte) (int, error) {
	steps, err := j.referee.Judge(p)
	if err != nil {
		return 0, err
	}
	n, err := j.user.Write(p)
	j.referee.Count(steps)
	return n, err
}

// behind runs a program behind a referee; what comes of it goes to user.
func behind(t *testing.T, p program, user io.Writer) (asks *io.PipeWriter, ended <-chan error) {
	t.Helper()
	r, w := io.Pipe()
	referee := environment.NewReferee(piped{r})
	done := make(chan error, 1)
	go func() {
		err := p(heard{t.Context(), referee, user}, judged{referee, user})
		_ = r.CloseWithError(io.ErrClosedPipe) // always nil
		done <- err
	}()
	t.Cleanup(func() { _ = w.Close() }) // always nil
	return w, done
}

// late is a writer that is known only when there is one.
type late struct {
	ready chan struct{}
	w     io.Writer
}

func (l *late) Write(p []byte) (int, error) {
	<-l.ready
	return l.w.Write(p)
}

// begin runs a program for a client.
func begin(t *testing.T, p program) (c *environment.Client, ended <-chan error) {
	t.Helper()
	user := &late{ready: make(chan struct{})}
	asks, done := behind(t, p, user)
	c = environment.NewClient(asks)
	user.w = c
	close(user.ready)
	out := make(chan error, 1)
	go func() {
		err := <-done
		c.End(err)
		out <- err
	}()
	return c, out
}

func TestCartPole(t *testing.T) {
	t.Parallel()
	c, ended := begin(t, pole)
	spec, err := c.Spec(t.Context())
	require.NoError(t, err)
	require.Equal(t, "CartPole-v1", spec.ID)
	require.Equal(t, []uint64{4}, spec.ObservationSpace.Shape)
	require.EqualValues(t, 2, spec.ActionSpace.N)
	_, err = c.Step(t.Context(), []float64{0})
	require.ErrorIs(t, err, mman.ErrInvalid, "a step before the first reset")
	begun, err := c.Reset(t.Context(), environment.Reset{NumEnvs: 3, Seeds: []uint64{42}})
	require.NoError(t, err)
	require.Len(t, begun.Observation, 12)
	require.InDelta(t, 0.0273956, begun.Observation[0], 1e-7)
	require.InDelta(t, -0.03774345, begun.Observation[8], 1e-7)
	require.JSONEq(t, "{}", string(begun.Info))
	moved, err := c.Step(t.Context(), []float64{0, 1, 0})
	require.NoError(t, err)
	require.InDelta(t, -0.20172954, moved.Observation[1], 1e-7)
	require.Equal(t, []float64{1, 1, 1}, moved.Reward)
	require.Equal(t, []bool{false, false, false}, moved.Terminated)
	for range 20 {
		moved, err = c.Step(t.Context(), []float64{0, 0, 0})
		require.NoError(t, err)
	}
	again, err := c.Reset(t.Context(), environment.Reset{Seeds: []uint64{1, 2, 44}, Mask: []bool{false, true, true}})
	require.NoError(t, err)
	require.Equal(t, moved.Observation[:4], again.Observation[:4], "it was left as it is")
	require.Equal(t, begun.Observation[8:], again.Observation[8:], "the same seed")
	require.EqualValues(t, 63, c.Steps())
	require.NoError(t, c.Close())
	require.NoError(t, <-ended)
	_, err = c.Step(t.Context(), []float64{0, 0, 0})
	require.ErrorIs(t, err, mman.ErrEnvironment, "it has ended")
}

// TestUsersMistakes: what cannot be asked is refused by the client before it leaves.
func TestUsersMistakes(t *testing.T) {
	t.Parallel()
	c, ended := begin(t, pole)
	_, err := c.Reset(t.Context(), environment.Reset{NumEnvs: 2, Seeds: []uint64{1}})
	require.NoError(t, err)
	for name, r := range map[string]environment.Reset{
		"a negative batch":    {NumEnvs: -1},
		"too many":            {NumEnvs: environment.MaxBatch + 1},
		"too few seeds":       {NumEnvs: 3, Seeds: []uint64{1, 2}},
		"a mask of others":    {NumEnvs: 2, Mask: []bool{true}},
		"a mask of new ones":  {NumEnvs: 3, Mask: []bool{true, true, true}},
		"seeds without a use": {NumEnvs: 1, Seeds: []uint64{1, 2, 3}},
	} {
		_, err := c.Reset(t.Context(), r)
		require.ErrorIs(t, err, mman.ErrInvalid, name)
	}
	for name, actions := range map[string][]float64{
		"NaN": {0, math.NaN()}, "infinite": {math.Inf(1), 0}, "no whole number": {0.5, 0}, "too large": {0, 2},
		"negative": {-1, 0}, "too few": {0}, "too many": {0, 0, 0}, "none": nil,
	} {
		_, err := c.Step(t.Context(), actions)
		require.ErrorIs(t, err, mman.ErrInvalid, name)
	}
	_, err = c.Step(t.Context(), []float64{0, 1})
	require.NoError(t, err, "the run goes on")
	require.EqualValues(t, 2, c.Steps())
	require.NoError(t, c.Close())
	require.NoError(t, <-ended)
}

// pieces hands on what comes of an environment.
type pieces chan string

func (p pieces) Write(b []byte) (int, error) {
	p <- string(b)
	return len(b), nil
}

func count(n uint32, rest ...byte) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, n), rest...)
}

// TestRefusals: the provider refuses what another client sends; the environment does
// not see it, and goes on, until it was too often.
func TestRefusals(t *testing.T) {
	t.Parallel()
	out := make(pieces, 4)
	asks, ended := behind(t, pole, out)
	ask := func(kind environment.FrameKind, body []byte) string {
		t.Helper()
		_, err := asks.Write(environment.AppendFrame(nil, kind, body))
		require.NoError(t, err)
		return <-out
	}
	require.Contains(t, <-out, `"id":"CartPole-v1"`)
	require.Contains(t, ask(environment.FrameStep, count(1, make([]byte, 8)...)), "1 actions for 0 environments")
	require.EqualValues(t, environment.FrameBegun, ask(environment.FrameReset, count(2, append([]byte{2}, append(make([]byte, 8), append([]byte{1}, make([]byte, 8)...)...)...)...))[0])
	refused := 1
	for name, one := range map[string]struct {
		kind environment.FrameKind
		body []byte
		says string
	}{
		"no count":             {environment.FrameStep, []byte{1, 2}, "does not say for how many"},
		"nobody":               {environment.FrameStep, count(0), "a batch of 0"},
		"a huge batch":         {environment.FrameStep, count(math.MaxUint32), "a batch of 4294967295"},
		"one action for two":   {environment.FrameStep, count(1, make([]byte, 8)...), "1 actions for 2 environments"},
		"half an action":       {environment.FrameStep, count(2, make([]byte, 12)...), "20 are needed"},
		"an action of 255":     {environment.FrameStep, count(2, append(make([]byte, 8), 255, 0, 0, 0, 0, 0, 0, 0)...), "number 0 is 255"},
		"a reset of 9":         {environment.FrameReset, count(2, append([]byte{9}, make([]byte, 17)...)...), "reset 0 says 9"},
		"leaving what is not":  {environment.FrameReset, count(3, make([]byte, 27)...), "leaves environment 0"},
		"a reset of 1 GB":      {environment.FrameReset, count(1 << 30), "a batch of"},
		"close with something": {environment.FrameClose, []byte{1}, "close has no body"},
	} {
		got := ask(one.kind, one.body)
		require.EqualValues(t, environment.FrameFailed, got[0], name)
		require.Contains(t, got, one.says, name)
		refused++
	}
	require.EqualValues(t, environment.FrameMoved, ask(environment.FrameStep, count(2, make([]byte, 16)...))[0], "it goes on")
	for range 64 - refused {
		require.Contains(t, ask(environment.FrameStep, nil), "does not say")
	}
	_, err := asks.Write(environment.AppendFrame(nil, environment.FrameStep, nil))
	require.NoError(t, err)
	err = <-ended
	require.ErrorIs(t, err, mman.ErrEnvironment)
	require.ErrorContains(t, err, "more than 64 requests")
}

// TestBrokenRequests end the run: where the next begins cannot be known.
func TestBrokenRequests(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]struct {
		bytes string
		says  string
	}{
		"no such kind":    {"\x63\x00\x00\x00\x00", "kind 99"},
		"an answer":       {"\x06\x00\x00\x00\x00", "kind 6"},
		"2 GiB":           {"\x03\x00\x00\x00\x80", "2147483648 bytes"},
		"cut in its head": {"\x03\x00", "ends in its middle"},
		"cut in its body": {"\x03\x10\x00\x00\x00\x01", "ends in its middle"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := make(pieces, 4)
			asks, ended := behind(t, pole, out)
			_, err := io.WriteString(asks, one.bytes)
			require.NoError(t, err)
			require.NoError(t, asks.Close())
			err = <-ended
			require.ErrorIs(t, err, mman.ErrEnvironment)
			require.ErrorContains(t, err, one.says)
		})
	}
}

const small = `{"id":"x","observation_space":{"type":"Box","dtype":"float32","shape":[1]},"action_space":{"type":"Box","dtype":"float64","shape":[1]},"autoreset_mode":"Disabled"}`

// script is an environment that says the first of its lines unasked, and each other one
// after a request.
func script(lines ...string) program {
	return func(in io.Reader, out io.Writer) error {
		b := make([]byte, 1<<10)
		for _, line := range lines {
			if _, err := io.WriteString(out, line); err != nil {
				return err
			}
			if _, err := in.Read(b); err != nil {
				return err
			}
		}
		return nil
	}
}

func frame(kind environment.FrameKind, body string) string {
	return string(environment.AppendFrame(nil, kind, []byte(body)))
}

// TestHostileEnvironments: what does not keep to the protocol is ended before its user
// sees what is wrong; a user whose provider lets it through notices too.
func TestHostileEnvironments(t *testing.T) {
	t.Parallel()
	spec := frame(environment.FrameSpec, small)
	begun := frame(environment.FrameBegun, string(count(1, 0, 0, 0, 0)))
	for name, one := range map[string]struct {
		lines []string
		says  string
	}{
		"no spec":               {[]string{begun}, "the first is its spec"},
		"a spec of 1 MB":        {[]string{"\x01\x00\x00\x10\x00"}, "at most 65536"},
		"a spec of nothing":     {[]string{frame(environment.FrameSpec, "")}, "its spec"},
		"an unknown key":        {[]string{frame(environment.FrameSpec, `{"id":"x","reward_range":[0,1]}`)}, "unknown field"},
		"a spec and more":       {[]string{frame(environment.FrameSpec, small+"{}")}, "goes on after its end"},
		"no id":                 {[]string{frame(environment.FrameSpec, strings.Replace(small, `"x"`, `""`, 1))}, "id"},
		"no such space":         {[]string{frame(environment.FrameSpec, strings.Replace(small, "Box", "Graph", 1))}, "Graph"},
		"no such dtype":         {[]string{frame(environment.FrameSpec, strings.Replace(small, "float32", "complex64", 1))}, "complex64"},
		"a shape that is huge":  {[]string{frame(environment.FrameSpec, strings.Replace(small, "[1]", "[1048576,1048576]", 1))}, "shape"},
		"a shape that wraps":    {[]string{frame(environment.FrameSpec, strings.Replace(small, "[1]", "[4294967296,4294967296,2]", 1))}, "shape"},
		"a frame that is huge":  {[]string{frame(environment.FrameSpec, strings.Replace(small, "[1]", "[1048576]", 1))}, "do not fit"},
		"two specs":             {[]string{spec + spec}, "nobody asked for"},
		"speaks unasked":        {[]string{spec + begun}, "nobody asked for"},
		"another answer":        {[]string{spec, frame(environment.FrameMoved, string(count(1)))}, "5 is due"},
		"refuses by itself":     {[]string{spec, frame(environment.FrameFailed, "no")}, "5 is due"},
		"for two":               {[]string{spec, frame(environment.FrameBegun, string(count(2, 0, 0, 0, 0)))}, "for 2 environments"},
		"too little":            {[]string{spec, frame(environment.FrameBegun, string(count(1, 0)))}, "8 are due"},
		"4 GB of info":          {[]string{spec, "\x05\xff\xff\xff\xff"}, "8 are due"},
		"twice":                 {[]string{spec, begun + begun}, "nobody asked for"},
		"reads on":              {[]string{spec, ""}, "before it has said"},
		"a flag of 2":           {[]string{spec, begun, frame(environment.FrameMoved, string(count(1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0)))}, "it says 2"},
		"an info that is none":  {[]string{spec, begun, frame(environment.FrameMoved, string(count(1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))+"[]")}, "no object"},
		"an info that is wrong": {[]string{spec, begun, frame(environment.FrameMoved, string(count(1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))+"{")}, "no object"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := begin(t, script(one.lines...))
			_, err := c.Reset(t.Context(), environment.Reset{})
			if err == nil {
				_, err = c.Step(t.Context(), []float64{0.5})
			}
			if err == nil { // it waits for the next request
				_, err = c.Step(t.Context(), []float64{0.5})
			}
			require.ErrorIs(t, err, mman.ErrEnvironment)
			require.ErrorContains(t, err, one.says)
		})
	}
}

// TestGivesUp: a user who does not wait is told so with the next request.
func TestGivesUp(t *testing.T) {
	t.Parallel()
	silent := make(chan struct{})
	c, _ := begin(t, func(_ io.Reader, out io.Writer) error {
		_, err := io.WriteString(out, frame(environment.FrameSpec, small))
		<-silent
		return err
	})
	defer close(silent)
	_, err := c.Spec(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Reset(ctx, environment.Reset{})
	require.ErrorIs(t, err, mman.ErrCanceled)
	_, err = c.Reset(t.Context(), environment.Reset{})
	require.ErrorContains(t, err, "was not waited for")
}

func TestSpaces(t *testing.T) {
	t.Parallel()
	n := []uint64{2}
	for name, one := range map[string]struct {
		space environment.Space
		good  []float64
		bad   [][]float64
	}{
		"one bound for all": {environment.Space{Kind: environment.Box, DType: environment.Float32, Shape: n, Low: []environment.Bound{-1}, High: []environment.Bound{1}}, []float64{-1, 0.5}, [][]float64{{-1.1, 0}, {0, 2}, {math.NaN(), 0}}},
		"a bound for each":  {environment.Space{Kind: environment.Box, DType: environment.Float64, Shape: n, Low: []environment.Bound{0, 5}}, []float64{0, 1e300}, [][]float64{{0, 4}, {0, math.Inf(1)}}},
		"no bounds":         {environment.Space{Kind: environment.Box, DType: environment.Float32, Shape: n}, []float64{-1e30, 1e30}, [][]float64{{1e300, 0}, {math.Inf(-1), 0}}},
		"pixels":            {environment.Space{Kind: environment.Box, DType: environment.UInt8, Shape: n}, []float64{0, 255}, [][]float64{{256, 0}, {-1, 0}, {0.5, 0}}},
		"small whole ones":  {environment.Space{Kind: environment.Box, DType: environment.Int8, Shape: n}, []float64{-128, 127}, [][]float64{{128, 0}, {-129, 0}}},
		"middle whole ones": {environment.Space{Kind: environment.Box, DType: environment.Int16, Shape: n}, []float64{-32768, 32767}, [][]float64{{32768, 0}}},
		"larger whole ones": {environment.Space{Kind: environment.Box, DType: environment.Int32, Shape: n}, []float64{-1 << 31, 1<<31 - 1}, [][]float64{{1 << 31, 0}}},
		"the largest":       {environment.Space{Kind: environment.Box, DType: environment.Int64, Shape: n}, []float64{-1<<53 + 1, 1<<53 - 1}, [][]float64{{1 << 60, 0}}},
		"discrete from -1":  {environment.Space{Kind: environment.Discrete, DType: environment.Int64, N: 3, Start: -1}, []float64{-1}, [][]float64{{2}, {-2}}},
		"multi-discrete":    {environment.Space{Kind: environment.MultiDiscrete, DType: environment.Int64, Shape: n, NVec: []uint64{2, 5}}, []float64{1, 4}, [][]float64{{2, 0}, {0, 5}}},
		"multi-binary":      {environment.Space{Kind: environment.MultiBinary, DType: environment.Int8, Shape: n, N: 2}, []float64{1, 0}, [][]float64{{2, 0}}},
		"a scalar in a Box": {environment.Space{Kind: environment.Box, DType: environment.Float32}, []float64{3}, [][]float64{{1, 2}, {}}},
	} {
		require.NoError(t, one.space.Validate(), name)
		b, err := one.space.Encode(one.good, 1)
		require.NoError(t, err, name)
		require.Len(t, b, one.space.Bytes(), name)
		for i, v := range one.space.Decode(b) {
			require.InEpsilon(t, one.good[i]+1e-9, v+1e-9, 1e-6, name)
		}
		for _, bad := range one.bad {
			_, err := one.space.Encode(bad, 1)
			require.ErrorIs(t, err, mman.ErrInvalid, "%s: %v", name, bad)
		}
	}
	for name, space := range map[string]environment.Space{
		"no dtype":             {Kind: environment.Box},
		"a discrete of floats": {Kind: environment.Discrete, DType: environment.Float32, N: 2},
		"a discrete of none":   {Kind: environment.Discrete, DType: environment.Int64},
		"a discrete list":      {Kind: environment.Discrete, DType: environment.Int64, N: 2, Shape: n},
		"two lows for three":   {Kind: environment.Box, DType: environment.Float32, Shape: []uint64{3}, Low: []environment.Bound{0, 1}},
		"a short nvec":         {Kind: environment.MultiDiscrete, DType: environment.Int64, Shape: n, NVec: []uint64{2}},
		"an nvec of 0":         {Kind: environment.MultiDiscrete, DType: environment.Int64, Shape: n, NVec: []uint64{2, 0}},
		"an n of others":       {Kind: environment.MultiBinary, DType: environment.Int8, Shape: n, N: 3},
		"nine dimensions":      {Kind: environment.Box, DType: environment.Int8, Shape: []uint64{1, 1, 1, 1, 1, 1, 1, 1, 1}},
		"a side of nothing":    {Kind: environment.Box, DType: environment.Int8, Shape: []uint64{0}},
	} {
		require.Error(t, space.Validate(), name)
	}
}

// FuzzParseSpec: what parses is valid, and its sizes are in bounds.
func FuzzParseSpec(f *testing.F) {
	f.Add([]byte(small))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := environment.ParseSpec(b)
		if err != nil {
			require.ErrorIs(t, err, mman.ErrEnvironment)
			return
		}
		require.NotZero(t, s.ObservationSpace.Bytes())
		require.Positive(t, s.MaxNumEnvs())
		require.LessOrEqual(t, s.MaxNumEnvs(), environment.MaxBatch)
	})
}

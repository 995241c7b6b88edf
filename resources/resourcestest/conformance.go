package resourcestest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// Harness is what a driver gives to Run. Every program is content for
// Task.Algorithm.
type Harness struct {
	// New returns an executor that admits at least two runs at a time; Run closes
	// it.
	New func(t *testing.T) Closer

	Echo            []byte // copies stdin to stdout
	Args            []byte // prints its arguments, its name first, each ended by a zero byte
	Exit3           []byte // ends with exit code 3
	LoopForever     []byte
	AllocateForever []byte // until refused, then fails in its own way
	PrintForever    []byte
	Trap            []byte
	ReadInput       []byte // copies input 0 to stdout
	NotProgram      []byte // is refused with mman.ErrModule
	ForbiddenImport []byte // is refused with mman.ErrImport
	// ClockRandom prints clocks and randomness; nil for a driver whose runs cannot
	// be repeated.
	ClockRandom []byte
}

// Closer is an executor that can be closed.
type Closer interface {
	resources.Executor
	io.Closer
}

// suite is one executor under test with content of its own.
type suite struct {
	Harness
	executor Closer
	content  *Content
}

// outcome is all that a run gave.
type outcome struct {
	stdout, stderr string
	result         resources.Result
	err            error
}

// Run checks that an executor keeps the contract of resources.Executor.
func Run(t *testing.T, harness Harness) {
	t.Helper()
	for name, check := range map[string]func(*testing.T, *suite){
		"echo": echo, "arguments": arguments, "exit code": exitCode, "input": input, "empty stdin": emptyStdin,
		"wall time": wallTime, "memory": memory, "output": output, "trap": trap, "refusals": refusals,
		"input limit": inputLimit, "content": content, "determinism": determinism, "blocked on stdin": blockedStdin,
		"cancel": cancel, "cancel before": cancelBefore, "blocked writer": blockedWriter, "failing writer": failingWriter,
		"concurrent runs": concurrentRuns, "prepared once": preparedOnce, "foreign task": foreignTask, "close": closeTwice,
	} {
		if name == "determinism" && harness.ClockRandom == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &suite{Harness: harness, executor: harness.New(t), content: &Content{}}
			check(t, s)
			require.NoError(t, s.executor.Close())
			require.Zero(t, s.content.Opened(), "contents are left open")
		})
	}
}

func (s *suite) task(program []byte) resources.Task {
	limits := resources.DefaultLimits()
	limits.MemoryBytes = 64 << 20
	return resources.Task{Algorithm: s.content.Add(program), Limits: limits, Content: s.content}
}

func (s *suite) run(ctx context.Context, t *testing.T, task resources.Task) outcome {
	t.Helper()
	prepared, err := s.executor.Prepare(ctx, task)
	require.NoError(t, err)
	var stdout, stderr bytes.Buffer
	result, err := s.executor.Run(ctx, prepared, resources.IO{Stdout: &stdout, Stderr: &stderr})
	require.NoError(t, prepared.Close())
	require.LessOrEqual(t, result.Usage.WallMs, task.Limits.WallMs)
	require.LessOrEqual(t, result.Usage.OutBytes, task.Limits.OutputBytes)
	return outcome{stdout.String(), stderr.String(), result, err}
}

func echo(t *testing.T, s *suite) {
	task := s.task(s.Echo)
	text := strings.Repeat("the same bytes come back\n", 10_000)
	task.Stdin = s.content.Add([]byte(text))
	got := s.run(t.Context(), t, task)
	require.NoError(t, got.err)
	require.Equal(t, text, got.stdout)
	require.Zero(t, got.result.ExitCode)
	usage := got.result.Usage
	require.EqualValues(t, len(text), usage.InBytes)
	require.EqualValues(t, len(text), usage.OutBytes)
	require.EqualValues(t, 1, usage.CallCount)
}

func arguments(t *testing.T, s *suite) {
	for _, args := range [][]string{nil, {"one"}, {"", "two words", "ünï\ncode", strings.Repeat("x", 10_000)}} {
		task := s.task(s.Args)
		task.Args = args
		got := s.run(t.Context(), t, task)
		require.NoError(t, got.err)
		_, rest, found := strings.Cut(got.stdout, "\x00")
		require.True(t, found, "the program's name is missing")
		var want strings.Builder
		for _, a := range args {
			want.WriteString(a + "\x00")
		}
		require.Equal(t, want.String(), rest)
	}
}

func exitCode(t *testing.T, s *suite) {
	got := s.run(t.Context(), t, s.task(s.Exit3))
	require.NoError(t, got.err)
	require.EqualValues(t, 3, got.result.ExitCode)
	require.EqualValues(t, 1, got.result.Usage.CallCount)
}

func input(t *testing.T, s *suite) {
	task := s.task(s.ReadInput)
	text := strings.Repeat("a row of data\n", 10_000)
	task.Inputs = []mman.CID{s.content.Add([]byte(text)), s.content.Add([]byte("another"))}
	got := s.run(t.Context(), t, task)
	require.NoError(t, got.err)
	require.Equal(t, text, got.stdout)
	require.EqualValues(t, len(text)+len("another"), got.result.Usage.InBytes)
}

func emptyStdin(t *testing.T, s *suite) {
	got := s.run(t.Context(), t, s.task(s.Echo))
	require.NoError(t, got.err)
	require.Empty(t, got.stdout)
}

func wallTime(t *testing.T, s *suite) {
	task := s.task(s.LoopForever)
	task.Limits.WallMs = 50
	got := s.run(t.Context(), t, task)
	require.ErrorIs(t, got.err, mman.ErrWall)
	require.EqualValues(t, 50, got.result.Usage.WallMs, "the time is billed up to the limit")
	require.EqualValues(t, 1, got.result.Usage.CallCount)
}

func memory(t *testing.T, s *suite) {
	task := s.task(s.AllocateForever)
	task.Limits.MemoryBytes = 8 << 20
	got := s.run(t.Context(), t, task)
	require.ErrorIs(t, got.err, mman.ErrMemory)
	require.EqualValues(t, 1, got.result.Usage.CallCount)
}

func output(t *testing.T, s *suite) {
	task := s.task(s.PrintForever)
	task.Limits.OutputBytes = 100_001
	got := s.run(t.Context(), t, task)
	require.ErrorIs(t, got.err, mman.ErrOutput)
	require.Len(t, got.stdout, 100_001)
	require.EqualValues(t, 100_001, got.result.Usage.OutBytes)
}

func trap(t *testing.T, s *suite) {
	got := s.run(t.Context(), t, s.task(s.Trap))
	require.ErrorIs(t, got.err, mman.ErrGuestTrap)
	require.Less(t, len(got.err.Error()), 512)
	require.EqualValues(t, 1, got.result.Usage.CallCount)
}

func refusals(t *testing.T, s *suite) {
	for _, c := range []struct {
		program []byte
		want    error
	}{
		{s.NotProgram, mman.ErrModule},
		{nil, mman.ErrModule},
		{s.ForbiddenImport, mman.ErrImport},
	} {
		for range 2 { // a refusal is not forgotten
			_, err := s.executor.Prepare(t.Context(), s.task(c.program))
			require.ErrorIs(t, err, c.want)
		}
	}
	task := s.task(s.Echo)
	task.Limits.WallMs = 0
	_, err := s.executor.Prepare(t.Context(), task)
	require.ErrorIs(t, err, mman.ErrInvalid)
}

func inputLimit(t *testing.T, s *suite) {
	task := s.task(s.ReadInput)
	task.Stdin = s.content.Add(make([]byte, 60))
	task.Inputs = []mman.CID{s.content.Add(make([]byte, 41))}
	task.Limits.InputBytes = 100
	_, err := s.executor.Prepare(t.Context(), task)
	require.ErrorIs(t, err, mman.ErrInputLimit)
	task.Limits.InputBytes = 101
	require.NoError(t, s.run(t.Context(), t, task).err)
}

// content checks that lost and wrong content is told, before a run and in it.
func content(t *testing.T, s *suite) {
	gone := mman.SumCID(mman.CodecRaw, []byte("nobody has this"))
	task := s.task(s.ReadInput)
	task.Inputs = []mman.CID{gone}
	_, err := s.executor.Prepare(t.Context(), task)
	require.ErrorIs(t, err, mman.ErrNotFound)
	task.Algorithm = gone
	_, err = s.executor.Prepare(t.Context(), task)
	require.ErrorIs(t, err, mman.ErrNotFound)

	task = s.task(s.ReadInput)
	task.Inputs = []mman.CID{s.content.Add([]byte("it will shrink"))}
	prepared, err := s.executor.Prepare(t.Context(), task)
	require.NoError(t, err)
	s.content.Replace(task.Inputs[0], []byte("shrunk"))
	result, err := s.executor.Run(t.Context(), prepared, resources.IO{})
	require.ErrorIs(t, err, mman.ErrContent)
	require.EqualValues(t, 1, result.Usage.CallCount)
	require.NoError(t, prepared.Close())
}

func determinism(t *testing.T, s *suite) {
	task := s.task(s.ClockRandom)
	task.Seed = mman.Sum256([]byte("one"))
	first := s.run(t.Context(), t, task)
	require.NoError(t, first.err)
	require.NotEmpty(t, first.stdout)
	require.Equal(t, first.stdout, s.run(t.Context(), t, task).stdout)
	other := s.executor
	s.executor = s.New(t) // and on another machine
	again := s.run(t.Context(), t, task)
	require.NoError(t, s.executor.Close())
	s.executor = other
	require.Equal(t, first.stdout, again.stdout)
	task.Seed = mman.Sum256([]byte("two"))
	require.NotEqual(t, first.stdout, s.run(t.Context(), t, task).stdout)
}

func blockedStdin(t *testing.T, s *suite) {
	task := s.task(s.Echo)
	task.Stdin, _ = s.content.AddBlocked([]byte("never read"))
	task.Limits.WallMs = 50
	got := s.run(t.Context(), t, task)
	require.ErrorIs(t, got.err, mman.ErrWall)

	ctx, stop := context.WithCancel(t.Context())
	blocked, begun := s.content.AddBlocked([]byte("never read either"))
	task.Stdin, task.Limits.WallMs = blocked, 60_000
	go func() {
		<-begun
		stop()
	}()
	require.ErrorIs(t, s.run(ctx, t, task).err, mman.ErrCanceled)
}

// hook is a writer that tells of its first write.
type hook struct{ first func() error }

func (h hook) Write(b []byte) (int, error) {
	if err := h.first(); err != nil {
		return 0, err
	}
	return len(b), nil
}

func cancel(t *testing.T, s *suite) {
	ctx, stop := context.WithCancel(t.Context())
	task := s.task(s.PrintForever)
	task.Limits.OutputBytes = resources.MaxLimits().OutputBytes
	prepared, err := s.executor.Prepare(ctx, task)
	require.NoError(t, err)
	result, err := s.executor.Run(ctx, prepared, resources.IO{Stdout: hook{func() error {
		stop()
		return nil
	}}})
	require.ErrorIs(t, err, mman.ErrCanceled)
	require.EqualValues(t, 1, result.Usage.CallCount)
	require.NoError(t, prepared.Close())
}

func cancelBefore(t *testing.T, s *suite) {
	prepared, err := s.executor.Prepare(t.Context(), s.task(s.LoopForever))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	_, err = s.executor.Run(ctx, prepared, resources.IO{})
	require.ErrorIs(t, err, mman.ErrCanceled)
	require.NoError(t, prepared.Close())
	_, err = s.executor.Prepare(ctx, s.task(s.Echo))
	require.ErrorIs(t, err, mman.ErrCanceled)
}

func blockedWriter(t *testing.T, s *suite) {
	task := s.task(s.PrintForever)
	task.Limits.WallMs = 50
	prepared, err := s.executor.Prepare(t.Context(), task)
	require.NoError(t, err)
	release := make(chan struct{})
	defer close(release)
	_, err = s.executor.Run(t.Context(), prepared, resources.IO{Stdout: hook{func() error {
		<-release
		return errors.New("released")
	}}})
	require.ErrorIs(t, err, mman.ErrWall)
	require.NoError(t, prepared.Close())
}

func failingWriter(t *testing.T, s *suite) {
	prepared, err := s.executor.Prepare(t.Context(), s.task(s.PrintForever))
	require.NoError(t, err)
	gone := fmt.Errorf("%w: the reader went away", mman.ErrPeerVanished)
	result, err := s.executor.Run(t.Context(), prepared, resources.IO{Stdout: hook{func() error { return gone }}})
	require.ErrorIs(t, err, mman.ErrPeerVanished)
	require.Zero(t, result.Usage.OutBytes)
	require.NoError(t, prepared.Close())
}

func concurrentRuns(t *testing.T, s *suite) {
	const runs = 8
	var group sync.WaitGroup
	got := make([]outcome, runs)
	text := func(i int) string { return strings.Repeat(fmt.Sprintf("run %d;", i), 20_000) }
	for i := range runs {
		task := s.task(s.Echo)
		task.Stdin = s.content.Add([]byte(text(i)))
		group.Go(func() {
			prepared, err := s.executor.Prepare(t.Context(), task)
			if err != nil {
				got[i].err = err
				return
			}
			var stdout bytes.Buffer
			got[i].result, got[i].err = s.executor.Run(t.Context(), prepared, resources.IO{Stdout: &stdout})
			got[i].stdout = stdout.String()
			got[i].err = errors.Join(got[i].err, prepared.Close())
		})
	}
	group.Wait()
	for i := range runs {
		require.NoError(t, got[i].err)
		require.Equal(t, text(i), got[i].stdout)
	}
}

func preparedOnce(t *testing.T, s *suite) {
	prepared, err := s.executor.Prepare(t.Context(), s.task(s.Exit3))
	require.NoError(t, err)
	_, err = s.executor.Run(t.Context(), prepared, resources.IO{})
	require.NoError(t, err)
	_, err = s.executor.Run(t.Context(), prepared, resources.IO{})
	require.ErrorIs(t, err, mman.ErrInvalid)
	require.NoError(t, prepared.Close())
	require.NoError(t, prepared.Close())
}

type foreign struct{}

func (foreign) Close() error { return nil }

func foreignTask(t *testing.T, s *suite) {
	_, err := s.executor.Run(t.Context(), foreign{}, resources.IO{})
	require.ErrorIs(t, err, mman.ErrInvalid)
}

func closeTwice(t *testing.T, s *suite) {
	prepared, err := s.executor.Prepare(t.Context(), s.task(s.LoopForever))
	require.NoError(t, err)
	task := s.task(s.PrintForever)
	task.Limits.OutputBytes = resources.MaxLimits().OutputBytes
	running, err := s.executor.Prepare(t.Context(), task)
	require.NoError(t, err)
	begun, ended := make(chan struct{}), make(chan error, 1)
	var once sync.Once
	go func() {
		_, err := s.executor.Run(t.Context(), running, resources.IO{Stdout: hook{func() error {
			once.Do(func() { close(begun) })
			return nil
		}}})
		ended <- err
	}()
	<-begun
	require.NoError(t, s.executor.Close())
	require.ErrorIs(t, <-ended, mman.ErrCanceled)
	require.NoError(t, s.executor.Close())
	_, err = s.executor.Run(t.Context(), prepared, resources.IO{})
	require.ErrorIs(t, err, mman.ErrCanceled)
	_, err = s.executor.Prepare(t.Context(), s.task(s.Echo))
	require.ErrorIs(t, err, mman.ErrCanceled)
	require.NoError(t, prepared.Close())
	require.NoError(t, running.Close())
}

package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/node/worker"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/resourcestest"
)

// play is what an executor's run does.
type play func(ctx context.Context, task resources.Task, streams resources.IO) (resources.Result, error)

func keep(_ context.Context, r io.Reader) (mman.CID, uint64, error) {
	b, err := io.ReadAll(r)
	return mman.SumCID(mman.CodecRaw, b), uint64(len(b)), err
}

func discard([]byte) error { return nil }

func job(t *testing.T, p play) (*worker.Worker, worker.Job) {
	t.Helper()
	contents := &resourcestest.Content{}
	w := worker.New(map[resources.Facet]resources.Executor{resources.FacetWasm: &resourcestest.Fake{Play: p}})
	return w, worker.Job{
		Facet: resources.FacetWasm, Keep: keep, Stdout: discard, Stderr: discard,
		Task: resources.Task{Algorithm: contents.Add([]byte("x")), Limits: resources.DefaultLimits(), Content: contents},
	}
}

var used = resources.Usage{WallMs: 7, OutBytes: 3, CallCount: 1}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		end  error
		code mman.Code // of a run that is billed
		fail error     // of one that is not
		says string    // to the guest's standard error
	}{
		"ended":           {},
		"wall":            {end: fmt.Errorf("run: %w", mman.ErrWall), code: mman.ErrWall.Code},
		"memory":          {end: mman.ErrMemory, code: mman.ErrMemory.Code},
		"output":          {end: mman.ErrOutput, code: mman.ErrOutput.Code},
		"trap":            {end: fmt.Errorf("%w: unreachable", mman.ErrGuestTrap), code: mman.ErrGuestTrap.Code, says: "trap: unreachable\n"},
		"canceled":        {end: mman.ErrCanceled, code: mman.ErrCanceled.Code},
		"damaged content": {end: mman.ErrContent, fail: mman.ErrContent},
		"host failed":     {end: io.ErrUnexpectedEOF, fail: io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, j := job(t, func(_ context.Context, _ resources.Task, streams resources.IO) (resources.Result, error) {
				_, err := io.WriteString(streams.Stdout, "out")
				return resources.Result{ExitCode: 3, Usage: used}, errors.Join(tc.end, err)
			})
			var stdout, stderr bytes.Buffer
			j.Stdout = func(p []byte) error { _, err := stdout.Write(p); return err }
			j.Stderr = func(p []byte) error { _, err := stderr.Write(p); return err }
			done, err := w.Run(t.Context(), j)
			require.Equal(t, "out", stdout.String())
			if tc.fail != nil {
				require.ErrorIs(t, err, tc.fail)
				return
			}
			require.NoError(t, err)
			require.Equal(t, worker.Done{
				Result: resources.Result{ExitCode: 3, Usage: used}, Code: tc.code,
				Output: mman.SumCID(mman.CodecRaw, []byte("out")), OutputBytes: 3,
			}, done)
			require.Equal(t, tc.says, stderr.String(), "a limit's sentence is said once, by the consumer's program")
		})
	}
}

func TestNothingRuns(t *testing.T) {
	t.Parallel()
	w, j := job(t, nil)
	j.Facet = "gpu"
	_, err := w.Run(t.Context(), j)
	require.ErrorIs(t, err, mman.ErrUnsupported)
	w, j = job(t, nil)
	j.Task.Algorithm = mman.SumCID(mman.CodecRaw, []byte("elsewhere"))
	_, err = w.Run(t.Context(), j)
	require.ErrorIs(t, err, mman.ErrNotFound)
}

func TestFailingSinks(t *testing.T) {
	t.Parallel()
	chatty := func(_ context.Context, _ resources.Task, streams resources.IO) (resources.Result, error) {
		for range 100 {
			if _, err := io.WriteString(streams.Stdout, strings.Repeat("x", 1000)); err != nil {
				return resources.Result{Usage: used}, fmt.Errorf("pass the output on: %w", err)
			}
		}
		_, err := io.WriteString(streams.Stderr, "that was all\n")
		return resources.Result{Usage: used}, err
	}
	for name, tc := range map[string]struct {
		want error
		set  func(*worker.Job)
	}{
		"consumer is gone": {mman.ErrPeerVanished, func(j *worker.Job) { j.Stdout = func([]byte) error { return mman.ErrPeerVanished } }},
		"stderr is gone":   {mman.ErrPeerVanished, func(j *worker.Job) { j.Stderr = func([]byte) error { return mman.ErrPeerVanished } }},
		"disk is full at once": {mman.ErrDiskFull, func(j *worker.Job) {
			j.Keep = func(context.Context, io.Reader) (mman.CID, uint64, error) { return mman.CID{}, 0, mman.ErrDiskFull }
		}},
		"disk is full at the end": {mman.ErrDiskFull, func(j *worker.Job) {
			j.Keep = func(_ context.Context, r io.Reader) (mman.CID, uint64, error) {
				_, err := io.Copy(io.Discard, r)
				return mman.CID{}, 0, errors.Join(mman.ErrDiskFull, err)
			}
		}},
		"keeping stops early": {io.ErrClosedPipe, func(j *worker.Job) {
			j.Keep = func(context.Context, io.Reader) (mman.CID, uint64, error) { return mman.CID{}, 0, nil }
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, j := job(t, chatty)
			tc.set(&j)
			_, err := w.Run(t.Context(), j)
			require.ErrorIs(t, err, tc.want)
		})
	}
}

// TestWriteLeftBehind: an executor that is stopped may leave a blocked write
// behind. The run's output has it whole or not at all, and nothing comes later.
func TestWriteLeftBehind(t *testing.T) {
	t.Parallel()
	blocked, goOn := make(chan struct{}), make(chan struct{})
	late := make(chan error, 1)
	w, j := job(t, func(_ context.Context, _ resources.Task, streams resources.IO) (resources.Result, error) {
		go func() {
			_, err := io.WriteString(streams.Stdout, "first")
			_, again := io.WriteString(streams.Stdout, "second")
			late <- errors.Join(err, again)
		}()
		<-blocked
		return resources.Result{Usage: used}, mman.ErrWall
	})
	var got []string
	j.Stdout = func(p []byte) error {
		if len(got) == 0 {
			close(blocked)
			<-goOn
		}
		got = append(got, string(p))
		return nil
	}
	go func() {
		<-blocked
		close(goOn)
	}()
	done, err := w.Run(t.Context(), j)
	require.NoError(t, err)
	if err := <-late; err != nil { // the second may have been in time
		require.ErrorIs(t, err, mman.ErrCanceled)
	}
	require.Equal(t, uint64(len(strings.Join(got, ""))), done.OutputBytes)
	require.Equal(t, mman.SumCID(mman.CodecRaw, []byte(strings.Join(got, ""))), done.Output)
}

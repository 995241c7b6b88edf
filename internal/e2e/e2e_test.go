package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// program is mman-node, built once for all tests.
var program string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if home := os.Getenv(envVillain); home != "" {
		if err := villainMain(home, os.Getenv(envDeed)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	dir, err := os.MkdirTemp("", "mman-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	program = filepath.Join(dir, "mman-node")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "github.com/limboid/massive-man/cmd/mman-node")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build mman-node: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// poll is the pause between two looks at a condition.
const poll = 20 * time.Millisecond

// eventually waits until ok says so, or fails the test. The error that ok
// returned last says why it did not happen.
func eventually(t *testing.T, within time.Duration, what string, ok func(ctx context.Context) (bool, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		done, err := ok(ctx)
		if done && err == nil {
			return
		}
		select {
		case <-ctx.Done():
			require.FailNow(t, what+" did not happen within "+within.String(), "%v", err)
		case <-tick.C:
		}
	}
}

// job is one process of the program.
type job struct {
	cmd  *exec.Cmd
	out  output
	errs output
	done chan struct{}
	code int
}

// output is what a process writes; it may be read while it writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// Bytes returns what was written so far.
func (o *output) Bytes() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.b.Bytes())
}

// String returns what was written so far.
func (o *output) String() string { return string(o.Bytes()) }

// begin starts the program in a home, in a process group of its own. The
// process is killed at the end of the test if it still runs.
func begin(t *testing.T, home string, args ...string) *job {
	t.Helper()
	return prepare(t, home, args...).start(t)
}

// prepare makes a process that has not begun.
func prepare(t *testing.T, home string, args ...string) *job {
	t.Helper()
	j := &job{done: make(chan struct{})}
	j.cmd = exec.Command(program, args...)
	j.cmd.Env = append(os.Environ(), "MMAN_HOME="+home, "HOME="+filepath.Join(home, "nobody"))
	j.cmd.Dir = t.TempDir()
	j.cmd.Stdout, j.cmd.Stderr = &j.out, &j.errs
	j.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	j.cmd.WaitDelay = 10 * time.Second
	return j
}

// start begins it.
func (j *job) start(t *testing.T) *job {
	t.Helper()
	require.NoError(t, j.cmd.Start())
	go func() {
		defer close(j.done)
		err := j.cmd.Wait()
		j.code = j.cmd.ProcessState.ExitCode()
		if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
			j.code = -2 // it left somebody behind who holds its output
		}
	}()
	t.Cleanup(func() { j.kill(t) })
	return j
}

// end waits for the process and returns its exit code.
func (j *job) end(t *testing.T, within time.Duration) int {
	t.Helper()
	select {
	case <-j.done:
	case <-time.After(within):
		// What it does now is worth knowing: Go programs say it on SIGQUIT.
		_ = j.cmd.Process.Signal(syscall.SIGQUIT) // the failure is said below
		<-j.done
		require.FailNow(t, "it did not end within "+within.String(), "%v\n%s\n%s", j.cmd.Args, &j.out, tail(j.errs.String()))
	}
	return j.code
}

// kill ends the process as a power cut would, and waits for it.
func (j *job) kill(t *testing.T) {
	t.Helper()
	select {
	case <-j.done:
		return
	default:
	}
	if err := j.cmd.Process.Kill(); !errors.Is(err, os.ErrProcessDone) {
		assert.NoError(t, err)
	}
	<-j.done
}

// run runs the program to its end.
func run(t *testing.T, home string, args ...string) *job {
	t.Helper()
	j := begin(t, home, args...)
	j.end(t, 60*time.Second)
	return j
}

// ask runs mman in a home, with -o json, and reads its answer.
func ask(t *testing.T, home string, code int, args ...string) map[string]any {
	t.Helper()
	j := run(t, home, append([]string{"client", "-o", "json"}, args...)...)
	require.Equal(t, code, j.code, "mman %v: %s", args, &j.errs)
	return object(t, j.out.Bytes())
}

func object(t *testing.T, b []byte) map[string]any {
	t.Helper()
	var v map[string]any
	require.NoError(t, json.Unmarshal(b, &v), "%s", b)
	return v
}

// oneSentence requires that what a program said on its way out ends in a single
// sentence with every wanted word, and that it never panicked.
func oneSentence(t *testing.T, errs string, words ...string) string {
	t.Helper()
	require.NotContains(t, errs, "panic", "%s", tail(errs))
	require.NotContains(t, errs, "goroutine ", "%s", tail(errs))
	var said []string
	for line := range strings.Lines(errs) {
		if who, rest, _ := strings.Cut(line, ": "); who == "mman-node" || who == "mman" {
			said = append(said, strings.TrimSpace(rest))
		}
	}
	require.Len(t, said, 1, "one sentence: %s", tail(errs))
	for _, word := range words {
		require.Contains(t, said[0], word)
	}
	return said[0]
}

// most is how much of a long text is shown.
const most = 6 << 10

// tail is the end of a long text.
func tail(text string) string { return text[max(0, len(text)-most):] }

// head is its beginning, where a panic stands.
func head(text string) string { return text[:min(len(text), most)] }

// write puts a file into a folder and returns its path.
func write(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

// copyTree copies a folder of plain files.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	require.NoError(t, os.CopyFS(to, os.DirFS(from)))
	// CopyFS widens the modes; keys must be the owner's alone.
	require.NoError(t, filepath.WalkDir(to, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	}))
}

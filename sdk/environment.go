package sdk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/environment"
)

// Environment is an environment that runs at a provider. One goroutine uses it.
type Environment struct {
	client *environment.Client
	lease  market.Lease
	typed  *io.PipeWriter
	stop   context.CancelFunc
	said   *lastWords
	done   chan struct{} // closed when the run has ended

	outcome Outcome
	err     error
}

// Environment begins a run of the lease's environment and waits for what it says of
// itself. Of w it takes Args, Seed, Limits, Idle, Paid, Lost and Held. The run lasts
// until Close, or until ctx ends; the session has one run at a time.
func (s *Session) Environment(ctx context.Context, w Work) (*Environment, environment.Spec, error) {
	if role := s.lease.Lease.Algorithm().Role; role != market.RoleEnvironment {
		return nil, environment.Spec{}, fmt.Errorf("lease %s: %w: it is of an %s, and only an environment is reset and stepped", s.lease.Lease.ID, mman.ErrInvalid, role)
	}
	log, err := s.client.leases.keepInput(s.client.cfg.Now)
	if err != nil {
		return nil, environment.Spec{}, err
	}
	run, stop := context.WithCancel(ctx)
	requests, typed := io.Pipe()
	e := &Environment{client: environment.NewClient(typed), lease: s.lease.Lease, typed: typed, stop: stop, said: &lastWords{}, done: make(chan struct{})}
	w.Stdin, w.Console, w.Service = nil, nil, nil
	w.Input, w.Stdout, w.Stderr, w.Steps, w.kept = io.TeeReader(requests, log), e.client, e.said, e.client.Steps, log.keep
	go func() {
		defer close(e.done)
		e.outcome, e.err = s.Run(run, w)
		e.err = errors.Join(e.err, log.drop())
		_ = requests.CloseWithError(io.ErrClosedPipe) // always nil
		e.client.End(e.why())
	}()
	spec, err := e.client.Spec(ctx)
	if err != nil {
		stop()
		<-e.done
		return nil, spec, err
	}
	return e, spec, nil
}

// why says how the run ended, nil for an environment that ended by itself.
func (e *Environment) why() error {
	r := e.outcome.Result
	switch {
	case e.err != nil:
		return e.err
	case r.Code != 0:
		return fmt.Errorf("lease %s: %w", e.lease.ID, mman.RemoteError(r.Code, mman.RetryNever, e.said.or("the environment was ended")))
	case r.ExitCode != 0:
		return fmt.Errorf("lease %s: %w: exit code %d: %s", e.lease.ID, mman.ErrGuestExit, r.ExitCode, e.said.or("without a word"))
	default:
		return nil
	}
}

// Reset begins episodes; see environment.Client. A batch whose step would cost more
// than half of what the lease pays ahead is refused with mman.ErrPrice: it could not be
// waited for.
func (e *Environment) Reset(ctx context.Context, r environment.Reset) (environment.Begun, error) {
	n := max(r.NumEnvs, e.client.NumEnvs(), 1)
	cost, err := e.lease.Compute().Price.Of(resources.Usage{Steps: uint64(n)})
	if err != nil {
		return environment.Begun{}, err
	}
	if window := e.lease.Window(); cost > window/2 {
		return environment.Begun{}, fmt.Errorf("lease %s: %w: a step of %d environments costs %s, and %s are paid ahead; ask for a smaller batch, or a new lease with a higher --max", e.lease.ID, mman.ErrPrice, n, cost, window)
	}
	return e.client.Reset(ctx, r)
}

// Step gives each environment its action; see environment.Client.
func (e *Environment) Step(ctx context.Context, actions []float64) (environment.Moved, error) {
	return e.client.Step(ctx, actions)
}

// Close ends the environment, pays for it, and returns what it came to. When ctx ends
// first the run is canceled. An environment that failed is an error, with an Outcome
// when it was paid for.
func (e *Environment) Close(ctx context.Context) (Outcome, error) {
	if ctx.Err() == nil {
		go func() { // a run that is over takes nothing any more
			_ = e.client.Close()
			_ = e.typed.Close() // always nil
		}()
	}
	select {
	case <-e.done:
	case <-ctx.Done():
		e.stop()
		<-e.done
	}
	e.stop()
	return e.outcome, e.why()
}

// lastWords keeps the end of what a program says on standard error, from one goroutine
// at a time.
type lastWords struct{ b []byte }

const lastWordsMax = 1 << 10

// Write keeps p, or its end.
func (l *lastWords) Write(p []byte) (int, error) {
	l.b = append(l.b, p...)
	l.b = l.b[max(0, len(l.b)-lastWordsMax):]
	return len(p), nil
}

func (l *lastWords) or(nothing string) string {
	if text := strings.TrimSpace(strings.ToValidUTF8(string(l.b), "?")); text != "" {
		return text
	}
	return nothing
}

const (
	inputsFolder = "inputs"
	// inputsBytes bounds what is kept of what environments were asked; the oldest
	// goes first.
	inputsBytes = 256 << 20
	// inputsAge is longer than any run.
	inputsAge = 48 * time.Hour
)

// inputLog is what an environment is asked, on its way to a file that is named by its
// content.
type inputLog struct {
	dir  string
	file *os.File
	now  func() time.Time

	mu     sync.Mutex
	sealed bool // what is read after the end was never asked
}

func (b *LeaseBook) keepInput(now func() time.Time) (*inputLog, error) {
	dir := filepath.Join(b.dir, inputsFolder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	f, err := os.CreateTemp(dir, "part-*")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return &inputLog{dir: dir, file: f, now: now}, nil
}

// Write appends p.
func (l *inputLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sealed {
		return len(p), nil
	}
	return l.file.Write(p)
}

// keep gives the file its name.
func (l *inputLog) keep(ctx context.Context) (RunFile, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sealed = true
	if _, err := l.file.Seek(0, io.SeekStart); err != nil {
		return RunFile{}, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	id, _, err := content.SumUnixFS(ctx, l.file)
	if err != nil {
		return RunFile{}, err
	}
	kept := RunFile{id, filepath.Join(l.dir, id.String())}
	if err := os.Rename(l.file.Name(), kept.Path); err != nil {
		return RunFile{}, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return kept, l.trim()
}

// drop closes the file, and removes it when nobody gave it a name.
func (l *inputLog) drop() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sealed = true
	err := os.Remove(l.file.Name())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, l.file.Close())
}

// trim removes the oldest files until the rest fits. Those of runs under way have no
// name yet; of a process that crashed they are removed when no run can be so old.
func (l *inputLog) trim() error {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	var all []fs.FileInfo
	total := int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue // another process was faster
		}
		if strings.HasPrefix(e.Name(), "part-") {
			if l.now().Sub(info.ModTime()) > inputsAge {
				_ = os.Remove(filepath.Join(l.dir, e.Name())) // the next one tries again
			}
			continue
		}
		all, total = append(all, info), total+info.Size()
	}
	slices.SortFunc(all, func(a, b fs.FileInfo) int {
		return cmp.Or(a.ModTime().Compare(b.ModTime()), strings.Compare(a.Name(), b.Name()))
	})
	for _, old := range all {
		if total <= inputsBytes {
			break
		}
		total -= old.Size()
		if err := os.Remove(filepath.Join(l.dir, old.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %w", mman.ErrHome, err)
		}
	}
	return nil
}

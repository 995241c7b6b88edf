package kubo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	mman "github.com/limboid/massive-man"
)

const (
	// within bounds the wait for a daemon that starts.
	within = time.Minute
	// leaving is how long a daemon may take to end before it is killed.
	leaving = 20 * time.Second
	// maxSaid bounds what an error tells of a program's complaint, and what is kept of
	// a daemon's words until it is ready, in bytes.
	maxSaid, maxWords = 512, 64 << 10
	// readyWords are a daemon's when it can be asked.
	readyWords = "Daemon is ready"
)

// Hint says how to get kubo.
const Hint = "build it with: go -C internal/ipfs/kubo build -o /tmp/ipfs github.com/ipfs/kubo/cmd/ipfs"

// Config says which kubo runs, and where.
type Config struct {
	// Program is the file of ipfs.
	Program string
	// Dir is a folder of its own, for its repository and as its home.
	Dir string
	// Listen are the multiaddresses at which its peers dial it, on loopback.
	Listen []string
	// Log, if set, takes what the daemon complains about.
	Log io.Writer
}

// Daemon is a kubo that runs. Its methods are safe for concurrent use.
type Daemon struct {
	cfg    Config
	cancel context.CancelFunc
	ended  chan struct{} // closed when the process is gone
}

// Start makes a repository and runs a daemon on it until ctx ends or Stop. What
// fails is mman.ErrInternal with what kubo says.
func Start(ctx context.Context, cfg Config) (*Daemon, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	life, cancel := context.WithCancel(ctx)
	d := &Daemon{cfg: cfg, cancel: cancel, ended: make(chan struct{})}
	if err := d.configure(life); err != nil {
		cancel()
		return nil, err
	}
	words := &words{ready: make(chan struct{})}
	cmd := d.Command(life, "daemon", "--migrate=false")
	cmd.Stdout, cmd.Stderr = words, cfg.Log
	cmd.SysProcAttr = withParent()
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("%w: start kubo's daemon: %w", mman.ErrInternal, err)
	}
	go func() {
		defer close(d.ended)
		_ = cmd.Wait() // it is ended by a signal
	}()
	wait, stop := context.WithTimeout(life, within)
	defer stop()
	select {
	case <-words.ready:
		return d, nil
	case <-d.ended:
	case <-wait.Done():
	}
	d.Stop()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: kubo's daemon: %w", mman.ErrCanceled, err)
	}
	return nil, fmt.Errorf("%w: kubo's daemon ends or is not ready within %s: %s", mman.ErrInternal, within, words)
}

// configure makes a repository that keeps to itself.
func (d *Daemon) configure(ctx context.Context) error {
	listen := `["` + strings.Join(d.cfg.Listen, `","`) + `"]`
	for _, args := range [][]string{
		{"init", "--empty-repo", "--profile=test"},
		{"config", "--json", "Addresses.Swarm", listen},
		{"config", "--json", "AutoConf.Enabled", "false"},
		{"config", "--json", "Bootstrap", "[]"},
		{"config", "--json", "Ipns.DelegatedPublishers", "[]"},
		{"config", "--json", "DNS.Resolvers", "{}"},
		{"config", "Routing.Type", "none"},
	} {
		if _, err := d.Run(ctx, nil, args...); err != nil {
			return err
		}
	}
	return nil
}

// Command is a command of ipfs that asks the daemon. It ends with ctx, by a signal and
// after a while by force.
func (d *Daemon) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.cfg.Program, args...) //nolint:gosec // the caller's program
	cmd.Env = append(os.Environ(), "IPFS_PATH="+filepath.Join(d.cfg.Dir, "repo"), "IPFS_TELEMETRY=off", "HOME="+d.cfg.Dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = leaving
	return cmd
}

// Run runs such a command and returns what it writes to standard output.
func (d *Daemon) Run(ctx context.Context, stdin io.Reader, args ...string) ([]byte, error) {
	cmd := d.Command(ctx, args...)
	var complaint bytes.Buffer
	cmd.Stdin, cmd.Stderr = stdin, &complaint
	out, err := cmd.Output()
	switch {
	case err == nil:
		return out, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%w: ipfs %s: %w", mman.ErrCanceled, strings.Join(args, " "), ctx.Err())
	default:
		said := complaint.Bytes()
		return nil, fmt.Errorf("%w: ipfs %s: %w: %s", mman.ErrInternal, strings.Join(args, " "), err, said[:min(len(said), maxSaid)])
	}
}

// Stop ends the daemon and returns when it is gone. It is safe twice.
func (d *Daemon) Stop() {
	d.cancel()
	<-d.ended
}

// words waits for a daemon to say that it is ready.
type words struct {
	mu    sync.Mutex
	said  []byte
	over  bool
	ready chan struct{}
}

// Write implements io.Writer.
func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return len(p), nil
	}
	w.said = append(w.said, p[:min(len(p), maxWords-len(w.said))]...)
	if bytes.Contains(w.said, []byte(readyWords)) {
		w.over = true
		close(w.ready)
	}
	return len(p), nil
}

// String is the end of what was said.
func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.said[max(0, len(w.said)-maxSaid):])
}

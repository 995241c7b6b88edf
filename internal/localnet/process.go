package localnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/node"
	"github.com/limboid/massive-man/sdk/chain"
)

// Process is one node that runs.
type Process struct {
	Node    *Node
	Running node.Running

	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{} // closed when it has ended
	err   error         // valid then
	once  sync.Once
}

// FlagWatch is the flag with which a node ends when its standard input does.
const FlagWatch = "--watch-stdin"

// Runner starts the nodes of a network.
type Runner struct {
	// Program is mman-node.
	Program string
	// Env is added to this process's environment.
	Env []string
	// Settle is the settle_blocks of every node, 0 for the default.
	Settle uint64
}

// portsEach is the number of ports of a node: RPC, p2p, API, peer-to-peer host.
const portsEach = 4

// Assign gives every node free ports and tells it where the others are. It
// must be called before the first Start, while nothing of the network runs.
func (n *Net) Assign(ctx context.Context, r Runner) error {
	var peers, entry []string
	all, err := FreePorts(ctx, portsEach*len(n.Nodes()))
	if err != nil {
		return err
	}
	for i, one := range n.Nodes() {
		ports := all[portsEach*i:]
		one.config.Moniker = one.Name
		one.config.RPC, one.config.P2P, one.config.API = loopback(ports[0]), loopback(ports[1]), loopback(ports[2])
		one.config.Listen = []string{fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", ports[3]), fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", ports[3])}
		one.config.SettleBlocks = r.Settle
		if i < len(n.Validators) {
			peers = append(peers, one.consensus+"@"+one.config.P2P)
			entry = append(entry, one.config.Listen[0]+"/p2p/"+one.peer.String())
		}
	}
	for i, one := range n.Nodes() {
		one.config.Peers, one.config.Bootstrap = without(peers, i), without(entry, i)
		if err := one.config.Save(); err != nil {
			return err
		}
	}
	for _, c := range n.Consumers {
		text := fmt.Sprintf("node: http://%s\n", n.Validators[0].config.RPC)
		if err := os.WriteFile(filepath.Join(c.Home, "config.yaml"), []byte(text), 0o600); err != nil {
			return fmt.Errorf("%w: %w", mman.ErrHome, err)
		}
	}
	return nil
}

func without(list []string, i int) []string {
	if i >= len(list) {
		return list
	}
	return append(append([]string{}, list[:i]...), list[i+1:]...)
}

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// Ports are taken from below those that the system gives to outgoing
// connections, so that a node that starts again finds its own ones free. They are
// taken by blocks, whose first port is held: a port is never tried by one network
// while the node of another is about to listen on it.
const (
	firstPort = 10_000
	lastPort  = 32_000
	block     = 40
)

// FreePorts returns ports of loopback that nobody listens on, neither on TCP nor on
// UDP; mman.ErrPortInUse when there are not so many. No other caller, of this
// process or another, gets them before ctx ends.
func FreePorts(ctx context.Context, count int) (ports []int, err error) {
	const blocks = (lastPort - firstPort) / block
	var guards []io.Closer
	release := func() {
		for _, g := range guards {
			_ = g.Close() // nobody ever connects to it
		}
	}
	begin := rand.IntN(blocks) //nolint:gosec // which one does not matter
	for i := range blocks {
		first := firstPort + (begin+i)%blocks*block
		guard, err := listen(ctx, first)
		if err != nil {
			continue // another network has this block
		}
		guards = append(guards, guard)
		for port := first + 1; port < first+block && len(ports) < count; port++ {
			probe, err := listen(ctx, port)
			if err != nil {
				continue // a program that takes no blocks listens there
			}
			_ = probe.Close() // it was only a question
			ports = append(ports, port)
		}
		if len(ports) == count {
			context.AfterFunc(ctx, release)
			return ports, nil
		}
	}
	release()
	return nil, fmt.Errorf("%w: there are no %d free ports on loopback", mman.ErrPortInUse, count)
}

// listening is one port, on TCP and UDP.
type listening struct{ tcp, udp io.Closer }

func listen(ctx context.Context, port int) (listening, error) {
	var lc net.ListenConfig
	tcp, err := lc.Listen(ctx, "tcp", loopback(port))
	if err != nil {
		return listening{}, err
	}
	udp, err := lc.ListenPacket(ctx, "udp", loopback(port))
	if err != nil {
		return listening{}, errors.Join(err, tcp.Close())
	}
	return listening{tcp, udp}, nil
}

func (l listening) Close() error { return errors.Join(l.tcp.Close(), l.udp.Close()) }

// Start runs mman-node in the node's home. Its log goes to <home>/node.log.
func (r Runner) Start(one *Node, args ...string) (*Process, error) {
	if strings.HasSuffix(r.Program, ".test") {
		// A test's own binary would run the test again, which starts nodes, …
		return nil, fmt.Errorf("%w: %s is no mman-node: build one and name it", mman.ErrInvalid, r.Program)
	}
	log, err := os.OpenFile(filepath.Join(one.Home, "node.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer log.Close()                                                                                    //nolint:errcheck // the child has its own
	_ = os.Remove(filepath.Join(one.Home, "run.json"))                                                   // a crashed node left it
	cmd := exec.Command(r.Program, append([]string{"start", "--home", one.Home, FlagWatch}, args...)...) //nolint:gosec,noctx // our own program; Stop ends it
	cmd.Env = append(os.Environ(), r.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	// An interrupt at the terminal is for the parent, which ends its children
	// in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := &Process{Node: one, cmd: cmd, done: make(chan struct{})}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: start %s: %w", mman.ErrInternal, r.Program, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

const poll = 20 * time.Millisecond

// Wait waits until the node serves and its chain is at height or above.
func (p *Process) Wait(ctx context.Context, height uint64) error {
	for {
		run, err := node.ReadRunning(p.Node.Home)
		if err == nil {
			p.Running = run
			c, err := chain.New(run.RPC)
			if err != nil {
				return err
			}
			st, err := c.Status(ctx)
			c.Close()
			if err == nil && st.Height >= height {
				return nil
			}
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s: %w: it ended before it was ready: %s", p.Node.Name, mman.ErrInternal, p.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: it is not ready: %s", p.Node.Name, mman.ErrTimeout, p.lastWords())
		case <-time.After(poll):
		}
	}
}

// lastWords returns the last line of the node's log.
func (p *Process) lastWords() string {
	b, err := os.ReadFile(filepath.Join(p.Node.Home, "node.log"))
	if err != nil {
		return err.Error()
	}
	b = bytes.TrimSpace(b)
	return string(b[bytes.LastIndexByte(b, '\n')+1:])
}

// PID returns the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// stopWithin bounds a graceful end.
const stopWithin = 20 * time.Second

// Stop ends the process as a user would and waits for it. A process that has
// to be killed is an error.
func (p *Process) Stop() error {
	p.once.Do(func() { _ = p.stdin.Close() }) // it may have ended by itself
	select {
	case <-p.done:
	case <-time.After(stopWithin):
		return errors.Join(fmt.Errorf("%s: %w: it did not end within %s", p.Node.Name, mman.ErrTimeout, stopWithin), p.Kill())
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w: %w: %s", p.Node.Name, mman.ErrInternal, p.err, p.lastWords())
	}
	return nil
}

// Kill ends the process at once, as a power cut of its machine would, and
// waits for it.
func (p *Process) Kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s: %w: %w", p.Node.Name, mman.ErrInternal, err)
	}
	<-p.done
	return nil
}

// StartAll starts every node of the list, waits until all are at height, and
// returns how to stop them.
func (r Runner) StartAll(ctx context.Context, nodes []*Node, height uint64) (_ []*Process, err error) {
	var all []*Process
	defer func() {
		if err != nil {
			err = errors.Join(err, StopAll(all))
		}
	}()
	for _, one := range nodes {
		p, err := r.Start(one)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	for _, p := range all {
		if err := p.Wait(ctx, height); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// StopAll stops all processes at the same time.
func StopAll(all []*Process) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, p := range all {
		wg.Go(func() { errs[i] = p.Stop() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

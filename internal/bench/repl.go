package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/localnet"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/node"
	"github.com/limboid/massive-man/node/api"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/container"
	"github.com/limboid/massive-man/resources/container/image"
	"github.com/limboid/massive-man/sdk"
)

// REPLOptions size the benchmark of conversations.
type REPLOptions struct {
	// Engine is the container engine's address.
	Engine string
	// Shell is a static program that is a shell when called with sh.
	Shell string
	// Trips, Starts and Sessions are how many lines, first prompts and conversations
	// at once are measured.
	Trips, Starts, Sessions int
	// Cut is for how long the consumer is off the network; 0 leaves that out.
	Cut time.Duration
}

const replListings = `resource: {kind: compute, facet: container, name: bench}
policy:
  default: allow
  limits: {network: none}
price:
  units:
    - {unit: cpu_ms, per: 1000, price: 1uman}
    - {unit: mib_ms, per: 1048576, price: 1uman}
capacity: 1024
---
resource: {kind: algorithm, facet: container, name: bench, content: shell.tar, attributes: {repl: sh}}
policy: {default: allow}
capacity: 1024
`

// REPL measures conversations with a shell in a container at a provider, a node of
// its own, from a consumer, this process, over TCP. Metrics:
//
//	round_trip_p50, round_trip_p99   ms from a line typed to its answer read; the
//	                                 reference is the engine's own stream to the same
//	                                 shell in the same sandbox, line by line in turns
//	                                 with it, in pairs of conversations of 50 lines
//	round_trip_above                 ms by which the median is above the engine's
//	prompt_warm_p50, prompt_warm_max ms from asking for a session on an open lease to
//	                                 the first prompt, when a container stands ready;
//	                                 the reference is the engine's own, from the start
//	                                 of a container
//	prompt_cold_p50                  ms the same when none does
//	prompt_new_lease_p50             ms the same from asking for the lease
//	sessions                         conversations that lived at once, and all
//	                                 answered
//	sessions_round_trip_p50          ms of a line in one of them while the others wait
//	cut, cut_back                    s without a network that a conversation survived,
//	                                 and ms until it went on, with all of its output
func REPL(ctx context.Context, o REPLOptions) (_ *Report, err error) {
	if o.Trips < 1 || o.Starts < 1 || o.Sessions < 1 || o.Sessions > 64 || o.Cut < 0 || o.Cut > time.Minute || o.Engine == "" {
		return nil, fmt.Errorf("%w: bench repl: name an engine; trips and starts are at least 1, sessions 1 to 64, a cut up to a minute", mman.ErrInvalid)
	}
	dir, err := os.MkdirTemp("", "mman-bench-")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b, err := newREPLBench(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, part := range []func(context.Context) error{b.prompts, b.trips, b.crowd, b.cutOff} {
		if err := part(ctx); err != nil {
			return nil, err
		}
	}
	return b.report, nil
}

type replBench struct {
	REPLOptions

	report *Report
	node   *localnet.Process
	owner  string
	client *sdk.Client
	want   sdk.Wanted
	lease  *sdk.Lease
	local  *container.Executor
	task   resources.Task
}

// image makes the shell's image.
func (o REPLOptions) image(ctx context.Context, dir string) ([]byte, error) {
	var b bytes.Buffer
	if _, err := image.Build(ctx, &b, o.Shell, image.Options{Command: []string{"sh"}}); err != nil {
		return nil, fmt.Errorf("image of %s: %w", o.Shell, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "shell.tar"), b.Bytes(), 0o600); err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return b.Bytes(), nil
}

func newREPLBench(ctx context.Context, dir string, o REPLOptions) (b *replBench, err error) {
	archive, err := o.image(ctx, dir)
	if err != nil {
		return nil, err
	}
	b = &replBench{REPLOptions: o, report: newReport("repl")}
	net, runner, err := pairOf(ctx, dir, 0)
	if err != nil {
		return nil, err
	}
	if b.node, err = runner.Start(net.Validators[0], "--engine", o.Engine); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if err := b.node.Wait(ctx, 1); err != nil {
		return b, err
	}
	if b.owner, err = node.ContainerOwner(b.node.Running.ChainID, net.Validators[0].Home); err != nil {
		return b, err
	}
	b.local, err = container.New(ctx, container.Config{
		Host: o.Engine, Dir: filepath.Join(dir, "local"), Owner: b.owner[:24] + "-bench", Clock: time.Now, After: time.After,
	})
	if err != nil {
		return b, err
	}
	b.task = resources.Task{Algorithm: mman.SumCID(mman.CodecRaw, archive), Facet: resources.FacetContainer, Limits: resources.DefaultLimits(), Content: one{archive}}
	return b, b.connect(ctx, dir, net)
}

// one opens one content, whatever it is asked for.
type one struct{ b []byte }

// Open opens it.
func (o one) Open(context.Context, mman.CID) (resources.Blob, error) {
	return blob{bytes.NewReader(o.b)}, nil
}

func (b *replBench) connect(ctx context.Context, dir string, net *localnet.Net) error {
	var shell mman.CID
	for i, text := range bytes.Split([]byte(replListings), []byte("---\n")) {
		path := filepath.Join(dir, strconv.Itoa(i)+".yaml")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return fmt.Errorf("%w: %w", mman.ErrHome, err)
		}
		published, err := api.NewClient(b.node.Running.API, b.node.Running.Token).Publish(ctx, path)
		if err != nil {
			return err
		}
		shell = published.Resource
	}
	var err error
	if b.client, err = connect(ctx, net.Consumers[0].Home, b.node); err != nil {
		return err
	}
	b.want = sdk.DefaultWanted()
	b.want.Algorithm, b.want.Cap, b.want.Fresh = sdk.Content{Resource: shell}, 10*mman.MAN, true
	b.want.Limits = resources.DefaultLimits()
	b.want.Limits.WallMs = 3_600_000
	return nil
}

func (b *replBench) close() error {
	var errs []error
	if b.client != nil {
		errs = append(errs, b.client.Close())
	}
	if b.local != nil {
		errs = append(errs, b.local.Close())
	}
	return errors.Join(append(errs, b.node.Stop())...)
}

// conversation is one with a shell.
type conversation struct {
	io.Writer

	said  *io.PipeReader
	heard []byte // beyond what was waited for
	end   func(context.Context) error
}

// hear waits until the shell has said something.
func (c *conversation) hear(text string) error {
	b := make([]byte, 4<<10)
	for {
		if i := bytes.Index(c.heard, []byte(text)); i >= 0 {
			c.heard = c.heard[i+len(text):]
			return nil
		}
		n, err := c.said.Read(b)
		if c.heard = append(c.heard, b[:n]...); err != nil {
			return fmt.Errorf("wait for %q after %.200q: %w", text, c.heard, err)
		}
	}
}

// prompt is how a shell's prompt ends: after it busybox asks the terminal where its
// cursor is, and at the end of each line waits 20 ms for an answer that did not come.
const (
	prompt = "$ \x1b[6n"
	cursor = "\x1b[1;8R"
)

// trip types a line and waits for its answer, at a terminal that says where its cursor
// is.
func (c *conversation) trip(i int) (time.Duration, error) {
	if _, err := io.WriteString(c, cursor); err != nil {
		return 0, err
	}
	at := time.Now()
	if _, err := fmt.Fprintf(c, "echo $((%d+1))\r", i); err != nil {
		return 0, err
	}
	if err := c.hear("\n" + strconv.Itoa(i+1) + "\r\n"); err != nil {
		return 0, err
	}
	took := time.Since(at)
	return took, c.hear(prompt)
}

var screen = resources.Terminal{Columns: 80, Rows: 24, Plain: true} //nolint:gochecknoglobals // a constant

// engine starts a shell with nothing between.
func (b *replBench) engine(ctx context.Context) (*conversation, error) {
	stream, err := b.local.Bare(ctx, b.task, screen)
	if err != nil {
		return nil, err
	}
	said, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, stream)
		_ = w.CloseWithError(err) // always nil
	}()
	c := &conversation{Writer: stream, said: said, end: func(context.Context) error {
		_ = said.Close() // always nil
		return stream.Close()
	}}
	return c, c.hear(prompt)
}

// talk opens a session and begins a conversation in it. With other memory than
// usual there is no container that stands ready.
func (b *replBench) talk(ctx context.Context, lease *sdk.Lease, memory uint64) (*conversation, error) {
	s, err := b.client.Open(ctx, lease)
	if err != nil {
		return nil, err
	}
	desk := sdk.NewConsole(&screen)
	said, w := io.Pipe()
	limits := b.want.Limits
	limits.MemoryBytes = memory
	done := make(chan error, 1)
	var outcome sdk.Outcome
	go func() {
		var err error
		outcome, err = s.Run(ctx, sdk.Work{Console: desk, Idle: time.Hour, Limits: limits, Stdout: w, Stderr: w})
		_ = w.CloseWithError(errors.Join(err, io.EOF)) // always nil
		done <- err
	}()
	c := &conversation{Writer: desk, said: said, end: func(ctx context.Context) error {
		_, err := io.WriteString(desk, "exit 0\r")
		go func() { _, _ = io.Copy(io.Discard, said) }() // to its end
		if err = errors.Join(err, <-done); err != nil {
			return err
		}
		if outcome.Result.Code != 0 || outcome.Result.ExitCode != 0 {
			return fmt.Errorf("%w: a shell ended with code %d, exit code %d", mman.ErrInternal, outcome.Result.Code, outcome.Result.ExitCode)
		}
		return s.Close(ctx)
	}}
	return c, c.hear(prompt)
}

// stands waits until a container stands ready.
func (b *replBench) stands(ctx context.Context) error {
	for {
		n, err := container.CountReady(ctx, b.Engine, b.owner)
		if n > 0 || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: no container stands ready", mman.ErrCanceled)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// start times a conversation's way to its first prompt.
func start(ctx context.Context, begin func(context.Context) (*conversation, error)) (time.Duration, error) {
	at := time.Now()
	c, err := begin(ctx)
	if err != nil {
		return 0, err
	}
	took := time.Since(at)
	return took, c.end(ctx)
}

// prompts times first prompts, each in turns with the others.
func (b *replBench) prompts(ctx context.Context) (err error) {
	if b.lease, err = b.client.Lease(ctx, b.want); err != nil {
		return err
	}
	usual := b.want.Limits.MemoryBytes
	ways := map[string]func(context.Context) (*conversation, error){
		"engine": b.engine,
		"warm":   func(ctx context.Context) (*conversation, error) { return b.talk(ctx, b.lease, usual) },
		"cold":   func(ctx context.Context) (*conversation, error) { return b.talk(ctx, b.lease, usual/2) },
		"new_lease": func(ctx context.Context) (*conversation, error) {
			lease, err := b.client.Lease(ctx, b.want)
			if err != nil {
				return nil, err
			}
			return b.talk(ctx, lease, usual)
		},
	}
	times := map[string][]time.Duration{}
	for i := range b.Starts + 1 {
		for name, begin := range ways {
			if err := b.stands(ctx); err != nil {
				return err
			}
			took, err := start(ctx, begin)
			if err != nil {
				return fmt.Errorf("prompt, %s: %w", name, err)
			}
			if i > 0 { // the first loads images and makes connections
				times[name] = append(times[name], took)
			}
		}
	}
	own := quantile(times["engine"], 0.5)
	b.report.set("prompt_warm_p50", "ms", quantile(times["warm"], 0.5), own)
	b.report.set("prompt_warm_max", "ms", quantile(times["warm"], 1), own)
	b.report.set("prompt_cold_p50", "ms", quantile(times["cold"], 0.5), own)
	b.report.set("prompt_new_lease_p50", "ms", quantile(times["new_lease"], 0.5), own)
	return nil
}

// tripsEach is how many lines are timed in one pair of conversations: two containers of
// one sandbox differ by more than the network takes.
const tripsEach = 50

// trips times lines over the network and with the engine, in turns.
func (b *replBench) trips(ctx context.Context) error {
	var own, over []time.Duration
	for len(own) < b.Trips {
		if err := b.pair(ctx, min(tripsEach, b.Trips-len(own)), &own, &over); err != nil {
			return err
		}
	}
	p50 := quantile(own, 0.5)
	b.report.set("round_trip_p50", "ms", quantile(over, 0.5), p50)
	b.report.set("round_trip_p99", "ms", quantile(over, 0.99), quantile(own, 0.99))
	b.report.set("round_trip_above", "ms", quantile(over, 0.5)-p50, 0)
	return nil
}

// pair times n lines of a conversation with the engine and of one over the network.
func (b *replBench) pair(ctx context.Context, n int, own, over *[]time.Duration) error {
	near, err := b.engine(ctx)
	if err != nil {
		return err
	}
	far, err := b.talk(ctx, b.lease, b.want.Limits.MemoryBytes)
	if err != nil {
		return errors.Join(err, near.end(ctx))
	}
	for i := range n {
		for _, side := range []struct {
			c     *conversation
			times *[]time.Duration
		}{{near, own}, {far, over}} {
			took, err := side.c.trip(i)
			if err != nil {
				return errors.Join(err, near.end(ctx))
			}
			*side.times = append(*side.times, took)
		}
	}
	return errors.Join(near.end(ctx), far.end(ctx))
}

// crowd has many conversations at once.
func (b *replBench) crowd(ctx context.Context) error {
	leases := []*sdk.Lease{b.lease}
	for len(leases)*market.MaxLanes < b.Sessions {
		lease, err := b.client.Lease(ctx, b.want)
		if err != nil {
			return err
		}
		leases = append(leases, lease)
	}
	all, errs := make([]*conversation, b.Sessions), make([]error, b.Sessions)
	var wg sync.WaitGroup
	begun := time.Now()
	for i := range all {
		wg.Go(func() {
			all[i], errs[i] = b.talk(ctx, leases[i/market.MaxLanes], b.want.Limits.MemoryBytes)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	b.report.set("sessions_begun", "s", time.Since(begun).Seconds(), 0)
	var times []time.Duration
	for range 4 {
		for i, c := range all {
			took, err := c.trip(i)
			if err != nil {
				return err
			}
			times = append(times, took)
		}
	}
	b.report.set("sessions", "", float64(len(all)), 0)
	b.report.set("sessions_round_trip_p50", "ms", quantile(times, 0.5), 0)
	for i, c := range all {
		wg.Go(func() { errs[i] = c.end(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// cutOff takes the consumer off the network in the middle of a conversation that
// goes on saying something.
func (b *replBench) cutOff(ctx context.Context) error {
	if b.Cut == 0 {
		return nil
	}
	c, err := b.talk(ctx, b.lease, b.want.Limits.MemoryBytes)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(c, "i=0; while read -t 1 x; [ \"$x\" = '' ]; do i=$((i+1)); echo tick $i; done; echo got $x\r"); err != nil {
		return err
	}
	if err := c.hear("\ntick 1\r\n"); err != nil {
		return err
	}
	if err := b.client.Cut(ctx, true); err != nil {
		return err
	}
	back := time.After(b.Cut)
	if _, err := io.WriteString(c, "word\r"); err != nil { // typed without a network
		return err
	}
	select {
	case <-back:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", mman.ErrCanceled, context.Cause(ctx))
	}
	at := time.Now()
	if err := b.client.Cut(ctx, false); err != nil {
		return err
	}
	last := int(b.Cut / time.Second / 2)
	for i := 2; i <= last; i++ { // nothing is lost and nothing comes twice
		if err := c.hear("tick " + strconv.Itoa(i) + "\r\n"); err != nil {
			return err
		}
	}
	if err := c.hear("got word\r\n"); err != nil {
		return err
	}
	b.report.set("cut", "s", b.Cut.Seconds(), 0)
	b.report.set("cut_back", "ms", float64(time.Since(at).Microseconds())/1000, 0)
	return c.end(ctx)
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/internal/localnet"
	"github.com/limboid/massive-man/node/api"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/environment"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/sdk"
)

// EnvOptions size the benchmark of environments.
type EnvOptions struct {
	// Batches are the sizes of batches, 1 to environment.MaxBatch each.
	Batches []int
	// Calls is how many times a batch is stepped in a round, and Rounds how many rounds
	// there are, of which the median counts.
	Calls, Rounds int
	// Progress is told each figure as it is known; nil tells nobody.
	Progress func(string)
}

const envListing = `resource: {kind: compute, facet: wasm, name: bench}
policy: {default: allow}
price: {units: [{unit: steps, per: 1000, price: 1uman}]}
capacity: 64
`

// Env measures CartPole-v1 at a provider, a node of its own, from a consumer, this
// process, over TCP, every step paid. Metrics:
//
//	steps_N  steps a second of a batch of N environments that are stepped together; the
//	         reference is the same module in the same executor in this process, nothing
//	         paid, in turns with it
//	call_N   ms from N actions to their N observations, the median of a round
func Env(ctx context.Context, o EnvOptions) (_ *Report, err error) {
	wrong := func(n int) bool { return n < 1 || n > environment.MaxBatch }
	if len(o.Batches) == 0 || slices.ContainsFunc(o.Batches, wrong) || o.Calls < 1 || o.Rounds < 1 {
		return nil, fmt.Errorf("%w: bench env: batches are 1 to %d each, calls and rounds at least 1", mman.ErrInvalid, environment.MaxBatch)
	}
	dir, err := os.MkdirTemp("", "mman-bench-")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &envBench{EnvOptions: o, report: newReport("env")}
	b.report.told = o.Progress
	defer func() { err = errors.Join(err, b.close(context.WithoutCancel(ctx))) }()
	if err := b.start(ctx, dir); err != nil {
		return nil, err
	}
	for _, n := range o.Batches {
		if err := b.batch(ctx, n); err != nil {
			return nil, err
		}
	}
	return b.report, nil
}

type envBench struct {
	EnvOptions

	report  *Report
	node    *localnet.Process
	client  *sdk.Client
	session *sdk.Session
	local   *wasm.Executor
	limits  resources.Limits
}

func (b *envBench) start(ctx context.Context, dir string) error {
	net, runner, err := pairOf(ctx, dir, 0)
	if err != nil {
		return err
	}
	started, err := runner.StartAll(ctx, net.Validators, 1)
	if err != nil {
		return err
	}
	b.node = started[0]
	listing, module := filepath.Join(dir, "compute.yaml"), filepath.Join(dir, "cartpole.wasm")
	err = errors.Join(os.WriteFile(listing, []byte(envListing), 0o600), os.WriteFile(module, examples.CartPoleModule(), 0o600))
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	if _, err := api.NewClient(b.node.Running.API, b.node.Running.Token).Publish(ctx, listing); err != nil {
		return err
	}
	if b.client, err = connect(ctx, net.Consumers[0].Home, b.node); err != nil {
		return err
	}
	want := sdk.DefaultWanted()
	want.Environment, want.Cap = sdk.Content{File: module}, 10*mman.MAN
	want.Limits = resources.Limits{WallMs: 3_600_000, MemoryBytes: 64 << 20, InputBytes: 1 << 30, OutputBytes: 1 << 30, Fuel: 1 << 50}
	b.limits = want.Limits
	lease, err := b.client.Lease(ctx, want)
	if err != nil {
		return err
	}
	if b.session, err = b.client.Open(ctx, lease); err != nil {
		return err
	}
	b.local, err = wasm.New(wasm.Config{Clock: time.Now})
	return err
}

func (b *envBench) close(ctx context.Context) error {
	var errs []error
	if b.session != nil {
		errs = append(errs, b.session.Close(ctx))
	}
	if b.local != nil {
		errs = append(errs, b.local.Close())
	}
	if b.client != nil {
		errs = append(errs, b.client.Close())
	}
	if b.node != nil {
		errs = append(errs, b.node.Stop())
	}
	return errors.Join(errs...)
}

// stepper is an environment, near or far.
type stepper interface {
	Reset(ctx context.Context, r environment.Reset) (environment.Begun, error)
	Step(ctx context.Context, actions []float64) (environment.Moved, error)
}

// batch measures batches of n, far and near in turns.
func (b *envBench) batch(ctx context.Context, n int) error {
	var far, near, calls []float64
	for range b.Rounds {
		for _, side := range []struct {
			on    func(context.Context, func(stepper) error) error
			rates *[]float64
		}{{b.remote, &far}, {b.here, &near}} {
			err := side.on(ctx, func(s stepper) error {
				took, err := b.round(ctx, s, n)
				*side.rates = append(*side.rates, float64(n*b.Calls)/took.Seconds())
				return err
			})
			if err != nil {
				return fmt.Errorf("a batch of %d: %w", n, err)
			}
		}
		calls = append(calls, 1000*float64(n)/far[len(far)-1])
	}
	b.report.set("steps_"+strconv.Itoa(n), "1/s", middle(far), middle(near))
	b.report.set("call_"+strconv.Itoa(n), "ms", middle(calls), 0)
	return nil
}

func middle(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// round steps a batch so often, balancing as well as a coin does.
func (b *envBench) round(ctx context.Context, s stepper, n int) (time.Duration, error) {
	if _, err := s.Reset(ctx, environment.Reset{NumEnvs: n, Seeds: []uint64{42}}); err != nil {
		return 0, err
	}
	actions := make([]float64, n)
	begun := time.Now()
	for i := range b.Calls {
		for k := range actions {
			actions[k] = float64((i + k) % 2)
		}
		moved, err := s.Step(ctx, actions)
		if err != nil {
			return 0, err
		}
		if len(moved.Reward) != n {
			return 0, fmt.Errorf("%w: %d rewards for %d environments", mman.ErrContent, len(moved.Reward), n)
		}
	}
	return time.Since(begun), nil
}

// remote plays at the provider, and checks that each step is on the bill.
func (b *envBench) remote(ctx context.Context, play func(stepper) error) error {
	env, _, err := b.session.Environment(ctx, sdk.Work{Limits: b.limits})
	if err != nil {
		return err
	}
	err = play(env)
	outcome, cerr := env.Close(ctx)
	if err = errors.Join(err, cerr); err == nil && outcome.Usage.Steps%uint64(b.Calls) != 0 { //nolint:gosec // positive
		err = fmt.Errorf("%w: %d steps on the bill", mman.ErrContent, outcome.Usage.Steps)
	}
	return err
}

// requests are an environment's input in this process.
type requests struct{ io.Reader }

// Read waits for the next.
func (r requests) Read(_ context.Context, p []byte) (int, error) { return r.Reader.Read(p) }

// Ready says that nothing is known.
func (requests) Ready() bool { return false }

// here plays in this process.
func (b *envBench) here(ctx context.Context, play func(stepper) error) error {
	module := examples.CartPoleModule()
	prepared, err := b.local.Prepare(ctx, resources.Task{Algorithm: mman.SumCID(mman.CodecRaw, module), Environment: true, Limits: b.limits, Content: one{module}})
	if err != nil {
		return err
	}
	asked, typed := io.Pipe()
	client := environment.NewClient(typed)
	done := make(chan error, 1)
	go func() {
		_, err := b.local.Run(ctx, prepared, resources.IO{Stdin: requests{asked}, Stdout: client, Stderr: io.Discard})
		_ = asked.CloseWithError(io.ErrClosedPipe) // always nil
		client.End(err)
		done <- err
	}()
	if _, err = client.Spec(ctx); err == nil {
		err = play(client)
	}
	err = errors.Join(err, client.Close())
	_ = typed.Close() // always nil
	return errors.Join(err, <-done, prepared.Close())
}

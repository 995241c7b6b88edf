package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/localnet"
	"github.com/limboid/massive-man/node"
	"github.com/limboid/massive-man/node/api"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
	"github.com/limboid/massive-man/sdk"
)

// RequestOptions size the benchmark of requests.
type RequestOptions struct {
	Leases, Runs, Sessions int
	// Steady is how many runs follow, over the sessions, while memory is watched.
	Steady int
	// Progress is told each figure as it is known; nil tells nobody.
	Progress func(string)
}

// settleGap is more blocks than a benchmark takes: the lease's end settles.
const settleGap = 1_000_000

const listing = `resource: {kind: compute, facet: wasm, name: bench}
policy:
  default: allow
  limits: {network: none}
price:
  units:
    - {unit: calls, per: 1, price: 1uman}
    - {unit: wall_ms, per: 1000, price: 1uman}
capacity: 1024
`

// Request measures requests from a consumer, this process, to a provider, a
// node of its own, over TCP. Metrics, all times from request to result in hand:
//
//	new_lease_p50, new_lease_p99     on a lease that is requested for it
//	open_lease_p50, open_lease_p99   on a lease and session that are open
//	transactions                     of both sides in blocks meanwhile; the provider
//	                                 settles when the lease ends
//	requests_per_second              on one lease over several sessions
//	idle_rss, rss_after              MiB of the node before the first request and
//	                                 after the last, with the files that it maps
//	anon_quarter_1 to _4             what it had without them in each quarter of Steady
//	                                 more runs over the sessions, at the median
//	live_heap_quarter_1 to _4        what of its heap the last collection of garbage
//	                                 found in use, at the median of each of them
//	memory_growth                    anon_quarter_4 over anon_quarter_1
//	disk_per_run                     bytes by which its folder grew with one of them
//
// The reference of times and rates is the same module run locally by the same
// executor, that of memory is the earlier figure.
func Request(ctx context.Context, o RequestOptions) (_ *Report, err error) {
	if o.Leases < 1 || o.Runs < 1 || o.Sessions < 1 || o.Sessions > 16 || o.Steady < quarters*o.Sessions {
		return nil, fmt.Errorf("%w: bench request: leases and runs are at least 1, sessions 1 to 16, steady runs at least %d for each session", mman.ErrInvalid, quarters)
	}
	dir, err := os.MkdirTemp("", "mman-bench-")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b, err := newRequestBench(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, part := range []func(context.Context) error{b.idle, b.local, b.newLeases, b.openLease, b.throughput, b.steady, b.settled} {
		if err := part(ctx); err != nil {
			return nil, err
		}
	}
	return b.report, nil
}

type requestBench struct {
	RequestOptions

	report  *Report
	node    *localnet.Process
	client  *sdk.Client
	module  string
	want    sdk.Wanted
	lease   *sdk.Lease
	session *sdk.Session
	// sessions are all on the lease, session the first.
	sessions []*sdk.Session
	home     string        // of the node
	single   time.Duration // a local run's median
	rate     float64       // local runs a second
}

func newRequestBench(ctx context.Context, dir string, o RequestOptions) (*requestBench, error) {
	b := &requestBench{RequestOptions: o, report: newReport("request"), module: filepath.Join(dir, "hello.wasm")}
	b.report.told = o.Progress
	if err := os.WriteFile(b.module, hello(), 0o600); err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	net, runner, err := pairOf(ctx, dir, settleGap)
	if err != nil {
		return nil, err
	}
	started, err := runner.StartAll(ctx, net.Validators, 1)
	if err != nil {
		return nil, err
	}
	b.node, b.home = started[0], net.Validators[0].Home
	if err := b.connect(ctx, dir, net); err != nil {
		return nil, errors.Join(err, b.node.Stop())
	}
	return b, nil
}

// pairOf lays out one node, which is this program, and one consumer in a folder. The
// node settles after so many blocks, 0 for its default.
func pairOf(ctx context.Context, dir string, settle uint64) (*localnet.Net, localnet.Runner, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, localnet.Runner{}, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	runner := localnet.Runner{Program: program, Settle: settle}
	net, err := localnet.Layout(localnet.Spec{Dir: dir, Validators: 1, Consumers: []string{"consumer"}})
	if err != nil {
		return nil, runner, err
	}
	return net, runner, net.Assign(ctx, runner)
}

// connect connects the consumer of a home from this process through a node.
func connect(ctx context.Context, home string, through *localnet.Process) (*sdk.Client, error) {
	ring, err := node.OpenKeyring(home, true)
	if err != nil {
		return nil, err
	}
	key, err := ring.Get("me", nil)
	if err != nil {
		return nil, err
	}
	return sdk.Connect(ctx, sdk.Config{
		Node: through.Running.RPC, Peers: through.Running.Peers, Leases: filepath.Join(home, "leases"),
		Key: key, Lock: ring.Lock, Now: time.Now, After: time.After,
	})
}

func (b *requestBench) connect(ctx context.Context, dir string, net *localnet.Net) error {
	path := filepath.Join(dir, "compute.yaml")
	if err := os.WriteFile(path, []byte(listing), 0o600); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	if _, err := api.NewClient(b.node.Running.API, b.node.Running.Token).Publish(ctx, path); err != nil {
		return err
	}
	var err error
	b.client, err = connect(ctx, net.Consumers[0].Home, b.node)
	b.want = sdk.DefaultWanted()
	b.want.Algorithm, b.want.Cap, b.want.Fresh = sdk.Content{File: b.module}, 10*mman.MAN, true
	b.want.Limits = resources.Limits{WallMs: 10_000, MemoryBytes: 16 << 20, InputBytes: 1 << 20, OutputBytes: 1 << 20, Fuel: 1_000_000_000}
	return err
}

func (b *requestBench) close() error { return errors.Join(b.client.Close(), b.node.Stop()) }

func (b *requestBench) idle(context.Context) error {
	mib, err := residentMiB(b.node.PID())
	b.report.set("idle_rss", "MiB", mib, 0)
	return err
}

// local runs the module with the same executor in this process.
func (b *requestBench) local(ctx context.Context) error {
	e, err := wasm.New(wasm.Config{Clock: time.Now})
	if err != nil {
		return err
	}
	defer e.Close() //nolint:errcheck // nothing runs any more
	task := resources.Task{Algorithm: mman.SumCID(mman.CodecRaw, hello()), Limits: b.want.Limits, Content: contents{}}
	times := make([]time.Duration, b.Runs)
	begun := time.Now()
	for i := range times {
		at := time.Now()
		p, err := e.Prepare(ctx, task)
		if err != nil {
			return err
		}
		var out bytes.Buffer
		if _, err := e.Run(ctx, p, resources.IO{Stdout: &out, Stderr: &out}); err != nil {
			return err
		}
		if err := p.Close(); err != nil {
			return err
		}
		times[i] = time.Since(at)
	}
	b.rate = float64(b.Runs) / time.Since(begun).Seconds()
	b.single = time.Duration(quantile(times, 0.5) * float64(time.Millisecond))
	return nil
}

// newLeases times a request from nothing to a result, each on a lease of its
// own.
func (b *requestBench) newLeases(ctx context.Context) error {
	times := make([]time.Duration, b.Leases)
	for i := range times {
		at := time.Now()
		lease, session, err := b.open(ctx)
		if err != nil {
			return err
		}
		if err := b.run(ctx, session); err != nil {
			return err
		}
		times[i] = time.Since(at)
		if i == len(times)-1 {
			b.lease, b.session = lease, session
			continue
		}
		if _, err := session.Settle(ctx); err != nil {
			return err
		}
	}
	local := float64(b.single.Microseconds()) / 1000
	b.report.set("new_lease_p50", "ms", quantile(times, 0.5), local)
	b.report.set("new_lease_p99", "ms", quantile(times, 0.99), local)
	return nil
}

func (b *requestBench) open(ctx context.Context) (*sdk.Lease, *sdk.Session, error) {
	lease, err := b.client.Lease(ctx, b.want)
	if err != nil {
		return nil, nil, err
	}
	session, err := b.client.Open(ctx, lease)
	return lease, session, err
}

// run does one run and checks its output.
func (b *requestBench) run(ctx context.Context, s *sdk.Session) error {
	var out, errs bytes.Buffer
	got, err := s.Run(ctx, sdk.Work{Stdout: &out, Stderr: &errs})
	if err != nil {
		return err
	}
	if want := sha256.Sum256(out.Bytes()); got.SHA256 != mman.Hash(want) || out.String() != greeting {
		return fmt.Errorf("%w: the run wrote %q", mman.ErrContent, out.String())
	}
	return nil
}

func (b *requestBench) openLease(ctx context.Context) error {
	before, err := b.transactions(ctx)
	if err != nil {
		return err
	}
	times := make([]time.Duration, b.Runs)
	for i := range times {
		at := time.Now()
		if err := b.run(ctx, b.session); err != nil {
			return err
		}
		times[i] = time.Since(at)
	}
	local := float64(b.single.Microseconds()) / 1000
	b.report.set("open_lease_p50", "ms", quantile(times, 0.5), local)
	b.report.set("open_lease_p99", "ms", quantile(times, 0.99), local)
	after, err := b.transactions(ctx)
	b.report.set("transactions", "", float64(after-before), 0)
	return err
}

// transactions returns how many the two sides have had in blocks.
func (b *requestBench) transactions(ctx context.Context) (n uint64, err error) {
	lease := b.lease.Lease
	for _, side := range []mman.Address{lease.Consumer, lease.Compute().Provider} {
		account, err := b.client.Chain().Account(ctx, side)
		if err != nil {
			return 0, err
		}
		n += account.Sequence
	}
	return n, nil
}

// liveHeap asks the node how much of its heap is in use, in MiB.
func (b *requestBench) liveHeap(ctx context.Context) (mib float64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.node.Running.API+"/metrics", nil)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", mman.ErrUnreachable, err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "mman_live_heap_bytes{"); ok {
			_, value, _ := strings.Cut(rest, "} ")
			used, err := strconv.ParseFloat(value, 64)
			return used / (1 << 20), err
		}
	}
	return 0, errors.Join(lines.Err(), fmt.Errorf("%w: the node does not tell its live heap", mman.ErrNotFound))
}

// throughput counts runs a second over several sessions of the one lease.
func (b *requestBench) throughput(ctx context.Context) error {
	b.sessions = []*sdk.Session{b.session}
	for len(b.sessions) < b.Sessions {
		s, err := b.client.Open(ctx, b.lease)
		if err != nil {
			return err
		}
		b.sessions = append(b.sessions, s)
	}
	begun := time.Now()
	if err := b.together(ctx, b.Runs/b.Sessions); err != nil {
		return err
	}
	b.report.set("requests_per_second", "1/s", float64(b.Runs/b.Sessions*b.Sessions)/time.Since(begun).Seconds(), b.rate)
	return nil
}

// together does so many runs on each session, all sessions at one time.
func (b *requestBench) together(ctx context.Context, runs int) error {
	errs := make([]error, len(b.sessions))
	var wg sync.WaitGroup
	for i, s := range b.sessions {
		wg.Go(func() {
			for range runs {
				if errs[i] = b.run(ctx, s); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

const (
	quarters = 4
	// samples is how often memory is looked at in a quarter.
	samples = 25
)

// steady watches the node's memory while it does the same all the time.
func (b *requestBench) steady(ctx context.Context) error {
	before, err := folderBytes(b.home)
	if err != nil {
		return err
	}
	var first, lastAnon, lastLive float64
	done := 0
	for quarter := 1; quarter <= quarters; quarter++ {
		var anons, lives []float64
		for sample := 1; sample <= samples; sample++ {
			upTo := b.Steady / b.Sessions * ((quarter-1)*samples + sample) / (quarters * samples)
			if err := b.together(ctx, upTo-done); err != nil {
				return err
			}
			done = upTo
			used, err := b.liveHeap(ctx)
			if err != nil {
				return err
			}
			anons, lives = append(anons, anonymousMiB(b.node.PID())), append(lives, used)
		}
		anon, live := median(anons), median(lives)
		b.report.set(fmt.Sprintf("anon_quarter_%d", quarter), "MiB", anon, lastAnon)
		b.report.set(fmt.Sprintf("live_heap_quarter_%d", quarter), "MiB", live, lastLive)
		if quarter == 1 {
			first = anon
		}
		lastAnon, lastLive = anon, live
	}
	if first > 0 { // where the system tells it
		b.report.set("memory_growth", "ratio", lastAnon/first, 1)
	}
	after, err := folderBytes(b.home)
	b.report.set("disk_per_run", "B", float64(after-before)/float64(done*b.Sessions), 0)
	return err
}

// settled ends the lease and compares the sum on the chain with the receipts.
func (b *requestBench) settled(ctx context.Context) error {
	paid, err := b.lease.Paid()
	if err != nil {
		return err
	}
	for _, s := range b.sessions[1:] {
		if err := s.Close(ctx); err != nil {
			return err
		}
	}
	if _, err := b.session.Settle(ctx); err != nil {
		return err
	}
	onChain, err := b.client.Chain().Lease(ctx, b.lease.Lease.ID)
	if err != nil {
		return err
	}
	if onChain.Paid != paid {
		return fmt.Errorf("%w: the receipts sum to %s, the chain paid %s", mman.ErrInvariant, paid, onChain.Paid)
	}
	supply, err := b.client.Chain().Supply(ctx)
	if err != nil {
		return err
	}
	if !supply.Conserved() {
		return fmt.Errorf("%w: %+v", mman.ErrInvariant, supply)
	}
	mib, err := residentMiB(b.node.PID())
	if err != nil {
		return err
	}
	b.report.set("rss_after", "MiB", mib, b.report.Metrics["idle_rss"].Value)
	return nil
}

// greeting is what the trivial module writes.
const greeting = "hello\n"

// hello is the smallest command that writes something.
func hello() []byte {
	const text, list = 16, 0
	b := &wasmtest.Builder{MinPages: 1}
	write := b.ImportWASI("fd_write", 4)
	b.Data(text, []byte(greeting))
	b.Data(list, binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, text), uint32(len(greeting))))
	return b.Command(0, wasmtest.CallWASI(write, 1, list, 1, 8))
}

// contents holds the module for local runs.
type contents struct{}

func (contents) Open(context.Context, mman.CID) (resources.Blob, error) {
	return blob{bytes.NewReader(hello())}, nil
}

type blob struct{ *bytes.Reader }

func (blob) Close() error { return nil }

func (b blob) Size() uint64 { return uint64(b.Len()) } //nolint:gosec // a length

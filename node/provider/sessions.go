package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"sync"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/node/store"
	"github.com/limboid/massive-man/node/worker"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
)

// expiryMargin is the number of blocks before a lease's expiry at which no new
// session or run begins, so that its receipts can still be settled.
const expiryMargin = 2

// Open admits a session; see session.Provider.
func (p *Provider) Open(ctx context.Context, hello session.Hello) (session.Work, session.Accept, error) {
	if p.isDraining() && hello.Resume == nil {
		return nil, session.Accept{}, errDraining()
	}
	lease, err := p.admit(hello)
	if err != nil {
		if lease.ID != (mman.LeaseID{}) {
			p.refused(ctx, AccessRun, lease, hello.Consumer, err)
		}
		p.log.LogAttrs(ctx, slog.LevelDebug, "session refused", slog.String("lease", hello.Lease.String()), slog.Any("error", err))
		return nil, session.Accept{}, err
	}
	account := p.book.account(lease.ID)
	if err := account.take(hello.Lane); err != nil {
		return nil, session.Accept{}, err
	}
	v := &visit{p: p, lease: lease, account: account, lane: hello.Lane}
	if v.guard, err = p.guard(lease); err == nil {
		err = p.resume(lease, account, hello)
	}
	if err != nil {
		v.Close()
		return nil, session.Accept{}, err
	}
	rec := account.snapshot(hello.Lane)
	accept, err := session.Accept{Lease: lease.ID, Lane: hello.Lane, Nonce: hello.Nonce, Issued: rec.Issued}.Sign(p.cfg.ChainID, p.host)
	if err != nil {
		v.Close()
		return nil, session.Accept{}, err
	}
	p.log.LogAttrs(ctx, slog.LevelDebug, "session open", slog.String("lease", lease.ID.String()), slog.Uint64("lane", hello.Lane))
	return v, accept, nil
}

// resume brings the lane to where the consumer left it.
func (p *Provider) resume(lease market.Lease, account *account, hello session.Hello) error {
	if hello.Last != nil {
		if err := p.book.receive(p.cfg.ChainID, lease, account, hello.Lane, *hello.Last); err != nil {
			return err
		}
	}
	return p.book.forgive(account, hello.Lane)
}

// admit decides from this node's own state whether the hello may use its lease
// here and now. A lease that is refused is returned when its consumer asked.
func (p *Provider) admit(hello session.Hello) (market.Lease, error) {
	refuse := func(e *mman.Error, format string, args ...any) (market.Lease, error) {
		return market.Lease{}, fmt.Errorf("lease %s: %w: %s", hello.Lease, e, fmt.Sprintf(format, args...))
	}
	lease, err := p.ledger.Lease(hello.Lease)
	if notFound(err) {
		return refuse(mman.ErrLeaseUnknown, "this node is at height %d", p.ledger.Height())
	}
	if err != nil {
		return market.Lease{}, err
	}
	if err := hello.Verify(p.cfg.ChainID, lease.LeaseKey); err != nil {
		return market.Lease{}, err
	}
	if lease.Compute().Peer != p.peer || hello.Provider != p.peer {
		return refuse(mman.ErrNotYourLease, "its compute is at peer %s, this is %s", lease.Compute().Peer, p.peer)
	}
	if compute := lease.Compute(); compute.Meter != p.meters[compute.Facet] {
		return refuse(mman.ErrUnsupported, "its runs are counted with version %d of the meter, this node has %d", compute.Meter, p.meters[compute.Facet])
	}
	if err := p.usable(lease); err != nil {
		return lease, err
	}
	if h, ok := p.holdings.get(lease.Compute().Resource); ok {
		if err := p.capable(h.Kind, h.Facet, h.Attributes); err != nil {
			return lease, fmt.Errorf("lease %s: %w", lease.ID, err)
		}
	}
	return lease, p.decide(lease)
}

func (p *Provider) usable(lease market.Lease) error {
	if height := p.ledger.Height(); lease.State != market.LeaseOpen || height+expiryMargin >= lease.Expires {
		return fmt.Errorf("lease %s: %w: it is %s and expires at height %d, the height is %d", lease.ID, mman.ErrLeaseState, lease.State, lease.Expires, height)
	}
	return nil
}

// visit is one session's work at the provider; see session.Work.
type visit struct {
	p       *Provider
	lease   market.Lease
	account *account
	lane    uint64
	guard   guard
	closed  sync.Once

	// standing is the lease as it stood at a height; Missing alone uses it.
	standing market.Lease
	height   uint64

	mu   sync.Mutex
	till *till // of the interactive run under way
}

func (v *visit) setTill(t *till) {
	v.account.payAhead(v.lane, t != nil)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.till = t
}

// Close gives the lane back.
func (v *visit) Close() { v.closed.Do(func() { v.account.release(v.lane) }) }

// Receipt takes the payer's signature.
func (v *visit) Receipt(_ context.Context, r market.Signed) error {
	if err := v.p.book.receive(v.p.cfg.ChainID, v.lease, v.account, v.lane, r); err != nil {
		return err
	}
	v.mu.Lock()
	t := v.till
	v.mu.Unlock()
	if t != nil {
		t.received(v.account.snapshot(v.lane).Paid)
	}
	return nil
}

// Resume lets a consumer come back to its interactive run. Its last receipt may
// not have arrived.
func (v *visit) Resume(ctx context.Context, hello session.Hello) (session.Accept, error) {
	if err := hello.Verify(v.p.cfg.ChainID, v.lease.LeaseKey); err != nil {
		return session.Accept{}, err
	}
	if hello.Provider != v.p.peer {
		return session.Accept{}, fmt.Errorf("lease %s: %w: the hello is for peer %s, this is %s", hello.Lease, mman.ErrNotYourLease, hello.Provider, v.p.peer)
	}
	if hello.Last != nil {
		if err := v.Receipt(ctx, *hello.Last); err != nil {
			return session.Accept{}, err
		}
	}
	rec := v.account.snapshot(v.lane)
	return session.Accept{Lease: v.lease.ID, Lane: v.lane, Nonce: hello.Nonce, Issued: rec.Issued}.Sign(v.p.cfg.ChainID, v.p.host)
}

// usable reports why the lease can have no run now. It is read once a block.
func (v *visit) usable() error {
	// A block may be committed in between: then the lease is read again.
	if height := v.p.ledger.Height(); v.height != height {
		lease, err := v.p.ledger.Lease(v.lease.ID)
		if err != nil {
			return err
		}
		v.standing, v.height = lease, height
	}
	return v.p.usable(v.standing)
}

// Missing refuses the run or says what must be supplied for it.
func (v *visit) Missing(ctx context.Context, run session.Run) ([]mman.CID, error) {
	if err := v.usable(); err != nil {
		return nil, err
	}
	if err := v.framable(run); err != nil {
		return nil, err
	}
	if isEnvironment(v.lease) && !run.Interactive {
		return nil, fmt.Errorf("lease %s: %w: its algorithm is an environment, which is reset and stepped while it runs: use mman request env", v.lease.ID, mman.ErrUnsupported)
	}
	err := v.releasable(run)
	if err == nil {
		err = v.allowed(run.Number)
	}
	if err != nil {
		v.p.refused(ctx, AccessRun, v.lease, mman.PeerID{}, err)
		return nil, err
	}
	if err := v.metered(); err != nil {
		return nil, err
	}
	rec := v.account.snapshot(v.lane)
	if rec.unpaid() {
		return nil, fmt.Errorf("lease %s: %w: statement %d has no receipt", v.lease.ID, mman.ErrUnpaid, rec.Issued)
	}
	if run.Number <= rec.Run && !v.p.off.replay {
		return nil, fmt.Errorf("lease %s: %w: run %d was already carried out on lane %d", v.lease.ID, mman.ErrProtocol, run.Number, v.lane)
	}
	// From here on the lease has contents on disk; the record of the lane sees to
	// it that they are dropped one day, even after a crash.
	if err := v.p.book.note(v.account, v.lane); err != nil {
		return nil, err
	}
	return v.p.contents(v.lease).missing(ctx, run)
}

// framable refuses a terminal and files where there are none: containers have both,
// WebAssembly has files.
func (v *visit) framable(run session.Run) error {
	facet := v.lease.Compute().Facet
	switch {
	case !run.Framed, facet == resources.FacetContainer:
		return nil
	case facet == resources.FacetWasm && run.Terminal == nil && !isEnvironment(v.lease):
		return nil
	default:
		return fmt.Errorf("lease %s: %w: it runs in %s, which has no terminals, and files only in conversations with WebAssembly", v.lease.ID, mman.ErrUnsupported, facet)
	}
}

// Supply stores a content that the consumer brings.
func (v *visit) Supply(ctx context.Context, id mman.CID, size uint64, r io.Reader) error {
	return v.p.contents(v.lease).supply(ctx, id, size, r)
}

// Run carries out a run and states what it cost.
func (v *visit) Run(ctx context.Context, run session.Run, in resources.Input, out session.Output) (market.Signed, error) {
	base := v.account.snapshot(v.lane).Receipted
	limits, err := v.roomy(run.Limits.Tighten(v.lease.Limits))
	if err != nil {
		return market.Signed{}, err
	}
	if !run.Interactive { // what is paid ahead bounds itself
		limits, err = v.affordable(base, limits)
	}
	if err != nil {
		return market.Signed{}, err
	}
	defer v.account.settleUp(v.lane)
	work, err := run.Work(v.lease.ID)
	if err != nil {
		return market.Signed{}, err
	}
	contents := v.p.contents(v.lease)
	if err := contents.inline(ctx, run); err != nil {
		return market.Signed{}, err
	}
	ctx, under, err := v.p.begin(ctx, v, run)
	if err != nil {
		return market.Signed{}, err
	}
	defer v.p.end(ctx, under)
	task, err := contents.task(ctx, run, limits)
	if err != nil {
		return market.Signed{}, err
	}
	bill := bill{v, base, work, limits}
	if outlet, guarded := v.lease.Outlet(); guarded {
		return v.release(ctx, run, task, outlet, bill, contents, out)
	}
	watch, err := v.watch(run.Number)
	if err != nil {
		return market.Signed{}, err
	}
	log, err := v.begun(run.Number, resources.Outlet{})
	if err != nil {
		return market.Signed{}, err
	}
	job := worker.Job{
		Facet: v.lease.Compute().Facet, Task: task, Keep: contents.keep,
		Stdout: watch.pass(out.Stdout), Stderr: watch.pass(out.Stderr),
		Framed: run.Framed, Terminal: run.Terminal, Aside: watch.pass(out.Aside),
	}
	if isEndpoint(v.lease) {
		job.Keep = sum
	}
	if run.Service != nil {
		job.Keep, job.Notices, job.Door = sum, under, v.door
	}
	ctx, stop, err := bill.follow(ctx, in, out, &job)
	if err != nil {
		return market.Signed{}, err
	}
	done, err := v.p.worker.Run(ctx, job)
	stop()
	if lerr := errors.Join(watch.end(), log.over(done, watch.released(), err)); lerr != nil {
		return market.Signed{}, errors.Join(err, lerr)
	}
	if err != nil && (isEndpoint(v.lease) || run.Interactive) { // something was paid ahead
		done, err = v.declined(ctx, done, base, err, watch.released(), job.Keep, out)
	}
	if errors.Is(err, mman.ErrPolicy) {
		return market.Signed{}, errors.Join(err, v.denied(watch.released()))
	}
	if err == nil && isEndpoint(v.lease) {
		done.Usage, err = bill.payable(bill.within(done.Usage), v.stated(base))
	}
	if err != nil {
		return market.Signed{}, errors.Join(err, v.flush())
	}
	return bill.state(done.Usage, &market.RunResult{
		Run: run.Number, Algorithm: task.Algorithm, Code: done.Code, ExitCode: done.ExitCode,
		Output: done.Output, OutputBytes: done.OutputBytes,
	})
}

// Settle ends the lease on the chain.
func (v *visit) Settle(ctx context.Context) (mman.Hash, error) {
	return v.p.settleAndClose(ctx, v.lease)
}

// leaseBytes is the most that one lease may have stored here.
func (p *Provider) leaseBytes() uint64 {
	if p.off.stored {
		return math.MaxUint64
	}
	return p.cfg.LeaseBytes
}

// roomy tightens the limits to what the lease may still store here.
func (v *visit) roomy(limits resources.Limits) (resources.Limits, error) {
	room := v.account.roomFor(v.p.leaseBytes())
	if room == 0 {
		return limits, fmt.Errorf("lease %s: %w: it has stored the %d bytes here that it may; ask for a new lease", v.lease.ID, mman.ErrTooLarge, v.p.cfg.LeaseBytes)
	}
	limits.OutputBytes = min(limits.OutputBytes, room)
	return limits, nil
}

// affordable tightens the limits so that the run cannot cost more than is left
// of the lease's cap, and reserves that: first nothing, when the whole run fits;
// otherwise the fuel, if that has a price, or else the wall time.
func (v *visit) affordable(base resources.Usage, limits resources.Limits) (resources.Limits, error) {
	err := v.account.reserve(v.lane, func(others mman.Amount) (mman.Amount, error) {
		left := v.lease.Cap - min(v.lease.Cap, others)
		cost := func(wallMs, fuel uint64) (mman.Amount, bool, error) {
			usage, err := base.Add(resources.Usage{Fuel: fuel, WallMs: wallMs, CPUMs: wallMs * resources.ContainerCPUs, MemoryMs: wallMs * limits.Mebibytes(), InBytes: limits.InputBytes, OutBytes: limits.OutputBytes, CallCount: 1})
			if err != nil {
				return 0, false, err
			}
			gross, err := v.lease.Gross(v.lane, usage)
			if errors.Is(err, mman.ErrOverflow) {
				return 0, false, nil // more than all the money there is
			}
			return gross, gross <= left, err
		}
		most, ok, err := cost(limits.WallMs, limits.Fuel)
		if ok || err != nil {
			return most, err
		}
		bound := &limits.WallMs
		if v.lease.Compute().Price.Asks(resources.UnitFuel) {
			bound = &limits.Fuel
		}
		low, high := uint64(0), *bound // low fits but for 0, high does not
		for high-low > 1 {
			*bound = low + (high-low)/2
			gross, ok, err := cost(limits.WallMs, limits.Fuel)
			if err != nil {
				return 0, err
			}
			if ok {
				low, most = *bound, gross
			} else {
				high = *bound
			}
		}
		if *bound = low; low == 0 {
			return 0, fmt.Errorf("lease %s: %w: the %s left of its cap of %s do not pay for %d bytes in, %d bytes out and a moment of work; ask for lower limits or a new lease with a higher --max", v.lease.ID, mman.ErrCapExceeded, left, v.lease.Cap, limits.InputBytes, limits.OutputBytes)
		}
		return most, nil
	})
	return limits, err
}

// follow lets the bill be stated while the job goes on, until stop; an
// interactive run is paid ahead.
func (b bill) follow(ctx context.Context, in resources.Input, out session.Output, job *worker.Job) (_ context.Context, stop func(), err error) {
	if in == nil {
		progress := b.progress(ctx, out)
		job.Progress = progress.report
		return ctx, progress.stop, nil
	}
	ctx, t, err := b.v.openTill(ctx, b, out)
	if err != nil {
		return nil, nil, err
	}
	job.Stdin, job.Credit, job.Progress = in, t, t.report
	return ctx, func() {
		t.close()
		b.v.setTill(nil)
	}, nil
}

// bill is the account of one run.
type bill struct {
	v      *visit
	base   resources.Usage // of the lane before the run
	work   mman.Hash
	limits resources.Limits
}

// within bounds a usage by the run's limits: nothing is charged beyond them,
// whatever the executor needed to stop.
func (b bill) within(used resources.Usage) resources.Usage {
	used.WallMs = min(used.WallMs, b.limits.WallMs)
	used.CPUMs = min(used.CPUMs, used.WallMs*resources.ContainerCPUs)
	used.MemoryMs = min(used.MemoryMs, used.WallMs*b.limits.Mebibytes())
	used.Fuel = min(used.Fuel, b.limits.Fuel)
	used.InBytes = min(used.InBytes, b.limits.InputBytes)
	used.OutBytes = min(used.OutBytes, b.limits.OutputBytes)
	return used
}

// total is the lane's usage with the run's.
func (b bill) total(used resources.Usage) (resources.Usage, error) { return b.base.Add(b.within(used)) }

// state issues the next Statement: on disk first, then to the caller.
func (b bill) state(used resources.Usage, result *market.RunResult) (signed market.Signed, err error) {
	v := b.v
	used = b.within(used)
	usage, err := b.base.Add(used)
	if err != nil {
		return signed, err
	}
	factors, err := v.lease.Factors(v.lane)
	if err != nil {
		return signed, err
	}
	gross, err := factors.Gross(usage)
	if err != nil {
		return signed, err
	}
	return signed, v.p.book.update(v.account, v.lane, func(rec *laneRecord, batch *store.Batch) (bool, error) {
		if result == nil && len(rec.Open) >= maxOpen {
			return false, fmt.Errorf("%w: %d statements have no receipt", mman.ErrUnpaid, len(rec.Open))
		}
		st := market.Statement{Version: 1, Lease: v.lease.ID, Lane: v.lane, Seq: rec.Issued + 1, Usage: usage, Gross: gross, Factors: factors, Work: b.work, Decisions: rec.Log.Head(), Result: result}
		var id mman.CID
		var err error
		if signed, id, err = market.SignStatement(v.p.cfg.ChainID, st, v.p.host); err != nil {
			return false, err
		}
		rec.Issued = st.Seq
		rec.Open = append(slices.Clip(rec.Open), stated{st.Seq, id, usage, gross, result != nil})
		if result == nil {
			return true, nil
		}
		rec.Run = result.Run
		if rec.Used, err = rec.Used.Add(used); err != nil || isEndpoint(v.lease) {
			return err == nil, err
		}
		return true, batch.Set(outputKey(v.lease.ID, result.Output), nil)
	})
}

// progressMs is how often a long run states what it has cost so far, in ms of
// its own time.
const progressMs = 1000

// progress turns an executor's reports into statements without making it wait.
type progress struct {
	latest    chan resources.Usage
	over, end chan struct{}
}

func (b bill) progress(ctx context.Context, out session.Output) *progress {
	g := &progress{make(chan resources.Usage, 1), make(chan struct{}), make(chan struct{})}
	go func() {
		defer close(g.end)
		said := uint64(0)
		for {
			select {
			case <-g.over:
				return
			case used := <-g.latest:
				if used.WallMs < said+progressMs {
					continue
				}
				said = used.WallMs
				st, err := b.state(used, nil)
				if err == nil {
					err = out.Statement(st)
				}
				if err != nil {
					b.v.p.log.LogAttrs(ctx, slog.LevelDebug, "progress not stated", slog.String("lease", b.v.lease.ID.String()), slog.Any("error", err))
				}
			}
		}
	}()
	return g
}

// report offers a usage; an older one that nobody took yet is dropped.
func (g *progress) report(u resources.Usage) {
	select {
	case <-g.latest:
	default:
	}
	select {
	case g.latest <- u:
	default:
	}
}

// stop returns when nothing more will be stated.
func (g *progress) stop() {
	close(g.over)
	<-g.end
}

package provider

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/node/worker"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
)

// expiryMargin is the number of blocks before a lease's expiry at which no new
// session or run begins, so that its receipts can still be settled.
const expiryMargin = 2

// Open admits a session; see session.Provider.
func (p *Provider) Open(ctx context.Context, hello session.Hello) (session.Work, session.Accept, error) {
	lease, err := p.admit(hello)
	if err != nil {
		p.log.LogAttrs(ctx, slog.LevelDebug, "session refused", slog.String("lease", hello.Lease.String()), slog.Any("error", err))
		return nil, session.Accept{}, err
	}
	account := p.book.account(lease.ID)
	if err := account.take(hello.Lane); err != nil {
		return nil, session.Accept{}, err
	}
	v := &visit{p: p, lease: lease, account: account, lane: hello.Lane}
	if hello.Last != nil {
		if err := p.book.receive(p.cfg.ChainID, lease, account, hello.Lane, *hello.Last); err != nil {
			v.Close()
			return nil, session.Accept{}, err
		}
	}
	rec := account.snapshot(hello.Lane)
	v.issued = rec.Seq
	accept, err := session.Accept{Lease: lease.ID, Lane: hello.Lane, Nonce: hello.Nonce, Issued: rec.Issued}.Sign(p.cfg.ChainID, p.host)
	if err != nil {
		v.Close()
		return nil, session.Accept{}, err
	}
	p.log.LogAttrs(ctx, slog.LevelDebug, "session open", slog.String("lease", lease.ID.String()), slog.Uint64("lane", hello.Lane))
	return v, accept, nil
}

// admit decides from this node's own state whether the hello may use its lease
// here and now.
func (p *Provider) admit(hello session.Hello) (market.Lease, error) {
	refuse := func(e *mman.Error, format string, args ...any) (market.Lease, error) {
		return market.Lease{}, fmt.Errorf("lease %s: %w: %s", hello.Lease, e, fmt.Sprintf(format, args...))
	}
	lease, err := p.ledger.Lease(hello.Lease)
	if err != nil {
		return refuse(mman.ErrLeaseUnknown, "this node is at height %d", p.ledger.Height())
	}
	if err := hello.Verify(p.cfg.ChainID, lease.LeaseKey); err != nil {
		return market.Lease{}, err
	}
	if lease.Compute().Peer != p.peer || hello.Provider != p.peer {
		return refuse(mman.ErrNotYourLease, "its compute is at peer %s, this is %s", lease.Compute().Peer, p.peer)
	}
	if err := p.usable(lease); err != nil {
		return market.Lease{}, err
	}
	return lease, p.decide(lease)
}

func (p *Provider) usable(lease market.Lease) error {
	if height := p.ledger.Height(); lease.State != market.LeaseOpen || height+expiryMargin >= lease.Expires {
		return fmt.Errorf("lease %s: %w: it is %s and expires at height %d, the height is %d", lease.ID, mman.ErrLeaseState, lease.State, lease.Expires, height)
	}
	return nil
}

// decide evaluates the whole policy of each of this node's own legs again.
func (p *Provider) decide(lease market.Lease) error {
	for _, leg := range lease.Legs {
		if leg.Supplied || leg.Peer != p.peer {
			continue
		}
		offer, err := p.ledger.Offer(leg.Offer)
		if err != nil {
			continue // renewed or withdrawn since: the lease keeps the terms that it was made under
		}
		// The lease itself is among the open ones: their number was decided
		// when it was matched.
		answer := offer.Policy.Decide(policy.Context{Consumer: lease.Consumer, Algorithm: lease.Algorithm().Resource})
		if !answer.Allowed() {
			return fmt.Errorf("lease %s: %w: rule %q of the %s's policy", lease.ID, mman.ErrPolicy, answer.Rule, leg.Role)
		}
	}
	return nil
}

// visit is one session's work at the provider; see session.Work.
type visit struct {
	p       *Provider
	lease   market.Lease
	account *account
	lane    uint64
	closed  sync.Once

	mu     sync.Mutex
	issued uint64 // the latest statement of this session
}

// Close gives the lane back.
func (v *visit) Close() { v.closed.Do(func() { v.account.release(v.lane) }) }

// Receipt takes the payer's signature.
func (v *visit) Receipt(_ context.Context, r market.Signed) error {
	return v.p.book.receive(v.p.cfg.ChainID, v.lease, v.account, v.lane, r)
}

// Missing refuses the run or says what must be supplied for it.
func (v *visit) Missing(ctx context.Context, run session.Run) ([]mman.CID, error) {
	lease, err := v.p.ledger.Lease(v.lease.ID)
	if err != nil {
		return nil, err
	}
	if err := v.p.usable(lease); err != nil {
		return nil, err
	}
	rec := v.account.snapshot(v.lane)
	v.mu.Lock()
	issued := v.issued
	v.mu.Unlock()
	if rec.Seq < issued {
		return nil, fmt.Errorf("lease %s: %w: statement %d has no receipt", v.lease.ID, mman.ErrUnpaid, issued)
	}
	if run.Number <= rec.Run {
		return nil, fmt.Errorf("lease %s: %w: run %d was already asked for on lane %d", v.lease.ID, mman.ErrProtocol, run.Number, v.lane)
	}
	return v.p.contents(v.lease).missing(ctx, run)
}

// Supply stores a content that the consumer brings.
func (v *visit) Supply(ctx context.Context, id mman.CID, size uint64, r io.Reader) error {
	return v.p.contents(v.lease).supply(ctx, id, size, r)
}

// Run carries out a run and states what it cost.
func (v *visit) Run(ctx context.Context, run session.Run, out session.Output) (market.Signed, error) {
	limits, err := v.affordable(run.Limits.Tighten(v.lease.Limits))
	if err != nil {
		return market.Signed{}, err
	}
	work, err := run.Work(v.lease.ID)
	if err != nil {
		return market.Signed{}, err
	}
	contents := v.p.contents(v.lease)
	if err := contents.inline(ctx, run); err != nil {
		return market.Signed{}, err
	}
	task, err := contents.task(ctx, run, limits)
	if err != nil {
		return market.Signed{}, err
	}
	base := v.account.snapshot(v.lane).Receipted
	progress := v.progress(ctx, base, work, out)
	done, err := v.p.worker.Run(ctx, worker.Job{
		Facet: v.lease.Compute().Facet, Task: task, Keep: contents.keep,
		Stdout: out.Stdout, Stderr: out.Stderr, Progress: progress.report,
	})
	progress.stop()
	if err != nil {
		return market.Signed{}, err
	}
	return v.state(base, work, done.Usage, &market.RunResult{
		Run: run.Number, Algorithm: task.Algorithm, Code: done.Code, ExitCode: done.ExitCode,
		Output: done.Output, OutputBytes: done.OutputBytes,
	})
}

// Settle ends the lease on the chain.
func (v *visit) Settle(ctx context.Context) (mman.Hash, error) {
	return v.p.settleAndClose(ctx, v.lease)
}

// affordable tightens the limits so that the run cannot cost more than is left
// of the lease's cap: first nothing, when the whole run fits, otherwise the
// wall time.
func (v *visit) affordable(limits resources.Limits) (resources.Limits, error) {
	base := v.account.snapshot(v.lane).Receipted
	others, err := v.account.others(v.lane)
	if err != nil {
		return limits, err
	}
	fits := func(wallMs uint64) (bool, error) {
		usage, err := base.Add(resources.Usage{WallMs: wallMs, InBytes: limits.InputBytes, OutBytes: limits.OutputBytes, CallCount: 1})
		if err != nil {
			return false, err
		}
		gross, err := v.lease.Gross(v.lane, usage)
		if err != nil {
			return false, err
		}
		return others <= v.lease.Cap && gross <= v.lease.Cap-others, nil
	}
	ok, err := fits(limits.WallMs)
	if ok || err != nil {
		return limits, err
	}
	low, high := uint64(0), limits.WallMs // low may not fit, high does not
	if ok, err = fits(1); err != nil {
		return limits, err
	}
	if !ok {
		return limits, fmt.Errorf("lease %s: %w: what is left of its cap of %s does not pay for %d bytes in, %d bytes out and a millisecond; ask for lower limits or a new lease with a higher --max", v.lease.ID, mman.ErrCapExceeded, v.lease.Cap, limits.InputBytes, limits.OutputBytes)
	}
	for low = 1; high-low > 1; {
		mid := low + (high-low)/2
		if ok, err = fits(mid); err != nil {
			return limits, err
		}
		if ok {
			low = mid
		} else {
			high = mid
		}
	}
	limits.WallMs = low
	return limits, nil
}

// state issues the next Statement: on disk first, then to the caller.
func (v *visit) state(base resources.Usage, work mman.Hash, used resources.Usage, result *market.RunResult) (market.Signed, error) {
	usage, err := base.Add(used)
	if err != nil {
		return market.Signed{}, err
	}
	gross, err := v.lease.Gross(v.lane, usage)
	if err != nil {
		return market.Signed{}, err
	}
	var signed market.Signed
	err = v.p.book.update(v.account, v.lane, func(rec *laneRecord) error {
		st := market.Statement{Version: 1, Lease: v.lease.ID, Lane: v.lane, Seq: rec.Issued + 1, Usage: usage, Gross: gross, Work: work, Result: result}
		var err error
		if signed, _, err = market.SignStatement(v.p.cfg.ChainID, st, v.p.host); err != nil {
			return err
		}
		rec.Issued, rec.Usage, rec.Gross, rec.Statement, rec.Ended = st.Seq, usage, gross, signed, result != nil
		if result != nil {
			rec.Run = result.Run
		}
		return nil
	})
	if err != nil {
		return market.Signed{}, err
	}
	if result != nil {
		v.mu.Lock()
		v.issued = v.account.snapshot(v.lane).Issued
		v.mu.Unlock()
	}
	return signed, nil
}

// progressEvery is how often a long run states what it has cost so far.
const progressEvery = time.Second

// progress turns an executor's reports into statements without making it wait.
type progress struct {
	latest chan resources.Usage
	done   chan struct{}
}

func (v *visit) progress(ctx context.Context, base resources.Usage, work mman.Hash, out session.Output) *progress {
	g := &progress{make(chan resources.Usage, 1), make(chan struct{})}
	go func() {
		defer close(g.done)
		said := uint64(0)
		for used := range g.latest {
			if used.WallMs < said+uint64(progressEvery.Milliseconds()) {
				continue
			}
			said = used.WallMs
			st, err := v.state(base, work, used, nil)
			if err == nil {
				err = out.Statement(st)
			}
			if err != nil {
				v.p.log.LogAttrs(ctx, slog.LevelDebug, "progress not stated", slog.String("lease", v.lease.ID.String()), slog.Any("error", err))
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

func (g *progress) stop() {
	close(g.latest)
	<-g.done
}

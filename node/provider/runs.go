package provider

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/node/store"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
)

// RunInfo is a run that goes on.
type RunInfo struct {
	Lease    mman.LeaseID    `json:"lease"`
	Lane     uint64          `json:"lane"`
	Run      uint64          `json:"run"`
	Consumer mman.Address    `json:"consumer"`
	Resource mman.CID        `json:"resource"`
	Facet    resources.Facet `json:"facet"`
	// Form is run, conversation, environment, hosted or call.
	Form  string    `json:"form"`
	Since time.Time `json:"since,omitzero"`
	// Paid is what the run's receipts pay so far, of all that its lease paid here
	// LeasePaid.
	Paid      mman.Amount `json:"paid_uman"`
	LeasePaid mman.Amount `json:"lease_paid_uman"`
}

// LostRun is one that ended with the node, in the middle.
type LostRun struct {
	Lease mman.LeaseID `cbor:"lease" json:"lease"`
	Lane  uint64       `cbor:"lane"  json:"lane"`
	Run   uint64       `cbor:"run"   json:"run"`
	Form  string       `cbor:"form"  json:"form"`
	// Begun is in seconds since 1970, Before what the lane had been paid then.
	Begun  int64       `cbor:"begun"  json:"begun"`
	Before mman.Amount `cbor:"before" json:"-"`
	// Paid is what the run's receipts pay, which is settled as ever.
	Paid mman.Amount `cbor:"paid" json:"paid_uman"`
	// Over is set when the node that carried it out has ended.
	Over bool `cbor:"over" json:"-"`
}

const (
	lostMax = 1 << 10
	// mostLost is how many lost runs are remembered.
	mostLost = 64
)

// under is a run under way.
type under struct {
	v      *visit
	run    session.Run
	form   string
	since  time.Time
	before mman.Amount
	cancel context.CancelCauseFunc
	// notice brings what a drain says, once.
	notice chan resources.Notice
}

// Next waits for a notice; see resources.Notices.
func (u *under) Next(ctx context.Context) (resources.Notice, error) {
	select {
	case n := <-u.notice:
		return n, nil
	case <-ctx.Done():
		return resources.Notice{}, ctx.Err()
	}
}

// runs are all of them.
type runs struct {
	mu       sync.Mutex
	all      map[*under]bool
	draining bool
	ended    chan struct{} // closed when one ends
	lost     []LostRun
}

func formOf(lease market.Lease, run session.Run) string {
	switch {
	case isEndpoint(lease):
		return "call"
	case run.Service != nil:
		return "hosted"
	case isEnvironment(lease):
		return "environment"
	case run.Interactive:
		return "conversation"
	default:
		return "run"
	}
}

func errDraining() error {
	return fmt.Errorf("%w: this node goes out of service; ask another provider", mman.ErrStopped)
}

// begin counts a run; what is paid ahead is on disk until it has ended, so that none
// is lost without a record.
func (p *Provider) begin(ctx context.Context, v *visit, run session.Run) (context.Context, *under, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	u := &under{v: v, run: run, form: formOf(v.lease, run), before: v.account.snapshot(v.lane).Paid, cancel: cancel, notice: make(chan resources.Notice, 1)}
	if p.cfg.Now != nil {
		u.since = p.cfg.Now()
	}
	r := &p.runs
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining {
		cancel(nil)
		return ctx, nil, errDraining()
	}
	if u.kept() {
		if err := p.keepRun(LostRun{Lease: v.lease.ID, Lane: v.lane, Run: run.Number, Form: u.form, Begun: u.since.Unix(), Before: u.before}); err != nil {
			cancel(nil)
			return ctx, nil, err
		}
	}
	if r.all == nil {
		r.all = make(map[*under]bool)
	}
	r.all[u] = true
	return ctx, u, nil
}

// kept reports whether the run is on disk while it goes on: calls are too short.
func (u *under) kept() bool {
	return u.form == "hosted" || u.form == "conversation" || u.form == "environment"
}

// end says that a run is over.
func (p *Provider) end(ctx context.Context, u *under) {
	u.cancel(nil)
	if u.kept() {
		if err := p.records.Delete(runKey(u.v.lease.ID, u.v.lane)); err != nil {
			p.log.LogAttrs(ctx, slog.LevelWarn, "a run that ended is still on disk", slog.String("lease", u.v.lease.ID.String()), slog.Any("error", err))
		}
	}
	p.runs.mu.Lock()
	defer p.runs.mu.Unlock()
	delete(p.runs.all, u)
	if p.runs.ended != nil {
		close(p.runs.ended)
		p.runs.ended = nil
	}
}

func runKey(lease mman.LeaseID, lane uint64) []byte {
	return append(append([]byte{prefixRun}, lease[:]...), byte(lane)) //nolint:gosec // at most market.MaxLanes
}

func (p *Provider) keepRun(r LostRun) error {
	b, err := dagcbor.Marshal(r)
	if err != nil {
		return err
	}
	key := runKey(r.Lease, r.Lane)
	if r.Over {
		key = binary.BigEndian.AppendUint64(key, r.Run)
	}
	if err := p.records.Set(key, b); err != nil {
		return fmt.Errorf("lease %s: %w", r.Lease, err)
	}
	return nil
}

// mourn reads what runs an earlier process left in the middle, and closes them with a
// record.
func (p *Provider) mourn(kv *store.KV) error {
	it, err := kv.Iterate([]byte{prefixRun}, []byte{prefixRun + 1}, false)
	if err != nil {
		return err
	}
	var all []LostRun
	for ; it.Valid(); it.Next() {
		one, err := dagcbor.Unmarshal[LostRun](it.Value(), lostMax)
		if err != nil {
			it.Close()
			return fmt.Errorf("%w: run record under key %x: %w", mman.ErrCorrupt, it.Key(), err)
		}
		all = append(all, one)
	}
	err = it.Err()
	it.Close()
	if err != nil {
		return err
	}
	for i, one := range all {
		if one.Over {
			continue
		}
		paid := p.book.account(one.Lease).snapshot(one.Lane).Paid
		one.Paid, one.Over = paid-min(paid, one.Before), true
		if err := p.keepRun(one); err != nil {
			return err
		}
		if err := kv.Delete(runKey(one.Lease, one.Lane)); err != nil {
			return err
		}
		all[i] = one
		p.log.Warn("a run ended with the node that carried it out", slog.String("lease", one.Lease.String()), slog.Uint64("run", one.Run), slog.String("form", one.Form), slog.String("paid", one.Paid.String()))
	}
	slices.SortFunc(all, func(a, b LostRun) int { return cmp.Compare(b.Begun, a.Begun) })
	for _, old := range all[min(len(all), mostLost):] {
		if err := kv.Delete(binary.BigEndian.AppendUint64(runKey(old.Lease, old.Lane), old.Run)); err != nil {
			return err
		}
	}
	p.runs.lost = all[:min(len(all), mostLost)]
	return nil
}

// Runs lists the runs that go on, the oldest first, and the latest that ended in the
// middle because this node did.
func (p *Provider) Runs() (now []RunInfo, lost []LostRun) {
	p.runs.mu.Lock()
	defer p.runs.mu.Unlock()
	now = []RunInfo{}
	for u := range p.runs.all {
		compute, paid := u.v.lease.Compute(), u.v.account.snapshot(u.v.lane).Paid
		now = append(now, RunInfo{
			Lease: u.v.lease.ID, Lane: u.v.lane, Run: u.run.Number, Consumer: u.v.lease.Consumer, Resource: compute.Resource, Facet: compute.Facet,
			Form: u.form, Since: u.since, Paid: paid - min(paid, u.before), LeasePaid: u.v.account.paid(),
		})
	}
	slices.SortFunc(now, func(a, b RunInfo) int {
		return cmp.Or(a.Since.Compare(b.Since), slices.Compare(a.Lease[:], b.Lease[:]), cmp.Compare(a.Lane, b.Lane))
	})
	return now, slices.Clone(p.runs.lost)
}

// paid is what the receipts of all lanes pay.
func (a *account) paid() (sum mman.Amount) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.lanes {
		sum += l.Paid
	}
	return sum
}

// isDraining reports whether nothing new begins here.
func (p *Provider) isDraining() bool {
	p.runs.mu.Lock()
	defer p.runs.mu.Unlock()
	return p.runs.draining
}

// maxNotice bounds the notice of a drain.
const maxNotice = 24 * time.Hour

// Drain takes the node out of service: its offers leave the ledger until it starts
// again, no session and no run begins, and what goes on may take as long as the notice
// says: hosted programs and conversations are told and ended then. It returns when the
// last has ended, and everything is settled.
func (p *Provider) Drain(ctx context.Context, notice time.Duration) error {
	if notice < 0 || notice > maxNotice {
		return fmt.Errorf("%w: a notice of %s: up to %s", mman.ErrInvalid, notice, maxNotice)
	}
	r := &p.runs
	r.mu.Lock()
	r.draining = true
	r.mu.Unlock()
	p.log.LogAttrs(ctx, slog.LevelInfo, "out of service", slog.Duration("notice", notice))
	gone := p.rest(ctx) // what cannot be taken back now runs out by itself
	r.mu.Lock()
	for u := range r.all {
		select {
		case u.notice <- resources.Notice{Reason: "the provider's node goes out of service", In: notice}:
		default: // it was told
		}
	}
	r.mu.Unlock()
	wait, stop := context.WithTimeout(ctx, notice)
	err := p.quiet(wait)
	stop()
	if err != nil && ctx.Err() == nil {
		r.mu.Lock()
		for u := range r.all {
			if u.form != "hosted" { // which end by themselves, in order
				u.cancel(errDraining())
			}
		}
		r.mu.Unlock()
		wait, stop = context.WithTimeout(ctx, drainGrace)
		err = p.quiet(wait)
		stop()
	}
	return errors.Join(gone, err, p.settle(ctx, p.ledger.Height(), true))
}

// drainGrace is how long runs may take to end when the notice is over.
const drainGrace = 30 * time.Second

// quiet waits until nothing runs.
func (p *Provider) quiet(ctx context.Context) error {
	r := &p.runs
	for {
		r.mu.Lock()
		n := len(r.all)
		if r.ended == nil {
			r.ended = make(chan struct{})
		}
		ended := r.ended
		r.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return fmt.Errorf("%w: %d runs go on", mman.ErrTimeout, n)
		}
	}
}

// rest takes the offers off the ledger until the node starts again.
func (p *Provider) rest(ctx context.Context) error {
	p.offering.Lock()
	defer p.offering.Unlock()
	var errs []error
	for _, h := range p.holdings.all() {
		if h.Withdrawn || h.Offer.IsZero() || h.Expires == 0 {
			continue
		}
		_, err := p.submitter.Submit(ctx, tx.MsgWithdrawOffer{Provider: p.submitter.Address(), Offer: h.Offer})
		if err != nil && !errors.Is(err, mman.ErrOfferGone) && !notFound(err) {
			errs = append(errs, fmt.Errorf("withdraw %q: %w", h.Name, err))
			continue
		}
		h.Expires = 0 // it is offered again by the next process
		errs = append(errs, p.holdings.put(h))
	}
	return errors.Join(errs...)
}

// door opens a port of this machine for a hosted run, where its policy and the
// operator allow it.
func (v *visit) door(ctx context.Context) (resources.Door, error) {
	for _, leg := range v.lease.Legs {
		if !leg.Supplied && leg.Peer != v.p.peer {
			return nil, fmt.Errorf("lease %s: %w: the %s is another provider's, which did not say that others may reach it", v.lease.ID, mman.ErrPolicy, leg.Role)
		}
	}
	for _, a := range v.guard.asked {
		if a.program.Limits().Network != "port" {
			return nil, fmt.Errorf("lease %s: %w: limits.network of the %s's policy is not port: others reach nothing here", v.lease.ID, mman.ErrPolicy, a.role)
		}
	}
	if v.p.cfg.Door == "" || len(v.guard.asked) == 0 {
		return nil, fmt.Errorf("lease %s: %w: this node opens no port for hosted containers", v.lease.ID, mman.ErrPolicy)
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(v.p.cfg.Door, "0"))
	if err != nil {
		return nil, fmt.Errorf("lease %s: %w: a port at %s: %w", v.lease.ID, mman.ErrUnsupported, v.p.cfg.Door, err)
	}
	return door{ln}, nil
}

// door is a listener as a resources.Door.
type door struct{ net.Listener }

// Next waits for somebody.
func (d door) Next() (resources.Visitor, error) {
	conn, err := d.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%w: a %T where TCP was listened for", mman.ErrInternal, conn), conn.Close())
	}
	return tcp, nil
}

// Addr is where it is, host:port.
func (d door) Addr() string { return d.Listener.Addr().String() }

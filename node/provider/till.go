package provider

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
)

// grace is how long a guest rests for want of a receipt until its run is ended.
const grace = time.Minute

// till is the money of one interactive run: it states what the run cost so far,
// lets the guest go on as far as that is paid, and ends a run that nobody pays
// for. It is the run's resources.Credit.
type till struct {
	bill   bill
	out    session.Output
	window mman.Amount
	end    context.CancelCauseFunc
	wake   chan struct{} // something may have to be stated

	mu      sync.Mutex
	used    resources.Usage
	paid    mman.Amount // on the lane
	fuel    uint64      // as far as that goes
	paying  bool        // a receipt came
	changed chan struct{}
	over    bool
	grace   *time.Timer

	// Of the goroutine that states.
	stated mman.Amount
	saidMs uint64
	rests  int
	last   market.Signed

	ended, done chan struct{}
}

// openTill states where the run begins and waits until its payer pays ahead.
func (v *visit) openTill(ctx context.Context, b bill, out session.Output) (context.Context, *till, error) {
	ctx, end := context.WithCancelCause(ctx)
	t := &till{
		bill: b, out: out, window: v.lease.Window(), end: end, wake: make(chan struct{}, 1),
		paid: v.account.snapshot(v.lane).Paid, changed: make(chan struct{}), ended: make(chan struct{}), done: make(chan struct{}),
	}
	t.grace = time.AfterFunc(grace, t.unpaid)
	v.setTill(t)
	gross, err := t.gross(resources.Usage{})
	if err == nil {
		err = t.reserve(gross)
	}
	if err == nil {
		t.last, err = b.state(resources.Usage{}, nil)
	}
	if err == nil {
		t.stated = gross
		err = out.Statement(t.last)
	}
	if err == nil {
		err = t.until(ctx, func() bool { return t.paying }) // for the first receipt
	}
	go t.run(ctx)
	if err != nil {
		t.close()
		v.setTill(nil)
		return nil, nil, err
	}
	return ctx, t, nil
}

// unpaid ends the run.
func (t *till) unpaid() {
	t.end(fmt.Errorf("%w: for %s, and an interactive run is paid ahead", mman.ErrUnpaid, grace))
}

// close ends the account; nothing is stated after it.
func (t *till) close() {
	t.mu.Lock()
	t.over = true
	t.grace.Stop()
	t.mu.Unlock()
	close(t.ended)
	<-t.done
	t.end(nil)
}

// gross is what the lane costs with the run's usage.
func (t *till) gross(used resources.Usage) (mman.Amount, error) {
	usage, err := t.bill.total(used)
	if err != nil {
		return 0, err
	}
	return t.bill.v.lease.Gross(t.bill.v.lane, usage)
}

// note takes the newest usage and reports whether it is paid, and by how much it
// is not; t is locked.
func (t *till) note(used resources.Usage) (short mman.Amount, err error) {
	t.used = atLeast(t.used, used)
	gross, err := t.gross(t.used)
	if err != nil {
		t.end(err)
		return 0, err
	}
	if gross <= t.paid || t.bill.v.p.off.credit {
		t.grace.Stop()
		return 0, nil
	}
	return gross - t.paid, nil
}

// Covers reports whether the run may go on; see resources.Credit.
func (t *till) Covers(used resources.Usage) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	short, err := t.note(used)
	if err == nil && short > 0 && !t.over {
		t.grace.Reset(grace)
	}
	t.poke()
	return err == nil && short == 0
}

// Await waits until it may; see resources.Credit.
func (t *till) Await(ctx context.Context, used resources.Usage) error {
	return t.until(ctx, func() bool {
		short, err := t.note(used)
		return err == nil && short == 0
	})
}

// Fuel returns at how much fuel a silent guest stops; see resources.Credit.
func (t *till) Fuel() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.fuel
}

// MoreFuel waits until that is more; see resources.Credit.
func (t *till) MoreFuel(ctx context.Context, than uint64) (fuel uint64, err error) {
	err = t.until(ctx, func() bool {
		fuel = t.fuel
		return fuel > than
	})
	return fuel, err
}

// until waits until ok, which is asked under the lock after every receipt.
func (t *till) until(ctx context.Context, ok func() bool) error {
	for {
		t.mu.Lock()
		done, changed := ok(), t.changed
		t.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("lease %s: %w", t.bill.v.lease.ID, context.Cause(ctx))
		}
	}
}

// report takes the usage of a guest that may be silent. One that used a whole
// window more than is paid is ended.
func (t *till) report(used resources.Usage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if short, err := t.note(used); err == nil && short > t.window {
		t.end(fmt.Errorf("%w: %s more was used than is paid for", mman.ErrUnpaid, short))
	}
	t.poke()
}

func (t *till) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// received lets the run go as far as the lane is paid now.
func (t *till) received(paid mman.Amount) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.paying, t.paid = true, paid
	t.fuel = t.affords()
	t.grace.Stop()
	close(t.changed)
	t.changed = make(chan struct{})
}

// affords returns how much fuel the run may have used for what is paid; t is
// locked.
func (t *till) affords() uint64 {
	most := t.bill.limits.Fuel
	if !t.bill.v.lease.Compute().Price.Asks(resources.UnitFuel) {
		return most
	}
	used := t.used
	low, high := uint64(0), most+1 // low fits, high does not
	for high-low > 1 {
		used.Fuel = low + (high-low)/2
		if gross, err := t.gross(used); err == nil && gross <= t.paid {
			low = used.Fuel
		} else {
			high = used.Fuel
		}
	}
	return low
}

// run states what the run cost so far, until close.
func (t *till) run(ctx context.Context) {
	defer close(t.done)
	for {
		select {
		case <-t.ended:
			return
		case <-t.wake:
			if err := t.state(); err != nil {
				t.bill.v.p.log.LogAttrs(ctx, slog.LevelDebug, "progress not stated", slog.String("lease", t.bill.v.lease.ID.String()), slog.Any("error", err))
			}
		}
	}
}

// againAfter is after how many reports of a guest that rests the statement that
// waits for its receipt is sent again: a payer may want to see time pass.
const againAfter = 8

// state issues a statement when enough has come together: a quarter of a window,
// a second with something in it, or a guest that waits for it.
func (t *till) state() error {
	t.mu.Lock()
	used, paid := t.used, t.paid
	t.mu.Unlock()
	gross, err := t.gross(used)
	if err != nil {
		return err
	}
	if err := t.reserve(gross); err != nil {
		t.end(err)
		return err
	}
	if gross == t.stated {
		if t.rests++; gross <= paid || t.rests%againAfter != 0 {
			return nil
		}
		return t.out.Statement(t.last)
	}
	if gross <= paid && gross-min(gross, t.stated) < t.window/4 && used.WallMs < t.saidMs+progressMs {
		return nil
	}
	st, err := t.bill.state(used, nil)
	if err != nil {
		return err
	}
	t.stated, t.saidMs, t.rests, t.last = gross, used.WallMs, 0, st
	return t.out.Statement(st)
}

// reserve sets aside what the run may come to cost while it is paid window by
// window, and ends a run that has used up the lease.
func (t *till) reserve(gross mman.Amount) error {
	v := t.bill.v
	return v.account.reserve(v.lane, func(others mman.Amount) (mman.Amount, error) {
		left := v.lease.Cap - min(v.lease.Cap, others)
		if gross >= left {
			return left, fmt.Errorf("%w: the %s left of its cap of %s are used; ask for a new lease with a higher --max", mman.ErrCapExceeded, left, v.lease.Cap)
		}
		return min(left, gross+2*t.window), nil
	})
}

// atLeast returns, counter by counter, the larger of two usages of one run: they
// may be reported out of order, and not by all with the fuel.
func atLeast(u, v resources.Usage) resources.Usage {
	return resources.Usage{
		Fuel: max(u.Fuel, v.Fuel), CPUMs: max(u.CPUMs, v.CPUMs), WallMs: max(u.WallMs, v.WallMs), MemoryMs: max(u.MemoryMs, v.MemoryMs),
		InBytes: max(u.InBytes, v.InBytes), OutBytes: max(u.OutBytes, v.OutBytes), CallCount: max(u.CallCount, v.CallCount),
		Tokens: max(u.Tokens, v.Tokens), Steps: max(u.Steps, v.Steps),
	}
}

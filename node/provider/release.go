package provider

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/gate"
)

// releasable refuses a run whose answer could not be held back.
func (v *visit) releasable(run session.Run) error {
	if _, guarded := v.lease.Outlet(); !guarded {
		return nil
	}
	if run.Interactive || v.lease.Compute().Facet != resources.FacetWasm {
		return fmt.Errorf("lease %s: %w: rule %q: what is computed on its data is held back until the run has ended, so that it can be no conversation and runs in WebAssembly only", v.lease.ID, mman.ErrPolicy, policy.RuleRelease)
	}
	return nil
}

// hold sets aside what a run may tell, and counts what it tells in any case before it
// begins.
func (b *ledgerBook) hold(a *account, o resources.Outlet, limits resources.Limits) error {
	cost, most := o.Cost(limits), o.Most(limits)
	a.mu.Lock()
	defer a.mu.Unlock()
	need := o.Worth(limits, most)
	if left := o.Bits - min(o.Bits, a.bits+a.held); need > left {
		return fmt.Errorf("lease %s: %w: rule %q: its runs may tell %d bits in all, of which %d are left, and one with an output of up to %d bytes may tell %d; ask for a lower output limit or for a new lease", a.id, mman.ErrPolicy, policy.RuleRelease, o.Bits, left, most, need)
	}
	if err := b.tell(a, cost); err != nil {
		return err
	}
	a.held += need - cost
	return nil
}

// spend counts what a run told beside that, and ends what hold set aside.
func (b *ledgerBook) spend(a *account, o resources.Outlet, limits resources.Limits, n uint64) (used uint64, err error) {
	cost := o.Cost(limits)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held -= o.Worth(limits, o.Most(limits)) - cost
	if n > 0 {
		err = b.tell(a, o.Worth(limits, n)-cost)
	}
	return a.bits, err
}

// tell adds to what a lease's runs told, on disk first; the account is locked.
func (b *ledgerBook) tell(a *account, bits uint64) error {
	if a.gone {
		return fmt.Errorf("lease %s: %w: it was closed just now", a.id, mman.ErrLeaseState)
	}
	if err := b.kv.Set(toldKey(a.id), binary.BigEndian.AppendUint64(nil, a.bits+bits)); err != nil {
		return err
	}
	a.bits += bits
	return nil
}

func toldKey(id mman.LeaseID) []byte { return append([]byte{prefixTold}, id[:]...) }

// release carries out a run whose output leaves by o. The consumer sees of it what o
// counts and no more: whether it was released, at which step its fuel is billed, at
// which of o's moments it is answered, and the output.
func (v *visit) release(ctx context.Context, run session.Run, task resources.Task, o resources.Outlet, b bill, contents contents, out session.Output) (_ market.Signed, err error) {
	watch, err := v.watch(run.Number)
	if err != nil {
		return market.Signed{}, err
	}
	// The policies are asked about the most that may leave, so that their answer says
	// nothing of what does.
	if err := watch.admit(o.Most(task.Limits)); err != nil {
		return market.Signed{}, errors.Join(err, watch.end(), v.denied(0))
	}
	prepared, err := v.p.worker.Guard(ctx, v.lease.Compute().Facet, task, o)
	if err != nil {
		return market.Signed{}, errors.Join(err, watch.end(), v.flush())
	}
	if err := v.p.book.hold(v.account, o, task.Limits); err != nil {
		v.p.refused(ctx, AccessRun, v.lease, mman.PeerID{}, err)
		return market.Signed{}, errors.Join(err, prepared.Close(), watch.end(), v.flush())
	}
	log, err := v.begun(run.Number, o)
	if err != nil {
		_, serr := v.p.book.spend(v.account, o, task.Limits, 0)
		return market.Signed{}, errors.Join(err, serr, prepared.Close())
	}
	h := &held{visit: v, task: task, outlet: o, contents: contents, log: log, ended: make(chan gate.Done, 1)}
	go func() { h.ended <- prepared.Go(ctx) }()
	answer, err := h.wait(ctx)
	if err != nil {
		return market.Signed{}, errors.Join(err, watch.end(), v.flush())
	}
	if err := watch.admit(0); err != nil {
		return market.Signed{}, errors.Join(err, watch.end(), v.denied(0))
	}
	if err := watch.end(); err != nil {
		return market.Signed{}, err
	}
	signed, err := b.state(answer.seen, &market.RunResult{
		Run: run.Number, Algorithm: task.Algorithm, Code: answer.code, ExitCode: answer.exit,
		Output: answer.id, OutputBytes: uint64(len(answer.output)),
	})
	if err == nil && len(answer.output) > 0 {
		err = out.Stdout(answer.output)
	}
	return signed, err
}

// answer is what a consumer gets.
type answer struct {
	seen   resources.Usage
	exit   uint32
	code   mman.Code
	output []byte
	id     mman.CID
}

// held is a run that may have ended and was not answered yet.
type held struct {
	*visit

	task     resources.Task
	outlet   resources.Outlet
	contents contents
	log      *noted
	ended    chan gate.Done
	answer   *answer // once it has
}

// wait returns the answer at the first of the outlet's moments at which there is one.
// By then it is in the owner's log and counted, so that nothing is left to do that
// could take longer for one answer than for another.
func (h *held) wait(ctx context.Context) (answer, error) {
	slot := h.outlet.SlotMs
	moment := make(chan struct{}, 1)
	timer := time.AfterFunc(time.Duration(slot)*time.Millisecond, func() { moment <- struct{}{} }) //nolint:gosec // an hour at most
	defer timer.Stop()
	running := h.ended
	for {
		select {
		case d := <-running:
			running = nil
			if err := h.settle(context.WithoutCancel(ctx), d); err != nil {
				return answer{}, err
			}
		case <-moment:
			if h.answer != nil {
				h.answer.seen.WallMs = slot
				return *h.answer, nil
			}
			timer.Reset(time.Duration(slot) * time.Millisecond) //nolint:gosec // some days at most
			slot *= 2
		case <-ctx.Done():
			return h.canceled(context.WithoutCancel(ctx), slot)
		}
	}
}

// settle logs and counts how a run ended.
func (h *held) settle(ctx context.Context, d gate.Done) error {
	id, size, err := h.contents.keep(ctx, bytes.NewReader(d.Output))
	if err != nil {
		return err
	}
	used, err := h.p.book.spend(h.account, h.outlet, h.task.Limits, size)
	if err != nil {
		return err
	}
	h.answer = &answer{seen: d.Seen, exit: d.Verdict.ExitCode(), output: d.Output, id: id}
	return h.log.end(func(a *Access) {
		a.BytesIn, a.BytesOut, a.Verdict, a.Reason = d.Used.InBytes, size, d.Verdict, d.Reason
		a.Code, a.ExitCode, a.Fuel = d.Code, d.ExitCode, d.Used.Fuel
		a.Bits, a.BitsUsed = h.outlet.Worth(h.task.Limits, size), used
	})
}

// canceled answers a consumer that gave up: at once and always alike, whether the run
// has ended or not, for all of its fuel limit and the moments that passed.
func (h *held) canceled(ctx context.Context, slot uint64) (answer, error) {
	if h.answer == nil {
		if _, err := h.p.book.spend(h.account, h.outlet, h.task.Limits, 0); err != nil {
			return answer{}, err
		}
	}
	id, _, err := h.contents.keep(ctx, bytes.NewReader(nil))
	if err != nil {
		return answer{}, err
	}
	passed := uint64(0)
	if slot > h.outlet.SlotMs {
		passed = slot / 2
	}
	err = h.log.end(func(a *Access) {
		a.BytesOut, a.Verdict, a.Code, a.Reason = 0, gate.Failed, mman.ErrCanceled.Code, "its consumer gave up before it was answered"
	})
	seen := resources.Usage{CallCount: 1, Fuel: h.task.Limits.Fuel, WallMs: passed}
	return answer{seen: seen, exit: gate.Failed.ExitCode(), code: mman.ErrCanceled.Code, id: id}, err
}

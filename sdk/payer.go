package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/resources"
)

// leaseSigner signs with a lease key.
type leaseSigner struct{ key sig.PrivateKey }

// Sign signs a domain-separated payload.
func (s leaseSigner) Sign(purpose mman.SignContext, chainID string, payload []byte) []byte {
	digest := mman.SignDigest(purpose, chainID, payload)
	return s.key.Sign(digest[:])
}

// payer answers the Statements of one run; see session.Payer.
type payer struct {
	ctx   context.Context //nolint:containedctx // a payer lives as long as one call of Run
	lane  *Lane
	key   leaseSigner
	peer  mman.PeerID
	now   func() time.Time
	begun time.Time
	base  resources.Usage // of the lane before the run
	paid  mman.Amount     // on the lane before the run
	told  func(mman.Amount)
	// tokens is what an answer cost by what came of it, nil for nothing.
	tokens func() uint64
	// steps is how many steps were answered, nil for none.
	steps func() uint64
	// holds checks that the output of a result is here: no receipt without it.
	holds func(market.RunResult) error
	// in is what the run was given, typed what an interactive one was given since,
	// out counts what it wrote.
	in, out uint64
	typed   *atomic.Uint64
	// interactive runs are paid ahead; held is told why one is not paid for the
	// moment, so that it rests.
	interactive bool
	held        func(error)
	// fuel is the run's limit: a payer cannot see fuel, but can run again.
	fuel uint64
	// mebibytes is the run's memory limit in MiB.
	mebibytes uint64
	last      market.Statement
	signed    market.Signed // last, as the provider signed it
	off       undefended
}

// undefended switches defences off, one by one: tests show with it that each
// attack works without its defence. It is all false.
type undefended struct {
	usage    bool // any usage is believed
	progress bool // a run is paid to the cap before there is a result
	output   bool // a result is paid for that did not come
}

// talk prepares the payer for an interactive run. One that is canceled is paid for
// all the same.
func (p *payer) talk(ctx context.Context, w Work) {
	p.interactive, p.ctx = true, context.WithoutCancel(ctx)
	if p.held = w.Held; p.held == nil {
		p.held = func(error) {}
	}
}

// Acknowledge signs for what the statement may ask, and remembers it before it
// lets it go.
func (p *payer) Acknowledge(signed market.Signed) (r market.Signed, ok bool, err error) {
	own := p.lane.own
	st, id, err := market.OpenStatement(own.ChainID, signed, p.peer)
	if err != nil {
		return r, false, err
	}
	// Receipts add up over lanes: one for another lane would be paid beside this
	// one's.
	if st.Lane != p.lane.n {
		return r, false, fmt.Errorf("statement %d of lease %s: %w: it is for lane %d, the session is on lane %d", st.Seq, st.Lease, mman.ErrReceipt, st.Lane, p.lane.n)
	}
	if st.Result != nil && !p.off.output {
		if err := p.holds(*st.Result); err != nil {
			return r, false, err
		}
	}
	err = p.lane.locked(p.ctx, func() error {
		r, ok, err = p.sign(st, id)
		return err
	})
	if p.interactive && st.Result == nil && errors.Is(err, mman.ErrReceipt) {
		// Time may show that it is right; until then the guest rests.
		p.held(err)
		return market.Signed{}, false, nil
	}
	if err != nil {
		return market.Signed{}, false, err
	}
	p.last, p.signed = st, signed
	if ok && p.told != nil {
		p.told(st.Gross - min(st.Gross, p.paid))
	}
	return r, ok, nil
}

// sign decides and remembers, under the lease's lock.
func (p *payer) sign(st market.Statement, id mman.CID) (r market.Signed, ok bool, err error) {
	before := p.lane.state
	if p.interactive && st.Seq == before.Seq && before.Receipt != nil {
		// It comes again after the stream broke: so does its receipt.
		if said, err := market.DecodeReceipt(before.Receipt.Bytes); err == nil && said.Statement == id {
			return *before.Receipt, true, nil
		}
	}
	others, err := p.lane.others()
	if err != nil {
		return r, false, err
	}
	most, err := p.base.Add(p.bound(st.Result))
	if err != nil {
		return r, false, err
	}
	own := p.lane.own
	receipt, sign, err := own.Lease.Acknowledge(st, id, market.Owed{
		Seq: before.Seq, Paid: before.Paid, Returned: before.Returned, Usage: before.Usage, Decisions: before.Decisions,
		Interactive: p.interactive || p.off.progress, OtherLanes: others, Most: most,
	})
	if err != nil || !sign {
		return r, false, err
	}
	if p.interactive && trapped(st.Result) && receipt.Net() > before.net() {
		return r, false, fmt.Errorf("statement %d of lease %s: %w: a trap costs what was paid ahead, %s, and it claims %s", st.Seq, st.Lease, mman.ErrReceipt, before.net(), receipt.Net())
	}
	if r, err = market.SignReceipt(own.ChainID, receipt, p.key); err != nil {
		return r, false, err
	}
	return r, true, p.lane.save(laneState{Receipt: &r, Seq: receipt.Seq, Paid: receipt.Paid, Returned: receipt.Returned, Usage: st.Usage, Run: before.Run, Decisions: st.Decisions})
}

// trapped reports whether the run costs its whole budget.
func trapped(result *market.RunResult) bool {
	return result != nil && result.Code == mman.ErrGuestTrap.Code
}

// What a guest can use at most in a given time: metered operators pass at some
// 10⁷ a millisecond on the fastest machines. burst is what one of them can be at
// once, such as a grown memory.
const (
	fuelPerMs = 20_000_000
	fuelBurst = 1_000_000_000
)

// bound is the most that the run can have used: the time that passed here, what a
// guest can compute and hold in it, the bytes that were given and seen, one call. A guest
// that trapped costs its whole fuel, however soon.
func (p *payer) bound(result *market.RunResult) resources.Usage {
	if p.off.usage {
		const all = math.MaxUint64 / 2
		return resources.Usage{CPUMs: all, MemoryMs: all, WallMs: all, InBytes: all, OutBytes: all, CallCount: all, Fuel: all, Tokens: all, Steps: all}
	}
	elapsed := uint64(p.now().Sub(p.begun)/time.Millisecond) + 1 //nolint:gosec // time passes forward
	fuel := p.fuel
	if !trapped(result) && elapsed < fuel/fuelPerMs {
		fuel = min(fuel, elapsed*fuelPerMs+fuelBurst)
	}
	most := resources.Usage{
		Fuel: fuel, CPUMs: elapsed * resources.ContainerCPUs, WallMs: elapsed, MemoryMs: elapsed * p.mebibytes,
		InBytes: p.in + p.typed.Load(), OutBytes: p.out, CallCount: 1,
	}
	if p.tokens != nil {
		most.Tokens = p.tokens()
	}
	if p.steps != nil {
		most.Steps = p.steps()
	}
	return most
}

// typist counts what an interactive run is given.
type typist struct {
	r io.Reader
	n *atomic.Uint64
}

// Read reads on, and counts what it gives before anybody else has it.
func (t typist) Read(b []byte) (int, error) {
	n, err := t.r.Read(b)
	t.n.Add(uint64(n)) //nolint:gosec // readers count upwards
	return n, err
}

// outputSlack is what a provider may write beyond the output limit: the sentence
// that says why it stopped the run.
const outputSlack = 4 << 10

// counter counts what a run wrote on its way to w, and ends one that writes more
// than was asked for.
type counter struct {
	w     io.Writer
	n     *uint64
	limit uint64
}

// Write counts p and hands it on.
func (c counter) Write(p []byte) (int, error) {
	if *c.n += uint64(len(p)); *c.n > c.limit+outputSlack {
		return 0, fmt.Errorf("%w: the provider sends more than the %d bytes that the run may write", mman.ErrOutput, c.limit)
	}
	return c.w.Write(p)
}

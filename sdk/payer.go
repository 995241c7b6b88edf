package sdk

import (
	"context"
	"fmt"
	"io"
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
	// holds checks that the output of a result is here: no receipt without it.
	holds func(market.RunResult) error
	// in is what the run was given, out counts what it wrote.
	in, out uint64
	// fuel is the run's limit: a payer cannot see fuel, but can run again.
	fuel   uint64
	last   market.Statement
	signed market.Signed // last, as the provider signed it
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
	if st.Result != nil {
		if err := p.holds(*st.Result); err != nil {
			return r, false, err
		}
	}
	err = p.lane.locked(p.ctx, func() error {
		others, err := p.lane.others()
		if err != nil {
			return err
		}
		before := p.lane.state
		most, err := p.base.Add(p.bound())
		if err != nil {
			return err
		}
		receipt, sign, err := own.Lease.Acknowledge(st, id, market.Owed{Seq: before.Seq, Paid: before.Paid, Usage: before.Usage, OtherLanes: others, Most: most})
		if err != nil || !sign {
			return err
		}
		if r, err = market.SignReceipt(own.ChainID, receipt, p.key); err != nil {
			return err
		}
		ok = true
		return p.lane.save(laneState{Receipt: &r, Seq: receipt.Seq, Paid: receipt.Paid, Usage: st.Usage, Run: before.Run})
	})
	if err != nil {
		return market.Signed{}, false, err
	}
	p.last, p.signed = st, signed
	if ok && p.told != nil {
		p.told(p.lane.state.Paid - p.paid)
	}
	return r, ok, nil
}

// bound is the most that the run can have used: the time that passed here, the
// bytes that were given and seen, one call.
func (p *payer) bound() resources.Usage {
	elapsed := p.now().Sub(p.begun)
	return resources.Usage{
		WallMs:  uint64(elapsed/time.Millisecond) + 1, //nolint:gosec // time passes forward
		InBytes: p.in, OutBytes: p.out, CallCount: 1, Fuel: p.fuel,
	}
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

package market

import (
	"errors"
	"fmt"
	"strconv"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/rfp"
)

// terms are the lengths of an RFP's windows.
func terms(ctx *block.Context) rfp.Terms {
	return rfp.Terms{Post: ctx.Params.RFPPostBlocks, Reveal: ctx.Params.RFPRevealBlocks, Accept: ctx.Params.AcceptBlocks}
}

// openRFP accepts a request that is put out to bids: its cap goes into escrow.
func (m Module) openRFP(ctx *block.Context, msg tx.MsgOpenRFP) error {
	r, err := market.DecodeRequest(msg.Request)
	if err != nil {
		return err
	}
	if err := acceptable(ctx, r, msg.Consumer); err != nil {
		return err
	}
	if len(r.Legs[len(r.Legs)-1].Offers) > 0 {
		return fmt.Errorf("rfp: %w: its compute leg names offers, but bids shall fill it", mman.ErrInvalid)
	}
	id, err := m.enter(ctx, r, RequestRecord{Bytes: msg.Request, State: match.Queued, Made: ctx.Height, RFP: true})
	if err != nil {
		return err
	}
	one, err := rfp.New(id, r, msg.Bond, ctx.Height, msg.CommitBy, terms(ctx))
	if err != nil {
		return err
	}
	ctx.Emit("mman.request", "id", id.String(), "consumer", r.Consumer.String())
	ctx.Emit("mman.rfp", "id", id.String(), "consumer", r.Consumer.String(), "bond_uman", digits(one.Bond),
		"commit_by", number(one.CommitBy), "seal_by", number(one.SealBy), "reveal_by", number(one.RevealBy))
	if err := markRFP(ctx.State, one, r.Consumer); err != nil {
		return err
	}
	return putRFP(ctx.State, rfp.RFP{}, one)
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// markRFP puts an RFP that is not closed into the indexes of an account and of
// all.
func markRFP(w state.Writer, one rfp.RFP, account mman.Address) error {
	if err := state.NewIndex(state.RFPByState).Add(w, append([]byte{active}, one.Request[:]...)); err != nil {
		return err
	}
	return state.NewIndex(state.RFPByAccount).Add(w, accountKey(account, active, one.Request[:]))
}

// putRFP stores the record in the place of the one before, in the queue of its
// next step, and when it closed, in the indexes of those that did.
func putRFP(w state.Writer, before, after rfp.RFP) error {
	queue := state.NewIndex(state.RFPByDue)
	if before.Due > 0 {
		if err := queue.Remove(w, heightKey(before.Due, before.Request[:])); err != nil {
			return err
		}
	}
	if after.Due > 0 {
		if err := queue.Add(w, heightKey(after.Due, after.Request[:])); err != nil {
			return err
		}
	}
	if after.State == rfp.Closed && before.State != rfp.Closed {
		if err := closeRFP(w, after); err != nil {
			return err
		}
	}
	return rfps().Set(w, after.Request[:], after)
}

func closeRFP(w state.Writer, one rfp.RFP) error {
	byState, byAccount := state.NewIndex(state.RFPByState), state.NewIndex(state.RFPByAccount)
	if err := byState.Remove(w, append([]byte{active}, one.Request[:]...)); err != nil {
		return err
	}
	if err := byState.Add(w, append([]byte{settled}, one.Request[:]...)); err != nil {
		return err
	}
	accounts := []mman.Address{one.Consumer}
	for _, e := range one.Bids {
		accounts = append(accounts, e.Bidder)
	}
	for _, a := range accounts {
		if err := byAccount.Remove(w, accountKey(a, active, one.Request[:])); err != nil {
			return err
		}
		if err := byAccount.Add(w, accountKey(a, settled, one.Request[:])); err != nil {
			return err
		}
	}
	return nil
}

// openedRFP returns an RFP that takes commitments or reveals.
func openedRFP(r state.Reader, id mman.RequestID) (rfp.RFP, market.Request, error) {
	one, ok, err := LookupRFP(r, id)
	switch {
	case err != nil:
		return one, market.Request{}, err
	case !ok:
		return one, market.Request{}, fmt.Errorf("%w: rfp %s", mman.ErrNotFound, id)
	case one.State != rfp.Open:
		return one, market.Request{}, fmt.Errorf("rfp %s: %w: it is %s", id, mman.ErrLeaseState, one.State)
	}
	req, _, _, err := LookupRequest(r, id)
	return one, req, err
}

// commitBids takes the consumer's list. A bidder whose bond cannot be held is left
// out, so that it does not hold up the others.
func (m Module) commitBids(ctx *block.Context, msg tx.MsgCommitBids) error {
	before, _, err := openedRFP(ctx.State, msg.Request)
	if err != nil {
		return err
	}
	if before.Consumer != msg.Consumer {
		return fmt.Errorf("rfp %s: %w: it belongs to %s", msg.Request, mman.ErrDenied, before.Consumer)
	}
	list := make([]market.Commitment, len(msg.Bids))
	for i, b := range msg.Bids {
		c, err := market.DecodeCommitment(b.Commitment)
		if err != nil {
			return fmt.Errorf("bids[%d]: %w", i, err)
		}
		key, err := m.bank.Key(ctx.State, c.Bidder)
		if err != nil {
			return err
		}
		if list[i], err = (market.SignedCommitment{Bytes: b.Commitment, Key: key, Signature: b.Signature}).Open(ctx.ChainID); err != nil {
			return fmt.Errorf("bids[%d]: %w", i, err)
		}
	}
	one, added, err := before.Bring(ctx.Height, list)
	if err != nil {
		return err
	}
	for _, bidder := range added {
		err := m.holdBond(ctx, one, bidder)
		if errors.Is(err, mman.ErrFunds) {
			ctx.Emit("mman.bid_skipped", "rfp", one.Request.String(), "bidder", bidder.String(), "reason", err.Error())
			one = one.Drop(bidder)
			continue
		}
		if err != nil {
			return err
		}
	}
	return putRFP(ctx.State, before, one)
}

// holdBond puts a bidder's bond at stake.
func (m Module) holdBond(ctx *block.Context, one rfp.RFP, bidder mman.Address) error {
	if err := m.bank.Hold(ctx, bidder, one.Bond); err != nil {
		return fmt.Errorf("rfp %s: bond of %s: %w", one.Request, bidder, err)
	}
	at, _ := one.Find(bidder)
	e := one.Bids[at]
	ctx.Emit("mman.bid", "rfp", one.Request.String(), "bidder", bidder.String(), "digest", e.Digest.String(), "posted", strconv.FormatBool(e.Posted))
	return markRFP(ctx.State, one, bidder)
}

// postBid takes a commitment that the consumer acknowledged and left out.
func (m Module) postBid(ctx *block.Context, msg tx.MsgPostBid) error {
	c, err := market.DecodeCommitment(msg.Commitment)
	if err != nil {
		return err
	}
	before, req, err := openedRFP(ctx.State, c.Request)
	if err != nil {
		return err
	}
	if c.Bidder != msg.Bidder {
		return fmt.Errorf("rfp %s: %w: the commitment is of %s, %s signed the transaction", c.Request, mman.ErrDenied, c.Bidder, msg.Bidder)
	}
	one, _, err := before.Post(ctx.ChainID, ctx.Height, req.LeaseKey, msg.Commitment, msg.Acknowledgement)
	if err != nil {
		return err
	}
	if err := m.holdBond(ctx, one, c.Bidder); err != nil {
		return err
	}
	return putRFP(ctx.State, before, one)
}

// revealBid opens a commitment.
func revealBid(ctx *block.Context, msg tx.MsgRevealBid) error {
	before, req, err := openedRFP(ctx.State, msg.Request)
	if err != nil {
		return err
	}
	one, bid, err := before.Reveal(ctx.ChainID, ctx.Height, req, msg.Bidder, msg.Bid, msg.Salt)
	if err != nil {
		return err
	}
	ctx.Emit("mman.reveal", "rfp", one.Request.String(), "bidder", msg.Bidder.String(), "bid", mman.SumCID(mman.CodecDagCBOR, msg.Bid).String(), "peer", bid.Peer.String())
	return putRFP(ctx.State, before, one)
}

// cancelRFP takes back an RFP for which nobody has a bond at stake yet.
func (m Module) cancelRFP(ctx *block.Context, id mman.RequestID, r market.Request, record RequestRecord) error {
	before, ok, err := LookupRFP(ctx.State, id)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("%w: rfp %s has a request and no record", mman.ErrCorrupt, id)
	case before.State != rfp.Open:
		return fmt.Errorf("rfp %s: %w: it is %s", id, mman.ErrLeaseState, before.State)
	case len(before.Bids) > 0:
		return fmt.Errorf("rfp %s: %w: %d bidders have a bond at stake; when it is awarded, close its lease", id, mman.ErrLeaseState, len(before.Bids))
	}
	after, _ := before.Quit()
	ctx.Emit("mman.cancel", "request", id.String(), "refund_uman", digits(r.Cap))
	if err := m.endRequest(ctx, id, r, record, match.Canceled); err != nil {
		return err
	}
	return putRFP(ctx.State, before, after)
}

// hasten lets the RFP behind a lease that waits to be accepted take its next step
// in this block: because its provider accepted it, or because somebody ended it.
func hasten(ctx *block.Context, l market.Lease, left mman.Address) error {
	before, ok, err := LookupRFP(ctx.State, l.Request)
	if err != nil || !ok || before.State != rfp.Awarded || before.Lease != l.ID || !before.Left.IsZero() {
		return err
	}
	after := before
	after.Due = ctx.Height
	if l.Accepted == 0 {
		after.Left = left
	}
	return putRFP(ctx.State, before, after)
}

// awardRFPs takes the next step of the RFPs whose height has come, a bounded number
// of them.
func (m Module) awardRFPs(ctx *block.Context) error {
	keys, err := state.NewIndex(state.RFPByDue).Due(ctx.State, ctx.Height, maxRFPs)
	if err != nil || len(keys) == 0 {
		return err
	}
	b, err := m.book(ctx)
	if err != nil {
		return err
	}
	var looks, steps uint64
	for _, key := range keys {
		if looks >= ctx.Params.LooksPerBlock || steps >= stepsPerBlock {
			return nil
		}
		_, raw, err := state.ParseUint64Key(key)
		if err != nil {
			return err
		}
		id := mman.RequestID(raw)
		before, ok, err := LookupRFP(ctx.State, id)
		if err == nil && !ok {
			err = fmt.Errorf("%w: it is due and missing", mman.ErrCorrupt)
		}
		if err != nil {
			return fmt.Errorf("rfp %s: %w", id, err)
		}
		result, err := m.step(ctx, b, before)
		if err != nil {
			return fmt.Errorf("rfp %s: %w", id, err)
		}
		looks, steps = looks+result.Looks, steps+result.Steps
	}
	return nil
}

// step is what is due of one RFP.
func (m Module) step(ctx *block.Context, b *book, before rfp.RFP) (rfp.Result, error) {
	switch {
	case before.State == rfp.Awarded:
		return m.judge(ctx, b, before)
	case before.Root.IsZero():
		return rfp.Result{}, m.seal(ctx, before)
	default:
		return m.award(ctx, b, before, before)
	}
}

// seal ends the windows of commitments.
func (m Module) seal(ctx *block.Context, before rfp.RFP) error {
	after, err := before.Sealed()
	if err != nil {
		return err
	}
	if after.State == rfp.Closed {
		return m.unawarded(ctx, before, after)
	}
	ctx.Emit("mman.rfp_sealed", "rfp", after.Request.String(), "root", after.Root.String(), "bids", strconv.Itoa(len(after.Bids)))
	return putRFP(ctx.State, before, after)
}

// unawarded ends the request of an RFP that closed without a lease.
func (m Module) unawarded(ctx *block.Context, before, after rfp.RFP) error {
	r, record, _, err := LookupRequest(ctx.State, after.Request)
	if err != nil {
		return err
	}
	ctx.Emit("mman.rfp_closed", "rfp", after.Request.String(), "refund_uman", digits(r.Cap))
	if err := m.endRequest(ctx, after.Request, r, record, match.Unawarded); err != nil {
		return err
	}
	return putRFP(ctx.State, before, after)
}

// judge looks whether the winner serves.
func (m Module) judge(ctx *block.Context, b *book, before rfp.RFP) (rfp.Result, error) {
	l, ok, err := LookupLease(ctx.State, before.Lease)
	switch {
	case err != nil:
		return rfp.Result{}, err
	case !ok:
		return rfp.Result{}, fmt.Errorf("%w: lease %s is awarded and missing", mman.ErrCorrupt, before.Lease)
	case l.Accepted > 0:
		after, moves := before.Served()
		return rfp.Result{}, m.conclude(ctx, before, after, moves)
	case !before.Left.IsZero() && before.Left != l.Compute().Provider:
		after, moves := before.Quit()
		return rfp.Result{}, m.conclude(ctx, before, after, moves)
	}
	after, move, err := before.Absent(ctx.Height)
	if err != nil {
		return rfp.Result{}, err
	}
	if err := m.abandon(ctx, l); err != nil {
		return rfp.Result{}, err
	}
	if err := m.move(ctx, after, []rfp.Move{move}); err != nil {
		return rfp.Result{}, err
	}
	// The cap is in the consumer's account for a moment, and goes back into escrow
	// for the next lease.
	err = m.bank.Hold(ctx, l.Consumer, l.Cap)
	if errors.Is(err, mman.ErrFunds) { // the provider ended the lease, and the consumer spent the refund
		quit, moves := after.Quit()
		return rfp.Result{}, m.conclude(ctx, before, quit, moves)
	}
	if err != nil {
		return rfp.Result{}, err
	}
	return m.award(ctx, b, before, after)
}

// conclude closes an RFP whose lease is made, or was.
func (m Module) conclude(ctx *block.Context, before, after rfp.RFP, moves []rfp.Move) error {
	ctx.Emit("mman.rfp_closed", "rfp", after.Request.String(), "lease", after.Lease.String())
	if err := m.move(ctx, after, moves); err != nil {
		return err
	}
	return putRFP(ctx.State, before, after)
}

// award makes a lease of the best bid that is left. The cap is in escrow.
func (m Module) award(ctx *block.Context, b *book, before, now rfp.RFP) (rfp.Result, error) {
	r, record, _, err := LookupRequest(ctx.State, now.Request)
	if err != nil {
		return rfp.Result{}, err
	}
	result, err := now.Award(r, stall{b}, policy.Chain{Height: ctx.Height, Time: ctx.Time}, tx.IncludedLooks, terms(ctx))
	if err != nil {
		return result, err
	}
	if err := m.move(ctx, result.RFP, result.Moves); err != nil {
		return result, err
	}
	if result.Attempt.Looked {
		if err := decide(ctx, now.Request, result.Attempt); err != nil {
			return result, err
		}
	}
	if !result.Won() {
		return result, m.unawarded(ctx, before, result.RFP)
	}
	l, err := match.NewLease(now.Request, r, result.Attempt.Fit, ctx.Height, ctx.Params.GraceBlocks)
	if err != nil {
		return result, err
	}
	l.ID = result.RFP.Lease
	if err := m.endRequest(ctx, now.Request, r, record, match.Matched); err != nil {
		return result, err
	}
	ctx.Emit("mman.match", "request", now.Request.String(), "lease", l.ID.String(), "consumer", l.Consumer.String(), "peer", l.Compute().Peer.String())
	ctx.Emit("mman.award", "rfp", now.Request.String(), "lease", l.ID.String(), "bidder", l.Compute().Provider.String())
	if err := b.countUsage(ctx, l); err != nil {
		return result, err
	}
	if err := m.openLease(ctx, l); err != nil {
		return result, err
	}
	return result, putRFP(ctx.State, before, result.RFP)
}

// move sends bonds where they go.
func (m Module) move(ctx *block.Context, one rfp.RFP, moves []rfp.Move) error {
	for _, mv := range moves {
		ctx.Emit("mman.bond", "rfp", one.Request.String(), "bidder", mv.Bidder.String(), "uman", digits(mv.Amount),
			"burned", strconv.FormatBool(mv.Burned), "bid", string(mv.State))
		var err error
		if mv.Burned {
			err = m.bank.Burn(ctx, mv.Amount)
		} else {
			err = m.bank.Release(ctx, mv.Bidder, mv.Amount)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// stall is the book with the places of bidders; see rfp.Shop.
type stall struct{ *book }

// Standing implements rfp.Shop: an offer that was renewed since the bid stands in
// the same line.
func (s stall) Standing(b market.Bid) (match.Entry, bool, error) {
	l, _, err := lines().Get(s.state, lineKey(b.Bidder, b.Peer, market.RoleCompute.Kind(), b.Resource))
	if err != nil || l.Offer.IsZero() {
		return match.Entry{}, false, err
	}
	return s.Offer(l.Offer)
}

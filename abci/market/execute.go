package market

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
)

// Execute runs a message of the market.
func (m Module) Execute(ctx *block.Context, msg tx.Msg) error {
	switch msg := msg.(type) {
	case tx.MsgBindNode:
		return m.bindNode(ctx, msg)
	case tx.MsgOffer:
		return m.offer(ctx, msg)
	case tx.MsgWithdrawOffer:
		return m.withdrawOffer(ctx, msg)
	case tx.MsgRequest:
		return m.request(ctx, msg)
	case tx.MsgCancelRequest:
		return m.cancelRequest(ctx, msg)
	case tx.MsgSettle:
		return m.settle(ctx, msg)
	case tx.MsgCloseLease:
		return m.closeLease(ctx, msg)
	case tx.MsgAcceptLeases:
		return acceptLeases(ctx, msg)
	case tx.MsgOpenRFP:
		return m.openRFP(ctx, msg)
	case tx.MsgCommitBids:
		return m.commitBids(ctx, msg)
	case tx.MsgPostBid:
		return m.postBid(ctx, msg)
	case tx.MsgRevealBid:
		return revealBid(ctx, msg)
	case tx.MsgGrant:
		return m.grant(ctx, msg)
	case tx.MsgRevoke:
		return m.revoke(ctx, msg)
	default:
		return fmt.Errorf("%w: the market does not execute %s", mman.ErrUnknownMsg, msg.TypeURL())
	}
}

// bindNode says that the account answers for the node, or changes the node's
// addresses. A node belongs to one account for ever: otherwise an old binding,
// which anybody can read, could be played again to take it back.
func (Module) bindNode(ctx *block.Context, msg tx.MsgBindNode) error {
	if !msg.VerifyNode(ctx.ChainID) {
		return fmt.Errorf("%w: node %s did not sign its binding to %s on %s", mman.ErrBadSignature, msg.Peer, msg.Account, ctx.ChainID)
	}
	was, ok, err := LookupBinding(ctx.State, msg.Peer)
	if err != nil {
		return err
	}
	if ok && was.Account != msg.Account {
		return fmt.Errorf("%w: node %s is bound to %s: give the new account a new node key", mman.ErrExists, msg.Peer, was.Account)
	}
	index := state.NewIndex(state.MarketNodesByAccount)
	if !ok {
		bound, err := index.Page(ctx.State, msg.Account[:], nil, maxNodesPerAccount)
		if err != nil {
			return err
		}
		if len(bound) == maxNodesPerAccount {
			return fmt.Errorf("%w: account %s has %d nodes already", mman.ErrTooLarge, msg.Account, maxNodesPerAccount)
		}
	}
	if err := bindings().Set(ctx.State, msg.Peer[:], Binding{msg.Account, msg.Addrs}); err != nil {
		return err
	}
	ctx.Emit("mman.bind", "peer", msg.Peer.String(), "account", msg.Account.String())
	return index.Add(ctx.State, append(msg.Account[:len(msg.Account):len(msg.Account)], msg.Peer[:]...))
}

// offer puts an offer into the book in place of an earlier one of its line.
func (m Module) offer(ctx *block.Context, msg tx.MsgOffer) error {
	key, err := m.bank.Key(ctx.State, msg.Provider)
	if err != nil {
		return err
	}
	o, id, err := market.SignedOffer{Bytes: msg.Offer, Key: key, Signature: msg.Signature}.Open(ctx.ChainID)
	if err != nil {
		return err
	}
	if o.Provider != msg.Provider {
		return fmt.Errorf("offer %s: %w: its provider is %s, %s signed the transaction", id, mman.ErrDenied, o.Provider, msg.Provider)
	}
	if last := ctx.Height + ctx.Params.MaxOfferBlocks; o.Expires <= ctx.Height || o.Expires > last {
		return fmt.Errorf("offer %s: %w: it expires at height %d, choose %d to %d", id, mman.ErrInvalid, o.Expires, ctx.Height+1, last)
	}
	b, ok, err := LookupBinding(ctx.State, o.Peer)
	if err != nil {
		return err
	}
	if !ok || b.Account != o.Provider {
		return fmt.Errorf("offer %s: %w: node %s is not bound to %s: bind it first", id, mman.ErrDenied, o.Peer, o.Provider)
	}
	l, _, err := lines().Get(ctx.State, offerLine(o))
	if err != nil {
		return err
	}
	switch {
	case l.Offer == id:
		return fmt.Errorf("offer %s: %w: it stands already", id, mman.ErrExists)
	case !l.Offer.IsZero():
		if err := m.removeOffer(ctx, l.Offer); err != nil {
			return err
		}
	default:
		standing, err := standingOffers(o.Provider).Get(ctx.State)
		if err != nil {
			return err
		}
		if standing >= maxOffersPerProvider {
			return fmt.Errorf("offer %s: %w: %s has %d standing offers: withdraw one", id, mman.ErrTooLarge, o.Provider, maxOffersPerProvider)
		}
	}
	royalties, err := owed(ctx.State, id, o)
	if err != nil {
		return err
	}
	deposit, err := depositOf(o, ctx.Params.OfferDeposit)
	if err != nil {
		return err
	}
	if m.off.deposit {
		deposit = 0
	}
	if err := m.bank.Lock(ctx, o.Provider, deposit); err != nil {
		return fmt.Errorf("offer %s: its deposit: %w", id, err)
	}
	if err := addOffer(ctx.State, id, o, OfferRecord{Bytes: msg.Offer, Key: key, Signature: msg.Signature, Deposit: deposit, Royalties: royalties}, l.Open); err != nil {
		return err
	}
	ctx.Emit("mman.offer", "id", id.String(), "provider", o.Provider.String(), "kind", string(o.Kind), "facet", string(o.Facet), "resource", o.Resource.String())
	return nil
}

// depositOf is what an offer locks: the base, and once more for each so many
// steps that its policy may cost those who look at it.
func depositOf(o market.Offer, base uint64) (mman.Amount, error) {
	program, err := o.Policy.Compile()
	if err != nil {
		return 0, err
	}
	return mman.Amount(base).MulDivFloor(1+program.Cost()/depositSteps, 1)
}

// offerIndexes returns the indexes that an offer stands in, with its keys.
func offerIndexes(id mman.CID, o market.Offer) []struct {
	index state.Index
	key   []byte
} {
	raw := id.Bytes()
	ranked := heightKey(o.Price.Index(), raw)
	return []struct {
		index state.Index
		key   []byte
	}{
		{state.NewIndex(state.MarketOffersByFacet), append(facetKey(o.Kind, o.Facet), ranked...)},
		{state.NewIndex(state.MarketOffersByResource), append(o.Resource.Bytes(), ranked...)},
		{state.NewIndex(state.MarketOffersByProvider), append(o.Provider[:len(o.Provider):len(o.Provider)], raw...)},
		{state.NewIndex(state.MarketOffersByExpiry), heightKey(o.Expires, raw)},
	}
}

// countOffer counts one standing offer of a provider more or less.
func countOffer(w state.Writer, provider mman.Address, change int64) error {
	count := standingOffers(provider)
	n, err := count.Get(w)
	if err != nil {
		return err
	}
	return count.Set(w, uint64(int64(n)+change)) //nolint:gosec // at most maxOffersPerProvider, and what is removed was counted
}

func addOffer(w state.Writer, id mman.CID, o market.Offer, record OfferRecord, open uint64) error {
	for _, x := range offerIndexes(id, o) {
		if err := x.index.Add(w, x.key); err != nil {
			return err
		}
	}
	if err := countOffer(w, o.Provider, 1); err != nil {
		return err
	}
	if err := setLine(w, offerLine(o), line{Offer: id, Open: open}); err != nil {
		return err
	}
	if o.Policy.Royalty > 0 || len(o.Parents) > 0 {
		if err := parents().Set(w, parentKey(o.Resource, o.Provider), id); err != nil {
			return err
		}
	}
	return arrive(w, id, o, record)
}

// arrive lets the waiting requests look at the offer, perhaps again, and stores
// its record.
func arrive(w state.Writer, id mman.CID, o market.Offer, record OfferRecord) error {
	index := state.NewIndex(state.MarketArrivals)
	if record.Arrival > 0 {
		if err := index.Remove(w, arrivalKey(o, record.Arrival, id.Bytes())); err != nil {
			return err
		}
	}
	n, err := arrivals().Get(w)
	if err != nil {
		return err
	}
	record.Arrival = n + 1
	if err := arrivals().Set(w, record.Arrival); err != nil {
		return err
	}
	if err := index.Add(w, arrivalKey(o, record.Arrival, id.Bytes())); err != nil {
		return err
	}
	return offers().Set(w, id.Bytes(), record)
}

// removeOffer takes a standing offer out of the book. Its leases live on.
func (m Module) removeOffer(ctx *block.Context, id mman.CID) error {
	w := ctx.State
	o, record, ok, err := LookupOffer(w, id)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: offer %s is indexed and missing", mman.ErrCorrupt, id)
	}
	if err := offers().Delete(w, id.Bytes()); err != nil {
		return err
	}
	for _, x := range offerIndexes(id, o) {
		if err := x.index.Remove(w, x.key); err != nil {
			return err
		}
	}
	if err := state.NewIndex(state.MarketArrivals).Remove(w, arrivalKey(o, record.Arrival, id.Bytes())); err != nil {
		return err
	}
	if err := countOffer(w, o.Provider, -1); err != nil {
		return err
	}
	if err := orphan(w, id, o); err != nil {
		return err
	}
	l, _, err := lines().Get(w, offerLine(o))
	if err != nil {
		return err
	}
	l.Offer = mman.CID{}
	if err := setLine(w, offerLine(o), l); err != nil {
		return err
	}
	return m.bank.Unlock(ctx, o.Provider, record.Deposit)
}

func (m Module) withdrawOffer(ctx *block.Context, msg tx.MsgWithdrawOffer) error {
	o, _, ok, err := LookupOffer(ctx.State, msg.Offer)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("offer %s: %w: it does not stand", msg.Offer, mman.ErrOfferGone)
	case o.Provider != msg.Provider:
		return fmt.Errorf("offer %s: %w: it belongs to %s", msg.Offer, mman.ErrDenied, o.Provider)
	}
	ctx.Emit("mman.withdraw", "id", msg.Offer.String(), "provider", msg.Provider.String())
	return m.removeOffer(ctx, msg.Offer)
}

// request accepts a request: its cap goes into escrow and it waits for the end
// of the block.
func (m Module) request(ctx *block.Context, msg tx.MsgRequest) error {
	r, err := market.DecodeRequest(msg.Request)
	if err != nil {
		return err
	}
	if err := acceptable(ctx, r, msg.Consumer); err != nil {
		return err
	}
	id, err := m.enter(ctx, r, RequestRecord{Bytes: msg.Request, State: match.Queued, Made: ctx.Height, Looks: msg.Looks + tx.IncludedLooks})
	if err != nil {
		return err
	}
	for _, x := range []struct {
		family state.Prefix
		key    []byte
	}{
		{state.MarketRequestsByDeadline, heightKey(r.Deadline, id[:])},
		{state.MarketRequestQueue, heightKey(0, id[:])},
	} {
		if err := state.NewIndex(x.family).Add(ctx.State, x.key); err != nil {
			return err
		}
	}
	ctx.Emit("mman.request", "id", id.String(), "consumer", r.Consumer.String())
	return nil
}

// enter gives a request its id, its escrow and its place among the consumer's.
func (m Module) enter(ctx *block.Context, r market.Request, record RequestRecord) (mman.RequestID, error) {
	id := mman.NewRequestID(ctx.ChainID, ctx.TxHash, ctx.Message)
	byAccount := state.NewIndex(state.MarketRequestsByAccount)
	most := min(int(ctx.Params.MaxQueuedPerAccount), state.MaxPage) //nolint:gosec // at most 1024
	queued, err := byAccount.Page(ctx.State, accountKey(r.Consumer, active, nil), nil, most)
	if err != nil {
		return id, err
	}
	if len(queued) == most {
		return id, fmt.Errorf("%w: %s has %d queued requests: cancel one or wait", mman.ErrQueueFull, r.Consumer, most)
	}
	if err := m.bank.Hold(ctx, r.Consumer, r.Cap); err != nil {
		return id, fmt.Errorf("request %s: escrow of its cap: %w", id, err)
	}
	if err := requests().Set(ctx.State, id[:], record); err != nil {
		return id, err
	}
	return id, byAccount.Add(ctx.State, accountKey(r.Consumer, active, id[:]))
}

func acceptable(ctx *block.Context, r market.Request, signer mman.Address) error {
	last := ctx.Height + ctx.Params.MaxRequestBlocks
	switch {
	case r.Consumer != signer:
		return fmt.Errorf("request: %w: its consumer is %s, %s signed the transaction", mman.ErrDenied, r.Consumer, signer)
	case r.Blocks > ctx.Params.MaxLeaseBlocks:
		return fmt.Errorf("request: %w: a lease of %d blocks, at most %d are allowed", mman.ErrInvalid, r.Blocks, ctx.Params.MaxLeaseBlocks)
	case r.Deadline <= ctx.Height:
		return fmt.Errorf("request: %w: deadline %d, this is height %d", mman.ErrDeadline, r.Deadline, ctx.Height)
	case r.Deadline > last:
		return fmt.Errorf("request: %w: deadline %d, at most %d is allowed now", mman.ErrInvalid, r.Deadline, last)
	}
	return nil
}

func (m Module) cancelRequest(ctx *block.Context, msg tx.MsgCancelRequest) error {
	r, record, ok, err := LookupRequest(ctx.State, msg.Request)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("%w: request %s", mman.ErrNotFound, msg.Request)
	case r.Consumer != msg.Consumer:
		return fmt.Errorf("request %s: %w: it belongs to %s", msg.Request, mman.ErrDenied, r.Consumer)
	case record.RFP:
		return m.cancelRFP(ctx, msg.Request, r, record)
	case record.State == match.Matched:
		return m.cancelLease(ctx, msg.Request.Lease())
	case record.State != match.Queued:
		return fmt.Errorf("request %s: %w: it is %s", msg.Request, mman.ErrLeaseState, record.State)
	}
	ctx.Emit("mman.cancel", "request", msg.Request.String(), "refund_uman", digits(r.Cap))
	return m.endRequest(ctx, msg.Request, r, record, match.Canceled)
}

// endRequest takes a queued request out of the queues; unless it was matched,
// its cap goes back.
func (m Module) endRequest(ctx *block.Context, id mman.RequestID, r market.Request, record RequestRecord, outcome match.Outcome) error {
	for _, x := range []struct {
		family state.Prefix
		key    []byte
	}{
		{state.MarketRequestsByAccount, accountKey(r.Consumer, active, id[:])},
		{state.MarketRequestsByDeadline, heightKey(r.Deadline, id[:])},
		{state.MarketRequestQueue, heightKey(record.Try, id[:])},
		{state.MarketRequestsByWake, heightKey(record.Wake, id[:])},
	} {
		if err := state.NewIndex(x.family).Remove(ctx.State, x.key); err != nil {
			return err
		}
	}
	if err := state.NewIndex(state.MarketRequestsByAccount).Add(ctx.State, accountKey(r.Consumer, settled, id[:])); err != nil {
		return err
	}
	record.State, record.Try, record.Wake, record.Progress = outcome, 0, 0, nil
	if err := requests().Set(ctx.State, id[:], record); err != nil {
		return err
	}
	if outcome == match.Matched {
		return nil
	}
	if d, ok, err := LookupDecision(ctx.State, id); err != nil {
		return err
	} else if ok {
		if err := decisions().Set(ctx.State, id[:], d.End(outcome, ctx.Height)); err != nil {
			return err
		}
	}
	return m.bank.Release(ctx, r.Consumer, r.Cap)
}

package provider

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/market/rfp"
	"github.com/limboid/massive-man/p2p/protocol/bids"
	"github.com/limboid/massive-man/resources"
)

// Bidding is the rule by which this node bids for requests with a resource.
type Bidding struct {
	// DiscountBP is how far below the listing's price it bids, in basis points.
	DiscountBP uint64 `cbor:"discount_bp"`
	// Floor is the least that one run at the request's limits must bring; the price
	// per lease makes up for what is missing.
	Floor mman.Amount `cbor:"floor"`
	// MaxBond is the largest bond that it puts at stake for one request.
	MaxBond mman.Amount `cbor:"max_bond"`
}

func (b Bidding) validate(kind resources.Kind) error {
	switch {
	case kind != resources.KindCompute:
		return fmt.Errorf("%w: bids: only compute bids, this is %s", mman.ErrInvalid, kind)
	case b.DiscountBP > resources.BasisPoints:
		return fmt.Errorf("%w: bids.discount_bp %d: at most %d basis points", mman.ErrInvalid, b.DiscountBP, uint64(resources.BasisPoints))
	case b.MaxBond == 0:
		return fmt.Errorf("%w: bids.max_bond: say how much may be at stake for one request, for example 0.1MAN", mman.ErrInvalid)
	}
	return nil
}

// price returns the bid on a request for what costs list, and what one run at its
// limits costs then.
func (b Bidding) price(o market.Offer, limits resources.Limits) (price.Price, mman.Amount, error) {
	part := resources.BasisPoints - b.DiscountBP
	p := price.Price{Units: slices.Clone(o.Price.Units)}
	var err error
	if p.PerLease, err = o.Price.PerLease.MulDivCeil(part, resources.BasisPoints); err != nil {
		return p, 0, err
	}
	for i := range p.Units {
		if p.Units[i].UMan, err = p.Units[i].UMan.MulDivCeil(part, resources.BasisPoints); err != nil {
			return p, 0, err
		}
	}
	o.Price = p
	rank, err := match.Rank(limits, o)
	if err != nil || rank >= b.Floor {
		return p, rank, err
	}
	p.PerLease, err = p.PerLease.Add(b.Floor - rank)
	return p, b.Floor, err
}

// ownBid is a bid of this node, written down before anybody hears of it.
type ownBid struct {
	Request    mman.RequestID          `cbor:"request"`
	Resource   mman.CID                `cbor:"resource"`
	Bid        []byte                  `cbor:"bid"`
	Salt       mman.Hash               `cbor:"salt"`
	Commitment market.SignedCommitment `cbor:"commitment"`
	// Ack is the consumer's signature over the commitment, once it came.
	Ack []byte `cbor:"ack,omitempty"`
	// Until is the last height at which it may be revealed.
	Until uint64 `cbor:"until"`
}

const (
	ownBidMax = 4 << 10
	// maxOwnBids bounds the bids that are not decided.
	maxOwnBids = 256
	// bidMsgs is how many messages about bids go into one transaction.
	bidMsgs = 16
)

func bidKey(id mman.RequestID) []byte { return append([]byte{prefixBid}, id[:]...) }

func (p *Provider) putBid(b ownBid) error {
	enc, err := dagcbor.Marshal(b)
	if err != nil {
		return err
	}
	return p.records.Set(bidKey(b.Request), enc)
}

func (p *Provider) getBid(id mman.RequestID) (ownBid, bool, error) {
	enc, ok, err := p.records.Get(bidKey(id))
	if err != nil || !ok {
		return ownBid{}, false, err
	}
	b, err := dagcbor.Unmarshal[ownBid](enc, ownBidMax)
	if err != nil {
		err = fmt.Errorf("%w: bid on request %s: %w", mman.ErrCorrupt, id, err)
	}
	return b, err == nil, err
}

// ownBids lists the bids that are not decided.
func (p *Provider) ownBids() ([]ownBid, error) {
	keys, err := p.keys([]byte{prefixBid}, []byte{prefixBid + 1}, maxOwnBids)
	if err != nil {
		return nil, err
	}
	var out []ownBid
	for _, key := range keys {
		if len(key) != 1+mman.IDSize {
			return nil, fmt.Errorf("%w: bid under key %x", mman.ErrCorrupt, key)
		}
		b, ok, err := p.getBid(mman.RequestID(key[1:]))
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, b)
		}
	}
	return out, nil
}

// Bid decides upon a request that was put out to bids; see bids.Bidder. Asked
// again, it hands out the same commitment: nobody can draw a second bid from it.
func (p *Provider) Bid(_ context.Context, id mman.RequestID) (bids.Sealed, error) {
	p.bidding.Lock()
	defer p.bidding.Unlock()
	own, ok, err := p.getBid(id)
	if err == nil && !ok {
		own, err = p.makeBid(id)
	}
	if err != nil {
		return bids.Sealed{}, err
	}
	return bids.Sealed{Commitment: own.Commitment.Bytes, Key: []byte(own.Commitment.Key.String()), Signature: own.Commitment.Signature}, nil
}

func (p *Provider) makeBid(id mman.RequestID) (ownBid, error) {
	one, req, err := p.ledger.RFP(id)
	height := p.ledger.Height()
	switch {
	case notFound(err):
		return ownBid{}, fmt.Errorf("request %s: %w", id, mman.ErrLeaseUnknown)
	case err != nil:
		return ownBid{}, err
	case one.State != rfp.Open || height >= one.CommitBy:
		return ownBid{}, fmt.Errorf("request %s: %w: commitments were due at height %d, this is %d", id, mman.ErrDeadline, one.CommitBy, height)
	}
	live, err := p.ownBids()
	if err != nil {
		return ownBid{}, err
	}
	if len(live) >= maxOwnBids {
		return ownBid{}, fmt.Errorf("request %s: %w: this node has %d bids under way", id, mman.ErrBusy, len(live))
	}
	bid, until, err := p.best(one, req, live)
	if err != nil {
		return ownBid{}, fmt.Errorf("request %s: %w", id, err)
	}
	own := ownBid{Request: id, Resource: bid.Resource, Until: until}
	if own.Bid, _, err = bid.Encode(); err != nil {
		return ownBid{}, err
	}
	if _, err := io.ReadFull(rand.Reader, own.Salt[:]); err != nil {
		return ownBid{}, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	own.Commitment, err = p.submitter.SignCommitment(market.Commitment{
		Version: 1, Request: id, Bidder: bid.Bidder, Digest: market.Seal(p.cfg.ChainID, id, bid.Bidder, own.Bid, own.Salt),
	})
	if err != nil {
		return ownBid{}, err
	}
	return own, p.putBid(own)
}

// best returns the cheapest bid that this node's rules make; an error says why
// there is none.
func (p *Provider) best(one rfp.RFP, req market.Request, live []ownBid) (bid market.Bid, until uint64, err error) {
	found, lowest := false, mman.Amount(0)
	why := fmt.Errorf("%w: this node does not bid with what is wanted", mman.ErrNoBid)
	for _, h := range p.holdings.all() {
		if h.Withdrawn || h.Bids == nil || h.Signed == nil {
			continue
		}
		priced, rank, err := p.consider(h, one, req, live)
		switch {
		case err != nil && mman.CodeOf(err) != mman.ErrInternal.Code && !errors.Is(err, mman.ErrCorrupt):
			why = err
		case err != nil:
			return bid, 0, err
		case !found || rank < lowest:
			found, lowest = true, rank
			bid = market.Bid{Version: 1, Request: one.Request, Bidder: p.submitter.Address(), Peer: p.peer, Resource: h.Resource, Price: priced}
		}
	}
	if !found {
		return bid, 0, why
	}
	return bid, one.RevealBy, bid.Answers(one.Request, req)
}

// consider asks the rule and the policy of one resource. A node promises only what
// nobody else can change: where the answer depends on counts of leases or on the
// time, it does not bid.
func (p *Provider) consider(h holding, one rfp.RFP, req market.Request, live []ownBid) (price.Price, mman.Amount, error) {
	o, id, err := market.DecodeOffer(h.Signed.Bytes)
	if err != nil {
		return price.Price{}, 0, err
	}
	program, err := o.Policy.Compile()
	if err != nil {
		return price.Price{}, 0, err
	}
	promised := uint64(0)
	for _, b := range live {
		if b.Resource == h.Resource {
			promised++
		}
	}
	chain := policy.Chain{Height: p.ledger.Height()}
	if p.cfg.Now != nil {
		chain.Time = p.cfg.Now().Unix()
	}
	willing, _, err := match.Willing(req, match.Entry{ID: id, Offer: o, Program: program}, granting{p.ledger}, chain)
	switch {
	case err != nil:
		return price.Price{}, 0, err
	case one.Bond > h.Bids.MaxBond:
		return price.Price{}, 0, fmt.Errorf("%w: the bond of %s is above the %s that this node puts at stake", mman.ErrNoBid, one.Bond, h.Bids.MaxBond)
	case promised >= o.Capacity:
		return price.Price{}, 0, fmt.Errorf("%w: all places are promised to other bids", mman.ErrNoBid)
	case program.ReadsUsage() || program.ReadsClock():
		return price.Price{}, 0, fmt.Errorf("%w: the policy depends on counts or on the time, which may change before the award", mman.ErrNoBid)
	case !willing:
		return price.Price{}, 0, fmt.Errorf("%w: the policy denies the request, or it asks for something else", mman.ErrPolicy)
	}
	priced, rank, err := h.Bids.price(o, req.Limits)
	if err == nil && priced.PerLease > req.Cap {
		err = fmt.Errorf("%w: the bid would be above the cap of %s", mman.ErrPrice, req.Cap)
	}
	return priced, rank, err
}

// granting is what a policy may read of the ledger before a bid; see
// match.Records.
type granting struct{ ledger Ledger }

// Open implements match.Records: a bid has a place of its own.
func (granting) Open(match.Entry) (uint64, error) { return 0, nil }

// Usage implements match.Records: nobody bids with a policy that asks for it.
func (granting) Usage(match.Entry, mman.Address) (policy.Usage, error) { return policy.Usage{}, nil }

// Grant implements match.Records.
func (g granting) Grant(e match.Entry, consumer mman.Address) (match.Grant, bool, error) {
	leg := market.Leg{Role: market.RoleCompute, Provider: e.Offer.Provider, Peer: e.Offer.Peer, Resource: e.Offer.Resource}
	granted, err := g.ledger.Grant(leg, consumer)
	if notFound(err) {
		return match.Grant{}, false, nil
	}
	return match.Grant{Policy: granted}, err == nil, err
}

// Acknowledged keeps the consumer's word that a commitment came in time; see
// bids.Bidder.
func (p *Provider) Acknowledged(_ context.Context, id mman.RequestID, signature []byte) error {
	p.bidding.Lock()
	defer p.bidding.Unlock()
	own, ok, err := p.getBid(id)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("request %s: %w: this node has no bid on it", id, mman.ErrNoBid)
	}
	_, req, err := p.ledger.RFP(id)
	if err != nil {
		return err
	}
	if !market.Acknowledged(p.cfg.ChainID, req.LeaseKey, own.Commitment.Bytes, signature) {
		return fmt.Errorf("request %s: %w: the lease key did not sign this acknowledgement", id, mman.ErrBadSignature)
	}
	own.Ack = signature
	return p.putBid(own)
}

// attend does what this node's bids need at a height: it brings to the ledger what
// a consumer acknowledged and left out, opens commitments, accepts what it won, and
// forgets what is decided.
func (p *Provider) attend(ctx context.Context, height uint64) error {
	live, err := p.ownBids()
	if err != nil {
		return err
	}
	var msgs []tx.Msg
	for _, own := range live {
		m, done, err := p.next(own, height)
		if err != nil {
			return fmt.Errorf("bid on request %s: %w", own.Request, err)
		}
		if done {
			if err := p.forgetBid(own.Request); err != nil {
				return err
			}
		}
		if m != nil {
			msgs = append(msgs, m)
		}
	}
	var errs []error
	for batch := range slices.Chunk(msgs, bidMsgs) {
		errs = append(errs, p.submitBids(ctx, batch))
	}
	return errors.Join(errs...)
}

func (p *Provider) forgetBid(id mman.RequestID) error {
	p.bidding.Lock()
	defer p.bidding.Unlock()
	return p.records.Delete(bidKey(id))
}

// submitBids brings the messages in one transaction; when that fails, each in one
// of its own, so that none holds up the others.
func (p *Provider) submitBids(ctx context.Context, msgs []tx.Msg) error {
	_, err := p.submitter.Submit(ctx, msgs...)
	if err == nil {
		p.log.LogAttrs(ctx, slog.LevelDebug, "bids moved on", slog.Int("messages", len(msgs)))
		return nil
	}
	if len(msgs) == 1 {
		return err
	}
	var errs []error
	for _, m := range msgs {
		_, err := p.submitter.Submit(ctx, m)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// next returns the message that a bid needs now, or that it is decided.
func (p *Provider) next(own ownBid, height uint64) (m tx.Msg, done bool, err error) {
	one, _, err := p.ledger.RFP(own.Request)
	if notFound(err) {
		return nil, height > own.Until, nil
	}
	if err != nil || one.State == rfp.Closed {
		return nil, err == nil, err
	}
	me := p.submitter.Address()
	at, in := one.Find(me)
	if !in {
		if len(own.Ack) > 0 && (one.Brought || height >= one.CommitBy) && height < one.SealBy {
			return tx.MsgPostBid{Bidder: me, Commitment: own.Commitment.Bytes, Acknowledgement: own.Ack}, false, nil
		}
		return nil, height >= one.SealBy, nil
	}
	switch one.Bids[at].State {
	case rfp.Committed:
		if height < one.SealBy || height >= one.RevealBy {
			return nil, false, nil
		}
		return tx.MsgRevealBid{Bidder: me, Request: own.Request, Bid: own.Bid, Salt: own.Salt}, false, nil
	case rfp.Won:
		lease, err := p.ledger.Lease(one.Lease)
		if err != nil || lease.State != market.LeaseOpen || lease.Accepted > 0 {
			return nil, false, err
		}
		return tx.MsgAcceptLeases{Provider: me, Leases: []mman.LeaseID{one.Lease}}, false, nil
	case rfp.Revealed:
		return nil, false, nil
	case rfp.Served, rfp.Lost, rfp.Withheld, rfp.Unfit, rfp.Absent:
		return nil, true, nil
	}
	return nil, false, nil
}

package chain

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/rfp"
	"github.com/limboid/massive-man/resources"
)

// Account is an account as the ledger has it.
type Account struct {
	Address  mman.Address  `json:"address"`
	Number   uint64        `json:"number"`
	Sequence uint64        `json:"sequence"`
	Key      sig.PublicKey `json:"public_key,omitzero"`
	Balance  mman.Amount   `json:"balance_uman"`
}

// Supply is where all money is: genesis + minted − burned equals the sum of
// liquid, escrow, staked and pools.
type Supply struct {
	Genesis mman.Amount `json:"genesis"`
	Minted  mman.Amount `json:"minted"`
	Burned  mman.Amount `json:"burned"`
	Liquid  mman.Amount `json:"liquid"`
	Escrow  mman.Amount `json:"escrow"`
	Staked  mman.Amount `json:"staked"`
	Pools   mman.Amount `json:"pools"`
}

// Conserved reports whether the supply identity holds.
func (s Supply) Conserved() bool {
	return s.Genesis+s.Minted-s.Burned == s.Liquid+s.Escrow+s.Staked+s.Pools
}

// Total is all money that exists.
func (s Supply) Total() mman.Amount { return s.Genesis + s.Minted - s.Burned }

// Fee is what transactions cost now.
type Fee struct {
	BaseFeeMicro uint64      `json:"base_fee_micro"`
	Gas          genesis.Gas `json:"gas"`
	MaxGasPerTx  uint64      `json:"max_gas_per_tx"`
}

// Binding says which account answers for a node, and where the node is.
type Binding struct {
	Peer    mman.PeerID  `json:"peer"`
	Account mman.Address `json:"account"`
	Addrs   []string     `json:"addrs"`
}

// OfferRecord is a standing offer with the bytes that its provider signed.
type OfferRecord struct {
	ID        mman.CID      `json:"id"`
	Offer     market.Offer  `json:"offer"`
	Open      uint64        `json:"open"`
	Bytes     []byte        `json:"bytes"`
	Key       sig.PublicKey `json:"key"`
	Signature []byte        `json:"signature"`
	// Royalties are what the node says that owners of parents get of what the offer
	// earns; nobody signed them, and they change nothing of what a consumer pays.
	Royalties []market.Royalty `json:"royalties,omitempty"`
}

// RequestRecord is a request and how it stands.
type RequestRecord struct {
	ID       mman.RequestID  `json:"id"`
	Request  market.Request  `json:"request"`
	State    match.Outcome   `json:"state"`
	Lease    *mman.LeaseID   `json:"lease,omitempty"`
	Decision *match.Decision `json:"decision,omitempty"`
	// RFP is how it stands when it was put out to sealed bids.
	RFP *rfp.RFP `json:"rfp,omitempty"`
}

// Info is what the ledger remembers of its genesis.
type Info struct {
	ID      string    `json:"chain_id"`
	Network string    `json:"network"`
	Genesis mman.Hash `json:"genesis_hash"`
}

func get[T any](ctx context.Context, c *Client, format string, args ...any) (T, error) {
	var v T
	_, err := c.Query(ctx, fmt.Sprintf(format, args...), &v)
	return v, err
}

// Chain returns what the ledger remembers of its genesis.
func (c *Client) Chain(ctx context.Context) (Info, error) {
	return get[Info](ctx, c, "/mman/chain")
}

// Account returns an account, or mman.ErrNotFound when it has never received
// anything.
func (c *Client) Account(ctx context.Context, a mman.Address) (Account, error) {
	return get[Account](ctx, c, "/mman/account/%s", a)
}

// Supply returns where all money is.
func (c *Client) Supply(ctx context.Context) (Supply, error) {
	return get[Supply](ctx, c, "/mman/supply")
}

// Fee returns what transactions cost now.
func (c *Client) Fee(ctx context.Context) (Fee, error) { return get[Fee](ctx, c, "/mman/fee") }

// Params returns the parameters in force.
func (c *Client) Params(ctx context.Context) (genesis.Params, error) {
	return get[genesis.Params](ctx, c, "/mman/params")
}

// Bootstrap lists nodes of validators, where a stranger enters the peer-to-peer
// network, 200 at most.
func (c *Client) Bootstrap(ctx context.Context) ([]Binding, error) {
	p, err := get[Page[Binding]](ctx, c, "/mman/bootstrap?limit=200")
	return p.Items, err
}

// Node returns a node's binding, or mman.ErrNotFound.
func (c *Client) Node(ctx context.Context, peer mman.PeerID) (Binding, error) {
	return get[Binding](ctx, c, "/mman/nodes/%s", peer)
}

// Request returns a request, or mman.ErrNotFound.
func (c *Client) Request(ctx context.Context, id mman.RequestID) (RequestRecord, error) {
	return get[RequestRecord](ctx, c, "/mman/requests/%s", id)
}

// Lease returns a lease, or mman.ErrNotFound.
func (c *Client) Lease(ctx context.Context, id mman.LeaseID) (market.Lease, error) {
	return get[market.Lease](ctx, c, "/mman/leases/%s", id)
}

// Offer returns a standing offer whose signature is verified, or
// mman.ErrNotFound.
func (c *Client) Offer(ctx context.Context, chainID string, id mman.CID) (OfferRecord, error) {
	r, err := get[OfferRecord](ctx, c, "/mman/offers/%s", id)
	if err != nil {
		return OfferRecord{}, err
	}
	return r, r.verify(chainID, id)
}

// verify replaces what the node says of the offer by what its provider signed.
func (r *OfferRecord) verify(chainID string, id mman.CID) error {
	o, got, err := market.SignedOffer{Bytes: r.Bytes, Key: r.Key, Signature: r.Signature}.Open(chainID)
	if err != nil {
		return err
	}
	if got != id {
		return fmt.Errorf("offer %s: %w: the node answers with offer %s", id, mman.ErrContent, got)
	}
	r.Offer, r.ID = o, got
	return nil
}

// Page is one page of a list; Next is where the following one begins, "" on the
// last.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next"`
}

// OfferFilter selects offers; zero fields select all.
type OfferFilter struct {
	Kind     resources.Kind
	Facet    resources.Facet
	Resource mman.CID
	Provider mman.Address
}

func (f OfferFilter) args() url.Values {
	v := url.Values{}
	if f.Kind != "" {
		v.Set("kind", string(f.Kind))
	}
	if f.Facet != "" {
		v.Set("facet", string(f.Facet))
	}
	if !f.Resource.IsZero() {
		v.Set("resource", f.Resource.String())
	}
	if !f.Provider.IsZero() {
		v.Set("provider", f.Provider.String())
	}
	return v
}

// Offers lists at most limit standing offers, verified; those whose signature
// does not verify are left out and counted in skipped.
func (c *Client) Offers(ctx context.Context, chainID string, filter OfferFilter, limit int) (offers []OfferRecord, skipped int, err error) {
	all, err := list[OfferRecord](ctx, c, "/mman/offers", filter.args(), limit)
	if err != nil {
		return nil, 0, err
	}
	for _, o := range all {
		if err := o.verify(chainID, o.ID); err != nil {
			skipped++
			continue
		}
		offers = append(offers, o)
	}
	return offers, skipped, nil
}

// Leases lists at most limit leases in which the account takes part.
func (c *Client) Leases(ctx context.Context, account mman.Address, limit int) ([]market.Lease, error) {
	return list[market.Lease](ctx, c, "/mman/leases", url.Values{"account": {account.String()}}, limit)
}

// Requests lists at most limit requests of a consumer.
func (c *Client) Requests(ctx context.Context, consumer mman.Address, limit int) ([]RequestRecord, error) {
	return list[RequestRecord](ctx, c, "/mman/requests", url.Values{"consumer": {consumer.String()}}, limit)
}

// RFP returns a request that was put out to bids, or mman.ErrNotFound.
func (c *Client) RFP(ctx context.Context, id mman.RequestID) (rfp.RFP, error) {
	return get[rfp.RFP](ctx, c, "/mman/rfps/%s", id)
}

// RFPs lists at most limit requests that were put out to bids, of an account as
// consumer or bidder, or with the zero address of all; those that are not closed
// come first.
func (c *Client) RFPs(ctx context.Context, account mman.Address, limit int) ([]rfp.RFP, error) {
	args := url.Values{}
	if !account.IsZero() {
		args.Set("account", account.String())
	}
	return list[rfp.RFP](ctx, c, "/mman/rfps", args, limit)
}

const pageSize = 50

// list follows the pages of a list.
func list[T any](ctx context.Context, c *Client, path string, args url.Values, limit int) ([]T, error) {
	var out []T
	for len(out) < limit {
		args.Set("limit", strconv.Itoa(min(pageSize, limit-len(out))))
		var p Page[T]
		if _, err := c.Query(ctx, path+"?"+args.Encode(), &p); err != nil {
			return nil, err
		}
		out = append(out, p.Items...)
		if p.Next == "" || len(p.Items) == 0 {
			break
		}
		args.Set("after", p.Next)
	}
	return out, nil
}

// Gone reports whether err says that something does not exist.
func Gone(err error) bool { return errors.Is(err, mman.ErrNotFound) }

package abci

import (
	"strconv"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/bank"
	"github.com/limboid/massive-man/abci/block"
	ledger "github.com/limboid/massive-man/abci/market"
	"github.com/limboid/massive-man/abci/state"
	vault "github.com/limboid/massive-man/abci/storage"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/rfp"
	"github.com/limboid/massive-man/market/storage"
)

// View is the committed state of one height for the node itself: a provider
// reads its own node's state, not an RPC. It never changes and is safe for
// concurrent use; take a new one after each commit. An error is ErrCorrupt,
// with which a node cannot go on, unless a method says otherwise.
type View struct{ snapshot *state.Snapshot }

// View returns the last committed state.
func (a *Application) View() View { return View{a.latest.Load().Latest()} }

// Height returns the view's height, 0 before the first block.
func (v View) Height() uint64 { return v.snapshot.Height() }

// Root returns the root of the state.
func (v View) Root() mman.Hash { return v.snapshot.Root() }

// Pairs returns how many pairs of key and value the state has.
func (v View) Pairs() int { return v.snapshot.Len() }

// Chain returns what the state remembers of its genesis; ErrNotFound before the
// first block.
func (v View) Chain() (Chain, error) { return readChain(v.snapshot) }

// Params returns the parameters in force; ErrNotFound before the first block.
func (v View) Params() (genesis.Params, error) { return readParams(v.snapshot) }

// Account returns an account; ok is false when it never received coins.
func (v View) Account(a mman.Address) (account bank.Account, ok bool, err error) {
	return bank.Lookup(v.snapshot, a)
}

// Lease returns a lease, also one that is closed.
func (v View) Lease(id mman.LeaseID) (lease market.Lease, ok bool, err error) {
	return ledger.LookupLease(v.snapshot, id)
}

// ActiveLeases returns up to limit leases (1 to state.MaxPage) of which the
// account is consumer or provider and which are open or closing, in the order of
// ids, those after the given one; nil starts at the first.
func (v View) ActiveLeases(a mman.Address, after *mman.LeaseID, limit int) ([]market.Lease, error) {
	return ledger.ActiveLeases(v.snapshot, a, after, limit)
}

// Request returns a request and how it stands.
func (v View) Request(id mman.RequestID) (request market.Request, outcome match.Outcome, ok bool, err error) {
	request, record, ok, err := ledger.LookupRequest(v.snapshot, id)
	return request, record.State, ok, err
}

// RFP returns the record of a request that was put out to bids.
func (v View) RFP(id mman.RequestID) (record rfp.RFP, ok bool, err error) {
	return ledger.LookupRFP(v.snapshot, id)
}

// Decision returns why a request was matched or not.
func (v View) Decision(id mman.RequestID) (decision match.Decision, ok bool, err error) {
	return ledger.LookupDecision(v.snapshot, id)
}

// Offer returns a standing offer as it was signed.
func (v View) Offer(id mman.CID) (offer market.Offer, signed market.SignedOffer, ok bool, err error) {
	offer, record, ok, err := ledger.LookupOffer(v.snapshot, id)
	if err != nil || !ok || offer.Expires <= v.Height() {
		return market.Offer{}, market.SignedOffer{}, false, err
	}
	return offer, market.SignedOffer{Bytes: record.Bytes, Key: record.Key, Signature: record.Signature}, true, nil
}

// Grant returns what the holder of a leg granted an account; ok is false when it
// was revoked or has expired.
func (v View) Grant(leg market.Leg, grantee mman.Address) (granted policy.Policy, ok bool, err error) {
	g, ok, err := ledger.LookupGrant(v.snapshot, ledger.LegLine(leg), grantee)
	return g.Policy, ok && g.Revoked == 0 && g.Expires > v.Height(), err
}

// Binding returns which account answers for a node.
func (v View) Binding(peer mman.PeerID) (binding ledger.Binding, ok bool, err error) {
	return ledger.LookupBinding(v.snapshot, peer)
}

// StorageLease returns a storage lease that has not ended.
func (v View) StorageLease(id mman.LeaseID) (lease storage.Lease, ok bool, err error) {
	return vault.LookupLease(v.snapshot, id)
}

// StorageReplicas returns up to limit (1 to state.MaxPage) replicas that a provider
// has or is to get, those after the given one; nil starts at the first.
func (v View) StorageReplicas(provider mman.Address, after *vault.Name, limit int) ([]vault.Name, error) {
	return vault.Replicas(v.snapshot, provider, after, limit)
}

// StorageDrawn returns the latest challenge of storage; ok is false before the first.
func (v View) StorageDrawn() (drawn storage.Drawn, ok bool, err error) {
	return vault.LookupDrawn(v.snapshot)
}

// StorageHeld returns how many replicas are held, of all leases.
func (v View) StorageHeld() (uint64, error) { return vault.LookupHeld(v.snapshot) }

// StorageOffer returns what a provider lends of a tier.
func (v View) StorageOffer(provider mman.Address, tier storage.Tier) (offer storage.Offer, ok bool, err error) {
	return vault.LookupOffer(v.snapshot, provider, tier)
}

// StorageRetrieval returns what a consumer set aside for what it fetches from a
// provider.
func (v View) StorageRetrieval(consumer, provider mman.Address) (aside vault.Retrieval, ok bool, err error) {
	return vault.LookupRetrieval(v.snapshot, consumer, provider)
}

// Bootstrap returns the nodes of the accounts that answer for the validators of
// the first block; ErrNotFound before it.
func (v View) Bootstrap() ([]ledger.Node, error) {
	page, err := bootstrap(block.Query{Args: map[string]string{"limit": strconv.Itoa(block.MaxLimit)}, State: v.snapshot})
	return page.Items, err
}

// bootstrap answers a page of the nodes of the first validators.
func bootstrap(q block.Query) (block.Page[ledger.Node], error) {
	c, err := readChain(q.State)
	if err != nil {
		return block.Page[ledger.Node]{}, err
	}
	return ledger.NodesOf(q, c.Operators)
}

package market

import (
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/rfp"
	"github.com/limboid/massive-man/resources"
)

// Binding says which account answers for a node.
type Binding struct {
	Account mman.Address `cbor:"account" json:"account"`
	// Addrs are the node's multiaddrs.
	Addrs []string `cbor:"addrs"   json:"addrs"`
}

// OfferRecord is a standing offer as it was signed.
type OfferRecord struct {
	Bytes     []byte        `cbor:"bytes"`
	Key       sig.PublicKey `cbor:"key"`
	Signature []byte        `cbor:"signature"`
	// Arrival is the number of its latest arrival.
	Arrival uint64 `cbor:"arrival"`
	// Deposit is locked until the offer goes.
	Deposit mman.Amount `cbor:"deposit,omitempty"`
	// Royalties are owed of what the offer earns, as its parents stood when it was
	// posted.
	Royalties []market.Royalty `cbor:"royalties,omitempty"`
}

// line counts the open leases of one provider's node for one resource. An offer
// that is posted again takes the line over, with its leases.
type line struct {
	// Offer is the standing offer, zero when none stands any more.
	Offer mman.CID `cbor:"offer,omitzero"`
	Open  uint64   `cbor:"open"`
	// Missed counts the leases in a row that the provider did not accept.
	Missed uint64 `cbor:"missed,omitempty"`
}

// GrantRecord is what a holder granted one account on a line.
type GrantRecord struct {
	Provider mman.Address  `cbor:"provider"`
	Policy   policy.Policy `cbor:"policy"`
	// Expires is the height from which it no longer counts.
	Expires uint64 `cbor:"expires"`
	// Revoked is the height at which it was taken back, 0 while it counts. The
	// record stays until it expires, so that the grantee learns why.
	Revoked uint64 `cbor:"revoked,omitempty"`
}

// RequestRecord is a request and how it stands.
type RequestRecord struct {
	Bytes []byte        `cbor:"bytes"`
	State match.Outcome `cbor:"state"`
	// Made is the height at which it was made.
	Made uint64 `cbor:"made"`
	// Try is the arrival from which on another attempt can change anything; 0
	// before the first attempt.
	Try uint64 `cbor:"try"`
	// Wake is the height at which to ask policies again that depend on time, 0
	// when none does.
	Wake uint64 `cbor:"wake,omitempty"`
	// Looks is how many offers may be looked at, over all attempts.
	Looks uint64 `cbor:"looks"`
	// RFP: it was put out to sealed bids, and no queue of the match has it.
	RFP bool `cbor:"rfp,omitempty"`
	// Progress is absent before the first attempt and after the last.
	Progress *match.Progress `cbor:"progress,omitempty"`
}

// Bounds of the records in bytes.
const (
	bindingMaxBytes  = 2 << 10
	offerMaxBytes    = market.OfferMaxBytes + 256 + market.MaxRoyalties*128
	lineMaxBytes     = 128
	parentMaxBytes   = 64
	grantMaxBytes    = tx.MaxPolicyBytes + 256
	requestMaxBytes  = market.RequestMaxBytes + 4096
	leaseMaxBytes    = 64 << 10
	decisionMaxBytes = match.MaxDecisionBytes
	rfpMaxBytes      = 48 << 10 // with the most bids as large as they can be
)

func bindings() state.Table[Binding] {
	return state.NewTable[Binding](state.MarketNodes, bindingMaxBytes)
}

func offers() state.Table[OfferRecord] {
	return state.NewTable[OfferRecord](state.MarketOffers, offerMaxBytes)
}

func lines() state.Table[line] { return state.NewTable[line](state.MarketUsage, lineMaxBytes) }

func grants() state.Table[GrantRecord] {
	return state.NewTable[GrantRecord](state.MarketGrants, grantMaxBytes)
}

// parents says which offer of an owner's resource was posted last, of those that
// ask for a royalty or owe one.
func parents() state.Table[mman.CID] {
	return state.NewTable[mman.CID](state.MarketParents, parentMaxBytes)
}

func parentKey(resource mman.CID, owner mman.Address) []byte {
	return append(resource.Bytes(), owner[:]...)
}

func requests() state.Table[RequestRecord] {
	return state.NewTable[RequestRecord](state.MarketRequests, requestMaxBytes)
}

func leases() state.Table[market.Lease] {
	return state.NewTable[market.Lease](state.MarketLeases, leaseMaxBytes)
}

func decisions() state.Table[match.Decision] {
	return state.NewTable[match.Decision](state.MarketDecisions, decisionMaxBytes)
}

func rfps() state.Table[rfp.RFP] {
	return state.NewTable[rfp.RFP](state.RFPRecords, rfpMaxBytes)
}

// arrivals counts what came into the book: offers that were posted, and places
// on offers that became free.
func arrivals() state.Counter { return state.NewCounter(state.MarketTotals, "book") }

// standingOffers counts the offers of a provider that stand: an account may have
// many, and the bound on them is asked for with every new one.
func standingOffers(provider mman.Address) state.Counter {
	return state.NewCounter(state.MarketTotals, offersCounter+string(provider[:]))
}

// offersCounter begins the names of those counters.
const offersCounter = "offers of "

// lineKey names a line.
func lineKey(provider mman.Address, peer mman.PeerID, kind resources.Kind, resource mman.CID) []byte {
	sum := mman.Sum256(provider[:], peer[:], resource.Bytes(), []byte(kind))
	return sum[:]
}

func offerLine(o market.Offer) []byte { return lineKey(o.Provider, o.Peer, o.Kind, o.Resource) }

// LegLine names the line of a lease's leg.
func LegLine(leg market.Leg) []byte {
	return lineKey(leg.Provider, leg.Peer, leg.Role.Kind(), leg.Resource)
}

func setLine(w state.Writer, key []byte, l line) error {
	if l.Open == 0 && l.Offer.IsZero() { // what it missed is forgotten with it
		return lines().Delete(w, key)
	}
	return lines().Set(w, key, l)
}

// The marks in the indexes by account.
const (
	active  byte = 0
	settled byte = 1
)

func accountKey(a mman.Address, mark byte, id []byte) []byte {
	return append(append(a[:len(a):len(a)], mark), id...)
}

func facetKey(kind resources.Kind, facet resources.Facet) []byte {
	return state.AppendString(state.AppendString(nil, string(kind)), string(facet))
}

// classKey is the prefix of the offers of a class in the order of prices.
func classKey(c match.Class) (state.Prefix, []byte) {
	if !c.Resource.IsZero() {
		return state.MarketOffersByResource, c.Resource.Bytes()
	}
	return state.MarketOffersByFacet, facetKey(c.Kind, c.Facet)
}

// resourceMark is how many bytes of a resource's digest tell its arrivals from
// others, so that those need not be read.
const resourceMark = 8

func arrivalKey(o market.Offer, number uint64, id []byte) []byte {
	digest := o.Resource.Digest()
	key := append(facetKey(o.Kind, o.Facet), state.Uint64Key(number)...)
	return append(append(key, digest[:resourceMark]...), id...)
}

func heightKey(height uint64, id []byte) []byte { return append(state.Uint64Key(height), id...) }

// LookupBinding returns who answers for a node.
func LookupBinding(r state.Reader, peer mman.PeerID) (Binding, bool, error) {
	return bindings().Get(r, peer[:])
}

// LookupOffer returns a standing offer with its bytes and signature. An offer
// that expired may be found until the block that removes it.
func LookupOffer(r state.Reader, id mman.CID) (market.Offer, OfferRecord, bool, error) {
	record, ok, err := offers().Get(r, id.Bytes())
	if err != nil || !ok {
		return market.Offer{}, OfferRecord{}, false, err
	}
	o, _, err := market.DecodeOffer(record.Bytes)
	if err != nil {
		return market.Offer{}, OfferRecord{}, false, fmt.Errorf("%w: offer %s: %w", mman.ErrCorrupt, id, err)
	}
	return o, record, true, nil
}

// OpenLeases returns how many leases of the offer's line are open.
func OpenLeases(r state.Reader, o market.Offer) (uint64, error) {
	l, _, err := lines().Get(r, offerLine(o))
	return l.Open, err
}

// LookupRequest returns a request and how it stands.
func LookupRequest(r state.Reader, id mman.RequestID) (market.Request, RequestRecord, bool, error) {
	record, ok, err := requests().Get(r, id[:])
	if err != nil || !ok {
		return market.Request{}, RequestRecord{}, false, err
	}
	req, err := market.DecodeRequest(record.Bytes)
	if err != nil {
		return market.Request{}, RequestRecord{}, false, fmt.Errorf("%w: request %s: %w", mman.ErrCorrupt, id, err)
	}
	return req, record, true, nil
}

// LookupLease returns a lease, also one that is closed.
func LookupLease(r state.Reader, id mman.LeaseID) (market.Lease, bool, error) {
	return leases().Get(r, id[:])
}

// LookupDecision returns why a request was matched or not.
func LookupDecision(r state.Reader, id mman.RequestID) (match.Decision, bool, error) {
	return decisions().Get(r, id[:])
}

// LookupRFP returns the record of a request that was put out to bids.
func LookupRFP(r state.Reader, id mman.RequestID) (rfp.RFP, bool, error) {
	return rfps().Get(r, id[:])
}

// ActiveLeases returns up to limit leases (1 to state.MaxPage) of which the
// account is consumer or provider and which are not closed, those after the
// given id; a nil after starts at the first.
func ActiveLeases(r state.Reader, a mman.Address, after *mman.LeaseID, limit int) ([]market.Lease, error) {
	var from []byte
	if after != nil {
		from = accountKey(a, active, after[:])
	}
	keys, err := state.NewIndex(state.MarketLeasesByAccount).Page(r, accountKey(a, active, nil), from, limit)
	if err != nil {
		return nil, err
	}
	out := make([]market.Lease, 0, len(keys))
	for _, key := range keys {
		id := mman.LeaseID(key[len(a)+1:])
		l, ok, err := LookupLease(r, id)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("%w: lease %s is indexed and missing", mman.ErrCorrupt, id)
		}
		out = append(out, l)
	}
	return out, nil
}

// Node is a binding with its node.
type Node struct {
	Peer mman.PeerID `json:"peer"`
	Binding
}

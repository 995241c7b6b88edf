package market

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/rfp"
)

// Bounds of one answer with offers.
const (
	// maxScanned is how many offers a filtered list looks at for one page.
	maxScanned = 1024
	// maxPageBytes bounds the offers' bytes in one page; a page may be shorter
	// than its limit and still have a next one.
	maxPageBytes = 256 << 10
)

// OfferAnswer is a standing offer with what a client needs to verify it.
type OfferAnswer struct {
	ID    mman.CID     `json:"id"`
	Offer market.Offer `json:"offer"`
	// Open is the number of open leases of its line.
	Open uint64 `json:"open"`
	// Bytes are what the provider's account key signed.
	Bytes     []byte        `json:"bytes"`
	Key       sig.PublicKey `json:"key"`
	Signature []byte        `json:"signature"`
	// Royalties are what owners of parents get of what the offer earns.
	Royalties []market.Royalty `json:"royalties,omitempty"`
}

// RequestAnswer is a request and how it stands.
type RequestAnswer struct {
	ID      mman.RequestID  `json:"id"`
	Request market.Request  `json:"request"`
	State   match.Outcome   `json:"state"`
	Made    uint64          `json:"made"`
	Lease   *mman.LeaseID   `json:"lease,omitempty"`
	Reason  *match.Decision `json:"decision,omitempty"`
	// RFP is how it stands when it was put out to sealed bids.
	RFP *rfp.RFP `json:"rfp,omitempty"`
}

// Nouns returns the first path elements that the module answers.
func (Module) Nouns() []string {
	return []string{"nodes", "offers", "requests", "leases", "decisions", "grants", "rfps"}
}

// Query answers nodes/PEER, nodes?account=, offers, offers/CID, requests/ID,
// requests, requests?consumer=, leases/ID, leases, leases?account=, decisions/ID,
// decisions, decisions?consumer=, grants?offer=, grants?grantee=, both of these for
// one grant, rfps/ID, rfps and rfps?account=. Lists take limit and after.
func (Module) Query(q block.Query) (any, error) {
	if len(q.Path) == 2 {
		if err := q.Allow(); err != nil {
			return nil, err
		}
		return one(q, q.Path[1])
	}
	if len(q.Path) != 1 {
		return nil, fmt.Errorf("%w: /mman/%s/… has one element more at most", mman.ErrInvalid, q.Path[0])
	}
	switch q.Path[0] {
	case "nodes":
		return listNodes(q)
	case "offers":
		return listOffers(q)
	case "requests":
		return listRequests(q)
	case "leases":
		return listLeases(q)
	case "grants":
		return listGrants(q)
	case "decisions":
		return listDecisions(q)
	default: // the last of Nouns
		return listRFPs(q)
	}
}

func one(q block.Query, name string) (any, error) {
	switch q.Path[0] {
	case "nodes":
		peer, err := mman.ParsePeerID(name)
		if err != nil {
			return nil, err
		}
		b, ok, err := LookupBinding(q.State, peer)
		return found(Node{peer, b}, ok, err, "node", name)
	case "offers":
		id, err := mman.ParseCID(name)
		if err != nil {
			return nil, err
		}
		answer, ok, err := offerAnswer(q.State, id)
		return found(answer, ok, err, "offer", name)
	case "requests":
		return oneRequest(q, name)
	case "rfps":
		var id mman.RequestID
		if err := id.UnmarshalText([]byte(name)); err != nil {
			return nil, err
		}
		one, ok, err := LookupRFP(q.State, id)
		return found(one, ok, err, "rfp", name)
	case "leases":
		var id mman.LeaseID
		if err := id.UnmarshalText([]byte(name)); err != nil {
			return nil, err
		}
		l, ok, err := LookupLease(q.State, id)
		return found(l, ok, err, "lease", name)
	case "decisions":
		var id mman.RequestID
		if err := id.UnmarshalText([]byte(name)); err != nil {
			return nil, err
		}
		d, ok, err := LookupDecision(q.State, id)
		return found(d, ok, err, "decision on request", name)
	default:
		return nil, fmt.Errorf("%w: use /mman/%s?…", mman.ErrInvalid, q.Path[0])
	}
}

func found(value any, ok bool, err error, what, name string) (any, error) {
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, block.NotFound(what, name)
	}
	return value, nil
}

func oneRequest(q block.Query, name string) (any, error) {
	var id mman.RequestID
	if err := id.UnmarshalText([]byte(name)); err != nil {
		return nil, err
	}
	answer, ok, err := requestAnswer(q.State, id)
	if err != nil || !ok {
		return found(answer, ok, err, "request", name)
	}
	d, ok, err := LookupDecision(q.State, id)
	if err != nil {
		return nil, err
	}
	if ok {
		answer.Reason = &d
	}
	return answer, nil
}

func offerAnswer(r state.Reader, id mman.CID) (OfferAnswer, bool, error) {
	o, record, ok, err := LookupOffer(r, id)
	if err != nil || !ok {
		return OfferAnswer{}, false, err
	}
	open, err := OpenLeases(r, o)
	return OfferAnswer{id, o, open, record.Bytes, record.Key, record.Signature, record.Royalties}, err == nil, err
}

func requestAnswer(r state.Reader, id mman.RequestID) (RequestAnswer, bool, error) {
	req, record, ok, err := LookupRequest(r, id)
	if err != nil || !ok {
		return RequestAnswer{}, false, err
	}
	answer := RequestAnswer{ID: id, Request: req, State: record.State, Made: record.Made}
	if record.RFP {
		one, _, err := LookupRFP(r, id)
		if err != nil {
			return RequestAnswer{}, false, err
		}
		if answer.RFP = &one; one.Awards > 0 {
			answer.Lease = &one.Lease
		}
	} else if record.State == match.Matched {
		lease := id.Lease()
		answer.Lease = &lease
	}
	return answer, true, nil
}

// cursor reads the argument "after", which is the hex digits that an earlier
// page gave as next.
func cursor(q block.Query, prefix []byte) ([]byte, error) {
	s, ok := q.Args["after"]
	if !ok || s == "" {
		return nil, nil
	}
	if len(s) > 2*state.MaxKey {
		return nil, fmt.Errorf("%w: after %.32q…: use the next of an earlier page", mman.ErrInvalid, s)
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) == 0 {
		return nil, fmt.Errorf("%w: after %.64q: use the next of an earlier page", mman.ErrInvalid, s)
	}
	return append(slices.Clip(prefix), b...), nil
}

// list reads one page of an index under a prefix. Take turns the rest of a key
// into an item; ok is false for one that is not wanted, full ends the page after
// it.
func list[T any](q block.Query, family state.Prefix, prefix []byte, take func(rest []byte) (item T, ok, full bool, err error)) (block.Page[T], error) {
	page := block.Page[T]{Items: []T{}}
	limit, err := q.Limit()
	if err != nil {
		return page, err
	}
	after, err := cursor(q, prefix)
	if err != nil {
		return page, err
	}
	for scanned := 0; scanned < maxScanned; {
		keys, err := state.NewIndex(family).Page(q.State, prefix, after, block.MaxLimit)
		if err != nil {
			return page, err
		}
		for i, key := range keys {
			item, ok, full, err := take(key[len(prefix):])
			if err != nil {
				return page, err
			}
			if ok {
				page.Items = append(page.Items, item)
			}
			last := i == len(keys)-1 && len(keys) < block.MaxLimit
			if !last && (full || len(page.Items) == limit) {
				page.Next = hex.EncodeToString(key[len(prefix):])
				return page, nil
			}
		}
		if len(keys) < block.MaxLimit {
			return page, nil
		}
		scanned += len(keys)
		after = keys[len(keys)-1]
	}
	page.Next = hex.EncodeToString(after[len(prefix):])
	return page, nil
}

func address(q block.Query, name string) (mman.Address, error) {
	s, ok := q.Args[name]
	if !ok {
		return mman.Address{}, fmt.Errorf("%w: /mman/%s needs %s=ADDRESS", mman.ErrInvalid, q.Path[0], name)
	}
	return mman.ParseAddress(s)
}

func listNodes(q block.Query) (any, error) {
	if err := q.Allow("account", "limit", "after"); err != nil {
		return nil, err
	}
	a, err := address(q, "account")
	if err != nil {
		return nil, err
	}
	return list(q, state.MarketNodesByAccount, a[:], func(rest []byte) (Node, bool, bool, error) {
		peer := mman.PeerID(rest)
		b, ok, err := LookupBinding(q.State, peer)
		return Node{peer, b}, ok, false, err
	})
}

// NodesOf answers the page that the arguments limit and after ask for of the nodes for
// which the accounts answer. The accounts ascend.
func NodesOf(q block.Query, accounts []mman.Address) (block.Page[Node], error) {
	nodes := state.NewIndex(state.MarketNodesByAccount)
	keys := func(after []byte, limit int) (out [][]byte, _ error) {
		for _, a := range accounts {
			from := after
			switch size := min(len(after), len(a)); bytes.Compare(a[:size], after[:size]) {
			case -1:
				continue // on an earlier page
			case 0:
				if size < len(a) {
					from = nil
				}
			default:
				from = nil
			}
			found, err := nodes.Page(q.State, a[:], from, limit-len(out))
			if err != nil {
				return nil, err
			}
			if out = append(out, found...); len(out) == limit {
				break
			}
		}
		return out, nil
	}
	return block.List(q, nil, keys, func(key []byte) (Node, error) {
		peer := mman.PeerID(key[len(mman.Address{}):])
		b, ok, err := LookupBinding(q.State, peer)
		if err == nil && !ok {
			err = fmt.Errorf("%w: node %s is indexed and missing", mman.ErrCorrupt, peer)
		}
		return Node{peer, b}, err
	})
}

// listOffers lists standing offers, those of a resource, of a provider or of a
// kind and facet, in the order of ids.
func listOffers(q block.Query) (any, error) {
	if err := q.Allow("kind", "facet", "resource", "provider", "limit", "after"); err != nil {
		return nil, err
	}
	var resource mman.CID
	var provider mman.Address
	family, prefix := state.MarketOffersByFacet, []byte(nil)
	if s, ok := q.Args["kind"]; ok {
		prefix = state.AppendString(nil, s)
	}
	if s, ok := q.Args["provider"]; ok {
		var err error
		if provider, err = mman.ParseAddress(s); err != nil {
			return nil, err
		}
		family, prefix = state.MarketOffersByProvider, provider[:]
	}
	if s, ok := q.Args["resource"]; ok {
		var err error
		if resource, err = mman.ParseCID(s); err != nil {
			return nil, err
		}
		family, prefix = state.MarketOffersByResource, resource.Bytes()
	}
	total := 0
	return list(q, family, prefix, func(rest []byte) (OfferAnswer, bool, bool, error) {
		if len(rest) < mman.CIDSize {
			return OfferAnswer{}, false, false, fmt.Errorf("%w: after: use the next of an earlier page", mman.ErrInvalid)
		}
		id, err := mman.CIDFromBytes(rest[len(rest)-mman.CIDSize:])
		if err != nil {
			return OfferAnswer{}, false, false, err
		}
		a, ok, err := offerAnswer(q.State, id)
		if err != nil || !ok || !wanted(q, a.Offer, resource, provider) {
			return OfferAnswer{}, false, false, err
		}
		total += len(a.Bytes)
		return a, true, total > maxPageBytes, nil
	})
}

func wanted(q block.Query, o market.Offer, resource mman.CID, provider mman.Address) bool {
	kind, byKind := q.Args["kind"]
	facet, byFacet := q.Args["facet"]
	return o.Expires > q.Height &&
		(!byKind || string(o.Kind) == kind) && (!byFacet || string(o.Facet) == facet) &&
		(resource.IsZero() || o.Resource == resource) && (provider.IsZero() || o.Provider == provider)
}

// index picks where a list is read: in the records themselves, or in their index
// by account when the argument names one. Both families' keys end in the id.
func index(q block.Query, name string, all, byAccount state.Prefix) (state.Prefix, []byte, error) {
	if err := q.Allow(name, "limit", "after"); err != nil {
		return "", nil, err
	}
	if _, ok := q.Args[name]; !ok {
		return all, nil, nil
	}
	a, err := address(q, name)
	return byAccount, a[:], err
}

// lastID cuts the id off the end of a key.
func lastID(key []byte) [mman.IDSize]byte {
	return [mman.IDSize]byte(key[len(key)-mman.IDSize:])
}

// listRequests lists all requests or a consumer's, then those that wait first.
func listRequests(q block.Query) (any, error) {
	family, prefix, err := index(q, "consumer", state.MarketRequests, state.MarketRequestsByAccount)
	if err != nil {
		return nil, err
	}
	return list(q, family, prefix, func(rest []byte) (RequestAnswer, bool, bool, error) {
		answer, ok, err := requestAnswer(q.State, lastID(rest))
		return answer, ok, false, err
	})
}

// listDecisions lists why requests were matched so, all or a consumer's.
func listDecisions(q block.Query) (any, error) {
	family, prefix, err := index(q, "consumer", state.MarketDecisions, state.MarketRequestsByAccount)
	if err != nil {
		return nil, err
	}
	return list(q, family, prefix, func(rest []byte) (match.Decision, bool, bool, error) {
		d, ok, err := LookupDecision(q.State, lastID(rest))
		return d, ok, false, err
	})
}

// listRFPs lists the requests that were put out to bids, of an account as
// consumer or bidder or all, those that are not closed first.
func listRFPs(q block.Query) (any, error) {
	if err := q.Allow("account", "limit", "after"); err != nil {
		return nil, err
	}
	family, prefix := state.RFPByState, []byte(nil)
	if _, ok := q.Args["account"]; ok {
		a, err := address(q, "account")
		if err != nil {
			return nil, err
		}
		family, prefix = state.RFPByAccount, a[:]
	}
	total := 0
	return list(q, family, prefix, func(rest []byte) (rfp.RFP, bool, bool, error) {
		if len(rest) != 1+mman.IDSize {
			return rfp.RFP{}, false, false, fmt.Errorf("%w: after: use the next of an earlier page", mman.ErrInvalid)
		}
		one, ok, err := LookupRFP(q.State, mman.RequestID(rest[1:]))
		for _, e := range one.Bids {
			total += len(e.Bid) + len(e.Bidder) + len(e.Digest)
		}
		return one, ok, total > maxPageBytes, err
	})
}

// listLeases lists all leases or an account's, then those that are not closed
// first.
func listLeases(q block.Query) (any, error) {
	family, prefix, err := index(q, "account", state.MarketLeases, state.MarketLeasesByAccount)
	if err != nil {
		return nil, err
	}
	return list(q, family, prefix, func(rest []byte) (market.Lease, bool, bool, error) {
		l, ok, err := LookupLease(q.State, lastID(rest))
		return l, ok, false, err
	})
}

// GrantAnswer is a grant with the offer that stands under it now.
type GrantAnswer struct {
	// Offer is the zero CID while none stands.
	Offer    mman.CID      `json:"offer,omitzero"`
	Provider mman.Address  `json:"provider"`
	Grantee  mman.Address  `json:"grantee"`
	Policy   policy.Policy `json:"policy"`
	Expires  uint64        `json:"expires"`
	Revoked  uint64        `json:"revoked,omitempty"`
}

func grantAnswer(r state.Reader, line []byte, grantee mman.Address) (GrantAnswer, bool, error) {
	g, ok, err := LookupGrant(r, line, grantee)
	if err != nil || !ok {
		return GrantAnswer{}, false, err
	}
	l, _, err := lines().Get(r, line)
	return GrantAnswer{l.Offer, g.Provider, grantee, g.Policy, g.Expires, g.Revoked}, err == nil, err
}

// listGrants lists what is shared with an account, or with whom an offer is; with
// both arguments it is the one grant, or none.
func listGrants(q block.Query) (any, error) {
	if err := q.Allow("offer", "grantee", "limit", "after"); err != nil {
		return nil, err
	}
	if _, ok := q.Args["offer"]; ok {
		return listShares(q)
	}
	grantee, err := address(q, "grantee")
	if err != nil {
		return nil, err
	}
	return list(q, state.MarketGrantsByGrantee, grantee[:], func(rest []byte) (GrantAnswer, bool, bool, error) {
		a, ok, err := grantAnswer(q.State, rest, grantee)
		return a, ok, false, err
	})
}

// listShares lists with whom an offer is shared.
func listShares(q block.Query) (any, error) {
	id, err := mman.ParseCID(q.Args["offer"])
	if err != nil {
		return nil, err
	}
	var only mman.Address
	if _, ok := q.Args["grantee"]; ok {
		if only, err = address(q, "grantee"); err != nil {
			return nil, err
		}
	}
	o, _, ok, err := LookupOffer(q.State, id)
	if err != nil || !ok {
		return found(nil, ok, err, "offer", q.Args["offer"])
	}
	line := offerLine(o)
	return list(q, state.MarketGrants, line, func(rest []byte) (GrantAnswer, bool, bool, error) {
		if len(rest) != mman.AddressSize {
			return GrantAnswer{}, false, false, fmt.Errorf("%w: after: use the next of an earlier page", mman.ErrInvalid)
		}
		grantee := mman.Address(rest)
		if !only.IsZero() && grantee != only {
			return GrantAnswer{}, false, false, nil
		}
		a, ok, err := grantAnswer(q.State, line, grantee)
		return a, ok, false, err
	})
}

package abcitest

import (
	"crypto/ed25519"
	"testing"

	"github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/resources"
)

// Provider is an actor with a node.
type Provider struct {
	Actor
	Node sig.PrivateKey
	Peer mman.PeerID
}

// NewProvider returns the provider of that name; the same name gives the same
// keys.
func NewProvider(tb testing.TB, name string) Provider {
	tb.Helper()
	node := NewActor(tb, name+"'s node").Key
	return Provider{NewActor(tb, name), node, mman.PeerID(node.Public().Bytes())}
}

// Bind returns the message that binds the provider's node.
func (p Provider) Bind(chainID string) tx.MsgBindNode {
	return tx.MsgBindNode{Account: p.Address, Peer: p.Peer, Addrs: []string{"/ip4/127.0.0.1/tcp/4001"}}.SignNode(p.Node, chainID)
}

// OpenPolicy allows everybody.
func OpenPolicy() policy.Policy { return policy.Policy{Default: policy.Allow} }

// Resource returns the CID of a made-up manifest.
func Resource(name string) mman.CID { return mman.SumCID(mman.CodecDagCBOR, []byte(name)) }

// Compute returns an offer of compute of that name at 10 uman a second and
// 1000 uman a lease, for a hundred leases until the height.
func (p Provider) Compute(name string, expires uint64) market.Offer {
	return market.Offer{
		Version: 1, Provider: p.Address, Peer: p.Peer, Kind: resources.KindCompute, Facet: resources.FacetWasm, Meter: 1,
		Resource: Resource(name), Policy: OpenPolicy(), Capacity: 100, Expires: expires,
		Price: price.Price{PerLease: 1000, Units: []price.UnitPrice{{Unit: resources.UnitWallMs, Per: 1000, UMan: 10}}},
	}
}

// Algorithm returns an offer of an algorithm at 500 uman a lease and 10 %.
func (p Provider) Algorithm(name string, expires uint64) market.Offer {
	o := p.Compute(name, expires)
	o.Kind, o.Meter, o.Price = resources.KindAlgorithm, 0, price.Price{PerLease: 500, Share: 1000}
	return o
}

// Dataset returns an offer of a dataset at 700 uman a lease and 25 %.
func (p Provider) Dataset(name string, expires uint64) market.Offer {
	o := p.Compute(name, expires)
	o.Meter = 0
	o.Kind, o.Facet, o.Price = resources.KindDataset, resources.FacetFile, price.Price{PerLease: 700, Share: 2500}
	return o
}

// Publish returns the message that publishes the offer, and its id.
func (p Provider) Publish(tb testing.TB, chainID string, o market.Offer) (tx.MsgOffer, mman.CID) {
	tb.Helper()
	signed, id, err := market.SignOffer(chainID, o, p.Key)
	require.NoError(tb, err)
	return tx.MsgOffer{Provider: p.Address, Offer: signed.Bytes, Signature: signed.Signature}, id
}

// LeaseKey returns the lease key of a request; the same name gives the same key.
func LeaseKey(tb testing.TB, name string) sig.PrivateKey {
	tb.Helper()
	return NewActor(tb, "lease key of "+name).Key
}

// Ask returns a request for any compute, with an algorithm that the consumer
// supplies.
func Ask(tb testing.TB, consumer Actor, name string, escrow mman.Amount, deadline uint64) market.Request {
	tb.Helper()
	return market.Request{
		Version: 1, Consumer: consumer.Address, LeaseKey: mman.LeaseKey(LeaseKey(tb, name).Public().Bytes()),
		Legs: []market.LegRequest{
			{Role: market.RoleAlgorithm, Facet: resources.FacetWasm, Resource: Resource("supplied"), Supplied: true},
			{Role: market.RoleCompute, Facet: resources.FacetWasm},
		},
		Cap: escrow, Blocks: 100, Deadline: deadline, Limits: resources.DefaultLimits(),
	}
}

// Submit returns the message of a request.
func Submit(tb testing.TB, r market.Request) tx.MsgRequest {
	tb.Helper()
	b, err := r.Encode()
	require.NoError(tb, err)
	return tx.MsgRequest{Consumer: r.Consumer, Request: b}
}

// Receipt returns a receipt for the cumulative amount, signed with the lease key
// of that name.
func Receipt(tb testing.TB, chainID, name string, lease mman.LeaseID, lane, seq uint64, paid mman.Amount) tx.SettleItem {
	tb.Helper()
	b, err := dagcbor.Marshal(market.Receipt{
		Version: 1, Statement: Resource("statement"), Lease: lease, Lane: lane, Seq: seq, Paid: paid,
	})
	require.NoError(tb, err)
	digest := mman.SignDigest(mman.SignReceipt, chainID, b)
	return tx.SettleItem{Receipt: b, Signature: LeaseKey(tb, name).Sign(digest[:])}
}

// Fund returns the message that sets money aside for what the consumer fetches from
// the provider, under the consumer's lease key of that name.
func Fund(tb testing.TB, consumer Actor, provider mman.Address, amount mman.Amount) tx.MsgFundRetrieval {
	tb.Helper()
	key := LeaseKey(tb, consumer.Name).Public().Bytes()
	return tx.MsgFundRetrieval{Consumer: consumer.Address, Provider: provider, Key: [ed25519.PublicKeySize]byte(key), Amount: amount}
}

// Promise returns the message that redeems what the consumer has signed for, under the
// key of Fund.
func Promise(tb testing.TB, chainID string, consumer Actor, provider mman.Address, amount mman.Amount) tx.MsgRedeemRetrieval {
	tb.Helper()
	m := tx.MsgRedeemRetrieval{Provider: provider, Consumer: consumer.Address, Amount: amount}
	digest := mman.SignDigest(mman.SignRetrieval, chainID, m.Payload())
	m.Signature = LeaseKey(tb, consumer.Name).Sign(digest[:])
	return m
}

// SealedBid is a bid and all that its bidder needs to bring and open it.
type SealedBid struct {
	Bid       []byte
	Salt      mman.Hash
	Committed tx.CommittedBid
}

// Bid returns the provider's bid for a request with its compute of that name, at so
// much a lease; the same arguments give the same bid.
func (p Provider) Bid(tb testing.TB, chainID string, request mman.RequestID, name string, perLease mman.Amount) SealedBid {
	tb.Helper()
	b, _, err := market.Bid{
		Version: 1, Request: request, Bidder: p.Address, Peer: p.Peer, Resource: Resource(name), Price: price.Price{PerLease: perLease},
	}.Encode()
	require.NoError(tb, err)
	s := SealedBid{Bid: b, Salt: mman.Sum256([]byte("salt of "+p.Name), request[:])}
	signed, err := market.SignCommitment(chainID, market.Commitment{
		Version: 1, Request: request, Bidder: p.Address, Digest: market.Seal(chainID, request, p.Address, b, s.Salt),
	}, p.Key)
	require.NoError(tb, err)
	s.Committed = tx.CommittedBid{Commitment: signed.Bytes, Signature: signed.Signature}
	return s
}

// Acknowledge returns the signature of the lease key of that name under a
// commitment.
func Acknowledge(tb testing.TB, chainID, name string, commitment []byte) []byte {
	tb.Helper()
	digest := mman.SignDigest(mman.SignBidAck, chainID, commitment)
	return LeaseKey(tb, name).Sign(digest[:])
}

// OpenRFP returns the message that puts a request out to bids.
func OpenRFP(tb testing.TB, r market.Request, bond mman.Amount, commitBy uint64) tx.MsgOpenRFP {
	tb.Helper()
	b, err := r.Encode()
	require.NoError(tb, err)
	return tx.MsgOpenRFP{Consumer: r.Consumer, Request: b, Bond: bond, CommitBy: commitBy}
}

// RequestID returns the id that the first request of the events got.
func RequestID(tb testing.TB, events []types.Event) mman.RequestID {
	tb.Helper()
	s, ok := Attribute(events, "mman.request", "id")
	require.True(tb, ok)
	var id mman.RequestID
	require.NoError(tb, id.UnmarshalText([]byte(s)))
	return id
}

// Trade binds the provider's node and publishes the offers in one transaction;
// it returns their ids.
func (c *Chain) Trade(p Provider, published ...market.Offer) []mman.CID {
	c.tb.Helper()
	msgs := []tx.Msg{p.Bind(ChainID)}
	ids := make([]mman.CID, len(published))
	// The account's key is known from the transaction itself.
	for i, o := range published {
		var m tx.MsgOffer
		m, ids[i] = p.Publish(c.tb, ChainID, o)
		msgs = append(msgs, m)
	}
	c.Do(p.Actor, msgs...)
	return ids
}

// Lease makes the request and requires that it is matched in its own block.
func (c *Chain) Lease(consumer Actor, r market.Request) market.Lease {
	c.tb.Helper()
	result := c.Do(consumer, Submit(c.tb, r))
	id := RequestID(c.tb, result.Events).Lease()
	l, ok, err := c.App.View().Lease(id)
	require.NoError(c.tb, err)
	require.True(c.tb, ok, "request is not matched")
	return l
}

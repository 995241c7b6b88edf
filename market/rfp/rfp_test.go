package rfp_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/market/rfp"
	"github.com/limboid/massive-man/resources"
)

const chainID = "mman-local-00000000"

func seedKey(tb testing.TB, name string) sig.PrivateKey {
	tb.Helper()
	seed := mman.Sum256([]byte(name))
	k, err := sig.FromSeed(sig.Ed25519, seed[:])
	require.NoError(tb, err)
	return k
}

// game is one RFP with a shop of bidders who all offer compute.
type game struct {
	tb      testing.TB
	rfp     rfp.RFP
	request market.Request
	lease   sig.PrivateKey
	offers  []match.Entry
}

// The windows of a game: opened at 1, commitments to 5, left out to 10, reveals to 20.
const commitBy, sealBy, revealBy = 5, 10, 20

func terms() rfp.Terms { return rfp.Terms{Post: 5, Reveal: 10, Accept: 8} }

func requestID() mman.RequestID { return mman.RequestID{1, 2, 3} }

func newGame(tb testing.TB, off string) *game {
	tb.Helper()
	g := &game{tb: tb, lease: seedKey(tb, "lease")}
	g.request = market.Request{
		Version: 1, Consumer: seedKey(tb, "consumer").Public().Address(), LeaseKey: mman.LeaseKey(g.lease.Public().Bytes()),
		Cap: 10_000, Blocks: 100, Deadline: 50, Limits: resources.DefaultLimits(),
		Legs: []market.LegRequest{
			{Role: market.RoleAlgorithm, Facet: resources.FacetWasm, Resource: mman.SumCID(mman.CodecRaw, []byte("module")), Supplied: true},
			{Role: market.RoleCompute, Facet: resources.FacetWasm},
		},
	}
	require.NoError(tb, g.request.Validate())
	one, err := rfp.New(requestID(), g.request, 500, 1, commitBy, terms())
	require.NoError(tb, err)
	g.rfp = one.Undefended(off)
	return g
}

func address(tb testing.TB, who string) mman.Address {
	tb.Helper()
	return seedKey(tb, who).Public().Address()
}

// bid returns what a bidder writes down: its bid at so much a lease, its salt and
// its commitment.
type bid struct {
	who        string
	bytes      []byte
	salt       mman.Hash
	commitment market.Commitment
}

func (g *game) bid(who string, perLease mman.Amount) bid {
	g.tb.Helper()
	b := bid{who: who, salt: mman.Sum256([]byte(who), []byte("salt"))}
	a := address(g.tb, who)
	box := mman.SumCID(mman.CodecDagCBOR, []byte(who))
	var err error
	b.bytes, _, err = market.Bid{
		Version: 1, Request: requestID(), Bidder: a, Peer: mman.PeerID{1}, Resource: box, Price: price.Price{PerLease: perLease},
	}.Encode()
	require.NoError(g.tb, err)
	b.commitment = market.Commitment{Version: 1, Request: requestID(), Bidder: a, Digest: market.Seal(chainID, requestID(), a, b.bytes, b.salt)}
	if !slices.ContainsFunc(g.offers, func(e match.Entry) bool { return e.Offer.Provider == a }) {
		o := market.Offer{
			Version: 1, Provider: a, Peer: mman.PeerID{1}, Kind: resources.KindCompute, Facet: resources.FacetWasm, Meter: 1,
			Resource: box, Policy: policy.Policy{Default: policy.Allow}, Capacity: 1, Expires: 1000,
		}
		_, id, err := o.Encode()
		require.NoError(g.tb, err)
		g.offers = append(g.offers, match.Entry{ID: id, Offer: o})
	}
	return b
}

func (g *game) ack(b bid) (commitment, signature []byte) {
	g.tb.Helper()
	enc, err := dagcbor.Marshal(b.commitment)
	require.NoError(g.tb, err)
	digest := mman.SignDigest(mman.SignBidAck, chainID, enc)
	return enc, g.lease.Sign(digest[:])
}

func (g *game) bring(height uint64, list ...bid) error {
	var commitments []market.Commitment
	for _, b := range list {
		commitments = append(commitments, b.commitment)
	}
	one, _, err := g.rfp.Bring(height, commitments)
	if err == nil {
		g.rfp = one
	}
	return err
}

func (g *game) post(height uint64, b bid, acknowledged bool) error {
	enc, signature := g.ack(b)
	if !acknowledged {
		signature = make([]byte, len(signature))
	}
	one, _, err := g.rfp.Post(chainID, height, g.request.LeaseKey, enc, signature)
	if err == nil {
		g.rfp = one
	}
	return err
}

func (g *game) seal() {
	g.tb.Helper()
	one, err := g.rfp.Sealed()
	require.NoError(g.tb, err)
	g.rfp = one
}

func (g *game) reveal(height uint64, by string, b bid) error {
	one, _, err := g.rfp.Reveal(chainID, height, g.request, address(g.tb, by), b.bytes, b.salt)
	if err == nil {
		g.rfp = one
	}
	return err
}

func (g *game) award(height uint64) []rfp.Move {
	g.tb.Helper()
	result, err := g.rfp.Award(g.request, shop{g.offers}, policy.Chain{Height: height}, 64, terms())
	require.NoError(g.tb, err)
	g.rfp = result.RFP
	return result.Moves
}

func (g *game) won(who string) bool {
	winner, ok := g.rfp.Winner()
	return ok && winner == address(g.tb, who)
}

// shop is a book of offers.
type shop struct{ offers []match.Entry }

func (s shop) Offer(id mman.CID) (match.Entry, bool, error) {
	i := slices.IndexFunc(s.offers, func(e match.Entry) bool { return e.ID == id })
	if i < 0 {
		return match.Entry{}, false, nil
	}
	return s.offers[i], true, nil
}

func (s shop) Standing(b market.Bid) (match.Entry, bool, error) {
	i := slices.IndexFunc(s.offers, func(e match.Entry) bool { return e.Offer.Provider == b.Bidder && e.Offer.Resource == b.Resource })
	if i < 0 {
		return match.Entry{}, false, nil
	}
	return s.offers[i], true, nil
}

func (shop) Open(match.Entry) (uint64, error) { return 1, nil } // all places are taken

func (shop) Usage(match.Entry, mman.Address) (policy.Usage, error) { return policy.Usage{}, nil }

func (shop) Grant(match.Entry, mman.Address) (match.Grant, bool, error) {
	return match.Grant{}, false, nil
}

func (shop) Scan(match.Class, []byte, int) ([]match.Spot, error) { return nil, nil }

func (shop) Arrivals(match.Class, uint64, int) ([]match.Arrival, uint64, error) { return nil, 0, nil }

func (shop) Arrived() uint64 { return 0 }

// TestCourse goes once through an RFP in which one bid is left out, one withheld and
// the best not served.
func TestCourse(t *testing.T) {
	t.Parallel()
	g := newGame(t, "")
	a, b, c, d := g.bid("a", 300), g.bid("b", 200), g.bid("c", 100), g.bid("d", 50)
	require.NoError(t, g.bring(4, a, c, d))
	require.NoError(t, g.post(9, b, true))
	require.Empty(t, g.rfp.Root)
	g.seal()
	require.NotEmpty(t, g.rfp.Root)
	require.Equal(t, uint64(revealBy), g.rfp.Due)
	for _, one := range []bid{a, b, c} {
		require.NoError(t, g.reveal(11, one.who, one))
	}
	require.Equal(t, []rfp.Move{{address(t, "d"), 500, true, rfp.Withheld}}, g.award(revealBy))
	require.True(t, g.won("c"))
	require.Equal(t, requestID().Lease(), g.rfp.Lease)
	require.Equal(t, uint64(revealBy+8), g.rfp.Due)
	require.Contains(t, strings.Join(g.rfp.Explain(), "\n"), "awarded")

	one, move, err := g.rfp.Absent(28)
	require.NoError(t, err)
	require.Equal(t, rfp.Move{Bidder: address(t, "c"), Amount: 500, Burned: true, State: rfp.Absent}, move)
	g.rfp = one
	require.Empty(t, g.award(28))
	require.True(t, g.won("b"))
	require.Equal(t, requestID().Takeover(1), g.rfp.Lease)
	done, moves := g.rfp.Served()
	require.Len(t, moves, 2)
	for _, m := range moves {
		require.False(t, m.Burned)
	}
	require.Equal(t, rfp.Closed, done.State)
	require.NoError(t, done.Held(func(mman.Address, mman.Amount) error { return mman.ErrInvariant }), "no bond is held")
	said := strings.Join(done.Explain(), "\n")
	for _, part := range []string{"did not serve", "not opened in time", "won and is served", "lost, its bond went back"} {
		require.Contains(t, said, part)
	}
}

// TestTermsOfAnRFP: what an RFP may say.
func TestTermsOfAnRFP(t *testing.T) {
	t.Parallel()
	g := newGame(t, "")
	for _, tc := range []struct {
		name     string
		bond     mman.Amount
		commitBy uint64
		change   func(r *market.Request)
		want     error
	}{
		{"endpoint", 1, 5, func(r *market.Request) { r.Legs = []market.LegRequest{{Role: market.RoleEndpoint}} }, mman.ErrUnsupported},
		{"no bond", 0, 5, nil, mman.ErrInvalid},
		{"bond above the cap", 10_001, 5, nil, mman.ErrInvalid},
		{"no time", 1, 1, nil, mman.ErrDeadline},
		{"deadline before the reveals", 1, 5, func(r *market.Request) { r.Deadline = 19 }, mman.ErrInvalid},
		{"lease too short", 1, 5, func(r *market.Request) { r.Blocks = 8 }, mman.ErrInvalid},
	} {
		r := g.request
		if tc.change != nil {
			tc.change(&r)
		}
		_, err := rfp.New(requestID(), r, tc.bond, 1, tc.commitBy, terms())
		require.ErrorIs(t, err, tc.want, tc.name)
	}
	var many []bid
	for i := range rfp.MaxBids + 1 {
		many = append(many, g.bid(fmt.Sprint("bidder", i), 1))
	}
	require.ErrorIs(t, g.bring(2, many...), mman.ErrTooLarge)
	require.ErrorIs(t, g.bring(2, many[0], many[0]), mman.ErrExists)
	own := g.bid("consumer", 1)
	require.ErrorIs(t, g.bring(2, own), mman.ErrInvalid, "a consumer does not bid on its own request")
	require.ErrorIs(t, g.post(2, own, true), mman.ErrInvalid)
	require.NoError(t, g.bring(2, many[:rfp.MaxBids]...))
	for i := range rfp.MaxPosted {
		require.NoError(t, g.post(9, g.bid(fmt.Sprint("poster", i), 1), true))
	}
	require.ErrorIs(t, g.post(9, g.bid("one more", 1), true), mman.ErrTooLarge)
	g.seal()
	b, err := dagcbor.Marshal(g.rfp)
	require.NoError(t, err)
	require.Less(t, len(b), 4<<10, "the record of the most bids, sealed")
}

// TestOtherLegs: a bid that another leg keeps from fitting is passed over, and its
// bond goes back: the bidder is not at fault.
func TestOtherLegs(t *testing.T) {
	t.Parallel()
	g := newGame(t, "")
	data := market.Offer{
		Version: 1, Provider: address(t, "owner"), Peer: mman.PeerID{9}, Kind: resources.KindDataset, Facet: resources.FacetFile, Sealed: true,
		Resource: mman.SumCID(mman.CodecDagCBOR, []byte("table")), Policy: policy.Policy{Default: policy.Allow}, Capacity: 4, Expires: 1000,
	}
	_, id, err := data.Encode()
	require.NoError(t, err)
	g.request.Legs = slices.Insert(g.request.Legs, 1, market.LegRequest{Role: market.RoleData, Facet: resources.FacetFile, Resource: data.Resource, Offers: []mman.CID{id}})
	a := g.bid("a", 300)
	g.offers = append(g.offers, match.Entry{ID: id, Offer: data})
	require.NoError(t, g.bring(4, a))
	g.seal()
	require.NoError(t, g.reveal(11, "a", a))
	require.Equal(t, []rfp.Move{{address(t, "a"), 500, false, rfp.Lost}}, g.award(12))
	require.Equal(t, rfp.Closed, g.rfp.State)
}

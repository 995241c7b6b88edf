package market_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/resources"
)

const chain = "mman-local-00000000"

func key(tb testing.TB, n byte) sig.PrivateKey {
	tb.Helper()
	k, err := sig.FromSeed(sig.Ed25519, bytes.Repeat([]byte{n}, 32))
	require.NoError(tb, err)
	return k
}

// signer signs as a lease or node key does.
type signer struct{ key sig.PrivateKey }

func (s signer) Sign(purpose mman.SignContext, chainID string, payload []byte) []byte {
	digest := mman.SignDigest(purpose, chainID, payload)
	return s.key.Sign(digest[:])
}

func offer(tb testing.TB) market.Offer {
	tb.Helper()
	return market.Offer{
		Version: 1, Provider: key(tb, 1).Public().Address(), Peer: mman.PeerID{1}, Kind: resources.KindDataset, Facet: resources.FacetFile,
		Resource: mman.SumCID(mman.CodecDagCBOR, []byte("words")), Region: "eu-north",
		Attributes: []resources.Attribute{{Key: "language", Value: "en"}, {Key: "rows", Value: "7"}},
		Policy:     policy.Policy{Default: policy.Allow}, Price: price.Price{PerLease: 5, Share: 10}, Capacity: 3, Expires: 50,
	}
}

func TestOffer(t *testing.T) {
	t.Parallel()
	o := offer(t)
	signed, id, err := market.SignOffer(chain, o, key(t, 1))
	require.NoError(t, err)
	got, gotID, err := signed.Open(chain)
	require.NoError(t, err)
	require.Equal(t, id, gotID)
	again, againID, err := got.Encode()
	require.NoError(t, err)
	require.Equal(t, signed.Bytes, again)
	require.Equal(t, id, againID)

	_, _, err = signed.Open("mman-local-11111111")
	require.ErrorIs(t, err, mman.ErrBadSignature)
	_, _, err = market.SignOffer(chain, o, key(t, 2))
	require.ErrorIs(t, err, mman.ErrDenied)
	stolen := signed
	stolen.Key = key(t, 2).Public()
	_, _, err = stolen.Open(chain)
	require.ErrorIs(t, err, mman.ErrBadSignature)
	bent := signed
	bent.Signature = bytes.Clone(signed.Signature)
	bent.Signature[3] ^= 1
	_, _, err = bent.Open(chain)
	require.ErrorIs(t, err, mman.ErrBadSignature)
}

func TestOfferValidate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(o *market.Offer)
		want   error
	}{
		{"version", func(o *market.Offer) { o.Version = 2 }, mman.ErrUnsupported},
		{"no provider", func(o *market.Offer) { o.Provider = mman.Address{} }, mman.ErrInvalid},
		{"no peer", func(o *market.Offer) { o.Peer = mman.PeerID{} }, mman.ErrInvalid},
		{"no resource", func(o *market.Offer) { o.Resource = mman.CID{} }, mman.ErrInvalid},
		{"facet", func(o *market.Offer) { o.Facet = resources.FacetWasm }, mman.ErrUnsupported},
		{"sealed compute", func(o *market.Offer) {
			o.Kind, o.Facet, o.Price, o.Sealed = resources.KindCompute, resources.FacetWasm, price.Price{}, true
			o.Meter = 1
		}, mman.ErrInvalid},
		{"region", func(o *market.Offer) { o.Region = " eu" }, mman.ErrInvalid},
		{"attributes out of order", func(o *market.Offer) { o.Attributes[0].Key = "z" }, mman.ErrInvalid},
		{"attributes of 3 KiB", func(o *market.Offer) {
			o.Attributes = nil
			for c := 'a'; c < 'a'+12; c++ {
				o.Attributes = append(o.Attributes, resources.Attribute{Key: string(c), Value: strings.Repeat("x", 250)})
			}
		}, mman.ErrTooLarge},
		{"policy", func(o *market.Offer) { o.Policy.Default = "" }, mman.ErrInvalid},
		{"algorithms of compute", func(o *market.Offer) {
			o.Kind, o.Facet, o.Price = resources.KindCompute, resources.FacetWasm, price.Price{}
			o.Meter = 1
			o.Policy.Algorithms = []mman.CID{o.Resource}
		}, mman.ErrInvalid},
		{"price", func(o *market.Offer) { o.Price.Share = 10_001 }, mman.ErrInvalid},
		{"capacity", func(o *market.Offer) { o.Capacity = 0 }, mman.ErrInvalid},
		{"too much capacity", func(o *market.Offer) { o.Capacity = 1<<20 + 1 }, mman.ErrInvalid},
		{"no expiry", func(o *market.Offer) { o.Expires = 0 }, mman.ErrInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			o := offer(t)
			tc.change(&o)
			_, _, err := o.Encode()
			require.ErrorIs(t, err, tc.want)
		})
	}
}

func request() market.Request {
	return market.Request{
		Version: 1, Consumer: mman.Address{1}, LeaseKey: mman.LeaseKey{2}, Cap: 5, Blocks: 6, Deadline: 7, Limits: resources.DefaultLimits(),
		Legs: []market.LegRequest{
			{Role: market.RoleAlgorithm, Facet: resources.FacetWasm, Resource: mman.SumCID(mman.CodecRaw, nil), Supplied: true},
			{Role: market.RoleData, Facet: resources.FacetFile, Resource: mman.SumCID(mman.CodecDagCBOR, nil), Offers: []mman.CID{mman.SumCID(mman.CodecDagCBOR, []byte("o"))}},
			{Role: market.RoleCompute, Facet: resources.FacetWasm},
		},
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	b, err := request().Encode()
	require.NoError(t, err)
	got, err := market.DecodeRequest(b)
	require.NoError(t, err)
	again, err := got.Encode()
	require.NoError(t, err)
	require.Equal(t, b, again)
	for _, tc := range []struct {
		name   string
		change func(r *market.Request)
		want   error
	}{
		{"version", func(r *market.Request) { r.Version = 0 }, mman.ErrUnsupported},
		{"no consumer", func(r *market.Request) { r.Consumer = mman.Address{} }, mman.ErrInvalid},
		{"no key", func(r *market.Request) { r.LeaseKey = mman.LeaseKey{} }, mman.ErrInvalid},
		{"one leg", func(r *market.Request) { r.Legs = r.Legs[2:] }, mman.ErrInvalid},
		{"eleven legs", func(r *market.Request) { r.Legs = make([]market.LegRequest, 11) }, mman.ErrInvalid},
		{"order", func(r *market.Request) { r.Legs[0], r.Legs[2] = r.Legs[2], r.Legs[0] }, mman.ErrInvalid},
		{"facet", func(r *market.Request) { r.Legs[1].Facet = resources.FacetWasm }, mman.ErrUnsupported},
		{"compute supplied", func(r *market.Request) { r.Legs[2].Supplied = true }, mman.ErrInvalid},
		{"data unnamed", func(r *market.Request) { r.Legs[1].Resource = mman.CID{} }, mman.ErrInvalid},
		{"supplied with offers", func(r *market.Request) { r.Legs[1].Supplied = true }, mman.ErrInvalid},
		{"candidate of nothing", func(r *market.Request) { r.Legs[1].Offers = []mman.CID{{}} }, mman.ErrInvalid},
		{"too many candidates", func(r *market.Request) {
			for range market.MaxCandidates {
				r.Legs[2].Offers = append(r.Legs[2].Offers, mman.SumCID(mman.CodecDagCBOR, nil))
			}
		}, mman.ErrTooLarge},
		{"no cap", func(r *market.Request) { r.Cap = 0 }, mman.ErrInvalid},
		{"cap above all", func(r *market.Request) { r.Cap = mman.MaxSupply + 1 }, mman.ErrInvalid},
		{"no time", func(r *market.Request) { r.Blocks = 0 }, mman.ErrInvalid},
		{"no deadline", func(r *market.Request) { r.Deadline = 0 }, mman.ErrInvalid},
		{"no limits", func(r *market.Request) { r.Limits = resources.Limits{} }, mman.ErrInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := request()
			tc.change(&r)
			_, err := r.Encode()
			require.ErrorIs(t, err, tc.want)
		})
	}
}

func TestReceiptAndStatement(t *testing.T) {
	t.Parallel()
	node, leaseKey := signer{key(t, 3)}, signer{key(t, 4)}
	peer, public := mman.PeerID(node.key.Public().Bytes()), mman.LeaseKey(leaseKey.key.Public().Bytes())
	st := market.Statement{
		Version: 1, Lease: mman.LeaseID{1}, Lane: 2, Seq: 3, Usage: resources.Usage{WallMs: 4}, Gross: 5, Work: mman.Hash{6},
		Result: &market.RunResult{Run: 1, Algorithm: mman.SumCID(mman.CodecRaw, nil), ExitCode: 7, Output: mman.SumCID(mman.CodecRaw, []byte("x")), OutputBytes: 1},
	}
	signed, id, err := market.SignStatement(chain, st, node)
	require.NoError(t, err)
	got, gotID, err := market.OpenStatement(chain, signed, peer)
	require.NoError(t, err)
	require.Equal(t, st, got)
	require.Equal(t, id, gotID)
	_, _, err = market.OpenStatement(chain, signed, mman.PeerID(public))
	require.ErrorIs(t, err, mman.ErrBadSignature)
	_, _, err = market.OpenStatement("mman-local-11111111", signed, peer)
	require.ErrorIs(t, err, mman.ErrBadSignature)

	r := market.Receipt{Version: 1, Statement: id, Lease: st.Lease, Lane: 2, Seq: 3, Paid: 5, Final: true}
	signedReceipt, err := market.SignReceipt(chain, r, leaseKey)
	require.NoError(t, err)
	gotReceipt, err := market.OpenReceipt(chain, signedReceipt, public)
	require.NoError(t, err)
	require.Equal(t, r, gotReceipt)
	_, err = market.OpenReceipt(chain, signedReceipt, mman.LeaseKey(peer))
	require.ErrorIs(t, err, mman.ErrBadSignature)
	// A statement's signature is none of a receipt.
	_, err = market.OpenReceipt(chain, market.Signed{Bytes: signedReceipt.Bytes, Signature: leaseKey.Sign(mman.SignStatement, chain, signedReceipt.Bytes)}, public)
	require.ErrorIs(t, err, mman.ErrBadSignature)
	for _, change := range []func(r *market.Receipt){
		func(r *market.Receipt) { r.Version = 2 }, func(r *market.Receipt) { r.Returned = 6 }, func(r *market.Receipt) { r.Lane = market.MaxLanes }, func(r *market.Receipt) { r.Seq = 0 },
	} {
		bad := r
		change(&bad)
		s, err := market.SignReceipt(chain, bad, leaseKey)
		require.NoError(t, err)
		_, err = market.OpenReceipt(chain, s, public)
		require.ErrorIs(t, err, mman.ErrInvalid)
	}
	_, err = market.DecodeReceipt(make([]byte, market.ReceiptMaxBytes+1))
	require.ErrorIs(t, err, mman.ErrTooLarge)
}

func FuzzDecode(f *testing.F) {
	b, _, err := offer(f).Encode()
	require.NoError(f, err)
	f.Add(b)
	b, err = request().Encode()
	require.NoError(f, err)
	f.Add(b)
	s, err := market.SignReceipt(chain, market.Receipt{Version: 1, Statement: mman.SumCID(mman.CodecRaw, nil), Seq: 1}, signer{key(f, 1)})
	require.NoError(f, err)
	f.Add(s.Bytes)
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, id, err := market.DecodeOffer(b); err == nil {
			again, againID, err := o.Encode()
			require.NoError(t, err)
			require.Equal(t, b, again)
			require.Equal(t, id, againID)
		}
		if r, err := market.DecodeRequest(b); err == nil {
			again, err := r.Encode()
			require.NoError(t, err)
			require.Equal(t, b, again)
		}
		if _, err := market.DecodeReceipt(b); err != nil {
			require.NotEqual(t, mman.ErrInternal.Code, mman.CodeOf(err))
		}
	})
}

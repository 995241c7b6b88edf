package market_test

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/resources"
)

func bid(tb testing.TB) market.Bid {
	tb.Helper()
	return market.Bid{
		Version: 1, Request: mman.RequestID{1, 2, 3}, Bidder: key(tb, 1).Public().Address(), Peer: mman.PeerID{4},
		Resource: mman.SumCID(mman.CodecDagCBOR, []byte("box")),
		Price:    price.Price{PerLease: 1000, Units: []price.UnitPrice{{Unit: resources.UnitWallMs, Per: 1000, UMan: 10}}},
	}
}

// TestBidGolden pins the encodings: another program must make the same.
func TestBidGolden(t *testing.T) {
	t.Parallel()
	b := bid(t)
	enc, id, err := b.Encode()
	require.NoError(t, err)
	require.Equal(t, goldenBid, hex.EncodeToString(enc))
	require.Equal(t, goldenBidID, id.String())
	digest := market.Seal(chain, b.Request, b.Bidder, enc, mman.Hash{7})
	require.Equal(t, goldenDigest, digest.String())
	signed, err := market.SignCommitment(chain, market.Commitment{Version: 1, Request: b.Request, Bidder: b.Bidder, Digest: digest}, key(t, 1))
	require.NoError(t, err)
	require.Equal(t, goldenCommitment, hex.EncodeToString(signed.Bytes))
	back, err := market.DecodeBid(enc)
	require.NoError(t, err)
	require.Equal(t, b, back)
}

const (
	goldenBid        = "a6617601647065657258200400000000000000000000000000000000000000000000000000000000000000657072696365a36573686172650065756e69747381a3637065721903e864756d616e0a64756e69746777616c6c5f6d73697065725f6c656173651903e8666269646465725434750f98bd59fcfc946da45aaabe933be154a4b56772657175657374540102030000000000000000000000000000000000687265736f75726365d82a5825000171122026f8567f2569182294c3fa5b9f9cb2270b554eef628b4c149cf82a42888ff4ae"
	goldenBidID      = "bafyreifrm4n3b3bzl5mcmurnvvazmoqglrfmbgut3dz365m5dmfesx6n6e"
	goldenDigest     = "908d626633b06a2893e08d378f73b609b238e4e102e70d424d4d90f91f84b6a4"
	goldenCommitment = "a4617601666269646465725434750f98bd59fcfc946da45aaabe933be154a4b5666469676573745820908d626633b06a2893e08d378f73b609b238e4e102e70d424d4d90f91f84b6a46772657175657374540102030000000000000000000000000000000000"
)

func TestBid(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(b *market.Bid){
		"version":  func(b *market.Bid) { b.Version = 2 },
		"bidder":   func(b *market.Bid) { b.Bidder = mman.Address{} },
		"peer":     func(b *market.Bid) { b.Peer = mman.PeerID{} },
		"resource": func(b *market.Bid) { b.Resource = mman.CID{} },
		"load":     func(b *market.Bid) { b.Price.Load = []price.LoadStep{{At: 1, Add: 1}} },
	} {
		b := bid(t)
		change(&b)
		_, _, err := b.Encode()
		require.Error(t, err, name)
	}
	b, r := bid(t), request()
	require.NoError(t, b.Answers(b.Request, r))
	require.ErrorIs(t, b.Answers(mman.RequestID{9}, r), mman.ErrBid)
	r.Legs[len(r.Legs)-1].Resource = mman.SumCID(mman.CodecDagCBOR, []byte("another"))
	require.ErrorIs(t, b.Answers(b.Request, r), mman.ErrBid)
	b.Price.Share = 1
	require.ErrorIs(t, b.Answers(b.Request, request()), mman.ErrInvalid)
}

func TestCommitment(t *testing.T) {
	t.Parallel()
	c := market.Commitment{Version: 1, Request: mman.RequestID{1}, Bidder: key(t, 1).Public().Address(), Digest: mman.Hash{5}}
	signed, err := market.SignCommitment(chain, c, key(t, 1))
	require.NoError(t, err)
	got, err := signed.Open(chain)
	require.NoError(t, err)
	require.Equal(t, c, got)
	_, err = signed.Open("mman-local-11111111")
	require.ErrorIs(t, err, mman.ErrBadSignature)
	_, err = market.SignCommitment(chain, c, key(t, 2))
	require.ErrorIs(t, err, mman.ErrDenied)
	forged := signed
	forged.Key = key(t, 2).Public()
	_, err = forged.Open(chain)
	require.ErrorIs(t, err, mman.ErrBadSignature)
	digest := mman.SignDigest(mman.SignBidAck, chain, signed.Bytes)
	lease := mman.LeaseKey(key(t, 3).Public().Bytes())
	require.True(t, market.Acknowledged(chain, lease, signed.Bytes, key(t, 3).Sign(digest[:])))
	require.False(t, market.Acknowledged(chain, lease, signed.Bytes, signed.Signature), "another purpose and key")
	for _, bad := range [][]byte{nil, {0xa0}, make([]byte, market.CommitmentMaxBytes+1), append(signed.Bytes, 0)} {
		_, err := market.DecodeCommitment(bad)
		require.Error(t, err)
	}
}

// FuzzBid: what decodes has one encoding.
func FuzzBid(f *testing.F) {
	enc, _, err := bid(f).Encode()
	require.NoError(f, err)
	f.Add(enc)
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := market.DecodeBid(b)
		if err != nil {
			return
		}
		again, _, err := got.Encode()
		require.NoError(t, err)
		require.Equal(t, b, again)
	})
}

// FuzzCommitment: as FuzzBid.
func FuzzCommitment(f *testing.F) {
	signed, err := market.SignCommitment(chain, market.Commitment{Version: 1, Bidder: key(f, 1).Public().Address(), Digest: mman.Hash{5}}, key(f, 1))
	require.NoError(f, err)
	f.Add(signed.Bytes)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := market.DecodeCommitment(b)
		if err != nil {
			return
		}
		require.Equal(t, uint64(1), c.Version)
		require.LessOrEqual(t, len(b), market.CommitmentMaxBytes)
	})
}

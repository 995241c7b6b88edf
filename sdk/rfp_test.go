package sdk_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/p2p/protocol/bids"
	"github.com/limboid/massive-man/sdk"
)

// TestAcknowledge: which commitments a consumer acknowledges, and that they are on
// disk before it does.
func TestAcknowledge(t *testing.T) {
	t.Parallel()
	const chain = "mman-local-00000000"
	account := func(n byte) sig.PrivateKey {
		key, err := sig.FromSeed(sig.Ed25519, append(make([]byte, 31), n))
		require.NoError(t, err)
		return key
	}
	bidder, other, lease := account(1), account(2), account(3)
	book, id := sdk.OpenLeaseBook(t.TempDir()), mman.RequestID{5}
	asked := market.Request{LeaseKey: mman.LeaseKey(lease.Public().Bytes())}
	offer := market.Offer{Provider: bidder.Public().Address()}
	c := sdk.NewCollector(book, chain, id, asked, lease)
	sealed := func(key sig.PrivateKey, request mman.RequestID, digest byte, onChain string) bids.Sealed {
		s, err := market.SignCommitment(onChain, market.Commitment{Version: 1, Request: request, Bidder: key.Public().Address(), Digest: mman.Hash{digest}}, key)
		require.NoError(t, err)
		return bids.Sealed{Commitment: s.Bytes, Key: []byte(s.Key.String()), Signature: s.Signature}
	}
	good := sealed(bidder, id, 1, chain)
	forged := good
	forged.Signature = sealed(other, id, 1, chain).Signature
	for name, tc := range map[string]struct {
		s    bids.Sealed
		want error
	}{
		"of another account":    {sealed(other, id, 1, chain), mman.ErrProtocol},
		"for another request":   {sealed(bidder, mman.RequestID{6}, 1, chain), mman.ErrProtocol},
		"for another chain":     {sealed(bidder, id, 1, "mman-local-11111111"), mman.ErrBadSignature},
		"not signed":            {forged, mman.ErrBadSignature},
		"with a key of nothing": {bids.Sealed{Commitment: good.Commitment, Key: []byte("x"), Signature: good.Signature}, mman.ErrInvalid},
	} {
		_, err := c.Acknowledge(offer, tc.s)
		require.ErrorIs(t, err, tc.want, name)
	}
	_, err := book.Kept(id)
	require.ErrorIs(t, err, mman.ErrNotFound, "none of them counts")

	ack, err := c.Acknowledge(offer, good)
	require.NoError(t, err)
	require.True(t, market.Acknowledged(chain, asked.LeaseKey, good.Commitment, ack))
	kept, err := book.Kept(id)
	require.NoError(t, err)
	require.Len(t, kept, 1)
	again, err := c.Acknowledge(offer, good)
	require.NoError(t, err)
	require.Equal(t, ack, again)
	_, err = c.Acknowledge(offer, sealed(bidder, id, 2, chain))
	require.ErrorIs(t, err, mman.ErrExists, "a second bid of the same account")
	kept, err = book.Kept(id)
	require.NoError(t, err)
	require.Len(t, kept, 1)
}

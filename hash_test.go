package mman_test

import (
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
)

func TestSum256(t *testing.T) {
	t.Parallel()
	// FIPS 180-2, appendix B.1.
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	require.Equal(t, abc, mman.Sum256([]byte("abc")).String())
	require.Equal(t, abc, mman.Sum256([]byte("a"), nil, []byte("bc")).String())
	require.True(t, mman.Hash{}.IsZero())
	require.False(t, mman.Sum256().IsZero())
}

func TestSignDigest(t *testing.T) {
	t.Parallel()
	want := sha512.Sum512_256([]byte("mman/receipt/1\x00mman-local-1\x00payload"))
	require.Equal(t, mman.Hash(want), mman.SignDigest(mman.SignReceipt, "mman-local-1", []byte("payload")))
	// Nothing moves from one part into the next.
	require.NotEqual(t, mman.SignDigest(mman.SignReceipt, "a", []byte("b")), mman.SignDigest(mman.SignReceipt, "ab", nil))
	seen := map[mman.Hash]bool{}
	for _, context := range []mman.SignContext{
		mman.SignOffer, mman.SignBind, mman.SignHandshake, mman.SignAccept, mman.SignStatement, mman.SignReceipt, mman.SignBlocks, mman.SignDecisions, mman.SignStorage, mman.SignRetrieval,
	} {
		require.NotContains(t, string(context), "\x00")
		seen[mman.SignDigest(context, "c", nil)] = true
	}
	require.Len(t, seen, 10)
}

func TestHexText(t *testing.T) {
	t.Parallel()
	h := mman.Sum256([]byte("abc"))
	b, err := json.Marshal(h)
	require.NoError(t, err)
	var back mman.Hash
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, h, back)
	for _, bad := range []string{"", "00", strings.Repeat("0", 63), strings.Repeat("0", 65), strings.Repeat("g", 64), strings.Repeat("0", 1<<20)} {
		err := back.UnmarshalText([]byte(bad))
		require.ErrorIs(t, err, mman.ErrInvalid)
		require.Less(t, len(err.Error()), 300)
	}
	require.Equal(t, h, back, "a failed parse must leave the value alone")
	back = mman.Hash{}
	require.NoError(t, back.UnmarshalText([]byte(strings.ToUpper(h.String()))), "CometBFT's tools print upper case")
	require.Equal(t, h, back)
}

func TestIDs(t *testing.T) {
	t.Parallel()
	tx := mman.Sum256([]byte("tx"))
	id := mman.NewRequestID("mman-local-1", tx, 258)
	sum := mman.Sum256([]byte("request\x00mman-local-1\x00"), tx[:], []byte{0, 0, 1, 2})
	require.Equal(t, hex.EncodeToString(sum[:20]), id.String())

	require.NotEqual(t, id, mman.NewRequestID("mman-local-2", tx, 258))
	require.NotEqual(t, id, mman.NewRequestID("mman-local-1", tx, 259))
	require.NotEqual(t, id, mman.NewRequestID("mman-local-1", mman.Hash{}, 258))
	require.NotEqual(t, [20]byte(id), [20]byte(id.Lease()))

	type doc struct {
		R mman.RequestID                 `json:"r"`
		L map[mman.LeaseID]mman.Hash     `json:"l"`
		P map[mman.RequestID]mman.PeerID `json:"p"`
	}
	d := doc{R: id, L: map[mman.LeaseID]mman.Hash{id.Lease(): tx}, P: map[mman.RequestID]mman.PeerID{id: {1}}}
	b, err := json.Marshal(d)
	require.NoError(t, err)
	var back doc
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, d, back)
	require.ErrorIs(t, back.R.UnmarshalText([]byte("12")), mman.ErrInvalid)
	lease := id.Lease()
	require.ErrorIs(t, lease.UnmarshalText([]byte(strings.Repeat("x", 40))), mman.ErrInvalid)
}

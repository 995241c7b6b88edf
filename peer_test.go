package mman_test

import (
	"crypto/ed25519"
	"encoding/json"
	"strings"
	"testing"
	"testing/quick"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
)

// TestPeerIDAgainstLibp2p compares text and bytes with libp2p's for random keys.
func TestPeerIDAgainstLibp2p(t *testing.T) {
	t.Parallel()
	require.NoError(t, quick.Check(func(seed [32]byte) bool {
		public, isKey := ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)
		key, err := crypto.UnmarshalEd25519PublicKey(public)
		if err != nil || !isKey {
			return false
		}
		ref, err := peer.IDFromPublicKey(key)
		if err != nil {
			return false
		}
		p := mman.PeerID(public)
		fromText, err1 := mman.ParsePeerID(ref.String())
		fromBytes, err2 := mman.PeerIDFromBytes([]byte(ref))
		return p.String() == ref.String() && string(p.Bytes()) == string(ref) &&
			err1 == nil && err2 == nil && fromText == p && fromBytes == p
	}, nil))
}

// TestPeerIDExtremes: keys that begin or end in zeros keep their length.
func TestPeerIDExtremes(t *testing.T) {
	t.Parallel()
	for _, p := range []mman.PeerID{{}, {31: 1}, {0: 255}, mman.PeerID([]byte(strings.Repeat("\xff", 32)))} {
		require.Len(t, p.String(), 52)
		require.True(t, strings.HasPrefix(p.String(), "12D3Koo"))
		back, err := mman.ParsePeerID(p.String())
		require.NoError(t, err)
		require.Equal(t, p, back)
	}
	require.True(t, mman.PeerID{}.IsZero())
}

func TestParsePeerIDRefuses(t *testing.T) {
	t.Parallel()
	good := mman.PeerID{1}.String()
	for _, tc := range []struct{ name, text string }{
		{"empty", ""},
		{"RSA key", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"},
		{"secp256k1 key", "16Uiu2HAmLhLvBoYaoZfaMUKuibM6ac163GwKY74c5kiSLg5KvLpY"},
		{"CID form", "bafzaajaiaejcal72gwuz2or47oyxxn6b3rkwdmmkrxgiz2yxvrfmvssdzvmxvdgz"},
		{"letter that base58 does not use", good[:51] + "0"},
		{"cut off", good[:51]},
		{"longer", good + "1"},
		{"all ones", strings.Repeat("1", 52)},
		{"too large", "1" + strings.Repeat("z", 51)},
		{"no leading one", strings.Repeat("z", 52)},
		{"enormous", strings.Repeat("1", 1<<20)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := mman.ParsePeerID(tc.text)
			require.ErrorIs(t, err, mman.ErrInvalid)
			require.Less(t, len(err.Error()), 300)
		})
	}
	b := mman.PeerID{1}.Bytes()
	for _, bad := range [][]byte{nil, b[:37], append(b, 0), append([]byte{0x12}, b[1:]...)} {
		_, err := mman.PeerIDFromBytes(bad)
		require.ErrorIs(t, err, mman.ErrInvalid)
	}
}

func TestPeerIDJSON(t *testing.T) {
	t.Parallel()
	p := mman.PeerID{9}
	b, err := json.Marshal(p)
	require.NoError(t, err)
	var back mman.PeerID
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, p, back)
	require.ErrorIs(t, json.Unmarshal([]byte(`"12D3Koo"`), &back), mman.ErrInvalid)
	require.Equal(t, p, back)
}

func FuzzParsePeerID(f *testing.F) {
	f.Add(mman.PeerID{}.String())
	f.Add(mman.PeerID{31: 1}.String())
	f.Add("16Uiu2HAmLhLvBoYaoZfaMUKuibM6ac163GwKY74c5kiSLg5KvLpY")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := mman.ParsePeerID(s)
		if err != nil {
			require.ErrorIs(t, err, mman.ErrInvalid)
			return
		}
		require.Equal(t, s, p.String())
		ref, err := peer.Decode(s)
		require.NoError(t, err)
		require.Equal(t, string(ref), string(p.Bytes()))
	})
}

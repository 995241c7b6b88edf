package mman_test

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"testing/quick"

	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
)

// Multihash codes.
const (
	hashIdentity = 0x00
	hashSHA256   = 0x12
	hashSHA512   = 0x13
)

// helloCID is the id that IPFS gives to the raw bytes "hello world".
const helloCID = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"

func TestCIDKnown(t *testing.T) {
	t.Parallel()
	c := mman.SumCID(mman.CodecRaw, []byte("hello world"))
	require.Equal(t, helloCID, c.String())
	back, err := mman.ParseCID(helloCID)
	require.NoError(t, err)
	require.Equal(t, c, back)
	require.Equal(t, mman.CodecRaw, back.Codec())
	require.Equal(t, mman.Sum256([]byte("hello "), []byte("world")), back.Digest())
}

// TestCIDAgainstGoCID compares text and bytes with the reference library.
func TestCIDAgainstGoCID(t *testing.T) {
	t.Parallel()
	codecs := map[mman.Codec]uint64{mman.CodecRaw: cid.Raw, mman.CodecDagPB: cid.DagProtobuf, mman.CodecDagCBOR: cid.DagCBOR}
	require.NoError(t, quick.Check(func(data []byte) bool {
		for ours, theirs := range codecs {
			ref, err := cid.NewPrefixV1(theirs, hashSHA256).Sum(data)
			if err != nil {
				return false
			}
			c := mman.SumCID(ours, data)
			fromText, err1 := mman.ParseCID(ref.String())
			fromBytes, err2 := mman.CIDFromBytes(ref.Bytes())
			if c.String() != ref.String() || string(c.Bytes()) != string(ref.Bytes()) ||
				err1 != nil || err2 != nil || fromText != c || fromBytes != c {
				return false
			}
		}
		return true
	}, nil))
}

func TestParseCIDRefuses(t *testing.T) {
	t.Parallel()
	foreign := func(codec, hash uint64) string {
		c, err := cid.NewPrefixV1(codec, hash).Sum([]byte("hello world"))
		require.NoError(t, err)
		return c.String()
	}
	v0, err := cid.V0Builder{}.Sum([]byte("hello world"))
	require.NoError(t, err)
	for _, tc := range []struct{ name, text string }{
		{"empty", ""},
		{"version 0", v0.String()},
		{"codec dag-json", foreign(cid.DagJSON, hashSHA256)},
		{"hash sha2-512", foreign(cid.Raw, hashSHA512)},
		{"hash identity", foreign(cid.Raw, hashIdentity)},
		{"hash blake3 of the same size", "bafkr4i" + helloCID[7:]},
		{"upper case", strings.ToUpper(helloCID)},
		{"upper case behind the prefix", "b" + strings.ToUpper(helloCID[1:])},
		{"multibase base58", "z" + helloCID[1:]},
		{"digit that base32 does not use", helloCID[:58] + "1"},
		{"left-over bits", helloCID[:58] + "f"},
		{"cut off", helloCID[:58]},
		{"longer", helloCID + "a"},
		{"padding", helloCID[:58] + "="},
		{"line end inside", helloCID[:30] + "\n" + helloCID[31:]},
		{"path", "/ipfs/" + helloCID[6:]},
		{"enormous", strings.Repeat("b", 1<<20)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := mman.ParseCID(tc.text)
			require.ErrorIs(t, err, mman.ErrInvalid)
			require.Less(t, len(err.Error()), 300)
		})
	}
}

func TestCIDFromBytesRefuses(t *testing.T) {
	t.Parallel()
	good := mman.SumCID(mman.CodecRaw, nil).Bytes()
	require.Len(t, good, mman.CIDSize)
	for i := range 4 { // version, codec, hash, length
		bad := append([]byte(nil), good...)
		bad[i] ^= 0x40
		_, err := mman.CIDFromBytes(bad)
		require.ErrorIs(t, err, mman.ErrInvalid, "byte %d", i)
	}
	for _, b := range [][]byte{nil, {}, good[:35], append(good, 0), make([]byte, 36)} {
		_, err := mman.CIDFromBytes(b)
		require.ErrorIs(t, err, mman.ErrInvalid)
	}
}

func TestCIDText(t *testing.T) {
	t.Parallel()
	type doc struct {
		C mman.CID `json:"c"`
	}
	b, err := json.Marshal(doc{})
	require.NoError(t, err)
	require.JSONEq(t, `{"c":""}`, string(b))
	var back doc
	require.NoError(t, json.Unmarshal(b, &back))
	require.True(t, back.C.IsZero())

	d := doc{mman.SumCID(mman.CodecDagCBOR, nil)}
	b, err = json.Marshal(d)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, d, back)
	require.Error(t, json.Unmarshal([]byte(`{"c":"bafy"}`), &back))
}

func TestCIDLink(t *testing.T) {
	t.Parallel()
	c := mman.SumCID(mman.CodecRaw, []byte("hello world"))
	b, err := c.MarshalCBOR()
	require.NoError(t, err)
	require.Equal(t, "d82a58250001551220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9", hex.EncodeToString(b))
	var back mman.CID
	require.NoError(t, back.UnmarshalCBOR(b))
	require.Equal(t, c, back)
	for i := range 9 { // tag, length, zero byte, CID head
		bad := append([]byte(nil), b...)
		bad[i] ^= 0x40
		require.ErrorIs(t, back.UnmarshalCBOR(bad), mman.ErrInvalid, "byte %d", i)
	}
	require.ErrorIs(t, back.UnmarshalCBOR(nil), mman.ErrInvalid)
	require.ErrorIs(t, back.UnmarshalCBOR(append(b, 0)), mman.ErrInvalid)
	require.Equal(t, c, back, "a failed decode must leave the value alone")
	_, err = mman.CID{}.MarshalCBOR()
	require.ErrorIs(t, err, mman.ErrInvalid)
}

func FuzzParseCID(f *testing.F) {
	f.Add(helloCID)
	f.Add(mman.SumCID(mman.CodecDagCBOR, nil).String())
	f.Add("QmaozNR7DZHQK1ZcU9p7QdrshMvXqWK6gpu5rmrkPdT3L4")
	f.Add("b")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := mman.ParseCID(s)
		if err != nil {
			require.ErrorIs(t, err, mman.ErrInvalid)
			return
		}
		require.Equal(t, s, c.String())
		ref, err := cid.Decode(s)
		require.NoError(t, err)
		require.Equal(t, ref.Bytes(), c.Bytes())
	})
}

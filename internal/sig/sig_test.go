package sig_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/internal/sig"
)

func seeded(t *testing.T) *rand.ChaCha8 {
	t.Helper()
	return rand.NewChaCha8([32]byte{1, 2, 3})
}

func mustKey(t *testing.T, typ sig.KeyType, r *rand.ChaCha8) sig.PrivateKey {
	t.Helper()
	k, err := sig.Generate(typ, r)
	require.NoError(t, err)
	return k
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

func TestSignVerify(t *testing.T) {
	t.Parallel()
	for _, typ := range []sig.KeyType{sig.Ed25519, sig.Secp256k1} {
		t.Run(typ.String(), func(t *testing.T) {
			t.Parallel()
			k := mustKey(t, typ, seeded(t))
			msg := []byte("a message")
			s := k.Sign(msg)
			require.Len(t, s, sig.SignatureSize)
			require.Equal(t, s, k.Sign(msg), "deterministic")
			require.True(t, k.Public().Verify(msg, s))
			require.False(t, k.Public().Verify([]byte("another"), s))
			require.False(t, k.Public().Verify(msg, s[:63]))
			require.False(t, k.Public().Verify(msg, append(bytes.Clone(s), 0)))
			require.False(t, k.Public().Verify(msg, nil))
			for i := range s {
				bad := bytes.Clone(s)
				bad[i] ^= 1
				require.False(t, k.Public().Verify(msg, bad), "byte %d", i)
			}
			again, err := sig.FromSeed(typ, k.Bytes())
			require.NoError(t, err)
			require.Equal(t, k.Public(), again.Public())
			require.Equal(t, typ, k.Type())
		})
	}
	require.False(t, sig.PublicKey{}.Verify(nil, make([]byte, 64)))
	require.True(t, sig.PrivateKey{}.IsZero())
	require.True(t, sig.PrivateKey{}.Public().IsZero())
	require.Nil(t, sig.PrivateKey{}.Bytes())
	require.Panics(t, func() { sig.PrivateKey{}.Sign(nil) })
}

// The first test of RFC 8032, section 7.1, and the standard library as oracle.
func TestEd25519Vectors(t *testing.T) {
	t.Parallel()
	seed := unhex(t, "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
	k, err := sig.FromSeed(sig.Ed25519, seed)
	require.NoError(t, err)
	require.Equal(t, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", hex.EncodeToString(k.Public().Bytes()))
	want := "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
	require.Equal(t, want, hex.EncodeToString(k.Sign(nil)))
	require.Equal(t, want, hex.EncodeToString(sig.SignEd25519([32]byte(seed), nil)))

	r := seeded(t)
	for range 20 {
		k := mustKey(t, sig.Ed25519, r)
		msg := k.Public().Bytes()[:7]
		std := ed25519.NewKeyFromSeed(k.Bytes())
		require.Equal(t, ed25519.Sign(std, msg), k.Sign(msg))
		require.True(t, sig.VerifyEd25519([32]byte(k.Public().Bytes()), msg, ed25519.Sign(std, msg)))
		sum := sha256.Sum256(k.Public().Bytes())
		require.Equal(t, mman.Address(sum[:20]), k.Public().Address())
	}
}

// Under ZIP-215 a key and a nonce of small order verify with s = 0; stricter
// rules refuse them. All ways to verify must agree.
func TestZIP215(t *testing.T) {
	t.Parallel()
	for _, enc := range []string{
		"0100000000000000000000000000000000000000000000000000000000000000", // the identity
		"0000000000000000000000000000000000000000000000000000000000000000", // order 4
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", // order 8
		"0100000000000000000000000000000000000000000000000000000000000080", // the identity, not canonical
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // the identity, y = p+1
	} {
		pub := [32]byte(unhex(t, enc))
		s := append(pub[:len(pub):len(pub)], make([]byte, 32)...)
		require.True(t, sig.VerifyEd25519(pub, []byte("Zcash"), s), enc)
		require.True(t, sig.Ed25519Key(pub).Verify([]byte("Zcash"), s), enc)
		b := sig.NewBatchVerifier(2)
		b.AddEd25519(pub, []byte("Zcash"), s)
		b.Add(sig.Ed25519Key(pub), []byte("Zcash"), s)
		ok, _ := b.Verify()
		require.True(t, ok, enc)
	}
	var noPoint [32]byte
	noPoint[0] = 2 // y = 2 is on no point of the curve
	require.False(t, sig.VerifyEd25519(noPoint, nil, make([]byte, 64)))
}

// Vectors that are known from Cosmos wallets: the generator's key.
func TestSecp256k1(t *testing.T) {
	t.Parallel()
	one := make([]byte, 32)
	one[31] = 1
	k, err := sig.FromSeed(sig.Secp256k1, one)
	require.NoError(t, err)
	require.Equal(t, "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798", hex.EncodeToString(k.Public().Bytes()))
	addr := k.Public().Address()
	require.Equal(t, "751e76e8199196d454941c45d1b3a323f1433bd6", hex.EncodeToString(addr[:]), "hash160 of the generator, BIP-173")
	require.Equal(t, "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8"+
		"2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5",
		hex.EncodeToString(k.Sign([]byte("Satoshi Nakamoto"))), "the RFC 6979 vector that the wallets share")

	t.Run("a high s is refused", func(t *testing.T) {
		t.Parallel()
		s := k.Sign([]byte("m"))
		var n secp256k1.ModNScalar
		require.False(t, n.SetByteSlice(s[32:]))
		n.Negate()
		high := bytes.Clone(s)
		n.PutBytesUnchecked(high[32:])
		require.True(t, k.Public().Verify([]byte("m"), s))
		require.False(t, k.Public().Verify([]byte("m"), high))
	})
	t.Run("zero and overflowing numbers are refused", func(t *testing.T) {
		t.Parallel()
		s := k.Sign([]byte("m"))
		for _, half := range []int{0, 32} {
			for _, fill := range []byte{0, 0xff} {
				bad := bytes.Clone(s)
				copy(bad[half:half+32], bytes.Repeat([]byte{fill}, 32))
				require.False(t, k.Public().Verify([]byte("m"), bad))
			}
		}
		for _, fill := range []byte{0, 0xff} {
			_, err := sig.FromSeed(sig.Secp256k1, bytes.Repeat([]byte{fill}, 32))
			require.ErrorIs(t, err, mman.ErrInvalid)
		}
	})
}

func TestNewPublicKeyRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		typ sig.KeyType
		key []byte
	}{
		"no type":            {0, make([]byte, 32)},
		"unknown type":       {3, make([]byte, 32)},
		"ed25519 short":      {sig.Ed25519, make([]byte, 31)},
		"ed25519 long":       {sig.Ed25519, make([]byte, 33)},
		"secp256k1 short":    {sig.Secp256k1, make([]byte, 32)},
		"secp256k1 no point": {sig.Secp256k1, append([]byte{2}, bytes.Repeat([]byte{0xff}, 32)...)},
		"secp256k1 hybrid":   {sig.Secp256k1, append([]byte{6}, unhex(t, "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")...)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := sig.NewPublicKey(c.typ, c.key)
			require.ErrorIs(t, err, mman.ErrInvalid)
		})
	}
}

type holder struct {
	Key   sig.PublicKey `cbor:"key" json:"key"`
	Other sig.PublicKey `cbor:"other,omitzero" json:"other"`
}

func TestPublicKeyForms(t *testing.T) {
	t.Parallel()
	r := seeded(t)
	for _, typ := range []sig.KeyType{sig.Ed25519, sig.Secp256k1} {
		h := holder{Key: mustKey(t, typ, r).Public()}

		b, err := dagcbor.Marshal(h)
		require.NoError(t, err)
		got, err := dagcbor.Unmarshal[holder](b, 1024)
		require.NoError(t, err)
		require.Equal(t, h, got)

		j, err := json.Marshal(h)
		require.NoError(t, err)
		require.Contains(t, string(j), typ.String()+":")
		got = holder{}
		require.NoError(t, json.Unmarshal(j, &got))
		require.Equal(t, h, got)

		text := h.Key.String()
		back, err := sig.ParsePublicKey(text)
		require.NoError(t, err)
		require.Equal(t, h.Key, back)
		for _, bad := range []string{"", ":", "x" + text, text[:len(text)-1], text + "0", text[:len(text)-2] + "zz", typ.String() + ":" + strings.ToUpper(text[len(typ.String())+1:])} {
			_, err := sig.ParsePublicKey(bad)
			require.ErrorIs(t, err, mman.ErrInvalid, bad)
		}
	}
	_, err := dagcbor.Marshal(holder{})
	require.ErrorIs(t, err, mman.ErrInvalid)
	for _, bad := range [][]byte{
		{0x41, 1},
		{0x58},
		{0x58, 1, 1},
		{0x59, 0, 33, 1},
		append([]byte{0x58, 33, 3}, make([]byte, 32)...), append([]byte{0x58, 33, 2}, make([]byte, 32)...),
		append([]byte{0x58, 34, 1}, make([]byte, 33)...), append([]byte{0x59, 0, 33, 1}, make([]byte, 32)...), append([]byte{0x78, 33, 1}, make([]byte, 32)...),
	} {
		_, err := dagcbor.Unmarshal[holder](append([]byte{0xa1, 0x63, 'k', 'e', 'y'}, bad...), 1024)
		require.ErrorIs(t, err, mman.ErrInvalid, "%x", bad)
	}
}

func TestKeyTypeText(t *testing.T) {
	t.Parallel()
	for _, typ := range []sig.KeyType{sig.Ed25519, sig.Secp256k1} {
		b, err := typ.MarshalText()
		require.NoError(t, err)
		var got sig.KeyType
		require.NoError(t, got.UnmarshalText(b))
		require.Equal(t, typ, got)
	}
	_, err := sig.KeyType(9).MarshalText()
	require.ErrorIs(t, err, mman.ErrInvalid)
	_, err = sig.ParseKeyType("rsa")
	require.ErrorIs(t, err, mman.ErrInvalid)
	_, err = sig.Generate(9, seeded(t))
	require.ErrorIs(t, err, mman.ErrInvalid)
	_, err = sig.Generate(sig.Ed25519, bytes.NewReader(nil))
	require.ErrorIs(t, err, mman.ErrInternal)
	_, err = sig.FromSeed(sig.Ed25519, make([]byte, 31))
	require.ErrorIs(t, err, mman.ErrInvalid)
	_, err = sig.FromSeed(9, make([]byte, 32))
	require.ErrorIs(t, err, mman.ErrInvalid)
}

func TestPrivateKeyNeverPrints(t *testing.T) {
	t.Parallel()
	for _, typ := range []sig.KeyType{sig.Ed25519, sig.Secp256k1} {
		k := mustKey(t, typ, seeded(t))
		type inner struct{ k sig.PrivateKey }
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("m", slog.Any("key", k))
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", slog.Any("key", inner{k}))
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
			fmt.Fprintf(&log, verb, k)
			fmt.Fprintf(&log, verb, inner{k})
			fmt.Fprintf(&log, verb, &inner{k})
		}
		_, err := json.Marshal(k)
		require.ErrorIs(t, err, mman.ErrDenied)
		out := strings.ToLower(log.String())
		require.Contains(t, out, "[private key]")
		require.NotContains(t, out, hex.EncodeToString(k.Bytes()[:8]))
		require.NotContains(t, out, strings.Trim(fmt.Sprintf("%d", k.Bytes()[:8]), "[]"))
		require.NotContains(t, out, strings.Trim(strings.ToLower(fmt.Sprintf("%#v", k.Bytes()[:4])), "[]byte{}"))
	}
}

func TestBatch(t *testing.T) {
	t.Parallel()
	ok, each := sig.NewBatchVerifier(0).Verify()
	require.True(t, ok)
	require.Empty(t, each)

	r := seeded(t)
	type item struct {
		pub    sig.PublicKey
		msg, s []byte
	}
	var items []item
	for i := range 12 {
		typ := sig.Ed25519
		if i%5 == 4 {
			typ = sig.Secp256k1
		}
		k := mustKey(t, typ, r)
		msg := fmt.Appendf(nil, "message %d", i)
		items = append(items, item{k.Public(), msg, k.Sign(msg)})
	}
	check := func(items []item, want bool) {
		b := sig.NewBatchVerifier(4)
		for _, it := range items {
			b.Add(it.pub, it.msg, it.s)
		}
		require.Equal(t, len(items), b.Len())
		ok, each := b.Verify()
		require.Equal(t, want, ok)
		for i, it := range items {
			require.Equal(t, it.pub.Verify(it.msg, it.s), each[i], "item %d", i)
		}
	}
	check(items, true)
	for i := range items {
		for name, s := range map[string][]byte{
			"none": nil, "short": items[i].s[:63], "zero": make([]byte, 64), "high s": bytes.Repeat([]byte{0xff}, 64),
			"of another": items[(i+1)%len(items)].s,
		} {
			bad := append([]item(nil), items...)
			bad[i].s = s
			t.Log(i, name)
			check(bad, false)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(byte(1), make([]byte, 32), []byte("m"), make([]byte, 64))
	f.Add(byte(2), append([]byte{2}, make([]byte, 32)...), []byte("m"), make([]byte, 64))
	f.Fuzz(func(t *testing.T, typ byte, key, msg, s []byte) {
		pub, err := sig.NewPublicKey(sig.KeyType(typ), key)
		if err != nil {
			return
		}
		b := sig.NewBatchVerifier(1)
		b.Add(pub, msg, s)
		ok, _ := b.Verify()
		require.Equal(t, pub.Verify(msg, s), ok)
		back, err := sig.ParsePublicKey(pub.String())
		require.NoError(t, err)
		require.Equal(t, pub, back)
	})
}

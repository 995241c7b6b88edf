package keyring_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/sdk/keyring"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// Test vector 1 of SLIP-0010, for both curves; that of secp256k1 is also test
// vector 1 of BIP-32.
func TestDerivePathVectors(t *testing.T) {
	t.Parallel()
	const h = keyring.Hardened
	seed := unhex(t, "000102030405060708090a0b0c0d0e0f")
	for _, c := range []struct {
		typ  sig.KeyType
		path []uint32
		key  string
	}{
		{sig.Ed25519, nil, "2b4be7f19ee27bbf30c667b642d5f4aa69fd169872f8fc3059c08ebae2eb19e7"},
		{sig.Ed25519, []uint32{h}, "68e0fe46dfb67e368c75379acec591dad19df3cde26e63b93a8e704f1dade7a3"},
		{sig.Ed25519, []uint32{h, h | 1}, "b1d0bad404bf35da785a64ca1ac54b2617211d2777696fbffaf208f746ae84f2"},
		{sig.Ed25519, []uint32{h, h | 1, h | 2}, "92a5b23c0b8a99e37d07df3fb9966917f5d06e02ddbd909c7e184371463e9fc9"},
		{sig.Ed25519, []uint32{h, h | 1, h | 2, h | 2}, "30d1dc7e5fc04c31219ab25a27ae00b50f6fd66622f6e9c913253d6511d1e662"},
		{sig.Ed25519, []uint32{h, h | 1, h | 2, h | 2, h | 1_000_000_000}, "8f94d394a8e8fd6b1bc2f3f49f5c47e385281d5c17e65324b0f62483e37e8793"},
		{sig.Secp256k1, nil, "e8f32e723decf4051aefac8e2c93c9c5b214313817cdb01a1494b917c8436b35"},
		{sig.Secp256k1, []uint32{h}, "edb2e14f9ee77d26dd93b4ecede8d16ed408ce149b6cd80b0715a2d911a0afea"},
		{sig.Secp256k1, []uint32{h, 1}, "3c6cb8d0f6a264c91ea8b5030fadaa8e538b020f0a387421a12de9319dc93368"},
		{sig.Secp256k1, []uint32{h, 1, h | 2}, "cbce0d719ecf7431d88e6a89fa1483e02e35092af60c042b1df2ff59fa424dca"},
		{sig.Secp256k1, []uint32{h, 1, h | 2, 2}, "0f479245fb19a38a1954c5c7c0ebab2f9bdfd96a17563ef28a6a4b1a2a764ef4"},
		{sig.Secp256k1, []uint32{h, 1, h | 2, 2, 1_000_000_000}, "471b76e389e528d6de6d816857e012c5455051cad6660850e58372a6c3e6e7c8"},
	} {
		key, err := keyring.DerivePath(c.typ, seed, c.path...)
		require.NoError(t, err)
		require.Equal(t, c.key, hex.EncodeToString(key.Bytes()), "%s %x", c.typ, c.path)
	}
	_, err := keyring.DerivePath(sig.Ed25519, seed, 0)
	require.ErrorIs(t, err, mman.ErrInvalid)
	_, err = keyring.DerivePath(9, seed)
	require.ErrorIs(t, err, mman.ErrInvalid)
	for _, n := range []int{0, 15, 65} {
		_, err = keyring.DerivePath(sig.Ed25519, make([]byte, n))
		require.ErrorIs(t, err, mman.ErrInvalid)
	}
}

// The account "faucet" of the CosmJS wallet library, from its words to the
// signatures that it published (proto-signing's test vectors).
func TestCosmJSFaucet(t *testing.T) {
	t.Parallel()
	const faucet = "economy stock theory fatal elder harbor betray wasp final emotion task crumble " +
		"siren bottom lizard educate guess current outdoor pair theory focus wife stone"
	for i, want := range []string{
		"A08EGB7ro1ORuFhjOnZcSgwYlpe0DSFjVNUIkNNQxwKQ",
		"AiDosfIbBi54XJ1QjCeApumcy/FjdtF+YhywPf3DKTx7",
		"AzQg33JZqH7vSsm09esZY5bZvmzYwE/SY78cA0iLxpD7",
	} {
		key, err := keyring.Derive(faucet, sig.Secp256k1, uint32(i))
		require.NoError(t, err)
		require.Equal(t, want, base64.StdEncoding.EncodeToString(key.Public().Bytes()))
	}
	key, err := keyring.Derive(faucet, sig.Secp256k1, 0)
	require.NoError(t, err)
	field := func(num protowire.Number, parts ...[]byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), bytes.Join(parts, nil))
	}
	number := func(num protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), v)
	}
	text := func(num protowire.Number, s string) []byte { return field(num, []byte(s)) }
	body := field(1, text(1, tx.TypeSend), field(2,
		text(1, "cosmos1pkptre7fdkl6gfrzlesjjvhxhlc3r4gmmk8rs6"),
		text(2, "cosmos1qypqxpq9qcrsszg2pvxq6rs0zqg3yyc5lzv7xu"),
		field(3, text(1, "ucosm"), text(2, "1234567"))))
	info := bytes.Join([][]byte{
		field(1, text(1, "/cosmos.crypto.secp256k1.PubKey"), field(2, field(1, key.Public().Bytes()))),
		field(2, field(1, number(1, 1))),
	}, nil)
	auth := append(field(1, info), field(2, field(1, text(1, "ucosm"), text(2, "2000")), number(2, 200_000))...)
	require.Equal(t,
		"c9dd20e07464d3a688ff4b710b1fbc027e495e797cfa0b4804da2ed117959227772de059808f765aa29b8f92edf30f4c2c5a438e30d3fe6897daa7141e3ce6f9",
		hex.EncodeToString(key.Sign(tx.SignBytes(body, auth, "simd-testing", 1))))
}

func TestNewMnemonic(t *testing.T) {
	t.Parallel()
	// The BIP-39 vectors for 32 bytes of entropy, 0 and 0x7f.
	for fill, want := range map[byte]string{
		0x00: strings.Repeat("abandon ", 23) + "art",
		0x7f: "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth title",
	} {
		got, err := keyring.NewMnemonic(bytes.NewReader(bytes.Repeat([]byte{fill}, 32)))
		require.NoError(t, err)
		require.Equal(t, want, got)
		back, err := keyring.ParseMnemonic("  " + strings.ToUpper(got) + "\n")
		require.NoError(t, err)
		require.Equal(t, got, back)
	}
	_, err := keyring.NewMnemonic(bytes.NewReader(make([]byte, 31)))
	require.ErrorIs(t, err, mman.ErrInternal)
}

func TestParseMnemonicRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ words, says string }{
		"empty":      {"", "0 words"},
		"13 words":   {words + " about", "13 words"},
		"unknown":    {strings.Replace(words, "about", "secretword", 1), "word 12"},
		"checksum":   {strings.Replace(words, "about", "abandon", 1), "checksum"},
		"very long":  {strings.Repeat("a ", 1000), "2000 bytes"},
		"not ascii":  {strings.Replace(words, "about", "äbout", 1), "word 12"},
		"wrong size": {strings.Repeat("abandon ", 16), "16 words"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := keyring.ParseMnemonic(c.words)
			require.ErrorIs(t, err, mman.ErrInvalid)
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), "secretword")
			_, err = keyring.Derive(c.words, sig.Ed25519, 0)
			require.ErrorIs(t, err, mman.ErrInvalid)
		})
	}
}

func TestDeriveIsByTypeAndIndex(t *testing.T) {
	t.Parallel()
	seen := map[mman.Address]bool{}
	for _, typ := range []sig.KeyType{sig.Ed25519, sig.Secp256k1} {
		for i := range uint32(3) {
			key, err := keyring.Derive(words, typ, i)
			require.NoError(t, err)
			require.Equal(t, typ, key.Type())
			require.False(t, seen[key.Public().Address()])
			seen[key.Public().Address()] = true
		}
	}
}

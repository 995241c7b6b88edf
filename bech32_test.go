package mman_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
)

// TestBIP173 tries the test vectors of BIP-173. Those whose payload is no whole
// number of bytes pass the checksum and fail at the padding.
func TestBIP173(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"A12UEL5L",
		"a12uel5l",
		"an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs",
		"abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw",
		"11qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqc8247j",
		"split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w",
		"?1ezyfcl",
	} {
		hrp, data, err := mman.DecodeBech32(s)
		if err != nil {
			require.ErrorContains(t, err, "padding", s)
			continue
		}
		require.Equal(t, strings.ToLower(s), mman.EncodeBech32(hrp, data))
	}
	for _, tc := range []struct{ name, text string }{
		{"human-readable character out of range", "\x201nwldj5"},
		{"human-readable character out of range", "\x7f1axkwrx"},
		{"human-readable character out of range", "\x801eym55h"},
		{"too long", "an84characterslonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1569pvx"},
		{"no separator", "pzry9x0s0muk"},
		{"empty human-readable part", "1pzry9x0s0muk"},
		{"invalid data character", "x1b4n0q5v"},
		{"too short checksum", "li1dgmt3"},
		{"invalid character in checksum", "de1lg7wt\xff"},
		{"checksum of the upper case", "A1G7SGD8"},
		{"empty human-readable part", "10a06t8"},
		{"empty human-readable part", "1qzzfhee"},
		{"bech32m", "a1lqfn3a"},
	} {
		t.Run(tc.name+" "+tc.text, func(t *testing.T) {
			t.Parallel()
			_, _, err := mman.DecodeBech32(tc.text)
			require.Error(t, err)
		})
	}
}

// TestBech32Cosmos reads an address of another chain, known from its public
// documentation, so that our alphabet and checksum are those of wallets.
func TestBech32Cosmos(t *testing.T) {
	t.Parallel()
	const atom = "cosmos1fl48vsnmsdzcv85q5d2q4z5ajdha8yu34mf0eh"
	hrp, data, err := mman.DecodeBech32(atom)
	require.NoError(t, err)
	require.Equal(t, "cosmos", hrp)
	require.Equal(t, "4fea76427b8345861e80a3540a8a9d936fd39391", hex.EncodeToString(data))
	require.Equal(t, atom, mman.EncodeBech32(hrp, data))
}

// TestBech32CatchesErrors changes each character of an address to every other:
// the checksum must notice all of them.
func TestBech32CatchesErrors(t *testing.T) {
	t.Parallel()
	const charset = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
	good := mman.Address{7, 11, 13}.String()
	for i := len("man1"); i < len(good); i++ {
		for _, c := range charset {
			bad := good[:i] + string(c) + good[i+1:]
			if bad == good {
				continue
			}
			_, err := mman.ParseAddress(bad)
			require.ErrorIs(t, err, mman.ErrInvalid, bad)
		}
	}
}

package mman_test

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"testing/quick"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
)

// addressVectors maps bytes to their account and operator addresses. They were
// computed with the reference algorithm of BIP-173 in another language, which
// also gave the address that the third has on the Cosmos Hub (TestBech32Cosmos).
func addressVectors() map[string][2]string {
	return map[string][2]string{
		"0000000000000000000000000000000000000000": {"man1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqwtsxul", "manvaloper1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqg0mw6z"},
		"ffffffffffffffffffffffffffffffffffffffff": {"man1llllllllllllllllllllllllllllllllz63fm4", "manvaloper1lllllllllllllllllllllllllllllllly76pag"},
		"4fea76427b8345861e80a3540a8a9d936fd39391": {"man1fl48vsnmsdzcv85q5d2q4z5ajdha8yu3gnekz4", "manvaloper1fl48vsnmsdzcv85q5d2q4z5ajdha8yu3whj7yg"},
		"000102030405060708090a0b0c0d0e0f10111213": {"man1qqqsyqcyq5rqwzqfpg9scrgwpugpzysn77pr2m", "manvaloper1qqqsyqcyq5rqwzqfpg9scrgwpugpzysnc62tvx"},
	}
}

func TestAddressVectors(t *testing.T) {
	t.Parallel()
	for want, text := range addressVectors() {
		a, err := mman.ParseAddress(text[0])
		require.NoError(t, err, text)
		require.Equal(t, want, hex.EncodeToString(a[:]))
		require.Equal(t, text[0], a.String())
		require.Equal(t, text[1], a.ValidatorString())
	}
}

func TestParseAddressRefuses(t *testing.T) {
	t.Parallel()
	good := mman.Address{1, 2, 3}.String()
	require.Len(t, good, 42)
	swapped := []byte(good)
	swapped[40], swapped[41] = swapped[41], swapped[40]
	for _, tc := range []struct{ name, text, why string }{
		{"empty", "", "not a bech32 string"},
		{"an operator's address", mman.Address{1}.ValidatorString(), `starts with "manvaloper"`},
		{"another chain's address", "cosmos1fl48vsnmsdzcv85q5d2q4z5ajdha8yu34mf0eh", `starts with "cosmos"`},
		{"a typing error", good[:41] + "b", "a character that bech32 does not use"},
		{"another letter", strings.Replace(good, "q", "p", 1), "checksum is wrong"},
		{"two letters swapped", string(swapped), "checksum is wrong"},
		{"mixed case", "Man" + good[3:], "mixes upper and lower case"},
		{"space before", " " + good, "bech32"},
		{"cut off", good[:30], "checksum is wrong"},
		{"too long", good + strings.Repeat("q", 60), "longer than 90"},
		{"enormous", strings.Repeat("q", 1<<20), "longer than 90"},
		{"hex", hex.EncodeToString(make([]byte, 20)), "bech32"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := mman.ParseAddress(tc.text)
			require.ErrorIs(t, err, mman.ErrInvalid)
			require.ErrorContains(t, err, tc.why)
			require.Less(t, len(err.Error()), 300, "an error must not repeat a huge input")
		})
	}
}

// TestAddressUpperCase: BIP-173 wants decoders to take upper case, for QR codes.
func TestAddressUpperCase(t *testing.T) {
	t.Parallel()
	a := mman.Address{19: 200}
	got, err := mman.ParseAddress(strings.ToUpper(a.String()))
	require.NoError(t, err)
	require.Equal(t, a, got)
}

func TestAddressRoundTrip(t *testing.T) {
	t.Parallel()
	require.NoError(t, quick.Check(func(a mman.Address) bool {
		account, err1 := mman.ParseAddress(a.String())
		operator, err2 := mman.ParseValidatorAddress(a.ValidatorString())
		return err1 == nil && err2 == nil && account == a && operator == a
	}, nil))
	require.True(t, mman.Address{}.IsZero())
	require.False(t, mman.Address{19: 1}.IsZero())
}

func TestAddressJSON(t *testing.T) {
	t.Parallel()
	type doc struct {
		A mman.Address            `json:"a"`
		M map[mman.Address]string `json:"m"`
	}
	d := doc{A: mman.Address{1}, M: map[mman.Address]string{{2}: "two"}}
	b, err := json.Marshal(d)
	require.NoError(t, err)
	require.Contains(t, string(b), `"a":"man1`)
	var back doc
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, d, back)
	require.Error(t, json.Unmarshal([]byte(`{"a":"man1x"}`), &back))
}

func FuzzParseAddress(f *testing.F) {
	for _, text := range addressVectors() {
		f.Add(text[0])
	}
	f.Add(mman.Address{1}.ValidatorString())
	f.Add("A12UEL5L")
	f.Add("man1")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := mman.ParseAddress(s)
		if err != nil {
			require.ErrorIs(t, err, mman.ErrInvalid)
			return
		}
		require.Equal(t, strings.ToLower(s), a.String())
	})
}

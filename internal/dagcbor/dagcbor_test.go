package dagcbor_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strings"
	"testing"
	"testing/quick"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
)

const limit = 1 << 16

type inner struct {
	N uint64 `cbor:"n"`
}

// object has one field of every kind that signed objects use.
type object struct {
	A     uint64       `cbor:"a,omitzero"`
	I     int64        `cbor:"i,omitzero"`
	S     string       `cbor:"s,omitzero"`
	Yes   bool         `cbor:"yes,omitzero"`
	Bytes []byte       `cbor:"bytes,omitempty"`
	Owner mman.Address `cbor:"owner,omitzero"`
	Lease mman.LeaseID `cbor:"lease,omitzero"`
	Link  mman.CID     `cbor:"link,omitzero"`
	List  []inner      `cbor:"list,omitempty"`
	One   inner        `cbor:"one,omitzero"`
	Maybe *inner       `cbor:"maybe,omitempty"`
	Small uint8        `cbor:"small,omitzero"`
}

func fromHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

// TestVectors checks encodings that were put together by hand from RFC 8949.
func TestVectors(t *testing.T) {
	t.Parallel()
	link := mman.SumCID(mman.CodecRaw, []byte("hello world"))
	linkHex := "d82a5825 00 01551220 b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
	for _, tc := range []struct {
		name string
		v    object
		hex  string
	}{
		{"empty", object{}, "a0"},
		{"one byte", object{A: 23}, "a1 6161 17"},
		{"two bytes", object{A: 24}, "a1 6161 1818"},
		{"three bytes", object{A: 256}, "a1 6161 190100"},
		{"five bytes", object{A: 65536}, "a1 6161 1a00010000"},
		{"nine bytes", object{A: math.MaxUint64}, "a1 6161 1bffffffffffffffff"},
		{"negative", object{I: -1}, "a1 6169 20"},
		{"most negative", object{I: math.MinInt64}, "a1 6169 3b7fffffffffffffff"},
		{"text", object{S: "ü"}, "a1 6173 62c3bc"},
		{"true", object{Yes: true}, "a1 63796573 f5"},
		{"byte string", object{Bytes: []byte{1, 2}}, "a1 656279746573 420102"},
		{"array of bytes is a byte string", object{Owner: mman.Address{19: 7}}, "a1 656f776e6572 54 00000000000000000000000000000000000000 07"},
		{"id with a text form is a byte string", object{Lease: mman.LeaseID{0: 9}}, "a1 656c65617365 54 09 00000000000000000000000000000000000000"},
		{"link", object{Link: link}, "a1 646c696e6b " + linkHex},
		{"nested", object{One: inner{1}, List: []inner{{2}, {3}}}, "a2 636f6e65 a1616e01 646c697374 82 a1616e02 a1616e03"},
		{"shorter keys first", object{A: 1, S: "s", Yes: true, Small: 2}, "a4 6161 01 6173 6173 63796573 f5 65736d616c6c 02"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			want := fromHex(t, tc.hex)
			got, err := dagcbor.Marshal(tc.v)
			require.NoError(t, err)
			require.Equal(t, hex.EncodeToString(want), hex.EncodeToString(got))
			back, err := dagcbor.Unmarshal[object](want, limit)
			require.NoError(t, err)
			require.Equal(t, tc.v, back)
		})
	}
}

// TestStrict lists every second way to write a value; each must be refused.
func TestStrict(t *testing.T) {
	t.Parallel()
	cidv0 := "d82a 5823 00 1220" + strings.Repeat("00", 32)
	for _, tc := range []struct{ name, hex string }{
		{"nothing", ""},
		{"cut off", "a1 6161"},
		{"trailing byte", "a0 00"},
		{"second value", "a0 01"},
		{"unsorted keys", "a2 63796573 f5 6161 01"},
		{"keys in the order of bytes, not of length", "a2 656f776e6572 54 0000000000000000000000000000000000000007 6173 6173"},
		{"duplicate key", "a2 6161 01 6161 02"},
		{"duplicate equal pair", "a2 6161 01 6161 01"},
		{"unknown key", "a1 617a 01"},
		{"key in other case", "a1 6141 01"},
		{"key is an integer", "a1 01 01"},
		{"key is bytes", "a1 4161 01"},
		{"indefinite map", "bf 6161 01 ff"},
		{"indefinite array", "a1 646c697374 9f a1616e01 ff"},
		{"indefinite text", "a1 6173 7f 6173 ff"},
		{"indefinite bytes", "a1 656279746573 5f 4101 ff"},
		{"integer one byte too long", "a1 6161 1817"},
		{"integer two bytes too long", "a1 6161 1900ff"},
		{"integer four bytes too long", "a1 6161 1a0000ffff"},
		{"integer eight bytes too long", "a1 6161 1b00000000ffffffff"},
		{"map head too long", "b801 6161 01"},
		{"text head too long", "a1 6173 7801 73"},
		{"key head too long", "a1 780161 01"},
		{"zero that should be left out", "a1 6161 00"},
		{"false that should be left out", "a1 63796573 f4"},
		{"half float", "a1 6161 f93c00"},
		{"single float", "a1 6161 fa3f800000"},
		{"double float", "a1 6161 fb3ff0000000000000"},
		{"NaN", "a1 6161 f97e00"},
		{"infinity", "a1 6169 f97c00"},
		{"bignum", "a1 6161 c24101"},
		{"time tag", "a1 6161 c11a514b67b0"},
		{"self-described tag", "d9d9f7 a0"},
		{"tag around the value", "d82a a0"},
		{"tag around an integer", "a1 6161 d82a 01"},
		{"encoded-CBOR tag around bytes", "a1 656279746573 d818 4101"},
		{"null for the object", "f6"},
		{"undefined for the object", "f7"},
		{"null for an integer", "a1 6161 f6"},
		{"null for text", "a1 6173 f6"},
		{"null for bytes", "a1 656279746573 f6"},
		{"null for an array of bytes", "a1 656f776e6572 f6"},
		{"null for a struct", "a1 636f6e65 f6"},
		{"null for a pointer", "a1 656d61796265 f6"},
		{"null for a list", "a1 646c697374 f6"},
		{"null in a list", "a1 646c697374 81 f6"},
		{"null for a link", "a1 646c696e6b f6"},
		{"undefined for an integer", "a1 6161 f7"},
		{"simple value", "a1 6161 e5"},
		{"integer for bool", "a1 63796573 01"},
		{"bool for integer", "a1 6161 f5"},
		{"text for integer", "a1 6161 6131"},
		{"bytes for text", "a1 6173 4173"},
		{"text for bytes", "a1 656279746573 6161"},
		{"array of integers for bytes", "a1 656279746573 820102"},
		{"array of integers for an array of bytes", "a1 656f776e6572 94" + strings.Repeat("01", 20)},
		{"19 bytes for an address", "a1 656f776e6572 53" + strings.Repeat("01", 19)},
		{"21 bytes for an address", "a1 656f776e6572 55" + strings.Repeat("01", 21)},
		{"0 bytes for an address", "a1 656f776e6572 40"},
		{"32 bytes for an id", "a1 656c65617365 5820" + strings.Repeat("01", 32)},
		{"array for a struct", "81 01"},
		{"array for a nested struct", "a1 636f6e65 8101"},
		{"integer too large for its field", "a1 65736d616c6c 190100"},
		{"integer too large for int64", "a1 6169 1bffffffffffffffff"},
		{"negative for unsigned", "a1 6161 20"},
		{"negative below int64", "a1 6169 3bffffffffffffffff"},
		{"invalid UTF-8", "a1 6173 61ff"},
		{"surrogate in UTF-8", "a1 6173 63eda080"},
		{"overlong UTF-8", "a1 6173 62c080"},
		{"invalid UTF-8 in a key", "a1 61ff 01"},
		{"link without its zero byte", "a1 646c696e6b d82a5824 01551220" + strings.Repeat("00", 32)},
		{"link to CIDv0", "a1 646c696e6b" + cidv0},
		{"link with another hash", "a1 646c696e6b d82a5825 00 01551320" + strings.Repeat("00", 32)},
		{"link with another codec", "a1 646c696e6b d82a5825 00 01011220" + strings.Repeat("00", 32)},
		{"link with a byte too many", "a1 646c696e6b d82a5826 00 01551220" + strings.Repeat("00", 33)},
		{"link as text", "a1 646c696e6b d82a 6161"},
		{"link under another tag", "a1 646c696e6b d82b5825 00 01551220" + strings.Repeat("00", 32)},
		{"link with a long tag head", "a1 646c696e6b d9002a5825 00 01551220" + strings.Repeat("00", 32)},
		{"untagged link", "a1 646c696e6b 5825 00 01551220" + strings.Repeat("00", 32)},
		{"reserved head", "1c"},
		{"break alone", "ff"},
		{"declared map of 2^64-1 pairs", "bb ffffffffffffffff"},
		{"declared text of 2^63 bytes", "a1 6173 7b 8000000000000000"},
		{"declared bytes of 2^32 bytes", "a1 656279746573 5b 0000000100000000 00"},
		{"declared list of 2^40 items", "a1 646c697374 9b 0000010000000000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			v, err := dagcbor.Unmarshal[object](fromHex(t, tc.hex), limit)
			require.ErrorIs(t, err, mman.ErrInvalid, "decoded to %+v", v)
		})
	}
}

func TestDepth(t *testing.T) {
	t.Parallel()
	type tree struct {
		Sub []tree `cbor:"s,omitempty"`
	}
	nest := func(n int) []byte { // 2n+1 levels
		return append(bytes.Repeat([]byte{0xa1, 0x61, 's', 0x81}, n), 0xa0)
	}
	for n, ok := range map[int]bool{0: true, 1: true, dagcbor.MaxDepth/2 - 1: true, dagcbor.MaxDepth / 2: false, dagcbor.MaxDepth: false, limit / 8: false} {
		v, err := dagcbor.Unmarshal[tree](nest(n), limit)
		if !ok {
			require.ErrorIs(t, err, mman.ErrInvalid, n)
			continue
		}
		require.NoError(t, err, n)
		again, err := dagcbor.Marshal(v)
		require.NoError(t, err, n)
		require.Equal(t, nest(n), again)
	}
	// Depth where the type expects none.
	_, err := dagcbor.Unmarshal[object](append([]byte{0xa1, 0x61, 'a'}, bytes.Repeat([]byte{0x81}, 1000)...), limit)
	require.ErrorIs(t, err, mman.ErrInvalid)

	v := tree{}
	for range 4 * dagcbor.MaxDepth {
		v = tree{[]tree{v}}
	}
	_, err = dagcbor.Marshal(v)
	require.ErrorIs(t, err, mman.ErrInvalid, "what cannot be read must not be written")
}

// TestDepthBorder writes the deepest value that may be written, whose leaf is a
// link, and reads it.
func TestDepthBorder(t *testing.T) {
	t.Parallel()
	type leaf struct {
		C mman.CID `cbor:"c"`
	}
	type (
		l3 struct{ L []leaf }
		l5 struct{ L []l3 }
		l7 struct{ L []l5 }
		l9 struct{ L []l7 }
		lb struct{ L []l9 }
		ld struct{ L []lb }
		lf struct{ L []ld }
		lg struct{ L lf }
	)
	c := mman.SumCID(mman.CodecRaw, nil)
	// 7 pairs of map and list, the leaf's map and its link: 16 levels.
	v := lf{[]ld{{[]lb{{[]l9{{[]l7{{[]l5{{[]l3{{[]leaf{{c}}}}}}}}}}}}}}}
	b, err := dagcbor.Marshal(v)
	require.NoError(t, err)
	back, err := dagcbor.Unmarshal[lf](b, limit)
	require.NoError(t, err)
	require.Equal(t, v, back)
	_, err = dagcbor.Marshal(lg{v})
	require.ErrorIs(t, err, mman.ErrInvalid)
}

func TestLimit(t *testing.T) {
	t.Parallel()
	b, err := dagcbor.Marshal(object{S: strings.Repeat("x", 100)})
	require.NoError(t, err)
	_, err = dagcbor.Unmarshal[object](b, len(b))
	require.NoError(t, err)
	_, err = dagcbor.Unmarshal[object](b, len(b)-1)
	require.ErrorIs(t, err, mman.ErrTooLarge)
}

func TestMarshalRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		v    any
	}{
		{"zero link", struct {
			C mman.CID `cbor:"c"`
		}{}},
		{"invalid UTF-8", object{S: "\xff"}},
		{"channel", make(chan int)},
		{"float", struct {
			F float64 `cbor:"f"`
		}{1.5}},
		{"nil pointer", struct {
			P *inner `cbor:"p"`
		}{}},
		{"nil", nil},
		{"integer key", map[int]int{1: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := dagcbor.Marshal(tc.v)
			require.ErrorIs(t, err, mman.ErrInvalid)
		})
	}
}

// TestOwnership checks that a decoded value does not change with its input.
func TestOwnership(t *testing.T) {
	t.Parallel()
	b, err := dagcbor.Marshal(object{Bytes: []byte("abc"), S: "def"})
	require.NoError(t, err)
	v, err := dagcbor.Unmarshal[object](b, limit)
	require.NoError(t, err)
	clear(b)
	require.Equal(t, object{Bytes: []byte("abc"), S: "def"}, v)
}

// TestRoundTrip encodes random objects and reads them back.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	require.NoError(t, quick.Check(func(a uint64, i int64, s string, raw []byte, owner [20]byte, digest [32]byte, ns []uint64) bool {
		v := object{A: a, I: i, S: strings.ToValidUTF8(s, "?"), Owner: owner, Link: mman.NewCID(mman.CodecDagCBOR, digest)}
		if len(raw) > 0 {
			v.Bytes = raw
		}
		for _, n := range ns {
			v.List = append(v.List, inner{n})
		}
		b, err := dagcbor.Marshal(v)
		if err != nil {
			return false
		}
		back, err := dagcbor.Unmarshal[object](b, limit)
		again, err2 := dagcbor.Marshal(back)
		return err == nil && err2 == nil && bytes.Equal(b, again)
	}, nil))
}

// FuzzUnmarshal: whatever decodes has one encoding, the input.
func FuzzUnmarshal(f *testing.F) {
	full := object{
		A: 1, I: -1, S: "s", Yes: true, Bytes: []byte{1}, Owner: mman.Address{1}, Lease: mman.LeaseID{2},
		Link: mman.SumCID(mman.CodecRaw, nil), List: []inner{{1}}, One: inner{2}, Maybe: &inner{3}, Small: 4,
	}
	b, err := dagcbor.Marshal(full)
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte{0xa0})
	f.Add([]byte{0xbf, 0xff})
	f.Add(binary.BigEndian.AppendUint64([]byte{0xbb}, math.MaxUint64))
	f.Add(bytes.Repeat([]byte{0x81}, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := dagcbor.Unmarshal[object](b, limit)
		if err != nil {
			require.Positive(t, mman.CodeOf(err))
			return
		}
		again, err := dagcbor.Marshal(v)
		require.NoError(t, err)
		require.Equal(t, b, again)
	})
}

// TestUnmarshalOwn: what Marshal made reads the same in both ways.
func TestUnmarshalOwn(t *testing.T) {
	t.Parallel()
	type record struct {
		Name  string `cbor:"name"`
		Count uint64 `cbor:"count,omitzero"`
		Data  []byte `cbor:"data"`
	}
	for _, want := range []record{{}, {Name: "a", Count: 3, Data: []byte{1}}, {Name: "ü", Data: bytes.Repeat([]byte{7}, 300)}} {
		b, err := dagcbor.Marshal(want)
		require.NoError(t, err)
		strict, err := dagcbor.Unmarshal[record](b, 1<<10)
		require.NoError(t, err)
		own, err := dagcbor.UnmarshalOwn[record](b)
		require.NoError(t, err)
		require.Equal(t, strict, own)
		_, err = dagcbor.UnmarshalOwn[record](b[:len(b)-1])
		require.ErrorIs(t, err, mman.ErrInvalid)
	}
}

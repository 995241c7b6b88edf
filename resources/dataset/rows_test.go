package dataset_test

import (
	"bytes"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/parquet-go/parquet-go"
	lz4raw "github.com/parquet-go/parquet-go/compress/lz4"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources/dataset"
)

var update = flag.Bool("update", false, "write examples anew")

// place is where a stone was seen.
type place struct {
	Name string   `json:"name"  parquet:"name"`
	At   *float64 `json:"at"    parquet:"at,optional"`
	Tags []string `json:"tags"  parquet:"tags,list"`
}

// stone has a column of each encoding, packing and shape that is read. Its JSON is what
// is to be read of it.
type stone struct {
	Plain    int32             `json:"plain"    parquet:"plain"`
	Dict     string            `json:"dict"     parquet:"dict,dict"`
	DictLong *int64            `json:"dictlong" parquet:"dictlong,dict,optional,snappy"`
	Delta32  int32             `json:"delta32"  parquet:"delta32,delta,zstd"`
	Delta64  int64             `json:"delta64"  parquet:"delta64,delta,gzip"`
	Unsigned uint32            `json:"unsigned" parquet:"unsigned"`
	Huge     uint64            `json:"huge"     parquet:"huge"`
	Lengths  string            `json:"lengths"  parquet:"lengths,deltalength"`
	Prefixes string            `json:"prefixes" parquet:"prefixes,delta"`
	Split    float32           `json:"split"    parquet:"split,split"`
	SplitTo  float64           `json:"splitto"  parquet:"splitto,split,snappy"`
	Flag     bool              `json:"flag"     parquet:"flag"`
	Maybe    *bool             `json:"maybe"    parquet:"maybe,optional,lz4"`
	Squeezed string            `json:"squeezed" parquet:"squeezed,lz4"`
	Brotli   string            `json:"brotli"   parquet:"brotli,dict,brotli"`
	Nothing  *string           `json:"nothing"  parquet:"nothing,optional,lz4"`
	Void     *string           `json:"void"     parquet:"void,optional,brotli"`
	Raw      []byte            `json:"raw"      parquet:"raw,snappy"`
	Fixed    [5]byte           `json:"-"        parquet:"fixed"`
	List     []int64           `json:"list"     parquet:"list,list"`
	Bare     []int32           `json:"bare"     parquet:"bare"`
	Map      map[string]string `json:"-"        parquet:"map"`
	Deep     [][]int32         `json:"-"        parquet:"-"`
	Place    place             `json:"place"    parquet:"place"`
	Maybes   *place            `json:"maybes"   parquet:"maybes,optional"`
	Places   []place           `json:"places"   parquet:"places,list"`
}

func stones(n int) []stone {
	dice := rand.New(rand.NewPCG(3, 4))
	text := func() string { return strings.Repeat("é\"a<\n"[:1+dice.IntN(4)], dice.IntN(9)) }
	at := func(i int) place {
		p := place{Name: text(), Tags: []string{}}
		if i%3 > 0 {
			f := dice.NormFloat64()
			p.At = &f
		}
		for range dice.IntN(4) {
			p.Tags = append(p.Tags, text())
		}
		return p
	}
	out := make([]stone, n)
	for i := range out {
		long, maybe := dice.Int64N(9)-4, i%5 == 0
		s := stone{
			Plain: int32(dice.Uint32()), Dict: []string{"a", "bc", ""}[i/7%3], Delta32: int32(dice.Uint32()), Delta64: int64(dice.Uint64()),
			Unsigned: dice.Uint32(), Huge: dice.Uint64(), Lengths: text(), Prefixes: fmt.Sprintf("stone %05d", i*i), Split: dice.Float32(), SplitTo: dice.NormFloat64(),
			Flag: i%3 == 0, Squeezed: strings.Repeat(text(), 9), Brotli: text(), Raw: []byte{byte(i), byte(i >> 8)}, Fixed: [5]byte{byte(i)}, Map: map[string]string{"k": text()}, Place: at(i),
			List: []int64{}, Bare: []int32{}, Places: []place{},
		}
		if i < 200 {
			s.Delta32, s.Delta64 = int32(i), int64(i)*1e12
		}
		if i%4 > 0 {
			s.DictLong = &long
		}
		if i%2 > 0 {
			s.Maybe = &maybe
			p := at(i + 1)
			s.Maybes = &p
		}
		for range dice.IntN(5) {
			s.List, s.Bare, s.Places = append(s.List, dice.Int64()), append(s.Bare, int32(i)), append(s.Places, at(dice.IntN(9)))
		}
		out[i] = s
	}
	return out
}

// want is what is to be read of a stone.
func want(t *testing.T, s stone) string {
	t.Helper()
	b, err := json.Marshal(s)
	require.NoError(t, err)
	var all map[string]any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	require.NoError(t, d.Decode(&all))
	all["fixed"] = s.Fixed[:]
	all["map"] = []any{map[string]any{"key": "k", "value": s.Map["k"]}}
	b, err = json.Marshal(all)
	require.NoError(t, err)
	return string(b)
}

// TestRows: rows and columns of Parquet, in every encoding and packing that is read, are
// what another library wrote; what is not wanted is not read.
func TestRows(t *testing.T) {
	t.Parallel()
	all := stones(3000)
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprintf("pages of version %d", version), func(t *testing.T) {
			t.Parallel()
			var file bytes.Buffer
			w := parquet.NewGenericWriter[stone](&file, parquet.DataPageVersion(version), parquet.PageBufferSize(2000))
			for i := range all {
				_, err := w.Write(all[i : i+1])
				require.NoError(t, err)
				if i%1100 == 1099 {
					require.NoError(t, w.Flush())
				}
			}
			require.NoError(t, w.Close())
			text, a, err := read(t, file.Bytes(), dataset.Query{})
			require.NoError(t, err)
			require.Equal(t, dataset.Answer{Format: "parquet", As: "jsonl", To: 3000, Columns: 25}, a)
			lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
			require.Len(t, lines, len(all))
			for i, line := range lines {
				require.JSONEq(t, want(t, all[i]), line, "row %d", i)
			}

			for _, tc := range []struct {
				q        dataset.Query
				from, to uint64
			}{
				{dataset.Query{From: 1500, To: 1502, Columns: []string{"delta64", "place", "dict"}}, 1500, 1502},
				{dataset.Query{From: 1098, To: 2300}, 1098, 2300},
				{dataset.Query{From: 2999, Columns: []string{"places"}}, 2999, 3000},
				{dataset.Query{From: 5000}, 5000, 5000},
				{dataset.Query{To: 1, Columns: []string{"flag"}}, 0, 1},
			} {
				some := &counted{ReaderAt: bytes.NewReader(file.Bytes())}
				var out bytes.Buffer
				a, err := dataset.Read(some, uint64(file.Len()), tc.q, &out)
				require.NoError(t, err)
				require.Equal(t, []uint64{tc.from, tc.to}, []uint64{a.From, a.To})
				got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
				for i := tc.from; i < tc.to; i++ {
					line := got[i-tc.from]
					if len(tc.q.Columns) == 0 {
						require.Equal(t, lines[i], line)
						continue
					}
					var full, part map[string]json.RawMessage
					require.NoError(t, json.Unmarshal([]byte(lines[i]), &full))
					require.NoError(t, json.Unmarshal([]byte(line), &part))
					require.Len(t, part, len(tc.q.Columns))
					for name, value := range part {
						require.Equal(t, string(full[name]), string(value))
					}
				}
				if len(tc.q.Columns) > 0 {
					require.Less(t, some.n.Load(), int64(file.Len()/2), "%v: pages that are not wanted are not read", tc.q)
				}
			}
			_, _, err = read(t, file.Bytes(), dataset.Query{MaxBytes: 10_000})
			require.ErrorIs(t, err, mman.ErrTooLarge)
			require.ErrorContains(t, err, "--limit")
		})
	}
}

// TestMeanings: values are written as what their column means.
func TestMeanings(t *testing.T) {
	t.Parallel()
	type row struct {
		Day    int32            `parquet:"day,date"`
		Millis int64            `parquet:"millis,timestamp(millisecond)"`
		Micros int64            `parquet:"micros,timestamp(microsecond)"`
		Nanos  int64            `parquet:"nanos,timestamp(nanosecond)"`
		Clock  int32            `parquet:"clock,time(millisecond)"`
		Old    deprecated.Int96 `parquet:"old"`
		Money  int64            `parquet:"money,decimal(2:18)"`
		Small  int32            `parquet:"small,decimal(4:9)"`
		Wide   [16]byte         `parquet:"wide,decimal(3:38)"`
		UUID   [16]byte         `parquet:"uuid,uuid"`
		Enum   string           `parquet:"enum,enum"`
		JSON   string           `parquet:"json,json"`
		NaN    float64          `parquet:"nan"`
		Inf    float32          `parquet:"inf"`
	}
	var wide [16]byte
	new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(1234)).FillBytes(wide[:])
	var file bytes.Buffer
	w := parquet.NewGenericWriter[row](&file)
	_, err := w.Write([]row{
		{
			19_000, 1_700_000_000_123, -1, 1_700_000_000_123_456_789, 3_600_001,
			deprecated.Int96{1000, 0, 2_440_589},
			-5, 10_000, wide,
			[16]byte{0x12, 0x34},
			"RED", `{"a":1}`, math.NaN(), float32(math.Inf(-1)),
		},
	})
	require.NoError(t, err)
	require.NoError(t, w.Close())
	text, _, err := read(t, file.Bytes(), dataset.Query{})
	require.NoError(t, err)
	require.JSONEq(t, `{"day":"2022-01-08","millis":"2023-11-14T22:13:20.123Z","micros":"1969-12-31T23:59:59.999999Z",
		"nanos":"2023-11-14T22:13:20.123456789Z","clock":"01:00:00.001","old":"1970-01-02T00:00:00.000001Z","money":-0.05,"small":1.0000,
		"wide":-1.234,"uuid":"12340000-0000-0000-0000-000000000000","enum":"RED","json":"{\"a\":1}","nan":"NaN","inf":"-Infinity"}`, text)
	require.Contains(t, text, `"money":-0.05,"small":1.0000,"wide":-1.234`, "no digit is lost")
}

// TestHostilePages changes pages and what they say of themselves byte by byte: rows or an
// error with a code come, soon, and what is written stays below its bound.
func TestHostilePages(t *testing.T) {
	t.Parallel()
	all := stones(60)
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprintf("version %d", version), func(t *testing.T) {
			t.Parallel()
			var file bytes.Buffer
			w := parquet.NewGenericWriter[stone](&file, parquet.DataPageVersion(version), parquet.PageBufferSize(500))
			_, err := w.Write(all)
			require.NoError(t, err)
			require.NoError(t, w.Close())
			dice := rand.New(rand.NewPCG(5, uint64(version)))
			refused := 0
			for range 700 {
				bad := bytes.Clone(file.Bytes())
				for range 1 + dice.IntN(4) {
					bad[4+dice.IntN(len(bad)-4)] = byte(dice.IntN(256))
				}
				const most = 1 << 20
				out := &tally{}
				if _, err := dataset.Read(bytes.NewReader(bad), uint64(len(bad)), dataset.Query{MaxBytes: most}, out); err != nil {
					var coded *mman.Error
					require.ErrorAs(t, err, &coded)
					refused++
				}
				require.LessOrEqual(t, out.n, most)
			}
			require.Positive(t, refused)
		})
	}
}

// oldLZ4 packs as the LZ4 without RAW was: a block by itself, or as Hadoop framed its own.
type oldLZ4 struct{ framed bool }

func (oldLZ4) String() string { return "LZ4" }

func (oldLZ4) CompressionCodec() format.CompressionCodec { return format.Lz4 }

func (oldLZ4) Decode(_, _ []byte) ([]byte, error) { return nil, mman.ErrUnsupported }

func (c oldLZ4) Encode(_, src []byte) ([]byte, error) {
	if !c.framed {
		return (&lz4raw.Codec{}).Encode(nil, src)
	}
	var out []byte
	for part := range slices.Chunk(src, 700) {
		b, err := (&lz4raw.Codec{}).Encode(nil, part)
		if err != nil {
			return nil, err
		}
		out = binary.BigEndian.AppendUint32(out, uint32(len(part)))
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(b))), b...)
	}
	return out, nil
}

// TestOldLZ4: columns that older programs packed in their LZ4 are read, however these
// framed it.
func TestOldLZ4(t *testing.T) {
	t.Parallel()
	type row struct {
		Text string `parquet:"text"`
	}
	for _, framed := range []bool{false, true} {
		var file, want bytes.Buffer
		w := parquet.NewGenericWriter[row](&file, parquet.Compression(oldLZ4{framed}), parquet.PageBufferSize(3000))
		for i := range 500 {
			_, err := w.Write([]row{{strings.Repeat("ab", i%50)}})
			require.NoError(t, err)
			fmt.Fprintf(&want, "{\"text\":%q}\n", strings.Repeat("ab", i%50))
		}
		require.NoError(t, w.Close())
		got, _, err := read(t, file.Bytes(), dataset.Query{})
		require.NoError(t, err, "framed: %t", framed)
		require.Equal(t, want.String(), got, "framed: %t", framed)
	}
}

// liar packs nothing into a few bytes, which say that they are much.
type liar struct {
	codec  format.CompressionCodec
	packed []byte
}

func (liar) String() string { return "liar" }

func (l liar) CompressionCodec() format.CompressionCodec { return l.codec }

func (liar) Decode(_, _ []byte) ([]byte, error) { return nil, mman.ErrUnsupported }

func (l liar) Encode(_, _ []byte) ([]byte, error) { return l.packed, nil }

// TestLyingPages: a few bytes that say that they are 8 MiB are refused, and nothing is
// taken for what they say.
func TestLyingPages(t *testing.T) {
	type row struct {
		Number int64 `parquet:"number"`
	}
	var long bytes.Buffer
	w := brotli.NewWriter(&long)
	_, err := w.Write(make([]byte, 12<<20))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	endless := append([]byte{0x1f, 0, 1, 0}, bytes.Repeat([]byte{255}, 1000)...)
	for _, tc := range []struct {
		name string
		liar
		most uint64 // that may be allocated
	}{
		{"Brotli that ends early", liar{format.Brotli, []byte{0x3b}}, 4 << 20},
		{"Brotli that goes on", liar{format.Brotli, long.Bytes()}, 48 << 20},
		{"LZ4_RAW", liar{format.Lz4Raw, endless}, 4 << 20},
		{"LZ4", liar{format.Lz4, endless}, 4 << 20},
		{"LZ4 in frames", liar{format.Lz4, append([]byte{2, 0, 0, 0, 0, 0, 3, 0xec}, endless...)}, 4 << 20},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var file bytes.Buffer
			w := parquet.NewGenericWriter[row](&file, parquet.Compression(tc.liar), parquet.PageBufferSize(16<<20))
			_, err := w.Write(make([]row, 1<<20))
			require.NoError(t, err)
			require.NoError(t, w.Close())
			require.Less(t, file.Len(), 16<<10)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _, err = read(t, file.Bytes(), dataset.Query{})
			runtime.ReadMemStats(&after)
			require.ErrorIs(t, err, mman.ErrContent)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, tc.most)
		})
	}
}

// tally counts what is written.
type tally struct{ n int }

func (c *tally) Write(p []byte) (int, error) {
	c.n += len(p)
	return len(p), nil
}

// TestBomb: a small file that holds a great many rows ends at the bound of what is
// written.
func TestBomb(t *testing.T) {
	t.Parallel()
	type row struct {
		Same string `parquet:"same,dict,zstd"`
	}
	var file bytes.Buffer
	w := parquet.NewGenericWriter[row](&file)
	rows := make([]row, 10_000)
	for i := range rows {
		rows[i].Same = strings.Repeat("x", 10_000)
	}
	for range 10 {
		_, err := w.Write(rows)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.Less(t, file.Len(), 1<<20, "it is small, and holds a gigabyte")
	out := &tally{}
	_, err := dataset.Read(bytes.NewReader(file.Bytes()), uint64(file.Len()), dataset.Query{MaxBytes: 10 << 20}, out)
	require.ErrorIs(t, err, mman.ErrTooLarge)
	require.LessOrEqual(t, out.n, 10<<20)
}

// penguin is a line of the example's table.
type penguin struct {
	Species string   `json:"species"           parquet:"species,dict,zstd"`
	Island  string   `json:"island"            parquet:"island,dict,zstd"`
	Beak    *float64 `json:"beak_length_mm"    parquet:"beak_length_mm,optional,zstd"`
	Depth   *float64 `json:"beak_depth_mm"     parquet:"beak_depth_mm,optional,zstd"`
	Flipper *int32   `json:"flipper_length_mm" parquet:"flipper_length_mm,optional,zstd"`
	Mass    *int32   `json:"body_mass_g"       parquet:"body_mass_g,optional,zstd"`
	Sex     *string  `json:"sex"               parquet:"sex,optional,dict,zstd"`
}

// cell reads what is in a cell, nil for an empty one.
func cell[T any](t *testing.T, text string) *T {
	t.Helper()
	if text == "" {
		return nil
	}
	out := new(T)
	if s, ok := any(out).(*string); ok {
		*s = text
		return out
	}
	require.NoError(t, json.Unmarshal([]byte(text), out))
	return out
}

// TestPenguins: the example in Parquet holds what the one in CSV does. -update writes it
// anew.
func TestPenguins(t *testing.T) {
	t.Parallel()
	const csvFile, file = "../../examples/penguins/penguins.csv", "../../examples/penguins/penguins.parquet"
	f, err := os.Open(csvFile)
	require.NoError(t, err)
	lines, err := csv.NewReader(f).ReadAll()
	require.NoError(t, errors.Join(err, f.Close()))
	var all []penguin
	for _, c := range lines[1:] {
		all = append(all, penguin{c[0], c[1], cell[float64](t, c[2]), cell[float64](t, c[3]), cell[int32](t, c[4]), cell[int32](t, c[5]), cell[string](t, c[6])})
	}
	if *update {
		require.NoError(t, parquet.WriteFile(file, all, parquet.MaxRowsPerRowGroup(150)))
	}
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	text, _, err := read(t, b, dataset.Query{})
	require.NoError(t, err)
	i := 0
	for line := range strings.Lines(text) {
		want, err := json.Marshal(all[i])
		require.NoError(t, err)
		require.JSONEq(t, string(want), line)
		i++
	}
	require.Equal(t, 344, i)
}

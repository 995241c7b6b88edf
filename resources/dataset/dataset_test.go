package dataset_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/dataset"
)

func describe(t *testing.T, data []byte, sample int) (resources.Table, error) {
	t.Helper()
	return dataset.Describe(bytes.NewReader(data), uint64(len(data)), sample)
}

func read(t *testing.T, data []byte, q dataset.Query) (string, dataset.Answer, error) {
	t.Helper()
	var out bytes.Buffer
	a, err := dataset.Read(bytes.NewReader(data), uint64(len(data)), q, &out)
	return out.String(), a, err
}

const birds = "species,mass,alive,seen,note\nAdélie,3750,true,2007-11-11,\"a, b\"\nGentoo,5000.5,false,2008-11-06,\nChinstrap,NA,TRUE,2009-11-18,\"two\nlines\"\n"

func TestCSV(t *testing.T) {
	t.Parallel()
	got, err := describe(t, []byte("\ufeff"+birds), 2)
	require.NoError(t, err)
	require.Equal(t, resources.Table{
		Format: "csv", Rows: 3,
		Columns: []resources.Column{{Name: "species", Type: "text"}, {Name: "mass", Type: "float"}, {Name: "alive", Type: "bool"}, {Name: "seen", Type: "time"}, {Name: "note", Type: "text"}},
		Sample:  []string{"Adélie,3750,true,2007-11-11,a, b", "Gentoo,5000.5,false,2008-11-06,"},
	}, got)
	text, a, err := read(t, []byte(birds), dataset.Query{Columns: []string{"note", "species"}, From: 1, To: 3})
	require.NoError(t, err)
	require.Equal(t, "species,note\nGentoo,\nChinstrap,\"two\nlines\"\n", text)
	require.Equal(t, dataset.Answer{Format: "csv", As: "csv", From: 1, To: 3, Columns: 2}, a)
	text, a, err = read(t, []byte("a\tb\n1\t2\n"), dataset.Query{From: 7})
	require.NoError(t, err)
	require.Equal(t, "a\tb\n", text)
	require.Equal(t, a.From, a.To)
	_, _, err = read(t, []byte(birds), dataset.Query{Columns: []string{"wings"}})
	require.ErrorIs(t, err, mman.ErrNotFound)
	_, _, err = read(t, []byte(birds), dataset.Query{Copy: true})
	require.ErrorIs(t, err, mman.ErrUnsupported)
	_, _, err = read(t, []byte(birds), dataset.Query{From: 3, To: 3})
	require.ErrorIs(t, err, mman.ErrInvalid)
}

func TestJSONLines(t *testing.T) {
	t.Parallel()
	lines := []byte(`{"b":1,"a":"x"}` + "\n\n" + `{"a":null,"c":[1],"b":2.5}` + "\r\n" + `{"a":"y","d":true}`)
	got, err := describe(t, lines, 1)
	require.NoError(t, err)
	require.Equal(t, resources.Table{
		Format: "jsonl", Rows: 3, Sample: []string{`{"b":1,"a":"x"}`},
		Columns: []resources.Column{{Name: "a", Type: "text"}, {Name: "b", Type: "float"}, {Name: "c", Type: "nested"}, {Name: "d", Type: "bool"}},
	}, got)
	text, a, err := read(t, lines, dataset.Query{Columns: []string{"b", "c"}, From: 1})
	require.NoError(t, err)
	require.Equal(t, []string{`{"b":2.5,"c":[1]}`, "{}", ""}, strings.Split(text, "\n"))
	require.Equal(t, dataset.Answer{Format: "jsonl", As: "jsonl", From: 1, To: 3, Columns: 2}, a)
	text, _, err = read(t, lines, dataset.Query{To: 1})
	require.NoError(t, err)
	require.Equal(t, []string{`{"b":1,"a":"x"}`, ""}, strings.Split(text, "\n"))
	_, _, err = read(t, lines, dataset.Query{Columns: []string{"z"}})
	require.ErrorIs(t, err, mman.ErrNotFound)
}

func TestWhatIsNoTable(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 5<<20)
	for name, tc := range map[string]struct {
		data string
		want *mman.Error
	}{
		"empty":             {"", mman.ErrUnsupported},
		"binary":            {"\x00asm,\x01", mman.ErrUnsupported},
		"not UTF-8":         {"a,\xff\xfeb\n", mman.ErrUnsupported},
		"prose":             {"It was the best of times.", mman.ErrUnsupported},
		"ragged":            {"a,b\n1,2,3\n", mman.ErrContent},
		"open quote":        {"a,b\n\"1,2\n", mman.ErrContent},
		"endless row":       {"a,b\n1,\"" + long, mman.ErrTooLarge},
		"endless line":      {`{"a":1}` + "\n" + `{"a":"` + long, mman.ErrTooLarge},
		"a list":            {`{"a":1}` + "\n[1]\n", mman.ErrContent},
		"half an object":    {`{"a":`, mman.ErrContent},
		"deep":              {`{"a":` + strings.Repeat("[", 100_000) + "}", mman.ErrContent},
		"Parquet, no end":   {"PAR1" + strings.Repeat("x", 100), mman.ErrContent},
		"Parquet, long end": {"PAR1xxxx\xff\xff\xff\x00PAR1", mman.ErrContent},
		"Parquet, huge end": {"PAR1xxxx\xff\xff\xff\x7fPAR1", mman.ErrTooLarge},
		"Parquet, no root":  {"PAR1\x00\x01\x00\x00\x00PAR1", mman.ErrContent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := describe(t, []byte(tc.data), 3)
			require.ErrorIs(t, err, tc.want)
			_, _, err = read(t, []byte(tc.data), dataset.Query{})
			require.Error(t, err)
		})
	}
}

type bird struct {
	Species string   `parquet:"species,dict"`
	Mass    float64  `parquet:"mass,snappy"`
	Year    int32    `parquet:"year,zstd"`
	Seen    int64    `parquet:"seen,timestamp(millisecond)"`
	Alive   bool     `parquet:"alive"`
	Raw     []byte   `parquet:"raw"`
	Tags    []string `parquet:"tags,list"`
}

// flock is a Parquet file of three row groups, written by another program's library.
func flock(tb testing.TB) ([]bird, []byte) {
	tb.Helper()
	var all []bird
	var out bytes.Buffer
	w := parquet.NewGenericWriter[bird](&out)
	for group := range 3 {
		for i := range 1000 {
			b := bird{[]string{"Adélie", "Gentoo"}[i%2], float64(i) / 3, int32(2007 + group), int64(i) * 1000, i%3 == 0, []byte{byte(i)}, []string{"a", "b"}[:i%3]}
			if len(b.Tags) == 0 {
				b.Tags = nil
			}
			all = append(all, b)
			_, err := w.Write([]bird{b})
			require.NoError(tb, err)
		}
		require.NoError(tb, w.Flush())
	}
	require.NoError(tb, w.Close())
	return all, out.Bytes()
}

// counted counts what is read.
type counted struct {
	io.ReaderAt

	n atomic.Int64
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.n.Add(int64(n))
	return n, err
}

func TestParquet(t *testing.T) {
	t.Parallel()
	all, file := flock(t)
	got, err := describe(t, file, 3)
	require.NoError(t, err)
	require.Equal(t, resources.Table{Format: "parquet", Rows: 3000, Columns: []resources.Column{
		{Name: "species", Type: "text"},
		{Name: "mass", Type: "float"},
		{Name: "year", Type: "int"},
		{Name: "seen", Type: "time"},
		{Name: "alive", Type: "bool"},
		{Name: "raw", Type: "bytes"},
		{Name: "tags", Type: "nested"},
	}, Sample: []string{
		`{"species":"Adélie","mass":0,"year":2007,"seen":"1970-01-01T00:00:00Z","alive":true,"raw":"AA==","tags":[]}`,
		`{"species":"Gentoo","mass":0.3333333333333333,"year":2007,"seen":"1970-01-01T00:00:01Z","alive":false,"raw":"AQ==","tags":["a"]}`,
		`{"species":"Adélie","mass":0.6666666666666666,"year":2007,"seen":"1970-01-01T00:00:02Z","alive":false,"raw":"Ag==","tags":["a","b"]}`,
	}}, got)

	// Everything, and what another library reads of a part.
	text, a, err := read(t, file, dataset.Query{Copy: true})
	require.NoError(t, err)
	require.Equal(t, dataset.Answer{Format: "parquet", As: "parquet", To: 3000, Columns: 7}, a)
	same, err := parquet.Read[bird](strings.NewReader(text), int64(len(text)))
	require.NoError(t, err)
	require.Len(t, same, 3000)
	for i := range same {
		if len(same[i].Tags) == 0 {
			same[i].Tags = nil
		}
	}
	require.Equal(t, all, same)

	some := &counted{ReaderAt: bytes.NewReader(file)}
	var out bytes.Buffer
	a, err = dataset.Read(some, uint64(len(file)), dataset.Query{Columns: []string{"tags", "year"}, From: 1500, To: 1501, Copy: true}, &out)
	require.NoError(t, err)
	require.Equal(t, dataset.Answer{Format: "parquet", As: "parquet", From: 1000, To: 2000, Columns: 2}, a)
	type part struct {
		Year int32    `parquet:"year"`
		Tags []string `parquet:"tags,list"`
	}
	rows, err := parquet.Read[part](bytes.NewReader(out.Bytes()), int64(out.Len()))
	require.NoError(t, err)
	require.Len(t, rows, 1000)
	for i, row := range rows {
		require.Equal(t, all[1000+i].Year, row.Year)
		require.ElementsMatch(t, all[1000+i].Tags, row.Tags)
	}
	again, err := describe(t, out.Bytes(), 0)
	require.NoError(t, err)
	require.Equal(t, uint64(1000), again.Rows)
	require.Len(t, again.Columns, 2)
	require.Less(t, some.n.Load(), int64(len(file)/2), "no more is read than is wanted")
	_, _, err = read(t, file, dataset.Query{Columns: []string{"wings"}})
	require.ErrorIs(t, err, mman.ErrNotFound)
}

// TestDamagedParquet changes the footer byte by byte: an answer or an error comes,
// and soon.
func TestDamagedParquet(t *testing.T) {
	t.Parallel()
	_, file := flock(t)
	foot := len(file) - 8 - int(uint32(file[len(file)-8])|uint32(file[len(file)-7])<<8|uint32(file[len(file)-6])<<16)
	dice := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		bad := bytes.Clone(file)
		for range 1 + dice.IntN(3) {
			bad[foot+dice.IntN(len(bad)-foot)] = byte(dice.IntN(256))
		}
		for _, q := range []dataset.Query{{Columns: []string{"year"}, Copy: true}, {To: 10, MaxBytes: 1 << 20}} {
			if _, err := dataset.Read(bytes.NewReader(bad), uint64(len(bad)), q, io.Discard); err != nil {
				var coded *mman.Error
				require.ErrorAs(t, err, &coded)
			}
		}
	}
}

func FuzzDescribe(f *testing.F) {
	_, file := flock(f)
	f.Add(file)
	f.Add([]byte(birds))
	f.Add([]byte(`{"a":1}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := dataset.Describe(bytes.NewReader(data), uint64(len(data)), 3)
		if err != nil {
			return
		}
		for _, copied := range []bool{true, false} {
			_, err := dataset.Read(bytes.NewReader(data), uint64(len(data)), dataset.Query{Copy: copied, MaxBytes: 1 << 20}, io.Discard)
			var coded *mman.Error
			require.True(t, err == nil || errors.As(err, &coded))
		}
		m := resources.Manifest{Version: 1, Kind: resources.KindDataset, Facet: resources.FacetFile, Name: "x", Table: &table}
		m.Content.Public = mman.SumCID(mman.CodecRaw, data)
		require.NoError(t, m.Validate())
	})
}

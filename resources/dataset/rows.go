package dataset

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// How often an element of the schema is there.
const (
	repeatOptional, repeatRepeated = 1, 2
)

// The logical types that are shown in another way than their bytes, by their place in
// the union LogicalType, and the older ones that mean the same.
const (
	logicalMap, logicalList, logicalDecimal, logicalDate       = 2, 3, 5, 6
	logicalTime, logicalTimestamp, logicalInteger              = 7, 8, 10
	logicalUUID, logicalFloat16                                = 14, 15
	convertedNone                                              = -1
	convertedMap, convertedMapEntry, convertedList             = 1, 2, 3
	convertedDecimal, convertedDate                            = 5, 6
	convertedTimeMillis, convertedTimeMicros                   = 7, 8
	convertedStampMillis, convertedStampMicros                 = 9, 10
	convertedUint8, convertedUint64                            = 11, 14
	millis, micros, nanos                                      = 1, 2, 3 // in the union TimeUnit
	maxDecimal                                                 = 64      // bytes, and digits behind the point
	julianUnixDay                                        int64 = 2_440_588
)

// node is an element of the schema with what is below it.
type node struct {
	name    string
	key     []byte // the name in JSON, with its colon
	repeats int64
	level   // from which on it is there
	below   []*node
	// inner: a list's or map's element in the schema that only repeats: what is shown
	// are its members.
	inner  bool
	column *chunkReader // of one that holds values, for the group that is read
	leaf   int          // its place among those
	values physical
	show   func(out []byte, d datum) ([]byte, error)
}

// trees builds what is below each of the wanted columns. marked says which of the
// columns that hold values are among them.
func (f *footer) trees(at []int) (out []*node, marked []bool, err error) {
	leaf := 0
	for i, c := range f.columns {
		wanted := slices.Contains(at, i)
		if wanted {
			b := &treeBuilder{rest: c.elements, leaf: leaf}
			n, err := b.build(level{})
			if err != nil {
				return nil, nil, err
			}
			out = append(out, n)
		}
		leaf += c.leaves
		for range c.leaves {
			marked = append(marked, wanted)
		}
	}
	return out, marked, nil
}

type treeBuilder struct {
	rest []value
	leaf int
}

// build reads one element and what is below it; schema has checked their number and
// depth.
func (b *treeBuilder) build(above level) (*node, error) {
	e := b.rest[0]
	b.rest = b.rest[1:]
	n := &node{name: string(e.get(elemName).bytes), repeats: e.get(elemRepeats).number, level: above}
	var err error
	if n.key, err = appendText(nil, []byte(n.name)); err != nil {
		return nil, err
	}
	n.key = append(n.key, ':')
	if n.repeats != 0 {
		n.def++
	}
	if n.repeats == repeatRepeated {
		n.rep++
	}
	children := e.get(elemChildren).number
	if children == 0 {
		n.leaf = b.leaf
		b.leaf++
		if n.values, err = physicalOf(e.get(elemType).number, e.get(elemLength).number); err != nil {
			return nil, err
		}
		n.show, err = shown(&e, n.values)
		return n, err
	}
	for range children {
		child, err := b.build(n.level)
		if err != nil {
			return nil, err
		}
		n.below = append(n.below, child)
	}
	n.flatten(&e)
	return n, nil
}

// flatten marks the elements that are there only because lists and maps are written
// with three levels, as Apache Parquet's LogicalTypes.md has it.
func (n *node) flatten(e *value) {
	logical, converted := meaning(e)
	isList := logical == logicalList || converted == convertedList
	isMap := logical == logicalMap || converted == convertedMap || converted == convertedMapEntry
	if !isList && !isMap || len(n.below) != 1 || n.below[0].repeats != repeatRepeated {
		return
	}
	n.inner = true
	only := n.below[0]
	if isList && len(only.below) == 1 && only.name != "array" && only.name != n.name+"_tuple" {
		only.inner = true
	}
}

// meaning returns an element's logical type, 0 for none, and its older form.
func meaning(e *value) (logical, converted int64) {
	converted = convertedNone
	if l := e.get(elemLogical); len(l.fields) > 0 {
		logical = l.fields[0].id
	}
	if c := e.get(elemConverted); c.kind != 0 {
		converted = c.number
	}
	return logical, converted
}

// first returns the first column below that holds values: all of them say alike how
// often this element is there.
func (n *node) first() *chunkReader {
	for n.column == nil {
		n = n.below[0]
	}
	return n.column
}

// each calls do for every column below that holds values.
func (n *node) each(do func(*node) error) error {
	if len(n.below) == 0 {
		return do(n)
	}
	for _, child := range n.below {
		if err := child.each(do); err != nil {
			return err
		}
	}
	return nil
}

// rowWriter writes rows as JSON, one in each line.
type rowWriter struct {
	to   io.Writer
	left uint64 // bytes that may be written, when most is not 0
	most uint64
	out  []byte
}

// row writes the next row of the wanted columns.
func (w *rowWriter) row(columns []*node) error {
	w.out = append(w.out[:0], '{')
	for i, n := range columns {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		w.out = append(w.out, n.key...)
		err := n.each(func(leaf *node) error {
			if err := leaf.column.must(); err != nil {
				return err
			}
			if leaf.column.next.rep != 0 {
				return errPage(fmt.Sprintf("column %q: a row begins in its middle", leaf.column.name))
			}
			return nil
		})
		if err == nil {
			err = w.field(n)
		}
		if err != nil {
			return err
		}
	}
	w.out = append(w.out, '}', '\n')
	if w.most > 0 {
		if uint64(len(w.out)) > w.left {
			return fmt.Errorf("%w: more than %d bytes of rows: name fewer rows or columns, or raise --limit", mman.ErrTooLarge, w.most)
		}
		w.left -= uint64(len(w.out))
	}
	_, err := w.to.Write(w.out)
	return err //nolint:wrapcheck // the writer's error stays as it is
}

// field writes an element as often as it is there.
func (w *rowWriter) field(n *node) error {
	if n.repeats == 0 {
		return w.value(n)
	}
	first := n.first()
	if err := first.must(); err != nil {
		return err
	}
	absent := first.next.def < n.def
	switch {
	case n.repeats == repeatRepeated && absent:
		w.out = append(w.out, '[', ']')
		return w.drop(n)
	case absent:
		w.out = append(w.out, "null"...)
		return w.drop(n)
	case n.repeats == repeatRepeated:
		return w.list(n, first)
	default:
		return w.value(n)
	}
}

func (w *rowWriter) list(n *node, first *chunkReader) error {
	w.out = append(w.out, '[')
	for i := 0; ; i++ {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		if err := w.value(n); err != nil {
			return err
		}
		more, err := first.goesOn(n.rep)
		if err != nil {
			return err
		}
		if !more {
			w.out = append(w.out, ']')
			return nil
		}
	}
}

// value writes one value of an element that is there.
func (w *rowWriter) value(n *node) error {
	if len(w.out) > maxRow {
		return fmt.Errorf("%w: a row of more than %d bytes", mman.ErrTooLarge, maxRow)
	}
	switch {
	case n.inner:
		return w.field(n.below[0])
	case len(n.below) > 0:
		w.out = append(w.out, '{')
		for i, child := range n.below {
			if i > 0 {
				w.out = append(w.out, ',')
			}
			w.out = append(w.out, child.key...)
			if err := w.field(child); err != nil {
				return err
			}
		}
		w.out = append(w.out, '}')
		return nil
	}
	if err := n.column.must(); err != nil {
		return err
	}
	d, ok, err := n.column.take()
	if err != nil {
		return fmt.Errorf("column %q: %w", n.column.name, err)
	}
	if !ok {
		return errPage(fmt.Sprintf("column %q: a value is missing where its neighbour has one", n.column.name))
	}
	w.out, err = n.show(w.out, d)
	return err
}

// drop goes over the entries with which all columns below say that nothing is there.
func (w *rowWriter) drop(n *node) error {
	return n.each(func(leaf *node) error {
		if err := leaf.column.must(); err != nil {
			return err
		}
		if leaf.column.next.def >= n.def {
			return errPage(fmt.Sprintf("column %q: a value is there where its neighbour has none", leaf.column.name))
		}
		_, _, err := leaf.column.take()
		return err
	})
}

// readRows writes the wanted rows of the wanted columns as JSON lines.
func readRows(r io.ReaderAt, size uint64, q Query, w io.Writer) (Answer, error) {
	f, at, err := openColumns(r, size, q.Columns)
	if err != nil {
		return Answer{}, err
	}
	columns, marked, err := f.trees(at)
	if err != nil {
		return Answer{}, err
	}
	groups, whole, err := f.groups(q)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Columns: len(at), From: min(q.From, max(whole.To, q.From)), To: q.From}
	if q.To == 0 || q.To > whole.To {
		q.To = whole.To
	}
	out := &rowWriter{to: w, left: q.MaxBytes, most: q.MaxBytes}
	begin := whole.From
	for i := range groups {
		rows := uint64(groups[i].get(groupRows).number) //nolint:gosec // groups has looked
		if err := open(&groups[i], columns, marked, r, f.dataEnd); err != nil {
			return a, err
		}
		skip := max(q.From, begin) - begin
		for _, n := range columns {
			if err := n.each(func(leaf *node) error { return leaf.column.skip(skip) }); err != nil {
				return a, err
			}
		}
		for row := begin + skip; row < min(begin+rows, q.To); row++ {
			if err := out.row(columns); err != nil {
				return a, fmt.Errorf("row %d: %w", row, err)
			}
			a.To = row + 1
		}
		begin += rows
	}
	return a, nil
}

// open gives the columns what they read in a group of rows.
func open(group *value, columns []*node, marked []bool, r io.ReaderAt, end int64) error {
	chunks := group.get(groupColumns).items
	if len(chunks) != len(marked) {
		return errThrift("a row group has not the schema's columns")
	}
	held := new(int64)
	for _, n := range columns {
		err := n.each(func(leaf *node) error {
			meta := chunks[leaf.leaf].get(chunkMeta)
			begin, length, err := span(&chunks[leaf.leaf], end)
			leaf.column = &chunkReader{
				name: clean(meta.get(metaPath).path(), maxLabel), most: leaf.level, values: leaf.values, in: r, at: begin, end: begin + length,
				codec: meta.get(metaCodec).number, held: held,
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// appendText writes a text as JSON; what is not UTF-8 is replaced.
func appendText(out, text []byte) ([]byte, error) {
	plain := utf8.Valid(text)
	for _, c := range text {
		plain = plain && c >= ' ' && c != '"' && c != '\\' && c != 0x7f
	}
	if plain {
		return append(append(append(out, '"'), text...), '"'), nil
	}
	b, err := json.Marshal(string(text))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrContent, err)
	}
	return append(out, b...), nil
}

func appendBase64(out []byte, d datum) ([]byte, error) {
	out = append(out, '"')
	out = base64.StdEncoding.AppendEncode(out, d.bytes)
	return append(out, '"'), nil
}

func appendFloat(out []byte, f float64, bits int) ([]byte, error) {
	switch {
	case math.IsNaN(f):
		return append(out, `"NaN"`...), nil
	case math.IsInf(f, 1):
		return append(out, `"Infinity"`...), nil
	case math.IsInf(f, -1):
		return append(out, `"-Infinity"`...), nil
	default:
		return strconv.AppendFloat(out, f, 'g', -1, bits), nil
	}
}

// shown returns how a column's values are written: numbers and truth values as such,
// times in the form of RFC 3339, what is neither text nor a number in base64.
func shown(e *value, p physical) (func([]byte, datum) ([]byte, error), error) {
	logical, converted := meaning(e)
	if logical == logicalDecimal || converted == convertedDecimal {
		return decimals(e, p)
	}
	switch p.kind {
	case typeBool:
		return func(out []byte, d datum) ([]byte, error) { return strconv.AppendBool(out, d.word != 0), nil }, nil
	case typeInt32, typeInt64:
		return integers(e, p), nil
	case typeInt96:
		return func(out []byte, d datum) ([]byte, error) {
			day := int64(binary.LittleEndian.Uint32(d.bytes[8:])) - julianUnixDay
			ofDay := binary.LittleEndian.Uint64(d.bytes)
			if ofDay >= uint64(24*time.Hour) {
				return nil, errPage(fmt.Sprintf("a time of %d nanoseconds after midnight", ofDay))
			}
			return stamp(out, time.Unix(day*86400, int64(ofDay)), true), nil
		}, nil
	case typeFloat:
		return func(out []byte, d datum) ([]byte, error) {
			return appendFloat(out, float64(math.Float32frombits(uint32(d.word))), 32) //nolint:gosec // its bits
		}, nil
	case typeDouble:
		return func(out []byte, d datum) ([]byte, error) { return appendFloat(out, math.Float64frombits(d.word), 64) }, nil
	}
	switch {
	case logical == logicalUUID && p.size == 16:
		return func(out []byte, d datum) ([]byte, error) {
			h := hex.EncodeToString(d.bytes)
			return append(out, fmt.Sprintf(`"%s-%s-%s-%s-%s"`, h[:8], h[8:12], h[12:16], h[16:20], h[20:])...), nil
		}, nil
	case logical == logicalFloat16 && p.size == 2:
		return func(out []byte, d datum) ([]byte, error) {
			return appendFloat(out, half(binary.LittleEndian.Uint16(d.bytes)), 32)
		}, nil
	case columnType(e) == resources.ColumnText:
		return func(out []byte, d datum) ([]byte, error) { return appendText(out, d.bytes) }, nil
	default:
		return appendBase64, nil
	}
}

// half returns an IEEE 754 number of 16 bits.
func half(b uint16) float64 {
	exponent, part := int(b>>10&0x1f), float64(b&0x3ff)
	f := math.Ldexp(1+part/1024, exponent-15)
	switch {
	case exponent == 0:
		f = math.Ldexp(part, -24)
	case exponent == 31 && part == 0:
		f = math.Inf(1)
	case exponent == 31:
		return math.NaN()
	}
	if b>>15 != 0 {
		f = -f
	}
	return f
}

// stamp writes a time, with a Z when it is one of UTC.
func stamp(out []byte, t time.Time, utc bool) []byte {
	layout := "2006-01-02T15:04:05.999999999"
	if utc {
		layout += "Z"
	}
	out = t.UTC().AppendFormat(append(out, '"'), layout)
	return append(out, '"')
}

// integers returns how a column of integers is written.
func integers(e *value, p physical) func([]byte, datum) ([]byte, error) {
	logical, converted := meaning(e)
	number := func(d datum) int64 {
		if p.kind == typeInt32 {
			return int64(int32(d.word)) //nolint:gosec // its bits
		}
		return int64(d.word) //nolint:gosec // its bits
	}
	unit, utc := timeUnit(e)
	switch {
	case logical == logicalDate || converted == convertedDate:
		return func(out []byte, d datum) ([]byte, error) {
			out = time.Unix(number(d)*86400, 0).UTC().AppendFormat(append(out, '"'), time.DateOnly)
			return append(out, '"'), nil
		}
	case unit != 0 && (logical == logicalTimestamp || converted == convertedStampMillis || converted == convertedStampMicros):
		return func(out []byte, d datum) ([]byte, error) { return stamp(out, instant(number(d), unit), utc), nil }
	case unit != 0:
		return func(out []byte, d datum) ([]byte, error) {
			t := instant(number(d), unit)
			if t.Unix() < 0 || t.Unix() >= 86400 {
				return nil, errPage(fmt.Sprintf("%d is no time of a day", number(d)))
			}
			return append(t.UTC().AppendFormat(append(out, '"'), "15:04:05.999999999"), '"'), nil
		}
	case converted >= convertedUint8 && converted <= convertedUint64, logical == logicalInteger && e.get(elemLogical).get(logicalInteger).get(2).kind == thriftFalse:
		return func(out []byte, d datum) ([]byte, error) { return strconv.AppendUint(out, d.word, 10), nil }
	default:
		return func(out []byte, d datum) ([]byte, error) { return strconv.AppendInt(out, number(d), 10), nil }
	}
}

// timeUnit returns in what a time or timestamp counts, 0 for what is none, and whether
// it is one of UTC.
func timeUnit(e *value) (unit int64, utc bool) {
	logical, converted := meaning(e)
	if logical == logicalTime || logical == logicalTimestamp {
		kind := e.get(elemLogical).get(logical)
		if units := kind.get(2).fields; len(units) > 0 {
			unit = units[0].id
		}
		return unit, kind.get(1).kind == thriftTrue
	}
	switch {
	case logical != 0:
		return 0, false
	case converted == convertedTimeMillis || converted == convertedStampMillis:
		return millis, true
	case converted == convertedTimeMicros || converted == convertedStampMicros:
		return micros, true
	default:
		return 0, false
	}
}

func instant(n, unit int64) time.Time {
	switch unit {
	case millis:
		return time.UnixMilli(n)
	case micros:
		return time.UnixMicro(n)
	default:
		return time.Unix(0, n)
	}
}

// decimals returns how a column of decimal numbers is written, exactly.
func decimals(e *value, p physical) (func([]byte, datum) ([]byte, error), error) {
	scale := e.get(elemScale).number
	if l := e.get(elemLogical).get(logicalDecimal); l.kind != 0 {
		scale = l.get(1).number
	}
	if scale < 0 || scale > maxDecimal || p.kind == typeBool || p.kind == typeInt96 || p.kind == typeFloat || p.kind == typeDouble {
		return nil, errThrift(fmt.Sprintf("a decimal with %d digits behind the point in a column of type %d", scale, p.kind))
	}
	return func(out []byte, d datum) ([]byte, error) {
		n := new(big.Int)
		switch p.kind {
		case typeInt32:
			n.SetInt64(int64(int32(d.word))) //nolint:gosec // its bits
		case typeInt64:
			n.SetInt64(int64(d.word)) //nolint:gosec // its bits
		default:
			if len(d.bytes) > maxDecimal {
				return nil, fmt.Errorf("%w: a decimal of %d bytes, at most %d are read", mman.ErrTooLarge, len(d.bytes), maxDecimal)
			}
			if n.SetBytes(d.bytes); len(d.bytes) > 0 && d.bytes[0]&0x80 != 0 {
				n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(d.bytes))))
			}
		}
		if n.Sign() < 0 {
			out = append(out, '-')
		}
		digits := n.Abs(n).String()
		if pad := int(scale) + 1 - len(digits); pad > 0 {
			digits = strings.Repeat("0", pad) + digits
		}
		point := len(digits) - int(scale)
		if out = append(out, digits[:point]...); scale > 0 {
			out = append(append(out, '.'), digits[point:]...)
		}
		return out, nil
	}, nil
}

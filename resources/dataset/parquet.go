package dataset

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

const (
	parquetMagic = "PAR1"
	// minParquet is the size of the smallest file: two magics and a length.
	minParquet = 12
	// maxFooter bounds a footer, in bytes.
	maxFooter = 16 << 20
)

// The fields of a footer, as Apache Parquet's parquet.thrift numbers them.
const (
	fileSchema, fileRows, fileGroups, fileOrders, fileCrypto  = 2, 3, 4, 7, 8
	elemType, elemLength, elemRepeats, elemName, elemChildren = 1, 2, 3, 4, 5
	elemConverted, elemScale, elemLogical                     = 6, 7, 10
	groupColumns, groupBytes, groupRows                       = 1, 2, 3
	groupSorting, groupOffset, groupCompressed                = 4, 5, 6
	chunkPath, chunkOffset, chunkMeta                         = 1, 2, 3
	metaPath, metaRaw, metaCompressed                         = 3, 6, 7
	metaData, metaIndex, metaDictionary                       = 9, 10, 11
)

// chunkIndexes are the fields of a column chunk and of its description that say where
// indexes and filters are; those are not copied.
func chunkIndexes() (chunk, meta []int64) { return []int64{4, 5, 6, 7}, []int64{14, 15} }

// footer is a file's description, and where its data ends.
type footer struct {
	root    value
	dataEnd int64
	columns []column
}

// column is one column at the top of the schema.
type column struct {
	name     string
	kind     string
	elements []value // of the schema: itself and what is below
	leaves   int
}

func openParquet(r io.ReaderAt, size uint64) (*footer, error) {
	if size > 1<<62 {
		return nil, fmt.Errorf("%w: a file of %d bytes", mman.ErrTooLarge, size)
	}
	end := int64(size)
	tail := make([]byte, 8)
	if _, err := r.ReadAt(tail, end-8); err != nil {
		return nil, fmt.Errorf("read a dataset: %w", err)
	}
	length := int64(binary.LittleEndian.Uint32(tail))
	switch {
	case string(tail[4:]) != parquetMagic:
		return nil, errThrift("it is cut off or encrypted: no PAR1 at its end")
	case length > maxFooter:
		return nil, fmt.Errorf("%w: a Parquet footer of %d bytes, at most %d are read", mman.ErrTooLarge, length, maxFooter)
	case length > end-minParquet:
		return nil, errThrift("it is longer than the file")
	}
	f := &footer{dataEnd: end - 8 - length}
	raw := make([]byte, length)
	if _, err := r.ReadAt(raw, f.dataEnd); err != nil {
		return nil, fmt.Errorf("read a dataset: %w", err)
	}
	var err error
	if f.root, err = (&thriftReader{b: raw}).read(thriftStruct, 0); err != nil {
		return nil, err
	}
	if f.root.get(fileCrypto).kind != 0 {
		return nil, fmt.Errorf("%w: an encrypted Parquet file", mman.ErrUnsupported)
	}
	return f, f.schema()
}

// openColumns opens a file and finds the wanted columns in it.
func openColumns(r io.ReaderAt, size uint64, wanted []string) (*footer, []int, error) {
	f, err := openParquet(r, size)
	if err != nil {
		return nil, nil, err
	}
	at, err := pick(f.names(), wanted)
	return f, at, err
}

// schema reads the tree of columns, which is written depth first.
func (f *footer) schema() error {
	list := f.root.get(fileSchema).items
	if len(list) == 0 || f.root.get(fileRows).number < 0 {
		return errThrift("it has no schema")
	}
	rest := list[1:]
	for range list[0].get(elemChildren).number {
		n, leaves, err := subtree(rest, 0)
		if err != nil {
			return err
		}
		if len(f.columns) == maxColumns {
			return fmt.Errorf("%w: more than %d columns", mman.ErrTooLarge, maxColumns)
		}
		f.columns = append(f.columns, column{string(rest[0].get(elemName).bytes), columnType(&rest[0]), rest[:n], leaves})
		rest = rest[n:]
	}
	if len(rest) > 0 {
		return errThrift("its schema has columns that belong to nothing")
	}
	return nil
}

// subtree counts the elements of a column, and those among them that hold values.
func subtree(list []value, depth int) (elements, leaves int, err error) {
	if len(list) == 0 || depth > maxThriftDepth {
		return 0, 0, errThrift("its schema is cut off, or too deep")
	}
	children := list[0].get(elemChildren).number
	if children == 0 {
		return 1, 1, nil
	}
	elements = 1
	for range children {
		n, l, err := subtree(list[elements:], depth+1)
		if err != nil {
			return 0, 0, err
		}
		elements, leaves = elements+n, leaves+l
	}
	return elements, leaves, nil
}

// columnType says what a column holds, by its physical and its logical type.
func columnType(e *value) string {
	if e.get(elemChildren).number > 0 {
		return resources.ColumnNested
	}
	logical, converted := meaning(e)
	switch {
	case logical >= 6 && logical <= 8, converted >= 6 && converted <= 10: // date, time, timestamp
		return resources.ColumnTime
	case logical == 5, converted == 5: // decimal
		return resources.ColumnFloat
	case logical == 1, logical == 4, logical == 12, converted == 0, converted == 4, converted == 19: // string, enum, JSON
		return resources.ColumnText
	}
	switch e.get(elemType).number {
	case 0:
		return resources.ColumnBool
	case 1, 2:
		return resources.ColumnInt
	case 3:
		return resources.ColumnTime // INT96, which holds times only
	case 4, 5:
		return resources.ColumnFloat
	default:
		return resources.ColumnBytes
	}
}

func (f *footer) names() []string {
	out := make([]string, len(f.columns))
	for i, c := range f.columns {
		out[i] = c.name
	}
	return out
}

// describeParquet shows as a sample what readRows makes of the first rows; a file
// whose pages it does not read has none.
func describeParquet(r io.ReaderAt, size uint64, sample int) (resources.Table, error) {
	f, err := openParquet(r, size)
	if err != nil {
		return resources.Table{}, err
	}
	types := make([]string, len(f.columns))
	for i, c := range f.columns {
		types[i] = c.kind
	}
	t := table(resources.FormatParquet, f.names(), types)
	t.Rows = uint64(f.root.get(fileRows).number) //nolint:gosec // not negative
	if sample == 0 || t.Rows == 0 {
		return t, nil
	}
	var rows bytes.Buffer
	if _, err := readRows(r, size, Query{To: uint64(sample), MaxBytes: maxRow}, &rows); err == nil { //nolint:gosec // a few
		for line := range strings.Lines(rows.String()) {
			t.Sample = append(t.Sample, clean(strings.TrimSuffix(line, "\n"), resources.TableMaxLine))
		}
	}
	return t, nil
}

// readParquet copies the chunks of the wanted columns in the row groups that hold the
// wanted rows, and writes a footer that says so.
func readParquet(r io.ReaderAt, size uint64, q Query, w io.Writer) (Answer, error) {
	f, at, err := openColumns(r, size, q.Columns)
	if err != nil {
		return Answer{}, err
	}
	leaves := f.keep(at)
	groups, a, err := f.groups(q)
	if err != nil {
		return Answer{}, err
	}
	a.Columns = len(at)
	out := &copier{from: r, end: f.dataEnd, to: w}
	if err := out.write([]byte(parquetMagic)); err != nil {
		return a, err
	}
	for i := range groups {
		if err := out.group(&groups[i], leaves); err != nil {
			return a, err
		}
	}
	f.root.get(fileGroups).items = groups
	f.root.set(fileRows, int64(a.To-a.From)) //nolint:gosec // sums of what is not negative
	foot := f.root.write(nil)
	foot = binary.LittleEndian.AppendUint32(foot, uint32(len(foot))) //nolint:gosec // at most what was read
	return a, out.write(append(foot, parquetMagic...))
}

// keep leaves the columns at these places in the schema, and returns which of the
// values' columns stay.
func (f *footer) keep(at []int) []bool {
	list := f.root.get(fileSchema)
	list.items[0].set(elemChildren, int64(len(at)))
	kept, leaf := []value{list.items[0]}, 0
	var leaves []bool
	for i, c := range f.columns {
		stays := len(at) > 0 && at[0] == i
		if stays {
			at = at[1:]
			kept = append(kept, c.elements...)
		}
		for range c.leaves {
			leaves = append(leaves, stays)
		}
		leaf += c.leaves
	}
	list.items = kept
	if orders := f.root.get(fileOrders); len(orders.items) == leaf {
		orders.items = among(orders.items, leaves)
	} else {
		f.root.drop(fileOrders)
	}
	return leaves
}

// among returns the items whose place is marked.
func among(items []value, marked []bool) []value {
	var out []value
	for i, item := range items {
		if marked[i] {
			out = append(out, item)
		}
	}
	return out
}

// groups returns the row groups that hold the wanted rows.
func (f *footer) groups(q Query) ([]value, Answer, error) {
	var out []value
	a, begin := Answer{}, uint64(0)
	for _, g := range f.root.get(fileGroups).items {
		rows := g.get(groupRows).number
		if rows < 0 || begin+uint64(rows) > 1<<62 {
			return nil, a, errThrift("a row group without a sound count")
		}
		end := begin + uint64(rows)
		if end > q.From && (q.To == 0 || begin < q.To) {
			if len(out) == 0 {
				a.From = begin
			}
			out, a.To = append(out, g), end
		}
		begin = end
	}
	return out, a, nil
}

// copier copies chunks and knows where it is.
type copier struct {
	from io.ReaderAt
	end  int64 // of the data
	to   io.Writer
	at   int64
}

func (c *copier) write(b []byte) error {
	n, err := c.to.Write(b)
	c.at += int64(n)
	return err //nolint:wrapcheck // the writer's error stays as it is
}

// group copies the columns of one row group and changes where they are.
func (c *copier) group(g *value, leaves []bool) error {
	chunks := g.get(groupColumns)
	if len(chunks.items) != len(leaves) {
		return errThrift("a row group has not the schema's columns")
	}
	chunks.items = among(chunks.items, leaves)
	begin, raw := c.at, int64(0)
	for i := range chunks.items {
		if err := c.chunk(&chunks.items[i]); err != nil {
			return err
		}
		raw += chunks.items[i].get(chunkMeta).get(metaRaw).number
	}
	g.set(groupBytes, raw)
	g.set(groupOffset, begin)
	g.set(groupCompressed, c.at-begin)
	g.drop(groupSorting)
	return nil
}

// span returns where a column's pages begin, and their length; they lie before end.
func span(chunk *value, end int64) (begin, length int64, err error) {
	meta := chunk.get(chunkMeta)
	if chunk.get(chunkPath).kind != 0 || meta.kind != thriftStruct {
		return 0, 0, fmt.Errorf("%w: a Parquet file whose columns are in other files, or encrypted", mman.ErrUnsupported)
	}
	begin, length = meta.get(metaData).number, meta.get(metaCompressed).number
	if d := meta.get(metaDictionary).number; d > 0 {
		begin = min(begin, d)
	}
	if begin < int64(len(parquetMagic)) || length < 0 || begin > end || length > end-begin {
		return 0, 0, errThrift(fmt.Sprintf("column %q lies outside of the file", meta.get(metaPath).path()))
	}
	return begin, length, nil
}

func (c *copier) chunk(chunk *value) error {
	meta := chunk.get(chunkMeta)
	begin, length, err := span(chunk, c.end)
	if err != nil {
		return err
	}
	move := c.at - begin
	n, err := io.CopyBuffer(struct{ io.Writer }{c.to}, io.NewSectionReader(c.from, begin, length), make([]byte, sniffed))
	c.at += n
	if err != nil {
		return fmt.Errorf("copy a column: %w", err)
	}
	for _, id := range []int64{metaData, metaIndex, metaDictionary} {
		if at := meta.get(id).number; at > 0 {
			meta.set(id, at+move)
		}
	}
	chunk.set(chunkOffset, 0) // what it said is deprecated, and writers differ
	inChunk, inMeta := chunkIndexes()
	chunk.drop(inChunk...)
	chunk.get(chunkMeta).drop(inMeta...)
	return nil
}

// path writes a column's path.
func (v *value) path() string {
	parts := make([]string, len(v.items))
	for i, part := range v.items {
		parts[i] = clean(string(part.bytes), maxLabel)
	}
	return strings.Join(parts, ".")
}

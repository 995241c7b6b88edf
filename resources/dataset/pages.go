package dataset

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	mman "github.com/limboid/massive-man"
)

const (
	// maxPage bounds a page of a column, in bytes before and after it is unpacked.
	maxPage = 64 << 20
	// maxPageValues bounds the values of a page or of a dictionary.
	maxPageValues = 1 << 24
	// maxHead bounds what a page says of itself, in bytes; most need shortHead.
	maxHead, shortHead = 64 << 10, 1 << 10
	// maxHeld bounds the pages of all columns that are unpacked at a time, in bytes.
	maxHeld = 512 << 20
)

// The fields of a page's header, its kinds, and how columns are packed.
const (
	pageKind, pageRaw, pagePacked               = 1, 2, 3
	pageOne, pageDictionary, pageTwo            = 5, 7, 8
	oneValues, oneEncoding, oneDefs, oneReps    = 1, 2, 3, 4
	twoValues, twoRows, twoEncoding             = 1, 3, 4
	twoDefBytes, twoRepBytes, twoPacked         = 5, 6, 7
	kindOne, kindIndex, kindDictionary, kindTwo = 0, 1, 2, 3
	metaCodec                                   = 4
)

// The ways in which pages are packed. LZ4 without RAW is the older one, of which the
// format never said how its blocks are framed: as Hadoop does it, or not at all.
const (
	codecNone, codecSnappy, codecGzip, codecBrotli int64 = 0, 1, 2, 4
	codecLZ4, codecZstd, codecLZ4Raw               int64 = 5, 6, 7
)

// pageHead is what a page says of itself.
type pageHead struct {
	kind        int64
	raw, packed int64 // bytes of what follows it
	values      uint64
	rows        int64 // that begin in it, -1 when it does not say
	encoding    int64
	reps, defs  int64 // bytes of the levels before the values, in a page of kindTwo
	unpack      bool
	bytes       int64 // of itself
}

// level is the depth to which a value's place in a row is known.
type level struct{ rep, def int }

// chunkReader reads the values of one column in one group of rows, a page at a time.
type chunkReader struct {
	name    string
	most    level // of the column
	values  physical
	in      io.ReaderAt
	at, end int64
	codec   int64
	held    *int64 // by all columns
	own     int64  // by this one's page

	dict       *dictionary
	left       uint64 // entries of the page not read
	reps, defs *hybrid
	from       decoder
	whole      bool // the page ends with a row

	ahead bool // the next entry's level is known
	next  level
}

// peek makes the level of the next entry known; false at the end.
func (c *chunkReader) peek() (bool, error) {
	if c.ahead {
		return true, nil
	}
	for c.left == 0 {
		if c.at >= c.end {
			return false, nil
		}
		h, err := c.head()
		if err == nil {
			err = c.page(h)
		}
		if err != nil {
			return false, fmt.Errorf("column %q: %w", c.name, err)
		}
	}
	rep, err := c.level(c.reps, c.most.rep)
	if err != nil {
		return false, err
	}
	def, err := c.level(c.defs, c.most.def)
	if err != nil {
		return false, err
	}
	c.next, c.ahead = level{rep, def}, true
	c.left--
	return true, nil
}

func (c *chunkReader) level(from *hybrid, most int) (int, error) {
	if most == 0 {
		return 0, nil
	}
	n, err := from.number()
	if err == nil && n > uint64(most) { //nolint:gosec // not negative
		err = errPage(fmt.Sprintf("column %q: a level of %d, at most %d", c.name, n, most))
	}
	return int(n), err //nolint:gosec // at most the depth of a schema
}

// must makes the level of the next entry known, of which there must be one.
func (c *chunkReader) must() error {
	more, err := c.peek()
	if err == nil && !more {
		err = errPage(fmt.Sprintf("column %q has fewer rows than its group", c.name))
	}
	return err
}

// take reads the entry whose level is known; ok is false when it holds no value.
func (c *chunkReader) take() (d datum, ok bool, err error) {
	c.ahead = false
	if c.next.def < c.most.def {
		return datum{}, false, nil
	}
	d, err = c.from.next()
	return d, true, err
}

// goesOn reports whether the next entry belongs to the list at a level.
func (c *chunkReader) goesOn(rep int) (bool, error) {
	if !c.ahead && c.left == 0 && c.whole {
		return false, nil
	}
	more, err := c.peek()
	return more && c.next.rep >= rep, err
}

// skip goes over rows: over whole pages without reading them, where these say how
// many rows they have.
func (c *chunkReader) skip(rows uint64) error {
	for rows > 0 {
		if !c.ahead && c.left == 0 && c.at < c.end {
			h, err := c.head()
			if err != nil {
				return fmt.Errorf("column %q: %w", c.name, err)
			}
			if h.rows >= 0 && uint64(h.rows) <= rows {
				rows -= uint64(h.rows)
				c.at += h.bytes + h.packed
				continue
			}
			if err := c.page(h); err != nil {
				return fmt.Errorf("column %q: %w", c.name, err)
			}
			continue
		}
		if err := c.row(); err != nil {
			return err
		}
		rows--
	}
	return nil
}

// row goes over one row.
func (c *chunkReader) row() error {
	if err := c.must(); err != nil {
		return err
	}
	for more, first := true, true; first || more; first = false {
		if _, _, err := c.take(); err != nil {
			return err
		}
		if c.most.rep == 0 {
			return nil
		}
		var err error
		if more, err = c.goesOn(1); err != nil {
			return err
		}
	}
	return nil
}

// head reads what the next page says of itself.
func (c *chunkReader) head() (h pageHead, err error) {
	for _, size := range []int64{shortHead, maxHead} {
		b := make([]byte, min(size, c.end-c.at))
		if _, err := c.in.ReadAt(b, c.at); err != nil {
			return h, fmt.Errorf("read a dataset: %w", err)
		}
		r := &thriftReader{b: b}
		var root value
		if root, err = r.read(thriftStruct, 0); err == nil {
			h.bytes = int64(len(b) - len(r.b))
			return h, h.parse(&root, c)
		}
		if int64(len(b)) < size {
			break
		}
	}
	return h, err
}

func (h *pageHead) parse(root *value, c *chunkReader) error {
	h.kind, h.raw, h.packed = root.get(pageKind).number, root.get(pageRaw).number, root.get(pagePacked).number
	h.rows, h.unpack = -1, true
	if h.raw < 0 || h.packed < 0 || h.packed > c.end-c.at-h.bytes {
		return errPage("it is cut off")
	}
	if h.raw > maxPage || h.packed > maxPage {
		return fmt.Errorf("%w: a page of %d bytes, %d packed; at most %d are read: take the file's own form with --as parquet", mman.ErrTooLarge, h.raw, h.packed, maxPage)
	}
	values := int64(0)
	switch h.kind {
	case kindOne:
		one := root.get(pageOne)
		values, h.encoding = one.get(oneValues).number, one.get(oneEncoding).number
		if c.most.rep == 0 {
			h.rows = values
		}
		if (c.most.rep > 0 && one.get(oneReps).number != encRLE) || (c.most.def > 0 && one.get(oneDefs).number != encRLE) {
			return fmt.Errorf("%w: levels of a Parquet column that are not run-length encoded: take the file's own form with --as parquet", mman.ErrUnsupported)
		}
	case kindTwo:
		two := root.get(pageTwo)
		values, h.rows, h.encoding = two.get(twoValues).number, two.get(twoRows).number, two.get(twoEncoding).number
		h.reps, h.defs = two.get(twoRepBytes).number, two.get(twoDefBytes).number
		h.unpack = two.get(twoPacked).kind != thriftFalse
		if h.reps < 0 || h.defs < 0 || h.reps > h.packed || h.defs > h.packed-h.reps || h.reps+h.defs > h.raw || h.rows < 0 {
			return errPage("its levels are cut off")
		}
		if c.most.rep == 0 && h.rows != values {
			return errPage("its rows and values differ")
		}
	case kindDictionary:
		values, h.encoding, h.rows = root.get(pageDictionary).get(oneValues).number, root.get(pageDictionary).get(oneEncoding).number, 0
		if c.dict == nil {
			h.rows = -1 // it is read even when no row of its is
		}
	default: // an index, or what a later version of the format has
		h.rows = 0
	}
	if values < 0 || values > maxPageValues {
		return fmt.Errorf("%w: a page of %d values, at most %d are read", mman.ErrTooLarge, values, maxPageValues)
	}
	h.values = uint64(values)
	return nil
}

// page reads a page: the dictionary, or values, which follow from now on.
func (c *chunkReader) page(h pageHead) error {
	begin := c.at + h.bytes
	c.at = begin + h.packed
	if h.kind != kindOne && h.kind != kindTwo && h.kind != kindDictionary {
		return nil
	}
	if err := c.hold(h); err != nil {
		return err
	}
	packed := make([]byte, h.packed)
	if _, err := c.in.ReadAt(packed, begin); err != nil {
		return fmt.Errorf("read a dataset: %w", err)
	}
	levels := packed[:h.reps+h.defs]
	b := packed[h.reps+h.defs:]
	if h.unpack {
		var err error
		if b, err = unpack(c.codec, b, int(h.raw-h.reps-h.defs)); err != nil {
			return err
		}
	}
	if h.kind == kindDictionary {
		if c.dict != nil || (h.encoding != encPlain && h.encoding != encPlainDictionary) {
			return errPage("a second dictionary, or one in an unknown encoding")
		}
		var err error
		c.dict, err = newDictionary(c.values, b, h.values)
		c.own = 0 // it stays
		return err
	}
	return c.begin(h, levels, b)
}

// hold counts what a page will take, in the place of the page before.
func (c *chunkReader) hold(h pageHead) error {
	*c.held -= c.own
	if c.own = h.packed + h.raw; h.kind == kindDictionary {
		c.own += 4 * int64(h.values) //nolint:gosec // at most maxPageValues
	}
	if *c.held += c.own; *c.held > maxHeld {
		return fmt.Errorf("%w: the pages of these columns take more than %d bytes at a time: name fewer columns", mman.ErrTooLarge, maxHeld)
	}
	return nil
}

// begin sets the levels and the values of a page.
func (c *chunkReader) begin(h pageHead, levels, b []byte) (err error) {
	c.whole = h.kind == kindTwo
	if h.kind == kindTwo {
		c.reps = &hybrid{b: levels[:h.reps], width: bits.Len(uint(c.most.rep))}
		c.defs = &hybrid{b: levels[h.reps:], width: bits.Len(uint(c.most.def))}
	} else {
		if c.reps, b, err = levelsOf(b, c.most.rep); err != nil {
			return err
		}
		if c.defs, b, err = levelsOf(b, c.most.def); err != nil {
			return err
		}
	}
	if c.from, err = c.values.decoder(h.encoding, b, c.dict); err != nil {
		return err
	}
	c.left = h.values
	return nil
}

func levelsOf(b []byte, most int) (*hybrid, []byte, error) {
	if most == 0 {
		return nil, b, nil
	}
	head, rest, err := prefixed(b)
	return &hybrid{b: head, width: bits.Len(uint(most))}, rest, err
}

// unpack returns what was packed, which must have so many bytes.
func unpack(codec int64, b []byte, size int) ([]byte, error) {
	switch codec {
	case codecNone:
		if len(b) != size {
			return nil, errPage(fmt.Sprintf("%d bytes, it says %d", len(b), size))
		}
		return b, nil
	case codecSnappy:
		if n, err := snappy.DecodedLen(b); err != nil || n != size {
			return nil, errPage("Snappy: it is not as long as it says")
		}
		out, err := snappy.Decode(nil, b)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errPage("Snappy"), err)
		}
		return out, nil
	case codecGzip:
		r, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errPage("gzip"), err)
		}
		return exactly(r, size)
	case codecZstd:
		r, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxPage))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errPage("zstd"), err)
		}
		defer r.Close()
		return exactly(r, size)
	case codecBrotli:
		return exactly(brotli.NewReader(bytes.NewReader(b)), size)
	case codecLZ4Raw:
		return unpackLZ4(b, size)
	case codecLZ4:
		if out, err := unpackHadoop(b, size); err == nil {
			return out, nil
		}
		return unpackLZ4(b, size)
	default:
		return nil, fmt.Errorf("%w: a Parquet column packed in way %d, read are 0, 1, 2, 4, 5, 6 and 7 (none, Snappy, gzip, Brotli, LZ4, zstd, LZ4_RAW): take the file's own form with --as parquet", mman.ErrUnsupported, codec)
	}
}

// lz4Most is how many bytes one byte of an LZ4 block becomes at most.
const lz4Most = 255

// unpackLZ4 unpacks one block, which must have so many bytes. No block can hold more
// than lz4Most times its own length, so that what is taken grows with what came.
func unpackLZ4(b []byte, size int) ([]byte, error) {
	if size > lz4Most*len(b) {
		return nil, errPage("LZ4: it is not as long as it says")
	}
	out := make([]byte, size)
	if n, err := lz4.UncompressBlock(b, out); err != nil || n != size {
		return nil, errPage("LZ4: it is broken, or not as long as it says")
	}
	return out, nil
}

// unpackHadoop unpacks blocks that follow each other, each behind its length and its
// length as packed, in four bytes.
func unpackHadoop(b []byte, size int) ([]byte, error) {
	const head = 8
	var out []byte
	for len(b) > head && len(out) < size {
		whole, packed := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
		if b = b[head:]; uint64(packed) > uint64(len(b)) || uint64(whole) > uint64(size-len(out)) { //nolint:gosec // not negative
			break
		}
		one, err := unpackLZ4(b[:packed], int(whole))
		if err != nil {
			return nil, err
		}
		out, b = append(out, one...), b[packed:]
	}
	if len(out) != size || len(b) > 0 {
		return nil, errPage("LZ4: it is broken, or not as long as it says")
	}
	return out, nil
}

// exactly reads size bytes and no more; what it holds grows with what comes.
func exactly(r io.Reader, size int) ([]byte, error) {
	var out bytes.Buffer
	n, err := io.Copy(&out, io.LimitReader(r, int64(size)+1))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: %w", errPage("it cannot be unpacked"), err)
	}
	if n != int64(size) {
		return nil, errPage("it is not as long as it says")
	}
	return out.Bytes(), nil
}

package dataset

import (
	"encoding/binary"
	"fmt"

	mman "github.com/limboid/massive-man"
)

// The encodings of values, as Apache Parquet's Encodings.md numbers them.
const (
	encPlain, encPlainDictionary, encRLE           = 0, 2, 3
	encDelta, encDeltaLength, encDeltaBytes        = 5, 6, 7
	encDictionary, encSplit                        = 8, 9
	typeBool, typeInt32, typeInt64, typeInt96      = 0, 1, 2, 3
	typeFloat, typeDouble, typeByteArray, typeFLBA = 4, 5, 6, 7
)

func errPage(what string) error {
	return fmt.Errorf("%w: a page of the Parquet file: %s", mman.ErrContent, what)
}

// datum is one value: a number or its bits in word, or bytes, which the next one may
// overwrite.
type datum struct {
	word  uint64
	bytes []byte
}

// decoder yields the values of a page one by one, so that what a page claims to hold
// takes no memory before somebody wants it.
type decoder interface {
	next() (datum, error)
}

// physical is how a column's values lie in a file.
type physical struct {
	kind int64
	size int // of each in bytes, 0 for those that say their own
}

func physicalOf(kind, length int64) (physical, error) {
	sizes := map[int64]int{typeBool: 1, typeInt32: 4, typeInt64: 8, typeInt96: 12, typeFloat: 4, typeDouble: 8, typeByteArray: 0}
	if kind == typeFLBA {
		if length < 1 || length > maxRow {
			return physical{}, errThrift(fmt.Sprintf("values of %d bytes", length))
		}
		return physical{kind, int(length)}, nil
	}
	size, ok := sizes[kind]
	if !ok {
		return physical{}, errThrift(fmt.Sprintf("a column of type %d", kind))
	}
	return physical{kind, size}, nil
}

// datum reads a value of fixed size.
func (p physical) datum(b []byte) datum {
	switch p.kind {
	case typeInt32, typeFloat:
		return datum{word: uint64(binary.LittleEndian.Uint32(b))}
	case typeInt64, typeDouble:
		return datum{word: binary.LittleEndian.Uint64(b)}
	default:
		return datum{bytes: b}
	}
}

// decoder returns what reads values in an encoding; dict may be nil.
func (p physical) decoder(encoding int64, b []byte, dict *dictionary) (decoder, error) {
	switch {
	case encoding == encPlain && p.kind == typeBool:
		return &packedBits{b: b}, nil
	case encoding == encPlain:
		return &plain{p, b}, nil
	case encoding == encPlainDictionary || encoding == encDictionary:
		if dict == nil || len(b) == 0 || b[0] > 32 {
			return nil, errPage("it refers to a dictionary that is not there")
		}
		return &indices{dict, hybrid{b: b[1:], width: int(b[0])}}, nil
	case encoding == encRLE && p.kind == typeBool:
		b, _, err := prefixed(b)
		return &runs{hybrid{b: b, width: 1}}, err
	case encoding == encDelta && (p.kind == typeInt32 || p.kind == typeInt64):
		d, err := newDelta(b)
		return &deltaNumbers{d, p.kind == typeInt32}, err
	case encoding == encDeltaLength && p.kind == typeByteArray:
		return newDeltaLengths(b)
	case encoding == encDeltaBytes && (p.kind == typeByteArray || p.kind == typeFLBA):
		return newDeltaBytes(b, p.size)
	case encoding == encSplit && p.size > 1 && p.kind != typeInt96:
		if len(b)%p.size != 0 {
			return nil, errPage("its streams of bytes are of different lengths")
		}
		return &split{physical: p, b: b, value: make([]byte, p.size)}, nil
	default:
		return nil, fmt.Errorf("%w: encoding %d of a Parquet column of type %d: take the file's own form with --as parquet", mman.ErrUnsupported, encoding, p.kind)
	}
}

// prefixed cuts off bytes whose length stands before them.
func prefixed(b []byte) (head, rest []byte, err error) {
	if len(b) < 4 || uint64(binary.LittleEndian.Uint32(b))+4 > uint64(len(b)) {
		return nil, nil, errPage("a length is cut off")
	}
	end := 4 + int(binary.LittleEndian.Uint32(b))
	return b[4:end:end], b[end:], nil
}

// bitsAt reads a number of at most 64 bits, the lowest bit first; false beyond the end.
func bitsAt(b []byte, at uint64, width int) (uint64, bool) {
	first, shift := at/8, at%8
	end := (at + uint64(width) + 7) / 8 //nolint:gosec // at most 64
	if end > uint64(len(b)) {
		return 0, false
	}
	var word uint64
	for i, c := range b[first:min(end, first+8)] {
		word |= uint64(c) << (8 * i)
	}
	if word >>= shift; end-first > 8 {
		word |= uint64(b[first+8]) << (64 - shift)
	}
	if width < 64 {
		word &= 1<<width - 1
	}
	return word, true
}

// hybrid reads numbers that repeat, or are packed in bits, by turns.
type hybrid struct {
	b      []byte
	width  int
	left   uint64 // of the run
	value  uint64 // that repeats, when packed is nil
	packed []byte
	at     uint64 // in bits
}

func (h *hybrid) number() (uint64, error) {
	for h.left == 0 {
		if err := h.run(); err != nil {
			return 0, err
		}
	}
	h.left--
	if h.packed == nil {
		return h.value, nil
	}
	n, ok := bitsAt(h.packed, h.at, h.width)
	if !ok {
		return 0, errPage("packed numbers are cut off")
	}
	h.at += uint64(h.width) //nolint:gosec // at most 32
	return n, nil
}

// run begins the next one.
func (h *hybrid) run() error {
	head, n := binary.Uvarint(h.b)
	if n <= 0 || head > maxPageValues<<2 {
		return errPage("fewer values than it says, or a run without a sound length")
	}
	h.b, h.packed, h.value = h.b[n:], nil, 0
	if head&1 == 0 {
		size := (h.width + 7) / 8
		if size > len(h.b) {
			return errPage("a run is cut off")
		}
		for i, c := range h.b[:size] {
			h.value |= uint64(c) << (8 * i)
		}
		h.left, h.b = head>>1, h.b[size:]
		return nil
	}
	h.left = head >> 1 * 8
	if h.width > 0 {
		size := min(head>>1*uint64(h.width), uint64(len(h.b)))
		h.packed, h.at, h.b = h.b[:size:size], 0, h.b[size:]
	}
	return nil
}

// runs are booleans in a hybrid.
type runs struct{ hybrid }

func (r *runs) next() (datum, error) {
	n, err := r.number()
	return datum{word: n}, err
}

// packedBits are booleans, a bit each.
type packedBits struct {
	b  []byte
	at uint64
}

func (p *packedBits) next() (datum, error) {
	n, ok := bitsAt(p.b, p.at, 1)
	if !ok {
		return datum{}, errPage("fewer values than it says")
	}
	p.at++
	return datum{word: n}, nil
}

// plain values follow each other.
type plain struct {
	physical

	b []byte
}

func (p *plain) next() (datum, error) {
	if p.size == 0 {
		value, rest, err := prefixed(p.b)
		p.b = rest
		return datum{bytes: value}, err
	}
	if len(p.b) < p.size {
		return datum{}, errPage("fewer values than it says")
	}
	d := p.datum(p.b[:p.size])
	p.b = p.b[p.size:]
	return d, nil
}

// split values lie apart, their first bytes together, then their second ones.
type split struct {
	physical

	b     []byte
	i     int
	value []byte
}

func (s *split) next() (datum, error) {
	count := len(s.b) / s.size
	if s.i >= count {
		return datum{}, errPage("fewer values than it says")
	}
	for k := range s.value {
		s.value[k] = s.b[k*count+s.i]
	}
	s.i++
	return s.datum(s.value), nil
}

// dictionary is a column's list of values, to which its pages refer.
type dictionary struct {
	physical

	b  []byte
	at []uint32 // where those begin that say their own length
}

func newDictionary(p physical, b []byte, count uint64) (*dictionary, error) {
	if p.kind == typeBool || count > maxPageValues {
		return nil, errPage("a dictionary that is none")
	}
	d := &dictionary{physical: p, b: b}
	if p.size > 0 {
		if count*uint64(p.size) > uint64(len(b)) {
			return nil, errPage("a dictionary is cut off")
		}
		d.b = b[:int(count)*p.size]
		return d, nil
	}
	if count > uint64(len(b)/4) {
		return nil, errPage("a dictionary is cut off")
	}
	d.at = make([]uint32, count)
	rest := b
	for i := range d.at {
		d.at[i] = uint32(len(b) - len(rest)) //nolint:gosec // at most maxPage
		var err error
		if _, rest, err = prefixed(rest); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *dictionary) get(i uint64) (datum, error) {
	if d.size > 0 {
		if i >= uint64(len(d.b))/uint64(d.size) {
			return datum{}, errPage("it refers to what its dictionary has not")
		}
		at := int(i) * d.size //nolint:gosec // at most maxPage
		return d.datum(d.b[at : at+d.size]), nil
	}
	if i >= uint64(len(d.at)) {
		return datum{}, errPage("it refers to what its dictionary has not")
	}
	value, _, err := prefixed(d.b[d.at[i]:])
	return datum{bytes: value}, err
}

// indices are places in a dictionary.
type indices struct {
	dict *dictionary
	hybrid
}

func (x *indices) next() (datum, error) {
	i, err := x.number()
	if err != nil {
		return datum{}, err
	}
	return x.dict.get(i)
}

// delta reads numbers as differences to the one before, in blocks of packed ones.
type delta struct {
	b      []byte
	minis  uint64 // in a block
	each   uint64 // numbers in one of them
	total  uint64 // not read yet
	last   int64
	begun  bool
	least  int64  // difference in the block
	widths []byte // of those in the block that are not begun
	left   uint64 // in the one that is
	mini   []byte
	at     uint64
	width  int
}

func newDelta(b []byte) (*delta, error) {
	d := &delta{b: b}
	var block uint64
	for _, into := range []*uint64{&block, &d.minis, &d.total} {
		var n int
		if *into, n = binary.Uvarint(d.b); n <= 0 {
			return nil, errPage("numbers without a head")
		}
		d.b = d.b[n:]
	}
	first, n := binary.Varint(d.b)
	if n <= 0 || block == 0 || block > 1<<20 || block%128 != 0 || d.minis == 0 || block%d.minis != 0 || block/d.minis%8 != 0 || d.total > maxPageValues {
		return nil, errPage(fmt.Sprintf("%d numbers in blocks of %d in %d parts", d.total, block, d.minis))
	}
	d.last, d.each, d.b = first, block/d.minis, d.b[n:]
	return d, nil
}

func (d *delta) number() (int64, error) {
	if d.total == 0 {
		return 0, errPage("fewer values than it says")
	}
	if d.total--; !d.begun {
		d.begun = true
		return d.last, nil
	}
	if d.left == 0 {
		if err := d.open(); err != nil {
			return 0, err
		}
	}
	n, ok := bitsAt(d.mini, d.at, d.width)
	if !ok {
		return 0, errPage("packed numbers are cut off")
	}
	d.left--
	d.at += uint64(d.width)      //nolint:gosec // at most 64
	d.last += d.least + int64(n) //nolint:gosec // it wraps around, as the format has it
	return d.last, nil
}

// open begins the next part of a block, or the next block.
func (d *delta) open() error {
	if len(d.widths) == 0 {
		least, n := binary.Varint(d.b)
		if n <= 0 || uint64(n)+d.minis > uint64(len(d.b)) {
			return errPage("a block of numbers is cut off")
		}
		end := n + int(d.minis) //nolint:gosec // at most what is there
		d.least, d.widths, d.b = least, d.b[n:end], d.b[end:]
	}
	if d.width = int(d.widths[0]); d.width > 64 {
		return errPage(fmt.Sprintf("numbers of %d bits", d.width))
	}
	d.widths, d.left, d.at = d.widths[1:], d.each, 0
	size := min(d.each*uint64(d.width)/8, uint64(len(d.b))) //nolint:gosec // at most 64
	d.mini, d.b = d.b[:size], d.b[size:]
	return nil
}

// after returns what follows all numbers.
func (d *delta) after() ([]byte, error) {
	rest := *d
	for rest.total > 0 {
		if _, err := rest.number(); err != nil {
			return nil, err
		}
	}
	return rest.b, nil
}

type deltaNumbers struct {
	*delta

	narrow bool
}

func (d *deltaNumbers) next() (datum, error) {
	n, err := d.number()
	if d.narrow {
		return datum{word: uint64(uint32(n))}, err //nolint:gosec // it wraps around
	}
	return datum{word: uint64(n)}, err //nolint:gosec // its bits
}

// deltaLengths are values whose lengths come first, all together.
type deltaLengths struct {
	lengths *delta
	b       []byte
}

func newDeltaLengths(b []byte) (*deltaLengths, error) {
	d, err := newDelta(b)
	if err != nil {
		return nil, err
	}
	rest, err := d.after()
	return &deltaLengths{d, rest}, err
}

func (d *deltaLengths) next() (datum, error) {
	n, err := d.lengths.number()
	switch {
	case err != nil:
		return datum{}, err
	case n < 0 || n > int64(len(d.b)):
		return datum{}, errPage("values are cut off")
	}
	value := d.b[:n:n]
	d.b = d.b[n:]
	return datum{bytes: value}, nil
}

// deltaBytes are values that begin like the one before.
type deltaBytes struct {
	prefixes *delta
	suffixes *deltaLengths
	size     int // that each must have, 0 for any
	last     []byte
}

func newDeltaBytes(b []byte, size int) (*deltaBytes, error) {
	d, err := newDelta(b)
	if err != nil {
		return nil, err
	}
	rest, err := d.after()
	if err != nil {
		return nil, err
	}
	s, err := newDeltaLengths(rest)
	return &deltaBytes{d, s, size, nil}, err
}

func (d *deltaBytes) next() (datum, error) {
	n, err := d.prefixes.number()
	if err != nil {
		return datum{}, err
	}
	suffix, err := d.suffixes.next()
	switch {
	case err != nil:
		return datum{}, err
	case n < 0 || n > int64(len(d.last)):
		return datum{}, errPage("a value begins like one that is shorter")
	}
	d.last = append(d.last[:n], suffix.bytes...)
	switch {
	case len(d.last) > maxRow:
		return datum{}, fmt.Errorf("%w: a value of more than %d bytes", mman.ErrTooLarge, maxRow)
	case d.size > 0 && len(d.last) != d.size:
		return datum{}, errPage(fmt.Sprintf("a value of %d bytes where each has %d", len(d.last), d.size))
	}
	return datum{bytes: d.last}, nil
}

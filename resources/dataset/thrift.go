package dataset

import (
	"encoding/binary"
	"fmt"

	mman "github.com/limboid/massive-man"
)

// The types of Thrift's compact protocol, as Apache Thrift's specification
// (thrift-compact-protocol.md) numbers them.
const (
	thriftTrue   = 1
	thriftFalse  = 2
	thriftByte   = 3
	thriftI16    = 4
	thriftI32    = 5
	thriftI64    = 6
	thriftDouble = 7
	thriftBinary = 8
	thriftList   = 9
	thriftSet    = 10
	thriftMap    = 11
	thriftStruct = 12
)

const (
	// maxThriftDepth bounds structures within each other.
	maxThriftDepth = 32
	// maxThriftValues bounds all values of a message.
	maxThriftValues = 1 << 20
)

// value is a Thrift value of which nothing is known but its shape, so that what
// this program does not know is written again as it was.
type value struct {
	kind   byte
	number int64   // of a bool, byte or integer
	bytes  []byte  // of a binary, or the eight of a double
	items  []value // of a list or set; keys and values of a map by turns
	of     byte    // what the items are; of a map its keys
	values byte    // what a map's values are
	fields []field // of a struct, by growing id
}

type field struct {
	id int64
	value
}

// get returns a field of a struct, a zero value when it is not there.
func (v *value) get(id int64) *value {
	for i := range v.fields {
		if v.fields[i].id == id {
			return &v.fields[i].value
		}
	}
	return &value{}
}

// set replaces an integer field that is there.
func (v *value) set(id, number int64) {
	if f := v.get(id); f.kind != 0 {
		f.number = number
	}
}

// drop removes fields.
func (v *value) drop(ids ...int64) {
	kept := v.fields[:0:0]
	for _, f := range v.fields {
		keep := true
		for _, id := range ids {
			keep = keep && f.id != id
		}
		if keep {
			kept = append(kept, f)
		}
	}
	v.fields = kept
}

type thriftReader struct {
	b     []byte
	count int
}

func errThrift(what string) error {
	return fmt.Errorf("%w: what the Parquet file says of itself: %s", mman.ErrContent, what)
}

func (r *thriftReader) uvarint() (uint64, error) {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		return 0, errThrift("a number is cut off")
	}
	r.b = r.b[size:]
	return n, nil
}

func (r *thriftReader) varint() (int64, error) {
	n, size := binary.Varint(r.b) // zigzag, as Thrift has it
	if size <= 0 {
		return 0, errThrift("a number is cut off")
	}
	r.b = r.b[size:]
	return n, nil
}

func (r *thriftReader) take(n uint64) ([]byte, error) {
	if n > uint64(len(r.b)) {
		return nil, errThrift("it ends too early")
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out, nil
}

// read reads a value of a kind. A bool in a list is a byte.
func (r *thriftReader) read(kind byte, depth int) (v value, err error) {
	if r.count++; r.count > maxThriftValues || depth > maxThriftDepth {
		return v, fmt.Errorf("%w: what the Parquet file says of itself has more than %d values, or is more than %d deep", mman.ErrTooLarge, maxThriftValues, maxThriftDepth)
	}
	v.kind = kind
	switch kind {
	case thriftTrue, thriftFalse, thriftByte:
		var b []byte
		if b, err = r.take(1); err == nil {
			v.number = int64(b[0])
		}
	case thriftI16, thriftI32, thriftI64:
		v.number, err = r.varint()
	case thriftDouble:
		v.bytes, err = r.take(8)
	case thriftBinary:
		var n uint64
		if n, err = r.uvarint(); err == nil {
			v.bytes, err = r.take(n)
		}
	case thriftList, thriftSet:
		err = r.list(&v, depth)
	case thriftMap:
		err = r.table(&v, depth)
	case thriftStruct:
		err = r.structure(&v, depth)
	default:
		err = errThrift(fmt.Sprintf("a value of type %d", kind))
	}
	return v, err
}

func (r *thriftReader) list(v *value, depth int) error {
	head, err := r.take(1)
	if err != nil {
		return err
	}
	n := uint64(head[0] >> 4)
	if v.of = head[0] & 0x0f; n == 15 {
		if n, err = r.uvarint(); err != nil {
			return err
		}
	}
	return r.items(v, n, depth, v.of)
}

func (r *thriftReader) table(v *value, depth int) error {
	n, err := r.uvarint()
	if err != nil || n == 0 {
		return err
	}
	kinds, err := r.take(1)
	if err != nil {
		return err
	}
	v.of, v.values = kinds[0]>>4, kinds[0]&0x0f
	return r.items(v, n, depth, v.of, v.values)
}

// items reads n times a value of each kind. Every value has a byte at least, so that
// a count beyond the bytes that are left is a lie.
func (r *thriftReader) items(v *value, n uint64, depth int, kinds ...byte) error {
	if n > uint64(len(r.b)) {
		return errThrift("a list is cut off")
	}
	for range n {
		for _, kind := range kinds {
			item, err := r.read(kind, depth+1)
			if err != nil {
				return err
			}
			v.items = append(v.items, item)
		}
	}
	return nil
}

func (r *thriftReader) structure(v *value, depth int) error {
	id := int64(0)
	for {
		head, err := r.take(1)
		if err != nil {
			return err
		}
		kind := head[0] & 0x0f
		if kind == 0 {
			return nil
		}
		if delta := int64(head[0] >> 4); delta > 0 {
			id += delta
		} else if id, err = r.varint(); err != nil {
			return err
		}
		if len(v.fields) > 0 && id <= v.fields[len(v.fields)-1].id || id < 0 || id > 1<<15 {
			return errThrift("fields out of order")
		}
		f := field{id: id, value: value{kind: kind}}
		if kind != thriftTrue && kind != thriftFalse {
			if f.value, err = r.read(kind, depth+1); err != nil {
				return err
			}
		}
		v.fields = append(v.fields, f)
	}
}

// write appends a value as read reads it.
func (v *value) write(out []byte) []byte {
	switch v.kind {
	case thriftTrue, thriftFalse, thriftByte:
		return append(out, byte(v.number)) //nolint:gosec // it was one
	case thriftI16, thriftI32, thriftI64:
		return binary.AppendVarint(out, v.number)
	case thriftDouble:
		return append(out, v.bytes...)
	case thriftBinary:
		return append(binary.AppendUvarint(out, uint64(len(v.bytes))), v.bytes...)
	case thriftList, thriftSet:
		if n := len(v.items); n < 15 {
			out = append(out, byte(n<<4)|v.of)
		} else {
			out = binary.AppendUvarint(append(out, 0xf0|v.of), uint64(n))
		}
	case thriftMap:
		out = binary.AppendUvarint(out, uint64(len(v.items)/2))
		if len(v.items) > 0 {
			out = append(out, v.of<<4|v.values)
		}
	case thriftStruct:
		return v.writeFields(out)
	}
	for i := range v.items {
		out = v.items[i].write(out)
	}
	return out
}

func (v *value) writeFields(out []byte) []byte {
	last := int64(0)
	for i := range v.fields {
		f := &v.fields[i]
		if delta := f.id - last; delta > 0 && delta < 16 {
			out = append(out, byte(delta<<4)|f.kind)
		} else {
			out = binary.AppendVarint(append(out, f.kind), f.id)
		}
		last = f.id
		if f.kind != thriftTrue && f.kind != thriftFalse {
			out = f.write(out)
		}
	}
	return append(out, 0)
}

package meter_test

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/limboid/massive-man/resources/wasm/leb128"
)

// The types of values.
const (
	i32    byte = 0x7f
	i64    byte = 0x7e
	f32    byte = 0x7d
	f64    byte = 0x7c
	v128   byte = 0x7b
	fref   byte = 0x70
	xref   byte = 0x6f
	nothin byte = 0x40
)

// builder assembles modules, valid or not.
type builder struct {
	types    [][]byte
	imports  [][]byte
	funcs    [][]byte // type indexes
	tables   [][]byte
	memory   []byte
	globals  [][]byte
	exports  [][]byte
	elems    [][]byte
	datas    [][]byte
	code     [][]byte
	before   []byte // raw sections behind the type section
	start    []byte // the start section
	after    []byte // raw sections at the end
	dataNote bool   // there is a data count section
	imported uint32
}

func u(v uint32) []byte { return binary.AppendUvarint(nil, uint64(v)) }

func cat(parts ...[]byte) []byte { return slices.Concat(parts...) }

func ops(b ...byte) []byte { return b }

func blob(b []byte) []byte { return append(u(uint32(len(b))), b...) }

func vec(items [][]byte) []byte { return append(u(uint32(len(items))), cat(items...)...) }

func section(id byte, body []byte) []byte { return append([]byte{id}, blob(body)...) }

func (b *builder) typ(params, results []byte) uint32 {
	t := cat([]byte{0x60}, blob(params), blob(results))
	for i, have := range b.types {
		if string(have) == string(t) {
			return uint32(i)
		}
	}
	b.types = append(b.types, t)
	return uint32(len(b.types) - 1)
}

func (b *builder) importFunc(module, name string, params, results []byte) uint32 {
	b.imports = append(b.imports, cat(blob([]byte(module)), blob([]byte(name)), []byte{0}, u(b.typ(params, results))))
	b.imported++
	return b.imported - 1
}

// fn adds a function with its locals, one of each type, and exports it under a
// name, if there is one.
func (b *builder) fn(name string, params, results, locals []byte, code ...[]byte) uint32 {
	b.funcs = append(b.funcs, u(b.typ(params, results)))
	groups := make([][]byte, 0, len(locals))
	for _, l := range locals {
		groups = append(groups, []byte{1, l})
	}
	b.code = append(b.code, blob(cat(vec(groups), cat(code...), []byte{0x0b})))
	index := b.imported + uint32(len(b.funcs)-1)
	if name != "" {
		b.export(name, 0, index)
	}
	return index
}

func (b *builder) export(name string, kind byte, index uint32) {
	b.exports = append(b.exports, cat(blob([]byte(name)), []byte{kind}, u(index)))
}

// mem sets the memory's limits, without a maximum if that is 0, and exports it.
func (b *builder) mem(low, high uint32) *builder {
	b.memory = cat([]byte{1}, []byte{0}, u(low))
	if high > 0 {
		b.memory = cat([]byte{1}, []byte{1}, u(low), u(high))
	}
	b.export("memory", 2, 0)
	return b
}

func (b *builder) table(elem byte, low, high uint32) {
	b.tables = append(b.tables, cat([]byte{elem, 1}, u(low), u(high)))
}

func (b *builder) global(typ byte, mutable bool, init []byte) uint32 {
	m := byte(0)
	if mutable {
		m = 1
	}
	b.globals = append(b.globals, cat([]byte{typ, m}, init, []byte{0x0b}))
	return uint32(len(b.globals) - 1)
}

// elem puts functions into table 0.
func (b *builder) elem(offset int64, funcs ...uint32) {
	items := make([][]byte, 0, len(funcs))
	for _, f := range funcs {
		items = append(items, u(f))
	}
	b.elems = append(b.elems, cat([]byte{0}, c32(offset), []byte{0x0b}, vec(items)))
}

func (b *builder) bytes() []byte {
	m := []byte("\x00asm\x01\x00\x00\x00")
	add := func(id byte, items [][]byte) {
		if len(items) > 0 {
			m = append(m, section(id, vec(items))...)
		}
	}
	add(1, b.types)
	m = append(m, b.before...)
	add(2, b.imports)
	add(3, b.funcs)
	add(4, b.tables)
	if b.memory != nil {
		m = append(m, section(5, b.memory)...)
	}
	add(6, b.globals)
	add(7, b.exports)
	if b.start != nil {
		m = append(m, section(8, b.start)...)
	}
	add(9, b.elems)
	if b.dataNote {
		m = append(m, section(12, u(uint32(len(b.datas))))...)
	}
	add(10, b.code)
	add(11, b.datas)
	return append(m, b.after...)
}

// Operators.

func c32(v int64) []byte { return leb128.AppendSigned([]byte{0x41}, v) }
func c64(v int64) []byte { return leb128.AppendSigned([]byte{0x42}, v) }

func cf32(v uint32) []byte { return binary.LittleEndian.AppendUint32([]byte{0x43}, v) }
func cf64(v float64) []byte {
	return binary.LittleEndian.AppendUint64([]byte{0x44}, math.Float64bits(v))
}

func get(i uint32) []byte   { return append([]byte{0x20}, u(i)...) }
func set(i uint32) []byte   { return append([]byte{0x21}, u(i)...) }
func tee(i uint32) []byte   { return append([]byte{0x22}, u(i)...) }
func gget(i uint32) []byte  { return append([]byte{0x23}, u(i)...) }
func gset(i uint32) []byte  { return append([]byte{0x24}, u(i)...) }
func br(l uint32) []byte    { return append([]byte{0x0c}, u(l)...) }
func brIf(l uint32) []byte  { return append([]byte{0x0d}, u(l)...) }
func call(f uint32) []byte  { return append([]byte{0x10}, u(f)...) }
func drop() []byte          { return []byte{0x1a} }
func ret() []byte           { return []byte{0x0f} }
func add32() []byte         { return []byte{0x6a} }
func misc(n ...byte) []byte { return append([]byte{0xfc}, n...) }

// simd is an operator on vectors, by its number, with its immediates.
func simd(n uint32, immediates ...byte) []byte { return cat([]byte{0xfd}, u(n), immediates) }

// cv128 pushes a vector with the same number in both halves.
func cv128(half uint64) []byte {
	return simd(12, cat(le64(half), le64(half))...)
}

func brTable(labels ...uint32) []byte {
	b := append([]byte{0x0e}, u(uint32(len(labels)-1))...)
	for _, l := range labels {
		b = append(b, u(l)...)
	}
	return b
}

func callIndirect(typ uint32) []byte { return cat([]byte{0x11}, u(typ), []byte{0}) }

func structured(op byte, typ []byte, code ...[]byte) []byte {
	return cat([]byte{op}, typ, cat(code...), []byte{0x0b})
}
func block(code ...[]byte) []byte { return structured(0x02, []byte{nothin}, code...) }
func loop(code ...[]byte) []byte  { return structured(0x03, []byte{nothin}, code...) }
func iff(code ...[]byte) []byte   { return structured(0x04, []byte{nothin}, code...) }
func els() []byte                 { return []byte{0x05} }

// access is a load or a store at its natural alignment or less, without offset.
func access(op byte) []byte { return []byte{op, 0, 0} }

// times repeats code n times, with a counter in an i32 local that ends at 0.
func times(local uint32, n int64, code ...[]byte) []byte {
	return cat(c32(n), set(local), loop(cat(code...), get(local), c32(1), ops(0x6b), tee(local), brIf(0)))
}

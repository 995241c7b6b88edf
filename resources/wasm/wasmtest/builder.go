package wasmtest

import (
	"encoding/binary"
	"slices"

	"github.com/limboid/massive-man/resources/wasm/leb128"
)

// I32 and I64 are the types of parameters, results and locals.
const (
	I32 byte = 0x7f
	I64 byte = 0x7e
)

// WASI is the module of the WASI preview 1 functions.
const WASI = "wasi_snapshot_preview1"

type signature struct{ params, results []byte }

type imported struct {
	module, name string
	typeIndex    uint32
}

type segment struct {
	offset uint32
	bytes  []byte
}

// Builder assembles one module. The zero value has no import, no memory and no
// function. Not safe for concurrent use.
type Builder struct {
	// MinPages and MaxPages describe the memory, 64 KiB each; MaxPages 0 sets
	// no maximum. NoMemory leaves the memory out.
	MinPages, MaxPages uint32
	NoMemory           bool
	// Table, when not 0, has the module have a table of so many elements, of
	// which the first is its function; TableMax bounds it, 0 for no maximum.
	Table, TableMax uint32
	// Raw sections are put in before the code, as they are.
	Raw []byte

	types   []signature
	imports []imported
	data    []segment
}

// Import adds a function and returns its index, for Call.
func (b *Builder) Import(module, name string, params, results []byte) uint32 {
	b.imports = append(b.imports, imported{module, name, b.typeIndex(params, results)})
	return uint32(len(b.imports) - 1)
}

// ImportWASI adds a WASI function whose n parameters are all i32 and which
// answers with an error number.
func (b *Builder) ImportWASI(name string, n int) uint32 {
	return b.Import(WASI, name, slices.Repeat([]byte{I32}, n), []byte{I32})
}

// Data puts bytes into the memory that the module starts with.
func (b *Builder) Data(offset uint32, bytes []byte) { b.data = append(b.data, segment{offset, bytes}) }

func (b *Builder) typeIndex(params, results []byte) uint32 {
	for i, t := range b.types {
		if slices.Equal(t.params, params) && slices.Equal(t.results, results) {
			return uint32(i)
		}
	}
	b.types = append(b.types, signature{params, results})
	return uint32(len(b.types) - 1)
}

// Command returns the module with one function, exported as _start, which has
// the given number of i32 locals.
func (b *Builder) Command(locals uint32, code ...[]byte) []byte {
	return b.Function("_start", locals, code...)
}

// Function is Command with another name for the export.
func (b *Builder) Function(export string, locals uint32, code ...[]byte) []byte {
	start := b.typeIndex(nil, nil)
	m := []byte("\x00asm\x01\x00\x00\x00")
	types := make([][]byte, 0, len(b.types))
	for _, t := range b.types {
		types = append(types, slices.Concat([]byte{0x60}, blob(t.params), blob(t.results)))
	}
	m = section(m, 1, vector(types...))
	if len(b.imports) > 0 {
		imports := make([][]byte, 0, len(b.imports))
		for _, i := range b.imports {
			imports = append(imports, slices.Concat(blob([]byte(i.module)), blob([]byte(i.name)), []byte{0}, u32(i.typeIndex)))
		}
		m = section(m, 2, vector(imports...))
	}
	m = section(m, 3, vector(u32(start)))
	if b.Table > 0 {
		limits := append([]byte{0}, u32(b.Table)...)
		if b.TableMax > 0 {
			limits = slices.Concat([]byte{1}, u32(b.Table), u32(b.TableMax))
		}
		m = section(m, 4, vector(append([]byte{0x70}, limits...)))
	}
	if !b.NoMemory {
		limits := append([]byte{0}, u32(b.MinPages)...)
		if b.MaxPages > 0 {
			limits = slices.Concat([]byte{1}, u32(b.MinPages), u32(b.MaxPages))
		}
		m = section(m, 5, vector(limits))
	}
	function := u32(uint32(len(b.imports)))
	exports := [][]byte{slices.Concat(blob([]byte(export)), []byte{0}, function)}
	if !b.NoMemory {
		exports = append(exports, slices.Concat(blob([]byte("memory")), []byte{2, 0}))
	}
	m = section(m, 7, vector(exports...))
	m = append(m, b.Raw...)
	if b.Table > 0 {
		m = section(m, 9, vector(slices.Concat([]byte{0}, Const(0), []byte{0x0b}, vector(function))))
	}
	body := slices.Concat(vector(append(u32(locals), I32)), slices.Concat(code...), []byte{0x0b})
	m = section(m, 10, vector(blob(body)))
	if len(b.data) > 0 {
		segments := make([][]byte, 0, len(b.data))
		for _, d := range b.data {
			segments = append(segments, slices.Concat([]byte{0}, Const(int32(d.offset)), []byte{0x0b}, blob(d.bytes)))
		}
		m = section(m, 11, vector(segments...))
	}
	return m
}

// Section returns a raw section, for Builder.Raw or the end of a module.
func Section(id byte, body []byte) []byte { return section(nil, id, body) }

func section(m []byte, id byte, body []byte) []byte {
	return slices.Concat(m, []byte{id}, blob(body))
}

func u32(v uint32) []byte { return binary.AppendUvarint(nil, uint64(v)) }

func blob(b []byte) []byte { return append(u32(uint32(len(b))), b...) }

func vector(items ...[]byte) []byte {
	return append(u32(uint32(len(items))), slices.Concat(items...)...)
}

// Operators, as code for Command.

// Const pushes an i32.
func Const(v int32) []byte { return leb128.AppendSigned([]byte{0x41}, int64(v)) }

// Const64 pushes an i64.
func Const64(v int64) []byte { return leb128.AppendSigned([]byte{0x42}, v) }

// Call calls the function with the index.
func Call(index uint32) []byte { return append([]byte{0x10}, u32(index)...) }

// CallWASI pushes i32 arguments, calls, and drops the error number.
func CallWASI(index uint32, args ...int32) []byte {
	var b []byte
	for _, a := range args {
		b = append(b, Const(a)...)
	}
	return slices.Concat(b, Call(index), Drop())
}

// Drop drops the top of the stack.
func Drop() []byte { return []byte{0x1a} }

// Unreachable traps.
func Unreachable() []byte { return []byte{0x00} }

// Loop repeats the code as long as it branches back with Br(0) or BrIf(0).
func Loop(code ...[]byte) []byte {
	return slices.Concat([]byte{0x03, 0x40}, slices.Concat(code...), []byte{0x0b})
}

// Br branches to the label.
func Br(label uint32) []byte { return append([]byte{0x0c}, u32(label)...) }

// BrIf branches to the label if the top of the stack is not 0.
func BrIf(label uint32) []byte { return append([]byte{0x0d}, u32(label)...) }

// If runs the code if the top of the stack is not 0.
func If(code ...[]byte) []byte {
	return slices.Concat([]byte{0x04, 0x40}, slices.Concat(code...), []byte{0x0b})
}

// Load pushes the i32 at a fixed address.
func Load(address int32) []byte { return append(Const(address), 0x28, 2, 0) }

// Store writes what the code pushes to a fixed address.
func Store(address int32, code []byte) []byte {
	return slices.Concat(Const(address), code, []byte{0x36, 2, 0})
}

// Grow grows the memory by pages and pushes its size before, or -1.
func Grow(pages int32) []byte { return append(Const(pages), 0x40, 0) }

// Eqz pushes whether the top of the stack is 0.
func Eqz() []byte { return []byte{0x45} }

// Eq pushes whether two i32 are equal.
func Eq() []byte { return []byte{0x46} }

package wasm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources/wasm/meter"
)

// Bounds of one module, beyond its size. They keep what decoding, compiling and
// instantiating take in proportion to the module: a claim of four thousand
// million locals takes six bytes.
const (
	pageSize         = 64 << 10
	maxTables        = 16
	maxTableElements = 1 << 20
	maxFunctionBytes = 1 << 20
	maxLocals        = 50_000  // of one function
	maxModuleLocals  = 4 << 20 // of all functions
	maxArity         = 1_000   // parameters or results of one type
	maxNameBytes     = 4 << 10
	// Costs are estimates of compiling, see shape. What compilers make stays
	// below a tenth of the first, and below 100 a byte.
	maxFunctionCost = 1 << 30
	// Of a metered function: some four seconds. The largest that compilers make,
	// the evaluators of CPython and QuickJS, take a third.
	maxMeteredCost = 1 << 28
	maxCostPerByte = 128
)

// importModule is the only module that guests may import from.
const importModule = "wasi_snapshot_preview1"

// startExport is the entry of a command module.
const startExport = "_start"

// admitted is a module that may be given to the compiler.
type admitted struct {
	// code is the module with a maximum on each table, and metered.
	code []byte
	// minPages is the memory that the module starts with.
	minPages uint32
}

// admit checks the frame of a module and what it asks for. Whether its code is
// valid is left to the compiler's validation. known tells whether a function of
// importModule exists.
func admit(module []byte, known func(name string) bool) (admitted, error) {
	if len(module) > ModuleMaxBytes {
		return admitted{}, fmt.Errorf("%w: %d bytes, at most %d are allowed", mman.ErrModule, len(module), ModuleMaxBytes)
	}
	if len(module) < 8 || string(module[:4]) != "\x00asm" {
		return admitted{}, fmt.Errorf("%w: it does not begin like a WebAssembly module; give a .wasm file", mman.ErrModule)
	}
	if v := binary.LittleEndian.Uint32(module[4:8]); v != 1 {
		return admitted{}, fmt.Errorf("%w: WebAssembly version %d; build a core module of version 1, not a component", mman.ErrModule, v)
	}
	a := admission{known: known, size: uint64(len(module)), code: append(make([]byte, 0, len(module)), module[:8]...)}
	r := reader{b: module[8:]}
	for len(r.b) > 0 && r.err == nil {
		id := r.u8()
		body := r.take(r.u32())
		if r.err != nil {
			break
		}
		if err := a.section(id, body); err != nil {
			return admitted{}, err
		}
	}
	if r.err != nil {
		return admitted{}, fmt.Errorf("%w: %w", mman.ErrModule, r.err)
	}
	if !a.started {
		return admitted{}, fmt.Errorf("%w: it exports no function %s; build a WASI command, not a library", mman.ErrModule, startExport)
	}
	metered, err := meter.Instrument(a.code, meter.Options{Known: func(from, name string) bool { return from == importModule && known(name) }})
	if err != nil {
		return admitted{}, err
	}
	if err := a.compilable(metered.Module); err != nil {
		return admitted{}, err
	}
	return admitted{code: metered.Module, minPages: a.minPages}, nil
}

// compilable checks what compiling the metered module takes: the meter adds
// branches, the more the more loops there are.
func (a *admission) compilable(metered []byte) error {
	r := reader{b: metered[8:]}
	for len(r.b) > 0 && r.err == nil {
		id := r.u8()
		body := reader{b: r.take(r.u32())}
		if r.err != nil || id != meter.SectionCode {
			continue
		}
		index, sum, refused := 0, uint64(0), error(nil)
		body.each(func() {
			f := reader{b: body.take(body.u32())}
			_, cost := f.scanFunction(a.params)
			sum += cost
			if refused == nil {
				refused = tooCostly(index, cost, maxMeteredCost, sum, uint64(len(metered)))
			}
			index++
		})
		return refused
	}
	return nil
}

// tooCostly judges the cost of a function, and of all up to it, in a module of so
// many bytes.
func tooCostly(function int, cost, most, sum, size uint64) error {
	if cost > most || sum > maxFunctionCost+maxCostPerByte*size {
		return fmt.Errorf("%w: function %d has too many branches and locals to be compiled in good time; split it", mman.ErrModule, function)
	}
	return nil
}

type admission struct {
	known    func(string) bool
	code     []byte
	minPages uint32
	size     uint64 // of the module, bytes
	params   uint64 // of the type with the most
	locals   uint64
	cost     uint64
	started  bool
}

func (a *admission) section(id byte, body []byte) error {
	r := &reader{b: body}
	var err error
	switch id {
	case meter.SectionCustom:
		return nil // names and debugging information: nothing that a run needs
	case meter.SectionType:
		r.each(func() { a.params = max(a.params, r.skipFunctionType()) })
	case meter.SectionImport:
		err = a.imports(r)
	case meter.SectionFunction:
		r.each(func() { r.u32() })
	case meter.SectionTable:
		body, err = a.tables(r)
	case meter.SectionMemory:
		err = a.memories(r)
	case meter.SectionGlobal:
		r.each(func() {
			r.take(2)
			r.skipExpression()
		})
	case meter.SectionExport:
		r.each(func() {
			name, kind := r.name(), r.u8()
			r.u32()
			a.started = a.started || kind == 0 && name == startExport
		})
	case meter.SectionStart:
		r.u32() // the meter makes it a function that is called under the limits
	case meter.SectionElement:
		r.each(r.skipElement)
	case meter.SectionCode:
		err = a.functions(r)
	case meter.SectionData:
		r.each(r.skipData)
	case meter.SectionDataCount:
		r.u32()
	default:
		return fmt.Errorf("%w: it has a section of kind %d; use the features of WebAssembly 2.0 only", mman.ErrModule, id)
	}
	switch {
	case err != nil:
		return err
	case r.err != nil:
		return fmt.Errorf("%w: section %d: %w", mman.ErrModule, id, r.err)
	case len(r.b) > 0:
		return fmt.Errorf("%w: section %d: %d bytes too many", mman.ErrModule, id, len(r.b))
	}
	a.code = append(a.code, id)
	a.code = binary.AppendUvarint(a.code, uint64(len(body)))
	a.code = append(a.code, body...)
	return nil
}

func (a *admission) imports(r *reader) error {
	var refused error
	r.each(func() {
		module, name, kind := r.name(), r.name(), r.u8()
		if kind != 0 { // a table, a memory or a global: nobody provides one
			r.fail(nil)
		} else {
			r.u32()
		}
		if refused == nil && (kind != 0 || module != importModule || !a.known(name)) {
			refused = fmt.Errorf("%w: %.64q.%.64q; only the functions of %s are provided", mman.ErrImport, module, name, importModule)
		}
	})
	return refused
}

// tables bounds each table and returns the section with a maximum on each, so
// that table.grow cannot take the host's memory.
func (a *admission) tables(r *reader) ([]byte, error) {
	var refused error
	count := uint64(0)
	var body []byte
	r.each(func() {
		count++
		kind, low, top, bounded := r.u8(), uint32(0), uint32(0), false
		switch flag := r.u8(); flag {
		case 0:
			low, top = r.u32(), maxTableElements
		case 1:
			low, top, bounded = r.u32(), r.u32(), true
		default:
			r.fail(fmt.Errorf("table limits of kind %d", flag))
		}
		if low > maxTableElements {
			refused = fmt.Errorf("%w: a table of %d elements, at most %d are allowed", mman.ErrMemory, low, maxTableElements)
		}
		if bounded && top < low {
			r.fail(fmt.Errorf("a table of at least %d and at most %d elements", low, top))
		}
		body = append(body, kind, 1)
		body = binary.AppendUvarint(body, uint64(low))
		body = binary.AppendUvarint(body, uint64(min(top, maxTableElements)))
	})
	if count > maxTables {
		return nil, fmt.Errorf("%w: %d tables, at most %d are allowed", mman.ErrModule, count, maxTables)
	}
	return append(binary.AppendUvarint(nil, count), body...), refused
}

func (a *admission) memories(r *reader) error {
	var refused error
	count := 0
	r.each(func() {
		count++
		flag := r.u8()
		a.minPages = r.u32()
		if flag&1 != 0 {
			r.u32()
		}
		switch {
		case flag&2 != 0:
			refused = fmt.Errorf("%w: its memory is shared; build it without threads", mman.ErrModule)
		case flag > 1:
			r.fail(fmt.Errorf("memory limits of kind %d", flag))
		}
	})
	if count > 1 {
		return fmt.Errorf("%w: it has %d memories, one is supported", mman.ErrModule, count)
	}
	return refused
}

func (a *admission) functions(r *reader) error {
	var refused error
	index := 0
	r.each(func() {
		body := r.take(r.u32())
		if r.err != nil || refused != nil {
			return
		}
		f := reader{b: body}
		locals, cost := f.scanFunction(a.params)
		a.locals, a.cost = a.locals+locals, a.cost+cost
		switch {
		case f.err != nil:
			r.fail(fmt.Errorf("function %d: %w", index, f.err))
		case len(body) > maxFunctionBytes:
			refused = fmt.Errorf("%w: function %d has %d bytes, at most %d are allowed", mman.ErrModule, index, len(body), maxFunctionBytes)
		case locals > maxLocals || a.locals > maxModuleLocals:
			refused = fmt.Errorf("%w: function %d has %d locals, at most %d in a function and %d in a module are allowed",
				mman.ErrModule, index, locals, maxLocals, maxModuleLocals)
		default:
			refused = tooCostly(index, cost, maxFunctionCost, a.cost, a.size)
		}
		index++
	})
	return refused
}

var (
	errShort = errors.New("it is cut short or counts more than it holds")
	errLEB   = errors.New("a number is longer than its type")
	errName  = errors.New("a name is too long or not UTF-8")
)

// reader reads a module. Its first error sticks, and from then on it has nothing
// left to read.
type reader struct {
	b   []byte
	err error
}

// fail ends the reading; nil stands for a mistake that the caller reports.
func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
		if err == nil {
			r.err = errShort
		}
	}
	r.b = nil
}

func (r *reader) take(n uint32) []byte {
	if uint64(n) > uint64(len(r.b)) {
		r.fail(errShort)
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// leb reads a number of at most size bytes in LEB128, for its length or its low
// 32 bits.
func (r *reader) leb(size int) uint64 {
	v := uint64(0)
	for i := range size {
		b := r.u8()
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return v
		}
	}
	r.fail(errLEB)
	return 0
}

func (r *reader) u32() uint32 {
	v := r.leb(5)
	if v > 1<<32-1 {
		r.fail(errLEB)
		return 0
	}
	return uint32(v)
}

func (r *reader) name() string {
	b := r.take(r.u32())
	if len(b) > maxNameBytes || !utf8.Valid(b) {
		r.fail(errName)
		return ""
	}
	return string(b)
}

// each reads a count and that many items, each of which takes at least a byte.
func (r *reader) each(item func()) {
	n := r.u32()
	if uint64(n) > uint64(len(r.b)) {
		r.fail(errShort)
		return
	}
	for range n {
		if r.err != nil {
			return
		}
		item()
	}
}

// skipFunctionType reads a type and returns its number of parameters.
func (r *reader) skipFunctionType() uint64 {
	if kind := r.u8(); kind != 0x60 {
		r.fail(fmt.Errorf("a type of kind %#x is not a function's", kind))
	}
	params := r.u32()
	r.take(params)
	results := r.u32()
	r.take(results)
	if max(params, results) > maxArity {
		r.fail(fmt.Errorf("a function type with %d parameters and %d results, at most %d are allowed", params, results, maxArity))
	}
	return uint64(params)
}

// skipExpression reads a constant expression.
func (r *reader) skipExpression() {
	for r.err == nil {
		switch op := r.u8(); op {
		case 0x0b: // end
			return
		case 0x41, 0x23, 0xd2: // i32.const, global.get, ref.func
			r.leb(5)
		case 0x42: // i64.const
			r.leb(10)
		case 0x43: // f32.const
			r.take(4)
		case 0x44: // f64.const
			r.take(8)
		case 0xd0: // ref.null
			r.u8()
		case 0xfd: // v128.const
			if r.leb(5) != 12 {
				r.fail(errors.New("a vector operator that is not constant"))
			}
			r.take(16)
		default:
			r.fail(fmt.Errorf("operator %#x in a constant expression", op))
		}
	}
}

// skipElement reads an element segment. Of its kind, bit 0 says that it is not
// active, bit 1 that it names its table or is declarative, bit 2 that it holds
// expressions.
func (r *reader) skipElement() {
	kind := r.u32()
	if kind > 7 {
		r.fail(fmt.Errorf("an element segment of kind %d", kind))
		return
	}
	if kind&3 == 2 {
		r.u32()
	}
	if kind&1 == 0 {
		r.skipExpression()
	}
	if kind&3 != 0 {
		r.u8()
	}
	if kind&4 != 0 {
		r.each(r.skipExpression)
		return
	}
	r.each(func() { r.u32() })
}

func (r *reader) skipData() {
	kind := r.u32()
	switch kind {
	case 0:
		r.skipExpression()
	case 1:
	case 2:
		r.u32()
		r.skipExpression()
	default:
		r.fail(fmt.Errorf("a data segment of kind %d", kind))
	}
	r.take(r.u32())
}

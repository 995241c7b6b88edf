package meter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	mman "github.com/limboid/massive-man"
)

// The sections of a module, by their ids.
const (
	SectionCustom = iota
	SectionType
	SectionImport
	SectionFunction
	SectionTable
	SectionMemory
	SectionGlobal
	SectionExport
	SectionStart
	SectionElement
	SectionCode
	SectionData
	SectionDataCount
	sectionCount
)

// The kinds of what is imported and exported.
const (
	kindFunction = iota
	kindTable
	kindMemory
	kindGlobal
	kindCount
)

type funcType struct{ params, results []byte }

type tableType struct {
	elem     byte
	min, max uint32
}

type globalType struct {
	value   byte
	mutable bool
}

// module is what the validation of code has to know, and where everything is.
type module struct {
	b     []byte
	types []funcType
	funcs []uint32 // the type of each function, imported ones first
	// imported counts the imports of each kind.
	imported [kindCount]int
	tables   []tableType
	memories int
	minPages uint32
	maxPages uint32
	globals  []globalType
	// declared functions may be the subject of ref.func.
	declared []bool
	elems    []elemSegment
	datas    []uint32 // bytes of each data segment
	// dataCount is the number of data segments that the code may name.
	dataCount int
	bodies    []reader
	exports   int
	start     uint32 // the function, if there is a start section
	seen      [sectionCount]bool
	section   [sectionCount]reader
	names     []reader // the name sections
	// work counts types that were looked at, against what is allowed.
	work, allowed int
}

type elemSegment struct {
	value byte
	count uint32
}

// parse reads and validates everything but the code.
func parse(b []byte, opts Options, sw switches) (*module, error) {
	if len(b) > ModuleMaxBytes && !sw.anySize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", mman.ErrModule, len(b), ModuleMaxBytes)
	}
	if len(b) < 8 || string(b[:4]) != "\x00asm" {
		return nil, fmt.Errorf("%w: it does not begin like a WebAssembly module; give a .wasm file", mman.ErrModule)
	}
	if v := binary.LittleEndian.Uint32(b[4:8]); v != 1 {
		return nil, fmt.Errorf("%w: WebAssembly version %#x; build a core module of version 1, not a component", mman.ErrModule, v)
	}
	m := &module{b: b, dataCount: -1, maxPages: maxPages, allowed: workBase + workPerByte*len(b)}
	r := reader{b: b, pos: 8, end: len(b), lax: sw.threads}
	last := 0
	for r.more() {
		start := r.pos
		id := int(r.u8())
		body := r.sub(r.u32())
		if r.err != nil {
			break
		}
		if id == SectionCustom {
			m.custom(body, &r)
			continue
		}
		// The data count stands before the code, which depends on it.
		order := id * 2
		if id == SectionDataCount {
			order = SectionCode*2 - 1
		}
		if id >= sectionCount {
			r.failf(start, "a section of kind %d; use the features of WebAssembly 2.0 only", id)
			break
		}
		if order <= last {
			r.failf(start, "section %d is out of order or there twice", id)
			break
		}
		last = order
		m.seen[id], m.section[id] = true, body
		if err := m.parseSection(id, &body, opts, sw); err != nil {
			return nil, err
		}
	}
	if err := r.finish("module"); err != nil {
		return nil, err
	}
	return m, m.consistent()
}

// consistent checks what concerns several sections.
func (m *module) consistent() error {
	if defined := len(m.funcs) - m.imported[kindFunction]; defined != len(m.bodies) {
		return fmt.Errorf("%w: %d functions are declared and %d have code", mman.ErrModule, defined, len(m.bodies))
	}
	if m.dataCount >= 0 && m.dataCount != len(m.datas) {
		return fmt.Errorf("%w: %d data segments are declared and %d are there", mman.ErrModule, m.dataCount, len(m.datas))
	}
	return nil
}

// spend counts work; it tells whether there is some left.
func (m *module) spend(n int) bool {
	m.work += n
	return m.work <= m.allowed
}

// custom checks the name of a custom section, all that has a form in it.
func (m *module) custom(body reader, whole *reader) {
	name := body.name()
	whole.adopt(&body)
	if name == "name" {
		m.names = append(m.names, body)
	}
}

func (m *module) parseSection(id int, r *reader, opts Options, sw switches) error {
	switch id {
	case SectionType:
		m.parseTypes(r)
	case SectionImport:
		m.parseImports(r, opts, sw)
	case SectionFunction:
		for range r.count() {
			m.addFunction(r)
		}
		m.declared = make([]bool, len(m.funcs))
	case SectionTable:
		for range r.count() {
			m.addTable(r)
		}
	case SectionMemory:
		for range r.count() {
			m.addMemory(r)
		}
	case SectionGlobal:
		for range r.count() {
			g := m.addGlobal(r)
			m.constant(r, g.value)
		}
	case SectionExport:
		m.parseExports(r, sw)
	case SectionStart:
		m.parseStart(r)
	case SectionElement:
		for range r.count() {
			m.parseElement(r)
		}
	case SectionDataCount:
		m.dataCount = int(r.u32())
	case SectionCode:
		m.parseBodies(r, sw)
	case SectionData:
		for range r.count() {
			m.parseData(r)
		}
	default: // the caller knows no other
	}
	return r.finish(fmt.Sprintf("section %d", id))
}

func isReference(t byte) bool { return t == funcref || t == externref }

// valueType reads the type of a value.
func (r *reader) valueType() byte {
	start, t := r.pos, r.u8()
	if r.err == nil {
		if err := checkType(t); err != nil {
			r.fail(start, err)
		}
	}
	return t
}

// checkType refuses what is not the type of a value.
func checkType(t byte) error {
	switch t {
	case i32, i64, f32, f64, v128, funcref, externref:
		return nil
	default:
		return fmt.Errorf("%#x is not a type of WebAssembly 2.0", t)
	}
}

func (r *reader) valueTypes() []byte {
	start, n := r.pos, r.count()
	if n > maxArity {
		r.failf(start, "a function type with %d parameters or results; at most %d are allowed", n, maxArity)
		return nil
	}
	first := r.pos
	for range n {
		r.valueType()
	}
	if r.err != nil {
		return nil
	}
	return r.b[first:r.pos]
}

func (m *module) parseTypes(r *reader) {
	start, n := r.pos, r.count()
	if n > maxItems {
		r.failf(start, "%d types; at most %d are allowed", n, maxItems)
		return
	}
	m.types = make([]funcType, 0, n)
	for range n {
		at := r.pos
		if form := r.u8(); form != functional && r.err == nil {
			r.failf(at, "a type of form %#x is not a function's", form)
		}
		t := funcType{params: r.valueTypes()}
		t.results = r.valueTypes()
		m.types = append(m.types, t)
		if r.err != nil {
			return
		}
	}
}

// addFunction reads a function's type; an error sticks in r, so that what is
// then added is never looked at.
func (m *module) addFunction(r *reader) {
	start, t := r.pos, r.u32()
	if uint64(t) >= uint64(len(m.types)) {
		r.failf(start, "function %d has type %d of %d", len(m.funcs), t, len(m.types))
		return
	}
	if len(m.funcs) >= maxItems {
		r.failf(start, "more than %d functions", maxItems)
		return
	}
	m.funcs = append(m.funcs, t)
}

// limits reads the limits of a table or a memory.
func (r *reader) limits(top uint32) (low, high uint32) {
	start := r.pos
	flag := r.u8()
	switch {
	case r.err != nil:
		return 0, 0
	case (flag == 2 || flag == 3) && !r.lax:
		r.fail(start, errors.New("it is shared; threads are not supported"))
	case flag > 3 && flag < 8:
		r.fail(start, errors.New("it has 64-bit addresses (memory64), which are not supported"))
	case flag > 1:
		r.failf(start, "limits of kind %d", flag)
	}
	low, high = r.u32(), top
	if flag == 1 {
		if high = r.u32(); high < low {
			r.failf(start, "at least %d and at most %d", low, high)
		}
	}
	return low, high
}

func (m *module) addTable(r *reader) {
	start, elem := r.pos, r.u8()
	if !isReference(elem) && r.err == nil {
		r.failf(start, "a table of values of type %#x", elem)
	}
	low, high := r.limits(1<<32 - 1)
	switch {
	case r.err != nil:
	case low > maxTableElements:
		r.failf(start, "a table of %d elements; at most %d are allowed", low, maxTableElements)
	case len(m.tables) >= maxTables:
		r.failf(start, "more than %d tables", maxTables)
	default:
		m.tables = append(m.tables, tableType{elem, low, min(high, maxTableElements)})
	}
}

func (m *module) addMemory(r *reader) {
	start := r.pos
	low, high := r.limits(maxPages)
	m.memories++
	switch {
	case r.err != nil:
	case m.memories > 1:
		r.fail(start, errors.New("a second memory; one is supported"))
	case low > maxPages || high > maxPages:
		r.failf(start, "a memory of %d to %d pages; at most %d are possible", low, high, maxPages)
	default:
		m.minPages, m.maxPages = low, high
	}
}

func (m *module) addGlobal(r *reader) globalType {
	g := globalType{value: r.valueType()}
	start, mutable := r.pos, r.u8()
	if mutable > 1 {
		r.failf(start, "a global of mutability %d", mutable)
	}
	g.mutable = mutable == 1
	m.globals = append(m.globals, g)
	return g
}

func (m *module) parseImports(r *reader, opts Options, sw switches) {
	for range r.count() {
		start := r.pos
		from, name, kind := r.name(), r.name(), r.u8()
		if r.err != nil {
			return
		}
		switch {
		case reserved(name) && !sw.anyName:
			r.fail(start, fmt.Errorf("%w: %.64q.%.64q; names that begin with %q are the meter's", mman.ErrImport, from, name, ReservedPrefix))
		case kind != kindFunction && !sw.anyImport:
			r.fail(start, fmt.Errorf("%w: %.64q.%.64q is not a function; only functions are provided", mman.ErrImport, from, name))
		case opts.Known != nil && !opts.Known(from, name):
			r.fail(start, fmt.Errorf("%w: %.64q.%.64q is not provided here", mman.ErrImport, from, name))
		}
		switch kind {
		case kindFunction:
			m.addFunction(r)
		case kindTable:
			m.addTable(r)
		case kindMemory:
			m.addMemory(r)
		case kindGlobal:
			m.addGlobal(r)
		default:
			r.failf(start, "an import of kind %d", kind)
		}
		if r.err != nil {
			return
		}
		m.imported[kind]++
	}
	m.declared = make([]bool, len(m.funcs))
}

func (m *module) parseExports(r *reader, sw switches) {
	m.exports = r.count()
	seen := make(map[string]struct{}, min(m.exports, maxItems))
	for range m.exports {
		start, name, kind := r.pos, r.name(), r.u8()
		index := r.u32()
		if r.err != nil {
			return
		}
		if reserved(name) && !sw.anyName {
			r.failf(start, "it exports %.64q; names that begin with %q are the meter's", name, ReservedPrefix)
			return
		}
		if _, twice := seen[name]; twice {
			r.failf(start, "it exports %.64q twice", name)
			return
		}
		seen[name] = struct{}{}
		counts := [kindCount]int{len(m.funcs), len(m.tables), m.memories, len(m.globals)}
		if int(kind) >= kindCount || uint64(index) >= uint64(counts[kind]) { //nolint:gosec // never negative
			r.failf(start, "it exports item %d of kind %d, which it has not", index, kind)
			return
		}
		if kind == kindFunction {
			m.declared[index] = true
		}
	}
}

func (m *module) parseStart(r *reader) {
	start := r.pos
	m.start = r.u32()
	if uint64(m.start) >= uint64(len(m.funcs)) {
		r.failf(start, "it starts with function %d of %d", m.start, len(m.funcs))
		return
	}
	if t := m.types[m.funcs[m.start]]; len(t.params)+len(t.results) > 0 {
		r.failf(start, "it starts with function %d, which has parameters or results", m.start)
	}
}

// constant reads a constant expression that yields the given type. Of an i32
// that the module itself tells, it returns the value.
func (m *module) constant(r *reader, want byte) (v uint32, known bool) {
	got := noValue
	for {
		start, op := r.pos, r.u8()
		if r.err != nil {
			return 0, false
		}
		if op == opEnd {
			if got != want {
				r.failf(start, "a constant expression of type %#x in place of %#x", got, want)
			}
			return v, known
		}
		if got != noValue {
			r.fail(start, errors.New("a constant expression with more than one operator"))
			return 0, false
		}
		if op == opI32Const {
			v, known = uint32(r.signed(32)), true //nolint:gosec // the bits are wanted
			got = i32
			continue
		}
		got = m.constantOperator(r, start, op)
	}
}

func (m *module) constantOperator(r *reader, start int, op byte) byte {
	switch op {
	case opI64Const:
		r.signed(64)
		return i64
	case opF32Const:
		r.take(4)
		return f32
	case opF64Const:
		r.take(8)
		return f64
	case prefixVector:
		if n := r.u32(); vectorial+n != opV128Const {
			r.failf(start, "operator 0xfd %d in a constant expression", n)
		}
		r.take(16)
		return v128
	case opRefNull:
		t := r.u8()
		if !isReference(t) {
			r.failf(start, "ref.null of type %#x", t)
		}
		return t
	case opRefFunc:
		if f := r.u32(); uint64(f) < uint64(len(m.funcs)) {
			m.declared[f] = true
		} else {
			r.failf(start, "function %d of %d in a constant expression", f, len(m.funcs))
		}
		return funcref
	case opGlobalGet:
		g := r.u32()
		// Only globals that stand before every expression have a value yet.
		if uint64(g) >= uint64(m.imported[kindGlobal]) || m.globals[g].mutable { //nolint:gosec // never negative
			r.failf(start, "global %d is not an imported constant, in a constant expression", g)
			return noValue
		}
		return m.globals[g].value
	default:
		r.failf(start, "operator %#x in a constant expression", op)
		return noValue
	}
}

// The bits of an element segment's kind.
const (
	elemNotActive   = 1
	elemExplicit    = 2 // names its table, or is declarative
	elemExpressions = 4
)

func (m *module) parseElement(r *reader) {
	start, kind := r.pos, r.u32()
	if kind > elemNotActive|elemExplicit|elemExpressions {
		r.failf(start, "an element segment of kind %d", kind)
		return
	}
	table, offset, known := uint32(0), uint32(0), false
	if kind&(elemNotActive|elemExplicit) == elemExplicit {
		table = r.u32()
	}
	if kind&elemNotActive == 0 {
		if uint64(table) >= uint64(len(m.tables)) {
			r.failf(start, "an element segment for table %d of %d", table, len(m.tables))
			return
		}
		offset, known = m.constant(r, i32)
	}
	value := funcref
	if kind&(elemNotActive|elemExplicit) != 0 {
		value = m.elementType(r, kind)
	}
	if kind&elemNotActive == 0 && r.err == nil && m.tables[table].elem != value {
		r.failf(start, "an element segment of type %#x for a table of type %#x", value, m.tables[table].elem)
	}
	n := r.count()
	// Engines differ in what they do about a segment that does not fit.
	if known && int(table) >= m.imported[kindTable] && uint64(offset)+uint64(n) > uint64(m.tables[table].min) { //nolint:gosec // never negative
		r.failf(start, "an element segment of %d from %d on does not fit table %d of %d", n, offset, table, m.tables[table].min)
	}
	for range n {
		if r.err != nil {
			return
		}
		if kind&elemExpressions != 0 {
			m.constant(r, value)
			continue
		}
		at, f := r.pos, r.u32()
		if uint64(f) >= uint64(len(m.funcs)) {
			r.failf(at, "an element segment names function %d of %d", f, len(m.funcs))
			return
		}
		m.declared[f] = true
	}
	m.elems = append(m.elems, elemSegment{value, uint32(n)}) //nolint:gosec // below the module's bytes
}

func (m *module) elementType(r *reader, kind uint32) byte {
	start, t := r.pos, r.u8()
	if kind&elemExpressions == 0 {
		if t != 0 && r.err == nil {
			r.failf(start, "an element segment of functions of kind %d", t)
		}
		return funcref
	}
	if !isReference(t) && r.err == nil {
		r.failf(start, "an element segment of type %#x", t)
	}
	return t
}

func (m *module) parseBodies(r *reader, sw switches) {
	n := r.count()
	m.bodies = make([]reader, 0, n)
	for i := range n {
		start, size := r.pos, r.u32()
		if size > FunctionMaxBytes && !sw.anySize {
			r.failf(start, "function %d has %d bytes; at most %d are allowed", m.imported[kindFunction]+i, size, FunctionMaxBytes)
		}
		m.bodies = append(m.bodies, r.sub(size))
		if r.err != nil {
			return
		}
	}
}

func (m *module) parseData(r *reader) {
	start, kind := r.pos, r.u32()
	switch kind {
	case 0:
	case 1:
	case 2:
		if i := r.u32(); i != 0 {
			r.failf(start, "a data segment for memory %d", i)
		}
	default:
		r.failf(start, "a data segment of kind %d", kind)
	}
	offset, known := uint32(0), false
	if kind != 1 {
		if m.memories == 0 {
			r.fail(start, errors.New("a data segment without a memory"))
		}
		offset, known = m.constant(r, i32)
	}
	n := r.u32()
	r.take(n)
	if known && m.imported[kindMemory] == 0 && uint64(offset)+uint64(n) > uint64(m.minPages)<<16 {
		r.failf(start, "a data segment of %d bytes from %d on does not fit the memory of %d pages", n, offset, m.minPages)
	}
	m.datas = append(m.datas, n)
}

// reserved tells whether a name is the meter's.
func reserved(name string) bool { return strings.HasPrefix(name, ReservedPrefix) }

// nameSection returns what is kept of the name sections: the names of the module
// and of its functions, of the first section in which they are well formed.
func (m *module) nameSection() []byte {
	for _, r := range m.names {
		kept := []byte("\x04name")
		last := -1
		for r.more() && r.err == nil {
			start := r.pos
			id := int(r.u8())
			part := r.sub(r.u32())
			if id <= last {
				r.fail(start, errName)
			}
			last = id
			switch id {
			case 0:
				part.name()
			case 1:
				m.functionNames(&part)
			default:
				continue
			}
			if part.more() {
				part.fail(part.pos, errName)
			}
			r.adopt(&part)
			kept = append(kept, m.b[start:r.pos]...)
		}
		if r.err == nil && len(kept) > len("\x04name") {
			return kept
		}
	}
	return nil
}

func (m *module) functionNames(r *reader) {
	next := uint64(0)
	for range r.count() {
		start, f := r.pos, r.u32()
		r.name()
		if uint64(f) < next || uint64(f) >= uint64(len(m.funcs)) {
			r.fail(start, errName)
			return
		}
		next = uint64(f) + 1
	}
}

// typeKey is a function type as it stands in a module.
func typeKey(t funcType) []byte {
	return bytes.Join([][]byte{
		{functional},
		binary.AppendUvarint(nil, uint64(len(t.params))), t.params,
		binary.AppendUvarint(nil, uint64(len(t.results))), t.results,
	}, nil)
}

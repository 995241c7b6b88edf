package meter

import (
	"encoding/binary"
	"fmt"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources/wasm/leb128"
)

// output collects what is added to a module.
type output struct {
	m       *module
	code    []byte // of the functions so far, without their number
	scratch []byte

	used, limit, stack, stop, next uint32 // the meter's globals

	added   []funcType // behind the guest's types
	typeIDs map[string]uint32

	helpers   []helper
	helperIDs map[string]uint32
	pauses    bool // some code calls the host's side of memory.grow
	sw        switches

	nodes, charges, checks, canonical int
}

// helper is a function of the meter's, behind the guest's functions.
type helper struct {
	typ  uint32
	body []byte
}

func newOutput(m *module, sw switches) *output {
	o := &output{m: m, sw: sw, typeIDs: make(map[string]uint32, len(m.types)), helperIDs: map[string]uint32{}}
	for i, t := range m.types {
		key := string(typeKey(t))
		if _, twice := o.typeIDs[key]; !twice {
			o.typeIDs[key] = uint32(i)
		}
	}
	g := uint32(len(m.globals)) //nolint:gosec // below the module's bytes
	o.used, o.limit, o.stack, o.stop, o.next = g, g+1, g+2, g+3, g+4
	return o
}

// typeIndex returns the index of a type, adding it if the guest has none like it.
func (o *output) typeIndex(t funcType) uint32 {
	key := string(typeKey(t))
	id, ok := o.typeIDs[key]
	if !ok {
		id = uint32(len(o.m.types) + len(o.added)) //nolint:gosec // maxItems and a few
		o.added = append(o.added, t)
		o.typeIDs[key] = id
	}
	return id
}

// typeOf returns a type as the type of a block.
func (o *output) typeOf(t funcType) []byte { return leb128.AppendSigned(nil, int64(o.typeIndex(t))) }

func (o *output) paramType(params []byte) []byte { return o.typeOf(funcType{params: params}) }

func (o *output) resultType(results []byte) []byte {
	switch len(results) {
	case 0:
		return []byte{noValue}
	case 1:
		return results
	default:
		return o.typeOf(funcType{results: results})
	}
}

// module returns the metered module.
func (o *output) module() ([]byte, error) {
	m := o.m
	b := append(make([]byte, 0, len(m.b)+len(o.code)), m.b[:8]...)
	for id := SectionType; id < sectionCount; id++ {
		at := id
		switch id { // the data count stands before the code
		case SectionCode:
			at = SectionDataCount
		case SectionData, SectionDataCount:
			at = id - 1
		default:
		}
		if body, there := o.section(at); there {
			b = append(b, byte(at))
			b = binary.AppendUvarint(b, uint64(len(body)))
			b = append(b, body...)
		}
	}
	if names := m.nameSection(); names != nil {
		b = append(b, SectionCustom)
		b = binary.AppendUvarint(b, uint64(len(names)))
		b = append(b, names...)
	}
	if len(b) > outputMaxBytes {
		return nil, fmt.Errorf("%w: metered it has %d bytes, at most %d are allowed; split it", mman.ErrModule, len(b), outputMaxBytes)
	}
	return b, nil
}

// section returns a section of the metered module.
func (o *output) section(id int) ([]byte, bool) {
	m := o.m
	switch id {
	case SectionType:
		items := make([]byte, 0, 64)
		for _, t := range o.added {
			items = append(items, typeKey(t)...)
		}
		return o.extended(id, len(m.types), len(o.added), items)
	case SectionFunction:
		var items []byte
		for _, h := range o.helpers {
			items = binary.AppendUvarint(items, uint64(h.typ))
		}
		return o.extended(id, len(m.bodies), len(o.helpers), items)
	case SectionTable:
		if !m.seen[id] {
			return nil, false
		}
		return o.tables(), true
	case SectionMemory:
		if m.memories == 0 && o.pauses {
			return []byte{1, 1, 0, 0}, true // of no page, only to be grown by none
		}
		if !m.seen[id] {
			return nil, false
		}
		return o.memory(), true
	case SectionGlobal:
		items := []byte{
			i64, 1, opI64Const, 0, opEnd, // used
			i64, 1, opI64Const, 0, opEnd, // limit
			i32, 1, opI32Const, 0, opEnd, // stack
			i32, 1, opI32Const, 0, opEnd, // stop
			i64, 1, opI64Const, 0, opEnd, // next
		}
		return o.extended(id, len(m.globals)-m.imported[kindGlobal], 5, items)
	case SectionExport:
		return o.exports()
	case SectionStart:
		s := m.section[id]
		return m.b[s.pos:s.end], m.seen[id] && o.sw.noStart
	case SectionCode:
		n := len(m.bodies) + len(o.helpers)
		body := binary.AppendUvarint(make([]byte, 0, len(o.code)+64), uint64(n))
		body = append(body, o.code...)
		for _, h := range o.helpers {
			body = binary.AppendUvarint(body, uint64(len(h.body)))
			body = append(body, h.body...)
		}
		return body, n > 0
	default:
		s := m.section[id]
		return m.b[s.pos:s.end], m.seen[id]
	}
}

// exports adds the meter's globals, and the start function, which a host calls when
// it has set the limit.
func (o *output) exports() ([]byte, bool) {
	var items []byte
	count := 0
	add := func(name string, kind byte, index uint32) {
		items = append(binary.AppendUvarint(items, uint64(len(name))), name...)
		items = binary.AppendUvarint(append(items, kind), uint64(index))
		count++
	}
	add(UsedGlobal, kindGlobal, o.used)
	add(LimitGlobal, kindGlobal, o.limit)
	add(StackGlobal, kindGlobal, o.stack)
	add(StopGlobal, kindGlobal, o.stop)
	add(NextGlobal, kindGlobal, o.next)
	if o.m.seen[SectionStart] && !o.sw.noStart {
		add(StartFunction, kindFunction, o.m.start)
	}
	return o.extended(SectionExport, o.m.exports, count, items)
}

// extended returns a section's items with more behind them.
func (o *output) extended(id, before, more int, items []byte) ([]byte, bool) {
	if !o.m.seen[id] && more == 0 {
		return nil, false
	}
	s := o.m.section[id]
	body := binary.AppendUvarint(nil, uint64(before+more)) //nolint:gosec // never negative
	if o.m.seen[id] {
		s.u32() // the number of the guest's items
		body = append(body, s.b[s.pos:s.end]...)
	}
	return append(body, items...), true
}

func (o *output) tables() []byte {
	own := o.m.tables[o.m.imported[kindTable]:]
	b := binary.AppendUvarint(nil, uint64(len(own)))
	for _, t := range own {
		b = append(b, t.elem, 1)
		b = binary.AppendUvarint(b, uint64(t.min))
		b = binary.AppendUvarint(b, uint64(t.max))
	}
	return b
}

func (o *output) memory() []byte {
	own := o.m.memories - o.m.imported[kindMemory]
	b := binary.AppendUvarint(nil, uint64(own)) //nolint:gosec // 0 or 1
	if own == 0 {
		return b
	}
	b = append(b, 1)
	b = binary.AppendUvarint(b, uint64(o.m.minPages))
	return binary.AppendUvarint(b, uint64(o.m.maxPages))
}

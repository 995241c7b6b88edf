package interpreter

import (
	"bytes"
	"encoding/binary"
	"fmt"

	quickjswasi "github.com/paralin/go-quickjs-wasi"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources/wasm/meter"
)

const (
	// pages is the memory that the published module starts with, and stackPages
	// the stack that QuickJS puts behind it.
	pages      = 3
	stackPages = 32
)

// QuickJS returns the interpreter of JavaScript, in memory of the caller's. It fails with
// mman.ErrModule only if the embedded file is not the one that it was written
// for.
func QuickJS() ([]byte, error) {
	published := quickjswasi.QuickJSWASM
	out := append([]byte{}, published[:8]...)
	for rest := published[8:]; len(rest) > 0; {
		id := rest[0]
		size, n := binary.Uvarint(rest[1:])
		if n <= 0 || size > uint64(len(rest[1+n:])) {
			return nil, fmt.Errorf("%w: quickjs: its sections are cut short", mman.ErrModule)
		}
		body := rest[1+n : 1+n+int(size)] //nolint:gosec // within the file
		rest = rest[1+n+len(body):]
		var err error
		switch id {
		case meter.SectionCustom:
			continue
		case meter.SectionMemory:
			// One memory without a maximum.
			body, err = replace(body, []byte{1, 0, pages}, []byte{1, 0, pages + stackPages})
		case meter.SectionGlobal:
			// The stack pointer, a mutable i32, is the first of two globals: 0x2f220
			// becomes the end of the memory, 35 pages or 0x230000, both in LEB128.
			body, err = replace(body,
				[]byte{2, 0x7f, 1, 0x41, 0xa0, 0xe4, 0x0b, 0x0b},
				[]byte{2, 0x7f, 1, 0x41, 0x80, 0x80, 0x8c, 0x01, 0x0b})
		}
		if err != nil {
			return nil, err
		}
		out = append(out, id)
		out = binary.AppendUvarint(out, uint64(len(body)))
		out = append(out, body...)
	}
	return out, nil
}

// replace changes how a section begins.
func replace(body, before, after []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(body, before)
	if !ok {
		return nil, fmt.Errorf("%w: quickjs: a section begins with %x where %x is due", mman.ErrModule, body[:min(len(body), len(before))], before)
	}
	return append(bytes.Clone(after), rest...), nil
}

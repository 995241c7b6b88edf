package resources

import (
	"fmt"
	"slices"
	"strings"

	mman "github.com/limboid/massive-man"
)

// Interpreter is the module that runs the scripts of a facet. It belongs to the
// facet: whoever knows a script and its facet knows what it does, and a policy
// that allows a script allows nothing else. A newer interpreter is a new facet.
type Interpreter struct {
	Facet Facet
	// Name says which it is, to people; Word is what they type.
	Name, Word string
	// Suffixes are the endings of the files that hold such scripts.
	Suffixes []string
	// Module is a WASI preview 1 command of Bytes bytes, named as a UnixFS file,
	// SHA256 the digest of its bytes.
	Module mman.CID
	SHA256 mman.Hash
	Bytes  uint64
}

// ScriptMaxBytes is the largest script that is run.
const ScriptMaxBytes = 4 << 20

// Interpreters returns the interpreters of all facets that have one.
func Interpreters() []Interpreter {
	return []Interpreter{
		{
			Facet: FacetJS, Name: "JavaScript (QuickJS-NG 0.11.0)", Word: "js", Suffixes: []string{".js", ".mjs"},
			Module: mman.NewCID(mman.CodecRaw, mman.Hash{
				0x6b, 0xe1, 0x83, 0x87, 0x1c, 0xa6, 0xb6, 0x60, 0x1d, 0xc9, 0x4e, 0xe3, 0xf3, 0x46, 0xdd, 0x35,
				0x33, 0x78, 0xc5, 0xef, 0x3f, 0x82, 0x91, 0xfc, 0xec, 0x72, 0x4a, 0x21, 0x6e, 0xa4, 0xf6, 0x2a,
			}),
			SHA256: mman.Hash{
				0x6b, 0xe1, 0x83, 0x87, 0x1c, 0xa6, 0xb6, 0x60, 0x1d, 0xc9, 0x4e, 0xe3, 0xf3, 0x46, 0xdd, 0x35,
				0x33, 0x78, 0xc5, 0xef, 0x3f, 0x82, 0x91, 0xfc, 0xec, 0x72, 0x4a, 0x21, 0x6e, 0xa4, 0xf6, 0x2a,
			},
			Bytes: 1_035_130,
		},
		{
			Facet: FacetPython, Name: "Python 3.12.0", Word: "python", Suffixes: []string{".py"},
			Module: mman.NewCID(mman.CodecDagPB, mman.Hash{
				0x08, 0x79, 0x51, 0x60, 0x68, 0x83, 0xfe, 0x17, 0xdb, 0x0e, 0x09, 0x79, 0x10, 0x42, 0x1b, 0xf4,
				0xc1, 0x09, 0xe8, 0xb1, 0xd7, 0x55, 0xae, 0x31, 0xf4, 0xcb, 0x92, 0xa1, 0x8f, 0x91, 0x39, 0x8d,
			}),
			SHA256: mman.Hash{
				0xe5, 0xdc, 0x5a, 0x39, 0x8b, 0x07, 0xb5, 0x4e, 0xa8, 0xfd, 0xb5, 0x03, 0xbf, 0x68, 0xfb, 0x58,
				0x3d, 0x53, 0x3f, 0x10, 0xec, 0x3f, 0x93, 0x09, 0x63, 0xe0, 0x2b, 0x95, 0x05, 0xf7, 0xa7, 0x63,
			},
			Bytes: 26_267_204,
		},
	}
}

// InterpreterOf returns what runs the algorithms of a facet; false for one whose
// algorithms are modules themselves.
func InterpreterOf(facet Facet) (Interpreter, bool) {
	for _, i := range Interpreters() {
		if i.Facet == facet {
			return i, true
		}
	}
	return Interpreter{}, false
}

// InterpreterAt returns the interpreter with a module.
func InterpreterAt(module mman.CID) (Interpreter, bool) {
	for _, i := range Interpreters() {
		if i.Module == module {
			return i, true
		}
	}
	return Interpreter{}, false
}

// FacetOfFile returns how an algorithm in a file is written, by the ending of
// its name: an image in .tar, and FacetWasm for every other ending that no
// interpreter has.
func FacetOfFile(name string) Facet {
	for _, i := range Interpreters() {
		if slices.ContainsFunc(i.Suffixes, func(s string) bool { return strings.HasSuffix(strings.ToLower(name), s) }) {
			return i.Facet
		}
	}
	if strings.HasSuffix(strings.ToLower(name), ".tar") {
		return FacetContainer
	}
	return FacetWasm
}

// Module returns the WebAssembly module that a task runs: its algorithm, or the
// interpreter of a script.
func (t Task) Module() mman.CID {
	if i, ok := InterpreterOf(t.Facet); ok {
		return i.Module
	}
	return t.Algorithm
}

// validFacet checks how the algorithm is written.
func (t Task) validFacet() error {
	if t.Facet != "" && !ValidFacet(KindAlgorithm, t.Facet) {
		return fmt.Errorf("%w: an algorithm of facet %.32q", mman.ErrUnsupported, t.Facet)
	}
	return nil
}

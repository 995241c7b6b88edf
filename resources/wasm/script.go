package wasm

import (
	_ "embed" // the file below
	"encoding/binary"
	"strconv"
	"strings"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// ScriptDir is where a script is mounted, read-only, for its interpreter.
const ScriptDir = "/script"

// Names in ScriptDir.
const (
	mainName    = "main"
	preludeName = "prelude.js"
)

// preludeJS runs before a script of JavaScript. It is a part of the facet: what
// it does must not change.
//
//go:embed prelude.js
var preludeJS string

// preludeSeed stands in preludeJS for four numbers.
const preludeSeed = "0, 0, 0, 0"

// language is how the scripts of a facet are run.
type language struct {
	suffix string
	// args is the interpreter's command line before the script's path.
	args []string
	// prelude says that the script needs preludeJS.
	prelude bool
}

func languageOf(facet resources.Facet) (language, bool) {
	switch facet {
	case resources.FacetWasm, resources.FacetFile, resources.FacetFolder, resources.FacetCheckpoint, resources.FacetHTTP, resources.FacetContainer:
		return language{}, false
	case resources.FacetJS:
		return language{suffix: ".js", args: []string{"qjs", "--std", "-I", ScriptDir + "/" + preludeName}, prelude: true}, true
	case resources.FacetPython:
		// Isolated from the environment, without compiled files beside the
		// modules, all text in UTF-8.
		return language{suffix: ".py", args: []string{"python", "-I", "-B", "-X", "utf8"}}, true
	default:
		return language{}, false
	}
}

// arguments returns the command line that the guest sees.
func (p *preparedTask) arguments() []string {
	l, ok := languageOf(p.task.Facet)
	if !ok {
		return append([]string{ProgramName}, p.task.Args...)
	}
	args := append(l.args, ScriptDir+"/"+mainName+l.suffix)
	return append(args, p.task.Args...)
}

// mountScript puts a script where its interpreter looks for it.
func (r *run) mountScript(p *preparedTask) {
	l, ok := languageOf(p.task.Facet)
	if !ok {
		return
	}
	r.script = &source{id: p.task.Algorithm, size: p.scriptSize}
	dir := newFolder(inodeScript, nil)
	dir.add(mainName+l.suffix, newContent(inodeScript+1, r.script))
	if l.prelude {
		dir.add(preludeName, newText(inodeScript+2, prelude(p.task.Seed)))
	}
	r.mount(ScriptDir, dir)
}

// prelude returns the prelude for a seed: QuickJS has no randomness of its own
// on WASI and would give every run the same numbers.
func prelude(seed mman.Hash) []byte {
	key := mman.Sum256([]byte("mman/wasm/js/1\x00"), seed[:])
	words := make([]string, 4)
	for i := range words {
		words[i] = strconv.FormatUint(uint64(binary.LittleEndian.Uint32(key[4*i:])), 10)
	}
	return []byte(strings.Replace(preludeJS, preludeSeed, strings.Join(words, ", "), 1))
}

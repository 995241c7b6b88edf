package wasm_test

import (
	"bytes"
	"context"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/folder"
	"github.com/limboid/massive-man/resources/resourcestest"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/interpreter"
)

// scripts runs scripts of one facet on one executor.
type scripts struct {
	executor    *wasm.Executor
	interpreter resources.Interpreter
	module      []byte
}

func newScripts(t *testing.T) scripts {
	t.Helper()
	module, err := interpreter.QuickJS()
	require.NoError(t, err)
	js, ok := resources.InterpreterOf(resources.FacetJS)
	require.True(t, ok)
	return scripts{newExecutor(t), js, module}
}

// modules opens an interpreter too, whose CID is that of a file of many blocks.
type modules struct {
	*resourcestest.Content

	module, raw mman.CID
}

func (m modules) Open(ctx context.Context, id mman.CID) (resources.Blob, error) {
	if id == m.module {
		id = m.raw
	}
	return m.Content.Open(ctx, id)
}

// ended is how a script ended.
type ended struct {
	stdout, stderr string
	result         resources.Result
	err            error
}

func (s scripts) task(script string, change func(*resources.Task, *resourcestest.Content)) resources.Task {
	content := &resourcestest.Content{}
	task := resources.Task{Algorithm: content.Add([]byte(script)), Facet: s.interpreter.Facet, Limits: resources.DefaultLimits(), Content: modules{content, s.interpreter.Module, content.Add(s.module)}}
	if change != nil {
		change(&task, content)
	}
	return task
}

func (s scripts) run(t *testing.T, script string, change func(*resources.Task, *resourcestest.Content)) ended {
	t.Helper()
	task := s.task(script, change)
	prepared, err := s.executor.Prepare(t.Context(), task)
	require.NoError(t, err)
	var stdout, stderr bytes.Buffer
	result, err := s.executor.Run(t.Context(), prepared, resources.IO{Stdout: &stdout, Stderr: &stderr})
	require.NoError(t, prepared.Close())
	return ended{stdout.String(), stderr.String(), result, err}
}

func TestScriptsReadAndWrite(t *testing.T) {
	t.Parallel()
	s := newScripts(t)
	got := s.run(t, `
		console.log(scriptArgs.join("|"), std.in.readAsString().toUpperCase());
		console.log(std.loadFile("/data/0") + std.loadFile("/data/1"), os.readdir("/data")[0].sort().join());
		const f = std.open("/tmp/note", "w");
		f.puts("kept for now");
		f.close();
		console.log(std.loadFile("/tmp/note"), new Date().toISOString());
		std.err.puts("a word to the wise\n");
		std.exit(3);`,
		func(task *resources.Task, content *resourcestest.Content) {
			task.Args = []string{"--column", "é x"}
			task.Stdin = content.Add([]byte("input"))
			task.Inputs = []mman.CID{content.Add([]byte("first")), content.Add([]byte("second"))}
		})
	require.NoError(t, got.err)
	require.Equal(t, "/script/main.js|--column|é x INPUT\nfirstsecond .,..,0,1\nkept for now 2025-01-01T00:00:00.000Z\n", got.stdout)
	require.Equal(t, "a word to the wise\n", got.stderr)
	require.EqualValues(t, 3, got.result.ExitCode)
	require.EqualValues(t, len("input")+len("first")+len("second"), got.result.Usage.InBytes, "neither the script nor its interpreter")
}

// TestFolderInput: a folder among the inputs is one to the guest, and nobody writes to it.
func TestFolderInput(t *testing.T) {
	t.Parallel()
	s := newScripts(t)
	var pack bytes.Buffer
	require.NoError(t, folder.Pack(t.Context(), fstest.MapFS{
		"a.txt": {Data: []byte("first")}, "deep/er/b.txt": {Data: []byte("second")}, "empty": {Mode: fs.ModeDir},
	}, &pack))
	mounted := func(b []byte) func(task *resources.Task, content *resourcestest.Content) {
		return func(task *resources.Task, content *resourcestest.Content) {
			task.Inputs = []mman.CID{content.Add([]byte("a file")), content.Add(b)}
			task.Folders = []bool{false, true}
		}
	}
	got := s.run(t, `
		const names = (p) => os.readdir(p)[0].sort().join();
		console.log(std.loadFile("/data/0"), names("/data/1"), names("/data/1/empty"), std.loadFile("/data/1/deep/er/b.txt"), std.loadFile("/data/1/deep/../a.txt"));
		console.log(os.stat("/data/1/deep")[0].mode & os.S_IFMT);
		console.log(std.open("/data/1/a.txt", "w") === null && std.open("/data/1/new", "w") === null);
		const f = std.open("/data/1/deep/er/b.txt", "r");
		f.seek(3, std.SEEK_SET);
		console.log(f.readAsString());`, mounted(pack.Bytes()))
	require.NoError(t, got.err, got.stderr)
	require.Equal(t, "a file .,..,a.txt,deep,empty .,.. second first\n16384\ntrue\nond\n", got.stdout)
	require.EqualValues(t, pack.Len()+len("a file"), got.result.Usage.InBytes)

	_, err := s.executor.Prepare(t.Context(), s.task(`console.log(1)`, mounted(bytes.Repeat([]byte("no pack"), 100))))
	require.ErrorIs(t, err, mman.ErrContent)
}

func TestScriptsSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := newScripts(t)
	for name, c := range map[string]struct{ script, says string }{
		"syntax":    {"let x = ;", "SyntaxError: unexpected token in expression: ';'\n    at /script/main.js:1:1\n"},
		"exception": {"null.x", "TypeError: cannot read property 'x' of null\n    at <anonymous> (/script/main.js:1:1)\n"},
		"promise":   {"Promise.reject(new Error('no'))", "Error: no\n    at <anonymous> (/script/main.js:1:19)\n"},
		"module":    {"import 'there-is-none'", "ReferenceError: could not load module filename 'there-is-none'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := s.run(t, c.script, nil)
			require.NoError(t, got.err)
			require.EqualValues(t, 1, got.result.ExitCode)
			require.Contains(t, got.stderr, c.says)
		})
	}
}

func TestScriptsAreDeterministic(t *testing.T) {
	t.Parallel()
	const script = `
		import * as std from "qjs:std";
		const words = std.in.readAsString().split(/\s+/);
		const sample = words.filter(() => Math.random() < 0.5).sort();
		console.log(JSON.stringify({ sample, now: Date.now(), r: Math.random(), set: [...new Set(words)] }));`
	seeded := func(seed mman.Hash) func(*resources.Task, *resourcestest.Content) {
		return func(task *resources.Task, content *resourcestest.Content) {
			task.Seed, task.Stdin = seed, content.Add([]byte(strings.Repeat("the quick brown fox ", 50)))
		}
	}
	s := newScripts(t)
	first := s.run(t, script, seeded(mman.Hash{1}))
	require.NoError(t, first.err)
	again := newScripts(t).run(t, script, seeded(mman.Hash{1}))
	require.Equal(t, first.stdout, again.stdout)
	require.Equal(t, first.result.Usage.Fuel, again.result.Usage.Fuel)
	other := s.run(t, script, seeded(mman.Hash{2}))
	require.NotEqual(t, first.stdout, other.stdout, "the seed is the randomness")
}

// TestRandomNumbersAreUniform: what Math.random gives is in range and evenly
// spread, and looks like the one that it replaces.
func TestRandomNumbersAreUniform(t *testing.T) {
	t.Parallel()
	got := newScripts(t).run(t, `
		const bins = new Array(16).fill(0);
		let sum = 0;
		for (let i = 0; i < 100000; i++) {
			const r = Math.random();
			if (!(r >= 0 && r < 1)) throw new Error(r);
			bins[Math.floor(r * 16)]++;
			sum += r;
		}
		if (Math.min(...bins) < 6000 || Math.max(...bins) > 6500 || Math.abs(sum / 100000 - 0.5) > 0.01) throw new Error(bins.join());
		const d = Object.getOwnPropertyDescriptor(Math, "random");
		console.log(Math.random.name, Math.random.length, d.writable, d.enumerable, d.configurable);`, nil)
	require.NoError(t, got.err)
	require.Empty(t, got.stderr)
	require.Equal(t, "random 0 true false true\n", got.stdout)
}

// TestDeepScripts: what the stack has room for is right, beside a heap of some
// size, and what it has no room for ends the run and says so.
func TestDeepScripts(t *testing.T) {
	t.Parallel()
	s := newScripts(t)
	got := s.run(t, `
		const kept = [];
		for (let i = 0; i < 20000; i++) kept.push({ i, text: "text " + i });
		const depth = (n) => (n === 0 ? 0 : 1 + depth(n - 1));
		for (let i = 0; i < 20; i++) {
			if (depth(800) !== 800) throw new Error("depth");
			kept.push(...new Array(500).fill().map((_, j) => ({ i: 20000 + 500 * i + j, text: "text " + (20000 + 500 * i + j) })));
		}
		console.log(kept.every((o, i) => o.i === i && o.text === "text " + i), kept.length);`, nil)
	require.NoError(t, got.err)
	require.Equal(t, "true 30000\n", got.stdout)
	got = s.run(t, `const depth = (n) => (n === 0 ? 0 : 1 + depth(n - 1)); console.log(depth(100000));`, nil)
	require.ErrorIs(t, got.err, mman.ErrGuestTrap)
	require.ErrorContains(t, got.err, "words of stack")
}

func TestScriptsAreRefused(t *testing.T) {
	t.Parallel()
	e := newExecutor(t)
	content := &resourcestest.Content{}
	task := resources.Task{Algorithm: content.Add([]byte("1")), Facet: resources.FacetPython, Limits: resources.DefaultLimits(), Content: content}
	_, err := e.Prepare(t.Context(), task)
	require.ErrorIs(t, err, mman.ErrNotFound)
	require.ErrorContains(t, err, "Python 3.12.0")
	task.Facet = resources.FacetFile
	_, err = e.Prepare(t.Context(), task)
	require.ErrorIs(t, err, mman.ErrUnsupported)
	task.Facet, task.Algorithm = resources.FacetJS, content.Add(make([]byte, resources.ScriptMaxBytes+1))
	_, err = e.Prepare(t.Context(), task)
	require.ErrorIs(t, err, mman.ErrTooLarge)
}

package examples_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/resourcestest"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/interpreter"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
)

// filesScript makes some thousand random calls on files and prints what each
// answered.
const filesScript = `
	const paths = ["/tmp", "/data", "/script"];
	const names = ["a", "b", "c", "a/b", "a/b/c", "b/c", ".", "..", "a/..", "a/../b", "./c", "x y", "ü", "a/", "0", "1", "main.js", ""];
	const pick = (list) => list[Math.floor(Math.random() * list.length)];
	const path = () => (Math.random() < 0.7 ? paths[0] : pick(paths)) + "/" + pick(names);
	const size = () => Math.floor(Math.random() ** 4 * 30000);
	const open = [];
	const buffer = new Uint8Array(30000).map((_, i) => i * 7);
	const flags = () => pick([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
		os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_WRONLY | os.O_CREAT | os.O_APPEND]);
	const calls = {
		mkdir: () => os.mkdir(path()),
		remove: () => os.remove(path()),
		rename: () => os.rename(path(), path()),
		readdir: () => os.readdir(path()),
		stat: () => os.stat(path()),
		utimes: () => os.utimes(path(), size() * 1000, size() * 1000),
		open: () => { const fd = os.open(path(), flags()); if (fd >= 0) open.push(fd); return fd; },
		close: () => os.close(open.splice(Math.floor(Math.random() * open.length), 1)[0] ?? 99),
		seek: () => os.seek(pick(open) ?? 1, size() - 100, pick([0, 1, 2])),
		read: () => { const b = new Uint8Array(size()); const n = os.read(pick(open) ?? 1, b.buffer, 0, b.length); return [n, b.reduce((s, x) => (s * 31 + x) | 0, 0)]; },
		write: () => os.write(pick(open) ?? 0, buffer.buffer, 0, size()),
		tell: () => os.seek(pick(open) ?? 0, 0, 1),
	};
	for (let i = 0; i < 3000; i++) {
		const name = pick(Object.keys(calls));
		let answer;
		try { answer = calls[name](); } catch (e) { answer = String(e); }
		console.log(i, name, JSON.stringify(answer));
	}`

// program is a run that two engines do.
type program struct {
	module  []byte // nil for a script of JavaScript
	script  string
	stdin   []byte
	inputs  [][]byte
	args    []string
	change  func(*resources.Limits)
	code    mman.Code
	prints  string
	minimum uint64 // of fuel
}

func programs() map[string]program {
	book := bytes.Repeat([]byte("It was the best of times, it was the worst of times\n"), 500)
	return map[string]program{
		"Go, data":     {module: examples.StatsModule(), inputs: [][]byte{examples.Penguins()}, args: []string{"--seed", "3"}, prints: "Gentoo", minimum: 1 << 20},
		"Go, input":    {module: examples.WordcountModule(), stdin: examples.Book(), prints: "top 9825 the", minimum: 1 << 20},
		"Go, failure":  {module: examples.StatsModule(), inputs: [][]byte{[]byte("a,b\n1\n")}},
		"by hand":      {module: wasmtest.Print("a text"), prints: "a text"},
		"clock, dice":  {module: wasmtest.ClockRandom()},
		"arguments":    {module: wasmtest.Args(), args: []string{"one", "é"}, prints: "é"},
		"a trap":       {module: wasmtest.Trap(), code: mman.ErrGuestTrap.Code},
		"an exit":      {module: wasmtest.Exit(17)},
		"a loop":       {module: wasmtest.LoopForever(), code: mman.ErrFuel.Code, change: func(l *resources.Limits) { l.Fuel = 1 << 24 }},
		"a flood":      {module: wasmtest.PrintForever(), code: mman.ErrOutput.Code, change: func(l *resources.Limits) { l.OutputBytes = 100_001 }},
		"JavaScript":   {script: `console.log(std.in.readAsString().match(/best/g).length, Math.random(), new Date().toISOString(), scriptArgs[1])`, stdin: book, args: []string{"x"}, prints: "500 0."},
		"an exception": {script: `console.log("before"); null.x`, prints: "before"},
		"recursion":    {script: `const f = (n) => (n ? 1 + f(n - 1) : 0); console.log(f(400))`, prints: "400"},
		"files":        {script: filesScript, inputs: [][]byte{book, []byte("x")}, prints: "2999 "},
	}
}

// TestTwoEnginesGiveOneAnswer: what the executor did on wazero, Node.js does
// again with its own WebAssembly and a host of its own, from what Export wrote:
// the same output, exit code and fuel.
func TestTwoEnginesGiveOneAnswer(t *testing.T) {
	t.Parallel()
	node := wasmtest.Node(t)
	executor := newExecutor(t)
	quickjs, err := interpreter.QuickJS()
	require.NoError(t, err)
	for name, p := range programs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			content := &resourcestest.Content{}
			content.Add(quickjs)
			task := resources.Task{Args: p.args, Seed: mman.Sum256([]byte(name)), Limits: resources.DefaultLimits(), Content: content}
			if task.Algorithm = content.Add(p.module); p.module == nil {
				task.Facet, task.Algorithm = resources.FacetJS, content.Add([]byte(p.script))
			}
			if p.stdin != nil {
				task.Stdin = content.Add(p.stdin)
			}
			for _, in := range p.inputs {
				task.Inputs = append(task.Inputs, content.Add(in))
			}
			if p.change != nil {
				p.change(&task.Limits)
			}
			ending, stdout := done(t, executor, task)
			require.Equal(t, p.code, ending.Code)
			require.Contains(t, stdout, p.prints)
			require.Greater(t, ending.Fuel, p.minimum)

			dir := filepath.Join(t.TempDir(), "run")
			require.NoError(t, wasm.Export(t.Context(), task, ending, dir))
			require.ErrorIs(t, wasm.Export(t.Context(), task, ending, dir), mman.ErrInvalid, "it is there already")
			out, errs, err := replayed(t, node, dir)
			require.NoError(t, err, errs)
			require.Equal(t, stdout, out)
			require.Contains(t, errs, "Equal: ")

			if name != "by hand" {
				return
			}
			ending.Fuel++
			require.NoError(t, os.RemoveAll(dir))
			require.NoError(t, wasm.Export(t.Context(), task, ending, dir))
			_, errs, err = replayed(t, node, dir)
			require.Error(t, err, "a wrong bill is seen")
			require.Contains(t, errs, "fuel: paid for ")
		})
	}
}

// done runs a task and says how it ended, as a receipt would.
func done(t *testing.T, executor *wasm.Executor, task resources.Task) (wasm.Ending, string) {
	t.Helper()
	prepared, err := executor.Prepare(t.Context(), task)
	require.NoError(t, err)
	var stdout bytes.Buffer
	result, err := executor.Run(t.Context(), prepared, resources.IO{Stdout: &stdout})
	ending := wasm.Ending{
		ExitCode: result.ExitCode, Fuel: result.Usage.Fuel, OutBytes: result.Usage.OutBytes,
		StdoutBytes: uint64(stdout.Len()), StdoutSHA256: mman.Sum256(stdout.Bytes()),
	}
	if stop, ok := errors.AsType[*mman.Error](err); ok {
		ending.Code, err = stop.Code, nil
	}
	require.NoError(t, err)
	return ending, stdout.String()
}

func replayed(t *testing.T, node, dir string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), node, filepath.Join("replay", "replay.mjs"), dir)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

package engines_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bytecodealliance/wasmtime-go/v39"
	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/resourcestest"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/interpreter"
	"github.com/limboid/massive-man/resources/wasm/meter"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
)

// program is a WASI command with what it is given.
type program struct {
	*compiled

	args  []string
	stdin []byte
	// processor says that what it writes is this processor's unless it is metered.
	processor bool
}

// compiled is a module, compiled once for all programs in it.
type compiled struct {
	module   []byte // as it was written
	file     string // the same
	wazero   wazero.CompiledModule
	wasmtime *wasmtime.Module
	metered  *wasmtime.Module
}

// engines compile programs. The one of Node.js does that in each of its processes.
type engines struct {
	wazero   wazero.Runtime
	wasmtime *wasmtime.Engine
}

func newEngines(t *testing.T) engines {
	t.Helper()
	ctx := t.Context()
	e := engines{wazero.NewRuntime(ctx), wasmtime.NewEngine()}
	t.Cleanup(e.wasmtime.Close)
	t.Cleanup(func() { require.NoError(t, e.wazero.Close(context.WithoutCancel(ctx))) })
	wasi_snapshot_preview1.MustInstantiate(ctx, e.wazero)
	return e
}

func (e engines) compile(t *testing.T, module []byte) *compiled {
	t.Helper()
	b := &compiled{module: module, file: filepath.Join(t.TempDir(), "module.wasm")}
	require.NoError(t, os.WriteFile(b.file, module, 0o600))
	m, err := meter.Instrument(module, meter.Options{})
	require.NoError(t, err)
	b.wazero, err = e.wazero.CompileModule(t.Context(), module)
	require.NoError(t, err)
	b.wasmtime, err = wasmtime.NewModule(e.wasmtime, module)
	require.NoError(t, err)
	t.Cleanup(b.wasmtime.Close)
	b.metered, err = wasmtime.NewModule(e.wasmtime, m.Module)
	require.NoError(t, err)
	t.Cleanup(b.metered.Close)
	return b
}

// output runs a command and returns its standard output.
func output(t *testing.T, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	require.NoError(t, err, "%s", &errs)
	return out
}

// database compiles SQLite with a shell around it, in one thread and without files.
func database(t *testing.T, dir string) []byte {
	t.Helper()
	clang, err := exec.LookPath("clang")
	if err != nil {
		t.Skip("clang with wasi-libc is needed: on Debian, apt-get install clang lld wasi-libc libclang-rt-14-dev-wasm32")
	}
	source := strings.TrimSpace(string(output(t, nil, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/mattn/go-sqlite3")))
	path := filepath.Join(dir, "sqlite.wasm")
	output(t, nil, clang, "--target=wasm32-wasi", "-O1", "-DSQLITE_OS_OTHER=1", "-DSQLITE_THREADSAFE=0", "-DSQLITE_TEMP_STORE=3",
		"-DSQLITE_OMIT_LOAD_EXTENSION", "-DSQLITE_OMIT_WAL", "-I", source,
		"-o", path, filepath.Join("testdata", "sqlite.c"), filepath.Join(source, "sqlite3-binding.c"))
	return read(t, path)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

// programs are all that are compared: in Go, SQLite, and QuickJS with a script.
func programs(t *testing.T, e engines) map[string]program {
	t.Helper()
	dir := t.TempDir()
	text := examples.Book()[:50_000]
	all := map[string]program{
		"sqlite":    {compiled: e.compile(t, database(t, dir)), stdin: read(t, filepath.Join("testdata", "sqlite.sql"))},
		"wordcount": {compiled: e.compile(t, examples.WordcountModule()), stdin: text},
	}
	many := program{compiled: e.compile(t, wasmtest.Build(t, "../testdata/programs")), stdin: text}
	for name := range strings.FieldsSeq(string(many.plainOnNode(t))) {
		one := many
		one.args, one.processor = []string{name}, name == "nan"
		all[name] = one
	}
	quickjs, err := interpreter.QuickJS()
	require.NoError(t, err)
	all["quickjs"] = program{compiled: e.compile(t, quickjs), args: []string{"--std", "-e", `
		const count = new Map();
		for (const [w] of std.in.readAsString().matchAll(/\p{L}+/gu)) count.set(w, (count.get(w) ?? 0) + 1);
		const top = [...count].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1)).slice(0, 20);
		console.log(JSON.stringify(top), 2n ** 200n, Math.hypot(...top.map(([, n]) => n / 7)));`}, stdin: text}
	return all
}

// TestProgramsOnThreeEngines: what real programs write does not change when they
// are metered, nor with the engine, and metered they cost the same fuel.
func TestProgramsOnThreeEngines(t *testing.T) {
	t.Parallel()
	world := newEngines(t)
	all := programs(t, world)
	require.GreaterOrEqual(t, len(all), 20, "with those of TestKernelsOnThreeEngines there are more")
	e, err := wasm.New(wasm.Config{Clock: time.Now})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	for name, p := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, fuel, dir := p.onWazero(t, e)
			t.Logf("%d bytes of output, %d units of fuel", len(stdout), fuel)
			require.NotEmpty(t, stdout)
			require.Equal(t, stdout, output(t, nil, wasmtest.Node(t), filepath.Join("..", "..", "..", "examples", "replay", "replay.mjs"), dir), "node, metered")
			out, used := p.onWasmtime(t, world.wasmtime)
			require.Equal(t, stdout, out, "wasmtime, metered")
			require.Equal(t, fuel, used, "wasmtime, metered")
			if p.processor {
				return
			}
			require.Equal(t, stdout, p.plainOnWazero(t, world.wazero), "wazero, as it was written")
			require.Equal(t, stdout, p.plainOnNode(t), "node, as it was written")
			require.Equal(t, stdout, p.plainOnWasmtime(t, world.wasmtime), "wasmtime, as it was written")
		})
	}
}

// onWazero runs a program as the node does, metered. The folder has what another
// engine needs to do it again, and what it must come to.
func (p program) onWazero(t *testing.T, e *wasm.Executor) (stdout []byte, fuel uint64, dir string) {
	t.Helper()
	content := &resourcestest.Content{}
	task := resources.Task{Algorithm: content.Add(p.module), Args: p.args, Stdin: content.Add(p.stdin), Limits: resources.DefaultLimits(), Content: content}
	prepared, err := e.Prepare(t.Context(), task)
	require.NoError(t, err)
	var out, errs bytes.Buffer
	result, err := e.Run(t.Context(), prepared, resources.IO{Stdout: &out, Stderr: &errs})
	require.NoError(t, err, "%s", &errs)
	require.Zero(t, result.ExitCode, "%s", &errs)
	dir = t.TempDir()
	require.NoError(t, wasm.Export(t.Context(), task, wasm.Ending{
		Fuel: result.Usage.Fuel, StdoutBytes: uint64(out.Len()), StdoutSHA256: mman.Sum256(out.Bytes()), OutBytes: result.Usage.OutBytes,
	}, dir))
	return out.Bytes(), result.Usage.Fuel, dir
}

// plainOnWazero runs a program as it was written, with the engine's own WASI; so do
// the two others.
func (p program) plainOnWazero(t *testing.T, runtime wazero.Runtime) []byte {
	t.Helper()
	var out bytes.Buffer
	_, err := runtime.InstantiateModule(t.Context(), p.wazero, wazero.NewModuleConfig().WithName("").
		WithStdin(bytes.NewReader(p.stdin)).WithStdout(&out).WithArgs(append([]string{wasm.ProgramName}, p.args...)...))
	if err != nil { // a Go program ends by proc_exit
		require.ErrorContains(t, err, "exit_code(0)")
	}
	return out.Bytes()
}

func (p program) plainOnNode(t *testing.T) []byte {
	t.Helper()
	return output(t, p.stdin, wasmtest.Node(t), append([]string{filepath.Join("testdata", "plain.mjs"), p.file}, p.args...)...)
}

// kernelsOnNode runs the kernels of a module and returns their checksums, and the
// fuel that was used after each.
func kernelsOnNode(t *testing.T, module []byte, rounds map[string]uint32, order []string) (checksums, fuel map[string]uint64) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kernels.wasm")
	require.NoError(t, os.WriteFile(file, module, 0o600))
	args := []string{filepath.Join("..", "meter", "testdata", "kernels.mjs"), file}
	for _, name := range order {
		args = append(args, fmt.Sprintf("%s=%d", name, rounds[name]))
	}
	checksums, fuel = map[string]uint64{}, map[string]uint64{}
	for d := json.NewDecoder(bytes.NewReader(output(t, nil, wasmtest.Node(t), args...))); d.More(); {
		var line struct {
			Name     string `json:"name"`
			Checksum uint64 `json:"checksum"`
			Fuel     uint64 `json:"fuel"`
		}
		require.NoError(t, d.Decode(&line))
		checksums[line.Name], fuel[line.Name] = line.Checksum, line.Fuel
	}
	return checksums, fuel
}

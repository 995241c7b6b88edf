package wasm_test

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/resourcestest"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
)

// plain runs a program as it is, with the engine's own WASI.
func plain(t *testing.T, runtime wazero.Runtime, module wazero.CompiledModule, stdin []byte, args ...string) string {
	t.Helper()
	var stdout bytes.Buffer
	m, err := runtime.InstantiateModule(t.Context(), module, wazero.NewModuleConfig().WithName("").WithStartFunctions().
		WithStdin(bytes.NewReader(stdin)).WithStdout(&stdout).WithArgs(append([]string{wasm.ProgramName}, args...)...))
	require.NoError(t, err)
	_, err = m.ExportedFunction("_start").Call(t.Context())
	require.ErrorContains(t, err, "exit_code(0)", "a Go program ends by proc_exit")
	require.NoError(t, m.Close(t.Context()))
	return stdout.String()
}

// TestProgramsOnEveryEngine: what programs write does not change when they are
// metered, and on Node.js they write the same for the same fuel.
func TestProgramsOnEveryEngine(t *testing.T) {
	t.Parallel()
	node := wasmtest.Node(t)
	module := wasmtest.Build(t, "./testdata/programs")
	ctx := t.Context()
	runtime := wazero.NewRuntime(ctx)
	t.Cleanup(func() { require.NoError(t, runtime.Close(context.WithoutCancel(ctx))) })
	wasi_snapshot_preview1.MustInstantiate(ctx, runtime)
	compiled, err := runtime.CompileModule(ctx, module)
	require.NoError(t, err)
	e := newExecutor(t)
	content := &resourcestest.Content{}
	text := examples.Book()[:50_000]
	task := resources.Task{Algorithm: content.Add(module), Stdin: content.Add(text), Limits: resources.DefaultLimits(), Content: content}
	for _, name := range []string{
		"sort", "hash", "compress", "json", "matrix", "fourier", "regex", "template",
		"compiler", "bignum", "image", "graph", "crypto", "encodings", "goroutines", "index", "nan",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task := task
			task.Args = []string{name}
			stdout, result, err := run(t, e, task)
			require.NoError(t, err)
			require.Zero(t, result.ExitCode)
			require.NotEmpty(t, stdout)
			if name != "nan" { // its bits are this processor's if it is not metered
				require.Equal(t, plain(t, runtime, compiled, text, name), stdout)
			}

			dir := t.TempDir()
			require.NoError(t, wasm.Export(t.Context(), task, wasm.Ending{
				Fuel: result.Usage.Fuel, StdoutBytes: uint64(len(stdout)), StdoutSHA256: mman.Sum256([]byte(stdout)), OutBytes: result.Usage.OutBytes,
			}, dir))
			out, err := exec.CommandContext(t.Context(), node, filepath.Join("..", "..", "examples", "replay", "replay.mjs"), dir).CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.Contains(t, string(out), "Equal: ")
			t.Logf("%d units of fuel", result.Usage.Fuel)
		})
	}
}

package wasm_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/resourcestest"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
)

// newLargeTask counts words with a module that takes long to compile.
func newLargeTask() resources.Task {
	content := &resourcestest.Content{}
	task := resources.Task{Algorithm: content.Add(examples.WordcountModule()), Stdin: content.Add([]byte("a b a")), Limits: resources.DefaultLimits(), Content: content}
	task.Limits.WallMs = resources.MaxLimits().WallMs
	return task
}

// TestCompileApart: a large module is compiled elsewhere, once; whatever goes wrong
// there, it runs.
func TestCompileApart(t *testing.T) {
	t.Parallel()
	large := newLargeTask()
	small, _ := newTask(wasmtest.Print("hello"))
	for name, elsewhere := range map[string]func(ctx context.Context, folder string, module []byte) error{
		"well": func(ctx context.Context, folder string, module []byte) error {
			return wasm.CompileInto(ctx, folder, bytes.NewReader(module))
		},
		"a crash": func(_ context.Context, folder string, _ []byte) error {
			require.NoError(t, os.MkdirAll(folder, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(folder, "half"), []byte("half"), 0o600))
			return errors.New("signal: segmentation fault")
		},
		"nothing": func(context.Context, string, []byte) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "cache")
			calls := 0
			config := func(c *wasm.Config) {
				c.CacheDir = dir
				c.Compile = func(ctx context.Context, folder string, module []byte) error {
					calls++
					require.Equal(t, filepath.Join(dir, large.Algorithm.String()), folder)
					return elsewhere(ctx, folder, module)
				}
			}
			for range 2 {
				e := newExecutor(t, config)
				stdout, _, err := run(t, e, large)
				require.NoError(t, err)
				require.Contains(t, stdout, "top 2 a")
				stdout, _, err = run(t, e, small)
				require.NoError(t, err)
				require.Equal(t, "hello", stdout)
			}
			require.Equal(t, 1, calls, "a small module is not worth it, and one in the folder needs no compiler")
			require.Len(t, cacheFiles(t, filepath.Join(dir, large.Algorithm.String())), 2, "the machine code and the sums")
		})
	}
	require.ErrorIs(t, wasm.CompileInto(t.Context(), t.TempDir(), bytes.NewReader([]byte("no module"))), mman.ErrModule)
}

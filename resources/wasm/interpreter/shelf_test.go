package interpreter_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/wasm/interpreter"
)

func TestEmbeddedInterpreterIsTheOneOfItsFacet(t *testing.T) {
	t.Parallel()
	js, ok := resources.InterpreterOf(resources.FacetJS)
	require.True(t, ok)
	b, err := interpreter.NewShelf("").Open(js.Module)
	require.NoError(t, err)
	require.Equal(t, js.Bytes, b.Size())
	module, err := io.ReadAll(b)
	require.NoError(t, err)
	require.NoError(t, b.Close())
	require.Len(t, module, int(js.Bytes))
	require.Equal(t, js.SHA256, mman.Sum256(module))
	require.Equal(t, js.Module, mman.SumCID(mman.CodecRaw, module), "a file of one block")
}

// TestShelfTakesOnlyWhatItKnows: nothing else is kept, and what is damaged is as
// good as gone.
func TestShelfTakesOnlyWhatItKnows(t *testing.T) {
	t.Parallel()
	python, ok := resources.InterpreterOf(resources.FacetPython)
	require.True(t, ok)
	dir := filepath.Join(t.TempDir(), "interpreters")
	s := interpreter.NewShelf(dir)
	_, err := s.Open(python.Module)
	require.ErrorIs(t, err, mman.ErrNotFound)
	require.ErrorContains(t, err, "mman resource install python")
	_, err = s.Open(mman.SumCID(mman.CodecRaw, nil))
	require.ErrorIs(t, err, mman.ErrNotFound)
	require.ErrorIs(t, interpreter.NewShelf("").Install(python, nil), mman.ErrHome)

	for name, bad := range map[string]io.Reader{
		"nothing":   bytes.NewReader(nil),
		"too long":  io.LimitReader(endless{}, 1<<40),
		"as long":   io.LimitReader(endless{}, int64(python.Bytes)),
		"something": bytes.NewReader([]byte("\x00asm\x01\x00\x00\x00")),
	} {
		require.ErrorIs(t, s.Install(python, bad), mman.ErrContent, name)
	}
	abandoned, young := filepath.Join(dir, "part-1"), filepath.Join(dir, "part-2")
	for _, part := range []string{abandoned, young} {
		require.NoError(t, os.WriteFile(part, []byte("part"), 0o600))
	}
	require.NoError(t, os.Chtimes(abandoned, time.Unix(0, 0), time.Unix(0, 0)))
	require.ErrorIs(t, s.Install(python, bytes.NewReader(nil)), mman.ErrContent)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1, "what was left long ago is cleared away")
	require.Equal(t, "part-2", left[0].Name())

	damaged := filepath.Join(dir, python.Module.String()+".wasm")
	require.NoError(t, os.WriteFile(damaged, []byte("half"), 0o600))
	require.False(t, s.Has(python.Module))
	_, err = s.Open(python.Module)
	require.ErrorIs(t, err, mman.ErrNotFound)
	require.ErrorContains(t, err, "damaged")
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

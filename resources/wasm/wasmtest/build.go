package wasmtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Build compiles the Go program in a folder for WASI and returns its module.
func Build(tb testing.TB, folder string) []byte {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "program.wasm")
	cmd := exec.CommandContext(tb.Context(), "go", "build", "-trimpath", "-o", path, ".")
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=-mod=readonly -buildvcs=false")
	out, err := cmd.CombinedOutput()
	require.NoError(tb, err, "%s", out)
	module, err := os.ReadFile(path)
	require.NoError(tb, err)
	return module
}

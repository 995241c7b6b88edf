package container_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/resources/container"
)

// TestFirstProcess assembles the first process of every container again.
func TestFirstProcess(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"clang", "ld.lld"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("no assembler: apt-get install clang lld")
		}
	}
	for arch, target := range map[string][2]string{"amd64": {"x86_64-linux-gnu", "elf_x86_64"}, "arm64": {"aarch64-linux-gnu", "aarch64linux"}} {
		object, code := filepath.Join(t.TempDir(), arch+".o"), filepath.Join(t.TempDir(), arch)
		out, err := exec.CommandContext(t.Context(), "clang", "--target="+target[0], "-c", "-o", object, filepath.Join("testdata", "first-"+arch+".s")).CombinedOutput()
		require.NoError(t, err, string(out))
		out, err = exec.CommandContext(t.Context(), "ld.lld", "--oformat", "binary", "-Ttext", "0", "-m", target[1], "-o", code, object).CombinedOutput()
		require.NoError(t, err, string(out))
		want, err := os.ReadFile(code)
		require.NoError(t, err)
		got, err := container.FirstProcess(arch)
		require.NoError(t, err)
		require.Equal(t, want, got[64+56:], arch)
	}
}

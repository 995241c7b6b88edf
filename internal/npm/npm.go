// Package npm installs what tests of foreign clients need from npm. Invariant: npm is
// asked once for a lock file; what it brought stays in the user's cache.
package npm

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
)

// Install returns a folder of that name in the user's cache with the test's
// package.json, package-lock.json and client.mjs of testdata and the packages that
// they name. It skips the test where a program is missing or npm cannot install.
func Install(t *testing.T, name string, within time.Duration, programs ...string) string {
	t.Helper()
	for _, program := range append([]string{"node", "npm"}, programs...) {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is missing: install Node.js 18 or later with npm, and curl; on Debian: apt-get install nodejs npm curl", program)
		}
	}
	lock, err := os.ReadFile(filepath.Join("testdata", "package-lock.json"))
	require.NoError(t, err)
	root, err := os.UserCacheDir()
	if err != nil {
		root = t.TempDir()
	}
	folder := filepath.Join(root, name, mman.Sum256(lock).String()[:16])
	require.NoError(t, os.MkdirAll(folder, 0o700)) //nolint:gosec // the test names it
	for _, file := range []string{"package.json", "package-lock.json", "client.mjs"} {
		b, err := os.ReadFile(filepath.Join("testdata", filepath.Clean(file)))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(folder, file), b, 0o600)) //nolint:gosec // likewise
	}
	done := filepath.Join(folder, "installed")
	if _, err := os.Stat(done); err == nil { //nolint:gosec // likewise
		return folder
	}
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	cmd.Dir = folder
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("npm cannot install %s, which needs the npm registry once: %v: %s", name, err, said)
	}
	require.NoError(t, os.WriteFile(done, nil, 0o600)) //nolint:gosec // likewise
	return folder
}

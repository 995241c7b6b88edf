//go:build !race

package store_test

import (
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/dgraph-io/ristretto/v2/z"
	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/node/store"
)

// memoryDir tells the test binary, started as a child, where to write records.
const memoryDir = "MMAN_TEST_MEMORY_DIR"

// TestTablesFitTheirBuffers writes what a provider writes for runs until many tables
// were built, of write buffers, of level 0 and below, and requires that no buffer in
// which they were is larger than it was made: badger keeps eight of them. The
// buffers are the process's, so this is one of its own; the library counts them without
// a lock.
func TestTablesFitTheirBuffers(t *testing.T) {
	t.Parallel()
	dir := os.Getenv(memoryDir)
	if dir == "" {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTablesFitTheirBuffers$", "-test.v")
		child.Env = append(os.Environ(), memoryDir+"="+t.TempDir())
		out, err := child.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "buffers of", "the child did not look")
		return
	}
	cfg := store.DefaultConfig(dir, slog.New(slog.DiscardHandler))
	cfg.MinFree = 0
	s := open(t, cfg)
	kv := s.Data().Namespace(store.NamespaceProvider)
	record, seen := make([]byte, 900), 0
	for run := range uint64(25_000) {
		require.NoError(t, kv.Set([]byte{1, byte(run % 4)}, record))
		require.NoError(t, kv.Set(strconv.AppendUint([]byte{7}, run, 10), record))
		if run%100 != 0 {
			continue
		}
		for line := range strings.SplitSeq(z.Allocators(), " . ") {
			// "Tag: Builder Num: 2 Size: 8.0 MiB"
			words := strings.Fields(line)
			if len(words) < 7 || words[1] != "Builder" {
				continue
			}
			n, err := strconv.ParseFloat(words[3], 64)
			require.NoError(t, err)
			mib, err := strconv.ParseFloat(words[5], 64)
			require.NoError(t, err)
			require.Equal(t, "MiB", words[6])
			require.LessOrEqual(t, mib, 4*n, "%s: each is 4 MiB at first", line)
			seen++
		}
	}
	require.Positive(t, seen)
	t.Logf("buffers of tables seen %d times", seen)
}

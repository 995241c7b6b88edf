package bench_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/bench"
)

// TestStorage: a small run measures everything, and every replica is proved or lost.
func TestStorage(t *testing.T) {
	t.Parallel()
	report, err := bench.Storage(t.Context(), bench.StorageOptions{Leases: []int{1000}, Replicas: 2, Bytes: 1 << 20})
	require.NoError(t, err)
	for _, name := range []string{"proof", "block", "block_p50", "block_max", "blocks", "epoch", "share", "idle", "lost", "proof_bytes", "epoch_bytes", "disk", "prove", "lease"} {
		require.Positive(t, report.Metrics["storage_1000_"+name].Value, name)
	}
	require.Contains(t, report.Metrics, "storage_1000_memory") // of a process in which other tests free theirs
	require.InDelta(t, 1400, report.Metrics["storage_1000_proof_bytes"].Value, 200, "a leaf of 1024 bytes and 10 hashes")
}

// TestStorageIsGivenUp: whoever gives it up, at whatever it is doing, is told so, and it
// leaves nothing behind.
func TestStorageIsGivenUp(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for _, doing := range []string{"read replica", "leases are made", "an epoch begins"} {
		t.Run(doing, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			met := false
			_, err := bench.Storage(ctx, bench.StorageOptions{Leases: []int{1000}, Replicas: 2, Bytes: 1 << 20, Progress: func(line string) {
				if strings.Contains(line, doing) {
					met = true
					cancel(errors.New("enough"))
				}
			}})
			require.True(t, met)
			require.ErrorIs(t, err, mman.ErrCanceled)
			require.ErrorContains(t, err, "enough")
			left, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

func TestStorageOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []bench.StorageOptions{
		{},
		{Leases: []int{999}, Replicas: 3, Bytes: 1 << 30},
		{Leases: []int{2000, 1000}, Replicas: 3, Bytes: 1 << 30},
		{Leases: []int{1000}, Replicas: 1, Bytes: 1 << 30},
		{Leases: []int{1000}, Replicas: 9, Bytes: 1 << 30},
		{Leases: []int{1000}, Replicas: 3, Bytes: 1 << 10},
	} {
		_, err := bench.Storage(t.Context(), o)
		require.ErrorIs(t, err, mman.ErrInvalid, "%+v", o)
	}
}

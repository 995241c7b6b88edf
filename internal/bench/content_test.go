package bench_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/bench"
)

func TestContentOptions(t *testing.T) {
	t.Parallel()
	_, err := bench.Content(t.Context(), bench.ContentOptions{})
	require.ErrorIs(t, err, mman.ErrInvalid)
	_, err = bench.Content(t.Context(), bench.ContentOptions{Bytes: 1 << 20, Files: 1, Finds: 1, Rounds: 1, Kubo: filepath.Join(t.TempDir(), "ipfs")})
	require.ErrorIs(t, err, mman.ErrInvalid)
	require.ErrorContains(t, err, "go -C internal/ipfs/kubo build", "how to get it")
}

// TestGrown: memory that grows with what moved fails the benchmark, on either side.
func TestGrown(t *testing.T) {
	t.Parallel()
	flat, grows, unseen := [4]float64{100, 300, 90, 125}, [4]float64{100, 100, 100, 126}, [4]float64{0, 100, 100, 100}
	for name, tc := range map[string]struct {
		receiver, sender [4]float64
		want             error
		says             string
	}{
		"flat":           {flat, flat, nil, ""},
		"receiver grows": {grows, flat, mman.ErrMemory, "the receiver took 126 MiB in the last quarter and 100 in the first"},
		"sender grows":   {flat, grows, mman.ErrMemory, "the sender took 126 MiB"},
		"not seen":       {flat, unseen, mman.ErrInvalid, "--size"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := bench.Grown(tc.receiver, tc.sender)
			require.ErrorIs(t, err, tc.want)
			if tc.want != nil {
				require.ErrorContains(t, err, tc.says)
			}
		})
	}
}

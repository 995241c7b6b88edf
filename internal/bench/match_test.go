package bench_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/bench"
)

// TestMatch: a small run measures everything and finds the right offers.
func TestMatch(t *testing.T) {
	t.Parallel()
	report, err := bench.Match(t.Context(), bench.MatchOptions{Offers: []int{1000, 1200}, Requests: 3, Receipts: 300})
	require.NoError(t, err)
	for _, name := range []string{
		"match_1000", "match_1200", "match_1200_per_second", "match_1200_latency_p50", "match_1200_disk",
		"policy_typical", "policy_worst", "receipts_per_second",
	} {
		require.Positive(t, report.Metrics[name].Value, name)
	}
	require.Contains(t, report.Metrics, "match_1200_memory") // of a process in which other tests free theirs
	require.InDelta(t, 16, report.Metrics["match_1200_blocks"].Value, 0.1, "a page of 64 in each block")
	require.Positive(t, report.Metrics["match_1200"].Ratio)
}

func TestMatchOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []bench.MatchOptions{
		{},
		{Offers: []int{999}, Requests: 1, Receipts: 1},
		{Offers: []int{2000, 2000}, Requests: 1, Receipts: 1},
		{Offers: []int{1000}, Requests: 0, Receipts: 1},
		{Offers: []int{1000}, Requests: 1001, Receipts: 1},
		{Offers: []int{1 << 21}, Requests: 1, Receipts: 1},
	} {
		_, err := bench.Match(t.Context(), o)
		require.ErrorIs(t, err, mman.ErrInvalid, "%+v", o)
	}
}

package bench_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/bench"
)

func TestWASMReportsEveryMetric(t *testing.T) {
	t.Parallel()
	report, err := bench.WASM(t.Context(), bench.WASMOptions{GuestTime: time.Millisecond, Pairs: 1, Runs: 1})
	require.NoError(t, err)
	for _, kernel := range []string{"sha256", "nbody", "fannkuch", "sieve", "sort", "json", "interpreter", "tightloop"} {
		require.Positive(t, report.Metrics["metered_"+kernel].Ratio, kernel)
		require.Positive(t, report.Metrics["native_"+kernel].Ratio, kernel)
	}
	for _, name := range []string{"metered_mean", "metered_worst", "cold_start", "cached_start", "runs_per_second", "stop_p50", "stop_p95", "stop_p99", "alarm_p50", "alarm_p95", "alarm_p99", "stop_waiting_p50", "timer_p50", "timer_p99"} {
		require.Positive(t, report.Metrics[name].Value, name)
	}
	for _, o := range []bench.WASMOptions{{}, {GuestTime: time.Hour, Pairs: 1, Runs: 1}, {GuestTime: time.Second, Runs: 1}, {GuestTime: time.Second, Pairs: 1}} {
		_, err := bench.WASM(t.Context(), o)
		require.ErrorIs(t, err, mman.ErrInvalid)
	}
}

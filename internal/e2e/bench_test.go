package e2e_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestBenchREPL is the short form of bench repl: conversations with a real engine,
// several at once, and one that survives a cut of the network.
func TestBenchREPL(t *testing.T) {
	t.Parallel()
	engine := engineHost(t)
	j := begin(t, t.TempDir(), "bench", "repl", "-o", "json", "--engine", engine, "--trips", "5", "--starts", "1", "--sessions", "2", "--cut", "2s")
	require.Zero(t, j.end(t, 3*time.Minute), "%s", &j.errs)
	metrics, ok := object(t, j.out.Bytes())["metrics"].(map[string]any)
	require.True(t, ok, "%s", &j.out)
	value := func(name string) float64 {
		one, ok := metrics[name].(map[string]any)
		require.True(t, ok, name)
		return number(t, one, "value")
	}
	require.InDelta(t, 2, value("sessions"), 0)
	require.InDelta(t, 2, value("cut"), 0)
	for _, name := range []string{"round_trip_p50", "prompt_warm_p50", "prompt_cold_p50", "prompt_new_lease_p50", "cut_back"} {
		require.Positive(t, value(name), name)
	}
}

// TestBenchEnv is the short form of bench env: environments over a real network, paid by
// the step.
func TestBenchEnv(t *testing.T) {
	t.Parallel()
	j := begin(t, t.TempDir(), "bench", "env", "-o", "json", "--batches", "1,8", "--calls", "5", "--rounds", "1")
	require.Zero(t, j.end(t, 2*within), "%s", &j.errs)
	metrics, ok := object(t, j.out.Bytes())["metrics"].(map[string]any)
	require.True(t, ok, "%s", &j.out)
	for _, name := range []string{"steps_1", "steps_8", "call_1", "call_8"} {
		require.Contains(t, metrics, name)
	}
}

// TestBenchContent is the short form of bench content: a file between two processes, each
// with a database on disk, in each way that is measured.
func TestBenchContent(t *testing.T) {
	t.Parallel()
	j := begin(t, t.TempDir(), "bench", "content", "-o", "json", "--size", "16777216", "--files", "100", "--finds", "3", "--dir", t.TempDir())
	require.Zero(t, j.end(t, 3*within), "%s", &j.errs)
	metrics, ok := object(t, j.out.Bytes())["metrics"].(map[string]any)
	require.True(t, ok, "%s", &j.out)
	alone := []string{"raw_tcp", "raw_quic", "rss_tcp", "rss_quic", "publish_findable", "publish_findable_p99"}
	beside := []string{
		"bulk_tcp", "bulk_quic", "bitswap_tcp", "bitswap_quic", "stock_tcp", "stock_quic", "bulk_tcp_of_stock", "bulk_quic_of_stock",
		"bulk_tcp_of_raw", "bulk_quic_of_raw", "add", "add_files",
	}
	for _, name := range append(alone, beside...) {
		one, ok := metrics[name].(map[string]any)
		require.True(t, ok, name)
		require.Positive(t, number(t, one, "value"), name)
		if slices.Contains(beside, name) {
			require.Positive(t, number(t, one, "ratio"), "%s has a reference", name)
		}
	}
}

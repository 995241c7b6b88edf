package e2e_test

import (
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

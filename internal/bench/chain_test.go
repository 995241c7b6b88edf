package bench_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/bench"
)

// TestChain: the benchmark measures what it says on a small network.
func TestChain(t *testing.T) {
	t.Parallel()
	r, err := bench.Chain(t.Context(), bench.ChainOptions{Accounts: 100, Crowd: 1000, Transfers: 1000, Rounds: 1})
	require.NoError(t, err)
	for _, name := range []string{
		"tps_1_validator", "tps_4_validators", "tps_1k_accounts", "tps_1k_accounts_of_reference", "latency_p50", "latency_p99", "tps_reference_unsigned", "tps_replay",
		"cpu_per_tx", "verifications_per_tx", "root_share_1k_accounts", "root_share_1k_accounts_verified", "tps_replay_1k_accounts",
		"payments_per_second_packed",
	} {
		m, ok := r.Metrics[name]
		require.True(t, ok, name)
		require.Positive(t, m.Value, name)
		require.Positive(t, m.Reference, name)
	}
	require.LessOrEqual(t, r.Metrics["verifications_per_tx"].Ratio, 1.0, "each signature is verified once on a node")
	for name, o := range map[string]bench.ChainOptions{
		"no accounts":     {Transfers: 1000, Rounds: 1},
		"uneven accounts": {Accounts: 102, Transfers: 1000, Rounds: 1},
		"few transfers":   {Accounts: 100, Transfers: 1, Rounds: 1},
		"a crowd":         {Accounts: 100, Transfers: 1000, Rounds: 1, Crowd: 1 << 30},
		"no rounds":       {Accounts: 100, Transfers: 1000},
	} {
		_, err := bench.Chain(t.Context(), o)
		require.ErrorIs(t, err, mman.ErrInvalid, name)
	}
}

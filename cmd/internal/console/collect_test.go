package console_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/cmd/internal/console"
)

func TestHeapIsCollectedFromTheSameSizeOn(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, test := range []struct {
		name       string
		live, from uint64 // in use, and with how much the next collection begins
	}{
		{"nothing yet", 0, 128 * mib},
		{"an idle node", 16 * mib, 128 * mib},
		{"a busy node", 40 * mib, 128 * mib},
		{"half of it in use", 64 * mib, 128 * mib},
		{"more than half", 100 * mib, 200 * mib},
		{"a large ledger", 1000 * mib, 3000 * mib},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			live := max(test.live, 4*mib)
			from := live + live*uint64(console.Percent(test.live))/100
			require.InDelta(t, float64(test.from), float64(from), 2*mib)
		})
	}
}

package market_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
)

// TestHostileReceipts: what old receipts, and two with one number, win on the
// ledger, with the rule that the highest counts and without it.
func TestHostileReceipts(t *testing.T) {
	t.Parallel()
	type shown struct {
		seq  uint64
		paid mman.Amount
	}
	for name, tc := range map[string]struct {
		receipts []shown
		signed   mman.Amount // the most that was signed for
	}{
		"an old receipt again, and the new one again": {[]shown{{2, 9000}, {1, 5000}, {2, 9000}}, 9000},
		"two receipts with one number, in turns":      {[]shown{{1, 9000}, {1, 4000}, {1, 9000}, {1, 4000}, {1, 9000}}, 9000},
		"a lower one under a higher number":           {[]shown{{1, 9000}, {2, 1}, {1, 9000}}, 9000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			won := func(settle func(market.Lease, market.Receipt) (market.Lease, mman.Amount, error)) (paid mman.Amount) {
				l := market.Lease{ID: mman.LeaseID{1}, Cap: 100_000, State: market.LeaseOpen}
				for _, s := range tc.receipts {
					after, delta, err := settle(l, market.Receipt{Version: 1, Lease: l.ID, Seq: s.seq, Paid: s.paid})
					require.NoError(t, err)
					l, paid = after, paid+delta
				}
				return paid - tc.signed
			}
			with, without := won(market.Lease.Settle), won(market.Lease.SettleLatest)
			t.Logf("won %s with the defence; %s without", with, without)
			require.Zero(t, with)
			require.Positive(t, without, "the attack works without its defence")
		})
	}
}

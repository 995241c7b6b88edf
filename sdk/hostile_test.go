package sdk_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk"
)

// TestHostileProvider: what a provider can win by each attack, with the defence
// and without it, on a lease of 10,000 uman at 1 uman a millisecond: progress is
// 2000, a window 200. The bounds are those of docs/market.md.
func TestHostileProvider(t *testing.T) {
	t.Parallel()
	const elapsed = 50 * time.Millisecond
	claim := func(seq, ms uint64, result *market.RunResult) func(*market.Statement) {
		return func(s *market.Statement) {
			s.Seq, s.Usage, s.Gross, s.Result = seq, resources.Usage{WallMs: ms}, mman.Amount(ms), result
		}
	}
	for name, tc := range map[string]struct {
		without     sdk.Defence
		interactive bool
		elapsed     time.Duration
		statements  func(send func(func(*market.Statement)))
		fair, most  mman.Amount
	}{
		"over-report to one who talks": {sdk.AgainstUsage, true, elapsed, func(send func(func(*market.Statement))) {
			for i := range uint64(97) {
				send(claim(i+1, i*100+1, nil))
			}
		}, 51, 200},
		"over-report the result": {sdk.AgainstUsage, true, elapsed, func(send func(func(*market.Statement))) {
			send(claim(1, 1, nil))
			send(claim(2, 9000, &market.RunResult{Run: 1}))
		}, 51, 200},
		"stream and deliver nothing": {sdk.AgainstProgress, false, time.Minute, func(send func(func(*market.Statement))) {
			for i := range uint64(99) {
				send(claim(i+1, i*100+1, nil))
			}
		}, 0, 2000},
		"deliver garbage": {sdk.AgainstOutput, false, time.Minute, func(send func(func(*market.Statement))) {
			send(claim(1, 9000, &market.RunResult{Run: 1, OutputBytes: 1}))
		}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			win := func(without sdk.Defence) mman.Amount {
				_, own, key := newLease(t, 1)
				lane, err := own.TakeLane()
				require.NoError(t, err)
				p := lane.NewTestPayer(key, holder.id(), tc.elapsed, 0, tc.interactive, without)
				tc.statements(func(change func(*market.Statement)) {
					_, _, err := p.Acknowledge(statement(t, holder, change))
					if err != nil {
						require.Contains(t, []mman.Code{mman.ErrReceipt.Code, mman.ErrContent.Code}, mman.CodeOf(err), err)
					}
				})
				require.NoError(t, lane.Close())
				return lane.Net() - min(lane.Net(), tc.fair)
			}
			with, bare := win(sdk.NoDefence), win(tc.without)
			t.Logf("won %s with the defence, at most %s; %s without", with, tc.most, bare)
			require.LessOrEqual(t, with, tc.most)
			require.Greater(t, bare, tc.most, "the attack works without its defence")
		})
	}
}

// TestHostileLosses: what a consumer can lose to a provider that keeps what was paid ahead,
// and to one that signs for a wrong result, on the lease of TestHostileProvider. There
// is no defence to switch off but the two bounds; the signature proves the rest.
func TestHostileLosses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		interactive bool
		elapsed     time.Duration
		ms          uint64
		result      *market.RunResult
		fair, want  mman.Amount
	}{
		"keeps what was paid ahead":     {true, 50 * time.Millisecond, 51, nil, 51, 200},
		"a wrong result":                {false, time.Second, 900, &market.RunResult{Run: 1, Output: mman.SumCID(mman.CodecRaw, []byte("wrong"))}, 0, 900},
		"a wrong result, over-reported": {false, time.Second, 9000, &market.RunResult{Run: 1, Output: mman.SumCID(mman.CodecRaw, []byte("wrong"))}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, own, key := newLease(t, 1)
			lane, err := own.TakeLane()
			require.NoError(t, err)
			p := lane.NewTestPayer(key, holder.id(), tc.elapsed, 0, tc.interactive, sdk.NoDefence)
			said := statement(t, holder, func(s *market.Statement) {
				s.Usage, s.Gross, s.Result = resources.Usage{WallMs: tc.ms}, mman.Amount(tc.ms), tc.result
			})
			receipt, ok, err := p.Acknowledge(said)
			lost := lane.Net() - min(lane.Net(), tc.fair)
			t.Logf("lost %s, at most %s", lost, tc.want)
			require.Equal(t, tc.want, lost)
			require.NoError(t, lane.Close())
			if tc.want == 0 {
				require.ErrorIs(t, err, mman.ErrReceipt)
				return
			}
			require.NoError(t, err)
			require.True(t, ok)
			st, _, err := own.Lease.Audit(chainID, said, receipt)
			require.NoError(t, err, "whoever has both can prove what the provider said")
			require.Equal(t, tc.result, st.Result)
		})
	}
}

// TestAskedAgain: a statement that comes again after a stream broke gets the same
// receipt again, and nothing is signed twice.
func TestAskedAgain(t *testing.T) {
	t.Parallel()
	_, own, key := newLease(t, 1)
	lane, err := own.TakeLane()
	require.NoError(t, err)
	p := lane.NewTestPayer(key, holder.id(), time.Second, 0, true, sdk.NoDefence)
	st := statement(t, holder, func(s *market.Statement) { s.Usage, s.Gross, s.Result = resources.Usage{WallMs: 10}, 10, nil })
	first, ok, err := p.Acknowledge(st)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, mman.Amount(210), lane.Net(), "a window ahead")
	again, ok, err := p.Acknowledge(st)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, first, again)
	other := statement(t, holder, func(s *market.Statement) { s.Usage, s.Gross, s.Result = resources.Usage{WallMs: 11}, 11, nil })
	_, ok, err = p.Acknowledge(other)
	require.NoError(t, err)
	require.False(t, ok, "another statement under the same number is held")
	require.Equal(t, mman.Amount(210), lane.Net())
	require.NoError(t, lane.Close())
}

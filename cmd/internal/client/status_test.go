package client_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/cmd/internal/client"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/sdk"
)

// TestReachable: what was announced is as reachable as its node, and what nobody was told
// of is not known to be.
func TestReachable(t *testing.T) {
	t.Parallel()
	told, never := time.Unix(1_800_000_000, 0), time.Time{}
	for name, tc := range map[string]struct {
		provided time.Time
		reach    p2p.Reach
		want     string
		says     string
	}{
		"public":              {told, p2p.ReachPublic, "public", "reachable from outside"},
		"this machine":        {told, p2p.ReachMachine, "machine", "reachable from this machine only"},
		"behind a router":     {told, p2p.ReachPrivate, "no", "not reachable: open the node's port"},
		"nobody tried":        {told, p2p.ReachUnknown, "unknown", "not known yet"},
		"a node without word": {told, "", "unknown", "not known yet"},
		"public, untold":      {never, p2p.ReachPublic, "unknown", "not announced yet"},
		"machine, untold":     {never, p2p.ReachMachine, "unknown", "not announced yet"},
		"router, untold":      {never, p2p.ReachPrivate, "no", "not announced yet"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, client.Reachable(tc.provided, tc.reach))
			require.Contains(t, client.ReachableText(tc.provided, tc.reach), tc.says)
		})
	}
}

func TestProgressText(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]content.Progress{
		"512 B":                                  {Done: 512},
		"1.5 KiB of 1.0 GiB":                     {Done: 3 << 9, Total: 1 << 30},
		"2.0 MiB, 1.0 MiB/s":                     {Done: 2 << 20, Rate: 1 << 20},
		"1.0 MiB of 3.0 MiB, 1.0 MiB/s, 2s left": {Done: 1 << 20, Total: 3 << 20, Rate: 1 << 20, Left: 2 * time.Second},
	} {
		require.Equal(t, want, client.ProgressText(p))
	}
}

// TestTogether: what store and fetch show is of all replicas together, with the rate and
// the time that is left.
func TestTogether(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	var shown []string
	moved := client.Together(func() time.Time { return now }, func(text string) { shown = append(shown, text) })
	const total = 10 << 20
	for done := uint64(2 << 20); done <= total; done += 2 << 20 {
		for replica := range 2 {
			moved(sdk.Moving{Replica: replica, Done: done, Total: total})
		}
		now = now.Add(time.Second)
	}
	require.Equal(t, []string{
		"2.0 MiB of 10.0 MiB",
		"6.0 MiB of 20.0 MiB, 4.0 MiB/s, 4s left",
		"10.0 MiB of 20.0 MiB, 4.0 MiB/s, 3s left",
		"14.0 MiB of 20.0 MiB, 4.0 MiB/s, 2s left",
		"18.0 MiB of 20.0 MiB, 4.0 MiB/s, 1s left",
	}, shown)
}

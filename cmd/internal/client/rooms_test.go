package client_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/market/storage"
)

// TestStorageTiers: one holder lends room of both tiers. What each costs and how soon it
// claims to be served is seen before there is a lease, a file goes to the tier that is
// asked for, and the slow one costs less.
func TestStorageTiers(t *testing.T) {
	c := newCellar(t, "north")
	operator := person{home: c.net.Providers[0].Home}
	operator.json(t, 0, "offer", "storage", "--capacity", "1GiB", "--price", "0.0005MAN", "--latency", "50ms")
	operator.json(t, 0, "offer", "storage", "--tier", "slow", "--capacity", "1GiB", "--price", "0.0001MAN", "--latency", "20s")

	offers, _ := c.me.json(t, 0, "offer", "list", "--kind", "storage")["storage"].([]any)
	require.Len(t, offers, 2)
	for i, want := range []map[string]any{
		{"tier": "fast", "price_uman": 500.0, "latency_ms": 50.0},
		{"tier": "slow", "price_uman": 100.0, "latency_ms": 20_000.0},
	} {
		one, _ := offers[i].(map[string]any)
		for key, value := range want {
			require.Equal(t, value, one[key], key)
		}
	}
	said := c.me.says(t, "offer", "list", "--kind", "storage")
	require.Regexp(t, `slow +0\.0001MAN .* 20s `, said)
	require.Regexp(t, `fast +0\.0005MAN .* 50ms `, said)

	file := filepath.Join(t.TempDir(), "file")
	data := bytes.Repeat([]byte("tier "), 100_000)
	require.NoError(t, os.WriteFile(file, data, 0o600))
	store := func(args ...string) storage.Lease {
		stored := c.me.json(t, 0, append([]string{"request", "store", file, "--replicas", "1", "--for", "1h"}, args...)...)
		l, there := c.lease(word(t, part(t, stored, "lease"), "id"))
		require.True(t, there)
		return l
	}
	fast, slow := store(), store("--tier", "slow", "--max-latency", "30s")
	require.Equal(t, []storage.Tier{storage.Fast, storage.Slow}, []storage.Tier{fast.Tier, slow.Tier})
	require.Equal(t, fast.Bytes, slow.Bytes)
	require.Less(t, slow.Replicas[0].Price, fast.Replicas[0].Price, "the same bytes for less")
	require.Contains(t, c.me.fails(t, 4, "request", "store", file, "--replicas", "1", "--for", "1h", "--tier", "slow", "--max-latency", "1s"), "0 of 1 replicas")

	out := filepath.Join(t.TempDir(), "out")
	c.me.json(t, 0, "request", "fetch", slow.ID.String(), "--out", out)
	got, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, data, got)
}

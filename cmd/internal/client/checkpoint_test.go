package client_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/internal/testnet"
)

// TestDepth: whoever pulls the last of 50 versions gets that one and its chunks alone,
// and with --depth as many before it as asked for.
func TestDepth(t *testing.T) {
	const versions, size = 50, 1 << 20
	net := testnet.New(t, 1, "farm")
	farm, dir := net.Providers[0], t.TempDir()
	require.NoError(t, farm.Running.Write(farm.Home))
	operator := person{home: farm.Home}
	model := filepath.Join(dir, "model.bin")
	data := make([]byte, size)
	source := rand.NewChaCha8([32]byte{3})
	_, _ = source.Read(data) // it never fails
	var last string
	for i := range versions {
		_, _ = source.Read(data[i*size/versions:][:1000]) // it never fails
		require.NoError(t, os.WriteFile(model, data, 0o600))
		push := []string{"push", model, "--name", fmt.Sprintf("model %d", i)}
		if last != "" {
			push = append(push, "--parent", last)
		}
		last = word(t, operator.json(t, 0, push...), "resource")
	}

	pull := func(name string, depth ...string) (got []map[string]any, moved float64) {
		t.Helper()
		me := person{home: filepath.Join(dir, "home of "+name), node: net.Validators[0].Running.RPC}
		answer := me.json(t, 0, append([]string{"pull", last, "--out", filepath.Join(dir, name)}, depth...)...)
		list, _ := answer["versions"].([]any)
		for _, one := range list {
			v, _ := one.(map[string]any)
			bytes, _ := v["moved_bytes"].(float64)
			got, moved = append(got, v), moved+bytes
		}
		return got, moved
	}
	for name, depth := range map[string][]string{"default": nil, "zero": {"--depth", "0"}} {
		one, moved := pull(name, depth...)
		require.Len(t, one, 1, name)
		require.GreaterOrEqual(t, moved, float64(size), name)
		require.Less(t, moved, 1.02*size, name)
		got, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, data, got, name)
		require.NoFileExists(t, filepath.Join(dir, name+".1"))
	}
	few, _ := pull("few", "--depth", "3")
	require.Len(t, few, 4)
	all, moved := pull("all", "--depth", strconv.Itoa(versions-1))
	require.Len(t, all, versions)
	require.NotContains(t, all[versions-1], "parents", "the first one")
	require.Less(t, moved, float64(size*versions/4), "each costs what it does not share with the one after it")
	require.Greater(t, moved, 2.0*size, "the others are not for nothing")
}

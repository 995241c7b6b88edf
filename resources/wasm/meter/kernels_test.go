package meter_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/resources/wasm/kernel"
	"github.com/limboid/massive-man/resources/wasm/meter"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
)

func TestKernelsGiveTheSame(t *testing.T) {
	t.Parallel()
	plain := kernel.Module()
	metered := instrument(t, plain)
	naive := instrument(t, plain, meter.Switches{Naive: true})
	e, slow := compiler(t), interpreter(t)
	for _, k := range kernel.List() {
		rounds := uint64(max(k.Short, 1))
		want := e.invoke(t, plain, noLimit, k.Name, rounds)
		require.Empty(t, want.trap)
		got := e.invoke(t, metered, noLimit, k.Name, rounds)
		same(t, want, got, "%s", k.Name)
		counted := e.invoke(t, naive, noLimit, k.Name, rounds)
		same(t, want, counted, "%s", k.Name)
		require.Equal(t, counted.used, got.used, k.Name)
		if k.Short > 0 {
			require.Equal(t, got, slow.invoke(t, metered, noLimit, k.Name, rounds), k.Name)
		}
		t.Logf("%s: %d units", k.Name, got.used)
	}
}

// onNode runs the kernels on the engine of Node.js.
func onNode(t *testing.T, module []byte) (checksums, fuel map[string]uint64) {
	t.Helper()
	node := wasmtest.Node(t)
	file := filepath.Join(t.TempDir(), "kernels.wasm")
	require.NoError(t, os.WriteFile(file, module, 0o600))
	args := []string{filepath.Join("testdata", "kernels.mjs"), file}
	for _, k := range kernel.List() {
		args = append(args, fmt.Sprintf("%s=%d", k.Name, max(k.Short, 1)))
	}
	out, err := exec.CommandContext(t.Context(), node, args...).Output()
	require.NoError(t, err)
	checksums, fuel = map[string]uint64{}, map[string]uint64{}
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var line struct {
			Name     string `json:"name"`
			Checksum uint64 `json:"checksum"`
			Fuel     uint64 `json:"fuel"`
		}
		require.NoError(t, d.Decode(&line))
		checksums[line.Name], fuel[line.Name] = line.Checksum, line.Fuel
	}
	require.Len(t, checksums, len(kernel.List()))
	return checksums, fuel
}

// The C programs give the same on two engines, metered and not, for the same fuel.
func TestKernelsOnNode(t *testing.T) {
	t.Parallel()
	metered := instrument(t, kernel.Module())
	m := compiler(t).instantiate(t, metered)
	setLimit(m, noLimit)
	checksums, fuel := map[string]uint64{}, map[string]uint64{}
	for _, k := range kernel.List() {
		got, err := m.ExportedFunction(k.Name).Call(t.Context(), uint64(max(k.Short, 1)))
		require.NoError(t, err)
		checksums[k.Name], fuel[k.Name] = got[0], global(m, meter.UsedGlobal).Get()
	}
	gotChecksums, gotFuel := onNode(t, metered)
	require.Equal(t, checksums, gotChecksums)
	require.Equal(t, fuel, gotFuel)
	gotChecksums, _ = onNode(t, kernel.Module())
	require.Equal(t, checksums, gotChecksums)
}

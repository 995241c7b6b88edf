package engines_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v39"
	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/limboid/massive-man/resources/wasm/kernel"
	"github.com/limboid/massive-man/resources/wasm/meter"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
)

// TestKernelsOnThreeEngines: the programs in C that the meter is measured with give
// the same checksums on every engine, metered and not, for the same fuel.
func TestKernelsOnThreeEngines(t *testing.T) {
	t.Parallel()
	m, err := meter.Instrument(kernel.Module(), meter.Options{})
	require.NoError(t, err)
	var order []string
	rounds := map[string]uint32{}
	for _, k := range kernel.List() {
		order = append(order, k.Name)
		rounds[k.Name] = max(k.Short, 1)
	}
	var want map[string]uint64
	for name, module := range map[string][]byte{"as they were written": kernel.Module(), "metered": m.Module} {
		i, err := kernel.Open(t.Context(), module)
		require.NoError(t, err)
		checksums, fuel := map[string]uint64{}, map[string]uint64{}
		for _, k := range order {
			sum, err := i.Run(t.Context(), k, rounds[k])
			require.NoError(t, err, k)
			checksums[k], fuel[k] = uint64(sum), i.Fuel()
		}
		require.NoError(t, i.Close(t.Context()))
		if want == nil {
			want = checksums
		}
		require.Equal(t, want, checksums, name)
		otherSums, otherFuel := kernelsOnNode(t, module, rounds, order)
		require.Equal(t, checksums, otherSums, "node, %s", name)
		require.Equal(t, fuel, otherFuel, "node, %s", name)
		otherSums, otherFuel = kernelsOnWasmtime(t, module, rounds, order)
		require.Equal(t, checksums, otherSums, "wasmtime, %s", name)
		require.Equal(t, fuel, otherFuel, "wasmtime, %s", name)
	}
}

func kernelsOnWasmtime(t *testing.T, module []byte, rounds map[string]uint32, order []string) (checksums, fuel map[string]uint64) {
	t.Helper()
	engine := wasmtime.NewEngine()
	defer engine.Close()
	native, err := wasmtime.NewModule(engine, module)
	require.NoError(t, err)
	defer native.Close()
	store := wasmtime.NewStore(engine)
	defer store.Close()
	instance, err := wasmtime.NewInstance(store, native, nil)
	require.NoError(t, err)
	limit, used := instance.GetExport(store, meter.LimitGlobal), instance.GetExport(store, meter.UsedGlobal)
	if limit != nil {
		require.NoError(t, limit.Global().Set(store, wasmtime.ValI64(math.MaxInt64)))
	}
	checksums, fuel = map[string]uint64{}, map[string]uint64{}
	for _, k := range order {
		sum, err := instance.GetFunc(store, k).Call(store, int32(rounds[k]))
		require.NoError(t, err, k)
		checksums[k] = uint64(uint32(sum.(int32)))
		fuel[k] = 0
		if used != nil {
			fuel[k] = uint64(used.Global().Get(store).I64())
		}
	}
	return checksums, fuel
}

// TestStackOnThreeEngines: calls that never end, with frames of any size, end where
// the meter says, at the same depth, on the stack that each engine has if nobody asks
// for another.
func TestStackOnThreeEngines(t *testing.T) {
	t.Parallel()
	const counter = 16 // an address
	for _, locals := range []uint32{0, 1, 12, 100, 3000} {
		b := &wasmtest.Builder{MinPages: 1}
		deeper := slices.Concat(wasmtest.Load(counter), wasmtest.Const(1), []byte{0x6a}) // i32.add
		m, err := meter.Instrument(b.Command(locals, wasmtest.Store(counter, deeper), wasmtest.Call(0)), meter.Options{})
		require.NoError(t, err)
		words := meter.FrameWords + locals + 3 // operands
		want := fmt.Sprintf("%d %d", meter.StopStack, meter.StackWords/words)

		runtime := wazero.NewRuntime(t.Context())
		i, err := runtime.InstantiateWithConfig(t.Context(), m.Module, wazero.NewModuleConfig().WithStartFunctions())
		require.NoError(t, err)
		limit, ok := i.ExportedGlobal(meter.LimitGlobal).(api.MutableGlobal)
		require.True(t, ok)
		limit.Set(math.MaxInt64)
		_, err = i.ExportedFunction("_start").Call(t.Context())
		require.Error(t, err)
		depth, _ := i.Memory().ReadUint32Le(counter)
		require.Equal(t, want, fmt.Sprintf("%d %d", i.ExportedGlobal(meter.StopGlobal).Get(), depth), "wazero, %d locals", locals)
		require.NoError(t, runtime.Close(t.Context()))

		file := filepath.Join(t.TempDir(), "deep.wasm")
		require.NoError(t, os.WriteFile(file, m.Module, 0o600))
		got := output(t, nil, wasmtest.Node(t), filepath.Join("testdata", "deep.mjs"), file, strconv.Itoa(counter))
		require.Equal(t, want, strings.TrimSpace(string(got)), "node, %d locals", locals)
		require.Equal(t, want, deepOnWasmtime(t, m.Module, counter), "wasmtime, %d locals", locals)
	}
}

func deepOnWasmtime(t *testing.T, module []byte, counter int) string {
	t.Helper()
	engine := wasmtime.NewEngine()
	defer engine.Close()
	native, err := wasmtime.NewModule(engine, module)
	require.NoError(t, err)
	defer native.Close()
	store := wasmtime.NewStore(engine)
	defer store.Close()
	i, err := wasmtime.NewInstance(store, native, nil)
	require.NoError(t, err)
	require.NoError(t, i.GetExport(store, meter.LimitGlobal).Global().Set(store, wasmtime.ValI64(math.MaxInt64)))
	_, err = i.GetFunc(store, "_start").Call(store)
	require.Error(t, err)
	depth := binary.LittleEndian.Uint32(i.GetExport(store, "memory").Memory().UnsafeData(store)[counter:])
	return fmt.Sprintf("%d %d", i.GetExport(store, meter.StopGlobal).Global().Get(store).I32(), depth)
}

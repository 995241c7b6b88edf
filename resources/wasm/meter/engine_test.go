package meter_test

import (
	"context"
	"fmt"
	"hash/crc32"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/limboid/massive-man/resources/wasm/meter"
)

// noLimit is more fuel than any test uses.
const noLimit = uint64(math.MaxUint64)

// instrument meters a module, with all rules or some turned off.
func instrument(tb testing.TB, module []byte, sw ...meter.Switches) []byte {
	tb.Helper()
	all := meter.Switches{}
	if len(sw) > 0 {
		all = sw[0]
	}
	m, err := meter.InstrumentWith(module, meter.Options{}, all)
	require.NoError(tb, err)
	return m.Module
}

type engine struct {
	name    string
	runtime wazero.Runtime
}

func compiler(tb testing.TB) engine {
	tb.Helper()
	return newEngine(tb, "compiler", wazero.NewRuntimeConfigCompiler())
}

func interpreter(tb testing.TB) engine {
	tb.Helper()
	return newEngine(tb, "interpreter", wazero.NewRuntimeConfigInterpreter())
}

func newEngine(tb testing.TB, name string, config wazero.RuntimeConfig) engine {
	tb.Helper()
	ctx := tb.Context()
	r := wazero.NewRuntimeWithConfig(ctx, config.WithCoreFeatures(api.CoreFeaturesV2).WithDebugInfoEnabled(false))
	tb.Cleanup(func() { require.NoError(tb, r.Close(context.WithoutCancel(ctx))) })
	return engine{name, r}
}

func (e engine) instantiate(tb testing.TB, module []byte) api.Module {
	tb.Helper()
	m, err := e.runtime.InstantiateWithConfig(tb.Context(), module, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	require.NoError(tb, err)
	return m
}

// withMemory instantiates a module on a host that has so many pages only.
func (e engine) withMemory(tb testing.TB, module []byte, pages uint64) api.Module {
	tb.Helper()
	ctx := experimental.WithMemoryAllocator(tb.Context(), experimental.MemoryAllocatorFunc(func(_, _ uint64) experimental.LinearMemory {
		return &smallMemory{limit: pages << 16}
	}))
	m, err := e.runtime.InstantiateWithConfig(ctx, module, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	require.NoError(tb, err)
	return m
}

type smallMemory struct {
	limit uint64
	b     []byte
}

func (m *smallMemory) Reallocate(size uint64) []byte {
	if size > m.limit {
		return nil
	}
	m.b = append(m.b, make([]byte, size-uint64(len(m.b)))...)
	return m.b
}

func (m *smallMemory) Free() {}

func global(m api.Module, name string) api.MutableGlobal {
	g, _ := m.ExportedGlobal(name).(api.MutableGlobal)
	return g
}

// outcome is what a run leaves.
type outcome struct {
	results []uint64
	trap    string // first line
	used    uint64
	stop    uint64
	memory  uint64 // two checksums of what is in it
}

// invoke instantiates a module and calls a function with a limit.
func (e engine) invoke(tb testing.TB, module []byte, limit uint64, name string, args ...uint64) outcome {
	tb.Helper()
	m := e.instantiate(tb, module)
	defer func() { require.NoError(tb, m.Close(tb.Context())) }()
	return invokeIn(tb, m, limit, name, args...)
}

func invokeIn(tb testing.TB, m api.Module, limit uint64, name string, args ...uint64) outcome {
	tb.Helper()
	setLimit(m, limit)
	var o outcome
	var err error
	o.results, err = m.ExportedFunction(name).Call(tb.Context(), args...)
	if err != nil {
		o.trap, _, _ = strings.Cut(err.Error(), "\n")
		o.results = nil
	}
	if len(o.results) == 0 {
		o.results = nil // engines differ
	}
	if g := global(m, meter.UsedGlobal); g != nil {
		o.used, o.stop = g.Get(), global(m, meter.StopGlobal).Get()
	}
	if mem := m.Memory(); mem != nil {
		all, _ := mem.Read(0, mem.Size())
		o.memory = uint64(crc32.ChecksumIEEE(all))<<32 | uint64(crc32.Checksum(all, crc32.MakeTable(crc32.Castagnoli)))
	}
	return o
}

// outOfFuel says whether the limit ended a run, as a host finds out.
func (o outcome) outOfFuel(limit uint64) bool { return o.used > limit }

// same requires that two runs are equal in all that a guest can show.
func same(tb testing.TB, want, got outcome, format string, args ...any) {
	tb.Helper()
	where := fmt.Sprintf(format, args...)
	require.Equal(tb, want.trap, got.trap, where)
	require.Equal(tb, want.results, got.results, where)
	require.Equal(tb, want.memory, got.memory, where)
}

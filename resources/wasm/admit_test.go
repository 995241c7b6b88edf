package wasm_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/resourcestest"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
)

// raw returns a command with sections of one's own before its code.
func raw(sections ...[]byte) []byte {
	return (&wasmtest.Builder{Raw: slices.Concat(sections...)}).Command(0)
}

func nested(open []byte, depth int) []byte {
	return slices.Concat(bytes.Repeat(open, depth), bytes.Repeat([]byte{0x0b}, depth))
}

func TestModulesThatAreRefused(t *testing.T) {
	t.Parallel()
	const huge = "\xff\xff\xff\xff\x0f" // 2^32-1
	header := []byte("\x00asm\x01\x00\x00\x00")
	importing := func(module, name string, params, results []byte) []byte {
		b := &wasmtest.Builder{}
		b.Import(module, name, params, results)
		return b.Command(0)
	}
	imported := func(kind byte, rest ...byte) []byte {
		return slices.Concat(header, wasmtest.Section(2, slices.Concat([]byte{1, 1, 'a', 1, 'b', kind}, rest)))
	}
	e := newExecutor(t)
	for name, c := range map[string]struct {
		module []byte
		want   error
		text   string
	}{
		"text format":          {[]byte("(module)"), mman.ErrModule, "does not begin like"},
		"component":            {[]byte("\x00asm\x0d\x00\x01\x00"), mman.ErrModule, "not a component"},
		"empty module":         {header, mman.ErrModule, "exports no function _start"},
		"library":              {(&wasmtest.Builder{}).Function("run", 0), mman.ErrModule, "exports no function _start"},
		"cut short":            {wasmtest.Echo()[:100], mman.ErrModule, "cut short"},
		"too large":            {append(raw(), wasmtest.Section(0, make([]byte, wasm.ModuleMaxBytes))...), mman.ErrModule, "at most 33554432"},
		"start of nothing":     {raw(wasmtest.Section(8, []byte{1})), mman.ErrModule, "function 1 of 1"},
		"tag section":          {raw(wasmtest.Section(13, []byte{0})), mman.ErrModule, "kind 13"},
		"bytes behind section": {raw(wasmtest.Section(6, []byte{0, 0})), mman.ErrModule, "1 bytes too many"},
		"unknown function":     {importing(wasmtest.WASI, "fd_teleport", nil, nil), mman.ErrImport, `"fd_teleport"`},
		"wrong type":           {importing(wasmtest.WASI, "fd_close", []byte{wasmtest.I64}, []byte{wasmtest.I32}), mman.ErrImport, "fd_close is imported with another type"},
		"other WASI":           {importing("wasi_unstable", "fd_close", []byte{wasmtest.I32}, []byte{wasmtest.I32}), mman.ErrImport, `"wasi_unstable"."fd_close"`},
		"imported memory":      {imported(2, 0, 1), mman.ErrImport, `"a"."b"`},
		"imported global":      {imported(3, 0x7f, 0), mman.ErrImport, `"a"."b"`},
		"start with results":   {slices.Replace((&wasmtest.Builder{}).Command(0, wasmtest.Const(1)), 9, 14, 5, 1, 0x60, 0, 1, 0x7f), mman.ErrModule, "_start has parameters or results"},
		"two starts":           {raw(wasmtest.Section(7, []byte{0})), mman.ErrModule, "out of order"},
		"shared memory":        {bytes.Replace((&wasmtest.Builder{MinPages: 1, MaxPages: 1}).Command(0), []byte{5, 4, 1, 1, 1, 1}, []byte{5, 4, 1, 3, 1, 1}, 1), mman.ErrModule, "without threads"},
		"two memories":         {bytes.Replace(wasmtest.Nothing(), []byte{5, 3, 1, 0, 1}, []byte{5, 5, 2, 0, 1, 0, 1}, 1), mman.ErrModule, "2 memories"},
		"huge memory":          {(&wasmtest.Builder{MinPages: 1 << 16}).Command(0), mman.ErrMemory, "4294967296 bytes"},
		"impossible memory":    {(&wasmtest.Builder{MinPages: 1<<16 + 1}).Command(0), mman.ErrModule, ""},
		"huge table":           {slices.Concat(header, wasmtest.Section(4, []byte("\x01\x70\x00"+huge))), mman.ErrMemory, "4294967295 elements"},
		"upside-down table":    {slices.Concat(header, wasmtest.Section(4, []byte("\x01\x70\x01\x02\x01"))), mman.ErrModule, "at least 2 and at most 1"},
		"many tables":          {slices.Concat(header, wasmtest.Section(4, append([]byte{17}, bytes.Repeat([]byte{0x70, 0, 0}, 17)...))), mman.ErrModule, "17 tables"},
		"huge counts":          {slices.Concat(header, wasmtest.Section(1, []byte(huge))), mman.ErrModule, "counts more than it holds"},
		"huge arity":           {slices.Concat(header, wasmtest.Section(1, append([]byte{1, 0x60, 0xe9, 7}, make([]byte, 1002)...))), mman.ErrModule, "1001 parameters"},
		"huge data":            {slices.Concat(header, wasmtest.Section(11, []byte("\x01\x01"+huge))), mman.ErrModule, "cut short"},
		"huge element":         {slices.Concat(header, wasmtest.Section(9, []byte("\x01\x01\x00"+huge))), mman.ErrModule, "counts more"},
		"long number":          {slices.Concat(header, []byte{1, 0x80, 0x80, 0x80, 0x80, 0x80, 0}), mman.ErrModule, "longer than its type"},
		"many locals":          {(&wasmtest.Builder{}).Command(50_001), mman.ErrModule, "50001 locals"},
		"unknown operator":     {(&wasmtest.Builder{}).Command(0, []byte{0x12, 0}), mman.ErrModule, "operator 0x12"},
		"threads":              {(&wasmtest.Builder{MinPages: 1}).Command(0, []byte{0xfe, 0x03, 0}), mman.ErrModule, "operator 0xfe"},
		"relaxed SIMD":         {(&wasmtest.Builder{}).Command(0, []byte{0xfd, 0x80, 0x02}), mman.ErrModule, "operator 0xfd 256"},
		"wrong types":          {(&wasmtest.Builder{}).Command(0, wasmtest.Drop()), mman.ErrModule, ""},
		"operators behind":     {(&wasmtest.Builder{}).Command(0, []byte{0x0b, 0x01}), mman.ErrModule, "behind its end"},
		"deep blocks":          {(&wasmtest.Builder{}).Command(0, nested([]byte{0x02, 0x40}, 300_000)), mman.ErrModule, "too many branches"},
		"deep loops of locals": {(&wasmtest.Builder{}).Command(2000, nested([]byte{0x03, 0x40}, 1000)), mman.ErrModule, "too many branches"},
		"loops when metered":   {(&wasmtest.Builder{}).Command(0, nested([]byte{0x03, 0x40}, 5_000)), mman.ErrModule, "too many branches"},
		"huge function":        {(&wasmtest.Builder{}).Command(0, make([]byte, 1<<20), []byte{}), mman.ErrModule, "at most 1048576"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task, _ := newTask(c.module)
			task.Limits.MemoryBytes = 1 << 30
			_, err := e.Prepare(t.Context(), task)
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.text)
			require.Less(t, len(err.Error()), 1024)
		})
	}
}

// TestTablesGrowToTheirBoundOnly: 0xfc 0x0f is table.grow.
func TestTablesGrowToTheirBoundOnly(t *testing.T) {
	t.Parallel()
	grow := func(n int32) []byte { // table.grow by n; trap unless it answers -1
		return slices.Concat([]byte{0xd0, 0x70}, wasmtest.Const(n), []byte{0xfc, 0x0f, 0}, wasmtest.Const(-1), wasmtest.Eq(), wasmtest.Eqz(), wasmtest.If(wasmtest.Unreachable()))
	}
	module := (&wasmtest.Builder{}).Command(0, grow(1<<20+1), grow(-1))
	// The table section comes before the memory's.
	at := bytes.Index(module, []byte{5, 3, 1, 0, 0})
	module = slices.Concat(module[:at], wasmtest.Section(4, []byte{1, 0x70, 0, 0}), module[at:])
	task, _ := newTask(module)
	_, _, err := run(t, newExecutor(t), task)
	require.NoError(t, err)
}

// FuzzPrepare feeds modules to admission and the compiler, and runs what passes.
func FuzzPrepare(f *testing.F) {
	for _, seed := range [][]byte{
		wasmtest.Echo(), wasmtest.Args(), wasmtest.ReadInput(), wasmtest.ClockRandom(), wasmtest.AllocateForever(),
		wasmtest.Trap(), wasmtest.Exit(3), wasmtest.ForbiddenImport(), raw(wasmtest.Section(6, []byte{1, 0x7f, 0, 0x41, 0, 0x0b})),
		(&wasmtest.Builder{}).Command(3, nested([]byte{0x03, 0x40}, 10)),
	} {
		f.Add(seed)
	}
	e, err := wasm.New(wasm.Config{Clock: time.Now, CacheBytes: 1})
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, e.Close()) })
	f.Fuzz(func(t *testing.T, module []byte) {
		content := &resourcestest.Content{}
		task := resources.Task{
			Algorithm: content.Add(module), Content: content,
			Limits: resources.Limits{WallMs: 20, MemoryBytes: 4 << 20, InputBytes: 1 << 20, OutputBytes: 1 << 20, Fuel: 1 << 30},
		}
		prepared, err := e.Prepare(t.Context(), task)
		if err == nil {
			_, err = e.Run(t.Context(), prepared, resources.IO{})
		}
		if err != nil {
			require.NotEqual(t, mman.ErrInternal.Code, mman.CodeOf(err), "%v", err)
			require.True(t, mman.CodeOf(err) >= mman.ErrModule.Code || mman.CodeOf(err) == mman.ErrTimeout.Code, "%v", err)
		}
	})
}

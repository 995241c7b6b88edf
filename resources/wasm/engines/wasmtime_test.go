package engines_test

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v39"
	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/meter"
)

// plainOnWasmtime runs a program as it was written, with the engine's own WASI.
func (p program) plainOnWasmtime(t *testing.T, engine *wasmtime.Engine) []byte {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	require.NoError(t, os.WriteFile(in, p.stdin, 0o600))
	store := wasmtime.NewStore(engine)
	config := wasmtime.NewWasiConfig()
	config.SetArgv(append([]string{wasm.ProgramName}, p.args...))
	require.NoError(t, config.SetStdinFile(in))
	require.NoError(t, config.SetStdoutFile(out))
	store.SetWasi(config)
	linker := wasmtime.NewLinker(engine)
	defer linker.Close()
	require.NoError(t, linker.DefineWasi())
	instance, err := linker.Instantiate(store, p.wasmtime)
	require.NoError(t, err)
	if _, err := instance.GetFunc(store, "_start").Call(store); err != nil {
		require.ErrorContains(t, err, "Exited with i32 exit status 0")
	}
	store.Close() // what was written is in the file
	return read(t, out)
}

// onWasmtime runs a program metered and returns its output and its fuel.
func (p program) onWasmtime(t *testing.T, engine *wasmtime.Engine) (stdout []byte, fuel uint64) {
	t.Helper()
	store := wasmtime.NewStore(engine)
	defer store.Close()
	linker := wasmtime.NewLinker(engine)
	defer linker.Close()
	linker.AllowShadowing(true) // Go imports some functions twice
	w := newWorld(t, p)
	for _, i := range p.metered.Imports() {
		name := *i.Name()
		require.NoError(t, linker.FuncNew(i.Module(), name, i.Type().FuncType(), func(caller *wasmtime.Caller, args []wasmtime.Val) ([]wasmtime.Val, *wasmtime.Trap) {
			numbers := make([]uint64, 0, len(args))
			for _, a := range args {
				if a.Kind() == wasmtime.KindI64 {
					numbers = append(numbers, uint64(a.I64()))
				} else {
					numbers = append(numbers, uint64(uint32(a.I32())))
				}
			}
			w.memory = caller.GetExport("memory").Memory().UnsafeData(caller)
			used := caller.GetExport(meter.UsedGlobal).Global()
			errno := w.call(name, numbers)
			w.memory = nil
			if err := used.Set(caller, wasmtime.ValI64(used.Get(caller).I64()+w.charge)); err != nil {
				return nil, wasmtime.NewTrap(err.Error())
			}
			w.charge = 0
			if w.exited {
				return nil, wasmtime.NewTrap("proc_exit")
			}
			return []wasmtime.Val{wasmtime.ValI32(errno)}, nil
		}))
	}
	instance, err := linker.Instantiate(store, p.metered)
	require.NoError(t, err)
	limit := resources.DefaultLimits().Fuel
	require.NoError(t, instance.GetExport(store, meter.LimitGlobal).Global().Set(store, wasmtime.ValI64(int64(limit))))
	require.Nil(t, instance.GetFunc(store, meter.StartFunction), "no compiler of these makes one")
	if _, err := instance.GetFunc(store, "_start").Call(store); err != nil {
		require.True(t, w.exited, "%v", err)
	}
	require.Zero(t, w.code)
	require.Empty(t, w.unknown, "functions that this host lacks")
	require.Zero(t, instance.GetExport(store, meter.StopGlobal).Global().Get(store).I32())
	return w.stdout, uint64(instance.GetExport(store, meter.UsedGlobal).Global().Get(store).I64())
}

// Error numbers of WASI preview 1.
const (
	badFD  = 8
	seeked = 70
	absent = 52
)

// world is a third writing of what the executor shows to a guest: as much of WASI
// preview 1 as programs call that read standard input and write standard output.
type world struct {
	memory  []byte // during a call
	args    []string
	stdin   []byte
	stdout  []byte
	elapsed uint64 // of all clocks, ns
	random  *rand.ChaCha8
	charge  int64 // fuel of the call under way
	exited  bool
	code    uint32
	unknown []string
}

func newWorld(t *testing.T, p program) *world {
	t.Helper()
	return &world{
		args: append([]string{wasm.ProgramName}, p.args...), stdin: p.stdin,
		random: rand.NewChaCha8(sha256.Sum256(append([]byte("mman/wasm/random/1\x00"), make([]byte, 32)...))),
	}
}

func (w *world) put32(at, v uint64) { binary.LittleEndian.PutUint32(w.memory[at:], uint32(v)) }
func (w *world) put64(at, v uint64) { binary.LittleEndian.PutUint64(w.memory[at:], v) }

// pay charges for bytes that pass.
func (w *world) pay(n int) { w.charge += int64((n + meter.RangeUnit - 1) / meter.RangeUnit) }

// vectors returns the guest's buffers.
func (w *world) vectors(at, count uint64) (all [][]byte) {
	for range count {
		from, n := binary.LittleEndian.Uint32(w.memory[at:]), binary.LittleEndian.Uint32(w.memory[at+4:])
		all = append(all, w.memory[from:][:n])
		at += 8
	}
	return all
}

// mounts are the folders that a guest finds open, from descriptor 3 on.
func mounts() []string { return []string{wasm.DataDir, wasm.ScratchDir} }

// call answers one call of the guest's.
func (w *world) call(name string, a []uint64) (errno int32) {
	switch name {
	case "args_sizes_get":
		size := 0
		for _, s := range w.args {
			size += len(s) + 1
		}
		w.put32(a[0], uint64(len(w.args)))
		w.put32(a[1], uint64(size))
	case "args_get":
		at := a[1]
		for i, s := range w.args {
			w.put32(a[0]+4*uint64(i), at)
			at += uint64(copy(w.memory[at:], s+"\x00"))
		}
	case "environ_sizes_get":
		w.put32(a[0], 0)
		w.put32(a[1], 0)
	case "environ_get", "sched_yield", "fd_fdstat_set_flags":
	case "clock_res_get":
		w.put64(a[1], wasm.ClockStep)
	case "clock_time_get":
		w.elapsed += wasm.ClockStep
		w.put64(a[2], w.clock(a[0]))
	case "random_get":
		_, _ = w.random.Read(w.memory[a[0]:][:a[1]]) // never fails
	case "proc_exit":
		w.exited, w.code = true, uint32(a[0])
	case "poll_oneoff":
		w.poll(a)
	default:
		return w.file(name, a)
	}
	return 0
}

// clock shows the real time, number 0, or the time since the start.
func (w *world) clock(id uint64) uint64 {
	if id == 0 {
		return wasm.ClockEpoch + w.elapsed
	}
	return w.elapsed
}

// poll answers one subscription to a clock: a sleep, which takes no time.
func (w *world) poll(a []uint64) {
	in := w.memory[a[0]:][:48]
	if a[2] != 1 || in[8] != 0 {
		w.unknown = append(w.unknown, "poll_oneoff of files")
		return
	}
	timeout := binary.LittleEndian.Uint64(in[24:])
	if in[40]&1 != 0 { // until, not for
		timeout -= min(timeout, w.clock(uint64(in[16])))
	}
	w.elapsed += timeout
	clear(w.memory[a[1]:][:32])
	copy(w.memory[a[1]:], in[:8])
	w.put32(a[3], 1)
}

// file answers a call on a descriptor.
func (w *world) file(name string, a []uint64) (errno int32) {
	stream, folder := a[0] < 3, int(a[0])-3
	if !stream && folder >= len(mounts()) {
		return badFD
	}
	switch {
	case name == "fd_read" && a[0] == 0:
		n := 0
		for _, b := range w.vectors(a[1], a[2]) {
			m := copy(b[:min(len(b), 64<<10-n)], w.stdin)
			w.stdin = w.stdin[m:]
			n += m
		}
		w.pay(n)
		w.put32(a[3], uint64(n))
	case name == "fd_write" && stream && a[0] > 0:
		n := 0
		for _, b := range w.vectors(a[1], a[2]) {
			w.pay(len(b))
			n += len(b)
			if a[0] == 1 {
				w.stdout = append(w.stdout, b...)
			}
		}
		w.put32(a[3], uint64(n))
	case name == "fd_fdstat_get":
		w.fdstat(a)
	case name == "fd_seek" && stream:
		return seeked
	case name == "fd_prestat_get" && !stream:
		w.put32(a[1], 0)
		w.put32(a[1]+4, uint64(len(mounts()[folder])))
	case name == "fd_prestat_dir_name" && !stream:
		copy(w.memory[a[1]:], mounts()[folder])
	default:
		w.unknown = append(w.unknown, name)
		return absent
	}
	return 0
}

// fdstat writes what a descriptor is and may be used for.
func (w *world) fdstat(a []uint64) {
	kind, rights, below := byte(2), uint64(1<<1|1<<2|1<<5|1<<21), uint64(0)
	switch {
	case a[0] == 1 || a[0] == 2:
		rights = 1<<5 | 1<<6
	case a[0] > 2:
		kind, rights = 3, 1<<13|1<<14|1<<18|1<<21
		changes := uint64(1<<9 | 1<<10 | 1<<16 | 1<<17 | 1<<20 | 1<<25 | 1<<26)
		below = rights | changes | 1<<1 | 1<<2 | 1<<5 | 1<<6 | 1<<0 | 1<<4 | 1<<8 | 1<<22 | 1<<23
		if mounts()[a[0]-3] == wasm.ScratchDir {
			rights |= changes
		}
	}
	clear(w.memory[a[1]:][:24])
	w.memory[a[1]] = kind
	w.put64(a[1]+8, rights)
	w.put64(a[1]+16, below)
}

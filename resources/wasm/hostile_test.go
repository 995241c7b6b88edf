package wasm_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/resourcestest"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
)

// hostileLimits are those of every hostile guest.
func hostileLimits() resources.Limits {
	return resources.Limits{WallMs: 600_000, MemoryBytes: 32 << 20, InputBytes: 1 << 20, OutputBytes: 100_000, Fuel: 200_000_000}
}

// hostileMemory is by how much a process may grow, in bytes, whatever a guest with
// hostileLimits does: its memory some times over, since what it had before it grew is
// free only when it is collected, and the compiler's.
const hostileMemory = 256 << 20

// slowFuel is for guests whose host calls take longer than operators.
const slowFuel = 1_000_000

type hostileGuest struct {
	module []byte
	want   error
	text   string
	fuel   uint64 // 0 for that of hostileLimits
}

// hostile are guests that do one bad thing without end. Each has the limit that it
// ends at.
func hostile() map[string]hostileGuest {
	builder := func() *wasmtest.Builder { return &wasmtest.Builder{MinPages: 1} }
	start := func() *wasmtest.Builder {
		return &wasmtest.Builder{MinPages: 1, Raw: wasmtest.Section(8, []byte{0})}
	}
	write := builder()
	flood := write.ImportWASI("fd_write", 4)
	clock := builder()
	probe := clock.Import(wasmtest.WASI, "clock_time_get", []byte{wasmtest.I32, wasmtest.I64, wasmtest.I32}, []byte{wasmtest.I32})
	poll := builder()
	sleep := poll.ImportWASI("poll_oneoff", 4)
	// 0xfc 0x0f is table.grow, here by one reference to nothing.
	growTable := []byte{0xd0, 0x70, 0x41, 1, 0xfc, 0x0f, 0, 0x1a}
	zeros := append([]byte{0xfd, 12}, make([]byte, 16)...) // v128.const
	forever := wasmtest.Loop(wasmtest.Br(0))
	const fuel, slow, stack = "200000000", "1000000", "words of stack"
	return map[string]hostileGuest{
		"br":           {builder().Command(0, forever), mman.ErrFuel, fuel, 0},
		"br_if":        {builder().Command(0, wasmtest.Loop(wasmtest.Const(1), wasmtest.BrIf(0))), mman.ErrFuel, fuel, 0},
		"br_table":     {builder().Command(0, wasmtest.Loop(wasmtest.Const(7), []byte{0x0e, 1, 0, 0})), mman.ErrFuel, fuel, 0},
		"recursion":    {builder().Command(0, wasmtest.Call(0)), mman.ErrGuestTrap, stack, 0},
		"huge locals":  {builder().Command(5000, wasmtest.Call(0)), mman.ErrGuestTrap, stack, 0},
		"many locals":  {builder().Command(2_000, forever), mman.ErrFuel, fuel, 0},
		"indirect":     {(&wasmtest.Builder{MinPages: 1, Table: 1}).Command(0, wasmtest.Const(0), []byte{0x11, 0, 0}), mman.ErrGuestTrap, stack, 0},
		"start":        {start().Command(0, forever), mman.ErrFuel, fuel, 0},
		"start, deep":  {start().Command(0, wasmtest.Call(0)), mman.ErrGuestTrap, stack, 0},
		"vectors":      {builder().Command(0, wasmtest.Loop(zeros, zeros, []byte{0xfd, 0xe4, 1}, wasmtest.Drop(), wasmtest.Br(0))), mman.ErrFuel, fuel, 0},
		"deep nesting": {builder().Command(0, nested([]byte{0x02, 0x40}, 10_000), forever), mman.ErrFuel, fuel, 0},
		"memory":       {builder().Command(0, wasmtest.Loop(wasmtest.Grow(16), wasmtest.Drop(), wasmtest.Br(0))), mman.ErrMemory, "asked for more", 0},
		"memory fills": {(&wasmtest.Builder{MinPages: 256}).Command(0, wasmtest.Loop(wasmtest.Const(0), wasmtest.Const(1), wasmtest.Const(1<<24), []byte{0xfc, 0x0b, 0}, wasmtest.Br(0))), mman.ErrFuel, fuel, 0},
		"table":        {(&wasmtest.Builder{MinPages: 1, Table: 1}).Command(0, wasmtest.Loop(growTable, wasmtest.Br(0))), mman.ErrFuel, fuel, 0},
		"output":       {write.Command(0, wasmtest.Loop(wasmtest.CallWASI(flood, 1, 16, 1, 32), wasmtest.Br(0))), mman.ErrFuel, slow, slowFuel},
		"flood":        {wasmtest.PrintForever(), mman.ErrOutput, "100000 bytes", 0},
		"clock":        {clock.Command(0, wasmtest.Loop(wasmtest.Const(0), wasmtest.Const64(1), wasmtest.Const(64), wasmtest.Call(probe), wasmtest.Drop(), wasmtest.Br(0))), mman.ErrFuel, slow, slowFuel},
		"sleeping":     {poll.Command(0, wasmtest.Loop(wasmtest.CallWASI(sleep, 64, 256, 1, 32), wasmtest.Br(0))), mman.ErrFuel, slow, slowFuel},
		"escapes":      {escapes(), mman.ErrFuel, slow, slowFuel},
		"symlinks":     {symlinks(), mman.ErrFuel, slow, slowFuel},
	}
}

// texts puts texts into a module's memory, one behind the other.
type texts struct {
	b  *wasmtest.Builder
	at int32
}

// put returns the arguments that name a text.
func (t *texts) put(text string) []byte {
	t.b.Data(uint32(t.at), []byte(text))
	t.at += int32(len(text))
	return slices.Concat(wasmtest.Const(t.at-int32(len(text))), wasmtest.Const(int32(len(text))))
}

// never traps when a call of WASI succeeds.
func never(code ...[]byte) []byte {
	return slices.Concat(slices.Concat(code...), wasmtest.Eqz(), wasmtest.If(wasmtest.Unreachable()))
}

// escapes tries all ways out of its folders again and again.
func escapes() []byte {
	b := &wasmtest.Builder{MinPages: 1}
	open := b.Import(wasmtest.WASI, "path_open", []byte{
		wasmtest.I32, wasmtest.I32, wasmtest.I32, wasmtest.I32, wasmtest.I32, wasmtest.I64, wasmtest.I64, wasmtest.I32, wasmtest.I32,
	}, []byte{wasmtest.I32})
	list := &texts{b, 256}
	var tries []byte
	for _, path := range []string{"..", "../etc/passwd", "/etc/passwd", "0/../../etc/passwd", "./../..", "a/../../b", "//", "../data/../../etc", "..\\etc", "\x00", "../tmp/../.."} {
		name := list.put(path)
		for fd := int32(3); fd <= 4; fd++ {
			tries = append(tries, never(wasmtest.Const(fd), wasmtest.Const(1), name, wasmtest.Const(0), wasmtest.Const64(2), wasmtest.Const64(0), wasmtest.Const(0), wasmtest.Const(64), wasmtest.Call(open))...)
		}
	}
	return b.Command(0, wasmtest.Loop(tries, wasmtest.Br(0)))
}

// symlinks tries to make links out of its folders, and to follow them.
func symlinks() []byte {
	b := &wasmtest.Builder{MinPages: 1}
	symlink, link := b.ImportWASI("path_symlink", 5), b.ImportWASI("path_link", 7)
	read := b.ImportWASI("path_readlink", 6)
	list := &texts{b, 256}
	target, input, name := list.put("/etc/passwd"), list.put("0"), list.put("x")
	var tries []byte
	for fd := int32(3); fd <= 4; fd++ {
		at := wasmtest.Const(fd)
		tries = slices.Concat(tries,
			never(target, at, name, wasmtest.Call(symlink)),
			never(list.put("../.."), at, name, wasmtest.Call(symlink)),
			never(wasmtest.Const(3), wasmtest.Const(1), input, at, name, wasmtest.Call(link)),
			never(wasmtest.Const(3), wasmtest.Const(1), target, at, name, wasmtest.Call(link)),
			never(at, name, wasmtest.Const(1024), wasmtest.Const(64), wasmtest.Const(64), wasmtest.Call(read)),
		)
	}
	return b.Command(0, wasmtest.Loop(tries, wasmtest.Br(0)))
}

// hostileHere, in the environment, makes TestHostileGuestsEndAtTheirLimits the process
// that the guests run in, so that nothing else takes memory there.
const hostileHere = "MMAN_HOSTILE_HERE"

// TestHostileGuestsEndAtTheirLimits: each with a code and a sentence, in bounded
// memory of the process, while another session goes on and gets its own answer for
// its own fuel.
func TestHostileGuestsEndAtTheirLimits(t *testing.T) {
	t.Parallel()
	if os.Getenv(hostileHere) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHostileGuestsEndAtTheirLimits$", "-test.v", "-test.timeout=0")
		cmd.Env = append(os.Environ(), hostileHere+"=1")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "MiB") {
				t.Log(strings.TrimSpace(line))
			}
		}
		return
	}
	e := newExecutor(t, func(c *wasm.Config) { c.CacheBytes = 1 })
	beside := newNeighbour(t, e)
	guests := hostile()
	names := make([]string, 0, len(guests))
	for name := range guests {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		guest := guests[name]
		beside.goesOn(t, guest.module)
		memory := watchMemory()
		stop := beside.keepOn(t)
		task, _ := newTask(guest.module)
		task.Limits = hostileLimits()
		if guest.fuel > 0 {
			task.Limits.Fuel = guest.fuel
		}
		_, result, err := run(t, e, task)
		runs := stop()
		grown := memory.stop()
		t.Logf("%-14s %4d MiB more, %d runs beside it", name, grown>>20, runs)
		require.ErrorIs(t, err, guest.want, name)
		require.ErrorContains(t, err, guest.text, name)
		require.Less(t, len(err.Error()), 300, name)
		require.LessOrEqual(t, result.Usage.Fuel, task.Limits.Fuel, name)
		require.LessOrEqual(t, result.Usage.OutBytes, task.Limits.OutputBytes, name)
		require.Less(t, grown, int64(shadow*hostileMemory), name)
	}
}

// neighbour is a session beside a hostile one.
type neighbour struct {
	executor *wasm.Executor
	task     resources.Task
	text     string
	fuel     uint64
}

func newNeighbour(t *testing.T, e *wasm.Executor) *neighbour {
	t.Helper()
	content := &resourcestest.Content{}
	n := &neighbour{executor: e, text: strings.Repeat("an innocent text ", 1000)}
	n.task = resources.Task{
		Algorithm: content.Add(wasmtest.Echo()), Stdin: content.Add([]byte(n.text)),
		Limits: resources.DefaultLimits(), Content: content,
	}
	n.task.Limits.WallMs = resources.MaxLimits().WallMs
	n.fuel = n.once(t)
	return n
}

func (n *neighbour) once(t *testing.T) uint64 {
	t.Helper()
	stdout, result, err := run(t, n.executor, n.task)
	require.NoError(t, err)
	require.Equal(t, n.text, stdout)
	return result.Usage.Fuel
}

// again runs the neighbour once, for a goroutine beside the test's own, and reports
// whether it got its answer for its fuel.
func (n *neighbour) again(t *testing.T) bool {
	t.Helper()
	prepared, err := n.executor.Prepare(t.Context(), n.task)
	if err != nil {
		t.Error(err)
		return false
	}
	var stdout strings.Builder
	result, err := n.executor.Run(t.Context(), prepared, resources.IO{Stdout: &stdout})
	if err != nil || stdout.String() != n.text || result.Usage.Fuel != n.fuel {
		t.Errorf("the session beside it: %d bytes for %d fuel, not %d for %d: %v", stdout.Len(), result.Usage.Fuel, len(n.text), n.fuel, err)
		return false
	}
	return true
}

// goesOn has a guest run, with all the fuel that there is, until the neighbour has run
// twice beside it. A guest that ends sooner runs again; one with which the neighbour
// cannot run meets its limit of time.
func (n *neighbour) goesOn(t *testing.T, module []byte) {
	t.Helper()
	task, _ := newTask(module)
	task.Limits = hostileLimits()
	task.Limits.Fuel = resources.MaxLimits().Fuel
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	for started := false; ctx.Err() == nil; started = true {
		prepared, err := n.executor.Prepare(t.Context(), task)
		require.NoError(t, err)
		if !started {
			go func() {
				defer close(ended)
				defer cancel()
				for range 2 {
					if !n.again(t) {
						return
					}
				}
			}()
		}
		_, err = n.executor.Run(ctx, prepared, resources.IO{Stdout: io.Discard})
		require.Error(t, err)
		require.NotErrorIs(t, err, mman.ErrWall, "the session beside it does not go on")
	}
	<-ended
}

// keepOn runs the neighbour until the returned function is called, once more after
// that, and says how often it ran.
func (n *neighbour) keepOn(t *testing.T) (stop func() int) {
	t.Helper()
	over, ended := make(chan struct{}), make(chan int)
	go func() {
		runs := 0
		defer func() { ended <- runs }()
		for last := false; !last && !t.Failed(); runs++ {
			select {
			case <-over:
				last = true
			default:
			}
			if !n.again(t) {
				return
			}
		}
	}()
	return func() int {
		close(over)
		return <-ended
	}
}

// memoryWatch finds by how much the process grew at most.
type memoryWatch struct {
	before, most int64
	cancel       context.CancelFunc
	work         sync.WaitGroup
}

func watchMemory() *memoryWatch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &memoryWatch{before: resident(), cancel: cancel}
	ticker := time.NewTicker(time.Millisecond)
	w.work.Go(func() {
		defer ticker.Stop()
		for {
			w.most = max(w.most, resident())
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	})
	return w
}

func (w *memoryWatch) stop() int64 {
	w.cancel()
	w.work.Wait()
	return max(w.most, resident()) - w.before
}

// resident is what the process has of the machine's memory, in bytes; where the system
// does not say, what the runtime has.
func resident() int64 {
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		if fields := strings.Fields(string(b)); len(fields) > 1 {
			if pages, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
				return pages * int64(os.Getpagesize())
			}
		}
	}
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
}

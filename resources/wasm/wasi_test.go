package wasm_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
)

// Memory of a probe: the error numbers of its calls, text for them, and a region
// for their results, which is printed at the end.
const (
	codesAt   = 4096
	textAt    = 8192
	resultsAt = 40960
	results   = 1024
)

// probe is a guest that makes a list of calls and prints what they answered.
type probe struct {
	builder wasmtest.Builder
	indices map[string]uint32
	code    [][]byte
	calls   int
	text    int32
}

func newProbe(calls ...string) *probe {
	p := &probe{builder: wasmtest.Builder{MinPages: 1}, indices: map[string]uint32{}}
	for _, c := range append(calls, "fd_write iiii") {
		name, types, _ := strings.Cut(c, " ")
		if _, twice := p.indices[name]; twice {
			continue
		}
		var params []byte
		for _, t := range types {
			if t == 'I' {
				params = append(params, wasmtest.I64)
			} else {
				params = append(params, wasmtest.I32)
			}
		}
		p.indices[name] = p.builder.Import(wasmtest.WASI, name, params, []byte{wasmtest.I32})
	}
	return p
}

// put places bytes in the memory and returns their address.
func (p *probe) put(b []byte) int32 {
	at := textAt + p.text
	p.builder.Data(uint32(at), b)
	p.text += int32(len(b))
	return at
}

// call calls a function; int is an i32, int64 an i64.
func (p *probe) call(name string, args ...any) {
	var code []byte
	for _, a := range args {
		switch v := a.(type) {
		case int:
			code = append(code, wasmtest.Const(int32(v))...)
		case int32:
			code = append(code, wasmtest.Const(v)...)
		case int64:
			code = append(code, wasmtest.Const64(v)...)
		default:
			panic(fmt.Sprintf("a %T is no argument", a))
		}
	}
	p.code = append(p.code, wasmtest.Store(codesAt+4*int32(p.calls), append(code, wasmtest.Call(p.indices[name])...)))
	p.calls++
}

// finish returns the module.
func (p *probe) finish() []byte {
	vectors := slices.Concat(
		binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, codesAt), uint32(4*p.calls)),
		binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, resultsAt), results))
	p.code = append(p.code, wasmtest.CallWASI(p.indices["fd_write"], 1, p.put(vectors), 2, 0))
	return p.builder.Command(0, p.code...)
}

// run returns the calls' error numbers and their results.
func (p *probe) run(t *testing.T, inputs ...string) (codes []uint32, answers []byte) {
	t.Helper()
	task, content := newTask(p.finish())
	task.Stdin = content.Add([]byte("standard input"))
	for _, in := range inputs {
		task.Inputs = append(task.Inputs, content.Add([]byte(in)))
	}
	stdout, _, err := run(t, newExecutor(t), task)
	require.NoError(t, err)
	require.Len(t, stdout, 4*p.calls+results)
	for i := range p.calls {
		codes = append(codes, binary.LittleEndian.Uint32([]byte(stdout[4*i:])))
	}
	return codes, []byte(stdout[4*p.calls:])
}

func TestFilesOfAGuest(t *testing.T) {
	t.Parallel()
	p := newProbe("path_open iiiiiIIii", "fd_seek iIii", "fd_tell ii", "fd_read iiii", "fd_pread iiiIi", "fd_close i",
		"fd_filestat_get ii", "path_filestat_get iiiii", "fd_fdstat_get ii", "fd_prestat_get ii", "fd_prestat_dir_name iii")
	zero, up, absolute, none, slash, dot := p.put([]byte("./1")), p.put([]byte("../etc")), p.put([]byte("/data/1")), p.put([]byte("2")), p.put([]byte("1/x")), p.put([]byte("."))
	vector := p.put([]byte("\x08\xa0\x00\x00\x04\x00\x00\x00")) // 4 bytes at resultsAt+8
	open := func(path int32, length, flags int, rights int64) {
		p.call("path_open", 3, 0, path, length, flags, rights, int64(0), 0, resultsAt)
	}
	open(zero, 3, 0, 2) // 0: fd 5 is input 1
	p.call("fd_seek", 5, int64(-3), 2, resultsAt+16)
	p.call("fd_read", 5, vector, 1, resultsAt+4)
	p.call("fd_tell", 5, resultsAt+24)
	p.call("fd_pread", 5, vector, 1, int64(2), resultsAt+32)
	p.call("fd_filestat_get", 5, resultsAt+64)
	p.call("path_filestat_get", 3, 0, dot, 1, resultsAt+128)
	p.call("fd_fdstat_get", 0, resultsAt+192)
	p.call("fd_prestat_get", 3, resultsAt+224)
	p.call("fd_prestat_dir_name", 3, resultsAt+232, 5)
	p.call("fd_close", 5)
	good := p.calls
	p.call("fd_close", 5)
	p.call("fd_seek", 0, int64(0), 0, resultsAt+512)
	p.call("fd_prestat_get", 5, resultsAt+512)
	open(up, 6, 0, 2)
	open(absolute, 7, 0, 2)
	open(none, 1, 0, 2)
	open(none, 1, 1, 2)
	open(slash, 3, 0, 2)
	open(zero, 3, 2, 2)
	open(zero, 3, 0, 64)
	open(zero, 3, 8, 2)
	open(-8, 9, 0, 2)
	p.call("fd_prestat_dir_name", 3, resultsAt+512, 4)
	codes, got := p.run(t, "first", "the second input")
	require.Equal(t, make([]uint32, good), codes[:good])
	require.Equal(t, []uint32{8, 70, 8, 76, 76, 44, 69, 54, 54, 69, 69, 21, 37}, codes[good:])
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(got[at:]) }
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(got[at:]) }
	require.EqualValues(t, 5, u32(0), "descriptor")
	require.EqualValues(t, 13, u64(16), "offset behind fd_seek")
	require.EqualValues(t, 3, u32(4), "fd_read up to the end")
	require.EqualValues(t, 16, u64(24), "fd_tell")
	require.EqualValues(t, 4, u32(32))
	require.Equal(t, "e se", string(got[8:12]), "fd_pread")
	require.EqualValues(t, 4, got[64+16], "a regular file")
	require.EqualValues(t, 16, u64(64+32), "its size")
	require.Equal(t, wasm.ClockEpoch, u64(64+48), "its time")
	require.EqualValues(t, 3, got[128+16], "a folder")
	require.EqualValues(t, 2, got[192], "a character device")
	require.EqualValues(t, 5, u32(228))
	require.Equal(t, "/data", string(got[232:237]))
}

func TestDirectoryOfAGuest(t *testing.T) {
	t.Parallel()
	p := newProbe("fd_readdir iiiIi")
	p.call("fd_readdir", 3, resultsAt+16, 500, int64(0), resultsAt)
	p.call("fd_readdir", 3, resultsAt+600, 30, int64(12), resultsAt+4)
	p.call("fd_readdir", 3, resultsAt+700, 30, int64(-1), resultsAt+8)
	p.call("fd_readdir", 0, resultsAt+700, 30, int64(0), resultsAt+12)
	inputs := make([]string, 11)
	for i := range inputs {
		inputs[i] = strconv.Itoa(i)
	}
	codes, got := p.run(t, inputs...)
	require.Equal(t, []uint32{0, 0, 0, 54}, codes)
	used := binary.LittleEndian.Uint32(got)
	var names []string
	for rest := got[16 : 16+used]; len(rest) > 0; {
		length := binary.LittleEndian.Uint32(rest[16:])
		names = append(names, string(rest[24:24+length]))
		rest = rest[24+length:]
	}
	require.Equal(t, []string{".", "..", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"}, names)
	require.EqualValues(t, 26, binary.LittleEndian.Uint32(got[4:]), "the last name")
	require.Equal(t, "10", string(got[624:626]))
	require.Zero(t, binary.LittleEndian.Uint32(got[8:]), "nothing behind the last")
}

func TestNothingCanBeChangedOrReached(t *testing.T) {
	t.Parallel()
	p := newProbe("fd_allocate iII", "fd_filestat_set_size iI", "fd_filestat_set_times iIIi", "fd_pwrite iiiIi", "path_create_directory iii",
		"path_filestat_set_times iiiiIIi", "path_link iiiiiii", "path_remove_directory iii", "path_rename iiiiii", "path_unlink_file iii",
		"path_symlink iiiii", "sock_accept iii", "sock_recv iiiiii", "sock_send iiiii", "sock_shutdown ii", "proc_raise i")
	input, other := p.put([]byte("0")), p.put([]byte("new"))
	p.call("fd_allocate", 3, int64(0), int64(3))
	p.call("fd_filestat_set_size", 3, int64(3))
	p.call("fd_filestat_set_times", 3, int64(3), int64(3), 5)
	p.call("fd_pwrite", 3, resultsAt, 0, int64(0), resultsAt)
	p.call("path_create_directory", 3, other, 3)
	p.call("path_filestat_set_times", 3, 0, input, 1, int64(3), int64(3), 5)
	p.call("path_link", 3, 0, input, 1, 3, other, 3)
	p.call("path_remove_directory", 3, input, 1)
	p.call("path_rename", 3, input, 1, 3, other, 3)
	p.call("path_rename", 3, input, 1, 4, other, 3)
	p.call("path_unlink_file", 3, input, 1)
	p.call("path_symlink", input, 1, 3, other, 3)
	readOnly := p.calls
	p.call("sock_accept", 3, 0, resultsAt)
	p.call("sock_recv", 3, resultsAt, 0, 0, resultsAt, resultsAt)
	p.call("sock_send", 3, resultsAt, 0, 0, resultsAt)
	p.call("sock_shutdown", 3, 0)
	p.call("proc_raise", 3)
	codes, _ := p.run(t, "input")
	require.Equal(t, slices.Repeat([]uint32{69}, readOnly), codes[:readOnly])
	require.Equal(t, []uint32{57, 57, 57, 57, 52}, codes[readOnly:])
}

func TestSleepingTakesNoTime(t *testing.T) {
	t.Parallel()
	p := newProbe("poll_oneoff iiii", "clock_time_get iIi", "clock_res_get ii", "sched_yield ")
	clock := func(id uint32, timeout uint64, flags uint16) []byte {
		b := make([]byte, 48)
		b[0] = 0xaa
		binary.LittleEndian.PutUint32(b[16:], id)
		binary.LittleEndian.PutUint64(b[24:], timeout)
		binary.LittleEndian.PutUint16(b[40:], flags)
		return b
	}
	stdin := make([]byte, 48)
	stdin[8] = 1
	const hour = 3_600_000_000_000
	sleep := p.put(slices.Concat(clock(1, 2*hour, 0), clock(1, hour, 0)))
	until := p.put(clock(0, wasm.ClockEpoch+2*hour, 1))
	mixed := p.put(slices.Concat(clock(1, hour, 0), stdin))
	forever := p.put(clock(1, 1<<64-1, 0))
	wrong := p.put(clock(9, 1, 0))
	p.call("poll_oneoff", sleep, resultsAt, 2, resultsAt+256)
	p.call("clock_time_get", 1, int64(0), resultsAt+264)
	p.call("poll_oneoff", until, resultsAt+64, 1, resultsAt+272)
	p.call("clock_time_get", 0, int64(0), resultsAt+280)
	p.call("poll_oneoff", mixed, resultsAt+128, 2, resultsAt+288)
	p.call("poll_oneoff", forever, resultsAt+512, 1, resultsAt+296)
	p.call("clock_time_get", 0, int64(0), resultsAt+304)
	p.call("clock_res_get", 0, resultsAt+312)
	p.call("sched_yield")
	good := p.calls
	p.call("poll_oneoff", sleep, resultsAt+512, 0, resultsAt+600)
	p.call("poll_oneoff", sleep, resultsAt+512, 0x05555556, resultsAt+600) // 48 times this wraps
	p.call("poll_oneoff", wrong, resultsAt+512, 1, resultsAt+600)
	p.call("clock_time_get", 4, int64(0), resultsAt+600)
	codes, got := p.run(t)
	require.Equal(t, make([]uint32, good), codes[:good])
	require.Equal(t, []uint32{28, 28, 28, 28}, codes[good:])
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(got[at:]) }
	require.EqualValues(t, 1, got[256], "only the nearer clock")
	require.EqualValues(t, 0xaa, got[0])
	require.Equal(t, hour+wasm.ClockStep, u64(264))
	require.EqualValues(t, 1, got[272])
	require.Equal(t, wasm.ClockEpoch+2*hour+wasm.ClockStep, u64(280))
	require.EqualValues(t, 1, got[288], "stdin is ready, the clock is not")
	require.EqualValues(t, 1, got[128+10])
	require.EqualValues(t, len("standard input"), u64(128+16))
	require.EqualValues(t, 1, got[296], "even for ever has an end")
	require.EqualValues(t, 1<<63-1, u64(304), "where the clocks stop")
	require.Equal(t, wasm.ClockStep, u64(312))
}

func TestHostAllocatesNothingThatAGuestNames(t *testing.T) {
	t.Parallel()
	p := newProbe("fd_renumber ii", "path_open iiiiiIIii", "fd_read iiii", "random_get ii", "args_get ii")
	path := p.put([]byte("0"))
	p.call("fd_renumber", 3, 0x7fffffff)
	p.call("fd_read", 0, resultsAt, 0x40000000, resultsAt)
	p.call("random_get", 0, -1)
	p.call("args_get", -4, resultsAt)
	for range 260 {
		p.call("path_open", 3, 0, path, 1, 0, int64(2), int64(0), 0, resultsAt)
	}
	codes, _ := p.run(t, "input")
	require.Equal(t, []uint32{8, 28, 21, 21}, codes[:4])
	require.Zero(t, codes[4+250])
	require.EqualValues(t, 33, codes[4+251], "256 descriptors at most")
}

func TestContentThatCannotBeReadEndsTheRun(t *testing.T) {
	t.Parallel()
	e := newExecutor(t)
	task, content := newTask(wasmtest.Echo())
	task.Stdin = content.Add([]byte("it will go"))
	prepared, err := e.Prepare(t.Context(), task)
	require.NoError(t, err)
	content.Forget(task.Stdin)
	_, err = e.Run(t.Context(), prepared, resources.IO{})
	require.ErrorIs(t, err, mman.ErrNotFound)
}

package wasm_test

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
)

// The descriptors of a guest's folders, and what path_open takes.
const (
	dataFD    = 3
	scratchFD = 4
	firstFD   = 5

	create, directory, exclusive, truncate = 1, 2, 4, 8
	reading, writing                       = 2, 64
)

func signatures() []string {
	return []string{
		"path_open iiiiiIIii", "fd_write iiii", "fd_read iiii", "fd_close i", "fd_seek iIii", "fd_pwrite iiiIi", "fd_pread iiiIi",
		"fd_filestat_get ii", "fd_filestat_set_size iI", "fd_allocate iII", "fd_filestat_set_times iIIi", "fd_readdir iiiIi",
		"fd_fdstat_get ii", "fd_fdstat_set_flags ii", "fd_renumber ii", "fd_prestat_dir_name iii",
		"path_filestat_get iiiii", "path_filestat_set_times iiiiIIi", "path_create_directory iii", "path_remove_directory iii",
		"path_rename iiiiii", "path_unlink_file iii", "path_readlink iiiiii", "path_symlink iiiii", "path_link iiiiiii",
	}
}

// scratchProbe calls the functions of files by name, and expects each to answer
// with a number.
type scratchProbe struct {
	*probe

	want []uint32
	said []string
}

func newScratchProbe() *scratchProbe { return &scratchProbe{probe: newProbe(signatures()...)} }

func (p *scratchProbe) expect(code uint32, name string, args ...any) {
	list := make([]any, 0, len(args)+1)
	for _, a := range args {
		if text, ok := a.(string); ok {
			list = append(list, p.put([]byte(text)), len(text))
			continue
		}
		list = append(list, a)
	}
	p.call(name, list...)
	p.want, p.said = append(p.want, code), append(p.said, name)
}

// open opens a path below a folder for reading and writing.
func (p *scratchProbe) open(code uint32, fd int, path string, flags int, rights int64) {
	p.expect(code, "path_open", fd, 0, path, flags, rights, int64(0), 0, resultsAt)
}

// vector is one buffer, as fd_read and fd_write take it.
func (p *scratchProbe) vector(at int32, length int) int32 {
	return p.put(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, uint32(at)), uint32(length)))
}

func (p *scratchProbe) text(s string) int32 { return p.vector(p.put([]byte(s)), len(s)) }

func (p *scratchProbe) check(t *testing.T, inputs ...string) []byte {
	t.Helper()
	codes, answers := p.run(t, inputs...)
	for i, want := range p.want {
		require.Equal(t, want, codes[i], "call %d, %s", i, p.said[i])
	}
	return answers
}

func TestScratchHoldsFilesAndFolders(t *testing.T) {
	t.Parallel()
	p := newScratchProbe()
	p.expect(0, "fd_prestat_dir_name", scratchFD, resultsAt+900, len(wasm.ScratchDir))
	p.expect(0, "path_create_directory", scratchFD, "a")
	p.expect(20, "path_create_directory", scratchFD, "a")
	p.expect(0, "path_create_directory", scratchFD, "a/b/")
	p.expect(44, "path_create_directory", scratchFD, "x/y")
	p.open(0, scratchFD, "a/b/file", create|exclusive, reading|writing)
	p.open(20, scratchFD, "a/./b/../b/file", create|exclusive, reading|writing)
	p.expect(0, "fd_write", firstFD, p.text("hello, scratch"), 1, resultsAt+4)
	p.expect(0, "fd_pwrite", firstFD, p.text("HELLO"), 1, int64(0), resultsAt+4)
	p.expect(0, "fd_pwrite", firstFD, p.text("end"), 1, int64(10_000), resultsAt+4)
	p.expect(0, "fd_filestat_get", firstFD, resultsAt+64)
	p.expect(0, "fd_pread", firstFD, p.vector(resultsAt+128, 20), 1, int64(0), resultsAt+8)
	p.expect(0, "fd_filestat_set_size", firstFD, int64(5))
	p.expect(0, "fd_allocate", firstFD, int64(4), int64(4))
	p.expect(0, "fd_seek", firstFD, int64(0), 0, resultsAt+16)
	p.expect(0, "fd_read", firstFD, p.vector(resultsAt+160, 20), 1, resultsAt+12)
	p.expect(0, "fd_fdstat_set_flags", firstFD, 1)
	p.expect(0, "fd_seek", firstFD, int64(0), 0, resultsAt+16)
	p.expect(0, "fd_write", firstFD, p.text("+"), 1, resultsAt+4)
	p.expect(0, "fd_filestat_set_times", firstFD, int64(7), int64(0), 1|8)
	p.expect(28, "fd_filestat_set_times", firstFD, int64(7), int64(0), 1|2)
	p.expect(0, "path_filestat_get", scratchFD, 0, "a/b/file", resultsAt+192)
	p.expect(0, "path_filestat_set_times", scratchFD, 0, "a/b", int64(9), int64(8), 1|4)
	p.expect(0, "path_rename", scratchFD, "a/b/file", scratchFD, "c")
	p.expect(0, "path_rename", scratchFD, "c", scratchFD, "c")
	p.expect(44, "path_rename", scratchFD, "a/b/file", scratchFD, "d")
	p.expect(28, "path_rename", scratchFD, "a", scratchFD, "a/b/inside")
	p.expect(0, "path_create_directory", scratchFD, "e")
	p.expect(31, "path_rename", scratchFD, "c", scratchFD, "e")
	p.expect(54, "path_rename", scratchFD, "e", scratchFD, "c")
	p.expect(55, "path_rename", scratchFD, "e", scratchFD, "a")
	p.expect(0, "path_rename", scratchFD, "a/b", scratchFD, "e")
	p.expect(54, "path_rename", scratchFD, "c", scratchFD, "new/")
	p.expect(69, "path_rename", scratchFD, "c", dataFD, "9")
	p.expect(28, "path_remove_directory", scratchFD, ".") // a folder is removed by its name only
	p.expect(54, "path_remove_directory", scratchFD, "c")
	p.expect(31, "path_unlink_file", scratchFD, "e")
	p.expect(0, "path_remove_directory", scratchFD, "e")
	p.expect(0, "fd_readdir", scratchFD, resultsAt+300, 200, int64(2), resultsAt+20)
	p.expect(0, "path_unlink_file", scratchFD, "c")
	p.expect(44, "path_filestat_get", scratchFD, 0, "c", resultsAt+600)
	// What is open is there until it is closed.
	p.expect(0, "fd_pread", firstFD, p.vector(resultsAt+700, 20), 1, int64(0), resultsAt+24)
	p.expect(0, "fd_close", firstFD)
	p.expect(8, "fd_pread", firstFD, p.vector(resultsAt+740, 20), 1, int64(0), resultsAt+28)
	got := p.check(t)
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(got[at:]) }
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(got[at:]) }
	require.Equal(t, wasm.ScratchDir, string(got[900:900+len(wasm.ScratchDir)]))
	require.EqualValues(t, 10_003, u64(64+32), "size, with a gap")
	require.Equal(t, wasm.ClockEpoch, u64(64+48), "the guest's clock stood still")
	require.Equal(t, "HELLO, scratch\x00\x00\x00\x00\x00\x00", string(got[128:148]))
	require.Equal(t, "HELLO\x00\x00\x00", string(got[160:160+u32(12)]), "cut and grown again")
	require.EqualValues(t, 9, u64(192+32))
	require.EqualValues(t, 7, u64(192+40))
	var names []string
	for rest := got[300 : 300+u32(20)]; len(rest) > 0; {
		length := binary.LittleEndian.Uint32(rest[16:])
		names = append(names, string(rest[24:24+length]))
		rest = rest[24+length:]
	}
	require.Equal(t, []string{"a", "c"}, names, "in the order in which they came")
	require.Equal(t, "HELLO\x00\x00\x00+", string(got[700:700+u32(24)]), "appended")
}

// TestNobodyLeavesTheScratch tries paths out of it, and links.
func TestNobodyLeavesTheScratch(t *testing.T) {
	t.Parallel()
	p := newScratchProbe()
	p.expect(0, "path_create_directory", scratchFD, "in")
	p.open(0, scratchFD, "in", directory, reading)
	for _, path := range []string{"..", "../", "in/../..", "./../tmp", "in/../../data/0", strings.Repeat("../", 1000) + "etc/passwd"} {
		p.open(76, scratchFD, path, 0, reading)
		p.open(76, scratchFD, path, create, writing)
	}
	p.open(76, firstFD, "../in", 0, reading)
	p.open(76, firstFD, "../../data/0", 0, reading)
	for _, path := range []string{"/", "/tmp", "/data/0", "//", "/etc/passwd", "/../etc"} {
		p.open(76, scratchFD, path, 0, reading)
	}
	p.open(44, scratchFD, "data/0", 0, reading)
	p.open(44, scratchFD, "in/x/../../..", 0, reading)
	p.open(25, scratchFD, "a\x00/../..", create, writing)
	p.open(25, scratchFD, "\xff\xfe", create, writing)
	p.open(37, scratchFD, strings.Repeat("n", 256), create, writing)
	p.open(37, scratchFD, strings.Repeat("x", 4097), create, writing)
	p.open(44, scratchFD, "", create, writing)
	p.open(31, scratchFD, "new/", create, writing)
	p.open(31, scratchFD, "in", 0, writing)
	p.open(69, dataFD, "0", 0, reading|writing)
	p.open(69, dataFD, "0", truncate, reading)
	p.open(69, dataFD, "new", create, writing)
	p.expect(58, "path_symlink", "/etc/passwd", scratchFD, "link")
	p.expect(58, "path_symlink", "../data", scratchFD, "in/link")
	p.expect(58, "path_link", dataFD, 0, "0", scratchFD, "hard")
	p.expect(69, "path_symlink", "0", dataFD, "link")
	p.expect(44, "path_readlink", scratchFD, "link", resultsAt+200, 20, resultsAt+8)
	p.expect(28, "path_readlink", scratchFD, "in", resultsAt+200, 20, resultsAt+8)
	p.expect(69, "path_rename", dataFD, "0", scratchFD, "stolen")
	p.expect(76, "path_rename", scratchFD, "in", scratchFD, "../out")
	p.expect(28, "path_rename", scratchFD, "in/..", scratchFD, "x")
	p.expect(28, "path_rename", scratchFD, "in", scratchFD, ".")
	// A folder that was removed while it is open takes nothing in and leads nowhere.
	p.expect(0, "path_remove_directory", scratchFD, "in")
	p.open(44, firstFD, "x", create, writing)
	p.open(76, firstFD, "..", 0, reading)
	p.expect(44, "path_create_directory", firstFD, "x")
	p.open(0, scratchFD, "f", create, reading|writing)
	p.expect(44, "path_rename", scratchFD, "f", firstFD, "f")
	p.expect(0, "fd_readdir", firstFD, resultsAt+300, 200, int64(0), resultsAt+20)
	// Descriptors of one kind are no other kind.
	p.expect(31, "fd_read", scratchFD, p.vector(resultsAt+400, 4), 1, resultsAt+8)
	p.expect(8, "fd_write", scratchFD, p.text("x"), 1, resultsAt+8)
	p.expect(31, "fd_pwrite", scratchFD, p.text("x"), 1, int64(0), resultsAt+8)
	p.expect(70, "fd_pwrite", 1, p.text("x"), 1, int64(0), resultsAt+8)
	p.expect(54, "fd_readdir", firstFD+1, resultsAt+300, 200, int64(0), resultsAt+8)
	p.expect(22, "fd_pwrite", firstFD+1, p.text("x"), 1, int64(1)<<40, resultsAt+8)
	p.expect(28, "fd_pwrite", firstFD+1, p.text("x"), 1, int64(-1), resultsAt+8)
	p.expect(22, "fd_filestat_set_size", firstFD+1, int64(-1))
	p.expect(22, "fd_allocate", firstFD+1, int64(-1), int64(2))
	p.expect(0, "fd_renumber", firstFD+1, firstFD)
	p.expect(8, "fd_close", firstFD+1)
	got := p.check(t, "input")
	require.EqualValues(t, 2*24+3, binary.LittleEndian.Uint32(got[20:]), "a removed folder has itself and its parent")
}

// fill is a guest that calls fd_write, path_open or path_create_directory again
// and again until one is refused, and prints how often it worked and the error.
func fill(name string) []byte {
	const (
		vectorAt, bufferAt, countAt, nameAt, codeAt, fdAt = 16, 65536, 64, 128, 72, 80
		block                                             = 48 << 10
		plus, and, or, shl, shr                           = 0x6a, 0x71, 0x72, 0x74, 0x76
	)
	b := &wasmtest.Builder{MinPages: 3}
	i32, i64 := wasmtest.I32, wasmtest.I64
	open := b.Import(wasmtest.WASI, "path_open", []byte{i32, i32, i32, i32, i32, i64, i64, i32, i32}, []byte{i32})
	write, mkdir, closing := b.ImportWASI("fd_write", 4), b.ImportWASI("path_create_directory", 3), b.ImportWASI("fd_close", 1)
	b.Data(vectorAt, binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, bufferAt), block))
	b.Data(nameAt, []byte("aaaaaaaa"))
	b.Data(fdAt, []byte{scratchFD})
	openAt := func(flags int32, rights int64) []byte {
		return slices.Concat(wasmtest.Load(fdAt), wasmtest.Const(0), wasmtest.Const(nameAt), wasmtest.Const(8), wasmtest.Const(flags),
			wasmtest.Const64(rights), wasmtest.Const64(0), wasmtest.Const(0), wasmtest.Const(vectorAt+16), wasmtest.Call(open))
	}
	count := wasmtest.Store(countAt, slices.Concat(wasmtest.Load(countAt), wasmtest.Const(1), []byte{plus}))
	// The count in base 16, as letters.
	letters := slices.Concat(
		wasmtest.Store(nameAt, slices.Concat(
			wasmtest.Load(countAt), wasmtest.Const(0xf), []byte{and},
			wasmtest.Load(countAt), wasmtest.Const(0xf0), []byte{and}, wasmtest.Const(4), []byte{shl, or},
			wasmtest.Load(countAt), wasmtest.Const(0xf00), []byte{and}, wasmtest.Const(8), []byte{shl, or},
			wasmtest.Load(countAt), wasmtest.Const(0xf000), []byte{and}, wasmtest.Const(12), []byte{shl, or},
			wasmtest.Const(0x61616161), []byte{plus})),
		wasmtest.Store(nameAt+4, slices.Concat(wasmtest.Load(countAt), wasmtest.Const(16), []byte{shr}, wasmtest.Const(0x61616161), []byte{plus})))
	var before, once []byte
	switch name {
	case "write":
		before = slices.Concat(openAt(create, writing), wasmtest.Drop(), wasmtest.Store(fdAt, wasmtest.Load(vectorAt+16)))
		once = slices.Concat(wasmtest.Load(fdAt), wasmtest.Const(vectorAt), wasmtest.Const(1), wasmtest.Const(vectorAt+8), wasmtest.Call(write))
	case "files":
		once = slices.Concat(letters, openAt(create, writing), wasmtest.Load(vectorAt+16), wasmtest.Call(closing), wasmtest.Drop())
	case "folders": // each in the one before
		once = slices.Concat(
			wasmtest.Load(fdAt), wasmtest.Const(nameAt), wasmtest.Const(8), wasmtest.Call(mkdir),
			openAt(directory, reading), wasmtest.Drop(),
			wasmtest.Load(fdAt), wasmtest.Call(closing), wasmtest.Drop(),
			wasmtest.Store(fdAt, wasmtest.Load(vectorAt+16)))
	}
	b.Data(vectorAt+32, binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, countAt), 12))
	return b.Command(0, before,
		wasmtest.Loop(
			wasmtest.Store(codeAt, once),
			wasmtest.Load(codeAt), wasmtest.Eqz(), wasmtest.If(count, wasmtest.Br(1))),
		wasmtest.CallWASI(write, 1, vectorAt+32, 1, vectorAt+8))
}

func TestScratchEnds(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for name, c := range map[string]struct {
		guest  string
		memory uint64
		times  [2]uint32
	}{
		"one file up to the cap":      {"write", 256 * mib, [2]uint32{1300, 64 * mib / (48 << 10)}},
		"many files up to the cap":    {"files", 256 * mib, [2]uint32{60_000, 64 << 10}},
		"deep folders up to the cap":  {"folders", 256 * mib, [2]uint32{60_000, 64 << 10}},
		"one file within the memory":  {"write", 8 * mib, [2]uint32{150, 8 * mib / (48 << 10)}},
		"many files within it":        {"files", 8 * mib, [2]uint32{7_000, 8 << 10}},
		"deep folders within it":      {"folders", 8 * mib, [2]uint32{7_000, 8 << 10}},
		"nothing is left for a write": {"write", 192 << 10, [2]uint32{0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task, _ := newTask(fill(c.guest))
			task.Limits.MemoryBytes = c.memory
			first, _, err := run(t, newExecutor(t), task)
			require.NoError(t, err)
			again, _, err := run(t, newExecutor(t), task)
			require.NoError(t, err)
			require.Equal(t, first, again, "where it ends is the same each time")
			times, code := binary.LittleEndian.Uint32([]byte(first)), binary.LittleEndian.Uint32([]byte(first[8:]))
			require.GreaterOrEqual(t, times, c.times[0])
			require.LessOrEqual(t, times, c.times[1])
			require.Contains(t, []uint32{51, 22, 8}, code)
		})
	}
}

// TestScratchCountsAgainstTheMemory: what the files take cannot be grown into.
func TestScratchCountsAgainstTheMemory(t *testing.T) {
	t.Parallel()
	p := newScratchProbe()
	p.open(0, scratchFD, "f", create, reading|writing)
	big := p.vector(0, 60_000)
	for range 20 {
		p.expect(0, "fd_write", firstFD, big, 1, resultsAt)
	}
	p.code = append(p.code, wasmtest.Grow(64), wasmtest.Drop())
	task, _ := newTask(p.finish())
	task.Limits.MemoryBytes = 66 * 65536
	_, _, err := run(t, newExecutor(t), task)
	require.ErrorIs(t, err, mman.ErrMemory)
	task.Limits.MemoryBytes = 90 * 65536
	_, _, err = run(t, newExecutor(t), task)
	require.NoError(t, err)
}

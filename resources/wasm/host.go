package wasm

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// errno is a WASI error number.
type errno uint32

// The error numbers that this host gives.
const (
	success     errno = 0
	errBadFD    errno = 8
	errExists   errno = 20
	errFault    errno = 21
	errBigFile  errno = 22
	errIllegal  errno = 25
	errInval    errno = 28
	errIsDir    errno = 31
	errManyFD   errno = 33
	errLongName errno = 37
	errNoEnt    errno = 44
	errNoSpace  errno = 51
	errNoSys    errno = 52
	errNotDir   errno = 54
	errNotEmpty errno = 55
	errNotSock  errno = 57
	errNotSup   errno = 58
	errReadOnly errno = 69
	errPipeSeek errno = 70
	errNotCap   errno = 76
)

// hostFunc is one function of WASI preview 1.
type hostFunc struct {
	name string
	// params spells the parameters, i for i32 and I for i64.
	params string
	// call answers the guest; args has one element for each parameter. Nil
	// stands for proc_exit, which has no result and does not return.
	call func(r *run, mem guestMemory, args []uint64) errno
}

func (f hostFunc) types() (params, results []api.ValueType) {
	for _, p := range f.params {
		t := api.ValueTypeI32
		if p == 'I' {
			t = api.ValueTypeI64
		}
		params = append(params, t)
	}
	if f.call != nil {
		results = []api.ValueType{api.ValueTypeI32}
	}
	return params, results
}

// matches reports whether an import was declared with the function's type.
func (f hostFunc) matches(def api.FunctionDefinition) bool {
	params, results := f.types()
	return slices.Equal(def.ParamTypes(), params) && slices.Equal(def.ResultTypes(), results)
}

// hostFuncs lists all functions of WASI preview 1, so that no guest is refused
// for one that it links but does not need.
func hostFuncs() []hostFunc {
	return []hostFunc{
		{"args_get", "ii", (*run).argsGet},
		{"args_sizes_get", "ii", (*run).argsSizesGet},
		{"environ_get", "ii", func(*run, guestMemory, []uint64) errno { return success }},
		{"environ_sizes_get", "ii", (*run).environSizesGet},
		{"clock_res_get", "ii", (*run).clockResGet},
		{"clock_time_get", "iIi", (*run).clockTimeGet},
		{"fd_advise", "iIIi", (*run).fdNothing},
		{"fd_allocate", "iII", (*run).fdAllocate},
		{"fd_close", "i", (*run).fdClose},
		{"fd_datasync", "i", (*run).fdNothing},
		{"fd_fdstat_get", "ii", (*run).fdStatGet},
		{"fd_fdstat_set_flags", "ii", (*run).fdSetFlags},
		{"fd_fdstat_set_rights", "iII", (*run).fdNothing},
		{"fd_filestat_get", "ii", (*run).fdFilestatGet},
		{"fd_filestat_set_size", "iI", (*run).fdSetSize},
		{"fd_filestat_set_times", "iIIi", (*run).fdSetTimes},
		{"fd_pread", "iiiIi", (*run).fdPread},
		{"fd_prestat_get", "ii", (*run).fdPrestatGet},
		{"fd_prestat_dir_name", "iii", (*run).fdPrestatDirName},
		{"fd_pwrite", "iiiIi", (*run).fdPwrite},
		{"fd_read", "iiii", (*run).fdRead},
		{"fd_readdir", "iiiIi", (*run).fdReaddir},
		{"fd_renumber", "ii", (*run).fdRenumber},
		{"fd_seek", "iIii", (*run).fdSeek},
		{"fd_sync", "i", (*run).fdNothing},
		{"fd_tell", "ii", (*run).fdTell},
		{"fd_write", "iiii", (*run).fdWrite},
		{"path_create_directory", "iii", (*run).pathCreateDirectory},
		{"path_filestat_get", "iiiii", (*run).pathFilestatGet},
		{"path_filestat_set_times", "iiiiIIi", (*run).pathSetTimes},
		{"path_link", "iiiiiii", (*run).pathNoLink},
		{"path_open", "iiiiiIIii", (*run).pathOpen},
		{"path_readlink", "iiiiii", (*run).pathReadlink},
		{"path_remove_directory", "iii", (*run).pathRemoveDirectory},
		{"path_rename", "iiiiii", (*run).pathRename},
		{"path_symlink", "iiiii", (*run).pathSymlink},
		{"path_unlink_file", "iii", (*run).pathUnlinkFile},
		{"poll_oneoff", "iiii", (*run).pollOneoff},
		{"proc_exit", "i", nil},
		{"proc_raise", "i", func(*run, guestMemory, []uint64) errno { return errNoSys }},
		{"sched_yield", "", func(*run, guestMemory, []uint64) errno { return success }},
		{"random_get", "ii", (*run).randomGet},
		{"sock_accept", "iii", (*run).fdNoSocket},
		{"sock_recv", "iiiiii", (*run).fdNoSocket},
		{"sock_send", "iiiii", (*run).fdNoSocket},
		{"sock_shutdown", "ii", (*run).fdNoSocket},
	}
}

// runKey finds a guest's run in the context of its host calls.
type runKey struct{}

// instantiateHost gives a runtime the host functions.
func instantiateHost(ctx context.Context, runtime wazero.Runtime) error {
	builder := runtime.NewHostModuleBuilder(importModule)
	for _, f := range hostFuncs() {
		params, results := f.types()
		builder.NewFunctionBuilder().WithGoModuleFunction(f.handler(), params, results).Export(f.name)
	}
	_, err := builder.Instantiate(ctx)
	return err
}

func (f hostFunc) handler() api.GoModuleFunc {
	if f.call == nil {
		return func(ctx context.Context, _ api.Module, stack []uint64) {
			hosted(ctx).exit(i32(stack[0]))
		}
	}
	n := len(f.params)
	return func(ctx context.Context, mod api.Module, stack []uint64) {
		r := hosted(ctx)
		if r.talk != nil {
			r.pay()
		}
		stack[0] = uint64(f.call(r, guestMemory{mod.Memory()}, stack[:n]))
	}
}

// i32 returns an i32 of the guest's: the low half of the slot that it came in.
func i32(slot uint64) uint32 { return uint32(slot) } //nolint:gosec // cut on purpose

func hosted(ctx context.Context) *run {
	r, ok := ctx.Value(runKey{}).(*run)
	if !ok {
		panic("a host function was called outside a run")
	}
	return r
}

// guestMemory reads and writes a guest's memory within its bounds. Addresses and
// lengths are what the guest passed: their low 32 bits count.
type guestMemory struct{ mem api.Memory }

// view returns the guest's own bytes, valid until the guest runs on.
func (g guestMemory) view(address, length uint64) ([]byte, bool) {
	if g.mem == nil {
		return nil, false
	}
	return g.mem.Read(i32(address), i32(length))
}

// array returns count records of size bytes each.
func (g guestMemory) array(address, count, size uint64) ([]byte, bool) {
	length := uint64(i32(count)) * size
	if length > 1<<32-1 {
		return nil, false
	}
	return g.view(address, length)
}

func (g guestMemory) put(address uint64, b []byte) errno {
	dst, ok := g.view(address, uint64(len(b)))
	if !ok {
		return errFault
	}
	copy(dst, b)
	return success
}

func (g guestMemory) putU32(address uint64, v uint32) errno {
	return g.put(address, binary.LittleEndian.AppendUint32(nil, v))
}

func (g guestMemory) putU64(address, v uint64) errno {
	return g.put(address, binary.LittleEndian.AppendUint64(nil, v))
}

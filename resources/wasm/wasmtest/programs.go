package wasmtest

import (
	"encoding/binary"
	"slices"
)

// Where the programs keep their buffers, in a memory of one page or two.
const (
	vectorAt = 16   // an iovec
	countAt  = 32   // what a call read or wrote
	scratch  = 64   // other results
	textAt   = 128  // the text of a program
	bufferAt = 1024 // 32 KiB
	buffer   = 32 << 10
)

func iovec(address, length uint32) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, address), length)
}

// Exit ends with the exit code.
func Exit(code int32) []byte {
	b := &Builder{MinPages: 1}
	exit := b.Import(WASI, "proc_exit", []byte{I32}, nil)
	return b.Command(0, Const(code), Call(exit))
}

// Nothing returns at once.
func Nothing() []byte { return (&Builder{MinPages: 1}).Command(0) }

// Print writes the text to standard output once, and "err" to standard error.
func Print(text string) []byte {
	b := &Builder{MinPages: 1}
	write := b.ImportWASI("fd_write", 4)
	b.Data(vectorAt, iovec(textAt, uint32(len(text))))
	b.Data(vectorAt+8, iovec(textAt+uint32(len(text)), 3))
	b.Data(textAt, []byte(text+"err"))
	return b.Command(0, CallWASI(write, 1, vectorAt, 1, countAt), CallWASI(write, 2, vectorAt+8, 1, countAt))
}

// copyLoop copies descriptor in to standard output until its end.
func copyLoop(read, write uint32, in []byte) []byte {
	return Loop(
		Store(vectorAt+4, Const(buffer)),
		in, Const(vectorAt), Const(1), Const(countAt), Call(read), Eqz(),
		If(
			Store(vectorAt+4, Load(countAt)),
			CallWASI(write, 1, vectorAt, 1, scratch),
			Load(countAt), BrIf(1),
		),
	)
}

// Echo copies standard input to standard output.
func Echo() []byte {
	b := &Builder{MinPages: 1}
	read, write := b.ImportWASI("fd_read", 4), b.ImportWASI("fd_write", 4)
	b.Data(vectorAt, iovec(bufferAt, buffer))
	return b.Command(0, copyLoop(read, write, Const(0)))
}

// ReadInput copies input 0 to standard output, and exits with WASI's error number
// when it cannot be opened.
func ReadInput() []byte {
	b := &Builder{MinPages: 1}
	read, write := b.ImportWASI("fd_read", 4), b.ImportWASI("fd_write", 4)
	open := b.Import(WASI, "path_open", []byte{I32, I32, I32, I32, I32, I64, I64, I32, I32}, []byte{I32})
	exit := b.Import(WASI, "proc_exit", []byte{I32}, nil)
	b.Data(vectorAt, iovec(bufferAt, buffer))
	b.Data(textAt, []byte("0"))
	return b.Command(0,
		Store(countAt, slices.Concat(
			Const(3), Const(0), Const(textAt), Const(1), Const(0), Const64(2), Const64(0), Const(0), Const(scratch+4), Call(open))),
		Load(countAt), If(Load(countAt), Call(exit)),
		copyLoop(read, write, Load(scratch+4)),
	)
}

// Args writes its arguments, each with a zero byte behind it, to standard output.
func Args() []byte {
	b := &Builder{MinPages: 2}
	sizes, get, write := b.ImportWASI("args_sizes_get", 2), b.ImportWASI("args_get", 2), b.ImportWASI("fd_write", 4)
	b.Data(vectorAt, iovec(bufferAt, 0))
	return b.Command(0,
		CallWASI(sizes, scratch, vectorAt+4),
		CallWASI(get, bufferAt+buffer, bufferAt),
		CallWASI(write, 1, vectorAt, 1, countAt),
	)
}

// ClockRandom writes 32 bytes of what the guest sees of the world: the real-time
// and the monotonic clock, then 16 random bytes.
func ClockRandom() []byte {
	b := &Builder{MinPages: 1}
	clock := b.Import(WASI, "clock_time_get", []byte{I32, I64, I32}, []byte{I32})
	random, write := b.ImportWASI("random_get", 2), b.ImportWASI("fd_write", 4)
	b.Data(vectorAt, iovec(bufferAt, 32))
	return b.Command(0,
		Const(0), Const64(1), Const(bufferAt), Call(clock), Drop(),
		Const(1), Const64(1), Const(bufferAt+8), Call(clock), Drop(),
		CallWASI(random, bufferAt+16, 16),
		CallWASI(write, 1, vectorAt, 1, countAt),
	)
}

// LoopForever never ends.
func LoopForever() []byte { return (&Builder{MinPages: 1}).Command(0, Loop(Br(0))) }

// WaitForMemory reads for ever from places in 64 MiB that no cache foresees: each is
// known from what was read before.
func WaitForMemory() []byte {
	const pages = 1024
	at := []byte{0x20, 0}                                                                             // local.get
	next := slices.Concat(at, Const(1664525), []byte{0x6c}, Const(1013904223), []byte{0x6a, 0x22, 0}, // mul, add, local.tee
		Const(pages<<16-4), []byte{0x71, 0x28, 2, 0}, at, []byte{0x6a, 0x21, 0}) // and, load, add, local.set
	return (&Builder{MinPages: pages}).Command(1, Loop(next, Br(0)))
}

// AllocateForever takes memory by 16 pages until it is refused, then traps.
func AllocateForever() []byte {
	return (&Builder{MinPages: 1}).Command(0, Loop(Grow(16), Const(-1), Eq(), Eqz(), BrIf(0)), Unreachable())
}

// PrintForever writes 32 KiB again and again.
func PrintForever() []byte {
	b := &Builder{MinPages: 1}
	write := b.ImportWASI("fd_write", 4)
	b.Data(vectorAt, iovec(bufferAt, buffer))
	return b.Command(0, Loop(CallWASI(write, 1, vectorAt, 1, countAt), Br(0)))
}

// Trap traps at once.
func Trap() []byte { return (&Builder{MinPages: 1}).Command(0, Unreachable()) }

// ForbiddenImport imports env.system.
func ForbiddenImport() []byte {
	b := &Builder{MinPages: 1}
	b.Import("env", "system", []byte{I32}, []byte{I32})
	return b.Command(0)
}

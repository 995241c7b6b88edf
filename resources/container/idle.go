package container

import (
	"encoding/binary"
	"fmt"

	mman "github.com/limboid/massive-man"
)

// The first process of every container is ours and does nothing: it outlives the
// program, so that what it used can be read, and children without a parent do not
// stay as zombies. It is this, assembled, for each processor:
//
//	ignore SIGCHLD (rt_sigaction with SIG_IGN); forever: pause
//
// An image need not contain anything for it.

// idle returns the program as an ELF file for a processor in Go's words.
func idle(arch string) ([]byte, error) {
	var machine uint16
	var code []byte
	switch arch {
	case "amd64":
		machine, code = 62, []byte{
			0xb8, 0x0d, 0, 0, 0, // mov eax, 13 (rt_sigaction)
			0xbf, 0x11, 0, 0, 0, // mov edi, 17 (SIGCHLD)
			0x48, 0x8d, 0x35, 0x17, 0, 0, 0, // lea rsi, [rip+23]
			0x31, 0xd2, // xor edx, edx
			0x41, 0xba, 0x08, 0, 0, 0, // mov r10d, 8
			0x0f, 0x05, // syscall
			0xb8, 0x22, 0, 0, 0, // mov eax, 34 (pause)
			0x0f, 0x05, // syscall
			0xeb, 0xf7, // jmp to pause
			0x0f, 0x1f, 0x40, 0, // padding
		}
	case "arm64":
		machine, code = 183, []byte{
			0xc8, 0x10, 0x80, 0xd2, // mov x8, 134 (rt_sigaction)
			0x20, 0x02, 0x80, 0xd2, // mov x0, 17 (SIGCHLD)
			0x81, 0x01, 0x00, 0x10, // adr x1, +48
			0x02, 0x00, 0x80, 0xd2, // mov x2, 0
			0x03, 0x01, 0x80, 0xd2, // mov x3, 8
			0x01, 0x00, 0x00, 0xd4, // svc 0
			0x00, 0x00, 0x80, 0xd2, // mov x0, 0
			0x01, 0x00, 0x80, 0xd2, // mov x1, 0
			0x02, 0x00, 0x80, 0xd2, // mov x2, 0
			0x03, 0x00, 0x80, 0xd2, // mov x3, 0
			0x04, 0x00, 0x80, 0xd2, // mov x4, 0
			0x28, 0x09, 0x80, 0xd2, // mov x8, 73 (ppoll)
			0x01, 0x00, 0x00, 0xd4, // svc 0
			0xf9, 0xff, 0xff, 0x17, // b to mov x0
		}
	default:
		return nil, fmt.Errorf("%w: containers on %s: amd64 and arm64 are known", mman.ErrUnsupported, arch)
	}
	code = append(code, 1) // SIG_IGN, then no flags, restorer and mask
	return executable(machine, append(code, make([]byte, 31)...)), nil
}

// executable wraps machine code into an ELF file.
func executable(machine uint16, code []byte) []byte {
	const origin, heads = 0x400000, 64 + 56
	le := binary.LittleEndian
	b := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	b = le.AppendUint16(b, 2) // an executable
	b = le.AppendUint16(b, machine)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, origin+heads) // where it begins
	b = le.AppendUint64(b, 64)           // where the one program header is
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 56, 1, 0, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	size := uint64(heads + len(code))
	b = le.AppendUint32(b, 1) // loaded
	b = le.AppendUint32(b, 5) // to be read and executed
	for _, v := range []uint64{0, origin, origin, size, size, 0x1000} {
		b = le.AppendUint64(b, v)
	}
	return append(b, code...)
}

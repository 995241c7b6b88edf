package container

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	mman "github.com/limboid/massive-man"
)

// The first process of every container is ours and does nothing: it outlives the
// program, so that what it used can be read, and children without a parent do not
// stay as zombies. An image need not contain anything for it. It is this, assembled
// from testdata/first-<processor>.s:
//
//	called with two arguments: "w PATH" writes its standard input into a file, "r
//	PATH" reads one to its standard output; it exits with the error's number
//	otherwise: ignore SIGCHLD; forever: pause
const (
	firstAMD64 = "" +
		"48833c24037424b80d000000bf11000000488d35b000000031d241ba080000000f05b8220000000f05ebf74c8b642410" +
		"488b7c24184881ec00000100b80200000041803c24777419be0008000031d20f054885c0785d4989c541be01000000eb" +
		"17be410a0000baa40100000f054885c078414989c64531ed31c04c89ef4889e6ba000001000f054885c07827742c4989" +
		"c74889e3b8010000004c89f74889de4c89fa0f054885c0780a4801c34929c775e3ebc548f7d889c7eb0231ffb83c0000" +
		"000f050f1f4400000100000000000000000000000000000000000000000000000000000000000000"
	firstARM64 = "" +
		"e90340f93f0d00f1e0010054c81080d2200280d261070010020080d2030180d2010000d4000080d2010080d2020080d2" +
		"030080d2040080d2280980d2010000d4f9ffff17f30b40f9e10f40f973024039ff4340d1600c8092080780d27fde0171" +
		"20010054020081d2030080d2010000d41f0000f10b040054f40300aa350080d208000014224881d2833480d2010000d4" +
		"1f0000f10b030054f50300aa140080d2e00314aae10300912200a0d2e80780d2010000d41f0000f1eb010054e0010054" +
		"f60300aaf7030091e00315aae10317aae20316aa080880d2010000d41f0000f1ab000054f702008bd60200ebe1feff54" +
		"ecffff17e00300cba80b80d2010000d40100000000000000000000000000000000000000000000000000000000000000"
)

// idle returns the program as an ELF file for a processor in Go's words.
func idle(arch string) ([]byte, error) {
	var machine uint16
	var text string
	switch arch {
	case "amd64":
		machine, text = 62, firstAMD64
	case "arm64":
		machine, text = 183, firstARM64
	default:
		return nil, fmt.Errorf("%w: containers on %s: amd64 and arm64 are known", mman.ErrUnsupported, arch)
	}
	code, err := hex.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: the first process: %w", mman.ErrInternal, err)
	}
	return executable(machine, code), nil
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

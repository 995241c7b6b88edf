package store

import (
	"errors"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openDirect opens a file past the kernel's cache, or through it on a file system
// that knows no other way.
func openDirect(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|unix.O_DIRECT, 0o600) //nolint:gosec // a folder of our own
	if errors.Is(err, syscall.EINVAL) {
		return openCached(path, flags&^os.O_EXCL)
	}
	return f, err
}

// buffered sends what follows through the kernel's cache, when the file system asks
// for more than aligned memory, and reports whether that changed anything.
func buffered(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	changed := false
	err = raw.Control(func(fd uintptr) {
		flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
		if err != nil || flags&unix.O_DIRECT == 0 {
			return
		}
		_, err = unix.FcntlInt(fd, unix.F_SETFL, flags&^unix.O_DIRECT)
		changed = err == nil
	})
	return err == nil && changed
}

// aligned returns n bytes that begin where a page does.
func aligned(n int) []byte {
	b := make([]byte, n)
	if isAligned(b) { // as the runtime does for what is large
		return b
	}
	b = make([]byte, n+pageBytes)
	skip := pageBytes - int(address(b)%pageBytes)
	return b[skip : skip+n : skip+n]
}

func isAligned(b []byte) bool { return address(b)%pageBytes == 0 }

func address(b []byte) uintptr {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b))) //nolint:gosec // only compared, never followed
}

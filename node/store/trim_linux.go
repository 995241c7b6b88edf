package store

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// trim asks the kernel to let go of the mapped pages of the value logs and
// tables under dir. They count as this process's memory although any of them
// can be read again, and an idle node would otherwise seem to need as much
// memory as it has content. The advice changes no byte, so a file that is
// unmapped meanwhile does not matter; kernels that do not know it refuse it.
func trim(dir string) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close() //nolint:errcheck // only read
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		// address-address perms offset device inode path
		span, rest, _ := strings.Cut(lines.Text(), " ")
		at := strings.Index(rest, abs+"/")
		if at < 0 || (!strings.HasSuffix(rest, ".vlog") && !strings.HasSuffix(rest, ".sst")) {
			continue
		}
		from, to, _ := strings.Cut(span, "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 == nil && err2 == nil && start < end {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(start), uintptr(end-start), unix.MADV_PAGEOUT)
		}
	}
}

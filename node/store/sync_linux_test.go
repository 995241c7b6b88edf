package store_test

import (
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/node/store"
)

// syncDir tells the test binary, started as a child, where to commit.
const syncDir = "MMAN_TEST_SYNC_DIR"

// TestCommitSyncsNothing: blocks are committed in a process in which the kernel
// refuses every kind of sync, to all threads, so one sync in one commit would fail it.
// That a sync is refused is shown at the end.
func TestCommitSyncsNothing(t *testing.T) {
	t.Parallel()
	const blocks, granted = 40, "MMAN: no commit synced"
	if dir := os.Getenv(syncDir); dir != "" {
		cfg := store.DefaultConfig(dir, slog.New(slog.DiscardHandler))
		cfg.MinFree, cfg.MemTable = 0, 64<<20 // no table is full, and written out, meanwhile
		s := open(t, cfg)
		ledger, err := state.Open(s.State())
		require.NoError(t, err)
		refuseSyncs(t)
		for height := uint64(1); height <= blocks; height++ {
			require.NoError(t, ledger.Commit(stageBlock(t, ledger, height), height, state.Uint64Key(height)))
		}
		require.ErrorContains(t, s.Data().Namespace(store.NamespaceCometBlocks).Sync(), unix.EOWNERDEAD.Error())
		_, err = os.Stdout.WriteString(granted + "\n")
		require.NoError(t, err)
		os.Exit(0) //revive:disable-line:deep-exit // closing would sync
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCommitSyncsNothing$")
	child.Env = append(os.Environ(), syncDir+"="+t.TempDir())
	out, err := child.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), granted)
}

// refuseSyncs lets the kernel answer every system call that brings data to the disk
// with an error that no other call gives, in this process for good.
func refuseSyncs(t *testing.T) {
	t.Helper()
	calls := []uint32{unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_MSYNC, unix.SYS_SYNC, unix.SYS_SYNCFS, unix.SYS_SYNC_FILE_RANGE}
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}} // the call's number
	for i, call := range calls {
		filter = append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(len(calls) - i), K: call})
	}
	filter = append(filter,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EOWNERDEAD)})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread() // both calls are about one thread, which takes the others along
	defer runtime.UnlockOSThread()
	require.NoError(t, unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	require.Zero(t, errno, "%v", errno)
}

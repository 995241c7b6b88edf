package store_test

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/node/store"
)

// syncDir tells the test binary, started as a child, where to commit, and syncTable
// with which write buffer.
const (
	syncDir   = "MMAN_TEST_SYNC_DIR"
	syncTable = "MMAN_TEST_SYNC_TABLE"
)

// TestCommitSyncsNothing: blocks are committed in a process in which the kernel refuses
// every kind of sync, so one sync in one commit would fail it. With a buffer that is
// never full all threads are refused them. With the one that nodes have, which becomes a
// table again and again, those that write tables sync, and who commits may not. That a
// sync is refused is shown at the end.
func TestCommitSyncsNothing(t *testing.T) {
	t.Parallel()
	const granted = "MMAN: no commit synced"
	if dir := os.Getenv(syncDir); dir != "" {
		cfg, blocks := store.DefaultConfig(dir, slog.New(slog.DiscardHandler)), uint64(200) // of more than 10 MiB
		cfg.MinFree = 0
		tables := os.Getenv(syncTable) == ""
		if !tables {
			cfg.MemTable, blocks = 64<<20, 40
		}
		s := open(t, cfg)
		ledger, err := state.Open(s.State())
		require.NoError(t, err)
		refuseSyncs(t, !tables)
		for height := uint64(1); height <= blocks; height++ {
			require.NoError(t, ledger.Commit(stageBlock(t, ledger, height), height, state.Uint64Key(height)))
		}
		require.ErrorContains(t, s.Data().Namespace(store.NamespaceCometBlocks).Sync(), unix.EOWNERDEAD.Error())
		require.Eventually(t, func() bool {
			written, err := filepath.Glob(filepath.Join(dir, "state", "*.sst"))
			return err == nil && (len(written) > 0) == tables
		}, time.Minute, 10*time.Millisecond)
		_, err = os.Stdout.WriteString(granted + "\n")
		require.NoError(t, err)
		os.Exit(0) //revive:disable-line:deep-exit // closing would sync
	}
	for name, table := range map[string]string{"no table is written": "large", "tables are written": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCommitSyncsNothing$")
			child.Env = append(os.Environ(), syncDir+"="+t.TempDir(), syncTable+"="+table)
			out, err := child.CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.Contains(t, string(out), granted)
		})
	}
}

// refuseSyncs lets the kernel answer every system call that brings data to the disk
// with an error that no other call gives, for good: to the caller, who stays on his
// thread, or to all threads.
func refuseSyncs(t *testing.T, all bool) {
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
	runtime.LockOSThread() // both calls are about one thread, which may take the others along
	flags := 0
	if all {
		flags = unix.SECCOMP_FILTER_FLAG_TSYNC
		defer runtime.UnlockOSThread()
	}
	require.NoError(t, unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flags), uintptr(unsafe.Pointer(&program)))
	require.Zero(t, errno, "%v", errno)
}

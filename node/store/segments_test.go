package store_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/node/store"
)

// large returns block i, of n bytes.
func large(t *testing.T, i uint64, n int) blocks.Block {
	t.Helper()
	data := bytes.Repeat(binary.BigEndian.AppendUint64(nil, i), n/8+1)[:n]
	hash, err := multihash.Sum(data, multihash.SHA2_256, -1)
	require.NoError(t, err)
	b, err := blocks.NewBlockWithCid(data, cid.NewCidV1(cid.Raw, hash))
	require.NoError(t, err)
	return b
}

func has(t *testing.T, s *store.Blocks, want ...blocks.Block) {
	t.Helper()
	for i, b := range want {
		got, err := s.Get(t.Context(), b.Cid())
		require.NoError(t, err, "block %d", i)
		require.True(t, bytes.Equal(b.RawData(), got.RawData()), "block %d", i)
		n, err := s.GetSize(t.Context(), b.Cid())
		require.NoError(t, err)
		require.Equal(t, len(b.RawData()), n)
	}
}

func segmentFiles(t *testing.T, cfg store.Config) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(cfg.Dir, "blocks", "*.seg"))
	require.NoError(t, err)
	return list
}

// TestLargeBlocks puts blocks of all kinds of sizes, more than one file holds, and
// finds them before and after a restart.
func TestLargeBlocks(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	s, err := store.Open(cfg)
	require.NoError(t, err)
	public, private := s.Data().PublicBlocks(), s.Data().PrivateBlocks()
	var all []blocks.Block
	for i := range uint64(50) {
		all = append(all, large(t, i, 2<<20-int(i%3)*4097))
	}
	for i, n := range []int{1, 4096, 32<<10 - 1, 32 << 10, 32<<10 + 1, 64<<10 - 1, 1 << 20, 1<<20 + 4096} {
		all = append(all, large(t, uint64(100+i), n))
	}
	odd := large(t, 1000, 1<<20+8)
	unaligned, err := blocks.NewBlockWithCid(append(make([]byte, 8, 2<<20), odd.RawData()...)[8:], odd.Cid())
	require.NoError(t, err)
	all = append(all, unaligned)
	require.NoError(t, public.PutMany(t.Context(), all))
	require.NoError(t, public.PutMany(t.Context(), all), "a second time changes nothing")
	require.NoError(t, private.Put(t.Context(), all[0]))
	has(t, public, all...)
	has(t, public, all...) // now through the kernel's cache
	require.Len(t, segmentFiles(t, cfg), 2)
	require.NoError(t, public.Sync())
	require.NoError(t, public.DeleteBlock(t.Context(), all[0].Cid()))
	has(t, private, all[0])
	require.NoError(t, s.Close())

	s, err = store.Open(cfg)
	require.NoError(t, err)
	has(t, s.Data().PublicBlocks(), all[1:]...)
	has(t, s.Data().PrivateBlocks(), all[0])
	more := large(t, 2000, 1<<20)
	require.NoError(t, s.Data().PublicBlocks().Put(t.Context(), more))
	has(t, s.Data().PublicBlocks(), more)
	require.Len(t, segmentFiles(t, cfg), 2, "the last file is gone on with")
	require.NoError(t, s.Close())
}

// TestTornSegment changes the last file as a crash of the machine may: what does not
// read any more was never there, the rest is.
func TestTornSegment(t *testing.T) {
	t.Parallel()
	for name, tear := range map[string]func(t *testing.T, path string){
		"cut":  func(t *testing.T, path string) { t.Helper(); require.NoError(t, os.Truncate(path, 5<<20+4096)) },
		"gone": func(t *testing.T, path string) { t.Helper(); require.NoError(t, os.Remove(path)) },
		"never written": func(t *testing.T, path string) {
			t.Helper()
			require.NoError(t, os.Truncate(path, 5<<20))
			require.NoError(t, os.Truncate(path, 10<<20))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t.TempDir())
			s, err := store.Open(cfg)
			require.NoError(t, err)
			var all []blocks.Block
			for i := range uint64(10) {
				all = append(all, large(t, i, 1<<20))
			}
			require.NoError(t, s.Data().PublicBlocks().PutMany(t.Context(), all))
			require.NoError(t, s.Close())
			files := segmentFiles(t, cfg)
			require.Len(t, files, 1)
			tear(t, files[0])

			public := open(t, cfg).Data().PublicBlocks()
			kept := 5
			if name == "gone" {
				kept = 0
			}
			require.Equal(t, kept, count(t, public))
			has(t, public, all[:kept]...)
			require.NoError(t, public.PutMany(t.Context(), all), "they can be put again")
			has(t, public, all...)
		})
	}
}

// TestDamagedSegment changes a byte of a block: reading it fails, with a code.
func TestDamagedSegment(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	public := open(t, cfg).Data().PublicBlocks()
	all := []blocks.Block{large(t, 1, 1<<20), large(t, 2, 1<<20)}
	require.NoError(t, public.PutMany(t.Context(), all))
	f, err := os.OpenFile(segmentFiles(t, cfg)[0], os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{0xff}, 1<<19)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
	_, err = public.Get(t.Context(), all[0].Cid())
	require.ErrorIs(t, err, mman.ErrCorrupt)
	has(t, public, all[1])
}

// TestSegmentsAreFreed deletes most blocks while others are read and written: the
// disk's space comes back, and what stays is found at every moment.
func TestSegmentsAreFreed(t *testing.T) {
	t.Parallel()
	cfg := config(t.TempDir())
	s := open(t, cfg)
	public := s.Data().PublicBlocks()
	var keep, drop []blocks.Block
	for i := range uint64(150) {
		b := large(t, i, 1<<20)
		require.NoError(t, public.Put(t.Context(), b))
		if i%5 == 0 {
			keep = append(keep, b)
		} else {
			drop = append(drop, b)
		}
	}
	require.Len(t, segmentFiles(t, cfg), 3)
	for _, b := range drop {
		require.NoError(t, public.DeleteBlock(t.Context(), b.Cid()))
	}
	ticks := make(chan time.Time)
	collected := make(chan error, 1)
	go func() { collected <- s.RunGC(t.Context(), ticks) }()
	var others sync.WaitGroup
	done := make(chan struct{})
	others.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			b := keep[i%len(keep)]
			got, err := public.Get(t.Context(), b.Cid())
			if err != nil || !bytes.Equal(b.RawData(), got.RawData()) {
				t.Errorf("block %d: %v", i%len(keep), err)
				return
			}
		}
	})
	others.Go(func() {
		for i := range uint64(40) {
			if err := public.Put(t.Context(), large(t, 1000+i, 1<<20)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	ticks <- time.Time{}
	ticks <- time.Time{} // the first one is done
	close(done)
	others.Wait()
	has(t, public, keep...)
	require.Equal(t, len(keep)+40, count(t, public))
	size := int64(0)
	for _, path := range segmentFiles(t, cfg) {
		info, err := os.Stat(path)
		require.NoError(t, err)
		size += info.Size()
	}
	require.LessOrEqual(t, size, int64(len(keep)+40+len(keep))<<20)
}

// putDir tells the test binary, started as a child, where to put blocks.
const putDir = "MMAN_TEST_PUT_DIR"

// TestKilledWhilePutting kills a process that puts blocks: all that it said it had put
// is there.
func TestKilledWhilePutting(t *testing.T) {
	t.Parallel()
	const before = 90
	if dir := os.Getenv(putDir); dir != "" {
		s, err := store.Open(config(dir))
		require.NoError(t, err)
		for i := uint64(0); ; i++ {
			require.NoError(t, s.Data().PublicBlocks().Put(t.Context(), large(t, i, 1<<20)))
			fmt.Println("put", i)
		}
	}
	cfg := config(t.TempDir())
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledWhilePutting$")
	child.Env = append(os.Environ(), putDir+"="+cfg.Dir)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	lines := bufio.NewScanner(out)
	n := 0
	for most := before + rand.IntN(20); n < most && lines.Scan(); n++ {
		continue
	}
	require.NoError(t, child.Process.Kill())
	require.Error(t, child.Wait(), "the child ended by itself")
	require.GreaterOrEqual(t, n, before)
	public := open(t, cfg).Data().PublicBlocks()
	for i := range uint64(n) {
		has(t, public, large(t, i, 1<<20))
	}
	require.GreaterOrEqual(t, count(t, public), n)
}

package content_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	uio "github.com/ipfs/boxo/ipld/unixfs/io"
	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/p2ptest"
)

func tree(t *testing.T) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{
		"readme.txt":      {Data: []byte("read me")},
		"empty":           {Data: []byte{}},
		"deep/er/big":     {Data: random(t, 3<<20+7)},
		".hidden":         {Data: []byte("not this")},
		"deep/.git/HEAD":  {Data: []byte("nor this")},
		"deep/same":       {Data: []byte("read me")},
		"Größe und Länge": {Data: []byte("ü")},
	}
	for i := range 300 {
		files[fmt.Sprintf("many/%03d", i)] = &fstest.MapFile{Data: []byte{byte(i), byte(i >> 8)}}
	}
	return files
}

// brief gives up soon.
func brief() content.Config {
	cfg := config()
	cfg.BlockTimeout = 50 * time.Millisecond
	return cfg
}

func TestFolders(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config())
	files := tree(t)
	added, err := a.AddPublicFolder(t.Context(), files)
	require.NoError(t, err)
	require.Equal(t, uint64(305), added.Files)
	private, err := content.AddFolderTo(t.Context(), content.NewPrivateStore(content.Memory()), files)
	require.NoError(t, err)
	require.Equal(t, added, private)

	root, err := b.Folders().Look(t.Context(), added.Root)
	require.NoError(t, err)
	require.True(t, root.Folder)
	found := map[string][]byte{}
	root.Name = "top"
	save := func(most uint64) error {
		return b.Folders().Save(t.Context(), root, most, func(string) error { return nil }, func(at string, e content.Entry) error {
			f, err := b.Open(t.Context(), e.CID, e.Bytes)
			if err != nil {
				return err
			}
			found[at], err = io.ReadAll(f)
			return err
		})
	}
	require.NoError(t, save(added.Bytes))
	require.ErrorIs(t, save(added.Bytes-1), mman.ErrTooLarge)
	for name, f := range files {
		if strings.Contains(name, "/.") || name[0] == '.' {
			require.NotContains(t, found, path.Join("top", name))
			continue
		}
		require.True(t, bytes.Equal(f.Data, found[path.Join("top", name)]), name)
	}
	require.Len(t, found, 305)

	e, err := b.Folders().Walk(t.Context(), added.Root, []string{"deep", "er", "big"})
	require.NoError(t, err)
	require.Equal(t, uint64(3<<20+7), e.Bytes)
	_, err = serve(t, p2ptest.Start(t, 7), nil, brief()).Folders().Look(t.Context(), added.Root)
	require.ErrorIs(t, err, mman.ErrNotFound)
	_, err = b.Folders().Walk(t.Context(), added.Root, []string{"deep", "nothing"})
	require.ErrorIs(t, err, mman.ErrNotFound)
	_, err = b.Folders().Walk(t.Context(), added.Root, []string{"readme.txt", "x"})
	require.ErrorIs(t, err, mman.ErrUnsupported)
}

// TestStream reads a part of a file and fetches little more.
func TestStream(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config())
	data := random(t, 40<<20)
	c, _, err := a.AddPublic(t.Context(), bytes.NewReader(data))
	require.NoError(t, err)
	f, err := b.Stream(t.Context(), c, unlimited)
	require.NoError(t, err)
	_, err = f.Seek(30<<20, io.SeekStart)
	require.NoError(t, err)
	got := make([]byte, 100)
	_, err = io.ReadFull(f, got)
	require.NoError(t, err)
	require.Equal(t, data[30<<20:30<<20+100], got)
	require.NoError(t, f.Close())
	here := 0
	for at := 0; at < len(data); at += content.ChunkSize {
		has, err := b.store.Has(t.Context(), mman.SumCID(mman.CodecRaw, data[at:at+content.ChunkSize]))
		require.NoError(t, err)
		if has {
			here++
		}
	}
	require.Less(t, here, 30)
	_, err = b.Stream(t.Context(), c, 100)
	require.ErrorIs(t, err, mman.ErrTooLarge)
}

// TestForeignFolders reads a folder in many shards, as kubo makes of large ones,
// and refuses names that lead elsewhere.
func TestForeignFolders(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config())
	bs := content.Memory()
	dag := merkledag.NewDAGService(blockservice.New(bs, nil))
	put := func(c cid.Cid) {
		blk, err := bs.Get(t.Context(), c)
		require.NoError(t, err)
		codec := mman.CodecDagPB
		if c.Type() == cid.Raw {
			codec = mman.CodecRaw
		}
		require.NoError(t, a.store.Put(t.Context(), []content.Block{content.NewBlock(codec, blk.RawData())}))
	}
	folder := func(sharded bool, names ...string) mman.CID {
		var dir uio.Directory
		var err error
		if sharded {
			dir, err = uio.NewHAMTDirectory(dag, 0, uio.WithCidBuilder(cid.V1Builder{Codec: cid.DagProtobuf, MhType: 0x12}))
		} else {
			dir, err = uio.NewBasicDirectory(dag, uio.WithCidBuilder(cid.V1Builder{Codec: cid.DagProtobuf, MhType: 0x12}))
		}
		require.NoError(t, err)
		for _, n := range names {
			leaf, err := merkledag.NewRawNodeWPrefix([]byte(n), cid.V1Builder{Codec: cid.Raw, MhType: 0x12})
			require.NoError(t, err)
			require.NoError(t, dag.Add(t.Context(), leaf))
			require.NoError(t, dir.AddChild(t.Context(), n, leaf))
		}
		nd, err := dir.GetNode()
		require.NoError(t, err)
		require.NoError(t, dag.Add(t.Context(), nd))
		keys, err := bs.AllKeysChan(t.Context())
		require.NoError(t, err)
		for k := range keys {
			codec := uint64(cid.Raw)
			if blk, err := bs.Get(t.Context(), k); err == nil {
				if _, err := merkledag.DecodeProtobuf(blk.RawData()); err == nil && !strings.HasPrefix(string(blk.RawData()), "name") {
					codec = cid.DagProtobuf
				}
			}
			put(cid.NewCidV1(codec, k.Hash()))
		}
		c, err := mman.CIDFromBytes(nd.Cid().Bytes())
		require.NoError(t, err)
		return c
	}
	var names []string
	for i := range 2000 {
		names = append(names, fmt.Sprintf("name-%d", i))
	}
	seen := map[string]bool{}
	big := folder(true, names...)
	require.NoError(t, b.Folders().List(t.Context(), big, func(e content.Entry) error {
		seen[e.Name] = true
		return nil
	}))
	require.Len(t, seen, 2000)
	e, err := b.Folders().Walk(t.Context(), big, []string{"name-77"})
	require.NoError(t, err)
	require.Equal(t, uint64(7), e.Bytes)
	for _, name := range []string{"..", ".", "name/../../x", "name\x00", strings.Repeat("n", 300)} {
		err := b.Folders().List(t.Context(), folder(false, name), func(content.Entry) error { return nil })
		if name == "name\x00" {
			require.NoError(t, err, "the system refuses it, it leads nowhere")
			continue
		}
		require.ErrorIs(t, err, mman.ErrContent, name)
	}
	link := merkledag.NodeWithData(must(unixfs.SymlinkData("/etc/passwd")))
	require.NoError(t, link.SetCidBuilder(cid.V1Builder{Codec: cid.DagProtobuf, MhType: 0x12}))
	c := content.NewBlock(mman.CodecDagPB, link.RawData())
	require.NoError(t, a.store.Put(t.Context(), []content.Block{c}))
	_, err = b.Folders().Look(t.Context(), c.CID())
	require.ErrorIs(t, err, mman.ErrUnsupported)
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// strange is a file system with one entry that is neither file nor folder.
type strange struct{ fstest.MapFS }

func TestFoldersThatAreRefused(t *testing.T) {
	t.Parallel()
	store := content.NewPrivateStore(content.Memory())
	deep := fstest.MapFS{strings.Repeat("d/", content.MaxFolderDepth+1) + "f": {}}
	for name, tc := range map[string]struct {
		fsys fs.FS
		want error
	}{
		"too deep":    {deep, mman.ErrTooLarge},
		"a device":    {strange{fstest.MapFS{"dev": {Mode: fs.ModeDevice}}}, mman.ErrUnsupported},
		"a link":      {strange{fstest.MapFS{"ln": {Mode: fs.ModeSymlink, Data: []byte("dev")}}}, mman.ErrUnsupported},
		"a long name": {fstest.MapFS{strings.Repeat("n", 256): {}}, mman.ErrInvalid},
	} {
		_, err := content.AddFolderTo(t.Context(), store, tc.fsys)
		require.ErrorIs(t, err, tc.want, name)
	}
}

// meeting is a tree whose files are read only while as many are read at a time, and
// that notes how many are open at most.
type meeting struct {
	fs.FS

	missing atomic.Int64  // files that nobody reads yet
	met     chan struct{} // closed when none is missing

	open, most atomic.Int64
}

// Open opens a file that waits for the others at its first read.
func (m *meeting) Open(name string) (fs.File, error) {
	f, err := m.FS.Open(name)
	if err != nil {
		return nil, err //nolint:wrapcheck // a fake passes it on
	}
	if info, err := f.Stat(); err != nil || info.IsDir() {
		return f, err //nolint:wrapcheck // a fake passes it on
	}
	if now := m.open.Add(1); now > m.most.Load() {
		m.most.Store(now)
	}
	return &met{File: f, in: m}, nil
}

type met struct {
	fs.File

	in   *meeting
	once sync.Once
}

func (f *met) Read(p []byte) (int, error) {
	f.once.Do(func() {
		if f.in.missing.Add(-1) == 0 {
			close(f.in.met)
		}
		<-f.in.met
	})
	return f.File.Read(p) //nolint:wrapcheck // a fake passes it on
}

func (f *met) Close() error {
	f.in.open.Add(-1)
	return f.File.Close() //nolint:wrapcheck // a fake passes it on
}

// TestFilesOfATreeAreReadTogether: adding is parallel, each file in a folder of its own
// or not. None of the first ones comes before so many are being read, so one after the
// other would never end; and no more than these are open.
func TestFilesOfATreeAreReadTogether(t *testing.T) {
	t.Parallel()
	room := 2 * runtime.GOMAXPROCS(0)
	for name, form := range map[string]string{"one folder": "%d", "each its own": "%d/file", "deep": "%d/a/b/c/file"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := fstest.MapFS{}
			for i := range 50 * room {
				files[fmt.Sprintf(form, i)] = &fstest.MapFile{Data: []byte{byte(i)}}
			}
			m := &meeting{FS: files, met: make(chan struct{})}
			m.missing.Store(int64(room))
			added, err := content.AddFolderTo(t.Context(), content.NewPrivateStore(content.Memory()), m)
			require.NoError(t, err)
			require.EqualValues(t, len(files), added.Files)
			require.LessOrEqual(t, m.most.Load(), int64(room))
			again, err := content.AddFolderTo(t.Context(), content.NewPrivateStore(content.Memory()), files)
			require.NoError(t, err)
			require.Equal(t, again, added)
		})
	}
}

// unreadable is a tree with a file that cannot be read, while others wait for it.
type unreadable struct{ *meeting }

func (u unreadable) Open(name string) (fs.File, error) {
	if strings.HasSuffix(name, "bad") {
		return nil, fs.ErrPermission
	}
	return u.meeting.Open(name)
}

// TestAFileThatCannotBeRead ends the adding of a tree, with what was wrong.
func TestAFileThatCannotBeRead(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{}
	for i := range 1000 {
		files[fmt.Sprintf("%03d/file", i)] = &fstest.MapFile{Data: []byte{byte(i)}}
	}
	files["500/bad"] = &fstest.MapFile{}
	m := &meeting{FS: files, met: make(chan struct{})}
	close(m.met)
	_, err := content.AddFolderTo(t.Context(), content.NewPrivateStore(content.Memory()), unreadable{m})
	require.ErrorIs(t, err, mman.ErrInvalid)
	require.ErrorIs(t, err, fs.ErrPermission)
	require.ErrorContains(t, err, "500/bad")
	require.Zero(t, m.open.Load(), "all are closed")
}

package content_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	uio "github.com/ipfs/boxo/ipld/unixfs/io"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p/content"
)

// referenceFolder adds a folder of small files with boxo, one entry after another, in
// the profile that we use.
func referenceFolder(t *testing.T, dag ipld.DAGService, fsys fs.FS, at string) ipld.Node {
	t.Helper()
	dir, err := uio.NewDirectory(dag, uio.WithCidBuilder(cid.V1Builder{Codec: cid.DagProtobuf, MhType: 0x12}), uio.WithSizeEstimationMode(uio.SizeEstimationBlock))
	require.NoError(t, err)
	entries, err := fs.ReadDir(fsys, at)
	require.NoError(t, err)
	for _, e := range entries {
		var nd ipld.Node
		if below := path.Join(at, e.Name()); e.IsDir() {
			nd = referenceFolder(t, dag, fsys, below)
		} else {
			data, err := fs.ReadFile(fsys, below)
			require.NoError(t, err)
			nd, err = merkledag.NewRawNodeWPrefix(data, cid.V1Builder{Codec: cid.Raw, MhType: 0x12})
			require.NoError(t, err)
		}
		require.NoError(t, dir.AddChild(t.Context(), e.Name(), nd))
	}
	nd, err := dir.GetNode()
	require.NoError(t, err)
	require.NoError(t, dag.Add(t.Context(), nd))
	return nd
}

// flat has so many files in one folder, with names of 8 bytes.
func flat(n int) fstest.MapFS {
	files := fstest.MapFS{}
	for i := range n {
		files[fmt.Sprintf("%08d", i)] = &fstest.MapFile{Data: []byte{byte(i)}}
	}
	return files
}

// TestFoldersAreThoseOfBoxo compares with what boxo makes of a tree, serially.
func TestFoldersAreThoseOfBoxo(t *testing.T) {
	t.Parallel()
	// A block has 4 bytes, and 44 with each name: 52 here, and 60 left for another one.
	const full = 5040
	withName := func(n int) fstest.MapFS {
		files := flat(full)
		files[strings.Repeat("n", n)] = &fstest.MapFile{Data: []byte("n")}
		return files
	}
	many, mixed := fstest.MapFS{}, flat(6000)
	for i := range 500 {
		many[fmt.Sprintf("%d/file", i)] = &fstest.MapFile{Data: []byte{byte(i), byte(i >> 8)}}
		mixed[fmt.Sprintf("d/%d/e/file", i)] = &fstest.MapFile{Data: []byte{byte(i)}}
	}
	for i := range 9000 {
		mixed[fmt.Sprintf("d/%d", i+1000)] = &fstest.MapFile{Data: []byte{byte(i)}}
	}
	mixed["none"] = &fstest.MapFile{Mode: fs.ModeDir}
	for name, tc := range map[string]struct {
		files  fstest.MapFS
		shards bool
	}{
		"nothing":                {fstest.MapFS{}, false},
		"one file in each":       {many, false},
		"one block, full":        {withName(16), false},
		"one byte more":          {withName(17), true},
		"large and small, mixed": {mixed, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bs := content.Memory()
			want := referenceFolder(t, merkledag.NewDAGService(blockservice.New(bs, nil)), tc.files, ".")
			store := content.NewPrivateStore(content.Memory())
			got, err := content.AddFolderTo(t.Context(), store, tc.files)
			require.NoError(t, err)
			require.Equal(t, want.Cid().String(), got.Root.String())
			root, err := store.Get(t.Context(), got.Root)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want.RawData(), root.Data()))
			pb, err := merkledag.DecodeProtobuf(root.Data())
			require.NoError(t, err)
			meta, err := unixfs.FSNodeFromBytes(pb.Data())
			require.NoError(t, err)
			require.Equal(t, tc.shards, meta.Type() == unixfs.THAMTShard)
		})
	}
}

// TestHugeFolder adds, lists, reads and carries a folder of 50,000 names.
func TestHugeFolder(t *testing.T) {
	t.Parallel()
	const names = 50_000
	a, b := pair(t, config())
	added, err := a.AddPublicFolder(t.Context(), flat(names))
	require.NoError(t, err)
	require.EqualValues(t, names, added.Files)
	var car bytes.Buffer
	require.NoError(t, a.ExportCAR(t.Context(), added.Root, unlimited, &car))
	roots, err := b.ImportCAR(t.Context(), bytes.NewReader(car.Bytes()), unlimited)
	require.NoError(t, err)
	require.Equal(t, []mman.CID{added.Root}, roots)

	seen := map[string]mman.CID{}
	require.NoError(t, b.Folders().List(t.Context(), added.Root, func(e content.Entry) error {
		seen[e.Name] = e.CID
		return nil
	}))
	require.Len(t, seen, names)
	for i := range names {
		require.Equal(t, mman.SumCID(mman.CodecRaw, []byte{byte(i)}), seen[fmt.Sprintf("%08d", i)])
	}
	e, err := b.Folders().Walk(t.Context(), added.Root, []string{"00033333"})
	require.NoError(t, err)
	require.Equal(t, seen["00033333"], e.CID)
	_, err = b.Folders().Walk(t.Context(), added.Root, []string{"00050000"})
	require.ErrorIs(t, err, mman.ErrNotFound)

	root, err := b.Folders().Look(t.Context(), added.Root)
	require.NoError(t, err)
	saved := 0
	require.NoError(t, b.Folders().Save(t.Context(), root, added.Bytes, func(string) error { return nil }, func(_ string, e content.Entry) error {
		saved++
		require.Equal(t, seen[e.Name], e.CID)
		return nil
	}))
	require.Equal(t, names, saved)
}

// TestNamesOfOneHash: no shard can tell them apart, in no program.
func TestNamesOfOneHash(t *testing.T) {
	t.Parallel()
	const one, other = "6tPMpDkSzPaoLFhhuMx2POXBFVsFEfft", "FQblgyZOd7trxoyR8_u+N|CL62;I&nbz"
	files := fstest.MapFS{one: {}, other: {}}
	store := content.NewPrivateStore(content.Memory())
	_, err := content.AddFolderTo(t.Context(), store, files)
	require.NoError(t, err, "in one block")
	large := flat(6000)
	large[one], large[other] = files[one], files[other]
	_, err = content.AddFolderTo(t.Context(), store, large)
	require.ErrorIs(t, err, mman.ErrUnsupported)
	require.ErrorContains(t, err, other)
}

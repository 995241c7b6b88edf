package folder_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources/folder"
)

func packOf(t *testing.T, fsys fstest.MapFS) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, folder.Pack(t.Context(), fsys, &b))
	return b.Bytes()
}

// TestPack: what goes into a pack comes out, at the places that are named, and nothing
// of the machine is in it.
func TestPack(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a long name ", 20)
	files := map[string]string{"b.txt": "second", "a/deep/er": strings.Repeat("x", 700), "a/" + long: "long", "ä": ""}
	fsys, dir := fstest.MapFS{".hidden": {Data: []byte("no")}, ".git/config": {Data: []byte("no")}}, t.TempDir()
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o600}
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	pack := packOf(t, fsys)
	entries, err := folder.Read(bytes.NewReader(pack), uint64(len(pack)))
	require.NoError(t, err)
	got := map[string]string{}
	for _, e := range entries {
		if !e.Folder {
			got[e.Path] = string(pack[e.Offset : e.Offset+e.Size])
		}
	}
	require.Equal(t, files, got)
	require.Len(t, entries, 6)

	r, size, err := folder.Open(t.Context(), os.DirFS(dir))
	require.NoError(t, err)
	again, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.True(t, bytes.Equal(pack, again), "the same folder on a disk")
	require.Len(t, again, int(size))

	// One that is not read to its end leaves nothing behind.
	r, _, err = folder.Open(t.Context(), os.DirFS(dir))
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.NoError(t, os.Symlink("b.txt", filepath.Join(dir, "link")))
	_, _, err = folder.Open(t.Context(), os.DirFS(dir))
	require.ErrorIs(t, err, mman.ErrUnsupported)
	_, _, err = folder.Open(t.Context(), os.DirFS(filepath.Join(dir, "gone")))
	require.ErrorIs(t, err, mman.ErrNotFound)
}

// TestPackHostile: a pack that PackFolder would not have written is refused.
func TestPackHostile(t *testing.T) {
	t.Parallel()
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644} }
	many := make([]tar.Header, 0, folder.MaxEntries+1)
	for i := range folder.MaxEntries + 1 {
		many = append(many, file(strconv.Itoa(i)))
	}
	for name, headers := range map[string][]tar.Header{
		"up":        {file("../etc/passwd")},
		"absolute":  {file("/etc/passwd")},
		"twice":     {file("a"), file("a")},
		"no folder": {file("a/b")},
		"in a file": {file("a"), file("a/b")},
		"link":      {{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "/etc/passwd"}},
		"hard link": {file("a"), {Typeflag: tar.TypeLink, Name: "b", Linkname: "a"}},
		"device":    {{Typeflag: tar.TypeChar, Name: "a"}},
		"backslash": {file(`a\b`)},
		"long":      {file(strings.Repeat("n", 256))},
		"deep":      {file(strings.Repeat("d/", 40) + "f")},
		"records":   {{Typeflag: tar.TypeReg, Name: "a", PAXRecords: map[string]string{"comment": "x"}, Format: tar.FormatPAX}},
		"many":      many,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for _, h := range headers {
				require.NoError(t, w.WriteHeader(&h))
			}
			require.NoError(t, w.Close())
			_, err := folder.Read(bytes.NewReader(b.Bytes()), uint64(b.Len()))
			require.ErrorIs(t, err, mman.ErrContent)
		})
	}
}

// FuzzReadPack: no pack makes an entry that is outside of it or leads out of a folder.
func FuzzReadPack(f *testing.F) {
	var b bytes.Buffer
	if err := folder.Pack(f.Context(), fstest.MapFS{"a/b": {Data: []byte("text")}, strings.Repeat("n", 120): {}}, &b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:700])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, pack []byte) {
		entries, err := folder.Read(bytes.NewReader(pack), uint64(len(pack)))
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(entries), folder.MaxEntries)
		for _, e := range entries {
			require.True(t, filepath.IsLocal(e.Path))
			require.LessOrEqual(t, e.Offset+e.Size, uint64(len(pack)))
		}
	})
}

package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources/container/image"
)

func want() image.Want { return image.Want{Arch: "amd64", Unpacked: 1 << 20} }

// folder is a tree with a file, a program, a link and an empty folder.
func folder(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "bin"), 0o750))
	require.NoError(t, os.Mkdir(filepath.Join(root, "empty"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(root, "bin", "run"), []byte("#!/bin/sh\n"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(root, "note"), []byte("text"), 0o600))
	require.NoError(t, os.Symlink("bin/run", filepath.Join(root, "start")))
	return root
}

func build(t *testing.T, path string, o image.Options) ([]byte, image.Built) {
	t.Helper()
	var b bytes.Buffer
	built, err := image.Build(t.Context(), &b, path, o)
	require.NoError(t, err)
	return b.Bytes(), built
}

func TestBuildIsReproducible(t *testing.T) {
	t.Parallel()
	o := image.Options{Entrypoint: []string{"/start"}, Env: []string{"A=b"}, Arch: "amd64"}
	one, two := folder(t), folder(t)
	require.NoError(t, os.Chtimes(filepath.Join(two, "note"), time.Unix(1, 0), time.Unix(2, 0)))
	require.NoError(t, os.Chmod(filepath.Join(two, "note"), 0o640))
	first, built := build(t, one, o)
	again, same := build(t, two, o)
	require.Equal(t, built, same)
	require.Equal(t, first, again, "times, rights of the group and the folder's place do not matter")
	require.Equal(t, 5, built.Files)
	require.EqualValues(t, len("#!/bin/sh\ntext"), built.Bytes)

	a, err := image.Open(t.Context(), bytes.NewReader(first), want())
	require.NoError(t, err)
	require.Equal(t, []string{"/start"}, a.Config.Config.Entrypoint)
	require.Equal(t, []string{"A=b"}, a.Config.Config.Env)
	id, err := a.ID(nil)
	require.NoError(t, err)
	require.Equal(t, built.ID, id)
	var rewritten bytes.Buffer
	_, err = a.Write(t.Context(), &rewritten, nil)
	require.NoError(t, err)
	require.Equal(t, first, rewritten.Bytes(), "what we build has nothing to be taken away")
}

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	text := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(text, []byte("no program"), 0o600))
	for name, c := range map[string]struct {
		path    string
		options image.Options
		want    error
	}{
		"nothing":      {filepath.Join(t.TempDir(), "none"), image.Options{}, mman.ErrNotFound},
		"no program":   {text, image.Options{}, mman.ErrInvalid},
		"no processor": {folder(t), image.Options{}, mman.ErrInvalid},
		"dynamic":      {"/bin/ls", image.Options{}, mman.ErrInvalid},
		"working dir":  {folder(t), image.Options{Arch: "amd64", Dir: "here"}, mman.ErrInvalid},
	} {
		_, err := image.Build(t.Context(), io.Discard, c.path, c.options)
		require.ErrorIs(t, err, c.want, name)
	}
}

// entry is a part of an archive.
type entry struct {
	header  tar.Header
	content []byte
}

func tarOf(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.header.Size = int64(len(e.content))
		require.NoError(t, w.WriteHeader(&e.header))
		_, err := w.Write(e.content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func file(name string, content []byte) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, content}
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func config(arch, layer, more string) []byte {
	return fmt.Appendf(nil, `{"architecture":%q,"os":"linux","config":{"Cmd":["/x"]%s},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}`, arch, more, layer)
}

func docker(t *testing.T, config, layer []byte) []byte {
	t.Helper()
	return tarOf(t, file("c.json", config), file("l.tar", layer), file("manifest.json", []byte(`[{"Config":"c.json","RepoTags":["busybox:latest"],"Layers":["l.tar"]}]`)))
}

func zip(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(b)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

// oci makes an OCI layout in a tar file.
func oci(t *testing.T, config, layer []byte) []byte {
	t.Helper()
	blob := func(b []byte) entry { return file("blobs/sha256/"+digest(b), b) }
	manifest := fmt.Appendf(nil, `{"config":{"digest":"sha256:%s"},"layers":[{"digest":"sha256:%s"}]}`, digest(config), digest(layer))
	index := fmt.Appendf(nil, `{"manifests":[{"digest":"sha256:%s","platform":{"os":"linux","architecture":"s390x"}},{"digest":"sha256:%s","platform":{"os":"linux","architecture":"amd64"}}]}`, digest([]byte("other")), digest(manifest))
	return tarOf(t, file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)), blob(config), blob(layer), blob(manifest), file("index.json", index))
}

func TestOpen(t *testing.T) {
	t.Parallel()
	layer := tarOf(t, file("x", []byte("content")))
	sum := digest(layer)
	ordinary := config("amd64", sum, `,"Volumes":{"/v":{}},"Healthcheck":{"Test":["CMD","/x"]},"Labels":{"mman.owner":"me"}`)
	var all []string
	for _, archive := range [][]byte{docker(t, ordinary, layer), docker(t, ordinary, zip(t, layer)), oci(t, ordinary, zip(t, layer))} {
		a, err := image.Open(t.Context(), bytes.NewReader(archive), want())
		require.NoError(t, err)
		require.Equal(t, 1, a.Files)
		var out bytes.Buffer
		id, err := a.Write(t.Context(), &out, map[string]string{"mine": "yes"})
		require.NoError(t, err)
		all = append(all, id)
		for _, gone := range []string{"busybox", "Volumes", "Healthcheck", "mman.owner"} {
			require.NotContains(t, out.String(), gone, "the engine would act on it")
		}
		require.Contains(t, out.String(), `"mine":"yes"`)
		_, err = image.Open(t.Context(), bytes.NewReader(out.Bytes()), want())
		require.NoError(t, err)
	}
	require.Equal(t, all[0], all[1], "an image is the same however it is packed")
	require.Equal(t, all[0], all[2])
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	layer := tarOf(t, file("x", []byte("content")))
	good := config("amd64", digest(layer), "")
	device := tarOf(t, entry{tar.Header{Typeflag: tar.TypeChar, Name: "mem", Devmajor: 1, Devminor: 1}, nil})
	whiteout := tarOf(t, entry{tar.Header{Typeflag: tar.TypeChar, Name: "gone"}, nil})
	bomb := tarOf(t, file("zeros", make([]byte, 2<<20)))
	list := func(v any) []byte {
		b, err := json.Marshal(v)
		require.NoError(t, err)
		return b
	}
	for name, c := range map[string]struct {
		archive []byte
		want    error
	}{
		"empty":             {nil, mman.ErrModule},
		"no archive":        {[]byte("text, which is no archive"), mman.ErrModule},
		"no list":           {tarOf(t, file("x", nil)), mman.ErrModule},
		"cut off":           {docker(t, good, layer)[:700], mman.ErrModule},
		"lacks its layer":   {tarOf(t, file("c.json", good), file("manifest.json", []byte(`[{"Config":"c.json","Layers":["l"]}]`))), mman.ErrModule},
		"two images":        {tarOf(t, file("manifest.json", []byte(`[{},{}]`))), mman.ErrModule},
		"long list":         {tarOf(t, file("manifest.json", make([]byte, 5<<20))), mman.ErrTooLarge},
		"no layers":         {tarOf(t, file("c.json", []byte(`{"architecture":"amd64","os":"linux"}`)), file("manifest.json", []byte(`[{"Config":"c.json"}]`))), mman.ErrModule},
		"other processor":   {docker(t, config("s390x", digest(layer), ""), layer), mman.ErrModule},
		"wrong digest":      {docker(t, config("amd64", digest([]byte("x")), ""), layer), mman.ErrContent},
		"wrong blob":        {bytes.Replace(oci(t, good, layer), []byte(`"Cmd"`), []byte(`"cMd"`), 1), mman.ErrContent},
		"device":            {docker(t, config("amd64", digest(device), ""), device), mman.ErrImport},
		"unpacks to more":   {docker(t, config("amd64", digest(bomb), ""), zip(t, bomb)), mman.ErrTooLarge},
		"many parts":        {tarOf(t, many(5000)...), mman.ErrTooLarge},
		"zstd":              {docker(t, good, []byte{0x28, 0xb5, 0x2f, 0xfd}), mman.ErrUnsupported},
		"manifest is a map": {tarOf(t, file("manifest.json", list(map[string]int{}))), mman.ErrModule},
	} {
		_, err := image.Open(t.Context(), bytes.NewReader(c.archive), want())
		require.ErrorIs(t, err, c.want, name)
	}
	_, err := image.Open(t.Context(), bytes.NewReader(docker(t, config("amd64", digest(whiteout), ""), whiteout)), want())
	require.NoError(t, err, "a deleted file of a lower layer is no device")
}

func many(n int) []entry {
	out := make([]entry, n)
	for i := range out {
		out[i] = file(strconv.Itoa(i), nil)
	}
	return out
}

func FuzzOpen(f *testing.F) {
	var t testing.T
	layer := tarOf(&t, file("x", []byte("content")))
	f.Add(docker(&t, config("amd64", digest(layer), ""), layer))
	f.Add(oci(&t, config("amd64", digest(layer), ""), layer))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := image.Open(t.Context(), bytes.NewReader(b), image.Want{Arch: "amd64", Unpacked: 1 << 20})
		if err != nil {
			require.NotErrorIs(t, err, mman.ErrInternal)
			return
		}
		require.Less(t, a.Bytes, uint64(math.MaxUint32))
		_, err = a.Write(t.Context(), io.Discard, nil)
		require.NoError(t, err)
	})
}

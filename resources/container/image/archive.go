package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	mman "github.com/limboid/massive-man"
)

// Bounds of an archive.
const (
	// MaxFiles bounds the entries of all layers together.
	MaxFiles = 500_000
	// MaxLayers bounds the layers.
	MaxLayers = 128
	maxParts  = 4096    // entries of the archive itself
	maxText   = 4 << 20 // bytes of a configuration or a list
)

// Config is what an engine is told of an image: no more than it needs to run it.
type Config struct {
	Architecture string  `json:"architecture"`
	OS           string  `json:"os"`
	Config       Process `json:"config"`
	RootFS       RootFS  `json:"rootfs"`
}

// Process says what runs in the image.
type Process struct {
	User       string            `json:"User,omitempty"`
	Env        []string          `json:"Env,omitempty"`
	Entrypoint []string          `json:"Entrypoint,omitempty"`
	Cmd        []string          `json:"Cmd,omitempty"`
	WorkingDir string            `json:"WorkingDir,omitempty"`
	Labels     map[string]string `json:"Labels,omitempty"`
}

// RootFS names the layers by the digests of their bytes as they are unpacked.
type RootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

// dockerManifest is an entry of manifest.json in an archive of docker save.
type dockerManifest struct {
	Config   string   `json:"Config"`
	RepoTags []string `json:"RepoTags"`
	Layers   []string `json:"Layers"`
}

// descriptor, ociIndex and ociManifest are of the OCI image layout.
type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Platform  *struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	} `json:"platform"`
}

type ociIndex struct {
	Manifests []descriptor `json:"manifests"`
}

type ociManifest struct {
	Config descriptor   `json:"config"`
	Layers []descriptor `json:"layers"`
}

// Want says which image is looked for, and how large it may be.
type Want struct {
	// Arch is the processor, in Go's words; an archive of several images has one
	// for it.
	Arch string
	// Unpacked bounds the bytes of all layers as they are unpacked.
	Unpacked uint64
	// Devices lets an image have device files: for tests only.
	Devices bool
	// Names keeps the names that the archive gives to its image: for tests only.
	Names bool
}

// Archive is one image in an archive, checked.
type Archive struct {
	// Config is what the image says of itself, without labels.
	Config Config
	// Bytes is the size of its layers, unpacked; Files counts their entries.
	Bytes uint64
	Files int

	r      io.ReadSeeker
	layers []part
	sizes  []int64
	names  []string
}

// part is where an entry of the archive lies.
type part struct{ at, size int64 }

// Open reads and checks an archive: that its parts have the digests that they are
// named by, and what its layers hold. It keeps r. It fails with mman.ErrModule for
// what is no image or none for this machine, with mman.ErrContent for a wrong
// digest, mman.ErrImport for a device file, and mman.ErrTooLarge.
func Open(ctx context.Context, r io.ReadSeeker, want Want) (*Archive, error) {
	parts, err := index(ctx, r)
	if err != nil {
		return nil, err
	}
	a := &Archive{r: r}
	look := lookup{r, parts}
	switch {
	case look.has("manifest.json"):
		err = a.docker(look)
	case look.has("index.json"):
		err = a.oci(look, want.Arch)
	default:
		err = fmt.Errorf("%w: the archive has neither a manifest.json nor an index.json: make one with mman image build, docker save, or as an OCI layout", mman.ErrModule)
	}
	if err != nil {
		return nil, err
	}
	if !want.Names {
		a.names = nil
	}
	if c := a.Config; c.OS != "linux" || c.Architecture != want.Arch {
		return nil, fmt.Errorf("%w: the image is for %.20s/%.20s, this machine is linux/%s", mman.ErrModule, c.OS, c.Architecture, want.Arch)
	}
	if n := len(a.layers); n == 0 || n > MaxLayers || n != len(a.Config.RootFS.DiffIDs) {
		return nil, fmt.Errorf("%w: the image has %d layers and %d digests of them: as many are needed, 1 to %d", mman.ErrModule, n, len(a.Config.RootFS.DiffIDs), MaxLayers)
	}
	for i, l := range a.layers {
		size, err := a.check(ctx, l, a.Config.RootFS.DiffIDs[i], want)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		a.sizes = append(a.sizes, size)
	}
	return a, nil
}

// index finds the entries of the archive.
func index(ctx context.Context, r io.ReadSeeker) (map[string]part, error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrContent, err)
	}
	parts, links := map[string]part{}, map[string]string{}
	t := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, readError(ctx, err)
		}
		if n >= maxParts {
			return nil, fmt.Errorf("%w: the archive has more than %d parts", mman.ErrTooLarge, maxParts)
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			at, err := r.Seek(0, io.SeekCurrent)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", mman.ErrContent, err)
			}
			parts[name] = part{at, h.Size}
		case tar.TypeSymlink:
			links[name] = path.Join(path.Dir(name), h.Linkname) //nolint:gosec // a key of parts, never a path on a disk
		case tar.TypeLink:
			links[name] = path.Clean(h.Linkname)
		}
	}
	for name, to := range links { // docker save links equal layers
		if p, ok := parts[to]; ok {
			if _, taken := parts[name]; !taken {
				parts[name] = p
			}
		}
	}
	return parts, nil
}

// readError tells what is no archive from what could not be read.
func readError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", mman.ErrCanceled, err)
	case errors.Is(err, tar.ErrHeader), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum):
		return fmt.Errorf("%w: it is no archive of an image, or a part of one: %w", mman.ErrModule, err)
	default:
		return err
	}
}

// lookup reads parts of an archive.
type lookup struct {
	r     io.ReadSeeker
	parts map[string]part
}

func (l lookup) has(name string) bool {
	_, ok := l.parts[name]
	return ok
}

// text reads a small part.
func (l lookup) text(name string) ([]byte, error) {
	p, ok := l.parts[path.Clean(name)]
	if !ok {
		return nil, fmt.Errorf("%w: the archive lacks its part %.100q", mman.ErrModule, name)
	}
	if p.size > maxText {
		return nil, fmt.Errorf("%w: %.100s has %d bytes, at most %d are read", mman.ErrTooLarge, name, p.size, maxText)
	}
	b := make([]byte, p.size)
	if _, err := l.r.Seek(p.at, io.SeekStart); err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrContent, err)
	}
	if _, err := io.ReadFull(l.r, b); err != nil {
		return nil, fmt.Errorf("%w: %.100s: %w", mman.ErrContent, name, err)
	}
	return b, nil
}

func decode[T any](b []byte, what string) (v T, err error) {
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("%w: %s: %w", mman.ErrModule, what, err)
	}
	return v, nil
}

// docker reads an archive of docker save.
func (a *Archive) docker(l lookup) error {
	b, err := l.text("manifest.json")
	if err != nil {
		return err
	}
	list, err := decode[[]dockerManifest](b, "manifest.json")
	if err != nil {
		return err
	}
	if len(list) != 1 {
		return fmt.Errorf("%w: the archive holds %d images, one is needed", mman.ErrModule, len(list))
	}
	if b, err = l.text(list[0].Config); err != nil {
		return err
	}
	// An archive of an OCI layout names its configuration by its digest too.
	if base := path.Base(strings.TrimSuffix(list[0].Config, ".json")); len(base) == 2*sha256.Size {
		if err := sumIs(b, digestPrefix+base); err != nil {
			return err
		}
	}
	if err := a.configure(b); err != nil {
		return err
	}
	a.names = list[0].RepoTags
	for _, name := range list[0].Layers {
		p, ok := l.parts[path.Clean(name)]
		if !ok {
			return fmt.Errorf("%w: the archive lacks its part %.100q", mman.ErrModule, name)
		}
		a.layers = append(a.layers, p)
	}
	return nil
}

// oci reads an OCI image layout.
func (a *Archive) oci(l lookup, arch string) error {
	b, err := l.text("index.json")
	if err != nil {
		return err
	}
	for range 3 { // an index may be of indexes
		list, err := decode[ociIndex](b, "index")
		if err != nil {
			return err
		}
		if len(list.Manifests) == 0 {
			break
		}
		if b, err = l.blob(choose(list.Manifests, arch)); err != nil {
			return err
		}
	}
	manifest, err := decode[ociManifest](b, "manifest")
	if err != nil {
		return err
	}
	if b, err = l.blob(manifest.Config); err != nil {
		return err
	}
	if err := a.configure(b); err != nil {
		return err
	}
	for _, d := range manifest.Layers {
		name, err := blobName(d)
		if err != nil {
			return err
		}
		p, ok := l.parts[name]
		if !ok {
			return fmt.Errorf("%w: the archive lacks its part %.100q", mman.ErrModule, name)
		}
		a.layers = append(a.layers, p)
	}
	return nil
}

// choose takes the image for this machine, or the first.
func choose(all []descriptor, arch string) descriptor {
	for _, d := range all {
		if d.Platform != nil && d.Platform.OS == "linux" && d.Platform.Architecture == arch {
			return d
		}
	}
	return all[0]
}

// blobName is where an OCI layout has a digest's bytes.
func blobName(d descriptor) (string, error) {
	sum, ok := strings.CutPrefix(d.Digest, digestPrefix)
	if _, err := hex.DecodeString(sum); err != nil || !ok || len(sum) != 2*sha256.Size {
		return "", fmt.Errorf("%w: digest %.100q: sha256 is needed", mman.ErrModule, d.Digest)
	}
	return "blobs/sha256/" + sum, nil
}

func (l lookup) blob(d descriptor) ([]byte, error) {
	name, err := blobName(d)
	if err != nil {
		return nil, err
	}
	b, err := l.text(name)
	if err != nil {
		return nil, err
	}
	return b, sumIs(b, d.Digest)
}

func sumIs(b []byte, digest string) error {
	h := sha256.New()
	h.Write(b)
	if got := digestOf(h); got != digest {
		return fmt.Errorf("%w: a part named %.100s has the digest %s", mman.ErrContent, digest, got)
	}
	return nil
}

// configure takes from a configuration what is needed to run the image. Volumes,
// health checks, triggers and labels stay behind.
func (a *Archive) configure(b []byte) error {
	c, err := decode[Config](b, "configuration")
	if err != nil {
		return err
	}
	c.Config.Labels, c.RootFS.Type = nil, "layers"
	a.Config = c
	return nil
}

// plain opens a layer as it is unpacked.
func (a *Archive) plain(p part) (io.Reader, error) {
	if _, err := a.r.Seek(p.at, io.SeekStart); err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrContent, err)
	}
	r := bufio.NewReaderSize(io.LimitReader(a.r, p.size), 64<<10)
	head, err := r.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(r)
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return nil, fmt.Errorf("%w: it is compressed with zstd: use gzip or nothing", mman.ErrUnsupported)
	default:
		return r, nil
	}
}

// check reads a layer through and returns its size unpacked.
func (a *Archive) check(ctx context.Context, p part, digest string, want Want) (int64, error) {
	r, err := a.plain(p)
	if err != nil {
		return 0, readError(ctx, err)
	}
	sum := &summer{w: io.Discard, hash: sha256.New()}
	bounded := &bound{r: r, left: want.Unpacked - min(want.Unpacked, a.Bytes)}
	all := io.TeeReader(bounded, sum)
	t := tar.NewReader(all)
	logical := uint64(0)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, readError(ctx, err)
		}
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("%w: %w", mman.ErrCanceled, err)
		}
		if a.Files++; a.Files > MaxFiles {
			return 0, fmt.Errorf("%w: the image has more than %d files", mman.ErrTooLarge, MaxFiles)
		}
		if (h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock) && !isWhiteout(h) && !want.Devices {
			return 0, fmt.Errorf("%w: %.200q is a device file, which no image needs", mman.ErrImport, h.Name)
		}
		// A sparse file is short here and long on a disk.
		logical += uint64(max(0, h.Size))
		if logical > want.Unpacked-min(want.Unpacked, a.Bytes) {
			return 0, tooLarge(want.Unpacked)
		}
	}
	if _, err := io.Copy(io.Discard, all); err != nil { // what follows the last file
		return 0, readError(ctx, err)
	}
	if bounded.over {
		return 0, tooLarge(want.Unpacked)
	}
	a.Bytes += max(logical, uint64(sum.n)) //nolint:gosec // counters grow
	if got := sum.digest(); got != digest {
		return 0, fmt.Errorf("%w: its digest is %s, the configuration says %.100s", mman.ErrContent, got, digest)
	}
	return sum.n, nil
}

// isWhiteout reports whether a character device stands for a deleted file.
func isWhiteout(h *tar.Header) bool {
	return h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0
}

func tooLarge(most uint64) error {
	return fmt.Errorf("%w: the image has more than %d bytes unpacked", mman.ErrTooLarge, most)
}

// bound ends a stream that is too long.
type bound struct {
	r    io.Reader
	left uint64
	over bool
}

// Read reads on, and ends early beyond the bound.
func (b *bound) Read(p []byte) (int, error) {
	if b.left == 0 {
		b.over = true
		return 0, io.EOF
	}
	n, err := b.r.Read(p[:min(uint64(len(p)), b.left)])
	b.left -= uint64(n) //nolint:gosec // readers count upwards
	return n, err
}

// Write writes the image as an engine loads it, with labels of ours and no name,
// and returns its id.
func (a *Archive) Write(ctx context.Context, w io.Writer, labels map[string]string) (id string, err error) {
	config := a.Config
	config.Config.Labels = labels
	var layers []layer
	for i, p := range a.layers {
		layers = append(layers, layer{a.sizes[i], func(w io.Writer) error {
			r, err := a.plain(p)
			if err != nil {
				return err
			}
			if n, err := io.Copy(w, io.LimitReader(&within{ctx, r}, a.sizes[i])); err != nil || n != a.sizes[i] {
				return fmt.Errorf("%w: it changed while it was read: %d of %d bytes came: %w", mman.ErrContent, n, a.sizes[i], errors.Join(err))
			}
			return nil
		}})
	}
	return write(w, config, layers, a.names)
}

// within ends a stream with its context.
type within struct {
	ctx context.Context //nolint:containedctx // of one copy
	r   io.Reader
}

// Read reads on.
func (w *within) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, fmt.Errorf("%w: %w", mman.ErrCanceled, err)
	}
	return w.r.Read(p)
}

// ID returns the id that Write gives with the labels.
func (a *Archive) ID(labels map[string]string) (string, error) {
	config := a.Config
	config.Config.Labels = labels
	_, id, err := encode(config)
	return id, err
}

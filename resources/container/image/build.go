package image

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	mman "github.com/limboid/massive-man"
)

// Options say how an image starts. The zero value is fine for a binary.
type Options struct {
	// Entrypoint is what always runs; for a binary it is the default.
	Entrypoint []string
	// Command is what follows it when a run names no arguments.
	Command []string
	// Env are variables, NAME=value.
	Env []string
	// Dir is the working folder, an absolute path. Default "/".
	Dir string
	// Arch is the processor in Go's words. A binary tells its own; a folder needs it.
	Arch string
}

// Built says what Build wrote.
type Built struct {
	// ID is the image's: the digest of its configuration, "sha256:" and 64 hex digits.
	ID string `json:"id"`
	// Files counts the entries of its one layer, Bytes their contents.
	Files int    `json:"files"`
	Bytes uint64 `json:"bytes"`
}

// Build writes an archive with the files below a folder, or with one static
// binary, to w. The same files give the same bytes, whenever and by whomever: no
// times, owners or names of this machine are in them. It fails with
// mman.ErrNotFound, and with mman.ErrInvalid for what cannot be in an image.
func Build(ctx context.Context, w io.Writer, path string, o Options) (Built, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Built{}, fmt.Errorf("%w: %w", mman.ErrNotFound, err)
	}
	var files []file
	if info.IsDir() {
		files, err = walk(ctx, path)
	} else {
		files, err = single(path, info, &o)
	}
	if err != nil {
		return Built{}, err
	}
	if o.Arch == "" {
		return Built{}, fmt.Errorf("%w: for which processor is it? a folder does not tell: name one, for example amd64", mman.ErrInvalid)
	}
	if o.Dir != "" && !filepath.IsAbs(o.Dir) {
		return Built{}, fmt.Errorf("%w: working folder %.100q: an absolute path is needed", mman.ErrInvalid, o.Dir)
	}
	// The layer is written twice: a tar file says how long a file is before it.
	sum := &summer{w: io.Discard, hash: sha256.New()}
	if err := writeLayer(ctx, sum, files); err != nil {
		return Built{}, err
	}
	config := Config{
		Architecture: o.Arch, OS: "linux",
		Config: Process{Entrypoint: o.Entrypoint, Cmd: o.Command, Env: o.Env, WorkingDir: cmp.Or(o.Dir, "/")},
		RootFS: RootFS{Type: "layers", DiffIDs: []string{sum.digest()}},
	}
	built := Built{Files: len(files)}
	for _, f := range files {
		built.Bytes += uint64(f.size) //nolint:gosec // sizes are not negative
	}
	built.ID, err = write(w, config, []layer{{size: sum.n, write: func(w io.Writer) error {
		again := &summer{w: w, hash: sha256.New()}
		if err := writeLayer(ctx, again, files); err != nil {
			return err
		}
		if again.digest() != sum.digest() {
			return fmt.Errorf("%w: %s changed while it was read", mman.ErrInvalid, path)
		}
		return nil
	}}}, nil)
	return built, err
}

// file is one entry of a layer.
type file struct {
	name   string // with slashes, without one before it
	source string
	mode   fs.FileMode
	size   int64
	link   string
}

// walk lists what is below a folder, in the order of the names.
func walk(ctx context.Context, root string) ([]file, error) {
	var out []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("%w: %w", mman.ErrDenied, err)
		}
		if path == root {
			return ctx.Err()
		}
		if len(out) >= MaxFiles {
			return fmt.Errorf("%w: more than %d files", mman.ErrTooLarge, MaxFiles)
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return fmt.Errorf("%w: %w", mman.ErrInvalid, err)
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("%w: %w", mman.ErrNotFound, err)
		}
		f := file{name: filepath.ToSlash(rel), source: path, mode: info.Mode()}
		switch {
		case info.IsDir():
		case info.Mode().IsRegular():
			f.size = info.Size()
		case info.Mode()&fs.ModeSymlink != 0:
			if f.link, err = os.Readlink(path); err != nil {
				return fmt.Errorf("%w: %w", mman.ErrDenied, err)
			}
		default:
			return fmt.Errorf("%w: %s is neither a file nor a folder nor a link", mman.ErrInvalid, path)
		}
		out = append(out, f)
		return ctx.Err()
	})
	return out, err
}

// single is the layer of one static binary.
func single(path string, info fs.FileInfo, o *Options) (_ []file, err error) {
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is neither a folder nor a file", mman.ErrInvalid, path)
	}
	binary, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is no program for Linux (ELF); name a folder, or a binary", mman.ErrInvalid, path)
	}
	defer func() { err = errors.Join(err, binary.Close()) }()
	for _, p := range binary.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("%w: %s needs shared libraries: link it statically (in Go CGO_ENABLED=0), or name a folder that has them", mman.ErrInvalid, path)
		}
	}
	var arch string
	switch binary.Machine { //nolint:exhaustive // the others have no name here
	case elf.EM_X86_64:
		arch = "amd64"
	case elf.EM_AARCH64:
		arch = "arm64"
	case elf.EM_RISCV:
		arch = "riscv64"
	default:
		return nil, fmt.Errorf("%w: %s is for %s", mman.ErrUnsupported, path, binary.Machine)
	}
	if o.Arch != "" && o.Arch != arch {
		return nil, fmt.Errorf("%w: %s is for %s, not for %s", mman.ErrInvalid, path, arch, o.Arch)
	}
	name := filepath.Base(path)
	o.Arch = arch
	if len(o.Entrypoint) == 0 {
		o.Entrypoint = []string{"/" + name}
	}
	return []file{{name: name, source: path, mode: 0o755, size: info.Size()}}, nil
}

// writeLayer writes the files as a tar file without anything of this machine.
func writeLayer(ctx context.Context, w io.Writer, files []file) error {
	t := tar.NewWriter(w)
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%w: %w", mman.ErrCanceled, err)
		}
		if err := f.write(t); err != nil {
			return fmt.Errorf("%s: %w", f.source, err)
		}
	}
	return t.Close()
}

// epoch is the time of every file of an image that was built here.
func epoch() time.Time { return time.Unix(0, 0).UTC() }

func (f file) write(t *tar.Writer) (err error) {
	h := &tar.Header{Name: f.name, ModTime: epoch(), Mode: 0o644, Typeflag: tar.TypeReg, Size: f.size}
	switch {
	case f.mode.IsDir():
		h.Typeflag, h.Name, h.Mode = tar.TypeDir, f.name+"/", 0o755
		if f.mode&fs.ModeSticky != 0 {
			h.Mode = 0o1777
		}
	case f.link != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.link, 0o777
	case f.mode&0o111 != 0:
		h.Mode = 0o755
	}
	if err := t.WriteHeader(h); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrInvalid, err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	src, err := os.Open(f.source)
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrDenied, err)
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	if _, err := io.CopyN(t, src, f.size); err != nil {
		return fmt.Errorf("%w: it changed while it was read: %w", mman.ErrInvalid, err)
	}
	return nil
}

// summer counts and hashes what passes.
type summer struct {
	w    io.Writer
	hash hash.Hash
	n    int64
}

// Write passes p on.
func (s *summer) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.hash.Write(p[:n])
	s.n += int64(n)
	return n, err
}

func (s *summer) digest() string { return digestOf(s.hash) }

func digestOf(h hash.Hash) string { return digestPrefix + hex.EncodeToString(h.Sum(nil)) }

const digestPrefix = "sha256:"

// layer is one layer on its way into an archive.
type layer struct {
	size  int64
	write func(io.Writer) error
}

// encode returns a configuration's bytes and the id of its image.
func encode(config Config) (body []byte, id string, err error) {
	if body, err = json.Marshal(config); err != nil {
		return nil, "", fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	sum := sha256.Sum256(body)
	return body, digestPrefix + hex.EncodeToString(sum[:]), nil
}

// write writes an archive as docker load reads it and returns the image's id. The
// list of its parts comes last: an archive that is cut off loads nothing.
func write(w io.Writer, config Config, layers []layer, names []string) (id string, err error) {
	body, id, err := encode(config)
	if err != nil {
		return "", err
	}
	t := tar.NewWriter(w)
	put := func(name string, size int64, content func(io.Writer) error) error {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: epoch()}
		if err := t.WriteHeader(h); err != nil {
			return fmt.Errorf("%w: %w", mman.ErrInternal, err)
		}
		return content(t)
	}
	text := func(b []byte) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := w.Write(b)
			return err
		}
	}
	manifest := dockerManifest{Config: strings.TrimPrefix(id, digestPrefix) + ".json", RepoTags: names, Layers: []string{}}
	if err := put(manifest.Config, int64(len(body)), text(body)); err != nil {
		return "", err
	}
	for i, l := range layers {
		part := strings.TrimPrefix(config.RootFS.DiffIDs[i], digestPrefix) + ".tar"
		if !slices.Contains(manifest.Layers, part) { // the same layer twice is there once
			if err := put(part, l.size, l.write); err != nil {
				return "", err
			}
		}
		manifest.Layers = append(manifest.Layers, part)
	}
	list, err := json.Marshal([]dockerManifest{manifest})
	if err != nil {
		return "", fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	if err := put("manifest.json", int64(len(list)), text(list)); err != nil {
		return "", err
	}
	return id, t.Close()
}

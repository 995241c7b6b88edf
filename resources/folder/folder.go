package folder

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"

	mman "github.com/limboid/massive-man"
)

// Bounds of a pack.
const (
	// MaxEntries bounds its files and folders.
	MaxEntries = 4096
	// MaxDepth bounds the names in a path.
	MaxDepth = 32
	// MaxName bounds a name in bytes.
	MaxName = 255

	packBlock = 512
	packAhead = 64 << 10
	packFile  = 0o644
	packDir   = 0o755
)

// Entry is a file or folder in a pack.
type Entry struct {
	// Path has slashes and no dots for elements.
	Path string
	// Folder says that it is one; it comes before what is in it.
	Folder bool
	// Offset and Size say where a file's bytes are in the pack.
	Offset, Size uint64
}

// Pack writes the pack of a folder. Names that begin with a dot are left out.
// What is neither a file nor a folder is mman.ErrUnsupported, what exceeds the bounds
// mman.ErrTooLarge, and a file that changes meanwhile mman.ErrInvalid.
func Pack(ctx context.Context, fsys fs.FS, w io.Writer) error {
	out := tar.NewWriter(w)
	err := walk(fsys, func(at string, info fs.FileInfo) error {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%w: %w", mman.ErrCanceled, err)
		}
		h := &tar.Header{Typeflag: tar.TypeDir, Name: at + "/", Mode: packDir}
		if !info.IsDir() {
			h = &tar.Header{Typeflag: tar.TypeReg, Name: at, Mode: packFile, Size: info.Size()}
		}
		if err := out.WriteHeader(h); err != nil {
			return fmt.Errorf("pack %s: %w", at, err)
		}
		if info.IsDir() {
			return nil
		}
		return packOne(fsys, at, info.Size(), out)
	})
	if err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("pack a folder: %w", err)
	}
	return nil
}

func packOne(fsys fs.FS, at string, size int64, out io.Writer) (err error) {
	f, err := fsys.Open(at)
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrNotFound, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err := io.Copy(out, io.LimitReader(f, size))
	if err == nil && n < size {
		err = fmt.Errorf("%w: %s became shorter while it was read", mman.ErrInvalid, at)
	}
	return err
}

// walk calls each for everything below a folder but what begins with a dot.
func walk(fsys fs.FS, each func(at string, info fs.FileInfo) error) error {
	count := 0
	return fs.WalkDir(fsys, ".", func(at string, d fs.DirEntry, err error) error { //nolint:wrapcheck // what is returned is coded
		switch {
		case err != nil:
			return fmt.Errorf("%w: %w", mman.ErrNotFound, err)
		case at == ".":
			return nil
		case strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case !d.IsDir() && !d.Type().IsRegular():
			return fmt.Errorf("%w: %s is neither a file nor a folder", mman.ErrUnsupported, at)
		}
		if count++; count > MaxEntries {
			return fmt.Errorf("%w: a folder of more than %d files", mman.ErrTooLarge, MaxEntries)
		}
		if err := checkPath(at); err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("%w: %w", mman.ErrNotFound, err)
		}
		return each(at, info)
	})
}

// checkPath refuses a path that could mean something else somewhere.
func checkPath(at string) error {
	names := strings.Split(at, "/")
	if !fs.ValidPath(at) || !utf8.ValidString(at) || strings.ContainsAny(at, "\x00\\") || at == "." || len(names) > MaxDepth {
		return fmt.Errorf("%w: a file of the name %.200q in a folder, at most %d deep", mman.ErrContent, at, MaxDepth)
	}
	for _, name := range names {
		if len(name) > MaxName {
			return fmt.Errorf("%w: a name of %d bytes in a folder, at most %d", mman.ErrContent, len(name), MaxName)
		}
	}
	return nil
}

// Open returns the pack of a folder as it is made, and its size. Errors are those
// of Pack; of files that change meanwhile the reader tells.
func Open(ctx context.Context, fsys fs.FS) (io.ReadCloser, uint64, error) {
	size := counted(0)
	// Sizes are what is counted here, bytes of the files are not read.
	out := tar.NewWriter(&size)
	files := uint64(0)
	err := walk(fsys, func(at string, info fs.FileInfo) error {
		h := &tar.Header{Typeflag: tar.TypeDir, Name: at + "/", Mode: packDir}
		if !info.IsDir() {
			h = &tar.Header{Typeflag: tar.TypeReg, Name: at, Mode: packFile}
			files += (uint64(info.Size()) + packBlock - 1) / packBlock * packBlock //nolint:gosec // sizes are not negative
		}
		return out.WriteHeader(h) //nolint:wrapcheck // a counter does not fail
	})
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		return nil, 0, fmt.Errorf("pack a folder: %w", err)
	}
	r, w := io.Pipe()
	// It ends with the last byte or when the reader is closed. Readers see no empty writes.
	go func() {
		out := bufio.NewWriterSize(w, packAhead)
		err := Pack(ctx, fsys, out)
		if err == nil {
			err = out.Flush()
		}
		_ = w.CloseWithError(err) // it never fails, the reader has the error
	}()
	return r, files + uint64(size), nil
}

// counted counts what is written.
type counted uint64

func (c *counted) Write(p []byte) (int, error) {
	*c += counted(len(p))
	return len(p), nil
}

// Read lists what is in a pack of so many bytes. Whatever Pack does not
// write is mman.ErrContent.
func Read(r io.ReadSeeker, size uint64) ([]Entry, error) {
	in := tar.NewReader(r)
	folders := map[string]bool{".": true}
	seen := map[string]bool{}
	var out []Entry
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: the pack of a folder: %w", mman.ErrContent, err)
		}
		at, err := r.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, fmt.Errorf("read the pack of a folder: %w", err)
		}
		e, err := packed(h, uint64(at), size) //nolint:gosec // a place is not negative
		if err != nil {
			return nil, err
		}
		if len(out) == MaxEntries || seen[e.Path] || !folders[path.Dir(e.Path)] {
			return nil, fmt.Errorf("%w: the pack of a folder has more than %d entries, or %.200q twice, or not the folder that it is in", mman.ErrContent, MaxEntries, e.Path)
		}
		seen[e.Path], folders[e.Path] = true, e.Folder
		out = append(out, e)
	}
}

// packed reads one header.
func packed(h *tar.Header, at, size uint64) (Entry, error) {
	e := Entry{Path: strings.TrimSuffix(h.Name, "/"), Folder: h.Typeflag == tar.TypeDir}
	if err := checkPath(e.Path); err != nil {
		return e, err
	}
	if !e.Folder && (h.Typeflag != tar.TypeReg || h.Name != e.Path) {
		return e, fmt.Errorf("%w: %.200q in the pack of a folder is neither a file nor a folder", mman.ErrContent, h.Name)
	}
	for key := range h.PAXRecords {
		if key != "path" && key != "size" { // nothing sparse: a file's bytes are where they are
			return e, fmt.Errorf("%w: %.200q in the pack of a folder has a %.40q", mman.ErrContent, h.Name, key)
		}
	}
	if e.Folder {
		return e, nil
	}
	e.Offset, e.Size = at, uint64(h.Size) //nolint:gosec // the reader refuses negative ones
	if e.Offset > size || e.Size > size-e.Offset {
		return e, fmt.Errorf("%w: %.200q ends after the pack of its folder", mman.ErrContent, h.Name)
	}
	return e, nil
}

package interpreter

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// Folder is the shelf's name in a home.
const Folder = "interpreters"

// Shelf holds the interpreters of one home. It is safe for concurrent use, also
// by several processes.
type Shelf struct {
	dir string

	mu sync.Mutex
	// read are the files that were read to their end, as they were then.
	read map[mman.CID]verdict
}

// verdict says whether a file was whole.
type verdict struct {
	changed time.Time
	size    int64
	digest  mman.Hash
}

// NewShelf returns the shelf in a folder, which need not exist yet; "" is a shelf
// with what is embedded and no room for more.
func NewShelf(dir string) *Shelf { return &Shelf{dir: dir, read: map[mman.CID]verdict{}} }

// memoryBlob is a module that is embedded.
type memoryBlob struct {
	*bytes.Reader

	size uint64
}

// Size returns its size in bytes.
func (b memoryBlob) Size() uint64 { return b.size }

// Close does nothing.
func (memoryBlob) Close() error { return nil }

// fileBlob is a module on disk.
type fileBlob struct {
	*os.File

	size uint64
}

// Size returns its size in bytes.
func (b fileBlob) Size() uint64 { return b.size }

// Has reports whether Open would find the module.
func (s *Shelf) Has(module mman.CID) bool {
	b, err := s.Open(module)
	if err != nil {
		return false
	}
	return b.Close() == nil
}

// Open opens an interpreter's module: mman.ErrNotFound for one that is not here
// or that is no interpreter's. A file that is damaged counts as not here.
func (s *Shelf) Open(module mman.CID) (resources.Blob, error) {
	i, ok := resources.InterpreterAt(module)
	if !ok {
		return nil, fmt.Errorf("%w: %s is no interpreter", mman.ErrNotFound, module)
	}
	if i.Facet == resources.FacetJS {
		b, err := QuickJS()
		return memoryBlob{bytes.NewReader(b), uint64(len(b))}, err
	}
	if s.dir == "" {
		return nil, fmt.Errorf("%w: there is no %s here", mman.ErrNotFound, i.Name)
	}
	f, err := os.Open(s.file(i))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no %s here; install it with: mman resource install %s", mman.ErrNotFound, i.Name, i.Word)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	if err := s.check(i, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return fileBlob{f, i.Bytes}, nil
}

func (s *Shelf) file(i resources.Interpreter) string {
	return filepath.Join(s.dir, i.Module.String()+".wasm")
}

// check reads a file to its end when it is new.
func (s *Shelf) check(i resources.Interpreter, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.read[i.Module]
	if !ok || !v.changed.Equal(info.ModTime()) || v.size != info.Size() {
		sum := mman.NewSum256()
		if _, err := io.Copy(sum, f); err != nil {
			return fmt.Errorf("%w: %w", mman.ErrHome, err)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("%w: %w", mman.ErrHome, err)
		}
		v = verdict{info.ModTime(), info.Size(), sum.Hash()}
		s.read[i.Module] = v
	}
	if v.digest != i.SHA256 {
		return fmt.Errorf("%w: the file of %s is damaged, its SHA-256 is %s; install it again with: mman resource install %s", mman.ErrNotFound, i.Name, v.digest, i.Word)
	}
	return nil
}

const (
	partFiles = "part-*"
	// partAge is how old a file is that nobody is still writing.
	partAge = time.Hour
)

// tidy removes what was left by processes that were killed while they wrote; the
// newest file tells the time.
func (s *Shelf) tidy(newest *os.File) {
	now, err := newest.Stat()
	if err != nil {
		return
	}
	parts, err := filepath.Glob(filepath.Join(s.dir, partFiles))
	if err != nil {
		return
	}
	for _, part := range parts {
		if info, err := os.Stat(part); err == nil && now.ModTime().Sub(info.ModTime()) > partAge {
			_ = os.Remove(part) // the next one tries again
		}
	}
}

// Install reads an interpreter's module to its end and keeps it, if it is the
// one; otherwise it fails with mman.ErrContent and keeps nothing.
func (s *Shelf) Install(i resources.Interpreter, r io.Reader) (err error) {
	if s.dir == "" {
		return fmt.Errorf("%w: this home has no room for %s", mman.ErrHome, i.Name)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	f, err := os.CreateTemp(s.dir, partFiles)
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	s.tidy(f)
	placed := false
	defer func() {
		if !placed {
			_ = f.Close() // it is given up
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	sum := mman.NewSum256()
	n, err := io.Copy(io.MultiWriter(f, sum), io.LimitReader(r, int64(i.Bytes)+1)) //nolint:gosec // some megabytes
	if err != nil {
		return fmt.Errorf("install %s: %w", i.Name, err)
	}
	if got := sum.Hash(); got != i.SHA256 {
		return fmt.Errorf("install %s: %w: %d bytes came with SHA-256 %s, it has %d with %s", i.Name, mman.ErrContent, n, got, i.Bytes, i.SHA256)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("install %s: %w: %w", i.Name, mman.ErrHome, err)
	}
	if err := os.Rename(f.Name(), s.file(i)); err != nil {
		return fmt.Errorf("install %s: %w: %w", i.Name, mman.ErrHome, err)
	}
	placed = true
	return nil
}

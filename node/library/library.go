package library

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/node/store"
	"github.com/limboid/massive-man/p2p/content"
)

const (
	// MaxImport bounds a CAR file, in bytes: 1 TiB.
	MaxImport = 1 << 40
	// maxItem bounds an item's record, in bytes.
	maxItem = 4 << 10
	// maxName is how much of a name is remembered, in bytes.
	maxName = 255
)

// Item is one file or folder that everybody may have.
type Item struct {
	Root mman.CID `cbor:"root" json:"root"`
	// Name is what it was called here.
	Name   string `cbor:"name"   json:"name"`
	Folder bool   `cbor:"folder" json:"folder"`
	// Files and Bytes are how many files it has, and their bytes; of a CAR file,
	// 0 files and the bytes of the whole.
	Files uint64 `cbor:"files" json:"files"`
	Bytes uint64 `cbor:"bytes" json:"bytes"`
	// Provided is when the peers of the DHT were last told of it; zero when
	// nobody was there to be told.
	Provided time.Time `cbor:"-" json:"provided,omitzero"`
}

// Announcer makes contents findable; *discovery.Discovery is one.
type Announcer interface {
	Reserve(n int) (free func(), err error)
	Provide(ctx context.Context, c mman.CID) error
	ProvideAll(ctx context.Context, cids []mman.CID) error
	Withdraw(c mman.CID)
	Provided(c mman.CID) time.Time
}

// Library is safe for concurrent use.
type Library struct {
	content *content.Service
	dht     Announcer
	kv      *store.KV
	now     func() time.Time
	adding  sync.RWMutex // held for reading while something is added, for writing while it is taken back
}

// New returns the library whose items are remembered in kv.
func New(service *content.Service, dht Announcer, kv *store.KV, now func() time.Time) *Library {
	return &Library{content: service, dht: dht, kv: kv, now: now}
}

// Add adds the file or folder at a path of this machine and announces it. tell, if
// set, is told how far it is. What is neither a file nor a folder is
// mman.ErrUnsupported, a missing one mman.ErrNotFound; when the node announces as much
// as it may, it is mman.ErrCapacity, before anything is read. After a failure nothing of
// it is listed or announced, unless that is mman.ErrUnreachable: then it is listed, and
// announced later.
func (l *Library) Add(ctx context.Context, path string, tell func(content.Progress)) (Item, error) {
	l.adding.RLock()
	defer l.adding.RUnlock()
	info, err := os.Stat(path)
	if err != nil {
		return Item{}, fileError(path, err)
	}
	free, err := l.reserve(1)
	if err != nil {
		return Item{}, fmt.Errorf("add %s: %w", path, err)
	}
	defer free()
	meter := content.NewMeter(l.now, tell)
	item := Item{Name: name(path), Folder: info.IsDir()}
	switch {
	case info.IsDir():
		if err := l.addFolder(ctx, path, meter, &item); err != nil {
			return Item{}, fmt.Errorf("add %s: %w", path, err)
		}
	case info.Mode().IsRegular():
		meter.SetTotal(uint64(info.Size())) //nolint:gosec // sizes are not negative
		f, err := os.Open(path)             //nolint:gosec // the node's owner names it
		if err != nil {
			return Item{}, fileError(path, err)
		}
		item.Files = 1
		item.Root, item.Bytes, err = l.content.AddPublic(ctx, counted{f, meter})
		if err = errors.Join(err, f.Close()); err != nil {
			return Item{}, fmt.Errorf("add %s: %w", path, err)
		}
	default:
		return Item{}, fmt.Errorf("%w: %s is neither a file nor a folder", mman.ErrUnsupported, path)
	}
	meter.End()
	return item, l.keep(ctx, item)
}

func (l *Library) addFolder(ctx context.Context, path string, meter *content.Meter, item *Item) error {
	total := uint64(0)
	err := filepath.WalkDir(path, func(at string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case at != path && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case !d.Type().IsRegular():
			return ctx.Err()
		}
		info, err := d.Info()
		if err == nil {
			total += uint64(info.Size()) //nolint:gosec // sizes are not negative
		}
		return err
	})
	if err != nil {
		return fileError(path, err)
	}
	meter.SetTotal(total)
	tree, err := l.content.AddPublicFolder(ctx, countedFS{os.DirFS(path), meter})
	item.Root, item.Files, item.Bytes = tree.Root, tree.Files, tree.Bytes
	return err
}

// reserve keeps room to announce n contents.
func (l *Library) reserve(n int) (free func(), err error) {
	if free, err = l.dht.Reserve(n); err != nil {
		return nil, fmt.Errorf("%w; put many files into one folder and add that, or take something back with mman rm", err)
	}
	return free, nil
}

// Import adds what is in a CAR file of this machine, and announces its roots; see
// content.Service.ImportCAR. When the node may not announce that many more it is
// mman.ErrCapacity, before anything is stored.
func (l *Library) Import(ctx context.Context, path string, tell func(content.Progress)) (_ []Item, err error) {
	l.adding.RLock()
	defer l.adding.RUnlock()
	f, err := os.Open(path) //nolint:gosec // the node's owner names it
	if err != nil {
		return nil, fileError(path, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, fileError(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a file", mman.ErrUnsupported, path)
	}
	heads, err := content.CARRoots(f)
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", path, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fileError(path, err)
	}
	free, err := l.reserve(len(heads))
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", path, err)
	}
	defer free()
	size := uint64(info.Size()) //nolint:gosec // sizes are not negative
	meter := content.NewMeter(l.now, tell)
	meter.SetTotal(2 * size)
	roots, err := l.content.ImportCAR(ctx, struct {
		io.Reader
		io.Seeker
	}{counted{f, meter}, f}, MaxImport)
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", path, err)
	}
	meter.End()
	items := make([]Item, len(roots))
	for i, root := range roots {
		items[i] = Item{Root: root, Name: name(path), Bytes: size}
		if err := l.keep(ctx, items[i]); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// keep brings an item to the disk, announces it and remembers it, also when nobody
// could be told.
func (l *Library) keep(ctx context.Context, item Item) error {
	if err := l.content.Public().Sync(); err != nil {
		return err
	}
	b, err := dagcbor.Marshal(item)
	if err != nil {
		return err
	}
	told := l.dht.Provide(ctx, item.Root)
	if told != nil && !errors.Is(told, mman.ErrUnreachable) {
		return told
	}
	if err := l.kv.Set(item.Root.Bytes(), b); err != nil {
		return fmt.Errorf("remember %s: %w", item.Root, err)
	}
	return told
}

// Remove takes back what was added: it is announced no more, and its blocks are deleted
// that neither another item nor one of the kept roots needs. It returns the item and the
// bytes that were freed. What was not added is mman.ErrNotFound; while something is
// being added it is mman.ErrBusy. One that was interrupted can be typed again.
func (l *Library) Remove(ctx context.Context, root mman.CID, kept []mman.CID) (item Item, freed uint64, err error) {
	if !l.adding.TryLock() {
		return item, 0, fmt.Errorf("%w: something is being added: try again when that is done", mman.ErrBusy)
	}
	defer l.adding.Unlock()
	items, err := l.Items()
	if err != nil {
		return item, 0, err
	}
	found := false
	kept = slices.Clone(kept)
	for _, one := range items {
		if one.Root == root {
			item, found = one, true
		} else {
			kept = append(kept, one.Root)
		}
	}
	if !found {
		return item, 0, fmt.Errorf("%w: %s was not added to this node: see mman add --list", mman.ErrNotFound, root)
	}
	if !slices.Contains(kept, root) {
		l.dht.Withdraw(root)
	}
	if freed, err = l.content.Forget(ctx, root, kept); err != nil {
		return item, freed, fmt.Errorf("take back %s: %w", root, err)
	}
	if err := l.kv.Delete(root.Bytes()); err != nil {
		return item, freed, fmt.Errorf("forget %s: %w", root, err)
	}
	item.Provided = time.Time{}
	return item, freed, nil
}

// Items lists what was added, in the order of the roots' bytes.
func (l *Library) Items() ([]Item, error) {
	it, err := l.kv.Iterate(nil, nil, false)
	if err != nil {
		return nil, err
	}
	defer it.Close()
	out := []Item{}
	for ; it.Valid(); it.Next() {
		item, err := dagcbor.Unmarshal[Item](it.Value(), maxItem)
		if err != nil {
			return nil, fmt.Errorf("%w: item under key %x: %w", mman.ErrCorrupt, it.Key(), err)
		}
		item.Provided = l.dht.Provided(item.Root)
		out = append(out, item)
	}
	return out, it.Err()
}

// Announce makes everything findable again, after a restart.
func (l *Library) Announce(ctx context.Context) error {
	items, err := l.Items()
	if err != nil {
		return err
	}
	roots := make([]mman.CID, len(items))
	for i, item := range items {
		roots[i] = item.Root
	}
	return l.dht.ProvideAll(ctx, roots)
}

// name returns what a path is called, as far as it is remembered.
func name(path string) string {
	base := strings.ToValidUTF8(filepath.Base(path), "?")
	for len(base) > maxName {
		base = strings.ToValidUTF8(base[:maxName], "")
	}
	return base
}

func fileError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s: %w", mman.ErrNotFound, path, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %s: %w", mman.ErrDenied, path, err)
	case errors.Is(err, syscall.ENAMETOOLONG):
		return fmt.Errorf("%w: %.80s…: %w", mman.ErrInvalid, path, err)
	default:
		return fmt.Errorf("%w: %s: %w", mman.ErrHome, path, err)
	}
}

// counted tells a meter what is read.
type counted struct {
	io.Reader

	meter *content.Meter
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.meter.Add(uint64(n)) //nolint:gosec // a count
	return n, err          //nolint:wrapcheck // a reader's error stays as it is
}

// countedFS is a file system whose files are counted as they are read.
type countedFS struct {
	fs.FS

	meter *content.Meter
}

func (c countedFS) Open(name string) (fs.File, error) {
	f, err := c.FS.Open(name)
	if err != nil {
		return nil, err //nolint:wrapcheck // the reader says which file
	}
	return countedFile{f, c.meter}, nil
}

// ReadDir implements fs.ReadDirFS.
func (c countedFS) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(c.FS, name) }

type countedFile struct {
	fs.File

	meter *content.Meter
}

func (c countedFile) Read(p []byte) (int, error) { return counted{c.File, c.meter}.Read(p) }

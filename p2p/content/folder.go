package content

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	uio "github.com/ipfs/boxo/ipld/unixfs/io"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"golang.org/x/sync/errgroup"

	mman "github.com/limboid/massive-man"
)

// Bounds of a folder.
const (
	// MaxFolderDepth is the largest number of folders within each other.
	MaxFolderDepth = 32
	// MaxFolderFiles is the largest number of files and folders in a tree that is
	// added or listed whole: a million.
	MaxFolderFiles = 1 << 20
	// MaxName is the longest name in a folder, in bytes.
	MaxName = 255
)

// Tree is what a folder came to.
type Tree struct {
	// Root is the folder's CID.
	Root mman.CID
	// Files and Bytes are how many files it holds, and their bytes.
	Files, Bytes uint64
}

// AddPublicFolder adds all regular files of a file system as a UnixFS folder to
// the public store, several at a time. Its CID is the one that a stock kubo gives it in
// the profile unixfs-v1-2025. Names that begin with a dot are left out,
// and what is neither a file nor a folder is mman.ErrUnsupported. After an error nothing
// of it is here that was not before.
func (s *Service) AddPublicFolder(ctx context.Context, fsys fs.FS) (tree Tree, err error) {
	err = s.adding(ctx, func(put func([]Block) error) (err error) {
		tree, err = addFolder(ctx, fsys, put)
		return err
	})
	return tree, err
}

// AddFolderTo is AddPublicFolder for a private store. Nobody is told of it.
func AddFolderTo(ctx context.Context, to *PrivateStore, fsys fs.FS) (Tree, error) {
	return addFolder(ctx, fsys, func(batch []Block) error { return to.Put(ctx, batch) })
}

// batcher collects the blocks of files that are added at one time.
type batcher struct {
	put func([]Block) error

	mu   sync.Mutex
	list []Block
	held int
}

// batchBlocks is how many blocks are written to a store at a time.
const batchBlocks = 1024

func (b *batcher) add(block Block) error {
	b.mu.Lock()
	b.list = append(b.list, block)
	if b.held += len(block.data); b.held < batchBytes && len(b.list) < batchBlocks {
		b.mu.Unlock()
		return nil
	}
	list := b.list
	b.list, b.held = nil, 0
	b.mu.Unlock()
	return b.put(list)
}

// flush hands on what is left; nobody adds meanwhile.
func (b *batcher) flush() error {
	list := b.list
	if b.list, b.held = nil, 0; len(list) == 0 {
		return nil
	}
	return b.put(list)
}

// folders adds a tree: one goroutine goes through it, a bounded number reads files, of
// whatever folders. A folder is made by whoever adds the last of its entries, so that
// what waits is the folders on the way to where the tree is read, and those of the files
// that are read.
type folders struct {
	fsys fs.FS
	out  *batcher
	work *errgroup.Group

	mu   sync.Mutex
	seen uint64
	root link
	tree Tree
}

// opened is a folder of which not everything is added.
type opened struct {
	dir     string
	parent  *opened // none of the root
	index   int     // among the parent's entries
	entries []fs.DirEntry
	links   []link // of the entries
	left    int    // entries without a link; guarded by folders.mu
}

func addFolder(ctx context.Context, fsys fs.FS, put func([]Block) error) (Tree, error) {
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(2*runtime.GOMAXPROCS(0) + 1)
	f := &folders{fsys: fsys, out: &batcher{put: put}, work: work}
	work.Go(func() error { return f.walk(ctx, &opened{dir: "."}, 0) })
	err := work.Wait()
	if err == nil {
		err = f.out.flush()
	}
	if err != nil {
		return Tree{}, err
	}
	f.tree.Root, err = mman.CIDFromBytes(f.root.cid.Bytes())
	return f.tree, err
}

// walk has all files in and below a folder added; it does not wait for them.
func (f *folders) walk(ctx context.Context, o *opened, depth int) error {
	if depth > MaxFolderDepth {
		return fmt.Errorf("%w: folder %s is more than %d deep", mman.ErrTooLarge, o.dir, MaxFolderDepth)
	}
	entries, err := fs.ReadDir(f.fsys, o.dir)
	if err != nil {
		return fmt.Errorf("%w: read folder %s: %w", mman.ErrInvalid, o.dir, err)
	}
	o.entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Name()[0] == '.' })
	for _, e := range o.entries {
		if err := f.count(o.dir, e.Name()); err != nil {
			return err
		}
	}
	if len(o.entries) == 0 {
		return f.finish(o)
	}
	o.links, o.left = make([]link, len(o.entries)), len(o.entries)
	for i, e := range o.entries {
		if err := ctx.Err(); err != nil {
			return coded("add folder "+o.dir, err)
		}
		at := path.Join(o.dir, e.Name())
		switch {
		case e.IsDir():
			if err := f.walk(ctx, &opened{dir: at, parent: o, index: i}, depth+1); err != nil {
				return err
			}
		case e.Type().IsRegular():
			f.work.Go(func() error {
				l, err := f.file(ctx, at)
				if err == nil && f.place(o, i, l) {
					err = f.finish(o)
				}
				return err
			})
		default:
			return fmt.Errorf("%w: %s is neither a file nor a folder", mman.ErrUnsupported, at)
		}
	}
	return nil
}

// place says what an entry came to, and reports whether it was the last one.
func (f *folders) place(o *opened, i int, l link) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	o.links[i] = l
	o.left--
	return o.left == 0
}

// finish makes a folder whose entries are all there, and those above of which it was
// the last one.
func (f *folders) finish(o *opened) error {
	for {
		l, err := f.node(o)
		if err != nil {
			return err
		}
		if o.parent == nil {
			f.root = l
			return nil
		}
		if !f.place(o.parent, o.index, l) {
			return nil
		}
		o = o.parent
	}
}

func (f *folders) count(dir, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch f.seen++; {
	case f.seen > MaxFolderFiles:
		return fmt.Errorf("%w: the folder holds more than %d files and folders", mman.ErrTooLarge, MaxFolderFiles)
	case len(name) > MaxName || !utf8.ValidString(name):
		return fmt.Errorf("%w: name %.300q in folder %s: at most %d bytes of UTF-8 are allowed", mman.ErrInvalid, name, dir, MaxName)
	}
	return nil
}

func (f *folders) file(ctx context.Context, at string) (_ link, err error) {
	r, err := f.fsys.Open(at)
	if err != nil {
		return link{}, fmt.Errorf("%w: open %s: %w", mman.ErrInvalid, at, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	b := builder{emit: f.out.add}
	size, err := b.leaves(ctx, r)
	if err != nil {
		return link{}, fmt.Errorf("%s: %w", at, err)
	}
	f.mu.Lock()
	f.tree.Files++
	f.tree.Bytes += size
	f.mu.Unlock()
	return b.finish()
}

// Entry is one name in a folder.
type Entry struct {
	// Name is the entry's name, without slashes, empty for a root.
	Name string
	// CID is what it names.
	CID mman.CID
	// Folder says that it is a folder.
	Folder bool
	// Bytes is the length of a file; for a folder 0.
	Bytes uint64
	// Below is how many bytes of blocks a folder says are below it; nobody has
	// checked it.
	Below uint64
}

// Folders reads folders and what is in them, here or from the network.
type Folders struct{ dag ipld.NodeGetter }

// Folders reads public folders; what is not here is fetched by Bitswap.
func (s *Service) Folders() Folders {
	return Folders{patient{merkledag.NewDAGService(s.blocks), s.cfg.BlockTimeout}}
}

// patient waits so long for a node, and knows the empty one, which Bitswap does not
// send.
type patient struct {
	ipld.NodeGetter

	most time.Duration
}

func (p patient) Get(ctx context.Context, c cid.Cid) (ipld.Node, error) {
	if empty, err := merkledag.NewRawNodeWPrefix([]byte{}, c.Prefix()); err == nil && c.Type() == cid.Raw && empty.Cid() == c {
		return empty, nil
	}
	short, cancel := context.WithTimeout(ctx, p.most)
	defer cancel()
	nd, err := p.NodeGetter.Get(short, c)
	if err != nil && short.Err() != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("%w: nobody reachable has block %s (waited %s)", mman.ErrNotFound, c, p.most)
	}
	return nd, err
}

// Look says what c is. What is neither a file nor a folder is
// mman.ErrUnsupported.
func (f Folders) Look(ctx context.Context, c mman.CID) (Entry, error) {
	nd, err := f.get(ctx, c)
	if err != nil {
		return Entry{}, err
	}
	return look(c, nd)
}

func (f Folders) get(ctx context.Context, c mman.CID) (ipld.Node, error) {
	k, err := toCid(c)
	if err != nil {
		return nil, err
	}
	nd, err := f.dag.Get(ctx, k)
	return nd, coded("read "+c.String(), err)
}

func look(c mman.CID, nd ipld.Node) (Entry, error) {
	e := Entry{CID: c, Bytes: uint64(len(nd.RawData()))}
	pb, ok := nd.(*merkledag.ProtoNode)
	if !ok {
		return e, nil
	}
	meta, err := unixfs.FSNodeFromBytes(pb.Data())
	if err != nil {
		return Entry{}, fmt.Errorf("%w: %s is not UnixFS: %w", mman.ErrUnsupported, c, err)
	}
	switch meta.Type() {
	case unixfs.TFile, unixfs.TRaw:
		e.Bytes = meta.FileSize()
	case unixfs.TDirectory, unixfs.THAMTShard:
		e.Folder, e.Bytes = true, 0
		if e.Below, err = pb.Size(); err != nil {
			return Entry{}, fmt.Errorf("%w: folder %s: %w", mman.ErrContent, c, err)
		}
	case unixfs.TMetadata, unixfs.TSymlink:
		return Entry{}, fmt.Errorf("%w: %s is a UnixFS %s, only files and folders are read", mman.ErrUnsupported, c, meta.Type())
	}
	return e, nil
}

// Walk follows names from a root, a/b/c, and says what is there. A name that is
// not there is mman.ErrNotFound.
func (f Folders) Walk(ctx context.Context, root mman.CID, names []string) (Entry, error) {
	at := root
	for i, name := range names {
		if i >= MaxFolderDepth {
			return Entry{}, fmt.Errorf("%w: a path of more than %d names", mman.ErrTooLarge, MaxFolderDepth)
		}
		dir, err := f.open(ctx, at)
		if err != nil {
			return Entry{}, err
		}
		nd, err := dir.Find(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			return Entry{}, fmt.Errorf("%w: %.255q is not in folder %s", mman.ErrNotFound, name, at)
		}
		if err != nil {
			return Entry{}, coded("find a name in "+at.String(), err)
		}
		if at, err = mman.CIDFromBytes(nd.Cid().Bytes()); err != nil {
			return Entry{}, err
		}
	}
	e, err := f.Look(ctx, at)
	if len(names) > 0 {
		e.Name = names[len(names)-1]
	}
	return e, err
}

func (f Folders) open(ctx context.Context, c mman.CID) (uio.Directory, error) {
	nd, err := f.get(ctx, c)
	if err != nil {
		return nil, err
	}
	dir, err := uio.NewDirectoryFromNode(reading{f.dag}, nd)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is not a folder: %w", mman.ErrUnsupported, c, err)
	}
	return dir, nil
}

// List calls each for every entry of a folder, in its order; their CIDs only, not
// what they are. A folder with more than MaxFolderFiles entries is
// mman.ErrTooLarge.
func (f Folders) List(ctx context.Context, c mman.CID, each func(Entry) error) error {
	dir, err := f.open(ctx, c)
	if err != nil {
		return err
	}
	count := 0
	err = dir.ForEachLink(ctx, func(l *ipld.Link) error {
		if count++; count > MaxFolderFiles {
			return fmt.Errorf("%w: folder %s has more than %d entries", mman.ErrTooLarge, c, MaxFolderFiles)
		}
		if err := checkName(l.Name); err != nil {
			return fmt.Errorf("folder %s: %w", c, err)
		}
		id, err := mman.CIDFromBytes(l.Cid.Bytes())
		if err != nil {
			return fmt.Errorf("folder %s: %w", c, err)
		}
		return each(Entry{Name: l.Name, CID: id})
	})
	return coded("list "+c.String(), err)
}

// checkName refuses a name that could lead somewhere else on a disk.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > MaxName || !utf8.ValidString(name) || !fs.ValidPath(name) || path.Base(name) != name {
		return fmt.Errorf("%w: a file of the name %.300q", mman.ErrContent, name)
	}
	return nil
}

// Save calls file and folder for everything below an entry, a folder before what
// is in it. Paths have slashes. Together the files may have maxBytes.
func (f Folders) Save(ctx context.Context, root Entry, maxBytes uint64, folder func(at string) error, file func(at string, e Entry) error) error {
	s := saving{Folders: f, left: maxBytes, most: maxBytes, folder: folder, file: file}
	return s.save(ctx, root, root.Name, 0)
}

type saving struct {
	Folders

	left, most uint64
	count      int
	folder     func(string) error
	file       func(string, Entry) error
}

func (s *saving) save(ctx context.Context, e Entry, at string, depth int) error {
	if s.count++; s.count > MaxFolderFiles || depth > MaxFolderDepth {
		return fmt.Errorf("%w: %s holds more than %d files or is more than %d deep", mman.ErrTooLarge, at, MaxFolderFiles, MaxFolderDepth)
	}
	if !e.Folder {
		if e.Bytes > s.left {
			return fmt.Errorf("%w: the files have more than %d bytes", mman.ErrTooLarge, s.most)
		}
		s.left -= e.Bytes
		return s.file(at, e)
	}
	if err := s.folder(at); err != nil {
		return err
	}
	var names []Entry
	err := s.List(ctx, e.CID, func(child Entry) error {
		if s.count+len(names) >= MaxFolderFiles {
			return fmt.Errorf("%w: %s holds more than %d files", mman.ErrTooLarge, at, MaxFolderFiles)
		}
		names = append(names, child)
		return nil
	})
	if err != nil {
		return err
	}
	for some := range slices.Chunk(names, fetchBatch) {
		for i, found := range s.lookAhead(ctx, some) {
			if found.err != nil {
				return found.err
			}
			found.Name = some[i].Name
			if err := s.save(ctx, found.Entry, path.Join(at, some[i].Name), depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// looked is what an entry is, or why that is not known.
type looked struct {
	Entry

	err error
}

// lookAhead says what some entries are. They are asked for at once, so that a folder
// of many files does not wait for each in turn.
func (f Folders) lookAhead(ctx context.Context, some []Entry) []looked {
	out := make([]looked, len(some))
	var wg sync.WaitGroup
	for i, e := range some {
		wg.Go(func() { out[i].Entry, out[i].err = f.Look(ctx, e.CID) })
	}
	wg.Wait()
	return out
}

// reading is a DAG that nothing can be added to.
type reading struct{ ipld.NodeGetter }

var errReadOnly = errors.New("folders are only read")

func (reading) Add(context.Context, ipld.Node) error        { return errReadOnly }
func (reading) AddMany(context.Context, []ipld.Node) error  { return errReadOnly }
func (reading) Remove(context.Context, cid.Cid) error       { return errReadOnly }
func (reading) RemoveMany(context.Context, []cid.Cid) error { return errReadOnly }

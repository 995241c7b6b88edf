package wasm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	mman "github.com/limboid/massive-man"
)

// compile validates and compiles an admitted module. Its context is only carried;
// wazero does not stop for it.
func (c *cache) compile(ctx context.Context, id mman.CID, a admitted, host map[string]hostFunc) (*module, error) {
	if c.config.CacheDir == "" {
		return compileWith(ctx, a, host, c.engine)
	}
	if m, err := c.compileInFolder(ctx, filepath.Join(c.config.CacheDir, id.String()), a, host); err == nil {
		c.trimDir()
		return m, nil
	}
	// A full disk is no reason to refuse a module: without the folder it fails
	// only for what it is.
	return compileWith(ctx, a, host, c.engine)
}

// compileInFolder compiles with the compiled form in the module's own folder, or
// takes it from there.
func (c *cache) compileInFolder(ctx context.Context, dir string, a admitted, host map[string]hostFunc) (*module, error) {
	before := verified(dir)
	if before == nil && c.config.Compile != nil && len(a.code) >= compileApartBytes {
		c.compileApart(ctx, dir, a.code)
	}
	engine, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	m, err := compileWith(ctx, a, host, engine)
	if err != nil {
		return nil, errors.Join(err, engine.Close(ctx))
	}
	free := m.free
	m.free = func() {
		free()
		_ = engine.Close(ctx) // gives memory back; there is nobody to tell
	}
	if err := seal(dir, before, c.config.Clock()); err != nil {
		_ = os.RemoveAll(dir) // it is compiled anew the next time
	}
	return m, nil
}

// compileApartBytes is the size of metered code from which on another process compiles
// it: starting one takes as long as compiling so much.
const compileApartBytes = 256 << 10

// compileApart has another process compile a module into its folder. When that fails,
// by a fault of the compiler's or for want of memory, the module is compiled here as if
// there were no other process.
func (c *cache) compileApart(ctx context.Context, dir string, code []byte) {
	ctx, cancel := context.WithTimeout(ctx, c.config.PrepareTimeout)
	defer cancel()
	if err := c.config.Compile(ctx, dir, code); err != nil {
		_ = os.RemoveAll(dir) // what it left would be compiled anew, too
	}
}

// CompileInto compiles a metered module, which it reads to its end, with all
// processors into a folder of an executor's cache; see Config.Compile. It is for a
// process of its own: a fault of the compiler's ends that.
func CompileInto(ctx context.Context, folder string, module io.Reader) (err error) {
	code, err := io.ReadAll(module)
	if err != nil {
		return fmt.Errorf("%w: read the module: %w", mman.ErrInvalid, err)
	}
	engine, err := wazero.NewCompilationCacheWithDir(folder)
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, engine.Close(ctx)) }()
	world := newWorld(ctx, engine)
	defer func() { err = errors.Join(err, world.Close(ctx)) }()
	if _, err := world.CompileModule(experimental.WithCompilationWorkers(ctx, runtime.GOMAXPROCS(0)), code); err != nil {
		return fmt.Errorf("%w: %.500s", mman.ErrModule, err.Error())
	}
	return nil
}

// newWorld returns a runtime. What it is configured with is part of what compiled
// modules are found by.
func newWorld(ctx context.Context, engine wazero.CompilationCache) wazero.Runtime {
	return wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().
		WithCoreFeatures(api.CoreFeaturesV2).
		WithCompilationCache(engine).
		WithDebugInfoEnabled(false).
		WithMemoryLimitPages(1<<16)) // the limit of a run is its own, in its allocator
}

// sumsFile lists the files of a module's folder with their SHA-256. The engine
// checks a part of what it reads only, and runs it.
const sumsFile = "sums"

// verified returns the sums of a folder's files, and empties it if they are not
// what they were when it was sealed.
func verified(dir string) map[string]mman.Hash {
	listed := map[string]mman.Hash{}
	text, err := os.ReadFile(filepath.Join(dir, sumsFile)) //nolint:gosec // below the cache's folder
	if err == nil {
		err = json.Unmarshal(text, &listed)
	}
	if err == nil {
		var found map[string]mman.Hash
		if found, err = sums(dir, nil); err == nil && maps.Equal(found, listed) {
			return listed
		}
	}
	_ = os.RemoveAll(dir) // what stays is overwritten, or the module is compiled without it
	return nil
}

// sums hashes the files below a folder; those in known are taken to be the same.
func sums(dir string, known map[string]mman.Hash) (map[string]mman.Hash, error) {
	all := map[string]mman.Hash{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path == filepath.Join(dir, sumsFile) {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		sum, ok := known[name]
		if !ok {
			b, err := os.ReadFile(path) //nolint:gosec // below the cache's folder
			if err != nil {
				return err
			}
			sum = mman.Sum256(b)
		}
		all[name] = sum
		return nil
	})
	return all, err
}

// seal writes the sums of a folder's files and marks it as used now.
func seal(dir string, before map[string]mman.Hash, now time.Time) error {
	after, err := sums(dir, before)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, sumsFile)
	if !maps.Equal(before, after) {
		text, err := json.Marshal(after)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return err
		}
	}
	return os.Chtimes(path, now, now)
}

func compileWith(ctx context.Context, a admitted, host map[string]hostFunc, engine wazero.CompilationCache) (m *module, err error) {
	world := newWorld(ctx, engine)
	defer func() {
		if r := recover(); r != nil { // a mistake of the compiler's ends one module, not the node
			err = fmt.Errorf("%w: the compiler gave up on it: %.200v", mman.ErrModule, r)
		}
		if err != nil {
			err = errors.Join(err, world.Close(ctx))
		}
	}()
	compiled, err := world.CompileModule(ctx, a.code)
	if err != nil {
		return nil, fmt.Errorf("%w: %.500s", mman.ErrModule, err.Error())
	}
	for _, def := range compiled.ImportedFunctions() {
		_, name, _ := def.Import()
		if !host[name].matches(def) {
			return nil, fmt.Errorf("%w: %s.%s is imported with another type than it has", mman.ErrImport, importModule, name)
		}
	}
	if start := compiled.ExportedFunctions()[startExport]; start == nil || len(start.ParamTypes())+len(start.ResultTypes()) > 0 {
		return nil, fmt.Errorf("%w: %s has parameters or results; a WASI command's has none", mman.ErrModule, startExport)
	}
	if err := instantiateHost(ctx, world); err != nil {
		return nil, fmt.Errorf("provide %s: %w", importModule, err)
	}
	return &module{
		runtime: world, compiled: compiled, minPages: a.minPages, size: int64(len(a.code)),
		free: func() {
			// Both only give memory back; there is nobody to tell.
			_ = compiled.Close(ctx)
			_ = world.Close(ctx)
		},
	}, nil
}

// trimDir removes the modules that were not used for longest, above the bound of
// the cache folder. What cannot be removed is met again the next time.
func (c *cache) trimDir() {
	type folder struct {
		path string
		used time.Time
		size int64
	}
	entries, err := os.ReadDir(c.config.CacheDir)
	if err != nil {
		return
	}
	var folders []folder
	total := int64(0)
	for _, entry := range entries {
		f := folder{path: filepath.Join(c.config.CacheDir, entry.Name())}
		if info, err := os.Stat(filepath.Join(f.path, sumsFile)); err == nil { // else it goes first
			f.used = info.ModTime()
		}
		_ = filepath.WalkDir(f.path, func(_ string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			info, err := entry.Info()
			if err == nil {
				f.size += info.Size()
			}
			return err
		})
		folders, total = append(folders, f), total+f.size
	}
	slices.SortFunc(folders, func(a, b folder) int {
		return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.path, b.path))
	})
	for _, f := range folders {
		if total <= c.config.CacheDirBytes {
			return
		}
		total -= f.size
		_ = os.RemoveAll(f.path)
	}
}

package wasm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	mman "github.com/limboid/massive-man"
)

// compile validates and compiles an admitted module. Its context is only carried;
// wazero does not stop for it.
func (c *cache) compile(ctx context.Context, a admitted, host map[string]hostFunc) (*module, error) {
	m, err := compileWith(ctx, a, host, c.engine)
	if err == nil || c.config.CacheDir == "" {
		c.trimDir()
		return m, err
	}
	// A damaged file or a full disk is no reason to refuse a module: without the
	// folder it fails only for what it is.
	return compileWith(ctx, a, host, wazero.NewCompilationCache())
}

func compileWith(ctx context.Context, a admitted, host map[string]hostFunc, engine wazero.CompilationCache) (m *module, err error) {
	runtime := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().
		WithCoreFeatures(api.CoreFeaturesV2).
		WithCompilationCache(engine).
		WithDebugInfoEnabled(false).
		WithMemoryLimitPages(1<<16)) // the limit of a run is its own, in its allocator
	defer func() {
		if r := recover(); r != nil { // a mistake of the compiler's ends one module, not the node
			err = fmt.Errorf("%w: the compiler gave up on it: %.200v", mman.ErrModule, r)
		}
		if err != nil {
			err = errors.Join(err, runtime.Close(ctx))
		}
	}()
	compiled, err := runtime.CompileModule(ctx, a.code)
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
	if err := instantiateHost(ctx, runtime); err != nil {
		return nil, fmt.Errorf("provide %s: %w", importModule, err)
	}
	return &module{
		runtime: runtime, compiled: compiled, minPages: a.minPages, size: int64(len(a.code)),
		free: func() {
			// Both only give memory back; there is nobody to tell.
			_ = compiled.Close(ctx)
			_ = runtime.Close(ctx)
		},
	}, nil
}

// trimDir removes the oldest files of the cache folder above its bound. What
// cannot be removed is met again the next time.
func (c *cache) trimDir() {
	if c.config.CacheDir == "" {
		return
	}
	type file struct {
		path string
		info fs.FileInfo
	}
	var files []file
	total := int64(0)
	_ = filepath.WalkDir(c.config.CacheDir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		files, total = append(files, file{path, info}), total+info.Size()
		return nil
	})
	slices.SortFunc(files, func(a, b file) int {
		return cmp.Or(a.info.ModTime().Compare(b.info.ModTime()), cmp.Compare(a.path, b.path))
	})
	for _, f := range files {
		if total <= c.config.CacheDirBytes {
			return
		}
		total -= f.info.Size()
		_ = os.Remove(f.path)
	}
}

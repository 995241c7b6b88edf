package wasm

import (
	"container/list"
	"fmt"
	"os"
	"sync"

	"github.com/tetratelabs/wazero"

	mman "github.com/limboid/massive-man"
)

// module is compiled and ready to be instantiated, any number of times. Each has
// a runtime of its own, so that closing it leaves nothing behind; the machine
// code is in the engine that all share or, with a folder, in one of its own.
type module struct {
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	minPages uint32
	size     int64
	// free gives back what the module holds, once nobody runs it.
	free func()
}

// cache keeps compiled modules: those in use, and the last used within a bound.
type cache struct {
	config  Config
	engine  wazero.CompilationCache
	workers chan struct{}

	mu      sync.Mutex
	entries map[mman.CID]*list.Element // of *cacheEntry
	order   *list.List                 // the last used first
	size    int64
	closed  bool
}

// cacheEntry is a module in the cache, or one that has left it and is in use yet.
type cacheEntry struct {
	id     mman.CID
	module *module
	users  int
	listed bool
}

func newCache(config Config) (*cache, error) {
	c := &cache{
		config: config, workers: make(chan struct{}, config.CompileWorkers),
		entries: map[mman.CID]*list.Element{}, order: list.New(), engine: wazero.NewCompilationCache(),
	}
	if config.CacheDir != "" {
		if err := os.MkdirAll(config.CacheDir, 0o700); err != nil {
			return nil, fmt.Errorf("%w: wasm cache: %w", mman.ErrHome, err)
		}
	}
	return c, nil
}

// get holds the module for its caller, who must release it; nil when there is
// none.
func (c *cache) get(id mman.CID) *cacheEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.entries[id]
	if !ok {
		return nil
	}
	c.order.MoveToFront(element)
	entry := entryOf(element)
	entry.users++
	return entry
}

func entryOf(element *list.Element) *cacheEntry {
	entry, ok := element.Value.(*cacheEntry)
	if !ok {
		panic("the cache's list holds something else than entries")
	}
	return entry
}

// add puts a module in and holds it for its caller.
func (c *cache) add(id mman.CID, m *module) *cacheEntry {
	entry := &cacheEntry{id: id, module: m, users: 1}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, twice := c.entries[id]; twice || c.closed {
		return entry // it goes with its only user
	}
	entry.listed = true
	c.entries[id] = c.order.PushFront(entry)
	c.size += m.size
	c.trim()
	return entry
}

func (c *cache) release(entry *cacheEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	entry.users--
	if entry.users == 0 && !entry.listed {
		entry.module.free()
		return
	}
	c.trim()
}

// trim drops the modules that were not used for longest, but none in use.
func (c *cache) trim() {
	for element := c.order.Back(); element != nil && (c.size > c.config.CacheBytes || c.closed); {
		previous := element.Prev()
		if entry := entryOf(element); entry.users == 0 {
			c.order.Remove(element)
			delete(c.entries, entry.id)
			c.size -= entry.module.size
			entry.module.free()
		}
		element = previous
	}
}

// close drops all modules; those that are held go with their last user.
func (c *cache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.trim()
}

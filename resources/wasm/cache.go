package wasm

import (
	"container/list"
	"context"
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
	// under are the modules that are compiled now; their channels are closed when
	// that is over.
	under map[mman.CID]chan struct{}
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
		entries: map[mman.CID]*list.Element{}, under: map[mman.CID]chan struct{}{}, order: list.New(), engine: wazero.NewCompilationCache(),
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

// begin makes its caller the only one that compiles a module, in a place among the
// workers, until it calls done; or it returns the module, held, that another compiled
// meanwhile.
func (c *cache) begin(ctx context.Context, id mman.CID) (entry *cacheEntry, done func(), err error) {
	late := func() error { return fmt.Errorf("wait for the compiler: %w", context.Cause(ctx)) }
	leave, other := c.claim(id)
	for other != nil {
		select {
		case <-other:
		case <-ctx.Done():
			return nil, nil, late()
		}
		leave, other = c.claim(id)
	}
	select {
	case c.workers <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, nil, late()
	}
	done = func() {
		<-c.workers
		leave()
	}
	if entry := c.get(id); entry != nil { // another one was faster
		done()
		return entry, nil, nil
	}
	return nil, done, nil
}

// claim marks a module as compiled now, until leave is called; or it returns the
// channel that is closed when another one has done so.
func (c *cache) claim(id mman.CID) (leave func(), other <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if over, busy := c.under[id]; busy {
		return nil, over
	}
	over := make(chan struct{})
	c.under[id] = over
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.under, id)
		close(over)
	}, nil
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

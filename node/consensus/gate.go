package consensus

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	cometdb "github.com/cometbft/cometbft-db"
	"github.com/cometbft/cometbft/config"

	mman "github.com/limboid/massive-man"
)

// gate stands between CometBFT's goroutines and what outlives a run: the
// database and the application. Stopping CometBFT does not wait for all of its
// goroutines (gossip of each peer, the indexer), and its stores panic when a
// read fails. So once the gate is closed, a goroutine that comes late ends
// where it stands, its deferred calls done, and those inside are waited for.
type gate struct {
	mu     sync.Mutex
	closed bool
	inside int
	empty  chan struct{} // closed when closed and nobody is inside
}

func newGate() *gate { return &gate{empty: make(chan struct{})} }

// enter counts the caller in, or ends its goroutine.
func (g *gate) enter() {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		runtime.Goexit()
	}
	g.inside++
	g.mu.Unlock()
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.closed && g.inside == 0 {
		close(g.empty)
	}
}

// close lets nobody in any more and waits for those inside.
func (g *gate) close(ctx context.Context) error {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		if g.inside == 0 {
			close(g.empty)
		}
	}
	g.mu.Unlock()
	select {
	case <-g.empty:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: CometBFT still uses the application or the database", mman.ErrTimeout)
	}
}

// provider returns a DBProvider whose databases are behind the gate.
func (g *gate) provider(next config.DBProvider) config.DBProvider {
	return func(ctx *config.DBContext) (cometdb.DB, error) {
		db, err := next(ctx)
		if err != nil {
			return nil, err
		}
		return gatedDB{db, g}, nil
	}
}

// gatedDB is a database behind a gate. What it does not name touches no disk.
type gatedDB struct {
	cometdb.DB

	gate *gate
}

func (d gatedDB) do(fn func() error) error {
	d.gate.enter()
	defer d.gate.leave()
	return fn()
}

// Get implements cometdb.DB.
func (d gatedDB) Get(key []byte) (value []byte, err error) {
	d.gate.enter()
	defer d.gate.leave()
	return d.DB.Get(key)
}

// Has implements cometdb.DB.
func (d gatedDB) Has(key []byte) (bool, error) {
	d.gate.enter()
	defer d.gate.leave()
	return d.DB.Has(key)
}

// Set implements cometdb.DB.
func (d gatedDB) Set(key, value []byte) error {
	return d.do(func() error { return d.DB.Set(key, value) })
}

// SetSync implements cometdb.DB.
func (d gatedDB) SetSync(key, value []byte) error {
	return d.do(func() error { return d.DB.SetSync(key, value) })
}

// Delete implements cometdb.DB.
func (d gatedDB) Delete(key []byte) error {
	return d.do(func() error { return d.DB.Delete(key) })
}

// DeleteSync implements cometdb.DB.
func (d gatedDB) DeleteSync(key []byte) error {
	return d.do(func() error { return d.DB.DeleteSync(key) })
}

// Iterator implements cometdb.DB.
func (d gatedDB) Iterator(start, end []byte) (cometdb.Iterator, error) {
	return d.iterate(start, end, d.DB.Iterator)
}

// ReverseIterator implements cometdb.DB.
func (d gatedDB) ReverseIterator(start, end []byte) (cometdb.Iterator, error) {
	return d.iterate(start, end, d.DB.ReverseIterator)
}

// iterate counts the iterator as one inside until it is closed.
func (d gatedDB) iterate(start, end []byte, open func(start, end []byte) (cometdb.Iterator, error)) (cometdb.Iterator, error) {
	d.gate.enter()
	it, err := open(start, end)
	if err != nil {
		d.gate.leave()
		return nil, err
	}
	return &gatedIterator{it, sync.OnceFunc(d.gate.leave)}, nil
}

// NewBatch implements cometdb.DB.
func (d gatedDB) NewBatch() cometdb.Batch { return gatedBatch{d.DB.NewBatch(), d} }

type gatedIterator struct {
	cometdb.Iterator

	leave func()
}

// Close implements cometdb.Iterator.
func (i *gatedIterator) Close() error {
	defer i.leave()
	return i.Iterator.Close()
}

type gatedBatch struct {
	cometdb.Batch

	db gatedDB
}

// Write implements cometdb.Batch.
func (b gatedBatch) Write() error { return b.db.do(b.Batch.Write) }

// WriteSync implements cometdb.Batch.
func (b gatedBatch) WriteSync() error { return b.db.do(b.Batch.WriteSync) }

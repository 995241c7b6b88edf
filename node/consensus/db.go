package consensus

import (
	"errors"
	"fmt"

	cometdb "github.com/cometbft/cometbft-db"
	"github.com/cometbft/cometbft/config"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/node/store"
)

// DBProvider gives CometBFT its databases as namespaces of the node's data
// database. Closing one does nothing: the store is closed once, after CometBFT.
func DBProvider(data *store.Data) config.DBProvider {
	return func(db *config.DBContext) (cometdb.DB, error) {
		switch db.ID {
		case "blockstore":
			return NewDB(data.Namespace(store.NamespaceCometBlocks)), nil
		case "state":
			return NewDB(data.Namespace(store.NamespaceCometState)), nil
		case "evidence":
			return NewDB(data.Namespace(store.NamespaceCometEvidence)), nil
		case "tx_index":
			return NewDB(data.Namespace(store.NamespaceCometIndex)), nil
		}
		return nil, fmt.Errorf("%w: database %.40q of CometBFT has no namespace here", mman.ErrUnsupported, db.ID)
	}
}

// NewDB returns a namespace as a database of CometBFT. It is safe for
// concurrent use.
func NewDB(kv *store.KV) cometdb.DB { return database{kv} }

type database struct{ kv *store.KV }

// checkKey refuses what CometBFT's contract refuses.
func checkKey(key []byte) error {
	if len(key) == 0 {
		return fmt.Errorf("%w: key cannot be empty", mman.ErrInvalid)
	}
	return nil
}

func checkPair(key, value []byte) error {
	if value == nil {
		return errors.Join(checkKey(key), fmt.Errorf("%w: value cannot be nil", mman.ErrInvalid))
	}
	return checkKey(key)
}

// Get implements cometdb.DB: nil when there is no value.
func (d database) Get(key []byte) ([]byte, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	value, _, err := d.kv.Get(key)
	return value, err
}

// Has implements cometdb.DB.
func (d database) Has(key []byte) (bool, error) {
	if err := checkKey(key); err != nil {
		return false, err
	}
	return d.kv.Has(key)
}

// Set implements cometdb.DB.
func (d database) Set(key, value []byte) error {
	if err := checkPair(key, value); err != nil {
		return err
	}
	return d.kv.Set(key, value)
}

// SetSync implements cometdb.DB.
func (d database) SetSync(key, value []byte) error {
	if err := d.Set(key, value); err != nil {
		return err
	}
	return d.kv.Sync()
}

// Delete implements cometdb.DB.
func (d database) Delete(key []byte) error {
	if err := checkKey(key); err != nil {
		return err
	}
	return d.kv.Delete(key)
}

// DeleteSync implements cometdb.DB.
func (d database) DeleteSync(key []byte) error {
	if err := d.Delete(key); err != nil {
		return err
	}
	return d.kv.Sync()
}

// Iterator implements cometdb.DB. It sees the keys as they are now; writing
// while it is open is harmless.
func (d database) Iterator(start, end []byte) (cometdb.Iterator, error) {
	return d.iterate(start, end, false)
}

// ReverseIterator implements cometdb.DB, as Iterator.
func (d database) ReverseIterator(start, end []byte) (cometdb.Iterator, error) {
	return d.iterate(start, end, true)
}

func (d database) iterate(start, end []byte, reverse bool) (cometdb.Iterator, error) {
	if (start != nil && len(start) == 0) || (end != nil && len(end) == 0) {
		return nil, fmt.Errorf("%w: a bound of an iterator cannot be empty, only nil", mman.ErrInvalid)
	}
	it, err := d.kv.Iterate(start, end, reverse)
	if err != nil {
		return nil, err
	}
	return &iterator{it, start, end}, nil
}

// Close implements cometdb.DB. The namespace stays open with its store.
func (database) Close() error { return nil }

// NewBatch implements cometdb.DB.
func (d database) NewBatch() cometdb.Batch { return &batch{d.kv.NewBatch()} }

// Print implements cometdb.DB: a node does not write to its standard output.
func (database) Print() error {
	return fmt.Errorf("%w: print a database: read it with an iterator", mman.ErrUnsupported)
}

// Stats implements cometdb.DB.
func (database) Stats() map[string]string {
	return map[string]string{"database.type": "mman"}
}

// Compact implements cometdb.DB. The store compacts by itself.
func (database) Compact(_, _ []byte) error { return nil }

// batch is closed when its b is nil.
type batch struct{ b *store.Batch }

func (b *batch) check() error {
	if b.b == nil {
		return fmt.Errorf("%w: batch has been written or closed", mman.ErrInvalid)
	}
	return nil
}

// Set implements cometdb.Batch.
func (b *batch) Set(key, value []byte) error {
	if err := errors.Join(checkPair(key, value), b.check()); err != nil {
		return err
	}
	return b.b.Set(key, value)
}

// Delete implements cometdb.Batch.
func (b *batch) Delete(key []byte) error {
	if err := errors.Join(checkKey(key), b.check()); err != nil {
		return err
	}
	return b.b.Delete(key)
}

// Write implements cometdb.Batch.
func (b *batch) Write() error {
	if err := b.check(); err != nil {
		return err
	}
	defer b.drop()
	return b.b.Write()
}

// WriteSync implements cometdb.Batch.
func (b *batch) WriteSync() error {
	if err := b.check(); err != nil {
		return err
	}
	defer b.drop()
	return b.b.WriteSync()
}

// Close implements cometdb.Batch.
func (b *batch) Close() error {
	b.drop()
	return nil
}

func (b *batch) drop() { b.b = nil }

type iterator struct {
	it         *store.Iterator
	start, end []byte
}

// Domain implements cometdb.Iterator.
func (i *iterator) Domain() (start, end []byte) { return i.start, i.end }

// Valid implements cometdb.Iterator.
func (i *iterator) Valid() bool { return i.it.Valid() }

// Next implements cometdb.Iterator.
func (i *iterator) Next() {
	i.mustBeValid()
	i.it.Next()
}

// Key implements cometdb.Iterator.
func (i *iterator) Key() []byte {
	i.mustBeValid()
	return i.it.Key()
}

// Value implements cometdb.Iterator.
func (i *iterator) Value() []byte {
	i.mustBeValid()
	return i.it.Value()
}

// mustBeValid panics as CometBFT's contract asks.
func (i *iterator) mustBeValid() {
	if !i.it.Valid() {
		panic("iterator is invalid")
	}
}

// Error implements cometdb.Iterator.
func (i *iterator) Error() error { return i.it.Err() }

// Close implements cometdb.Iterator.
func (i *iterator) Close() error {
	i.it.Close()
	return nil
}

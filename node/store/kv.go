package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"

	mman "github.com/limboid/massive-man"
)

// Namespace is one part of the data database. All of them stand here; a number
// is never reused.
type Namespace byte

// The namespaces.
const (
	NamespaceCometBlocks   Namespace = 0x01 // CometBFT's block store
	NamespaceCometState    Namespace = 0x02 // CometBFT's state store
	NamespaceCometEvidence Namespace = 0x03 // CometBFT's evidence pool
	NamespaceCometIndex    Namespace = 0x04 // CometBFT's transaction index
	NamespaceLight         Namespace = 0x05 // trusted headers of state sync and light clients
	NamespacePublicBlocks  Namespace = 0x10 // content that Bitswap serves
	NamespacePrivateBlocks Namespace = 0x11 // content that only leases see
	NamespaceLeaseBlocks   Namespace = 0x12 // content fetched for one lease: lease id first
	NamespacePins          Namespace = 0x13 // what of the content is kept, and why
	NamespaceSegments      Namespace = 0x14 // which large block stands where in which file
	NamespaceProvider      Namespace = 0x20 // the provider's leases, statements and receipts
	NamespaceVerifier      Namespace = 0x21 // the verifier's checks
	NamespaceNode          Namespace = 0x22 // the node's own small records
)

// Limits of the data database.
const (
	// MaxNameKey is the longest key of a KV in bytes.
	MaxNameKey = 32 << 10
	// MaxNameValue is the longest value of a KV in bytes.
	MaxNameValue = 16 << 20
)

// Data is the database of everything but the ledger's pairs.
type Data struct {
	db    *badger.DB
	room  *space
	spare *space // for blocks, which leave some room to the ledger
	large *segments
}

func openData(cfg Config) (*Data, error) {
	db, room, err := open(cfg, "data", 4<<10, 32<<20, false)
	if err != nil {
		return nil, err
	}
	d := &Data{db: db, room: room, spare: &space{dir: room.dir, minFree: cfg.MinFree + cfg.MinFree/4}}
	if d.large, err = openSegments(filepath.Join(cfg.Dir, "blocks"), d); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return d, nil
}

func (d *Data) close() error {
	return errors.Join(d.large.close(), wrap("close data database", d.db.Close()))
}

// collect rewrites files of which half is garbage until none is left.
func (d *Data) collect(ctx context.Context) error {
	if err := d.large.collect(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil {
		switch err := d.db.RunValueLogGC(0.5); {
		case errors.Is(err, badger.ErrNoRewrite), errors.Is(err, badger.ErrRejected):
			return nil
		case err != nil:
			return wrap("collect garbage", err)
		}
	}
	return nil
}

// Namespace returns the part of the database with that number.
func (d *Data) Namespace(n Namespace) *KV { return &KV{d, []byte{byte(n)}} }

// KV is an ordered key-value store. Keys and values may be empty. It is safe
// for concurrent use.
type KV struct {
	data   *Data
	prefix []byte
}

// within returns the part of kv whose keys begin with the prefix.
func (kv *KV) within(prefix []byte) *KV { return &KV{kv.data, kv.full(prefix)} }

func (kv *KV) full(key []byte) []byte {
	return append(append(make([]byte, 0, len(kv.prefix)+len(key)), kv.prefix...), key...)
}

func (kv *KV) doing(what string, key []byte) string {
	return fmt.Sprintf("%s %x/%.40x", what, kv.prefix[0], key)
}

// Get returns the value, never nil when ok. The caller owns the slice.
func (kv *KV) Get(key []byte) (value []byte, ok bool, err error) {
	ok, err = kv.look(key, func(item *badger.Item) (err error) {
		value, err = item.ValueCopy([]byte{})
		return err
	})
	if !ok {
		value = nil
	}
	return value, ok, err
}

// Has reports whether there is a value. It does not read it.
func (kv *KV) Has(key []byte) (bool, error) {
	return kv.look(key, func(*badger.Item) error { return nil })
}

// look calls fn with the item of the key, if there is one.
func (kv *KV) look(key []byte, fn func(*badger.Item) error) (bool, error) {
	err := kv.data.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(kv.full(key))
		if err != nil {
			return err
		}
		return fn(item)
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return false, nil
	}
	return err == nil, wrap(kv.doing("look up", key), err)
}

// Set writes the value. It is safe from a crash of the process; from a crash of
// the machine only after Sync.
func (kv *KV) Set(key, value []byte) error {
	b := kv.NewBatch()
	if err := b.Set(key, value); err != nil {
		return err
	}
	return b.Write()
}

// Delete removes the key; a missing one is no error.
func (kv *KV) Delete(key []byte) error {
	b := kv.NewBatch()
	if err := b.Delete(key); err != nil {
		return err
	}
	return b.Write()
}

// Sync returns when everything written before it is safe from a crash of the
// machine.
func (kv *KV) Sync() error { return wrap("sync data database", kv.data.db.Sync()) }

// Batch collects writes. It is for one goroutine.
type Batch struct {
	kv   *KV
	ops  []op
	size int64 // of what is set; deletions free space and are never refused
}

type op struct {
	key    []byte
	value  []byte
	remove bool
	meta   byte
}

// NewBatch returns an empty batch.
func (kv *KV) NewBatch() *Batch { return &Batch{kv: kv} }

// Set adds a write. The value must not change until the batch is written.
func (b *Batch) Set(key, value []byte) error {
	if len(key) > MaxNameKey || len(value) > MaxNameValue {
		return fmt.Errorf("%w: %s: key of %d and value of %d bytes, at most %d and %d are allowed",
			mman.ErrTooLarge, b.kv.doing("set", key), len(key), len(value), MaxNameKey, MaxNameValue)
	}
	b.ops = append(b.ops, op{key: b.kv.full(key), value: value})
	b.size += int64(len(key) + len(value) + 64)
	return nil
}

// Delete adds a deletion.
func (b *Batch) Delete(key []byte) error {
	if len(key) > MaxNameKey {
		return fmt.Errorf("%w: %s: key of %d bytes, at most %d are allowed",
			mman.ErrTooLarge, b.kv.doing("delete", key), len(key), MaxNameKey)
	}
	b.ops = append(b.ops, op{key: b.kv.full(key), remove: true})
	return nil
}

// Write writes everything in order and leaves the batch empty. It is atomic up
// to about a seventh of the write buffer (Config.MemTable), not counting values
// above 4 KiB.
func (b *Batch) Write() error {
	ops, size := b.ops, b.size
	b.ops, b.size = nil, 0
	if len(ops) == 0 {
		return nil
	}
	if size > 0 {
		if err := b.kv.data.room.take(size); err != nil {
			return wrap("write a batch", err)
		}
	}
	db := b.kv.data.db
	err := db.Update(func(txn *badger.Txn) error { return applyOps(txn, ops) })
	if errors.Is(err, badger.ErrTxnTooBig) {
		batch := db.NewWriteBatch()
		defer batch.Cancel()
		if err = applyOps(batch, ops); err == nil {
			err = batch.Flush()
		}
	}
	return wrap("write a batch", err)
}

// WriteSync is Write, then Sync.
func (b *Batch) WriteSync() error {
	if err := b.Write(); err != nil {
		return err
	}
	return b.kv.Sync()
}

func applyOps(to sink, ops []op) error {
	for _, o := range ops {
		var err error
		if o.remove {
			err = to.Delete(o.key)
		} else {
			err = to.SetEntry(badger.NewEntry(o.key, o.value).WithMeta(o.meta))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Iterator walks over keys as they were when it was made. Close it. It is for
// one goroutine.
type Iterator struct {
	txn        *badger.Txn
	it         *badger.Iterator
	skip       int    // length of the namespace's prefix
	start, end []byte // full keys; end is exclusive and nil when there is none
	reverse    bool
	key        []byte
	valid      bool
	err        error
}

// Iterate returns an iterator over the keys from start to before end, in
// ascending order or, in reverse, descending. A nil bound is open.
func (kv *KV) Iterate(start, end []byte, reverse bool) (*Iterator, error) {
	db := kv.data.db
	if db.IsClosed() {
		return nil, wrap("iterate", badger.ErrDBClosed)
	}
	it := &Iterator{
		txn: db.NewTransaction(false), skip: len(kv.prefix), reverse: reverse,
		start: kv.full(start), end: successor(kv.prefix),
	}
	if end != nil {
		it.end = kv.full(end)
	}
	opts := badger.IteratorOptions{Reverse: reverse}
	if !reverse {
		opts.Prefix = kv.prefix
	}
	it.it = it.txn.NewIterator(opts)
	if !reverse {
		it.it.Seek(it.start)
	} else {
		it.it.Seek(it.end)
		// Seek goes to the last key at or before the end, which is exclusive.
		if it.it.Valid() && bytes.Equal(it.it.Item().Key(), it.end) {
			it.it.Next()
		}
	}
	it.load()
	return it, nil
}

// successor returns the first key after all that begin with the prefix, whose
// first byte is a namespace below 0xff.
func successor(prefix []byte) []byte {
	out := bytes.Clone(prefix)
	for i := len(out) - 1; ; i-- {
		if out[i] != 0xff {
			out[i]++
			return out[:i+1]
		}
	}
}

// load looks where the iterator stands.
func (it *Iterator) load() {
	it.valid = it.it.Valid()
	if !it.valid {
		return
	}
	it.key = it.it.Item().KeyCopy(nil)
	if it.reverse {
		it.valid = bytes.Compare(it.key, it.start) >= 0
	} else {
		it.valid = bytes.Compare(it.key, it.end) < 0
	}
}

// Valid reports whether the iterator stands on a key.
func (it *Iterator) Valid() bool { return it.valid && it.err == nil }

// Next moves on; it must be Valid.
func (it *Iterator) Next() {
	it.it.Next()
	it.load()
}

// Key returns the key; the iterator must be Valid. The caller owns the slice.
func (it *Iterator) Key() []byte { return it.key[it.skip:] }

// Value returns the value, never nil; the iterator must be Valid. The caller
// owns the slice. After an error it is empty, and Valid is false.
func (it *Iterator) Value() []byte {
	value, err := it.it.Item().ValueCopy([]byte{})
	if err != nil {
		it.err = wrap(fmt.Sprintf("read %.40x", it.key), err)
		return []byte{}
	}
	return value
}

// Err returns the error that ended the iteration early.
func (it *Iterator) Err() error { return it.err }

// Close frees the iterator. It is safe twice.
func (it *Iterator) Close() {
	if it.it != nil {
		it.it.Close()
		it.txn.Discard()
		it.it, it.valid = nil, false
	}
}

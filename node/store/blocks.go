package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/dgraph-io/badger/v4"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"

	mman "github.com/limboid/massive-man"
)

// MaxBlock is the largest block in bytes, as everywhere on the IPFS network.
const MaxBlock = 2 << 20

// deleteStep is how many keys one batch of a mass deletion holds.
const deleteStep = 1024

// Blocks is a content-addressed store on one namespace: the key is the
// multihash, so one block is found under every codec. Whoever puts a block has
// checked its hash. It is safe for concurrent use.
type Blocks struct{ kv *KV }

// PublicBlocks returns the blocks that Bitswap serves.
func (d *Data) PublicBlocks() *Blocks { return &Blocks{d.Namespace(NamespacePublicBlocks)} }

// PrivateBlocks returns the provider's blocks that only leases see.
func (d *Data) PrivateBlocks() *Blocks { return &Blocks{d.Namespace(NamespacePrivateBlocks)} }

// LeaseBlocks returns the blocks that were fetched for one lease.
func (d *Data) LeaseBlocks(lease mman.LeaseID) *Blocks {
	return &Blocks{d.Namespace(NamespaceLeaseBlocks).within(lease[:])}
}

// DropLease deletes the blocks that were fetched for one lease.
func (d *Data) DropLease(ctx context.Context, lease mman.LeaseID) error {
	if err := d.LeaseBlocks(lease).DeleteAll(ctx); err != nil {
		return fmt.Errorf("drop lease %s: %w", lease, err)
	}
	return nil
}

// LeasesWithBlocks returns the leases for which blocks are kept, so that those
// that ended while the node was down can be dropped.
func (d *Data) LeasesWithBlocks(ctx context.Context) ([]mman.LeaseID, error) {
	kv := d.Namespace(NamespaceLeaseBlocks)
	it, err := kv.Iterate(nil, nil, false)
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var leases []mman.LeaseID
	for it.Valid() {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("%w: list leases: %w", mman.ErrCanceled, err)
		}
		key := it.Key()
		if len(key) <= mman.IDSize {
			return nil, fmt.Errorf("%w: key %x of a lease's block", mman.ErrCorrupt, key)
		}
		lease := mman.LeaseID(key[:mman.IDSize])
		leases = append(leases, lease)
		it.it.Seek(successor(kv.full(lease[:])))
		it.load()
	}
	return leases, it.Err()
}

// Has reports whether the block is there.
func (b *Blocks) Has(_ context.Context, c cid.Cid) (bool, error) {
	if !c.Defined() {
		return false, nil
	}
	return b.kv.Has(c.Hash())
}

// Get returns the block; a missing one is ipld.ErrNotFound.
func (b *Blocks) Get(_ context.Context, c cid.Cid) (blocks.Block, error) {
	if !c.Defined() {
		return nil, ipld.ErrNotFound{Cid: c}
	}
	data, ok, err := b.read(c.Hash(), nil)
	if err != nil {
		return nil, fmt.Errorf("block %s: %w", c, err)
	}
	if !ok {
		return nil, ipld.ErrNotFound{Cid: c}
	}
	block, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		return nil, fmt.Errorf("%w: block %s: %w", mman.ErrCorrupt, c, err)
	}
	return block, nil
}

// Lend calls use with a block's bytes, which are its own until it returns: whoever
// sends many blocks needs no new memory for each. Errors are Get's and use's.
func (b *Blocks) Lend(_ context.Context, c cid.Cid, use func(data []byte) error) error {
	if !c.Defined() {
		return ipld.ErrNotFound{Cid: c}
	}
	buf, release := b.kv.data.large.lend()
	defer release()
	data, ok, err := b.read(c.Hash(), buf)
	switch {
	case err != nil:
		return fmt.Errorf("block %s: %w", c, err)
	case !ok:
		return ipld.ErrNotFound{Cid: c}
	default:
		return use(data)
	}
}

// read returns a block's bytes, from the database or from a file, in buf if that is
// large enough. One that is being moved is looked for again.
func (b *Blocks) read(key, buf []byte) (data []byte, ok bool, err error) {
	for range mostTries {
		var at place
		in := false
		ok, err = b.kv.look(key, func(item *badger.Item) error {
			if in = item.UserMeta() == metaPlace; !in {
				data, err = item.ValueCopy([]byte{})
				return err
			}
			at, err = placeOf(item)
			return err
		})
		if !in || !ok || err != nil {
			return data, ok, err
		}
		if data, err = b.kv.data.large.read(at, buf); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		err = fmt.Errorf("%w: %w", mman.ErrCorrupt, err)
	}
	return data, err == nil, wrap(b.kv.doing("read", key), err)
}

// size returns a block's length. What is in the database is read for it, because the
// library knows the length only about, but not copied.
func (b *Blocks) size(key []byte) (n int, ok bool, err error) {
	ok, err = b.kv.look(key, func(item *badger.Item) error {
		if item.UserMeta() == metaPlace {
			at, err := placeOf(item)
			n = int(at.length)
			return err
		}
		return item.Value(func(value []byte) error {
			n = len(value)
			return nil
		})
	})
	return n, ok, err
}

func placeOf(item *badger.Item) (at place, err error) {
	verr := item.Value(func(value []byte) error {
		at, err = parsePlace(value)
		return err
	})
	return at, verr
}

// GetSize returns the block's length in bytes; a missing one is
// ipld.ErrNotFound.
func (b *Blocks) GetSize(_ context.Context, c cid.Cid) (int, error) {
	if !c.Defined() {
		return -1, ipld.ErrNotFound{Cid: c}
	}
	n, ok, err := b.size(c.Hash())
	if err != nil {
		return -1, fmt.Errorf("block %s: %w", c, err)
	}
	if !ok {
		return -1, ipld.ErrNotFound{Cid: c}
	}
	return n, nil
}

// Put writes a block of at most MaxBlock bytes.
func (b *Blocks) Put(ctx context.Context, block blocks.Block) error {
	return b.PutMany(ctx, []blocks.Block{block})
}

// PutMany writes blocks of at most MaxBlock bytes each; those that are there
// already are skipped.
func (b *Blocks) PutMany(ctx context.Context, many []blocks.Block) error {
	batch := b.kv.NewBatch()
	var keys, large [][]byte
	total := int64(0)
	for _, block := range many {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%w: put blocks: %w", mman.ErrCanceled, err)
		}
		c, data := block.Cid(), block.RawData()
		if !c.Defined() {
			return fmt.Errorf("%w: put a block without a CID", mman.ErrInvalid)
		}
		if len(data) > MaxBlock {
			return fmt.Errorf("%w: block %s of %d bytes, at most %d are allowed", mman.ErrTooLarge, c, len(data), MaxBlock)
		}
		ok, err := b.kv.Has(c.Hash())
		if err != nil {
			return fmt.Errorf("block %s: %w", c, err)
		}
		if ok {
			continue
		}
		total += int64(len(data))
		if len(data) >= largeBlock {
			keys, large = append(keys, b.kv.full(c.Hash())), append(large, data)
			continue
		}
		if err := batch.Set(c.Hash(), data); err != nil {
			return fmt.Errorf("block %s: %w", c, err)
		}
	}
	if total > 0 {
		if err := b.kv.data.spare.take(total); err != nil {
			return wrap("write blocks", err)
		}
	}
	if len(large) == 0 {
		return batch.Write()
	}
	files := b.kv.data.large
	files.moving.RLock()
	defer files.moving.RUnlock()
	places, err := files.append(large)
	if err != nil {
		return err
	}
	for i, at := range places {
		batch.place(keys[i], at)
	}
	return batch.Write()
}

// Sync returns when every block that was put before is safe from a crash of the
// machine.
func (b *Blocks) Sync() error {
	if err := b.kv.data.large.sync(); err != nil {
		return err
	}
	return b.kv.Sync()
}

// DeleteBlock removes a block; a missing one is no error.
func (b *Blocks) DeleteBlock(_ context.Context, c cid.Cid) error {
	if !c.Defined() {
		return nil
	}
	files := b.kv.data.large
	files.moving.RLock()
	defer files.moving.RUnlock()
	return b.kv.Delete(c.Hash())
}

// AllKeysChan sends the CID of every block, with codec raw, and closes the
// channel at the end or when ctx ends.
func (b *Blocks) AllKeysChan(ctx context.Context) (<-chan cid.Cid, error) {
	it, err := b.kv.Iterate(nil, nil, false)
	if err != nil {
		return nil, err
	}
	out := make(chan cid.Cid)
	go func() {
		defer close(out)
		defer it.Close()
		for ; it.Valid(); it.Next() {
			hash, err := multihash.Cast(it.Key())
			if err != nil {
				continue // no CID can ask for it
			}
			select {
			case out <- cid.NewCidV1(cid.Raw, hash):
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

// DeleteAll removes every block. Writers of other namespaces are not held up.
func (b *Blocks) DeleteAll(ctx context.Context) error {
	for {
		n, err := b.deleteSome(ctx)
		if err != nil || n < deleteStep {
			return err
		}
	}
}

// deleteSome removes up to deleteStep blocks and returns how many.
func (b *Blocks) deleteSome(ctx context.Context) (int, error) {
	it, err := b.kv.Iterate(nil, nil, false)
	if err != nil {
		return 0, err
	}
	defer it.Close()
	files := b.kv.data.large
	files.moving.RLock()
	defer files.moving.RUnlock()
	batch := b.kv.NewBatch()
	n := 0
	for ; it.Valid() && n < deleteStep; it.Next() {
		if err := ctx.Err(); err != nil {
			return n, fmt.Errorf("%w: delete blocks: %w", mman.ErrCanceled, err)
		}
		if err := batch.Delete(it.Key()); err != nil {
			return n, err
		}
		n++
	}
	return n, batch.Write()
}

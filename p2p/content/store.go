package content

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/ipfs/boxo/blockstore"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	ipld "github.com/ipfs/go-ipld-format"

	mman "github.com/limboid/massive-man"
)

// Bounds of one block, in bytes.
const (
	// MaxBlock is the largest block that is stored, sent or accepted.
	MaxBlock = 2 << 20
	// MaxManifest is the largest DAG-CBOR block.
	MaxManifest = 256 << 10
)

// Block is some bytes and the CID that they have: the two always match, because
// NewBlock and CheckBlock are the only ways to make one, so that bytes are
// hashed once on their way.
type Block struct {
	cid  mman.CID
	data []byte
}

// NewBlock returns data with its CID. It keeps data, which must not change any
// more.
func NewBlock(codec mman.Codec, data []byte) Block { return Block{mman.SumCID(codec, data), data} }

// CheckBlock returns data as the block c, or mman.ErrContent when it is not. It
// keeps data, which must not change any more.
func CheckBlock(c mman.CID, data []byte) (Block, error) {
	if b := NewBlock(c.Codec(), data); b.cid == c {
		return b, nil
	}
	return Block{}, fmt.Errorf("%w: %d bytes came for block %s", mman.ErrContent, len(data), c)
}

// CID returns what the block is called.
func (b Block) CID() mman.CID { return b.cid }

// Data returns the block's bytes. The caller must not change them.
func (b Block) Data() []byte { return b.data }

// Blockstore is what has to be below a store; it is boxo's interface, and
// node/store implements it on disk. A missing block may be mman.ErrNotFound or
// go-ipld-format's error.
type Blockstore = blockstore.Blockstore

// Reader reads blocks of a store, public or private.
type Reader interface {
	// Get returns the block c. A missing block is mman.ErrNotFound, a damaged
	// one mman.ErrContent.
	Get(ctx context.Context, c mman.CID) (Block, error)
	// Has reports whether the block is here.
	Has(ctx context.Context, c mman.CID) (bool, error)
	// Unchecked is Get without the comparison with the CID, for a holder whose
	// asker compares. The disk's own checksum still stands.
	Unchecked(ctx context.Context, c mman.CID) ([]byte, error)
}

// Store is a PublicStore or a PrivateStore, where it does not matter which.
type Store interface {
	Reader
	// Put stores blocks in one batch. A block above MaxBlock is
	// mman.ErrTooLarge and nothing is stored; a full disk is mman.ErrDiskFull.
	Put(ctx context.Context, list []Block) error
	// Size returns the length of a block in bytes, and false when it is not
	// here.
	Size(ctx context.Context, c mman.CID) (uint64, bool, error)
	// Delete removes a block; one that is not here is no error.
	Delete(ctx context.Context, c mman.CID) error
	// Sync returns when what was stored is safe from a crash of the machine.
	// It does nothing for a store in memory.
	Sync() error
}

// PublicStore holds what everybody may have. Only it can be served by Bitswap.
type PublicStore struct{ store }

// PrivateStore holds what only a lease may have: a provider's private content,
// or what was fetched within a lease. Bitswap never sees it.
type PrivateStore struct{ store }

// NewPublicStore makes bs the store of public content. bs must not be the one
// below a PrivateStore.
func NewPublicStore(bs Blockstore) *PublicStore { return &PublicStore{store{&checked{bs}}} }

// NewPrivateStore makes bs a store of private content. bs must not be the one
// below a PublicStore.
func NewPrivateStore(bs Blockstore) *PrivateStore { return &PrivateStore{store{&checked{bs}}} }

// Memory returns a block store in memory, for tests and short-lived clients.
func Memory() Blockstore {
	return blockstore.NewBlockstore(dssync.MutexWrap(datastore.NewMapDatastore()))
}

type store struct{ bs *checked }

func (s store) Get(ctx context.Context, c mman.CID) (Block, error) {
	k, err := toCid(c)
	if err != nil {
		return Block{}, err
	}
	b, err := s.bs.Get(ctx, k) // compares it with its CID
	if err != nil {
		return Block{}, coded("read block "+c.String(), err)
	}
	return Block{c, b.RawData()}, nil
}

func (s store) Unchecked(ctx context.Context, c mman.CID) ([]byte, error) {
	k, err := toCid(c)
	if err != nil {
		return nil, err
	}
	b, err := s.bs.Blockstore.Get(ctx, k)
	if err != nil {
		return nil, coded("read block "+c.String(), missing(k, err))
	}
	return b.RawData(), nil
}

// Lend calls use with a block's bytes, not compared with the CID, as Unchecked
// returns them; they are use's until it returns. Errors are Unchecked's and use's.
func (s store) Lend(ctx context.Context, c mman.CID, use func(data []byte) error) error {
	disk, ok := s.bs.Blockstore.(interface {
		Lend(ctx context.Context, c cid.Cid, use func(data []byte) error) error
	})
	if !ok {
		data, err := s.Unchecked(ctx, c)
		if err != nil {
			return err
		}
		return use(data)
	}
	k, err := toCid(c)
	if err != nil {
		return err
	}
	return coded("read block "+c.String(), missing(k, disk.Lend(ctx, k, use)))
}

func (s store) Size(ctx context.Context, c mman.CID) (uint64, bool, error) {
	k, err := toCid(c)
	if err != nil {
		return 0, false, err
	}
	n, err := s.bs.GetSize(ctx, k)
	if ipld.IsNotFound(err) {
		return 0, false, nil
	}
	if err != nil || n < 0 {
		return 0, false, coded("look for block "+c.String(), err)
	}
	return uint64(n), true, nil
}

func (s store) Sync() error {
	if disk, ok := s.bs.Blockstore.(interface{ Sync() error }); ok {
		return coded("sync blocks", disk.Sync())
	}
	return nil
}

func (s store) Has(ctx context.Context, c mman.CID) (bool, error) {
	k, err := toCid(c)
	if err != nil {
		return false, err
	}
	has, err := s.bs.Has(ctx, k)
	return has, coded("look for block "+c.String(), err)
}

func (s store) Put(ctx context.Context, list []Block) error {
	raw, err := toBlocks(list)
	if err != nil {
		return err
	}
	return coded("store blocks", s.bs.PutMany(ctx, raw))
}

func (s store) Delete(ctx context.Context, c mman.CID) error {
	k, err := toCid(c)
	if err != nil {
		return err
	}
	return coded("delete block "+c.String(), s.bs.DeleteBlock(ctx, k))
}

func toBlocks(list []Block) ([]blocks.Block, error) {
	raw := make([]blocks.Block, len(list))
	for i, b := range list {
		if len(b.data) > MaxBlock {
			return nil, fmt.Errorf("%w: block %s of %d bytes where at most %d are allowed", mman.ErrTooLarge, b.cid, len(b.data), MaxBlock)
		}
		k, err := toCid(b.cid)
		if err != nil {
			return nil, err
		}
		if raw[i], err = blocks.NewBlockWithCid(b.data, k); err != nil {
			return nil, fmt.Errorf("%w: block %s: %w", mman.ErrInvalid, b.cid, err)
		}
	}
	return raw, nil
}

// checked compares every block that is read with its CID, so that a damaged
// disk neither spreads nor runs, and speaks the missing-block error that boxo
// understands.
type checked struct{ Blockstore }

func (s *checked) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	b, err := s.Blockstore.Get(ctx, c)
	if err != nil {
		return nil, missing(c, err)
	}
	if sum, err := c.Prefix().Sum(b.RawData()); err != nil || !sum.Equals(c) {
		return nil, fmt.Errorf("%w: stored block %s is damaged; delete and fetch it again", mman.ErrContent, c)
	}
	return b, nil
}

func (s *checked) GetSize(ctx context.Context, c cid.Cid) (int, error) {
	n, err := s.Blockstore.GetSize(ctx, c)
	return n, missing(c, err)
}

func missing(c cid.Cid, err error) error {
	if errors.Is(err, mman.ErrNotFound) && !ipld.IsNotFound(err) {
		return ipld.ErrNotFound{Cid: c}
	}
	return err
}

// coded gives an error of boxo or of a store its number.
func coded(did string, err error) error {
	var known *mman.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return fmt.Errorf("%s: %w", did, err)
	case ipld.IsNotFound(err):
		return fmt.Errorf("%w: %s: %w", mman.ErrNotFound, did, err)
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: %s: %w", mman.ErrDiskFull, did, err)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%w: %s: %w", mman.ErrCanceled, did, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %s: %w", mman.ErrTimeout, did, err)
	default:
		return fmt.Errorf("%w: %s: %w", mman.ErrInternal, did, err)
	}
}

func toCid(c mman.CID) (cid.Cid, error) {
	if c.IsZero() {
		return cid.Undef, fmt.Errorf("%w: a CID that names nothing", mman.ErrInvalid)
	}
	k, err := cid.Cast(c.Bytes())
	if err != nil {
		return cid.Undef, fmt.Errorf("%w: cid %s: %w", mman.ErrInvalid, c, err)
	}
	return k, nil
}

// HasLeaf reports whether a leaf is in a store with the size that its parent
// says.
func HasLeaf(ctx context.Context, in Store, child Child) bool {
	if child.CID.Codec() != mman.CodecRaw {
		return false
	}
	n, ok, err := in.Size(ctx, child.CID)
	return err == nil && ok && n == child.Size
}

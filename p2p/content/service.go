package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/routing"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p"
)

// Finder finds who has a block; *discovery.Discovery is one.
type Finder interface {
	FindProvidersAsync(ctx context.Context, key cid.Cid, limit int) <-chan peer.AddrInfo
}

// Config sets how public content moves.
type Config struct {
	// BlockTimeout is how long a fetch waits for the next block before it gives
	// up. Default 30 s.
	BlockTimeout time.Duration
	// SearchDelay is how long a fetch asks connected peers only, before it
	// searches for others. Default 50 ms.
	SearchDelay time.Duration
	// Bulk, if set, brings a whole file of at least BulkBytes into a store,
	// faster than Bitswap; what it does not bring, Bitswap does. It is
	// blocks.Bulk in a program.
	Bulk func(ctx context.Context, root mman.CID, maxBytes uint64, into Store) error
	// BulkBytes is the size of the smallest file for which Bulk is asked.
	// Default 4 MiB.
	BulkBytes uint64
	// Outstanding is how many bytes Bitswap has on their way to one peer, Message
	// how many it puts in one message. Defaults 32 MiB and 512 KiB, which measured
	// best on loopback; Bitswap's own are 1 MiB and 16 KiB. Message at least 1 KiB,
	// Outstanding at least Message.
	Outstanding, Message int
	// After is the clock behind BlockTimeout; time.After in a program.
	// Required.
	After func(time.Duration) <-chan time.Time
}

// Default returns the settings of a node; After is left to the caller.
func Default() Config {
	return Config{BlockTimeout: 30 * time.Second, SearchDelay: 50 * time.Millisecond, BulkBytes: 4 << 20, Outstanding: 32 << 20, Message: 512 << 10}
}

// Validate reports the first setting out of its range, as mman.ErrInvalid.
func (c Config) Validate() error {
	switch {
	case c.BlockTimeout <= 0 || c.SearchDelay <= 0:
		return fmt.Errorf("%w: content: timeouts %s and %s must be positive", mman.ErrInvalid, c.BlockTimeout, c.SearchDelay)
	case c.Message < 1<<10 || c.Outstanding < c.Message:
		return fmt.Errorf("%w: content: messages of %d bytes, at least 1 KiB, within %d on their way", mman.ErrInvalid, c.Message, c.Outstanding)
	case c.After == nil:
		return fmt.Errorf("%w: content: After is not set", mman.ErrInvalid)
	}
	return nil
}

const (
	// fetchBatch is how many blocks a fetch waits for at a time: 32 MiB of
	// leaves.
	fetchBatch = 32
	// rebroadcast is how often wants are repeated to peers who came later.
	rebroadcast = 10 * time.Second
	// maxWants bounds the wants that one peer may leave with us, and maxCID the
	// bytes of each.
	maxWants = 1024
	maxCID   = 64
)

// Service serves a public store to everybody and fetches into it. All methods
// are safe for concurrent use.
type Service struct {
	cfg    Config
	public *PublicStore
	swap   *bitswap.Bitswap
	blocks blockservice.BlockService
	fresh  *fresh
	stop   func() error
}

// New starts Bitswap for the public store on host. finder may be nil: then only
// connected peers are asked. ctx bounds its life; the caller must also Close it,
// before the host.
func New(ctx context.Context, host *p2p.Host, public *PublicStore, finder Finder, cfg Config) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	var content routing.ContentDiscovery // stays a nil interface without a finder
	if finder != nil {
		content = finder
	}
	net := bsnet.NewFromIpfsHost(host.Libp2p())
	swap := bitswap.New(ctx, net, content, public.bs,
		bitswap.ProviderSearchDelay(cfg.SearchDelay),
		bitswap.RebroadcastDelay(rebroadcast),
		bitswap.MaxOutstandingBytesPerPeer(cfg.Outstanding),
		bitswap.WithTargetMessageSize(cfg.Message),
		bitswap.MaxQueuedWantlistEntriesPerPeer(maxWants),
		bitswap.MaxCidSize(maxCID),
		bitswap.WithoutDuplicatedBlockStats(),
	)
	stop := sync.OnceValue(func() error {
		net.Stop()
		return swap.Close()
	})
	return (&Service{cfg: cfg, swap: swap, stop: stop}).Into(public), nil
}

// Into returns a service that adds and fetches into another public store, through the
// same Bitswap, which goes on serving the first one alone. It ends with s.
func (s *Service) Into(public *PublicStore) *Service {
	return &Service{s.cfg, public, s.swap, blockservice.New(public.bs, s.swap), &fresh{of: make(map[mman.CID]*attempt)}, s.stop}
}

// Close stops serving and fetching. It is safe twice.
func (s *Service) Close() error { return coded("stop bitswap", s.stop()) }

// Public returns the store that is served.
func (s *Service) Public() *PublicStore { return s.public }

// AddPublic adds the file r to the public store and returns its CID and size.
// From then on everybody who knows the CID can have it; announce it with
// discovery.Provide. After an error nothing of it is here that was not before.
func (s *Service) AddPublic(ctx context.Context, r io.Reader) (mman.CID, uint64, error) {
	return s.addingFile(ctx, func(put func([]Block) error) (mman.CID, uint64, error) { return add(ctx, r, build, put) })
}

func (s *Service) put(ctx context.Context, batch []Block) error {
	raw, err := toBlocks(batch)
	if err != nil {
		return err
	}
	if err := s.public.bs.PutMany(ctx, raw); err != nil {
		return coded("store blocks", err)
	}
	return coded("tell peers of new blocks", s.swap.NotifyNewBlocks(ctx, raw...))
}

// PutBlock adds a manifest, one DAG-CBOR block of at most MaxManifest bytes, to
// the public store.
func (s *Service) PutBlock(ctx context.Context, data []byte) (mman.CID, error) {
	if len(data) > MaxManifest {
		return mman.CID{}, fmt.Errorf("%w: manifest of %d bytes where at most %d are allowed", mman.ErrTooLarge, len(data), MaxManifest)
	}
	b := NewBlock(mman.CodecDagCBOR, data)
	return b.cid, s.put(ctx, []Block{b})
}

// GetBlock returns one public block of at most MaxManifest bytes, from here or
// from the network. Nobody who has it is mman.ErrNotFound.
func (s *Service) GetBlock(ctx context.Context, c mman.CID) ([]byte, error) {
	var out []byte
	err := s.get(ctx, []mman.CID{c}, func(b Block) error {
		if len(b.data) > MaxManifest {
			return tooLarge(b.cid, uint64(len(b.data)), MaxManifest)
		}
		out = b.data
		return nil
	})
	return out, err
}

// get hands each of the blocks to take, in the order they come. Those that come
// from the network are in the public store then.
func (s *Service) get(ctx context.Context, list []mman.CID, take func(Block) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	keys := make([]cid.Cid, len(list))
	for i, c := range list {
		var err error
		if keys[i], err = toCid(c); err != nil {
			return err
		}
	}
	found := s.blocks.GetBlocks(ctx, keys)
	for range keys {
		select {
		case b, ok := <-found:
			if !ok {
				return s.none(ctx, keys, list[0])
			}
			c, err := mman.CIDFromBytes(b.Cid().Bytes())
			if err != nil {
				return err
			}
			if err := take(Block{c, b.RawData()}); err != nil {
				return err
			}
		case <-s.cfg.After(s.cfg.BlockTimeout):
			return s.none(ctx, keys, list[0])
		}
	}
	return nil
}

// none says why blocks did not come: the caller gave up, ours is damaged and
// nobody has another, or nobody has it at all.
func (s *Service) none(ctx context.Context, keys []cid.Cid, first mman.CID) error {
	if err := ctx.Err(); err != nil {
		return coded("fetch "+first.String(), err)
	}
	for _, k := range keys {
		if _, err := s.public.bs.Get(ctx, k); errors.Is(err, mman.ErrContent) {
			return err
		}
	}
	return fmt.Errorf("%w: nobody reachable has one of %d blocks, such as %s (waited %s)", mman.ErrNotFound, len(keys), first, s.cfg.BlockTimeout)
}

// Block returns one public block of any kind, from here or from the network.
// Nobody who has it is mman.ErrNotFound.
func (s *Service) Block(ctx context.Context, c mman.CID) (Block, error) {
	var out Block
	err := s.get(ctx, []mman.CID{c}, func(b Block) error {
		out = b
		return nil
	})
	return out, err
}

// Fetch makes sure that the whole file c is in the public store and returns its
// size. A file above maxBytes is mman.ErrTooLarge and is not fetched further;
// one whose nodes lie about sizes is mman.ErrContent; one that nobody sends,
// block by block within BlockTimeout, is mman.ErrNotFound.
func (s *Service) Fetch(ctx context.Context, c mman.CID, maxBytes uint64) (uint64, error) {
	if empty := NewBlock(mman.CodecRaw, []byte{}); c == empty.cid {
		// Bitswap does not send blocks without bytes, and nobody needs to.
		return 0, s.public.Put(ctx, []Block{empty})
	}
	ctx = blockservice.ContextWithSession(ctx, s.blocks)
	walk := NewWalk(c, maxBytes)
	if err := s.bulk(ctx, c, maxBytes); err != nil {
		return 0, err
	}
	for {
		batch := walk.Take(fetchBatch)
		if len(batch) == 0 {
			return walk.Size(), nil
		}
		err := s.get(ctx, batch, func(b Block) error {
			return walk.Accept(b, func(child Child) bool { return s.hasLeaf(ctx, child) })
		})
		if err != nil {
			return 0, err
		}
	}
}

// bulk fetches a large file in bulk where it can: what is missing after it is
// left to Bitswap. The root, which says how large it is, comes by Bitswap.
func (s *Service) bulk(ctx context.Context, c mman.CID, maxBytes uint64) error {
	if s.cfg.Bulk == nil || c.Codec() != mman.CodecDagPB {
		return nil
	}
	var size uint64
	err := s.get(ctx, []mman.CID{c}, func(b Block) error {
		node, err := ParseNode(b)
		size = node.Size
		return err
	})
	if err != nil || size < s.cfg.BulkBytes || size > maxBytes {
		return err // a file that is too large is refused by the walk
	}
	err = s.cfg.Bulk(ctx, c, maxBytes, s.public)
	if errors.Is(err, mman.ErrDiskFull) || ctx.Err() != nil {
		return coded("fetch "+c.String(), err)
	}
	return nil
}

// hasLeaf reports whether a leaf is here. It does not read it: reading the file
// checks it.
func (s *Service) hasLeaf(ctx context.Context, child Child) bool {
	return HasLeaf(ctx, s.public, child)
}

// Open fetches the file c when it is not here, and opens it; ctx bounds every
// later read. Errors are Fetch's.
func (s *Service) Open(ctx context.Context, c mman.CID, maxBytes uint64) (*File, error) {
	if _, err := s.Fetch(ctx, c, maxBytes); err != nil {
		return nil, err
	}
	return OpenFrom(ctx, s.public, c, maxBytes)
}

// Stream opens the file c without fetching it: its blocks come by Bitswap as they
// are read, a few ahead, and stay here. ctx bounds every later read, and one that
// waits for BlockTimeout ends with mman.ErrCanceled. Errors are Fetch's.
func (s *Service) Stream(ctx context.Context, c mman.CID, maxBytes uint64) (*File, error) {
	k, err := toCid(c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ctx = blockservice.ContextWithSession(ctx, s.blocks)
	f, err := openFile(ctx, patient{merkledag.NewDAGService(s.blocks), s.cfg.BlockTimeout}, k, c, maxBytes)
	if err != nil {
		cancel()
		return nil, err
	}
	f.watch = &watch{cancel: cancel}
	go f.watch.run(ctx, s.cfg.After, s.cfg.BlockTimeout)
	return f, nil
}

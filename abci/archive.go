package abci

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/cometbft/cometbft/abci/types"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/state"
)

const (
	// archiveFormat is the version of the chunks' form.
	archiveFormat = 1
	// archiveChunk is how many bytes a chunk has at most.
	archiveChunk = 1 << 20
	// maxArchiveChunks bounds what a stranger may offer: 8 GiB of state, whose
	// hashes are 256 KiB.
	maxArchiveChunks = 8 << 10
	hashSize         = len(mman.Hash{})
	// keptArchives is how many of the last epochs' ends can be joined from at least.
	keptArchives = 4
	// archiveSeconds is for how long an epoch's end can be joined from at least, by
	// the time of blocks: who joins looks around for seconds before it asks for the
	// first chunk, in which a chain of short epochs ends several. maxArchives goes
	// before it.
	archiveSeconds = 60
	maxArchives    = 64
)

// archive is the state at the end of an epoch as other nodes may fetch it. It
// takes no disk and hardly any memory: a committed state never changes, so each
// chunk is written when it is asked for. All nodes write the same bytes.
//
// A chunk is a sequence of pairs in ascending order of flat keys, each the key's
// length as a uvarint, the key, the value's length, the value. The metadata is
// the SHA-256 of every chunk, in order.
type archive struct {
	snapshot *state.Snapshot
	at       int64 // the block's time in seconds, 0 for a state that was found

	once   sync.Once
	starts []string // the first flat key of each chunk
	hashes []byte   // of the chunks
}

// cut finds where the chunks begin, and their hashes.
func (a *archive) cut() {
	a.once.Do(func() {
		for from := ""; ; {
			first, chunk, next := a.read(from)
			if len(chunk) == 0 {
				return
			}
			sum := mman.Sum256(chunk)
			a.starts, a.hashes = append(a.starts, first), append(a.hashes, sum[:]...)
			if next == "" {
				return
			}
			from = next
		}
	})
}

// read writes the chunk that begins at the flat key from, and tells its first
// key and that of the chunk after it, "" for none.
func (a *archive) read(from string) (first string, chunk []byte, next string) {
	a.snapshot.Walk(from, func(flat string, value []byte) bool {
		if len(chunk) > 0 && len(chunk)+len(flat)+len(value)+2*binary.MaxVarintLen32 > archiveChunk {
			next = flat
			return false
		}
		if first == "" {
			first = flat
		}
		chunk = append(binary.AppendUvarint(chunk, uint64(len(flat))), flat...)
		chunk = append(binary.AppendUvarint(chunk, uint64(len(value))), value...)
		return true
	})
	return first, chunk, next
}

func (a *archive) wire() *types.Snapshot {
	a.cut()
	height := a.snapshot.Height()
	hash := archiveHash(height, a.hashes)
	return &types.Snapshot{
		Height: height, Format: archiveFormat, Chunks: uint32(len(a.starts)), //nolint:gosec // 1 MiB each
		Hash: hash[:], Metadata: a.hashes,
	}
}

func archiveHash(height uint64, hashes []byte) mman.Hash {
	return mman.Sum256([]byte("mman/archive/1"), []byte{0}, state.Uint64Key(height), hashes)
}

// pairs calls fn with every pair of a chunk.
func pairs(chunk []byte, fn func(flat string, value []byte) error) error {
	if len(chunk) == 0 || len(chunk) > archiveChunk {
		return fmt.Errorf("%w: chunk of %d bytes, 1 to %d are allowed", mman.ErrTooLarge, len(chunk), archiveChunk)
	}
	for rest := chunk; len(rest) > 0; {
		var key, value []byte
		var err error
		if key, rest, err = sized(rest); err != nil {
			return err
		}
		if value, rest, err = sized(rest); err != nil {
			return err
		}
		if err := fn(string(key), value); err != nil {
			return err
		}
	}
	return nil
}

// sized cuts a length and as many bytes off.
func sized(b []byte) (head, rest []byte, err error) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) { //nolint:gosec // k is at most the length
		return nil, nil, fmt.Errorf("%w: chunk is cut off", mman.ErrContent)
	}
	end := k + int(n) //nolint:gosec // checked above
	return b[k:end], b[end:], nil
}

// archive offers the state just committed to those who join, when it ends an
// epoch: then nothing is counted beside the tree, and the root says all. at is its
// block's time in seconds.
func (a *Application) archive(s *state.Snapshot, at int64) error {
	params, err := readParams(s)
	if err != nil {
		return err
	}
	if s.Height()%params.EpochBlocks != 0 || len(s.Data()) > 0 {
		return nil
	}
	a.joining.Lock()
	defer a.joining.Unlock()
	a.archives = append(a.archives, &archive{snapshot: s, at: at})
	for n := len(a.archives); n > maxArchives || n > keptArchives && a.archives[0].at+archiveSeconds < at; n-- {
		a.archives = slices.Delete(a.archives, 0, 1)
	}
	return nil
}

// ListSnapshots answers the states that can be joined from.
func (a *Application) ListSnapshots(context.Context, *types.RequestListSnapshots) (*types.ResponseListSnapshots, error) {
	a.joining.Lock()
	list := slices.Clone(a.archives)
	a.joining.Unlock()
	answer := &types.ResponseListSnapshots{}
	for _, one := range list {
		if s := one.wire(); s.Chunks <= maxArchiveChunks {
			answer.Snapshots = append(answer.Snapshots, s)
		}
	}
	return answer, nil
}

// LoadSnapshotChunk answers a chunk, or nothing when there is none such.
func (a *Application) LoadSnapshotChunk(_ context.Context, req *types.RequestLoadSnapshotChunk) (*types.ResponseLoadSnapshotChunk, error) {
	a.joining.Lock()
	list := slices.Clone(a.archives)
	a.joining.Unlock()
	for _, one := range list {
		if req.Format != archiveFormat || one.snapshot.Height() != req.Height {
			continue
		}
		if one.cut(); uint64(req.Chunk) < uint64(len(one.starts)) {
			_, chunk, _ := one.read(one.starts[req.Chunk])
			return &types.ResponseLoadSnapshotChunk{Chunk: chunk}, nil
		}
	}
	return &types.ResponseLoadSnapshotChunk{}, nil
}

// arrival is a state that is being fetched from others. Nothing of it is
// persisted before its root is the one that the light client vouches for.
type arrival struct {
	restore *state.Restore
	height  uint64
	root    mman.Hash
	hashes  []byte
	next    uint32 // the chunk that is due
}

// OfferSnapshot begins to restore a state whose root CometBFT's light client has
// verified. Only an empty store takes one.
func (a *Application) OfferSnapshot(_ context.Context, req *types.RequestOfferSnapshot) (*types.ResponseOfferSnapshot, error) {
	answer := func(r types.ResponseOfferSnapshot_Result, why error) (*types.ResponseOfferSnapshot, error) {
		if why != nil {
			a.log.Warn("a state that was offered is refused", slog.Any("error", why))
		}
		return &types.ResponseOfferSnapshot{Result: r}, nil
	}
	s := req.Snapshot
	if s == nil || len(req.AppHash) != hashSize {
		return answer(types.ResponseOfferSnapshot_REJECT, fmt.Errorf("%w: an offered state without a root", mman.ErrInvalid))
	}
	if s.Format != archiveFormat {
		return answer(types.ResponseOfferSnapshot_REJECT_FORMAT, nil)
	}
	if s.Chunks > maxArchiveChunks {
		return answer(types.ResponseOfferSnapshot_REJECT_SENDER, fmt.Errorf("%w: the offered state of height %d in %d chunks, at most %d are fetched", mman.ErrTooLarge, s.Height, s.Chunks, maxArchiveChunks))
	}
	hash := archiveHash(s.Height, s.Metadata)
	if s.Height == 0 || s.Chunks == 0 || len(s.Metadata) != int(s.Chunks)*hashSize || !bytes.Equal(hash[:], s.Hash) {
		return answer(types.ResponseOfferSnapshot_REJECT_SENDER, fmt.Errorf("%w: the offered state of height %d in %d chunks has %d bytes of hashes, or another hash", mman.ErrInvalid, s.Height, s.Chunks, len(s.Metadata)))
	}
	defer a.enter()()
	restore, err := a.store.Restore()
	if err != nil {
		return answer(types.ResponseOfferSnapshot_ABORT, err)
	}
	a.arriving = &arrival{restore: restore, height: s.Height, root: mman.Hash(req.AppHash), hashes: bytes.Clone(s.Metadata)}
	return answer(types.ResponseOfferSnapshot_ACCEPT, nil)
}

// ApplySnapshotChunk takes the next chunk. One that is not what its hash says is
// fetched again from somebody else; after the last one the root decides.
func (a *Application) ApplySnapshotChunk(_ context.Context, req *types.RequestApplySnapshotChunk) (*types.ResponseApplySnapshotChunk, error) {
	defer a.enter()()
	in := a.arriving
	if in == nil || req.Index != in.next {
		return &types.ResponseApplySnapshotChunk{Result: types.ResponseApplySnapshotChunk_ABORT}, nil
	}
	sum := mman.Sum256(req.Chunk)
	if want := in.hashes[int(in.next)*hashSize:][:hashSize]; !bytes.Equal(sum[:], want) {
		a.log.Warn("a chunk of the state is not what its hash says", slog.Uint64("chunk", uint64(req.Index)), slog.String("sender", req.Sender))
		return &types.ResponseApplySnapshotChunk{
			Result: types.ResponseApplySnapshotChunk_RETRY, RefetchChunks: []uint32{req.Index}, RejectSenders: []string{req.Sender},
		}, nil
	}
	if err := a.arrive(in, req.Chunk); err != nil {
		a.arriving = nil
		if errors.Is(err, mman.ErrContent) || errors.Is(err, mman.ErrInvalid) || errors.Is(err, mman.ErrTooLarge) {
			a.log.Warn("an offered state is not what its root says", slog.Any("error", err))
			return &types.ResponseApplySnapshotChunk{Result: types.ResponseApplySnapshotChunk_REJECT_SNAPSHOT}, nil
		}
		return nil, fmt.Errorf("restore the state of height %d: %w", in.height, err)
	}
	return &types.ResponseApplySnapshotChunk{Result: types.ResponseApplySnapshotChunk_ACCEPT}, nil
}

// arrive adds a chunk, and after the last one switches to the restored state.
func (a *Application) arrive(in *arrival, chunk []byte) error {
	if err := pairs(chunk, in.restore.Add); err != nil {
		return err
	}
	in.next++
	if int(in.next)*hashSize < len(in.hashes) {
		return nil
	}
	if err := in.restore.Commit(in.height, in.root); err != nil {
		return err
	}
	a.arriving = nil
	a.publish()
	return errors.Join(a.archive(a.store.Latest(), 0), a.resetCheck())
}

package blocks

import (
	"context"
	"errors"
	"fmt"
	"io"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/protocol/wire"
)

// batchBytes is how much is written to the store at a time.
const batchBytes = 8 << 20

// Result is what was fetched.
type Result struct {
	// Root is the file's CID.
	Root mman.CID
	// Salt is the salt of its public name, or empty.
	Salt []byte
	// Size is the length of the file in bytes.
	Size uint64
}

// Fetch asks the peer from for a file and puts its blocks into a private store.
// A file above maxBytes is mman.ErrTooLarge before its blocks are read; what is
// refused or not there is mman.ErrNotFound; a block that is not the one that
// comes next is mman.ErrContent; a holder that stalls is mman.ErrTimeout.
// Blocks that were stored before an error stay; whoever owns the store drops
// it.
func Fetch(ctx context.Context, host *p2p.Host, from mman.PeerID, req Request, into *content.PrivateStore, maxBytes uint64, cfg Config) (Result, error) {
	if err := errors.Join(cfg.Validate(), req.Validate()); err != nil {
		return Result{}, err
	}
	stream, err := host.Open(ctx, from, Protocol)
	if err != nil {
		return Result{}, err
	}
	conn := wire.New(stream, wire.Config{MaxRead: content.MaxBlock + 1, IdleTimeout: cfg.FrameTimeout, FrameTimeout: cfg.FrameTimeout})
	stop := context.AfterFunc(ctx, func() { _ = conn.Reset() })
	res, err := receive(ctx, conn, req, into, maxBytes)
	canceled := !stop()
	if err == nil {
		return res, conn.Close()
	}
	err = fmt.Errorf("fetch from peer %s within lease %s: %w", from, req.Lease, err)
	if canceled {
		err = fmt.Errorf("%w: %w: %w", mman.ErrCanceled, ctx.Err(), err)
	}
	return Result{}, errors.Join(err, conn.Reset())
}

func receive(ctx context.Context, conn *wire.Conn, req Request, into *content.PrivateStore, maxBytes uint64) (Result, error) {
	if err := conn.Send(kindRequest, req); err != nil {
		return Result{}, err
	}
	head, err := wire.Receive[header](conn, kindHeader)
	if err != nil {
		return Result{}, err
	}
	if err := checkHeader(req, head, maxBytes); err != nil {
		return Result{}, err
	}
	walk := content.NewWalk(head.Root, maxBytes)
	var batch []content.Block
	held := 0
	for next := walk.Take(1); len(next) > 0; next = walk.Take(1) {
		b, err := readBlock(conn, next[0])
		if err != nil {
			return Result{}, err
		}
		if err := walk.Accept(b, nil); err != nil {
			return Result{}, err
		}
		if b.CID() == head.Root && walk.Size() != head.Size {
			return Result{}, fmt.Errorf("%w: %d bytes were announced, the root has %d", mman.ErrContent, head.Size, walk.Size())
		}
		batch = append(batch, b)
		if held += len(b.Data()); held >= batchBytes {
			if err := into.Put(ctx, batch); err != nil {
				return Result{}, err
			}
			batch, held = nil, 0
		}
	}
	end, err := readFrame(conn, kindEnd)
	if err != nil {
		return Result{}, err
	}
	if len(end) > 0 {
		return Result{}, fmt.Errorf("%w: %d bytes in the end frame", mman.ErrProtocol, len(end))
	}
	return Result(head), into.Put(ctx, batch)
}

// readBlock reads the block that must come next and checks its hash.
func readBlock(conn *wire.Conn, next mman.CID) (content.Block, error) {
	data, err := readFrame(conn, kindBlock)
	if err != nil {
		return content.Block{}, fmt.Errorf("block %s: %w", next, err)
	}
	return content.CheckBlock(next, data)
}

// readFrame reads a frame that must be of one kind; a clean end is an error.
func readFrame(conn *wire.Conn, kind wire.Kind) ([]byte, error) {
	f, err := conn.Read()
	switch {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%w: the answer ends too early", mman.ErrPeerVanished)
	case err != nil:
		return nil, err
	case f.Kind != kind:
		return nil, fmt.Errorf("%w: frame of kind %d where kind %d must follow", mman.ErrProtocol, f.Kind, kind)
	}
	return f.Body, nil
}

func checkHeader(req Request, head header, maxBytes uint64) error {
	switch {
	case head.Size > maxBytes:
		return fmt.Errorf("%w: the content has %d bytes where at most %d are allowed", mman.ErrTooLarge, head.Size, maxBytes)
	case len(head.Salt) != 0 && len(head.Salt) != SaltSize:
		return fmt.Errorf("%w: a salt of %d bytes", mman.ErrProtocol, len(head.Salt))
	case !req.Root.IsZero() && head.Root != req.Root:
		return fmt.Errorf("%w: root %s came where %s was asked for", mman.ErrContent, head.Root, req.Root)
	case req.Root.IsZero() && (len(head.Salt) != SaltSize || Name([SaltSize]byte(head.Salt), head.Root) != req.Name):
		return fmt.Errorf("%w: root %s is not what the name %s stands for", mman.ErrContent, head.Root, req.Name)
	}
	return nil
}

package content

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-cid"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
)

const (
	// maxCarHeader bounds the header of a CAR file, in bytes, and maxCarRoots
	// the roots in it.
	maxCarHeader, maxCarRoots = 64 << 10, 1024
	// maxCarBlocks bounds the blocks of one CAR file: four million.
	maxCarBlocks = 4 << 20
)

// ExportCAR writes everything below a root as a CAR file, version 1: depth first,
// each block once, where it is first met. What is not here is fetched. More than
// maxBytes of blocks are mman.ErrTooLarge, when that is found out. A DAG-CBOR
// block is written without what it links to.
func (s *Service) ExportCAR(ctx context.Context, root mman.CID, maxBytes uint64, w io.Writer) error {
	key, err := toCid(root)
	if err != nil {
		return err
	}
	dag := patient{merkledag.NewDAGService(s.blocks), s.cfg.BlockTimeout}
	nd, err := dag.Get(ctx, key) // before anything is written
	if err != nil {
		return coded("export "+root.String(), err)
	}
	if _, err := w.Write(carHeader(key)); err != nil {
		return fmt.Errorf("export %s: %w", root, err)
	}
	done := make(map[cid.Cid]struct{})
	stack := []cid.Cid{nd.Cid()}
	for len(stack) > 0 {
		next := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if _, ok := done[next]; ok {
			continue
		}
		if done[next] = struct{}{}; len(done) > maxCarBlocks {
			return fmt.Errorf("%w: export %s: more than %d blocks", mman.ErrTooLarge, root, maxCarBlocks)
		}
		if nd, err = dag.Get(ctx, next); err != nil {
			return coded("export "+root.String(), err)
		}
		data := nd.RawData()
		if uint64(len(data)) > maxBytes {
			return fmt.Errorf("%w: export %s: the blocks have more bytes than are allowed", mman.ErrTooLarge, root)
		}
		maxBytes -= uint64(len(data))
		head := binary.AppendUvarint(nil, uint64(next.ByteLen()+len(data))) //nolint:gosec // lengths
		if _, err := w.Write(append(head, next.Bytes()...)); err != nil {
			return fmt.Errorf("export %s: %w", root, err)
		}
		if _, err := w.Write(data); err != nil {
			return fmt.Errorf("export %s: %w", root, err)
		}
		if next.Type() != cid.DagProtobuf {
			continue
		}
		for _, l := range slices.Backward(nd.Links()) {
			stack = append(stack, l.Cid)
		}
	}
	return nil
}

// carHeader is DAG-CBOR of {"roots": [root], "version": 1}, and its length.
func carHeader(root cid.Cid) []byte {
	raw := root.Bytes()
	h := []byte{0xa2, 0x65, 'r', 'o', 'o', 't', 's', 0x81, 0xd8, 0x2a, 0x58, byte(len(raw)&0x7f) + 1, 0} // a CID has 36 bytes
	h = append(h, raw...)
	h = append(h, 0x67, 'v', 'e', 'r', 's', 'i', 'o', 'n', 1)
	return append(binary.AppendUvarint(nil, uint64(len(h))), h...)
}

// carRoots is the header of a CAR file.
type carRoots struct {
	Roots   []mman.CID `cbor:"roots"`
	Version uint64     `cbor:"version"`
}

// ImportCAR adds the blocks of a CAR file, version 1, to the public store and
// returns its roots. Every block is compared with its CID, and everything below
// the roots must be in the file or here already: otherwise it is mman.ErrContent,
// and what was written stays as blocks that nothing refers to. More than maxBytes
// are mman.ErrTooLarge.
func (s *Service) ImportCAR(ctx context.Context, r io.Reader, maxBytes uint64) ([]mman.CID, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	head, err := carSection(in, maxCarHeader)
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: the CAR file is empty", mman.ErrContent)
	}
	if err != nil {
		return nil, fmt.Errorf("header of the CAR file: %w", err)
	}
	h, err := dagcbor.Unmarshal[carRoots](head, maxCarHeader)
	if err != nil {
		return nil, fmt.Errorf("%w: header of the CAR file: %w", mman.ErrContent, err)
	}
	if h.Version != 1 || len(h.Roots) == 0 || len(h.Roots) > maxCarRoots {
		return nil, fmt.Errorf("%w: a CAR file of version %d with %d roots: version 1 with 1 to %d is read", mman.ErrUnsupported, h.Version, len(h.Roots), maxCarRoots)
	}
	out := &batcher{put: func(batch []Block) error { return s.public.Put(ctx, batch) }}
	for {
		section, err := carSection(in, MaxBlock+cidRoom)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if uint64(len(section)) > maxBytes {
			return nil, fmt.Errorf("%w: the CAR file has more bytes than are allowed", mman.ErrTooLarge)
		}
		maxBytes -= uint64(len(section))
		b, err := carBlock(section)
		if err != nil {
			return nil, err
		}
		if err := out.add(b); err != nil {
			return nil, err
		}
	}
	if err := out.flush(); err != nil {
		return nil, err
	}
	for _, root := range h.Roots {
		if err := s.complete(ctx, root); err != nil {
			return nil, err
		}
		// Peers who wait for it hear of the root; they ask for the rest.
		b, err := s.public.Get(ctx, root)
		if err == nil {
			err = s.put(ctx, []Block{b})
		}
		if err != nil {
			return nil, err
		}
	}
	return h.Roots, nil
}

// cidRoom is more than a CID in a section takes.
const cidRoom = 64

// carSection reads a length and so many bytes; io.EOF is the end.
func carSection(r *bufio.Reader, limit uint64) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	switch {
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	case err != nil:
		return nil, fmt.Errorf("%w: the CAR file is cut off: %w", mman.ErrContent, err)
	case n == 0 || n > limit:
		return nil, fmt.Errorf("%w: a section of %d bytes in a CAR file, at most %d are allowed", mman.ErrContent, n, limit)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("%w: the CAR file is cut off: %w", mman.ErrContent, err)
	}
	return b, nil
}

func carBlock(section []byte) (Block, error) {
	n, k, err := cid.CidFromBytes(section)
	if err != nil {
		return Block{}, fmt.Errorf("%w: a block of a CAR file without a CID: %w", mman.ErrContent, err)
	}
	c, err := mman.CIDFromBytes(k.Bytes())
	if err != nil {
		return Block{}, fmt.Errorf("block %s of a CAR file: %w", k, err)
	}
	if len(section)-n > MaxBlock {
		return Block{}, tooLarge(c, uint64(len(section)-n), MaxBlock) //nolint:gosec // checked
	}
	return CheckBlock(c, section[n:])
}

// complete reports whether everything below a root is here.
func (s *Service) complete(ctx context.Context, root mman.CID) error {
	done := make(map[mman.CID]struct{})
	stack := []mman.CID{root}
	for len(stack) > 0 {
		c := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if _, ok := done[c]; ok {
			continue
		}
		done[c] = struct{}{}
		if c.Codec() != mman.CodecDagPB {
			if _, ok, err := s.public.Size(ctx, c); err != nil || !ok {
				return errors.Join(err, lacking(root, c))
			}
			continue
		}
		b, err := s.public.Get(ctx, c)
		if err != nil {
			return errors.Join(lacking(root, c), err)
		}
		nd, err := merkledag.DecodeProtobuf(b.data)
		if err != nil {
			return fmt.Errorf("%w: block %s is not DAG-PB: %w", mman.ErrContent, c, err)
		}
		for _, l := range nd.Links() {
			child, err := mman.CIDFromBytes(l.Cid.Bytes())
			if err != nil {
				return fmt.Errorf("a link of block %s: %w", c, err)
			}
			stack = append(stack, child)
		}
	}
	return nil
}

func lacking(root, c mman.CID) error {
	return fmt.Errorf("%w: the CAR file lacks block %s below its root %s", mman.ErrContent, c, root)
}

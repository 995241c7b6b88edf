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
	// maxCarBlocks bounds the blocks of one CAR file: a million, a TiB of leaves.
	maxCarBlocks = 1 << 20
	// maxCarLinks bounds the links of all its blocks together.
	maxCarLinks = 2 << 20
)

// MaxCARDepth is how deep below a root the links of a CAR file that is imported may
// lead: folders in folders, and in them files.
const MaxCARDepth = MaxFolderDepth + MaxDepth

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
// returns its roots, each once. The file is read twice, or three times when the roots'
// blocks have more than 8 MiB: nothing is written before every block was compared with
// its CID and everything below the roots was found in the file, or here. What is not
// below a root is left out. A file that is cut off, damaged, changed meanwhile or lacks
// a block is mman.ErrContent; one with more than maxBytes, or whose links are more than
// MaxCARDepth deep, is mman.ErrTooLarge. The roots are written last; after an error
// nothing of it is here that was not before.
func (s *Service) ImportCAR(ctx context.Context, r io.ReadSeeker, maxBytes uint64) (roots []mman.CID, err error) {
	err = s.adding(ctx, func(put func([]Block) error) (err error) {
		roots, err = importCAR(ctx, r, maxBytes, s.public, put)
		return err
	})
	return roots, err
}

func importCAR(ctx context.Context, r io.ReadSeeker, maxBytes uint64, in *PublicStore, put func([]Block) error) ([]mman.CID, error) {
	c := &carFile{links: make(map[mman.CID][]mman.CID)}
	if err := eachCARBlock(ctx, r, maxBytes, c.head, c.note); err != nil {
		return nil, err
	}
	if err := c.reach(ctx, in); err != nil {
		return nil, err
	}
	c.links = nil
	again := func(block func(Block) error) error {
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("%w: read the CAR file again: %w", mman.ErrInvalid, err)
		}
		return eachCARBlock(ctx, r, maxBytes, nil, func(b Block) error {
			if !c.needed[b.cid] {
				return nil
			}
			return block(b)
		})
	}
	out := &batcher{put: put}
	tops, err := c.below(again, out)
	if err != nil {
		return nil, err
	}
	if err := c.tops(again, out, tops); err != nil {
		return nil, err
	}
	if len(c.needed) > 0 {
		return nil, fmt.Errorf("%w: the CAR file changed while it was read", mman.ErrContent)
	}
	return c.roots, out.flush()
}

// below writes all blocks that are needed but the roots, which it returns, unless they
// are too many to hold.
func (c *carFile) below(again func(func(Block) error) error, out *batcher) ([]Block, error) {
	var tops []Block
	held := 0
	err := again(func(b Block) error {
		if !c.top[b.cid] {
			delete(c.needed, b.cid)
			return out.add(b)
		}
		if held+len(b.data) <= batchBytes {
			held += len(b.data)
			delete(c.needed, b.cid)
			tops = append(tops, b)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = out.flush()
	return tops, err
}

// tops hands on the roots, those that are held and, if need be, the others.
func (c *carFile) tops(again func(func(Block) error) error, out *batcher, held []Block) error {
	for _, b := range held {
		if err := out.add(b); err != nil {
			return err
		}
	}
	if len(c.needed) == 0 {
		return nil
	}
	return again(func(b Block) error {
		delete(c.needed, b.cid)
		return out.add(b)
	})
}

// carFile is what the first reading of a CAR file found.
type carFile struct {
	roots  []mman.CID
	top    map[mman.CID]bool       // the roots
	links  map[mman.CID][]mman.CID // of each block
	count  int                     // of all links
	needed map[mman.CID]bool       // what is below the roots, and in the file
}

func (c *carFile) head(roots []mman.CID) {
	c.top = make(map[mman.CID]bool, len(roots))
	for _, root := range roots {
		if !c.top[root] {
			c.top[root] = true
			c.roots = append(c.roots, root)
		}
	}
}

// note remembers a block's links, once.
func (c *carFile) note(b Block) error {
	if _, ok := c.links[b.cid]; ok {
		return nil
	}
	if len(c.links) == maxCarBlocks {
		return fmt.Errorf("%w: the CAR file has more than %d blocks", mman.ErrTooLarge, maxCarBlocks)
	}
	if b.cid.Codec() != mman.CodecDagPB {
		c.links[b.cid] = nil
		return nil
	}
	below, err := linksOf(b)
	if c.count += len(below); c.count > maxCarLinks {
		return fmt.Errorf("%w: the CAR file has more than %d links", mman.ErrTooLarge, maxCarLinks)
	}
	c.links[b.cid] = below
	return err
}

// linksOf returns what a DAG-PB block links to, each once.
func linksOf(b Block) ([]mman.CID, error) {
	nd, err := merkledag.DecodeProtobuf(b.data)
	if err != nil {
		return nil, fmt.Errorf("%w: block %s is not DAG-PB: %w", mman.ErrContent, b.cid, err)
	}
	var below []mman.CID
	seen := make(map[mman.CID]struct{}, len(nd.Links()))
	for _, l := range nd.Links() {
		child, err := mman.CIDFromBytes(l.Cid.Bytes())
		if err != nil {
			return nil, fmt.Errorf("a link of block %s: %w", b.cid, err)
		}
		if _, ok := seen[child]; !ok {
			seen[child] = struct{}{}
			below = append(below, child)
		}
	}
	return below, nil
}

// reach goes down from the roots, level by level: every block is in the file, or
// in the store. A hash cannot contain itself, so there is no cycle; how deep it
// goes is bounded because readers go down by recursion.
func (c *carFile) reach(ctx context.Context, in *PublicStore) error {
	c.needed = make(map[mman.CID]bool, len(c.links))
	stored := make(map[mman.CID]struct{}) // below the roots, here already
	level := slices.Clone(c.roots)
	for depth := 0; len(level) > 0; depth++ {
		if depth > MaxCARDepth {
			return fmt.Errorf("%w: the links of the CAR file are more than %d deep", mman.ErrTooLarge, MaxCARDepth)
		}
		var next []mman.CID
		for _, id := range level {
			if _, ok := stored[id]; ok || c.needed[id] {
				continue
			}
			below, ok := c.links[id]
			if ok {
				c.needed[id] = true
			} else {
				var err error
				if below, err = c.inStore(ctx, in, id); err != nil {
					return err
				}
				stored[id] = struct{}{}
			}
			if next = append(next, below...); len(next) > maxCarLinks || len(stored) > maxCarBlocks {
				return fmt.Errorf("%w: below the roots of the CAR file are more than %d blocks", mman.ErrTooLarge, maxCarBlocks)
			}
		}
		level = next
	}
	return nil
}

// inStore returns the links of a block that the file lacks and the store has.
func (c *carFile) inStore(ctx context.Context, in *PublicStore, id mman.CID) ([]mman.CID, error) {
	if id.Codec() != mman.CodecDagPB {
		if _, ok, err := in.Size(ctx, id); err != nil || !ok {
			return nil, errors.Join(c.lacking(id), err)
		}
		return nil, nil
	}
	b, err := in.Get(ctx, id)
	if err != nil {
		return nil, errors.Join(c.lacking(id), err)
	}
	return linksOf(b)
}

func (c *carFile) lacking(id mman.CID) error {
	return fmt.Errorf("%w: the CAR file lacks block %s below its roots", mman.ErrContent, id)
}

// CARRoots reads the header of a CAR file, version 1, and returns its roots, each
// once. What is no such file is mman.ErrContent or mman.ErrUnsupported.
func CARRoots(r io.Reader) ([]mman.CID, error) {
	roots, err := carHead(bufio.NewReader(r))
	if err != nil {
		return nil, err
	}
	var c carFile
	c.head(roots)
	return c.roots, nil
}

func carHead(in *bufio.Reader) ([]mman.CID, error) {
	first, err := carSection(in, maxCarHeader)
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: the CAR file is empty", mman.ErrContent)
	}
	if err != nil {
		return nil, fmt.Errorf("header of the CAR file: %w", err)
	}
	h, err := dagcbor.Unmarshal[carRoots](first, maxCarHeader)
	if err != nil {
		return nil, fmt.Errorf("%w: header of the CAR file: %w", mman.ErrContent, err)
	}
	if h.Version != 1 || len(h.Roots) == 0 || len(h.Roots) > maxCarRoots {
		return nil, fmt.Errorf("%w: a CAR file of version %d with %d roots: version 1 with 1 to %d is read", mman.ErrUnsupported, h.Version, len(h.Roots), maxCarRoots)
	}
	return h.Roots, nil
}

// eachCARBlock reads a CAR file from where it is: its roots, and every block, which
// is compared with its CID. head may be nil.
func eachCARBlock(ctx context.Context, r io.Reader, maxBytes uint64, head func([]mman.CID), block func(Block) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	roots, err := carHead(in)
	if err != nil {
		return err
	}
	if head != nil {
		head(roots)
	}
	for {
		if err := ctx.Err(); err != nil {
			return coded("read the CAR file", err)
		}
		section, err := carSection(in, MaxBlock+cidRoom)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if uint64(len(section)) > maxBytes {
			return fmt.Errorf("%w: the CAR file has more bytes than are allowed", mman.ErrTooLarge)
		}
		maxBytes -= uint64(len(section))
		b, err := carBlock(section)
		if err == nil {
			err = block(b)
		}
		if err != nil {
			return err
		}
	}
}

// cidRoom is more than a CID in a section takes.
const cidRoom = 64

// carSection reads a length and so many bytes; io.EOF is the end.
func carSection(r *bufio.Reader, limit uint64) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	switch {
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("%w: the CAR file is cut off: %w", mman.ErrContent, err)
	case err != nil:
		return nil, fmt.Errorf("%w: the length of a section of the CAR file cannot be read: %w", mman.ErrContent, err)
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

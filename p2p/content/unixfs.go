package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"

	mman "github.com/limboid/massive-man"
)

// The shape of a file's DAG. It is part of every CID: never change it. It is
// the profile that IPFS calls unixfs-v1-2025.
const (
	// ChunkSize is the number of bytes in each leaf but the last.
	ChunkSize = 1 << 20
	// MaxLinks is the largest number of children of a node.
	MaxLinks = 1024
	// MaxDepth is the largest number of levels above the leaves of a DAG that
	// is fetched: enough for 2⁵⁰ bytes, twice over.
	MaxDepth = 8
)

// batchBytes is how much is written to a store at a time.
const batchBytes = 8 << 20

// link is a finished node of the DAG as its parent sees it.
type link struct {
	cid   cid.Cid
	total uint64 // bytes of the node and everything below, UnixFS's Tsize
	file  uint64 // bytes of the file below
}

// builder folds leaves into the balanced DAG as they come: level i holds the
// nodes of height i that still wait for a parent.
type builder struct {
	levels [][]link
	emit   func(Block) error
}

// build reads r to its end and emits every block of its DAG, children first.
// Leaves are hashed on all processors while the next ones are read; at most
// hashing of them are in memory.
func build(ctx context.Context, r io.Reader, emit func(Block) error) (mman.CID, uint64, error) {
	return buildFrom(emit, func(b *builder) (uint64, error) { return b.leaves(ctx, r) })
}

func buildFrom(emit func(Block) error, leaves func(*builder) (uint64, error)) (mman.CID, uint64, error) {
	b := builder{emit: emit}
	size, err := leaves(&b)
	if err != nil {
		return mman.CID{}, 0, err
	}
	root, err := b.finish()
	if err != nil {
		return mman.CID{}, 0, err
	}
	c, err := mman.CIDFromBytes(root.cid.Bytes())
	return c, size, err
}

// leaves cuts r into leaves and returns how many bytes it has.
func (b *builder) leaves(ctx context.Context, r io.Reader) (uint64, error) {
	chunk, end, err := readChunk(ctx, r, make([]byte, firstBytes(r)))
	if err == nil && !end {
		large := make([]byte, ChunkSize)
		n := copy(large, chunk)
		chunk, end, err = readChunk(ctx, r, large[n:])
		chunk = large[:n+len(chunk)]
	}
	if err != nil {
		return 0, err
	}
	if end {
		return uint64(len(chunk)), b.leaf(NewBlock(mman.CodecRaw, chunk))
	}
	return b.hashed(chunk, func() ([]byte, bool, error) { return readChunk(ctx, r, make([]byte, ChunkSize)) })
}

// hashed makes leaves of chunks, the first of which is there and is not the last,
// and returns how many bytes they have. next returns the next one, which may be
// empty, and whether it is the last.
func (b *builder) hashed(chunk []byte, next func() (chunk []byte, end bool, err error)) (size uint64, err error) {
	most := runtime.GOMAXPROCS(0) + 1
	size = uint64(len(chunk))
	hashed, end := []chan Block{hash(chunk)}, false
	for !end || len(hashed) > 0 {
		if end || len(hashed) == most {
			block := <-hashed[0]
			hashed = hashed[1:]
			if err := b.leaf(block); err != nil {
				return 0, err
			}
			continue
		}
		if chunk, end, err = next(); err != nil {
			return 0, err
		}
		if len(chunk) > 0 {
			size += uint64(len(chunk))
			hashed = append(hashed, hash(chunk))
		}
	}
	return size, nil
}

// firstBytes is how much of a file is read at first: a small one needs no large
// buffer, and one that says how long it is ends within its own.
func firstBytes(r io.Reader) int {
	const small = 64 << 10
	if r, ok := r.(interface{ Len() int }); ok {
		return min(r.Len()+1, small)
	}
	return small
}

// hash makes a leaf in a goroutine of its own.
func hash(chunk []byte) chan Block {
	out := make(chan Block, 1)
	go func() { out <- NewBlock(mman.CodecRaw, chunk) }()
	return out
}

// readChunk fills buf unless r ends before.
func readChunk(ctx context.Context, r io.Reader, buf []byte) (chunk []byte, end bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, coded("add a file", err)
	}
	n, err := io.ReadFull(r, buf)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return buf[:n], true, nil
	case err != nil:
		return nil, false, coded("read a file to add", err)
	default:
		return buf, false, nil
	}
}

func (b *builder) leaf(block Block) error {
	k, err := toCid(block.cid)
	if err != nil {
		return err
	}
	if err := b.emit(block); err != nil {
		return err
	}
	n := uint64(len(block.data))
	return b.push(0, link{k, n, n})
}

func (b *builder) push(level int, l link) error {
	if level == len(b.levels) {
		b.levels = append(b.levels, nil)
	}
	if len(b.levels[level]) == MaxLinks {
		if err := b.fold(level); err != nil {
			return err
		}
	}
	b.levels[level] = append(b.levels[level], l)
	return nil
}

// fold makes the waiting nodes of a level the children of one new node.
func (b *builder) fold(level int) error {
	parent, err := b.node(b.levels[level])
	if err != nil {
		return err
	}
	b.levels[level] = b.levels[level][:0]
	return b.push(level+1, parent)
}

// finish folds what waits, lowest level first, until one root is left.
func (b *builder) finish() (link, error) {
	for level := 0; ; level++ {
		waiting := b.levels[level]
		if level == len(b.levels)-1 && len(waiting) == 1 {
			return waiting[0], nil
		}
		if len(waiting) == 0 {
			continue
		}
		if err := b.fold(level); err != nil {
			return link{}, err
		}
	}
}

func (b *builder) node(children []link) (link, error) {
	meta := unixfs.NewFSNode(unixfs.TFile)
	nd := new(merkledag.ProtoNode)
	out := link{}
	err := nd.SetCidBuilder(cid.V1Builder{Codec: cid.DagProtobuf, MhType: multihash.SHA2_256})
	for _, c := range children {
		meta.AddBlockSize(c.file)
		err = errors.Join(err, nd.AddRawLink("", &ipld.Link{Cid: c.cid, Size: c.total}))
		out.file += c.file
		out.total += c.total
	}
	raw, merr := meta.GetBytes()
	nd.SetData(raw)
	data, derr := nd.EncodeProtobuf(true)
	if err = errors.Join(err, merr, derr); err != nil {
		return link{}, fmt.Errorf("%w: encode a file node: %w", mman.ErrInternal, err)
	}
	block := NewBlock(mman.CodecDagPB, data)
	if out.cid, err = toCid(block.cid); err != nil {
		return link{}, err
	}
	out.total += uint64(len(data))
	return out, b.emit(block)
}

// shape is a way to cut a file into leaves: build, or buildDefined.
type shape func(ctx context.Context, r io.Reader, emit func(Block) error) (mman.CID, uint64, error)

// SumUnixFS returns the CID and the size that the file r would have, storing
// nothing. It reads r to its end.
func SumUnixFS(ctx context.Context, r io.Reader) (mman.CID, uint64, error) {
	return build(ctx, r, func(Block) error { return nil })
}

// AddTo adds the file r to a private store and returns its CID and size.
// Nobody is told of it. What was written before an error stays as blocks that
// nothing refers to.
func AddTo(ctx context.Context, to *PrivateStore, r io.Reader) (mman.CID, uint64, error) {
	return add(ctx, r, build, func(batch []Block) error { return to.Put(ctx, batch) })
}

// add builds the DAG of r and hands its blocks on in batches of batchBytes.
func add(ctx context.Context, r io.Reader, build shape, put func([]Block) error) (mman.CID, uint64, error) {
	var batch []Block
	var held int
	c, size, err := build(ctx, r, func(b Block) error {
		batch = append(batch, b)
		held += len(b.data)
		if held < batchBytes {
			return nil
		}
		err := put(batch)
		batch, held = nil, 0
		return err
	})
	if err != nil {
		return mman.CID{}, 0, err
	}
	if len(batch) > 0 {
		if err := put(batch); err != nil {
			return mman.CID{}, 0, err
		}
	}
	return c, size, nil
}

// Child is a link from a node to the next one.
type Child struct {
	CID mman.CID
	// Size is how many bytes of the file the child must hold, at least 1.
	Size uint64
}

// Node is a block as a part of a file.
type Node struct {
	// Size is the number of bytes of the file in this node and below.
	Size uint64
	// Children are the links in the order of the file; none in a leaf.
	Children []Child
}

// ParseNode reads a block that somebody sent as a part of a file: a raw leaf, a
// DAG-CBOR block, which has no children here, or a node of a UnixFS file whose
// sizes add up. Anything else is mman.ErrContent, and mman.ErrUnsupported when
// it is sound but not a file, such as a directory.
func ParseNode(b Block) (Node, error) {
	c := b.cid
	if c.Codec() != mman.CodecDagPB {
		return Node{Size: uint64(len(b.data))}, nil
	}
	nd, err := merkledag.DecodeProtobuf(b.data)
	if err != nil {
		return Node{}, fmt.Errorf("%w: block %s is not DAG-PB: %w", mman.ErrContent, c, err)
	}
	meta, err := unixfs.FSNodeFromBytes(nd.Data())
	if err != nil {
		return Node{}, fmt.Errorf("%w: block %s is not UnixFS: %w", mman.ErrContent, c, err)
	}
	if t := meta.Type(); t != unixfs.TFile && t != unixfs.TRaw {
		return Node{}, fmt.Errorf("%w: block %s is a UnixFS %s, only files are used here", mman.ErrUnsupported, c, t)
	}
	links, sizes := nd.Links(), meta.BlockSizes()
	if len(links) != len(sizes) || len(links) > 16*MaxLinks {
		return Node{}, fmt.Errorf("%w: block %s has %d links and %d sizes", mman.ErrContent, c, len(links), len(sizes))
	}
	out := Node{Size: uint64(len(meta.Data()))}
	for i, l := range links {
		child, err := mman.CIDFromBytes(l.Cid.Bytes())
		if err != nil {
			return Node{}, fmt.Errorf("link %d of block %s: %w", i, c, err)
		}
		if sizes[i] == 0 || out.Size+sizes[i] < out.Size {
			return Node{}, fmt.Errorf("%w: block %s gives its child %d the size %d", mman.ErrContent, c, i, sizes[i])
		}
		out.Size += sizes[i]
		out.Children = append(out.Children, Child{child, sizes[i]})
	}
	if out.Size != meta.FileSize() {
		return Node{}, fmt.Errorf("%w: block %s declares %d bytes, its parts have %d", mman.ErrContent, c, meta.FileSize(), out.Size)
	}
	return out, nil
}

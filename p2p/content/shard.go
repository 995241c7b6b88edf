package content

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"

	mman "github.com/limboid/massive-man"
)

// The shape of a folder's DAG, in the same profile as that of a file and like it a part
// of the CID. A folder in more than maxFolderBlock bytes is a trie over the hashes of its
// names: each level takes another byte of them, and a shard has one link for each value.
const (
	// maxFolderBlock is the largest block that lists a whole folder, in bytes.
	maxFolderBlock = 256 << 10
	// shardWidth is how many links a shard has at most.
	shardWidth = 256
	// shardHash is the hash of names, 64 bits of Murmur3, whose maxShards bytes are for
	// as many levels.
	shardHash, maxShards = multihash.MURMUR3X64_64, 8
)

// node makes the blocks of a folder whose entries are sorted by name, and returns its
// root.
func (f *folders) node(o *opened) (link, error) {
	least := 0
	for i, l := range o.links {
		least += len(o.entries[i].Name()) + l.cid.ByteLen()
	}
	if least > maxFolderBlock {
		return f.shards(o)
	}
	b := newFolderNode()
	for i, l := range o.links {
		b.link(o.entries[i].Name(), l)
	}
	data, err := b.encode(o.dir, unixfs.FolderPBData())
	if err != nil {
		return link{}, err
	}
	if len(data) > maxFolderBlock {
		return f.shards(o)
	}
	return b.emit(data, f.out)
}

// named is the place of an entry in a folder, and the hash of its name.
type named struct {
	hash  [maxShards]byte
	index int
}

func (f *folders) shards(o *opened) (link, error) {
	h, err := multihash.GetHasher(shardHash)
	if err != nil {
		return link{}, fmt.Errorf("%w: hash names of folder %s: %w", mman.ErrInternal, o.dir, err)
	}
	list := make([]named, len(o.entries))
	for i, e := range o.entries {
		h.Reset()
		_, _ = h.Write([]byte(e.Name())) // a hash takes everything
		list[i] = named{[maxShards]byte(h.Sum(nil)), i}
	}
	slices.SortFunc(list, func(a, b named) int { return bytes.Compare(a.hash[:], b.hash[:]) })
	return f.shard(o, list, 0)
}

// shard makes the shard of names, sorted by their hashes, whose first level bytes are one.
func (f *folders) shard(o *opened, list []named, level int) (link, error) {
	if level == maxShards {
		return link{}, fmt.Errorf("%w: the names %q and %q in folder %s have one hash: rename one of them", mman.ErrUnsupported, o.entries[list[0].index].Name(), o.entries[list[1].index].Name(), o.dir)
	}
	b, taken := newFolderNode(), [shardWidth / 8]byte{}
	for len(list) > 0 {
		slot := list[0].hash[level]
		same := slices.IndexFunc(list, func(n named) bool { return n.hash[level] != slot })
		if same < 0 {
			same = len(list)
		}
		name, l := fmt.Sprintf("%02X", slot), o.links[list[0].index]
		if same == 1 {
			name += o.entries[list[0].index].Name()
		} else {
			var err error
			if l, err = f.shard(o, list[:same], level+1); err != nil {
				return link{}, err
			}
		}
		b.link(name, l)
		taken[len(taken)-1-int(slot/8)] |= 1 << (slot % 8)
		list = list[same:]
	}
	meta, err := unixfs.HAMTShardData(bytes.TrimLeft(taken[:], "\x00"), shardWidth, shardHash)
	if err != nil {
		return link{}, fmt.Errorf("%w: encode folder %s: %w", mman.ErrInternal, o.dir, err)
	}
	data, err := b.encode(o.dir, meta)
	if err != nil {
		return link{}, err
	}
	return b.emit(data, f.out)
}

// folderNode is a folder, or a shard of one, that is being made.
type folderNode struct {
	nd    *merkledag.ProtoNode
	below uint64
	err   error
}

func newFolderNode() *folderNode {
	nd := new(merkledag.ProtoNode)
	return &folderNode{nd: nd, err: nd.SetCidBuilder(cid.V1Builder{Codec: cid.DagProtobuf, MhType: multihash.SHA2_256})}
}

func (b *folderNode) link(name string, l link) {
	b.err = errors.Join(b.err, b.nd.AddRawLink(name, &ipld.Link{Cid: l.cid, Size: l.total}))
	b.below += l.total
}

func (b *folderNode) encode(dir string, meta []byte) ([]byte, error) {
	b.nd.SetData(meta)
	data, err := b.nd.EncodeProtobuf(true)
	if err = errors.Join(b.err, err); err != nil {
		return nil, fmt.Errorf("%w: encode folder %s: %w", mman.ErrInternal, dir, err)
	}
	return data, nil
}

func (b *folderNode) emit(data []byte, out *batcher) (link, error) {
	block := NewBlock(mman.CodecDagPB, data)
	c, err := toCid(block.cid)
	if err != nil {
		return link{}, err
	}
	return link{cid: c, total: b.below + uint64(len(data))}, out.add(block)
}

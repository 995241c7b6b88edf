package storage

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/merkle"
)

const (
	// LeafSize is the number of bytes in each leaf but the last.
	LeafSize = 1 << 10
	// BlockSize is the number of bytes under each hash that a holder keeps.
	BlockSize = LeafSize * merkle.BlockLeaves
	// MaxBytes is the longest replica: 1 PiB.
	MaxBytes = 1 << 50
	// maxDepth is the longest path in a replica of MaxBytes.
	maxDepth = 40
	// ProofMaxBytes bounds one proof.
	ProofMaxBytes = mman.IDSize + 2 + maxDepth*len(mman.Hash{}) + LeafSize

	challengeDomain = "mman/storage/1"
)

// Leaves returns how many leaves a replica of so many bytes has.
func Leaves(bytes uint64) uint64 { return bytes/LeafSize + (bytes%LeafSize+LeafSize-1)/LeafSize }

// Tree is what a holder keeps of a replica beside its bytes: a hash for each block,
// and the root.
type Tree struct {
	Bytes  uint64      `cbor:"bytes"`
	Root   mman.Hash   `cbor:"root"`
	Blocks []mman.Hash `cbor:"blocks"`
}

// Plant reads r to its end and returns the replica's tree. An empty replica is
// mman.ErrInvalid, one above MaxBytes mman.ErrTooLarge.
func Plant(r io.Reader) (Tree, error) {
	var t Tree
	var edge merkle.Edge
	buf := make([]byte, BlockSize)
	for {
		n, err := io.ReadFull(r, buf)
		t.Bytes += uint64(n) //nolint:gosec // a count is not negative
		for at := 0; at < n; at += LeafSize {
			var block *mman.Hash
			if edge, block = edge.Append(merkle.Leaf(buf[at:min(at+LeafSize, n)])); block != nil {
				t.Blocks = append(t.Blocks, *block)
			}
		}
		switch {
		case t.Bytes > MaxBytes:
			return t, fmt.Errorf("%w: a replica of more than %d bytes", mman.ErrTooLarge, uint64(MaxBytes))
		case err == nil:
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			if t.Bytes == 0 {
				return t, fmt.Errorf("%w: there is nothing to store", mman.ErrInvalid)
			}
			t.Root = edge.Root()
			return t, nil
		default:
			return t, fmt.Errorf("read a replica: %w", err)
		}
	}
}

// prover reads what a proof needs.
type prover struct {
	tree Tree
	from io.ReaderAt
	buf  []byte // of a block, read last
	at   uint64
}

// Leaf implements merkle.Leaves.
func (p *prover) Leaf(i uint64) (mman.Hash, error) {
	b, err := p.leaf(i)
	return merkle.Leaf(b), err
}

// Block implements merkle.Leaves.
func (p *prover) Block(i uint64) (mman.Hash, error) {
	if i >= uint64(len(p.tree.Blocks)) {
		return mman.Hash{}, fmt.Errorf("%w: block %d of %d", mman.ErrCorrupt, i, len(p.tree.Blocks))
	}
	return p.tree.Blocks[i], nil
}

func (p *prover) leaf(i uint64) ([]byte, error) {
	block := i / merkle.BlockLeaves
	if p.buf == nil || block != p.at {
		n := min(BlockSize, p.tree.Bytes-block*BlockSize)
		p.buf, p.at = make([]byte, n), block
		if _, err := p.from.ReadAt(p.buf, int64(block*BlockSize)); err != nil { //nolint:gosec // at most MaxBytes
			return nil, fmt.Errorf("%w: read the replica's block %d: %w", mman.ErrUnproved, block, err)
		}
	}
	lo := i % merkle.BlockLeaves * LeafSize
	return p.buf[lo:min(lo+LeafSize, uint64(len(p.buf)))], nil
}

// Challenge returns the leaf that the holder of a replica must show in an epoch: a
// number below Leaves(bytes), drawn by the epoch's challenge.
func Challenge(challenge mman.Hash, lease mman.LeaseID, replica uint8, bytes uint64) uint64 {
	sum := mman.Sum256([]byte(challengeDomain), []byte{0}, challenge[:], lease[:], []byte{replica})
	hi, _ := bits.Mul64(binary.BigEndian.Uint64(sum[:8]), Leaves(bytes))
	return hi
}

// Proof shows one leaf of one replica.
type Proof struct {
	Lease   mman.LeaseID
	Replica uint8
	Leaf    []byte
	// Path leads from the leaf to the root, the nearest neighbour first.
	Path []mman.Hash
}

// Prove makes the proof that an epoch's challenge asks for. It reads one or two
// blocks of the replica.
func Prove(tree Tree, from io.ReaderAt, lease mman.LeaseID, replica uint8, challenge mman.Hash) (Proof, error) {
	index := Challenge(challenge, lease, replica, tree.Bytes)
	p := &prover{tree: tree, from: from}
	leaf, err := p.leaf(index)
	if err != nil {
		return Proof{}, err
	}
	leaf = append([]byte{}, leaf...)
	path, err := merkle.Prove(p, index, Leaves(tree.Bytes))
	return Proof{lease, replica, leaf, path}, err
}

// Verify checks a proof against what the lease commits to; mman.ErrProof.
func (p Proof) Verify(root mman.Hash, bytes uint64, challenge mman.Hash) error {
	index, count := Challenge(challenge, p.Lease, p.Replica, bytes), Leaves(bytes)
	size := min(LeafSize, bytes-index*LeafSize)
	if uint64(len(p.Leaf)) != size || !merkle.Verify(root, count, index, merkle.Leaf(p.Leaf), p.Path) {
		return fmt.Errorf("%w: replica %d of lease %s: leaf %d of %d is not what its root commits to", mman.ErrProof, p.Replica, p.Lease, index, count)
	}
	return nil
}

// Encode returns the proof's bytes: lease, replica, the length of the path, the path
// itself, leaf.
func (p Proof) Encode() []byte {
	out := append(make([]byte, 0, ProofMaxBytes), p.Lease[:]...)
	out = append(out, p.Replica, byte(len(p.Path))) //nolint:gosec // at most maxDepth
	for _, h := range p.Path {
		out = append(out, h[:]...)
	}
	return append(out, p.Leaf...)
}

// DecodeProof reads a proof; mman.ErrInvalid.
func DecodeProof(b []byte) (Proof, error) {
	var p Proof
	const head = mman.IDSize + 2
	if len(b) < head || len(b) > ProofMaxBytes {
		return p, fmt.Errorf("%w: a proof of possession of %d bytes", mman.ErrInvalid, len(b))
	}
	copy(p.Lease[:], b)
	p.Replica = b[mman.IDSize]
	n, rest := int(b[mman.IDSize+1]), b[head:]
	if n > maxDepth || len(rest) <= n*len(mman.Hash{}) || len(rest) > n*len(mman.Hash{})+LeafSize {
		return p, fmt.Errorf("%w: a proof of possession of %d bytes with %d hashes", mman.ErrInvalid, len(b), n)
	}
	for range n {
		p.Path, rest = append(p.Path, mman.Hash(rest[:len(mman.Hash{})])), rest[len(mman.Hash{}):]
	}
	p.Leaf = rest
	return p, nil
}

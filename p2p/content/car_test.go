package content_test

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"testing"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p/content"
)

func TestCAR(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config())
	added, err := a.AddPublicFolder(t.Context(), tree(t))
	require.NoError(t, err)
	var car, again bytes.Buffer
	require.NoError(t, b.ExportCAR(t.Context(), added.Root, unlimited, &car), "what is not here is fetched")
	require.NoError(t, a.ExportCAR(t.Context(), added.Root, unlimited, &again))
	require.True(t, bytes.Equal(car.Bytes(), again.Bytes()), "one tree has one CAR file")
	require.ErrorIs(t, a.ExportCAR(t.Context(), added.Root, 1<<20, &bytes.Buffer{}), mman.ErrTooLarge)

	c, _ := pair(t, config())
	roots, err := c.ImportCAR(t.Context(), bytes.NewReader(car.Bytes()), unlimited)
	require.NoError(t, err)
	require.Equal(t, []mman.CID{added.Root}, roots)
	var third bytes.Buffer
	require.NoError(t, c.ExportCAR(t.Context(), added.Root, unlimited, &third))
	require.True(t, bytes.Equal(car.Bytes(), third.Bytes()))
	_, err = c.ImportCAR(t.Context(), bytes.NewReader(car.Bytes()), 1000)
	require.ErrorIs(t, err, mman.ErrTooLarge)
}

func TestBadCARs(t *testing.T) {
	t.Parallel()
	a, _ := pair(t, config())
	root, _, err := a.AddPublic(t.Context(), bytes.NewReader(random(t, 3<<20)))
	require.NoError(t, err)
	var car bytes.Buffer
	require.NoError(t, a.ExportCAR(t.Context(), root, unlimited, &car))
	whole := car.Bytes()
	head, n := binary.Uvarint(whole)
	begin := int(head) + n
	damaged := bytes.Clone(whole)
	damaged[len(damaged)/2] ^= 1
	for name, file := range map[string][]byte{
		"empty":          {},
		"not a CAR":      []byte("not a CAR file"),
		"no blocks":      whole[:begin],
		"cut off":        whole[:len(whole)-1],
		"a block less":   whole[:begin+200],
		"damaged":        damaged,
		"large section":  append(bytes.Clone(whole[:begin]), 0xff, 0xff, 0xff, 0x7f),
		"large header":   {0xff, 0xff, 0xff, 0x7f},
		"empty section":  append(bytes.Clone(whole), 0),
		"endless length": append(bytes.Clone(whole[:begin]), bytes.Repeat([]byte{0xff}, 20)...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, b := pair(t, config())
			_, err := b.ImportCAR(t.Context(), bytes.NewReader(file), unlimited)
			require.Error(t, err)
			require.NotEqual(t, mman.ErrInternal.Code, mman.CodeOf(err), err)
		})
	}
}

// carOf writes a CAR file of blocks in this order.
func carOf(root mman.CID, blocks ...content.Block) []byte {
	out := []byte{}
	raw := root.Bytes()
	head := append([]byte{0xa2, 0x65, 'r', 'o', 'o', 't', 's', 0x81, 0xd8, 0x2a, 0x58, byte(len(raw) + 1), 0}, raw...)
	head = append(head, 0x67, 'v', 'e', 'r', 's', 'i', 'o', 'n', 1)
	out = append(binary.AppendUvarint(out, uint64(len(head))), head...)
	for _, b := range blocks {
		id := b.CID().Bytes()
		out = binary.AppendUvarint(out, uint64(len(id)+len(b.Data())))
		out = append(append(out, id...), b.Data()...)
	}
	return out
}

// chain makes nodes in folders' shape, each with so many links to the one before.
func chain(t *testing.T, depth, links int) []content.Block {
	t.Helper()
	out := []content.Block{content.NewBlock(mman.CodecRaw, []byte("the end"))}
	for range depth {
		below, err := cid.Cast(out[0].CID().Bytes())
		require.NoError(t, err)
		nd := merkledag.NodeWithData(unixfs.FolderPBData())
		for i := range links {
			require.NoError(t, nd.AddRawLink(strconv.Itoa(i), &ipld.Link{Cid: below, Size: 1}))
		}
		data, err := nd.EncodeProtobuf(true)
		require.NoError(t, err)
		out = append([]content.Block{content.NewBlock(mman.CodecDagPB, data)}, out...)
	}
	return out
}

// TestShapesOfCARs: a file whose links fan out and join again, 2³⁰ ways to one block,
// costs what its blocks do, and one that leads too deep is refused.
func TestShapesOfCARs(t *testing.T) {
	t.Parallel()
	_, b := pair(t, config())
	fan := chain(t, 30, 2)
	root := fan[0].CID()
	got, err := b.ImportCAR(t.Context(), bytes.NewReader(carOf(root, fan...)), unlimited)
	require.NoError(t, err)
	require.Equal(t, []mman.CID{root}, got)
	var car bytes.Buffer
	require.NoError(t, b.ExportCAR(t.Context(), root, unlimited, &car))
	require.Equal(t, carOf(root, fan...), car.Bytes())

	deep := chain(t, content.MaxCARDepth+1, 1)
	_, err = b.ImportCAR(t.Context(), bytes.NewReader(carOf(deep[0].CID(), deep...)), unlimited)
	require.ErrorIs(t, err, mman.ErrTooLarge)
	deep = deep[1:]
	other := content.NewBlock(mman.CodecRaw, []byte("not below the root"))
	_, err = b.ImportCAR(t.Context(), bytes.NewReader(carOf(deep[0].CID(), append(deep, other)...)), unlimited)
	require.NoError(t, err)
	has, err := b.store.Has(t.Context(), other.CID())
	require.NoError(t, err)
	require.False(t, has, "what is not below a root is left out")
}

// TestNothingOfABadCAR: of a file that is refused, nothing is there, also of the
// blocks before the damage.
func TestNothingOfABadCAR(t *testing.T) {
	t.Parallel()
	_, b := pair(t, config())
	blocks := chain(t, 3, 1)
	lacks := carOf(blocks[0].CID(), blocks[:3]...)
	_, err := b.ImportCAR(t.Context(), bytes.NewReader(lacks), unlimited)
	require.ErrorIs(t, err, mman.ErrContent)
	for _, one := range blocks {
		has, err := b.store.Has(t.Context(), one.CID())
		require.NoError(t, err)
		require.False(t, has)
	}
	require.NoError(t, b.store.Put(t.Context(), blocks[3:]))
	_, err = b.ImportCAR(t.Context(), bytes.NewReader(lacks), unlimited)
	require.NoError(t, err, "what is here already need not be in the file")
}

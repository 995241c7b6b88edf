package content_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	goblocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/p2ptest"
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
func chain(tb testing.TB, depth, links int) []content.Block {
	tb.Helper()
	out := []content.Block{content.NewBlock(mman.CodecRaw, []byte("the end"))}
	for range depth {
		below, err := cid.Cast(out[0].CID().Bytes())
		require.NoError(tb, err)
		nd := merkledag.NodeWithData(unixfs.FolderPBData())
		for i := range links {
			require.NoError(tb, nd.AddRawLink(strconv.Itoa(i), &ipld.Link{Cid: below, Size: 1}))
		}
		data, err := nd.EncodeProtobuf(true)
		require.NoError(tb, err)
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

// TestCARRoots reads the head of a CAR file only, as an import does.
func TestCARRoots(t *testing.T) {
	t.Parallel()
	blocks := chain(t, 3, 1)
	one, two := blocks[0].CID(), blocks[1].CID()
	file := carWith([]mman.CID{one, two, one}, blocks...)
	roots, err := content.CARRoots(bytes.NewReader(file))
	require.NoError(t, err)
	require.Equal(t, []mman.CID{one, two}, roots)
	for name, bad := range map[string][]byte{"empty": nil, "cut": file[:20], "noise": bytes.Repeat([]byte{1}, 100), "long": bytes.Repeat([]byte{0xff}, 100)} {
		_, err := content.CARRoots(bytes.NewReader(bad))
		require.ErrorIs(t, err, mman.ErrContent, name)
	}
	_, err = content.CARRoots(bytes.NewReader(carWith(nil, blocks...)))
	require.ErrorIs(t, err, mman.ErrUnsupported)
}

// carWith writes a CAR file with several roots.
func carWith(roots []mman.CID, blocks ...content.Block) []byte {
	head := []byte{0xa2, 0x65, 'r', 'o', 'o', 't', 's'}
	switch n := len(roots); {
	case n < 24:
		head = append(head, 0x80|byte(n))
	case n < 256:
		head = append(head, 0x98, byte(n))
	default:
		head = append(head, 0x99, byte(n>>8), byte(n))
	}
	for _, root := range roots {
		head = append(append(head, 0xd8, 0x2a, 0x58, mman.CIDSize+1, 0), root.Bytes()...)
	}
	head = append(head, 0x67, 'v', 'e', 'r', 's', 'i', 'o', 'n', 1)
	return append(append(binary.AppendUvarint(nil, uint64(len(head))), head...), carOf(mman.CID{}, blocks...)[carHead:]...)
}

// carHead is the length of the header that carOf writes.
const carHead = 1 + 58

// TestHostileCARs: what no honest program writes is refused in one coded sentence, or
// costs what its blocks do, and of what is refused nothing is stored.
func TestHostileCARs(t *testing.T) {
	t.Parallel()
	leaf := content.NewBlock(mman.CodecRaw, []byte("a leaf"))
	other := content.NewBlock(mman.CodecRaw, []byte("another"))
	good := carOf(leaf.CID(), leaf)
	wrong := bytes.Clone(good)
	wrong[len(wrong)-1] ^= 1
	identity := append(binary.AppendUvarint(bytes.Clone(good), 4+6), append([]byte{1, 0x55, 0, 6}, "a leaf"...)...)
	longer := append(binary.AppendUvarint(bytes.Clone(good), 36+content.MaxBlock+1), append(leaf.CID().Bytes(), make([]byte, content.MaxBlock+1)...)...)
	for name, tc := range map[string]struct {
		file []byte
		want error
	}{
		"varint without end":      {append(bytes.Clone(good), bytes.Repeat([]byte{0x80}, 11)...), mman.ErrContent},
		"varint above all bounds": {binary.AppendUvarint(bytes.Clone(good), 1<<63), mman.ErrContent},
		"varint cut off":          {append(bytes.Clone(good), 0x80), mman.ErrContent},
		"header above all bounds": {binary.AppendUvarint(nil, 1<<40), mman.ErrContent},
		"version 2":               {append([]byte{10, 0xa1, 0x67}, "version\x02"...), mman.ErrContent},
		"no roots":                {carWith(nil, leaf), mman.ErrUnsupported},
		"too many roots":          {carWith(make([]mman.CID, 1025), leaf), mman.ErrContent},
		"a root that is missing":  {carWith([]mman.CID{leaf.CID(), other.CID()}, leaf), mman.ErrContent},
		"wrong hash":              {wrong, mman.ErrContent},
		"bytes within the CID":    {identity, mman.ErrInvalid},
		"block above the bound":   {longer, mman.ErrTooLarge},
		"section without a CID":   {append(bytes.Clone(good), 3, 1, 2, 3), mman.ErrContent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := content.Memory()
			_, err := content.ImportInto(t.Context(), bytes.NewReader(tc.file), unlimited, content.NewPublicStore(disk))
			require.ErrorIs(t, err, tc.want)
			require.NotContains(t, err.Error(), "\n")
			require.Empty(t, keys(t, disk))
		})
	}
	t.Run("the same again and again", func(t *testing.T) {
		t.Parallel()
		disk := &counting{Blockstore: content.Memory()}
		many := make([]content.Block, 10_000)
		for i := range many {
			many[i] = leaf
		}
		roots, err := content.ImportInto(t.Context(), bytes.NewReader(carWith([]mman.CID{leaf.CID(), leaf.CID()}, many...)), unlimited, content.NewPublicStore(disk))
		require.NoError(t, err)
		require.Equal(t, []mman.CID{leaf.CID()}, roots)
		require.Equal(t, 1, disk.put)
	})
	t.Run("large roots", func(t *testing.T) {
		t.Parallel()
		disk := &counting{Blockstore: content.Memory()}
		var list []content.Block
		var roots []mman.CID
		for i := range 20 {
			b := content.NewBlock(mman.CodecRaw, bytes.Repeat([]byte{byte(i)}, 1<<20))
			list, roots = append(list, b, b), append(roots, b.CID())
		}
		got, err := content.ImportInto(t.Context(), bytes.NewReader(carWith(roots, append(list, list...)...)), unlimited, content.NewPublicStore(disk))
		require.NoError(t, err)
		require.Equal(t, roots, got)
		require.Equal(t, 20, disk.put)
		require.LessOrEqual(t, disk.most, 9<<20, "they are not held all at a time")
	})
	t.Run("changed between two readings", func(t *testing.T) {
		t.Parallel()
		blocks := chain(t, 3, 1)
		whole := carOf(blocks[0].CID(), blocks...)
		_, err := content.ImportInto(t.Context(), &changing{bytes.NewReader(whole), carOf(blocks[0].CID(), blocks[:2]...)}, unlimited, content.NewPublicStore(content.Memory()))
		require.ErrorIs(t, err, mman.ErrContent)
	})
}

// changing is a file that somebody replaces when it was read once.
type changing struct {
	*bytes.Reader

	next []byte
}

func (c *changing) Seek(offset int64, whence int) (int64, error) {
	c.Reset(c.next)
	return c.Reader.Seek(offset, whence)
}

// counting counts blocks, and knows the largest batch.
type counting struct {
	content.Blockstore

	put, most int
}

func (c *counting) PutMany(ctx context.Context, list []goblocks.Block) error {
	n := 0
	for _, b := range list {
		n += len(b.RawData())
	}
	c.put, c.most = c.put+len(list), max(c.most, n)
	return c.Blockstore.PutMany(ctx, list)
}

// keys lists what a block store holds.
func keys(t *testing.T, disk content.Blockstore) (out []cid.Cid) {
	t.Helper()
	all, err := disk.AllKeysChan(t.Context())
	require.NoError(t, err)
	for k := range all {
		out = append(out, k)
	}
	return out
}

// TestManyTinyBlocks imports a CAR file of 10,000 tiny blocks, or MMAN_CAR_BLOCKS, below
// one root. Beside a million it is refused one that has more, which takes seconds.
func TestManyTinyBlocks(t *testing.T) {
	t.Parallel()
	leaves := abcitest.Setting(t, "MMAN_CAR_BLOCKS", 10_000)
	path := filepath.Join(t.TempDir(), "tiny.car")
	root, total := tinyCAR(t, path, leaves)
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close() //nolint:errcheck // only read
	disk := &sizes{of: map[string]int{}}
	roots, err := content.ImportInto(t.Context(), f, unlimited, content.NewPublicStore(disk))
	require.NoError(t, err)
	require.Equal(t, []mman.CID{root}, roots)
	require.Len(t, disk.of, total)
	t.Logf("CAR: %d blocks of some bytes imported", total)

	if leaves < 1_000_000 {
		return
	}
	endless := &tiny{left: 1<<20 + 1}
	_, err = content.ImportInto(t.Context(), struct {
		io.Reader
		io.Seeker
	}{io.MultiReader(bytes.NewReader(carOf(root)), endless), f}, unlimited, content.NewPublicStore(disk))
	require.ErrorIs(t, err, mman.ErrTooLarge)
	require.Len(t, disk.of, total, "nothing of it is stored")
}

// sizes is a block store that remembers what it was given and not its bytes.
type sizes struct {
	content.Blockstore

	of map[string]int
}

func (s *sizes) PutMany(_ context.Context, list []goblocks.Block) error {
	for _, b := range list {
		s.of[string(b.Cid().Hash())] = len(b.RawData())
	}
	return nil
}

// tiny is so many sections of a CAR file, each a block of its own.
type tiny struct {
	left int
	buf  []byte
}

func (s *tiny) Read(p []byte) (int, error) {
	if len(s.buf) == 0 {
		if s.left == 0 {
			return 0, io.EOF
		}
		s.left--
		s.buf = section(content.NewBlock(mman.CodecRaw, strconv.AppendInt(nil, int64(s.left), 10)))
	}
	n := copy(p, s.buf)
	s.buf = s.buf[n:]
	return n, nil
}

func section(b content.Block) []byte {
	out := binary.AppendUvarint(nil, uint64(mman.CIDSize+len(b.Data())))
	return append(append(out, b.CID().Bytes()...), b.Data()...)
}

// tinyCAR writes a CAR file of so many leaves below folders of 1,000, and returns its
// root and how many blocks it has.
func tinyCAR(t *testing.T, path string, leaves int) (mman.CID, int) {
	t.Helper()
	var body bytes.Buffer
	total := 0
	top := merkledag.NodeWithData(unixfs.FolderPBData())
	add := func(in *merkledag.ProtoNode, b content.Block) {
		below, err := cid.Cast(b.CID().Bytes())
		require.NoError(t, err)
		require.NoError(t, in.AddRawLink(strconv.Itoa(total), &ipld.Link{Cid: below, Size: 1}))
		body.Write(section(b))
		total++
	}
	block := func(nd *merkledag.ProtoNode) content.Block {
		data, err := nd.EncodeProtobuf(true)
		require.NoError(t, err)
		return content.NewBlock(mman.CodecDagPB, data)
	}
	for leaves > 0 {
		nd := merkledag.NodeWithData(unixfs.FolderPBData())
		for range min(leaves, 1000) {
			add(nd, content.NewBlock(mman.CodecRaw, strconv.AppendInt(nil, int64(leaves), 10)))
			leaves--
		}
		add(top, block(nd))
	}
	root := block(top)
	body.Write(section(root))
	require.NoError(t, os.WriteFile(path, append(carOf(root.CID()), body.Bytes()...), 0o600))
	return root.CID(), total + 1
}

// TestAFullDiskIsGivenBack: of what fails because the disk is full, nothing stays, and
// what was there before does.
func TestAFullDiskIsGivenBack(t *testing.T) {
	t.Parallel()
	data := random(t, 40<<20)
	for name, add := range map[string]func(s *content.Service) error{
		"file": func(s *content.Service) error {
			_, _, err := s.AddPublic(t.Context(), bytes.NewReader(data))
			return err
		},
		"checkpoint": func(s *content.Service) error {
			_, _, err := s.AddCheckpoint(t.Context(), bytes.NewReader(data))
			return err
		},
		"folder": func(s *content.Service) error {
			_, err := s.AddPublicFolder(t.Context(), fstest.MapFS{"a": {Data: data[:20<<20]}, "b": {Data: data[20<<20:]}})
			return err
		},
		"CAR file": func(s *content.Service) error {
			var list []content.Block
			var roots []mman.CID
			for i := range 40 {
				list = append(list, content.NewBlock(mman.CodecRaw, data[i<<20:(i+1)<<20]))
				roots = append(roots, list[i].CID())
			}
			_, err := s.ImportCAR(t.Context(), bytes.NewReader(carWith(roots, list...)), unlimited)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := &roomy{Blockstore: content.Memory(), room: 20 << 20}
			s, err := content.New(t.Context(), p2ptest.Start(t, 0), content.NewPublicStore(disk), nil, config())
			require.NoError(t, err)
			p2ptest.Closing(t, s)
			before, _, err := s.AddPublic(t.Context(), bytes.NewReader(data[:1<<20])) // a leaf of the file too
			require.NoError(t, err)
			require.ErrorIs(t, add(s), mman.ErrDiskFull)
			left := keys(t, disk)
			require.Len(t, left, 1)
			require.Equal(t, before.Digest(), mman.Hash(left[0].Hash()[2:]))
			disk.room = 1 << 30
			require.NoError(t, add(s))
		})
	}
}

// TestTwoAddTheSame: what another one added meanwhile is not deleted when one fails.
func TestTwoAddTheSame(t *testing.T) {
	t.Parallel()
	a, _ := pair(t, config())
	data := random(t, 24<<20)
	fails := &meanwhile{r: bytes.NewReader(data), at: 16 << 20, do: func() {
		_, _, err := a.AddPublic(t.Context(), bytes.NewReader(data))
		require.NoError(t, err)
	}}
	_, _, err := a.AddPublic(t.Context(), fails)
	require.ErrorContains(t, err, "unplugged")
	root, _, err := content.SumUnixFS(t.Context(), bytes.NewReader(data))
	require.NoError(t, err)
	f, err := content.OpenFrom(t.Context(), a.store, root, unlimited)
	require.NoError(t, err)
	got, err := io.ReadAll(f)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
	require.NoError(t, f.Close())
}

// meanwhile reads so many bytes, does something, and fails.
type meanwhile struct {
	r  io.Reader
	at int
	do func()
}

func (m *meanwhile) Read(p []byte) (int, error) {
	if m.at <= 0 {
		m.do()
		return 0, errors.New("unplugged")
	}
	n, err := m.r.Read(p[:min(len(p), m.at)])
	m.at -= n
	return n, err
}

// roomy is a disk with room for so many bytes more.
type roomy struct {
	content.Blockstore

	mu   sync.Mutex
	room int
}

func (r *roomy) PutMany(ctx context.Context, list []goblocks.Block) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range list {
		r.room -= len(b.RawData())
	}
	if r.room < 0 {
		return syscall.ENOSPC
	}
	return r.Blockstore.PutMany(ctx, list)
}

// FuzzImportCAR: whatever the file, an import ends in a coded error and stores nothing
// that is not below the roots, or all below the roots is there and comes out again.
func FuzzImportCAR(f *testing.F) {
	leaf := content.NewBlock(mman.CodecRaw, []byte("a leaf"))
	f.Add([]byte{})
	f.Add(carOf(leaf.CID(), leaf))
	f.Add(carWith([]mman.CID{leaf.CID(), mman.SumCID(mman.CodecDagPB, nil)}, leaf, leaf))
	for i, nodes := 0, chain(f, 4, 3); i < len(nodes); i++ {
		f.Add(carOf(nodes[0].CID(), nodes[i:]...))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		disk := content.Memory()
		store := content.NewPublicStore(disk)
		roots, err := content.ImportInto(t.Context(), bytes.NewReader(file), 1<<20, store)
		if err != nil {
			var coded *mman.Error
			require.ErrorAs(t, err, &coded)
			require.NotEqual(t, mman.ErrInternal.Code, coded.Code, err)
			require.Empty(t, keys(t, disk), "what is refused is refused before anything is stored")
			return
		}
		require.NotEmpty(t, roots)
		again, err := content.ImportInto(t.Context(), bytes.NewReader(carWith(roots)), 1<<20, store)
		require.NoError(t, err, "all below the roots is here")
		require.Equal(t, roots, again)
	})
}

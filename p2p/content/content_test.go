package content_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/boxo/blockservice"
	chunk "github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/discovery"
	"github.com/limboid/massive-man/p2p/p2ptest"
)

const unlimited = 1 << 40

func config() content.Config {
	cfg := content.Default()
	cfg.After = time.After
	return cfg
}

type node struct {
	host  *p2p.Host
	store *content.PublicStore
	*content.Service
}

func serve(t *testing.T, h *p2p.Host, finder content.Finder, cfg content.Config) node {
	t.Helper()
	store := content.NewPublicStore(content.Memory())
	s, err := content.New(t.Context(), h, store, finder, cfg)
	require.NoError(t, err)
	p2ptest.Closing(t, s)
	return node{h, store, s}
}

// pair returns two connected nodes.
func pair(t *testing.T, cfg content.Config) (a, b node) {
	t.Helper()
	hosts := p2ptest.New(t, 2)
	a, b = serve(t, hosts[0], nil, cfg), serve(t, hosts[1], nil, cfg)
	p2ptest.Connect(t, hosts[0], hosts[1])
	return a, b
}

func random(t *testing.T, n int) []byte {
	t.Helper()
	out := make([]byte, n)
	_, err := rand.Read(out)
	require.NoError(t, err)
	return out
}

// reference builds the DAG with boxo's importer.
func reference(t *testing.T, data []byte) string {
	t.Helper()
	dag := merkledag.NewDAGService(blockservice.New(content.Memory(), nil))
	params := helpers.DagBuilderParams{Maxlinks: content.MaxLinks, RawLeaves: true, CidBuilder: cid.V1Builder{Codec: cid.DagProtobuf, MhType: 0x12}, Dagserv: dag}
	b, err := params.New(chunk.NewSizeSplitter(bytes.NewReader(data), content.ChunkSize))
	require.NoError(t, err)
	root, err := balanced.Layout(b)
	require.NoError(t, err)
	return root.Cid().String()
}

func TestShapeOfAFile(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 1000, 64 << 10, 64<<10 + 1, content.ChunkSize - 1, content.ChunkSize, content.ChunkSize + 1, 5*content.ChunkSize + 17} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			data := random(t, n)
			c, size, err := content.SumUnixFS(t.Context(), bytes.NewReader(data))
			require.NoError(t, err)
			require.Equal(t, uint64(n), size)
			require.Equal(t, reference(t, data), c.String())

			store := content.NewPrivateStore(content.Memory())
			same, size, err := content.AddTo(t.Context(), store, bytes.NewReader(data))
			require.NoError(t, err)
			require.Equal(t, c, same)
			require.Equal(t, uint64(n), size)
			f, err := content.OpenFrom(t.Context(), store, c, uint64(n))
			require.NoError(t, err)
			require.Equal(t, uint64(n), f.Size())
			got, err := io.ReadAll(f)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, got))
			if n > 10 {
				at, err := f.Seek(int64(n-10), io.SeekStart)
				require.NoError(t, err)
				require.Equal(t, int64(n-10), at)
				got, err = io.ReadAll(f)
				require.NoError(t, err)
				require.Equal(t, data[n-10:], got)
				_, err = f.Seek(1, io.SeekEnd)
				require.ErrorIs(t, err, mman.ErrInvalid)
			}
			require.NoError(t, f.Close())
			require.NoError(t, f.Close())
		})
	}
}

// zeros is a file too large to hold.
type zeros struct{ left int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), z.left))
	clear(p[:n])
	z.left -= int64(n)
	return n, nil
}

// TestShapeAcrossLevels checks a DAG with two levels of nodes.
func TestShapeAcrossLevels(t *testing.T) {
	t.Parallel()
	const size = (content.MaxLinks + 1) * content.ChunkSize
	c, n, err := content.SumUnixFS(t.Context(), &zeros{size})
	require.NoError(t, err)
	require.Equal(t, uint64(size), n)
	dag := merkledag.NewDAGService(blockservice.New(content.Memory(), nil))
	params := helpers.DagBuilderParams{Maxlinks: content.MaxLinks, RawLeaves: true, CidBuilder: cid.V1Builder{Codec: cid.DagProtobuf, MhType: 0x12}, Dagserv: dag}
	b, err := params.New(chunk.NewSizeSplitter(&zeros{size}, content.ChunkSize))
	require.NoError(t, err)
	root, err := balanced.Layout(b)
	require.NoError(t, err)
	require.Equal(t, root.Cid().String(), c.String())
}

func TestFetchFromANodeNeverMet(t *testing.T) {
	t.Parallel()
	hosts := make([]*p2p.Host, 3)
	nodes := make([]node, 3)
	found := make([]*discovery.Discovery, 3)
	dcfg := discovery.Default()
	dcfg.After = time.After
	for i := range hosts {
		hosts[i] = p2ptest.Start(t, i, func(i int, cfg *p2p.Config) {
			if i > 0 {
				cfg.Bootstrap = hosts[0].Addrs()
			}
		})
		d, err := discovery.New(hosts[i], dcfg)
		require.NoError(t, err)
		p2ptest.Closing(t, d)
		found[i] = d
		nodes[i] = serve(t, hosts[i], d, config())
		require.NoError(t, d.Bootstrap(t.Context()))
	}
	for _, d := range found {
		require.NoError(t, d.WaitReady(t.Context()))
	}
	data := random(t, 3<<20+5)
	c, _, err := nodes[1].AddPublic(t.Context(), bytes.NewReader(data))
	require.NoError(t, err)
	require.NoError(t, found[1].Provide(t.Context(), c))
	f, err := nodes[2].Open(t.Context(), c, unlimited)
	require.NoError(t, err)
	got, err := io.ReadAll(f)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
	require.NoError(t, f.Close())
	has, err := nodes[2].store.Has(t.Context(), c)
	require.NoError(t, err)
	require.True(t, has)
}

func TestEmptyFile(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config())
	c, _, err := a.AddPublic(t.Context(), bytes.NewReader(nil))
	require.NoError(t, err)
	f, err := b.Open(t.Context(), c, 0)
	require.NoError(t, err)
	require.Zero(t, f.Size())
	got, err := io.ReadAll(f)
	require.NoError(t, err)
	require.Empty(t, got)
	require.NoError(t, f.Close())
}

func TestManifests(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config())
	c, err := a.PutBlock(t.Context(), []byte{0xa0})
	require.NoError(t, err)
	require.Equal(t, mman.CodecDagCBOR, c.Codec())
	got, err := b.GetBlock(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, []byte{0xa0}, got)
	_, err = a.PutBlock(t.Context(), make([]byte, content.MaxManifest+1))
	require.ErrorIs(t, err, mman.ErrTooLarge)
	big, _, err := a.AddPublic(t.Context(), bytes.NewReader(make([]byte, content.MaxManifest+1)))
	require.NoError(t, err)
	_, err = b.GetBlock(t.Context(), big)
	require.ErrorIs(t, err, mman.ErrTooLarge)
}

func TestFetchSaysWhy(t *testing.T) {
	t.Parallel()
	short := config()
	short.BlockTimeout = 300 * time.Millisecond
	_, b := pair(t, short)
	t.Run("nobody has it", func(t *testing.T) {
		t.Parallel()
		_, err := b.Fetch(t.Context(), mman.SumCID(mman.CodecRaw, []byte("nowhere")), unlimited)
		require.ErrorIs(t, err, mman.ErrNotFound)
	})
	t.Run("caller gives up", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := b.Fetch(ctx, mman.SumCID(mman.CodecRaw, []byte("nowhere either")), unlimited)
		require.ErrorIs(t, err, mman.ErrCanceled)
	})
	t.Run("too large", func(t *testing.T) {
		t.Parallel()
		a, b := pair(t, config()) // who have time
		c, size, err := a.AddPublic(t.Context(), bytes.NewReader(random(t, 5<<20)))
		require.NoError(t, err)
		_, err = b.Fetch(t.Context(), c, size-1)
		require.ErrorIs(t, err, mman.ErrTooLarge)
		got, err := b.Fetch(t.Context(), c, size)
		require.NoError(t, err)
		require.Equal(t, size, got)
		_, err = content.OpenFrom(t.Context(), b.store, c, size-1)
		require.ErrorIs(t, err, mman.ErrTooLarge)
	})
	t.Run("zero cid", func(t *testing.T) {
		t.Parallel()
		_, err := b.Fetch(t.Context(), mman.CID{}, unlimited)
		require.ErrorIs(t, err, mman.ErrInvalid)
	})
}

// fileNode makes a UnixFS node that may lie.
func fileNode(t *testing.T, children []content.Block, sizes []uint64, extra uint64) content.Block {
	t.Helper()
	meta := unixfs.NewFSNode(unixfs.TFile)
	nd := new(merkledag.ProtoNode)
	require.NoError(t, nd.SetCidBuilder(cid.V1Builder{Codec: cid.DagProtobuf, MhType: 0x12}))
	for i, b := range children {
		c, err := cid.Cast(b.CID().Bytes())
		require.NoError(t, err)
		meta.AddBlockSize(sizes[i])
		require.NoError(t, nd.AddRawLink("", &ipld.Link{Cid: c, Size: 1}))
	}
	meta.UpdateFilesize(int64(extra))
	raw, err := meta.GetBytes()
	require.NoError(t, err)
	nd.SetData(raw)
	data, err := nd.EncodeProtobuf(true)
	require.NoError(t, err)
	return content.NewBlock(mman.CodecDagPB, data)
}

func TestLyingFilesAreRefused(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config())
	leaf := content.NewBlock(mman.CodecRaw, []byte("0123456789"))
	empty := content.NewBlock(mman.CodecRaw, []byte{})
	deep := leaf
	chain := []content.Block{leaf}
	for range content.MaxDepth + 1 {
		deep = fileNode(t, []content.Block{deep}, []uint64{10}, 0)
		chain = append(chain, deep)
	}
	dir := content.NewBlock(mman.CodecDagPB, unixfs.EmptyDirNode().RawData())
	for name, tc := range map[string]struct {
		root content.Block
		with []content.Block
		want error
	}{
		"child is shorter":      {fileNode(t, []content.Block{leaf}, []uint64{11}, 0), []content.Block{leaf}, mman.ErrContent},
		"child is empty":        {fileNode(t, []content.Block{empty}, []uint64{0}, 0), []content.Block{empty}, mman.ErrContent},
		"sum is larger":         {fileNode(t, []content.Block{leaf}, []uint64{10}, 5), []content.Block{leaf}, mman.ErrContent},
		"two sizes for one":     {fileNode(t, []content.Block{leaf, leaf}, []uint64{10, 9}, 0), []content.Block{leaf}, mman.ErrContent},
		"sum overflows":         {fileNode(t, []content.Block{leaf, leaf}, []uint64{10, ^uint64(0)}, 0), []content.Block{leaf}, mman.ErrContent},
		"too deep":              {deep, chain, mman.ErrContent},
		"not dag-pb":            {content.NewBlock(mman.CodecDagPB, []byte("garbage")), nil, mman.ErrContent},
		"not unixfs":            {content.NewBlock(mman.CodecDagPB, merkledag.NodeWithData([]byte("x")).RawData()), nil, mman.ErrContent},
		"directory":             {dir, nil, mman.ErrUnsupported},
		"honest, the same leaf": {fileNode(t, []content.Block{leaf, leaf}, []uint64{10, 10}, 0), []content.Block{leaf}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, a.store.Put(t.Context(), append(tc.with, tc.root)))
			size, err := b.Fetch(t.Context(), tc.root.CID(), unlimited)
			if tc.want != nil {
				require.ErrorIs(t, err, tc.want)
				return
			}
			require.NoError(t, err)
			require.Equal(t, uint64(20), size)
		})
	}
}

func TestPrivateBlocksAreNotServed(t *testing.T) {
	t.Parallel()
	cfg := config()
	cfg.BlockTimeout = time.Minute
	a, b := pair(t, cfg)
	private := content.NewPrivateStore(content.Memory())
	secret, public := random(t, 1000), random(t, 1000)
	c := mman.SumCID(mman.CodecRaw, secret)

	// A want stands at a before the block is there.
	ctx, cancel := context.WithCancel(t.Context())
	fetched := make(chan error, 1)
	go func() {
		_, err := b.Fetch(ctx, c, unlimited)
		fetched <- err
	}()
	require.Eventually(t, func() bool { return a.Wants(b.host.ID(), c) }, 10*time.Second, 2*time.Millisecond)
	got, _, err := content.AddTo(t.Context(), private, bytes.NewReader(secret))
	require.NoError(t, err)
	require.Equal(t, c, got)

	// What is added to the public store after it arrives, in the same order.
	pub, _, err := a.AddPublic(t.Context(), bytes.NewReader(public))
	require.NoError(t, err)
	_, err = b.Fetch(t.Context(), pub, unlimited)
	require.NoError(t, err)
	select {
	case err := <-fetched:
		t.Fatalf("the private block came out: %v", err)
	default:
	}
	require.True(t, a.Wants(b.host.ID(), c), "the want must still stand")
	cancel()
	require.ErrorIs(t, <-fetched, mman.ErrCanceled)
	has, err := b.store.Has(t.Context(), c)
	require.NoError(t, err)
	require.False(t, has)
}

// faulty is a block store that damages and refuses.
type faulty struct {
	content.Blockstore
	damage bool
	fail   error
}

func (f *faulty) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	b, err := f.Blockstore.Get(ctx, c)
	if err != nil || !f.damage {
		return b, err
	}
	bad := bytes.Clone(b.RawData())
	bad[0] ^= 1
	return blocks.NewBlockWithCid(bad, c)
}

func (f *faulty) PutMany(ctx context.Context, list []blocks.Block) error {
	if f.fail != nil {
		return f.fail
	}
	return f.Blockstore.PutMany(ctx, list)
}

func TestFaultsOfTheDisk(t *testing.T) {
	t.Parallel()
	t.Run("damaged block", func(t *testing.T) {
		t.Parallel()
		disk := &faulty{Blockstore: content.Memory()}
		store := content.NewPrivateStore(disk)
		c, _, err := content.AddTo(t.Context(), store, bytes.NewReader(random(t, 2<<20)))
		require.NoError(t, err)
		disk.damage = true
		_, err = store.Get(t.Context(), c)
		require.ErrorIs(t, err, mman.ErrContent)
		_, err = content.OpenFrom(t.Context(), store, c, unlimited)
		require.ErrorIs(t, err, mman.ErrContent)
	})
	t.Run("damaged public block that nobody else has", func(t *testing.T) {
		t.Parallel()
		disk := &faulty{Blockstore: content.Memory()}
		cfg := config()
		cfg.BlockTimeout = 100 * time.Millisecond
		s, err := content.New(t.Context(), p2ptest.Start(t, 0), content.NewPublicStore(disk), nil, cfg)
		require.NoError(t, err)
		p2ptest.Closing(t, s)
		c, err := s.PutBlock(t.Context(), []byte{0xa0})
		require.NoError(t, err)
		disk.damage = true
		_, err = s.GetBlock(t.Context(), c)
		require.ErrorIs(t, err, mman.ErrContent)
	})
	t.Run("full disk", func(t *testing.T) {
		t.Parallel()
		disk := &faulty{Blockstore: content.Memory(), fail: fmt.Errorf("write: %w", syscall.ENOSPC)}
		_, _, err := content.AddTo(t.Context(), content.NewPrivateStore(disk), bytes.NewReader([]byte("x")))
		require.ErrorIs(t, err, mman.ErrDiskFull)
	})
	t.Run("missing block", func(t *testing.T) {
		t.Parallel()
		store := content.NewPrivateStore(content.Memory())
		c, _, err := content.AddTo(t.Context(), store, bytes.NewReader(random(t, 3<<20)))
		require.NoError(t, err)
		data, err := store.Get(t.Context(), c)
		require.NoError(t, err)
		root, err := content.ParseNode(data)
		require.NoError(t, err)
		require.Len(t, root.Children, 3)
		require.NoError(t, store.Delete(t.Context(), root.Children[2].CID))
		require.NoError(t, store.Delete(t.Context(), root.Children[2].CID))
		f, err := content.OpenFrom(t.Context(), store, c, unlimited)
		require.NoError(t, err)
		_, err = io.ReadAll(f)
		require.ErrorIs(t, err, mman.ErrNotFound)
		require.NoError(t, f.Close())
		_, err = store.Get(t.Context(), mman.SumCID(mman.CodecRaw, nil))
		require.ErrorIs(t, err, mman.ErrNotFound)
	})
	t.Run("reader that fails", func(t *testing.T) {
		t.Parallel()
		_, _, err := content.SumUnixFS(t.Context(), io.MultiReader(bytes.NewReader(make([]byte, 100)), broken{}))
		require.ErrorContains(t, err, "unplugged")
	})
	t.Run("block that is not one", func(t *testing.T) {
		t.Parallel()
		store := content.NewPrivateStore(content.Memory())
		a, err := content.CheckBlock(mman.SumCID(mman.CodecRaw, []byte("a")), []byte("a"))
		require.NoError(t, err)
		require.Equal(t, []byte("a"), a.Data())
		_, err = content.CheckBlock(a.CID(), []byte("b"))
		require.ErrorIs(t, err, mman.ErrContent)
		require.ErrorIs(t, store.Put(t.Context(), []content.Block{{}}), mman.ErrInvalid)
		big := content.NewBlock(mman.CodecRaw, make([]byte, content.MaxBlock+1))
		require.ErrorIs(t, store.Put(t.Context(), []content.Block{big}), mman.ErrTooLarge)
	})
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("unplugged") }

func TestValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, config().Validate())
	for _, change := range []func(*content.Config){
		func(c *content.Config) { c.After = nil },
		func(c *content.Config) { c.BlockTimeout = 0 },
		func(c *content.Config) { c.SearchDelay = 0 },
	} {
		cfg := config()
		change(&cfg)
		require.ErrorIs(t, cfg.Validate(), mman.ErrInvalid)
	}
}

func FuzzParseNode(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("garbage"))
	f.Add(unixfs.EmptyFileNode().RawData())
	f.Add(unixfs.EmptyDirNode().RawData())
	f.Fuzz(func(t *testing.T, data []byte) {
		node, err := content.ParseNode(content.NewBlock(mman.CodecDagPB, data))
		if err != nil {
			var coded *mman.Error
			require.ErrorAs(t, err, &coded)
			return
		}
		for _, c := range node.Children {
			require.Positive(t, c.Size)
			require.LessOrEqual(t, c.Size, node.Size)
		}
	})
}

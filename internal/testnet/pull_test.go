package testnet_test

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/testnet"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk"
)

// puller pulls into a folder, with a clock that goes so fast that all progress is told.
type puller struct {
	net *testnet.Net
	dir string
}

func (p puller) client(t *testing.T) *sdk.Client {
	t.Helper()
	var told atomic.Int64
	c, err := sdk.Connect(t.Context(), sdk.Config{
		Node: p.net.Validators[0].Running.RPC, Leases: filepath.Join(t.TempDir(), "leases"),
		Now:   func() time.Time { return time.Now().Add(time.Duration(told.Add(1)) * time.Second) },
		After: time.After,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// half begins a pull as another program would, and ends it when half of the file is
// there.
func (p puller) half(t *testing.T, id mman.CID, o sdk.PullOptions) {
	t.Helper()
	ctx, cut := context.WithCancel(t.Context())
	defer cut()
	o.Progress = func(at content.Progress) {
		if at.Total > 0 && at.Done >= at.Total/2 {
			cut()
		}
	}
	_, _, err := p.client(t).Pull(ctx, id, p.dir, o)
	require.ErrorIs(t, err, mman.ErrCanceled)
}

// whole pulls what is left, and returns how much of it was there at the first word of
// progress.
func (p puller) whole(t *testing.T, c *sdk.Client, id mman.CID, o sdk.PullOptions, want []byte) (v sdk.Version, first uint64) {
	t.Helper()
	var last content.Progress
	o.Progress = func(at content.Progress) {
		if last = at; first == 0 {
			first = at.Done
		}
	}
	f, v, err := c.Pull(t.Context(), id, p.dir, o)
	require.NoError(t, err)
	require.Equal(t, uint64(len(want)), last.Done)
	require.Equal(t, uint64(len(want)), last.Total)
	var got bytes.Buffer
	require.NoError(t, save(t, f, &got))
	require.True(t, bytes.Equal(want, got.Bytes()))
	require.NoError(t, f.Remove())
	left, err := os.ReadDir(p.dir)
	require.NoError(t, err)
	require.Empty(t, left)
	return v, first
}

func save(t *testing.T, f *sdk.Fetched, w io.Writer) error {
	t.Helper()
	return f.Save(t.Context(), func(string) error { return nil }, func(_ string, r io.Reader) error {
		_, err := io.Copy(w, r)
		return err
	})
}

// kept returns the files that a pull that was cut left behind, and their bytes.
func (p puller) kept(t *testing.T) (files []string, size uint64) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > 0 {
			files, size = append(files, path), size+uint64(info.Size())
		}
		return err
	}))
	return files, size
}

// TestPullGoesOn: a pull that was cut keeps what came, and the next one, which another
// program begins, moves the rest alone, also above a base.
func TestPullGoesOn(t *testing.T) {
	const size, slack = 24 << 20, 1 << 20
	net := testnet.New(t, 1, "farm")
	p := puller{net, filepath.Join(t.TempDir(), "fetching")}
	data := make([]byte, size)
	source := rand.NewChaCha8([32]byte{7})
	_, _ = source.Read(data) // it never fails
	publish := func(name string) mman.CID {
		t.Helper()
		farm, path := net.Providers[0].Provider, file(t, name, data)
		var id mman.CID
		testnet.Eventually(t, "others know of it", func() (bool, error) {
			out, err := farm.Publish(t.Context(), provider.Listing{
				Manifest: resources.Manifest{Version: 1, Kind: resources.KindDataset, Facet: resources.FacetCheckpoint, Name: name},
				Content:  path, Policy: policy.Policy{Default: policy.Allow}, Capacity: 1,
			})
			id = out.Resource
			return slices.ContainsFunc(farm.Published(), func(p provider.Published) bool { return p.Resource == id && !p.Provided.IsZero() }), err
		})
		return id
	}
	all := sdk.PullOptions{MaxBytes: 1 << 30}
	first := publish("first")
	p.half(t, first, all)
	_, came := p.kept(t)
	require.InDelta(t, size/2, came, slack)
	c := p.client(t)
	v, told := p.whole(t, c, first, all, data)
	require.InDelta(t, size+size/1000, v.Moved+came, slack/10, "nothing moved twice")
	require.GreaterOrEqual(t, told, came, "what was there counts")

	// A block of it is damaged: it is found out, and the next pull begins again.
	p.half(t, first, all)
	files, _ := p.kept(t)
	b, err := os.ReadFile(files[len(files)/2])
	require.NoError(t, err)
	b[0] ^= 1
	require.NoError(t, os.WriteFile(files[len(files)/2], b, 0o600))
	f, _, err := c.Pull(t.Context(), first, p.dir, all)
	if err == nil { // an inner node is read at once
		err = f.Leave(save(t, f, io.Discard))
	}
	require.ErrorIs(t, err, mman.ErrContent)
	require.NoDirExists(t, filepath.Join(p.dir, v.Content.String()))
	v, _ = p.whole(t, c, first, all, data)
	require.Greater(t, v.Moved, uint64(size))

	// The second version has another last third.
	above := sdk.PullOptions{MaxBytes: 1 << 30, Bases: []io.ReaderAt{bytes.NewReader(bytes.Clone(data[:size/2])), bytes.NewReader(bytes.Clone(data[size/2:]))}}
	_, _ = source.Read(data[2*size/3:]) // it never fails
	second := publish("second")
	p.half(t, second, above) // what the base has is more than half
	_, came = p.kept(t)
	require.Less(t, came, uint64(size/3))
	v, _ = p.whole(t, c, second, above, data)
	require.InDelta(t, size/3, v.Moved+came, slack)

	_, _, err = c.Pull(t.Context(), second, p.dir, sdk.PullOptions{MaxBytes: size - 1})
	require.ErrorIs(t, err, mman.ErrTooLarge)
}

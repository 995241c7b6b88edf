package library_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/node/library"
	"github.com/limboid/massive-man/node/store"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/p2ptest"
)

// told remembers what was announced, one by one and all together.
type told struct {
	mu                  sync.Mutex
	all, gone, together []mman.CID
	full                bool  // nothing can be reserved
	fail                error // of what is announced
	reserved            int
}

func (d *told) Reserve(n int) (func(), error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full {
		return nil, fmt.Errorf("%w: for %d more", mman.ErrCapacity, n)
	}
	d.reserved += n
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.reserved -= n
	}, nil
}

func (d *told) Provide(_ context.Context, c mman.CID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return d.fail
	}
	d.all = append(d.all, c)
	return nil
}

func (d *told) ProvideAll(_ context.Context, cids []mman.CID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.together = append(d.together, cids...)
	return nil
}

func (d *told) Withdraw(c mman.CID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone = append(d.gone, c)
}

func (d *told) Provided(mman.CID) time.Time { return time.Unix(1, 0) }

// shelf is a store on disk, and what opens its library as after a restart.
func shelf(t *testing.T, dir string, dht *told) (*content.Service, func() *library.Library) {
	t.Helper()
	db, err := store.Open(store.DefaultConfig(filepath.Join(dir, "db"), slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	p2ptest.Closing(t, db)
	cfg := content.Default()
	cfg.After = time.After
	service, err := content.New(t.Context(), p2ptest.Start(t, 0), content.NewPublicStore(db.Data().PublicBlocks()), nil, cfg)
	require.NoError(t, err)
	p2ptest.Closing(t, service)
	return service, func() *library.Library {
		return library.New(service, dht, db.Data().Namespace(store.NamespacePins), time.Now)
	}
}

func TestLibrary(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	dht := &told{}
	service, open := shelf(t, dir, dht)
	l := open()
	name := strings.Repeat("ü", 100)
	file := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(file, bytes.Repeat([]byte{1}, 3<<20), 0o600))
	var last content.Progress
	item, err := l.Add(t.Context(), file, func(p content.Progress) { last = p })
	require.NoError(t, err)
	require.Equal(t, name, item.Name)
	require.Equal(t, uint64(3<<20), last.Done)
	require.Equal(t, uint64(3<<20), last.Total)
	require.Equal(t, []mman.CID{item.Root}, dht.all)

	car := filepath.Join(dir, "x.car")
	var out bytes.Buffer
	require.NoError(t, service.ExportCAR(t.Context(), item.Root, 1<<30, &out))
	require.NoError(t, os.WriteFile(car, out.Bytes()[:out.Len()-1], 0o600))
	_, err = l.Import(t.Context(), car, nil)
	require.ErrorIs(t, err, mman.ErrContent)
	_, err = l.Import(t.Context(), dir, nil)
	require.ErrorIs(t, err, mman.ErrUnsupported)
	_, err = l.Import(t.Context(), filepath.Join(dir, "none"), nil)
	require.ErrorIs(t, err, mman.ErrNotFound)
	link := filepath.Join(dir, "folder", "link")
	require.NoError(t, os.Mkdir(filepath.Dir(link), 0o700))
	require.NoError(t, os.Symlink(file, link))
	_, err = l.Add(t.Context(), filepath.Dir(link), nil)
	require.ErrorIs(t, err, mman.ErrUnsupported)
	_, err = l.Add(t.Context(), filepath.Join(dir, strings.Repeat("x", 300)), nil)
	require.ErrorIs(t, err, mman.ErrInvalid)

	// After a restart.
	l = open()
	items, err := l.Items()
	require.NoError(t, err)
	item.Provided = time.Unix(1, 0)
	require.Equal(t, []library.Item{item}, items, "what failed is not listed")
	require.NoError(t, l.Announce(t.Context()))
	require.Equal(t, []mman.CID{item.Root}, dht.all)
	require.Equal(t, []mman.CID{item.Root}, dht.together)
	require.Zero(t, dht.reserved)
}

// TestFull: what cannot be announced any more is not stored either.
func TestFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	dht := &told{full: true}
	service, open := shelf(t, dir, dht)
	l := open()
	file, car := filepath.Join(dir, "file"), filepath.Join(dir, "x.car")
	data := bytes.Repeat([]byte{7}, 3<<20)
	require.NoError(t, os.WriteFile(file, data, 0o600))
	root, _, err := content.SumUnixFS(t.Context(), bytes.NewReader(data))
	require.NoError(t, err)
	stored := func() bool {
		has, err := service.Public().Has(t.Context(), root)
		require.NoError(t, err)
		return has
	}
	listed := func() int { return len(must(l.Items())) }

	_, err = l.Add(t.Context(), file, func(content.Progress) { t.Error("it was read") })
	require.ErrorIs(t, err, mman.ErrCapacity)
	require.ErrorContains(t, err, "mman rm")
	require.False(t, stored())

	// Somebody else took the room meanwhile.
	dht.full, dht.fail = false, fmt.Errorf("%w: full", mman.ErrCapacity)
	_, err = l.Add(t.Context(), file, nil)
	require.ErrorIs(t, err, mman.ErrCapacity)
	require.Zero(t, listed())

	// Who could not be told is told later.
	dht.fail = fmt.Errorf("%w: nobody", mman.ErrUnreachable)
	_, err = l.Add(t.Context(), file, nil)
	require.ErrorIs(t, err, mman.ErrUnreachable)
	require.Equal(t, 1, listed())

	var out bytes.Buffer
	require.NoError(t, service.ExportCAR(t.Context(), root, 1<<30, &out))
	require.NoError(t, os.WriteFile(car, out.Bytes(), 0o600))
	dht.fail = nil
	_, _, err = l.Remove(t.Context(), root, nil)
	require.NoError(t, err)
	require.False(t, stored())
	dht.full = true
	_, err = l.Import(t.Context(), car, nil)
	require.ErrorIs(t, err, mman.ErrCapacity)
	require.ErrorContains(t, err, "for 1 more")
	require.False(t, stored())
	require.Zero(t, listed())
	dht.full = false
	_, err = l.Import(t.Context(), car, nil)
	require.NoError(t, err)
	require.True(t, stored())
	require.Zero(t, dht.reserved)
}

// TestRemove: what was added is taken back, and what others need stays.
func TestRemove(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	dht := &told{}
	service, open := shelf(t, dir, dht)
	l := open()
	write := func(name string, b byte) string {
		path := filepath.Join(dir, "folder", name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		data := bytes.Repeat([]byte{b}, 3<<20)
		for i := range data {
			data[i] ^= byte(i >> 14)
		}
		require.NoError(t, os.WriteFile(path, data, 0o600))
		return path
	}
	add := func(path string) library.Item {
		item, err := l.Add(t.Context(), path, nil)
		require.NoError(t, err)
		return item
	}
	shared, lent, alone := write("shared", 1), write("lent", 2), write("alone", 3)
	folder, file := add(filepath.Join(dir, "folder")), add(shared)
	lentRoot, _, err := service.AddPublic(t.Context(), bytes.NewReader(must(os.ReadFile(lent))))
	require.NoError(t, err)
	whole := func(root mman.CID) bool {
		var out bytes.Buffer
		f, err := content.OpenFrom(t.Context(), service.Public(), root, 1<<30)
		if err == nil {
			_, err = out.ReadFrom(f)
		}
		return err == nil
	}

	got, freed, err := l.Remove(t.Context(), folder.Root, []mman.CID{lentRoot})
	require.NoError(t, err)
	require.Equal(t, folder.Name, got.Name)
	require.InDelta(t, 3<<20, freed, 4<<10, "one of three files, and the folder's own blocks")
	require.Equal(t, []mman.CID{folder.Root}, dht.gone)
	require.True(t, whole(file.Root), "another item")
	require.True(t, whole(lentRoot), "what is lent")
	aloneRoot, _, err := content.SumUnixFS(t.Context(), bytes.NewReader(must(os.ReadFile(alone))))
	require.NoError(t, err)
	require.False(t, whole(aloneRoot))
	has, err := service.Public().Has(t.Context(), folder.Root)
	require.NoError(t, err)
	require.False(t, has)
	items, err := l.Items()
	require.NoError(t, err)
	require.Len(t, items, 1)
	_, _, err = l.Remove(t.Context(), folder.Root, nil)
	require.ErrorIs(t, err, mman.ErrNotFound)

	// What is lent as well is announced still.
	_, freed, err = l.Remove(t.Context(), file.Root, []mman.CID{file.Root})
	require.NoError(t, err)
	require.Zero(t, freed)
	require.True(t, whole(file.Root))
	require.Len(t, dht.gone, 1)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

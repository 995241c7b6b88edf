package library_test

import (
	"bytes"
	"context"
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

// told remembers what was announced.
type told struct {
	mu  sync.Mutex
	all []mman.CID
}

func (d *told) Provide(_ context.Context, c mman.CID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, c)
	return nil
}

func (d *told) Provided(mman.CID) time.Time { return time.Unix(1, 0) }

func TestLibrary(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db, err := store.Open(store.DefaultConfig(filepath.Join(dir, "db"), slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	p2ptest.Closing(t, db)
	cfg := content.Default()
	cfg.After = time.After
	public := content.NewPublicStore(db.Data().PublicBlocks())
	service, err := content.New(t.Context(), p2ptest.Start(t, 0), public, nil, cfg)
	require.NoError(t, err)
	p2ptest.Closing(t, service)
	dht := &told{}
	open := func() *library.Library {
		return library.New(service, dht, db.Data().Namespace(store.NamespacePins), time.Now)
	}
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
	require.Equal(t, []mman.CID{item.Root, item.Root}, dht.all)
}

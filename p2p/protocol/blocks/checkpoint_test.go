package blocks_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"io"
	rnd "math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/content/chunk"
	"github.com/limboid/massive-man/p2p/p2ptest"
	"github.com/limboid/massive-man/p2p/protocol/blocks"
	"github.com/limboid/massive-man/sdk/spool"
)

const places = 20

// checkpointBytes is 64 MiB, or what MMAN_CHECKPOINT_BYTES says: .ci/long takes 1 GiB.
func checkpointBytes(t *testing.T) int64 {
	t.Helper()
	word := os.Getenv("MMAN_CHECKPOINT_BYTES")
	if word == "" {
		return 64 << 20
	}
	n, err := strconv.ParseInt(word, 10, 64)
	require.NoError(t, err)
	return n
}

func tempFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() }) // may be closed already
	return f
}

func tempSpool(t *testing.T) *spool.Spool {
	t.Helper()
	s, err := spool.Open(t.TempDir(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// change writes size bytes into a file, and a second version of them: 1 KiB in front,
// and one percent changed in 20 places.
func change(t *testing.T, size int64) (before, after *os.File) {
	t.Helper()
	before, after = tempFile(t), tempFile(t)
	_, err := io.CopyN(before, rnd.NewChaCha8([32]byte{1}), size)
	require.NoError(t, err)
	_, err = before.Seek(0, io.SeekStart)
	require.NoError(t, err)
	_, err = io.CopyN(after, rnd.NewChaCha8([32]byte{2}), 1<<10)
	require.NoError(t, err)
	_, err = io.Copy(after, before)
	require.NoError(t, err)
	other := rnd.NewChaCha8([32]byte{3})
	for i := range int64(places) {
		changed := make([]byte, size/100/places)
		_, _ = other.Read(changed) // it never fails
		_, err = after.WriteAt(changed, i*(size/places)+size/50)
		require.NoError(t, err)
	}
	for _, f := range []*os.File{before, after} {
		_, err = f.Seek(0, io.SeekStart)
		require.NoError(t, err)
	}
	return before, after
}

// vault is a holder's private store and what asks it.
type vault struct {
	store *content.PrivateStore
	desk  *desk
	key   ed25519.PrivateKey
}

func newVault(t *testing.T) *vault {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	store := content.NewPrivateStore(tempSpool(t))
	return &vault{store, &desk{lease: mman.LeaseID{1}, key: pub, grant: blocks.Grant{Store: store}}, key}
}

// A new version of a large file costs what changed: the old version is a plain file
// here, whose leaves are found by cutting it.
func TestCheckpointMovesWhatChanged(t *testing.T) {
	t.Parallel()
	size := checkpointBytes(t)
	before, after := change(t, size)
	v := newVault(t)
	root, n, err := content.AddCheckpointTo(t.Context(), v.store, after)
	require.NoError(t, err)
	require.Equal(t, uint64(size)+1<<10, n)

	hosts := p2ptest.New(t, 2)
	p2ptest.Connect(t, hosts[0], hosts[1])
	require.NoError(t, blocks.Serve(t.Context(), hosts[1], v.desk, config()))
	have, err := content.LeavesOf(t.Context(), before)
	require.NoError(t, err)
	into := content.NewPrivateStore(content.NewBased(tempSpool(t), before, have, nil))
	req, err := blocks.Request{Lease: v.desk.lease, Asker: hosts[0].ID(), Root: root}.Sign(p2ptest.NetworkID, v.key)
	require.NoError(t, err)
	got, err := blocks.Fetch(t.Context(), hosts[0], blocks.Job{Sources: []blocks.Source{{Peer: hosts[1].ID(), Request: req}}, Into: into, MaxBytes: unlimited}, config())
	require.NoError(t, err)

	// The bytes are those of the new version.
	f, err := content.OpenFrom(t.Context(), into, root, unlimited)
	require.NoError(t, err)
	again, _, err := content.AddCheckpointTo(t.Context(), content.NewPrivateStore(content.Memory()), f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.Equal(t, root, again)

	// Beside what changed, each place costs a chunk at either end and half a one until
	// the cuts agree again, on average over the places, and the inner nodes cost 60 bytes
	// for each chunk. The bytes are the same in each run, and so is what moves.
	t.Logf("%d of %d bytes moved: %.2f %%", got.Received, n, 100*float64(got.Received)/float64(n))
	require.Less(t, got.Received, uint64(size/100+(places+1)*5*chunk.Average/2+60*size/chunk.Average))
	if size >= 1<<30 {
		require.Less(t, got.Received, n*3/100)
	}
}

package abci_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"

	"github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/state"
)

// archived is a chain of many accounts at the end of its first epoch, and its
// archive.
func archived(t *testing.T) (*abcitest.Chain, *types.Snapshot, [][]byte) {
	t.Helper()
	actors := make([]abcitest.Actor, 12_000) // more than one chunk
	for i := range actors {
		actors[i] = abcitest.NewActor(t, fmt.Sprintf("actor %d", i))
	}
	c := abcitest.New(t, abcitest.Genesis(t, 1000*mman.MAN, actors...))
	c.Pass(c.Doc.Params.EpochBlocks)
	list, err := c.App.ListSnapshots(t.Context(), &types.RequestListSnapshots{})
	require.NoError(t, err)
	require.Len(t, list.Snapshots, 1)
	s := list.Snapshots[0]
	require.Greater(t, s.Chunks, uint32(1))
	var chunks [][]byte
	for i := range s.Chunks {
		answer, err := c.App.LoadSnapshotChunk(t.Context(), &types.RequestLoadSnapshotChunk{Height: s.Height, Format: s.Format, Chunk: i})
		require.NoError(t, err)
		require.NotEmpty(t, answer.Chunk)
		require.LessOrEqual(t, len(answer.Chunk), 1<<20)
		chunks = append(chunks, answer.Chunk)
	}
	return c, s, chunks
}

func TestArchiveRefusals(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c, good, chunks := archived(t)
	for name, req := range map[string]*types.RequestLoadSnapshotChunk{
		"no such height": {Height: good.Height + 1, Format: good.Format},
		"no such format": {Height: good.Height, Format: good.Format + 1},
		"no such chunk":  {Height: good.Height, Format: good.Format, Chunk: good.Chunks},
	} {
		answer, err := c.App.LoadSnapshotChunk(ctx, req)
		require.NoError(t, err, name)
		require.Empty(t, answer.Chunk, name)
	}
	fresh := func() *abci.Application {
		app, err := abci.New(abci.Config{DB: state.NewMemory()})
		require.NoError(t, err)
		return app
	}
	offer := func(app *abci.Application, s *types.Snapshot, root []byte) types.ResponseOfferSnapshot_Result {
		answer, err := app.OfferSnapshot(ctx, &types.RequestOfferSnapshot{Snapshot: s, AppHash: root})
		require.NoError(t, err)
		return answer.Result
	}
	apply := func(app *abci.Application, i int, chunk []byte) types.ResponseApplySnapshotChunk_Result {
		answer, err := app.ApplySnapshotChunk(ctx, &types.RequestApplySnapshotChunk{Index: uint32(i), Chunk: chunk, Sender: "liar"})
		require.NoError(t, err)
		if answer.Result == types.ResponseApplySnapshotChunk_RETRY {
			require.Equal(t, []string{"liar"}, answer.RejectSenders)
			require.Equal(t, []uint32{uint32(i)}, answer.RefetchChunks)
		}
		return answer.Result
	}
	changed := func(change func(*types.Snapshot)) *types.Snapshot {
		s := *good
		change(&s)
		return &s
	}
	for name, one := range map[string]struct {
		s    *types.Snapshot
		want types.ResponseOfferSnapshot_Result
	}{
		"nothing":        {nil, types.ResponseOfferSnapshot_REJECT},
		"another format": {changed(func(s *types.Snapshot) { s.Format++ }), types.ResponseOfferSnapshot_REJECT_FORMAT},
		"another height": {changed(func(s *types.Snapshot) { s.Height++ }), types.ResponseOfferSnapshot_REJECT_SENDER},
		"no height":      {changed(func(s *types.Snapshot) { s.Height = 0 }), types.ResponseOfferSnapshot_REJECT_SENDER},
		"no chunks":      {changed(func(s *types.Snapshot) { s.Chunks, s.Metadata = 0, nil }), types.ResponseOfferSnapshot_REJECT_SENDER},
		"too few hashes": {changed(func(s *types.Snapshot) { s.Chunks = 1 << 12 }), types.ResponseOfferSnapshot_REJECT_SENDER},
		"other hashes":   {changed(func(s *types.Snapshot) { s.Metadata = bytes.Repeat([]byte{1}, len(s.Metadata)) }), types.ResponseOfferSnapshot_REJECT_SENDER},
	} {
		require.Equal(t, one.want, offer(fresh(), one.s, c.Root()), name)
	}
	require.Equal(t, types.ResponseOfferSnapshot_REJECT, offer(fresh(), good, nil), "no root")
	require.Equal(t, types.ResponseOfferSnapshot_ABORT, offer(c.App, good, c.Root()), "a chain is here")
	require.Equal(t, types.ResponseApplySnapshotChunk_ABORT, apply(fresh(), 0, chunks[0]), "nothing was offered")

	app := fresh()
	require.Equal(t, types.ResponseOfferSnapshot_ACCEPT, offer(app, good, bytes.Repeat([]byte{7}, 32)))
	require.Equal(t, types.ResponseApplySnapshotChunk_ABORT, apply(app, 1, chunks[1]), "out of turn")
	require.Equal(t, types.ResponseApplySnapshotChunk_RETRY, apply(app, 0, append(bytes.Clone(chunks[0]), 0)), "a changed chunk")
	for i, chunk := range chunks[:len(chunks)-1] {
		require.Equal(t, types.ResponseApplySnapshotChunk_ACCEPT, apply(app, i, chunk))
	}
	last := len(chunks) - 1
	require.Equal(t, types.ResponseApplySnapshotChunk_REJECT_SNAPSHOT, apply(app, last, chunks[last]), "another root")
	info, err := app.Info(ctx, &types.RequestInfo{})
	require.NoError(t, err)
	require.Zero(t, info.LastBlockHeight, "nothing of it is left")

	require.Equal(t, types.ResponseOfferSnapshot_ACCEPT, offer(app, good, c.Root()), "the right one is taken after a wrong one")
	for i, chunk := range chunks {
		require.Equal(t, types.ResponseApplySnapshotChunk_ACCEPT, apply(app, i, chunk))
	}
	require.NoError(t, app.Invariants())
}

// TestTooManyChunks: of a state that is in order but for its size one chunk more than
// the limit is too many, and the log says so.
func TestTooManyChunks(t *testing.T) {
	t.Parallel()
	const most = 8 << 10
	for chunks, want := range map[uint32]types.ResponseOfferSnapshot_Result{
		most:     types.ResponseOfferSnapshot_ACCEPT,
		most + 1: types.ResponseOfferSnapshot_REJECT_SENDER,
		1 << 31:  types.ResponseOfferSnapshot_REJECT_SENDER, // whose hashes nobody could send
	} {
		var said bytes.Buffer
		app, err := abci.New(abci.Config{DB: state.NewMemory(), Log: slog.New(slog.NewTextHandler(&said, nil))})
		require.NoError(t, err)
		metadata := make([]byte, min(chunks, most+1)*32)
		hash := mman.Sum256([]byte("mman/archive/1"), []byte{0}, state.Uint64Key(9), metadata)
		answer, err := app.OfferSnapshot(t.Context(), &types.RequestOfferSnapshot{
			AppHash: make([]byte, 32), Snapshot: &types.Snapshot{Height: 9, Format: 1, Chunks: chunks, Hash: hash[:], Metadata: metadata},
		})
		require.NoError(t, err)
		require.Equal(t, want, answer.Result, chunks)
		if chunks > most {
			require.Contains(t, said.String(), fmt.Sprintf("too large: the offered state of height 9 in %d chunks, at most %d are fetched", chunks, most))
		} else {
			require.Empty(t, said.String())
		}
	}
}

// TestForgedArchive: chunks whose hashes fit but that hold no state.
func TestForgedArchive(t *testing.T) {
	t.Parallel()
	for name, chunk := range map[string][]byte{
		"empty":           {},
		"half a length":   {0x80},
		"cut off":         {5, 'a'},
		"no value":        {3, 'a', '/', 'b'},
		"empty value":     {3, 'a', '/', 'b', 0},
		"no store":        {1, 'b', 1, 1},
		"descending":      {3, 'a', '/', 'b', 1, 1, 3, 'a', '/', 'a', 1, 1},
		"immense length":  {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"larger than one": bytes.Repeat([]byte{1}, 1<<20+1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app, err := abci.New(abci.Config{DB: state.NewMemory()})
			require.NoError(t, err)
			sum := mman.Sum256(chunk)
			hash := mman.Sum256([]byte("mman/archive/1"), []byte{0}, state.Uint64Key(9), sum[:])
			offered, err := app.OfferSnapshot(t.Context(), &types.RequestOfferSnapshot{
				AppHash: make([]byte, 32), Snapshot: &types.Snapshot{Height: 9, Format: 1, Chunks: 1, Hash: hash[:], Metadata: sum[:]},
			})
			require.NoError(t, err)
			require.Equal(t, types.ResponseOfferSnapshot_ACCEPT, offered.Result)
			applied, err := app.ApplySnapshotChunk(t.Context(), &types.RequestApplySnapshotChunk{Chunk: chunk})
			require.NoError(t, err)
			require.Equal(t, types.ResponseApplySnapshotChunk_REJECT_SNAPSHOT, applied.Result)
		})
	}
}

// TestArchivesKept: who found an epoch's end has a minute to fetch it, however short
// epochs are; of long ones the last four are kept. Blocks here are a second apart.
func TestArchivesKept(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]struct {
		epoch, pass uint64
		kept        int
		oldest      uint64
	}{
		"short epochs": {epoch: 2, pass: 200, kept: 31, oldest: 140},
		"long epochs":  {epoch: 30, pass: 200, kept: 4, oldest: 90},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc := abcitest.Genesis(t, 1000*mman.MAN, abcitest.NewActor(t, "actor"))
			doc.Params.EpochBlocks = one.epoch
			c := abcitest.New(t, doc)
			c.Pass(one.pass)
			list, err := c.App.ListSnapshots(t.Context(), &types.RequestListSnapshots{})
			require.NoError(t, err)
			require.Len(t, list.Snapshots, one.kept)
			require.Equal(t, one.oldest, list.Snapshots[0].Height)
		})
	}
}

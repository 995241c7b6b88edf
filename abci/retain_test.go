package abci_test

import (
	"testing"
	"time"

	"github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/state"
)

// TestRetain checks which blocks may be forgotten: not before both ages of
// evidence are over, nor what is not on the disk for good, nor what is wanted.
func TestRetain(t *testing.T) {
	t.Parallel()
	doc := abcitest.Genesis(t, mman.MAN, abcitest.NewActor(t, "a"))
	doc.Params.EvidenceMaxBlocks, doc.Params.EvidenceMaxSeconds = 30, 50
	raw, err := doc.Encode()
	require.NoError(t, err)
	for _, tc := range []struct {
		name    string
		keep    uint64
		seconds int64 // between blocks
		flushed func(height uint64) uint64
		want    int64 // at height 200
	}{
		{"all are wanted", 0, 1, func(h uint64) uint64 { return h }, 0},
		{"nobody says what is flushed", 10, 1, nil, 0},
		{"the evidence's age in time", 10, 1, func(h uint64) uint64 { return h }, 149},
		{"the evidence's age in blocks", 10, 5, func(h uint64) uint64 { return h }, 170},
		{"what is flushed", 10, 1, func(uint64) uint64 { return 90 }, 60},
		{"nothing is flushed", 10, 1, func(uint64) uint64 { return 0 }, 0},
		{"what is wanted", 120, 1, func(h uint64) uint64 { return h }, 80},
		{"slow blocks", 10, 1000, func(h uint64) uint64 { return h }, 170},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			height := uint64(0)
			cfg := abci.Config{DB: state.NewMemory(), KeepBlocks: tc.keep}
			if tc.flushed != nil {
				cfg.Flushed = func() uint64 { return tc.flushed(height) }
			}
			app, err := abci.New(cfg)
			require.NoError(t, err)
			_, err = app.InitChain(t.Context(), &types.RequestInitChain{ChainId: chainID, InitialHeight: 1, AppStateBytes: raw})
			require.NoError(t, err)
			last := int64(0)
			for range 200 {
				height++
				h := int64(height)
				_, err := app.FinalizeBlock(t.Context(), &types.RequestFinalizeBlock{Height: h, Time: time.Unix(1_800_000_000+h*tc.seconds, 0), Hash: state.Uint64Key(height)})
				require.NoError(t, err)
				answer, err := app.Commit(t.Context(), &types.RequestCommit{})
				require.NoError(t, err)
				require.GreaterOrEqual(t, answer.RetainHeight, last, "it never goes back")
				require.LessOrEqual(t, answer.RetainHeight, max(0, h-30))
				last = answer.RetainHeight
			}
			require.Equal(t, tc.want, last)
		})
	}
}

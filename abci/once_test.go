package abci_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cometbft/cometbft/abci/types"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/tx"
)

// TestOnce: a node verifies each signature once, however often it sees the
// transaction, and executes each block once.
func TestOnce(t *testing.T) {
	t.Parallel()
	const senders = 20
	actors := make([]abcitest.Actor, senders)
	for i := range actors {
		actors[i] = abcitest.NewActor(t, "sender"+string(rune('a'+i)))
	}
	c := abcitest.New(t, abcitest.Genesis(t, 100*mman.MAN, actors...))
	c.Pass(1)
	transfers := func() (raws [][]byte) {
		for i, a := range actors {
			raws = append(raws, c.Sign(a, []tx.Msg{tx.MsgSend{From: a.Address, To: actors[(i+1)%senders].Address, Amount: 1}}))
		}
		return raws
	}
	verified, executed := c.App.Verifications(), c.App.Executions()
	require.Equal(t, uint64(1), executed, "proposed, processed and decided, and executed once")

	// Checked, checked again as after a block, proposed, processed, decided.
	raws := transfers()
	for _, typ := range []types.CheckTxType{types.CheckTxType_New, types.CheckTxType_Recheck} {
		for _, raw := range raws {
			_, err := c.App.CheckTx(t.Context(), &types.RequestCheckTx{Tx: raw, Type: typ})
			require.NoError(t, err)
		}
	}
	b := c.Force(raws...)
	for _, r := range b.Results {
		require.Zero(t, r.Code, r.Log)
	}
	require.Equal(t, verified+senders, c.App.Verifications())
	require.Equal(t, executed+1, c.App.Executions())

	b = c.Block(transfers()...)
	for _, r := range b.Results {
		require.Zero(t, r.Code, r.Log)
	}
	require.Equal(t, verified+2*senders, c.App.Verifications())
	require.Equal(t, executed+2, c.App.Executions())

	// A node that never saw them before verifies them in a batch, once.
	b = c.Force(transfers()...)
	for _, r := range b.Results {
		require.Zero(t, r.Code, r.Log)
	}
	require.Equal(t, verified+3*senders, c.App.Verifications())
	require.Equal(t, executed+3, c.App.Executions())

	// A proposal that loses is executed beside the one that wins, which is not
	// executed again.
	raws = transfers()
	lost, won := c.Request(), c.Request(raws...)
	for _, req := range []types.RequestFinalizeBlock{lost, won} {
		answer, err := c.App.ProcessProposal(t.Context(), abcitest.Proposal(req))
		require.NoError(t, err)
		require.True(t, answer.IsAccepted())
	}
	c.Force(raws...)
	require.Equal(t, executed+5, c.App.Executions())
	require.Equal(t, verified+4*senders, c.App.Verifications())
}

// TestOneBadSignature: in a block of transactions that nobody has seen, whose
// signatures are verified beside its execution, the one that does not verify is
// refused alone, and a proposal with it as a whole.
func TestOneBadSignature(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ senders, bad, wrong int }{
		{20, 7, 1},
		{20, 7, 2},
		{20, 0, 20},
		{600, 599, 1},
		{600, 0, 300}, // more than are verified together
	} {
		actors := make([]abcitest.Actor, tt.senders)
		for i := range actors {
			actors[i] = abcitest.NewActor(t, fmt.Sprintf("sender %d", i))
		}
		c := abcitest.New(t, abcitest.Genesis(t, 100*mman.MAN, actors...))
		c.Pass(1)
		var raws [][]byte
		for i, a := range actors {
			raw := c.Sign(a, []tx.Msg{tx.MsgSend{From: a.Address, To: actors[(i+1)%tt.senders].Address, Amount: 1}})
			if i >= tt.bad && i < tt.bad+tt.wrong {
				raw[len(raw)-1] ^= 1 // of the signature, which stands last
			}
			raws = append(raws, raw)
		}
		answer, err := c.App.ProcessProposal(t.Context(), abcitest.Proposal(c.Request(raws...)))
		require.NoError(t, err)
		require.False(t, answer.IsAccepted())

		c.App.DropCaches()
		executed := c.App.Executions()
		b := c.Force(raws...)
		for i, r := range b.Results {
			want := uint32(0)
			if i >= tt.bad && i < tt.bad+tt.wrong {
				want = uint32(mman.ErrBadSignature.Code)
			}
			require.Equal(t, want, r.Code, "%d of %d: %s", i, tt.senders, r.Log)
		}
		require.Positive(t, c.App.Executions()-executed)
		require.NoError(t, c.App.Invariants())
	}
}

// TestForeseen: what a node executes while its own proposal is on its way counts for
// that proposal alone. One that differs in anything that execution sees is executed
// by itself, with its own result.
func TestForeseen(t *testing.T) {
	t.Parallel()
	a, b := abcitest.NewActor(t, "a"), abcitest.NewActor(t, "b")
	for _, tt := range []struct {
		name   string
		same   bool
		change func(req *types.RequestFinalizeBlock)
	}{
		{"the same", true, func(*types.RequestFinalizeBlock) {}},
		{"another hash", true, func(req *types.RequestFinalizeBlock) { req.Hash = []byte("another") }},
		{"another time", false, func(req *types.RequestFinalizeBlock) { req.Time = req.Time.Add(time.Second) }},
		{"fewer transactions", false, func(req *types.RequestFinalizeBlock) { req.Txs = req.Txs[:1] }},
		{"another order", false, func(req *types.RequestFinalizeBlock) { req.Txs = [][]byte{req.Txs[1], req.Txs[0]} }},
		{"another proposer", false, func(req *types.RequestFinalizeBlock) { req.ProposerAddress = make([]byte, 20) }},
		{"another last commit", false, func(req *types.RequestFinalizeBlock) {
			votes := slices.Clone(req.DecidedLastCommit.Votes)
			votes[0].BlockIdFlag = cmtproto.BlockIDFlagAbsent
			req.DecidedLastCommit.Votes = votes
		}},
		{"evidence", false, func(req *types.RequestFinalizeBlock) {
			req.Misbehavior = []types.Misbehavior{{Type: types.MisbehaviorType_DUPLICATE_VOTE, Validator: req.DecidedLastCommit.Votes[0].Validator, Height: 1}}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := abcitest.New(t, abcitest.Genesis(t, 100*mman.MAN, a, b))
			c.Pass(2)
			pay := func(from, to abcitest.Actor) []byte {
				return c.Sign(from, []tx.Msg{tx.MsgSend{From: from.Address, To: to.Address, Amount: 1}})
			}
			req := c.Request(pay(a, b), pay(b, a))
			before := c.App.Executions()
			prepared, err := c.App.PrepareProposal(t.Context(), c.Preparation(req))
			require.NoError(t, err)
			require.Equal(t, req.Txs, prepared.Txs)
			tt.change(&req)
			answer, err := c.App.ProcessProposal(t.Context(), abcitest.Proposal(req))
			require.NoError(t, err)
			require.True(t, answer.IsAccepted())
			got, err := c.App.FinalizeBlock(t.Context(), &req)
			require.NoError(t, err)
			want := uint64(2)
			if tt.same {
				want = 1
			}
			require.Equal(t, want, c.App.Executions()-before)

			// A node that saw no proposal.
			c.App.DropCaches()
			again, err := c.App.FinalizeBlock(t.Context(), &req)
			require.NoError(t, err)
			require.Equal(t, again, got)
		})
	}
}

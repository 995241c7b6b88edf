package abci_test

import (
	"bytes"
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"github.com/cometbft/cometbft/abci/types"
	ics23 "github.com/cosmos/ics23/go"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
)

func send(from, to abcitest.Actor, amount mman.Amount) []tx.Msg {
	return []tx.Msg{tx.MsgSend{From: from.Address, To: to.Address, Amount: amount}}
}

// TestRefusedTransactions checks that each kind of bad transaction is refused by
// the mempool, and, when a proposer decides it anyway, changes nothing and gets
// a result with the same code.
func TestRefusedTransactions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	nobody := abcitest.NewActor(t, "nobody")
	f.Pass(5)
	good := f.Sign(f.cleo, send(f.cleo, f.dora.Actor, 5))
	f.Block(good)
	fresh := func(change ...func(*tx.Draft)) []byte {
		return abcitest.Unsent(f.Chain).Sign(f.cleo, send(f.cleo, f.dora.Actor, 5), change...)
	}
	forged := fresh()
	forged[len(forged)-1] ^= 1
	for _, tc := range []struct {
		name string
		raw  []byte
		want *mman.Error
		says string
	}{
		{"replayed", good, mman.ErrSequence, "expected 1, got 0"},
		{"from the future", fresh(func(d *tx.Draft) { d.Sequence += 5 }), mman.ErrSequence, "sequence"},
		{"of another chain", abcitest.Unsent(f.Chain).SignFor("mman-local-00000000", f.cleo, send(f.cleo, f.dora.Actor, 5)), mman.ErrBadSignature, chainID},
		{"with a forged signature", forged, mman.ErrBadSignature, "account number"},
		{"too cheap", fresh(func(d *tx.Draft) { d.Fee /= 2 }), mman.ErrFeeTooLow, "insufficient fees"},
		{"without a fee", fresh(func(d *tx.Draft) { d.Fee = 0 }), mman.ErrFeeTooLow, "insufficient fees"},
		{"with a fee that nobody has", fresh(func(d *tx.Draft) { d.Fee = 1001 * mman.MAN }), mman.ErrFunds, "the fee is"},
		{"with little gas", fresh(func(d *tx.Draft) { d.GasLimit = 1000 }), mman.ErrOutOfGas, "raise it"},
		{"with all the gas", fresh(func(d *tx.Draft) { d.GasLimit = 1 << 63 }), mman.ErrOutOfGas, "at most"},
		{"too late", fresh(func(d *tx.Draft) { d.TimeoutHeight = 3 }), mman.ErrTxExpired, "until height 3"},
		{"of an unknown account", abcitest.Unsent(f.Chain).Sign(nobody, send(nobody, f.cleo, 1)), mman.ErrFunds, "never received"},
		{"too large", bytes.Repeat([]byte{0xa}, 65<<10), mman.ErrTooLarge, "at most 65536"},
		{"of zeros", make([]byte, 100), mman.ErrTxDecode, "TxRaw"},
		{"of nothing", []byte{}, mman.ErrTxDecode, "TxRaw"},
		{"with a byte behind it", append(fresh(), 0), mman.ErrTxDecode, "TxRaw"},
	} {
		check, err := f.App.CheckTx(t.Context(), &types.RequestCheckTx{Tx: tc.raw})
		require.NoError(t, err)
		require.Equal(t, uint32(tc.want.Code), check.Code, "%s: %s", tc.name, check.Log)
		require.Contains(t, check.Log, tc.says, tc.name)
		require.Equal(t, "mman", check.Codespace)
		root := f.Root()
		forced := f.Force(tc.raw)
		require.Equal(t, uint32(tc.want.Code), forced.Results[0].Code, "%s: %s", tc.name, forced.Results[0].Log)
		require.Equal(t, root, forced.Root, "%s: it changes nothing", tc.name)
	}
}

func TestMessagesAreAtomic(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Pass(1)
	before, dora := f.Balance(f.cleo), f.Balance(f.dora.Actor)
	log := f.Fail(mman.ErrFunds, f.cleo, append(send(f.cleo, f.dora.Actor, 5), send(f.cleo, f.dora.Actor, 2000*mman.MAN)...)...)
	require.Contains(t, log, "message 1")
	require.Equal(t, dora, f.Balance(f.dora.Actor), "the first message is undone")
	paid := before - f.Balance(f.cleo)
	require.Positive(t, paid, "the fee stays")
	s := f.supply(t)
	require.Equal(t, paid, s.Burned+s.Pools, "a part is burned, the rest is the validators'")
	require.Equal(t, paid-paid/2, s.Burned)
	f.Do(f.cleo, send(f.cleo, f.dora.Actor, 5)...) // and the sequence is used up
}

func TestMempoolSequences(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var txs [][]byte
	for range 5 {
		txs = append(txs, f.Sign(f.cleo, send(f.cleo, f.dora.Actor, 5)))
	}
	b := f.Block(txs...)
	for i, r := range b.Results {
		require.NotNil(t, r, i)
		require.Zero(t, r.Code, r.Log)
	}
	// What is not in the block is checked again above it.
	late := f.Sign(f.cleo, send(f.cleo, f.dora.Actor, 5))
	check, err := f.App.CheckTx(t.Context(), &types.RequestCheckTx{Tx: late})
	require.NoError(t, err)
	require.Zero(t, check.Code, check.Log)
	f.Force()
	check, err = f.App.CheckTx(t.Context(), &types.RequestCheckTx{Tx: late, Type: types.CheckTxType_Recheck})
	require.NoError(t, err)
	require.Zero(t, check.Code, check.Log)
}

// TestProposalBounds checks that a proposal keeps to the block's bytes and gas.
func TestProposalBounds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Pass(1)
	var pool [][]byte
	size, half := int64(0), int64(0)
	for i := range 40 {
		pool = append(pool, f.Sign(f.cleo, send(f.cleo, f.dora.Actor, 5)))
		if size += int64(len(pool[i])) + 3; i == 19 {
			half = size
		}
	}
	prepare := func(room int64) int {
		answer, err := f.App.PrepareProposal(t.Context(), &types.RequestPrepareProposal{MaxTxBytes: room, Txs: pool, Height: 2})
		require.NoError(t, err)
		return len(answer.Txs)
	}
	require.Equal(t, 40, prepare(size))
	require.Equal(t, 39, prepare(size-1))
	require.Equal(t, 20, prepare(half))
	require.Zero(t, prepare(0))
	// Junk among them is left out, and what follows it in sequence as well.
	pool = append([][]byte{{1}, pool[1]}, pool...)
	require.Equal(t, 40, prepare(size))
	pool = pool[3:]
	require.Zero(t, prepare(size))

	// Twenty million gas each: six fill the block.
	g := newFixture(t)
	var heavy [][]byte
	for range 8 {
		heavy = append(heavy, g.Sign(g.cleo, send(g.cleo, g.dora.Actor, 5), func(d *tx.Draft) { d.GasLimit, d.Fee = 20_000_000, 2*mman.MAN }))
	}
	b := g.Block(heavy...)
	require.NotNil(t, b.Results[5])
	require.Nil(t, b.Results[6])
	h := newFixture(t)
	req := h.Request(heavy...)
	answer, err := h.App.ProcessProposal(t.Context(), abcitest.Proposal(req))
	require.NoError(t, err)
	require.False(t, answer.IsAccepted(), "a block of more gas is rejected")
	forced := h.Force(heavy...)
	require.Equal(t, uint32(mman.ErrOutOfGas.Code), forced.Results[6].Code)
}

// TestProposals checks what ProcessProposal rejects, that it is pure, and that
// deciding another block than the last proposed one works.
func TestProposals(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Pass(1)
	one, two := f.Sign(f.cleo, send(f.cleo, f.dora.Actor, 5)), f.Sign(f.dora.Actor, send(f.dora.Actor, f.cleo, 7))
	forged := bytes.Clone(one)
	forged[len(forged)-1] ^= 1
	process := func(height int64, txs ...[]byte) bool {
		req := f.Request(txs...)
		proposal := abcitest.Proposal(req)
		proposal.Height = height
		answer, err := f.App.ProcessProposal(t.Context(), proposal)
		require.NoError(t, err)
		return answer.IsAccepted()
	}
	require.True(t, process(2, one))
	require.True(t, process(2, one, two))
	require.True(t, process(2, two))
	require.False(t, process(2, []byte("junk")))
	require.False(t, process(2, forged))
	require.False(t, process(3, one))
	require.False(t, process(0, one))
	require.False(t, process(-1))
	f.Force(one, two)
	require.Equal(t, uint64(2), f.Height())
	f.Replay(nil)
}

func TestOtherMethods(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	_, err := f.App.InsertTx(ctx, &types.RequestInsertTx{})
	require.ErrorIs(t, err, mman.ErrUnsupported)
	_, err = f.App.ReapTxs(ctx, &types.RequestReapTxs{})
	require.ErrorIs(t, err, mman.ErrUnsupported)
	_, err = f.App.Commit(ctx, &types.RequestCommit{})
	require.Error(t, err)
	snapshots, err := f.App.ListSnapshots(ctx, &types.RequestListSnapshots{})
	require.NoError(t, err)
	require.Empty(t, snapshots.Snapshots)
	offered, err := f.App.OfferSnapshot(ctx, &types.RequestOfferSnapshot{})
	require.NoError(t, err)
	require.Equal(t, types.ResponseOfferSnapshot_REJECT, offered.Result)
	vote, err := f.App.VerifyVoteExtension(ctx, &types.RequestVerifyVoteExtension{VoteExtension: []byte{1}})
	require.NoError(t, err)
	require.False(t, vote.IsAccepted())
	vote, err = f.App.VerifyVoteExtension(ctx, &types.RequestVerifyVoteExtension{})
	require.NoError(t, err)
	require.True(t, vote.IsAccepted())
}

// TestOnlyCommitPersists: a block that is proposed and decided leaves the database as it
// was until it is committed.
func TestOnlyCommitPersists(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Pass(2)
	marker := func() state.Marker {
		m, err := f.DB().Marker(math.MaxUint64)
		require.NoError(t, err)
		return m
	}
	before := marker()
	require.Equal(t, f.Height(), before.Height)
	raw := f.Sign(f.cleo, send(f.cleo, f.dora.Actor, 5))
	req := f.Request(raw)
	answer, err := f.App.ProcessProposal(t.Context(), abcitest.Proposal(req))
	require.NoError(t, err)
	require.True(t, answer.IsAccepted())
	require.Equal(t, before, marker())
	decided, err := f.App.FinalizeBlock(t.Context(), &req)
	require.NoError(t, err)
	require.NotEqual(t, before.Root[:], decided.AppHash)
	require.Equal(t, before, marker())
	_, err = f.App.Commit(t.Context(), &types.RequestCommit{})
	require.NoError(t, err)
	after := marker()
	require.Equal(t, before.Height+1, after.Height)
	require.Equal(t, decided.AppHash, after.Root[:])
}

func TestInitChain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b, err := f.Doc.Encode()
	require.NoError(t, err)
	db := state.NewMemory()
	app, err := abci.New(abci.Config{DB: db})
	require.NoError(t, err)
	_, err = app.FinalizeBlock(t.Context(), &types.RequestFinalizeBlock{Height: 1})
	require.ErrorIs(t, err, mman.ErrBusy)
	check, err := app.CheckTx(t.Context(), &types.RequestCheckTx{Tx: []byte{1}})
	require.NoError(t, err)
	require.Equal(t, uint32(mman.ErrBusy.Code), check.Code)
	for _, req := range []types.RequestInitChain{
		{ChainId: "mman-local-11111111", InitialHeight: 1, AppStateBytes: b},
		{ChainId: chainID, InitialHeight: 2, AppStateBytes: b},
		{ChainId: chainID, InitialHeight: 1, AppStateBytes: []byte("{}")},
		{ChainId: chainID, InitialHeight: 1},
	} {
		_, err := app.InitChain(t.Context(), &req)
		require.ErrorIs(t, err, mman.ErrGenesis)
	}
	first, err := app.InitChain(t.Context(), &types.RequestInitChain{ChainId: chainID, InitialHeight: 1, AppStateBytes: b})
	require.NoError(t, err)
	require.Equal(t, int64(1<<20), first.ConsensusParams.Block.MaxBytes)
	marker, err := db.Marker(1 << 40)
	require.NoError(t, err)
	require.Zero(t, marker.Height, "InitChain persists nothing")
	again, err := app.InitChain(t.Context(), &types.RequestInitChain{ChainId: chainID, InitialHeight: 1, AppStateBytes: b})
	require.NoError(t, err)
	require.Equal(t, first.AppHash, again.AppHash)

	f.Restart() // before the first block
	f.Pass(1)
	require.Equal(t, first.AppHash, f.Root(), "a quiet first block has the root of the genesis")
	_, err = f.App.InitChain(t.Context(), &types.RequestInitChain{ChainId: chainID, InitialHeight: 1, AppStateBytes: b})
	require.ErrorIs(t, err, mman.ErrGenesis)
}

func TestProofs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Do(f.cleo, send(f.cleo, f.dora.Actor, 5)...)
	root := f.Root()
	f.Do(f.cleo, send(f.cleo, f.dora.Actor, 5)...)
	present := state.BankAccounts.Key(f.cleo.Address[:])
	nobody := abcitest.NewActor(t, "nobody").Address
	absent := state.BankAccounts.Key(nobody[:])
	for i, key := range [][]byte{present, absent, present, absent} {
		if i == 2 {
			f.Restart() // no block comes after it
		}
		answer, err := f.App.Query(t.Context(), &types.RequestQuery{Path: "/store/bank/key", Data: key, Prove: true})
		require.NoError(t, err)
		require.Zero(t, answer.Code, answer.Log)
		require.Equal(t, int64(1), answer.Height, "the root of the last height is in no header yet")
		require.Len(t, answer.ProofOps.Ops, 1)
		require.Equal(t, "ics23:smt", answer.ProofOps.Ops[0].Type)
		var proof ics23.CommitmentProof
		require.NoError(t, proof.Unmarshal(answer.ProofOps.Ops[0].Data))
		flat := append([]byte("bank/"), key...)
		if bytes.Equal(key, present) {
			require.True(t, ics23.VerifyMembership(ics23.SmtSpec, root, &proof, flat, answer.Value), hex.EncodeToString(flat))
			require.False(t, ics23.VerifyMembership(ics23.SmtSpec, root, &proof, flat, append(answer.Value, 1)))
		} else {
			require.Empty(t, answer.Value)
			require.True(t, ics23.VerifyNonMembership(ics23.SmtSpec, root, &proof, flat))
		}
	}
	for _, req := range []types.RequestQuery{
		{Path: "/store/bank/key", Data: present, Height: 99},
		{Path: "/store/bank/key", Data: present, Height: -1},
		{Path: "/store/bank/key"},
		{Path: "/store/BANK/key", Data: present},
		{Path: "/" + strings.Repeat("x", 5000)},
	} {
		answer, err := f.App.Query(t.Context(), &req)
		require.NoError(t, err)
		require.NotZero(t, answer.Code)
	}
}

func TestCommitHook(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var heights []uint64
	f.App.OnCommit(func(h uint64) {
		heights = append(heights, h)
		require.Equal(t, h, f.App.View().Height(), "the view is of the committed height")
	})
	f.Pass(3)
	require.Equal(t, []uint64{1, 2, 3}, heights)
	chain, err := f.App.View().Chain()
	require.NoError(t, err)
	require.Equal(t, chainID, chain.ID)
	params, err := f.App.View().Params()
	require.NoError(t, err)
	require.Equal(t, f.Doc.Params, params)
	require.Equal(t, hex.EncodeToString(f.Root()), f.App.View().Root().String())
}

// FuzzProcessProposal: whatever a proposer sends is accepted or rejected, never
// a panic, and an accepted block can be decided.
func FuzzProcessProposal(f *testing.F) {
	t := f
	cleo, dora := abcitest.NewActor(t, "cleo"), abcitest.NewActor(t, "dora")
	doc := abcitest.Genesis(t, 1000*mman.MAN, cleo, dora)
	seed := abcitest.New(t, doc)
	f.Add(seed.Sign(cleo, send(cleo, dora, 5)), []byte{})
	f.Add(seed.Sign(dora, []tx.Msg{abcitest.Submit(t, abcitest.Ask(t, dora, "x", 500, 10))}), []byte{1})
	f.Add(seed.Sign(dora, []tx.Msg{abcitest.NewProvider(t, "dora").Bind(chainID)}), []byte{0x0a, 0x00})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		c := abcitest.New(t, doc)
		req := c.Request(one, two)
		answer, err := c.App.ProcessProposal(t.Context(), abcitest.Proposal(req))
		require.NoError(t, err)
		require.NotEqual(t, types.ResponseProcessProposal_UNKNOWN, answer.Status)
		c.Force(one, two)
		require.NoError(t, c.App.Invariants())
	})
}

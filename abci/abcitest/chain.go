package abcitest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/sig"
)

// ChainID is the id of the chains that Genesis makes.
const ChainID = "mman-local-0badcafe"

// Actor is an account whose key the test holds.
type Actor struct {
	Name    string
	Key     sig.PrivateKey
	Address mman.Address
}

// NewActor returns the actor of that name; the same name gives the same key.
func NewActor(tb testing.TB, name string) Actor { return newActor(tb, sig.Ed25519, name) }

// NewWallet is NewActor with a secp256k1 key.
func NewWallet(tb testing.TB, name string) Actor { return newActor(tb, sig.Secp256k1, name) }

func newActor(tb testing.TB, typ sig.KeyType, name string) Actor {
	tb.Helper()
	seed := mman.Sum256([]byte("abcitest"), []byte(name))
	key, err := sig.FromSeed(typ, seed[:])
	require.NoError(tb, err)
	return Actor{name, key, key.Public().Address()}
}

// Genesis returns a valid local document in which each actor holds the balance
// and the first is the operator of the one validator.
func Genesis(tb testing.TB, balance mman.Amount, actors ...Actor) genesis.Document {
	tb.Helper()
	doc := genesis.Document{
		ChainID: ChainID, Network: genesis.Local, InitialHeight: 1, Params: genesis.Defaults(genesis.Local),
		Validators: []genesis.Validator{{
			Operator: actors[0].Address, Name: actors[0].Name, ConsensusKey: actors[0].Key.Public().Bytes()[:sig.Ed25519Size],
			BeaconKey: BeaconKey(tb, actors[0].Key), Power: 10,
		}},
	}
	for _, a := range actors {
		doc.Accounts = append(doc.Accounts, genesis.Account{Address: a.Address, Balance: balance})
	}
	require.NoError(tb, doc.Validate())
	return doc
}

// BeaconKey returns the public key of the randomness that a consensus key gives.
func BeaconKey(tb testing.TB, consensus sig.PrivateKey) []byte {
	tb.Helper()
	key, err := sig.DeriveVRF(consensus)
	require.NoError(tb, err)
	pub := key.Public()
	return pub[:]
}

// Votes returns the consensus key of an actor whose validator does not vote with
// the actor's own key.
func Votes(tb testing.TB, a Actor) sig.PrivateKey {
	tb.Helper()
	return NewActor(tb, a.Name+"'s votes").Key
}

// Block is what came of one block.
type Block struct {
	Height int64
	// Checks are CheckTx's answers, one for each transaction given.
	Checks []*types.ResponseCheckTx
	// Results are the results, one for each transaction given, nil for one
	// that was not in the block.
	Results []*types.ExecTxResult
	Events  []types.Event
	Root    []byte
}

// record is a decided block and what the application answered.
type record struct {
	request types.RequestFinalizeBlock
	answer  []byte
}

// Chain is an application and the blocks that it has decided.
type Chain struct {
	App *abci.Application
	Doc genesis.Document

	tb      testing.TB
	db      *state.Memory
	records []record
	signed  map[mman.Address]uint64 // transactions signed since the last block
	sets    [][]seat                // the validators of height i+1
	absent  map[mman.Address]bool   // validators, by consensus address, who do not sign
	guilty  []types.Misbehavior     // evidence for the next block
	root    []byte
	keys    map[string]sig.PrivateKey // of validators, by consensus key
	turn    []byte                    // who proposes always, when set
	change  []func(*abci.Config)
}

// New starts a chain; change, when given, edits the configuration of each of its
// applications. It knows the consensus key of a validator of the genesis
// whose name is an actor's, when that is the actor's own or Votes of it; Learn
// tells it others.
func New(tb testing.TB, doc genesis.Document, change ...func(*abci.Config)) *Chain {
	tb.Helper()
	c := &Chain{
		tb: tb, Doc: doc, db: state.NewMemory(), signed: map[mman.Address]uint64{}, absent: map[mman.Address]bool{},
		keys: map[string]sig.PrivateKey{}, change: change,
	}
	c.found()
	for _, v := range doc.Validators {
		a := NewActor(tb, v.Name)
		c.Learn(a.Key, Votes(tb, a))
	}
	c.App = c.open(c.db)
	c.root = initChain(tb, c.App, doc)
	return c
}

// Learn tells the chain consensus keys, so that their validators can propose.
func (c *Chain) Learn(consensus ...sig.PrivateKey) {
	for _, key := range consensus {
		c.keys[string(key.Public().Bytes())] = key
	}
}

// Prove implements abci.Prover for whoever proposes next.
func (c *Chain) Prove(input []byte) []byte {
	key, err := sig.DeriveVRF(c.keys[string(c.proposer())])
	require.NoError(c.tb, err)
	return key.Prove(input)
}

func (c *Chain) open(db state.DB) *abci.Application {
	c.tb.Helper()
	cfg := abci.Config{DB: db, Beacon: c}
	for _, fn := range c.change {
		fn(&cfg)
	}
	app, err := abci.New(cfg)
	require.NoError(c.tb, err)
	return app
}

func initChain(tb testing.TB, app *abci.Application, doc genesis.Document) []byte {
	tb.Helper()
	b, err := doc.Encode()
	require.NoError(tb, err)
	answer, err := app.InitChain(tb.Context(), &types.RequestInitChain{ChainId: doc.ChainID, InitialHeight: int64(doc.InitialHeight), AppStateBytes: b})
	require.NoError(tb, err)
	require.NotEmpty(tb, answer.Validators)
	return answer.AppHash
}

// Height returns the last height.
func (c *Chain) Height() uint64 { return c.Doc.InitialHeight - 1 + uint64(len(c.records)) }

// Root returns the last root.
func (c *Chain) Root() []byte { return c.root }

// Restart opens the application again over the same database.
func (c *Chain) Restart() {
	c.tb.Helper()
	c.App = c.open(c.db)
	info, err := c.App.Info(c.tb.Context(), &types.RequestInfo{})
	require.NoError(c.tb, err)
	if len(c.records) == 0 {
		require.Zero(c.tb, info.LastBlockHeight)
		initChain(c.tb, c.App, c.Doc)
		return
	}
	require.Equal(c.tb, int64(c.Height()), info.LastBlockHeight)
	require.Equal(c.tb, c.root, info.LastBlockAppHash)
}

// Request returns the decided block that Block would make of the transactions
// next. Its hash does not depend on their order.
func (c *Chain) Request(txs ...[]byte) types.RequestFinalizeBlock {
	height := int64(c.Height()) + 1
	return types.RequestFinalizeBlock{
		Txs: txs, Height: height, Hash: blockHash(height, txs), Time: time.Unix(1_800_000_000+height, 0).UTC(),
		DecidedLastCommit: c.commit(), Misbehavior: slices.Clone(c.guilty), ProposerAddress: c.proposerAddress(),
	}
}

// Proposal returns the decided block as it was proposed.
func Proposal(req types.RequestFinalizeBlock) *types.RequestProcessProposal {
	return &types.RequestProcessProposal{
		Txs: req.Txs, Hash: req.Hash, Height: req.Height, Time: req.Time,
		ProposedLastCommit: req.DecidedLastCommit, Misbehavior: req.Misbehavior, ProposerAddress: req.ProposerAddress,
	}
}

// Preparation asks for a proposal of the block's transactions, with all that the block
// says beside them.
func (c *Chain) Preparation(req types.RequestFinalizeBlock) *types.RequestPrepareProposal {
	const rest = 4096 // what a block holds beside its transactions
	out := &types.RequestPrepareProposal{
		MaxTxBytes: int64(c.Doc.Params.BlockMaxBytes) - rest, Txs: req.Txs, Height: req.Height, Time: req.Time,
		ProposerAddress: req.ProposerAddress, Misbehavior: req.Misbehavior,
		LocalLastCommit: types.ExtendedCommitInfo{Round: req.DecidedLastCommit.Round},
	}
	for _, v := range req.DecidedLastCommit.Votes {
		out.LocalLastCommit.Votes = append(out.LocalLastCommit.Votes, types.ExtendedVoteInfo{Validator: v.Validator, BlockIdFlag: v.BlockIdFlag})
	}
	return out
}

func blockHash(height int64, txs [][]byte) []byte {
	hashes := make([][]byte, 0, len(txs)+1)
	for _, t := range txs {
		h := mman.Sum256(t)
		hashes = append(hashes, h[:])
	}
	slices.SortFunc(hashes, bytes.Compare)
	sum := mman.Sum256(append(hashes, binary.BigEndian.AppendUint64(nil, uint64(height)))...)
	return sum[:]
}

// Block offers the transactions to the mempool, proposes those that it takes,
// and decides and commits the proposal.
func (c *Chain) Block(txs ...[]byte) Block {
	c.tb.Helper()
	ctx := c.tb.Context()
	out := Block{Results: make([]*types.ExecTxResult, len(txs))}
	var pool [][]byte
	for _, raw := range txs {
		check, err := c.App.CheckTx(ctx, &types.RequestCheckTx{Tx: raw})
		require.NoError(c.tb, err)
		out.Checks = append(out.Checks, check)
		if check.IsOK() {
			pool = append(pool, raw)
		}
	}
	next := c.Request(pool...)
	prepared, err := c.App.PrepareProposal(ctx, c.Preparation(next))
	require.NoError(c.tb, err)
	req := c.Request(prepared.Txs...)
	processed, err := c.App.ProcessProposal(ctx, Proposal(req))
	require.NoError(c.tb, err)
	require.True(c.tb, processed.IsAccepted(), "the application rejects its own proposal at height %d", req.Height)
	answer := c.decide(req)
	out.Height, out.Events, out.Root = req.Height, answer.Events, answer.AppHash
	for i, raw := range txs {
		if j := slices.IndexFunc(req.Txs, func(b []byte) bool { return bytes.Equal(b, raw) }); j >= 0 {
			out.Results[i] = answer.TxResults[j]
		}
	}
	return out
}

// Force decides a block of exactly these transactions without asking anybody,
// as a node does that catches up, and returns their results.
func (c *Chain) Force(txs ...[]byte) Block {
	c.tb.Helper()
	req := c.Request(txs...)
	answer := c.decide(req)
	return Block{Height: req.Height, Results: answer.TxResults, Events: answer.Events, Root: answer.AppHash}
}

func (c *Chain) decide(req types.RequestFinalizeBlock) *types.ResponseFinalizeBlock {
	c.tb.Helper()
	answer, err := c.App.FinalizeBlock(c.tb.Context(), &req)
	require.NoError(c.tb, err)
	require.Len(c.tb, answer.TxResults, len(req.Txs))
	_, err = c.App.Commit(c.tb.Context(), &types.RequestCommit{})
	require.NoError(c.tb, err)
	require.NoError(c.tb, c.App.Invariants())
	b, err := answer.Marshal()
	require.NoError(c.tb, err)
	c.records = append(c.records, record{req, b})
	c.root = answer.AppHash
	c.elect(answer.ValidatorUpdates)
	c.guilty = nil
	clear(c.signed)
	return answer
}

// Pass decides n empty blocks and returns the events of all.
func (c *Chain) Pass(n uint64) []types.Event {
	c.tb.Helper()
	var events []types.Event
	for range n {
		events = append(events, c.Block().Events...)
	}
	return events
}

// Query asks the application and decodes the JSON answer into out, which may be
// nil. It returns the code and the sentence.
func (c *Chain) Query(path string, out any) (mman.Code, string) {
	c.tb.Helper()
	answer, err := c.App.Query(c.tb.Context(), &types.RequestQuery{Path: path})
	require.NoError(c.tb, err)
	if answer.Code == 0 && out != nil {
		require.NoError(c.tb, json.Unmarshal(answer.Value, out), "%s", answer.Value)
	}
	return mman.Code(answer.Code), answer.Log
}

// account is what Sign needs of /mman/account.
type account struct {
	Number   uint64      `json:"number"`
	Sequence uint64      `json:"sequence"`
	Balance  mman.Amount `json:"balance_uman"`
}

// Balance returns what the actor can spend.
func (c *Chain) Balance(a Actor) mman.Amount {
	c.tb.Helper()
	var got account
	if code, log := c.Query("/mman/account/"+a.Address.String(), &got); code != 0 {
		require.Contains(c.tb, log, "code = NotFound")
	}
	return got.Balance
}

// BaseFee returns the base fee of the next block.
func (c *Chain) BaseFee() uint64 {
	c.tb.Helper()
	var fee struct {
		BaseFeeMicro uint64 `json:"base_fee_micro"`
	}
	code, log := c.Query("/mman/fee", &fee)
	require.Zero(c.tb, code, log)
	return fee.BaseFeeMicro
}

// Sign returns a transaction of the messages with the actor's next sequence and
// the fee that it needs. Change, when given, edits the draft before signing.
func (c *Chain) Sign(a Actor, msgs []tx.Msg, change ...func(*tx.Draft)) []byte {
	c.tb.Helper()
	return c.SignFor(ChainID, a, msgs, change...)
}

// SignFor is Sign for a chain of another id.
func (c *Chain) SignFor(chainID string, a Actor, msgs []tx.Msg, change ...func(*tx.Draft)) []byte {
	c.tb.Helper()
	var acc account
	base := c.Doc.Params.BaseFeeMicro
	if len(c.records) > 0 {
		c.Query("/mman/account/"+a.Address.String(), &acc)
		base = c.BaseFee()
	} else {
		acc.Number = c.genesisNumber(a)
	}
	params := c.Doc.Params
	draft := tx.Draft{Msgs: msgs, Sequence: acc.Sequence + c.signed[a.Address], GasLimit: params.MaxGasPerTx, Fee: 1_000_000}
	measured, err := tx.Sign(a.Key, chainID, acc.Number, draft)
	require.NoError(c.tb, err)
	limit, err := tx.Limit(params.Gas, a.Key.Type(), msgs, len(measured.Raw())+8)
	require.NoError(c.tb, err)
	if tx.Varies(msgs) && len(c.records) > 0 {
		limit = max(limit, c.simulate(measured))
	}
	draft.GasLimit = min(limit, params.MaxGasPerTx)
	draft.Fee, err = genesis.FeeAt(base, draft.GasLimit)
	require.NoError(c.tb, err)
	for _, fn := range change {
		fn(&draft)
	}
	t, err := tx.Sign(a.Key, chainID, acc.Number, draft)
	require.NoError(c.tb, err)
	c.signed[a.Address]++
	return t.Raw()
}

// simulate returns what the chain says of a transaction's gas and a quarter more, 0
// when it says that the transaction fails.
func (c *Chain) simulate(t *tx.Tx) uint64 {
	c.tb.Helper()
	answer, err := c.App.Query(c.tb.Context(), &types.RequestQuery{Path: tx.PathSimulate, Data: tx.EncodeSimulateQuery(t.Raw())})
	require.NoError(c.tb, err)
	if answer.Code != 0 {
		return 0
	}
	gas, err := tx.DecodeSimulateAnswer(answer.Value)
	require.NoError(c.tb, err)
	return gas + gas/4
}

// Unsent returns a view of the chain that forgets what was signed since the last
// block, for transactions that shall take the place of others.
func Unsent(c *Chain) *Chain {
	twin := *c
	twin.signed = map[mman.Address]uint64{}
	return &twin
}

func (c *Chain) genesisNumber(a Actor) uint64 {
	for i, acc := range c.Doc.Canonical().Accounts {
		if acc.Address == a.Address {
			return uint64(i)
		}
	}
	return 0
}

// Do signs the messages, decides a block of that transaction alone and requires
// that it succeeds.
func (c *Chain) Do(a Actor, msgs ...tx.Msg) *types.ExecTxResult {
	c.tb.Helper()
	b := c.Block(c.Sign(a, msgs))
	require.Zero(c.tb, b.Checks[0].Code, b.Checks[0].Log)
	require.NotNil(c.tb, b.Results[0])
	require.Zero(c.tb, b.Results[0].Code, b.Results[0].Log)
	return b.Results[0]
}

// Fail is Do for a transaction that is admitted but whose messages fail; it
// requires the error's code and returns the sentence.
func (c *Chain) Fail(want error, a Actor, msgs ...tx.Msg) string {
	c.tb.Helper()
	b := c.Block(c.Sign(a, msgs))
	require.Zero(c.tb, b.Checks[0].Code, b.Checks[0].Log)
	require.NotNil(c.tb, b.Results[0])
	require.Equal(c.tb, uint32(mman.CodeOf(want)), b.Results[0].Code, b.Results[0].Log)
	require.Equal(c.tb, "mman", b.Results[0].Codespace)
	require.NotEmpty(c.tb, b.Results[0].Log)
	return b.Results[0].Log
}

// Attribute returns the first value of an attribute among the events of a type.
func Attribute(events []types.Event, typ, key string) (string, bool) {
	for _, e := range events {
		for _, a := range e.Attributes {
			if e.Type == typ && a.Key == key {
				return a.Value, true
			}
		}
	}
	return "", false
}

// Disturbance is what befalls an application during a replay, before the block
// of that height.
type Disturbance func(height uint64) (restart, drop bool)

// Replay runs every decided block through a second application, as a node that
// catches up, and compares results, events and roots byte for byte. At the end of
// each epoch a new application joins by its archive and goes on in its place. The
// disturbance, when given, restarts it or drops its caches on the way.
func (c *Chain) Replay(disturb Disturbance) {
	c.tb.Helper()
	db := state.NewMemory()
	app := c.open(db)
	initChain(c.tb, app, c.Doc)
	for i, r := range c.records {
		if disturb != nil {
			restart, drop := disturb(c.Doc.InitialHeight + uint64(i))
			if restart {
				if app = c.open(db); i == 0 {
					initChain(c.tb, app, c.Doc)
				}
			}
			if drop {
				app.DropCaches()
			}
		}
		answer, err := app.FinalizeBlock(c.tb.Context(), &r.request)
		require.NoError(c.tb, err)
		b, err := answer.Marshal()
		require.NoError(c.tb, err)
		if !bytes.Equal(r.answer, b) {
			var was types.ResponseFinalizeBlock
			require.NoError(c.tb, was.Unmarshal(r.answer))
			require.Equal(c.tb, fmt.Sprint(was), fmt.Sprint(*answer), "height %d", r.request.Height)
			require.Fail(c.tb, "answers differ", "height %d", r.request.Height)
		}
		_, err = app.Commit(c.tb.Context(), &types.RequestCommit{})
		require.NoError(c.tb, err)
		if uint64(r.request.Height)%c.Doc.Params.EpochBlocks == 0 {
			db = state.NewMemory()
			app = c.join(app, db)
		}
	}
}

// join returns an application over the empty database that restored the latest
// archive of another one.
func (c *Chain) join(from *abci.Application, db state.DB) *abci.Application {
	c.tb.Helper()
	ctx := c.tb.Context()
	list, err := from.ListSnapshots(ctx, &types.RequestListSnapshots{})
	require.NoError(c.tb, err)
	require.NotEmpty(c.tb, list.Snapshots)
	last := list.Snapshots[len(list.Snapshots)-1]
	was, err := from.Info(ctx, &types.RequestInfo{})
	require.NoError(c.tb, err)
	require.Equal(c.tb, was.LastBlockHeight, int64(last.Height))
	to := c.open(db)
	offered, err := to.OfferSnapshot(ctx, &types.RequestOfferSnapshot{Snapshot: last, AppHash: was.LastBlockAppHash})
	require.NoError(c.tb, err)
	require.Equal(c.tb, types.ResponseOfferSnapshot_ACCEPT, offered.Result)
	for i := range last.Chunks {
		chunk, err := from.LoadSnapshotChunk(ctx, &types.RequestLoadSnapshotChunk{Height: last.Height, Format: last.Format, Chunk: i})
		require.NoError(c.tb, err)
		applied, err := to.ApplySnapshotChunk(ctx, &types.RequestApplySnapshotChunk{Index: i, Chunk: chunk.Chunk, Sender: "peer"})
		require.NoError(c.tb, err)
		require.Equal(c.tb, types.ResponseApplySnapshotChunk_ACCEPT, applied.Result)
	}
	is, err := to.Info(ctx, &types.RequestInfo{})
	require.NoError(c.tb, err)
	require.Equal(c.tb, was, is)
	again, err := to.ListSnapshots(ctx, &types.RequestListSnapshots{})
	require.NoError(c.tb, err)
	require.Contains(c.tb, again.Snapshots, last, "who joined offers the same bytes")
	return to
}

// Validator returns the actor of the first validator of the genesis.
func (c *Chain) Validator() Actor { return NewActor(c.tb, c.Doc.Validators[0].Name) }

// DB returns the database below the application.
func (c *Chain) DB() state.DB { return c.db }

package abci_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci"
	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market/storage"
)

// examples are one message of each kind, by the provider; where it costs little,
// one that the ledger takes.
func examples(tb testing.TB, p abcitest.Provider) []tx.Msg {
	tb.Helper()
	other, votes := abcitest.NewActor(tb, "other").Address, abcitest.Votes(tb, p.Actor)
	offer, id := p.Publish(tb, chainID, p.Compute("box", 30))
	rules, err := dagcbor.Marshal(abcitest.OpenPolicy())
	require.NoError(tb, err)
	ask := abcitest.Submit(tb, abcitest.Ask(tb, p.Actor, "x", 5000, 9))
	ask.Looks = 3
	request := mman.RequestID{1, 2, 3}
	signature := make([]byte, sig.SignatureSize)
	return []tx.Msg{
		tx.MsgSend{From: p.Address, To: other, Amount: 5},
		tx.MsgMultiSend{From: p.Address, Outputs: []tx.Output{{To: other, Amount: 3}, {To: p.Address, Amount: 1}}},
		p.Bind(chainID),
		offer,
		tx.MsgWithdrawOffer{Provider: p.Address, Offer: id},
		ask,
		tx.MsgCancelRequest{Consumer: p.Address, Request: request},
		tx.MsgSettle{Sender: p.Address, Items: []tx.SettleItem{abcitest.Receipt(tb, chainID, "x", request.Lease(), 0, 1, 5)}, Close: []mman.LeaseID{{5}}},
		tx.MsgCloseLease{Account: p.Address, Lease: request.Lease()},
		tx.MsgAcceptLeases{Provider: p.Address, Leases: []mman.LeaseID{{1}, {2}}},
		tx.MsgGrant{Provider: p.Address, Offer: id, Grantee: other, Policy: rules, Expires: 20},
		tx.MsgRevoke{Provider: p.Address, Offer: id, Grantee: other},
		tx.MsgOpenRFP{Consumer: p.Address, Request: ask.Request, Bond: 500, CommitBy: 6},
		tx.MsgCommitBids{Consumer: p.Address, Request: request, Bids: []tx.CommittedBid{{Commitment: []byte{0xa0}, Signature: signature}}},
		tx.MsgPostBid{Bidder: p.Address, Commitment: []byte{0xa0}, Acknowledgement: signature},
		tx.MsgRevealBid{Bidder: p.Address, Request: request, Bid: []byte{0xa0}, Salt: mman.Hash{7}},
		tx.MsgStorageOffer{Provider: p.Address, Peer: p.Peer, Tier: storage.Fast, Region: "eu", Price: 5, Retrieve: 1, Latency: 10, Capacity: 64},
		tx.MsgStore{Consumer: p.Address, Key: [32]byte{1}, Content: id, Bytes: 3000, Tier: storage.Slow, MaxPrice: 9, Spread: true, Epochs: 3, Roots: []mman.Hash{{1}, {2}}, Providers: []mman.Address{other}},
		tx.MsgAcceptStorage{Provider: p.Address, Replicas: []tx.ReplicaName{{Lease: request.Lease()}, {Lease: request.Lease(), Replica: 1}}},
		tx.MsgProveStorage{Provider: p.Address, Epoch: 1, Proofs: [][]byte{storage.Proof{Lease: request.Lease(), Leaf: []byte{1}, Path: []mman.Hash{{4}}}.Encode()}},
		tx.MsgPlaceStorage{Consumer: p.Address, Lease: request.Lease(), Replica: 1, Root: mman.Hash{5}},
		tx.MsgRenewStorage{Consumer: p.Address, Lease: request.Lease(), Epochs: 5},
		tx.MsgEndStorage{Consumer: p.Address, Lease: request.Lease()},
		tx.MsgFundRetrieval{Consumer: p.Address, Provider: other, Key: [32]byte{2}, Amount: 5},
		tx.MsgRedeemRetrieval{Provider: p.Address, Consumer: other, Amount: 5, Signature: signature},
		tx.MsgDelegate{Delegator: p.Address, Validator: p.Address, Amount: mman.MAN},
		tx.MsgUndelegate{Delegator: p.Address, Validator: p.Address, Amount: mman.MAN},
		tx.MsgRedelegate{Delegator: p.Address, From: p.Address, To: other, Amount: mman.MAN},
		tx.MsgCreateValidator{Operator: p.Address, Name: "again", Stake: mman.MAN}.SignKey(votes, chainID),
		tx.MsgEditValidator{Operator: p.Address, Name: "again", CommissionPPM: 7},
		tx.MsgUnjail{Operator: p.Address},
	}
}

// TestEveryMessageIsFuzzed fails when a message has no example: add one above.
func TestEveryMessageIsFuzzed(t *testing.T) {
	t.Parallel()
	have := map[string]bool{}
	for _, m := range examples(t, abcitest.NewProvider(t, "dora")) {
		have[m.TypeURL()] = true
	}
	for _, url := range tx.TypeURLs() {
		require.True(t, have[url], "%s has no example", url)
	}
	require.Len(t, have, len(tx.TypeURLs()))
}

// enclose signs a transaction of one message with whatever content.
func enclose(tb testing.TB, c *abcitest.Chain, by abcitest.Actor, typeURL string, value []byte) []byte {
	tb.Helper()
	model := abcitest.Unsent(c).Sign(by, send(by, by, 1), func(d *tx.Draft) { d.GasLimit, d.Fee = 20_000_000, 20*mman.MAN })
	_, _, n := protowire.ConsumeField(model)
	_, _, m := protowire.ConsumeTag(model[n:])
	authInfo, _ := protowire.ConsumeBytes(model[n+m:])
	field := func(to []byte, num protowire.Number, b []byte) []byte {
		if len(b) == 0 {
			return to // as the one encoding has it
		}
		return protowire.AppendBytes(protowire.AppendTag(to, num, protowire.BytesType), b)
	}
	body := field(nil, 1, field(field(nil, 1, []byte(typeURL)), 2, value))
	number := uint64(0)
	for i, a := range c.Doc.Canonical().Accounts {
		if a.Address == by.Address {
			number = uint64(i)
		}
	}
	signature := by.Key.Sign(tx.SignBytes(body, authInfo, chainID, number))
	return field(field(field(nil, 1, body), 2, authInfo), 3, signature)
}

// FuzzMessages signs transactions with a message of each kind, bent by the
// fuzzer: the mempool takes them or not, a block of them is proposed and accepted
// or rejected and can be decided, and the ledger's invariants hold after it.
func FuzzMessages(f *testing.F) {
	dora := abcitest.NewProvider(f, "dora")
	doc := abcitest.Genesis(f, 1000*mman.MAN, dora.Actor, abcitest.NewActor(f, "cleo"))
	for i, m := range examples(f, dora) {
		f.Add(uint8(i), tx.EncodeMsg(m).Value)
	}
	f.Fuzz(func(t *testing.T, kind uint8, value []byte) {
		if len(value) > tx.MaxTxBytes/2 {
			return
		}
		all := examples(t, dora)
		live(t, doc, dora, all[int(kind)%len(all)].TypeURL(), value)
	})
}

// live takes one message through the life of a chain and reports whether the
// mempool took it.
func live(t *testing.T, doc genesis.Document, by abcitest.Provider, typeURL string, value []byte) (taken bool) {
	t.Helper()
	c := abcitest.New(t, doc)
	raw := enclose(t, c, by.Actor, typeURL, value)
	answer, err := c.App.ProcessProposal(t.Context(), abcitest.Proposal(c.Request(raw)))
	require.NoError(t, err)
	require.NotEqual(t, types.ResponseProcessProposal_UNKNOWN, answer.Status)
	b := c.Block(raw)
	if taken = b.Checks[0].Code == 0; !taken {
		require.NotEmpty(t, b.Checks[0].Log)
		c.Force(raw)
	}
	c.Pass(2)
	return taken
}

// TestBentMessages is FuzzMessages in short, for every run of the tests: of each kind
// 4 messages or MMAN_BENDS, with bytes changed, removed and put in at random.
func TestBentMessages(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	dora := abcitest.NewProvider(t, "dora")
	doc := abcitest.Genesis(t, 1000*mman.MAN, dora.Actor, abcitest.NewActor(t, "cleo"))
	bends, taken := abcitest.Setting(t, "MMAN_BENDS", 4), 0
	all := examples(t, dora)
	for _, m := range all {
		for range bends {
			value := slices.Clone(tx.EncodeMsg(m).Value)
			for range 1 + rng.IntN(3) {
				switch at := rng.IntN(len(value)); rng.IntN(4) {
				case 0:
					value = slices.Insert(value, at, byte(rng.Uint32()))
				case 1:
					if len(value) > 1 {
						value = slices.Delete(value, at, at+1)
					}
				default:
					value[at] ^= 1 << rng.IntN(8)
				}
			}
			if live(t, doc, dora, m.TypeURL(), value) {
				taken++
			}
		}
	}
	t.Logf("%d messages of %d kinds, bent: the mempool took %d, every invariant held", bends*len(all), len(all), taken)
}

// TestExamplesAreTaken: the examples' bytes are in order, so that the fuzzer
// begins behind the decoder.
func TestExamplesAreTaken(t *testing.T) {
	t.Parallel()
	dora := abcitest.NewProvider(t, "dora")
	doc := abcitest.Genesis(t, 1000*mman.MAN, dora.Actor, abcitest.NewActor(t, "cleo"))
	done := 0
	for _, m := range examples(t, dora) {
		c := abcitest.New(t, doc)
		b := c.Block(enclose(t, c, dora.Actor, m.TypeURL(), tx.EncodeMsg(m).Value))
		require.Zero(t, b.Checks[0].Code, "%s: %s", m.TypeURL(), b.Checks[0].Log)
		require.NotNil(t, b.Results[0], m.TypeURL())
		if b.Results[0].Code == 0 {
			done++
		}
	}
	require.GreaterOrEqual(t, done, 8)
}

// TestAbsurdQueries asks for what nobody can mean: each is one sentence with a
// code, and nothing is read without bound.
func TestAbsurdQueries(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Pass(3)
	long := make([]byte, 1<<16)
	for i := range long {
		long[i] = 'a'
	}
	for _, path := range []string{
		"", "/", "//", "mman", "/mman", "/mman/", "/mman//", "/mman/nothing", "/mman/offers/../supply", "/mman/supply/x", "/mman/%00",
		"/mman/\x00", "/mman/" + string(long), "/" + string(long), "/store", "/store/", "/store//key", "/store/bank", "/store/bank/key/x",
		"/mman/offers?limit=0", "/mman/offers?limit=-1", "/mman/offers?limit=201", "/mman/offers?limit=99999999999999999999",
		"/mman/offers?limit=1e3", "/mman/offers?limit=+1", "/mman/offers?limit=１", "/mman/offers?after=zz", "/mman/offers?after=" + string(long[:600]),
		"/mman/offers?limit=1&limit=2", "/mman/offers?x=1", "/mman/offers?%zz=1", "/mman/offers?a&b&c&d&e&f&g&h&i",
		"/mman/account", "/mman/account/", "/mman/account/man1", "/mman/account/" + string(long[:900]), "/mman/leases/zz", "/mman/leases/" + string(long[:40]),
		"/mman/validators?limit=1000000", "/mman/delegations?account=&limit=5", "/mman/beacon?fixed=-1", "/mman/upgrades/1", "/mman/upgrades?x=1",
		"/cosmos.bank.v1beta1.Query/Nothing", tx.PathAccount, tx.PathBalance, tx.PathSimulate, "/app/simulate", "/p2p/filter/addr/1.2.3.4",
	} {
		answer, err := f.App.Query(t.Context(), &types.RequestQuery{Path: path})
		require.NoError(t, err)
		require.NotZero(t, answer.Code, "%.60q", path)
		require.NotEmpty(t, answer.Log, "%.60q", path)
		require.Less(t, len(answer.Log), 1024, "%.60q: %s", path, answer.Log)
	}
	me := f.dora.Address.String()
	for _, list := range []string{
		"accounts?", "offers?", "requests?", "rfps?", "decisions?", "leases?", "validators?", "storage-offers?", "retrievals?", "nodes?account=" + me, "grants?grantee=" + me,
		"delegations?account=" + me, "unbondings?account=" + me, "storage-leases?account=" + me, "storage-replicas?provider=" + me,
	} {
		list = "/mman/" + list
		if !strings.HasSuffix(list, "?") {
			list += "&"
		}
		good, err := f.App.Query(t.Context(), &types.RequestQuery{Path: list + "limit=200"})
		require.NoError(t, err)
		require.Zero(t, good.Code, "%s: %s", list, good.Log)
		for _, bad := range []string{"limit=0", "limit=-1", "limit=201", "limit=18446744073709551616", "limit=x", "after=0", "after=zz", "after=" + string(long[:512]), "limit=1&limit=2", "colour=blue"} {
			answer, err := f.App.Query(t.Context(), &types.RequestQuery{Path: list + bad})
			require.NoError(t, err)
			require.NotZero(t, answer.Code, "%s%.60s", list, bad)
			require.NotEmpty(t, answer.Log)
			require.Less(t, len(answer.Log), 1024)
		}
	}
	for _, height := range []int64{-1, -1 << 63, 4, 1<<63 - 1} {
		for _, prove := range []bool{false, true} {
			answer, err := f.App.Query(t.Context(), &types.RequestQuery{Path: "/mman/supply", Height: height, Prove: prove})
			require.NoError(t, err)
			require.NotZero(t, answer.Code, height)
			require.NotEmpty(t, answer.Log)
		}
	}
	for _, data := range [][]byte{nil, long[:129], long} {
		answer, err := f.App.Query(t.Context(), &types.RequestQuery{Path: "/store/bank/key", Data: data, Prove: true})
		require.NoError(t, err)
		require.NotZero(t, answer.Code)
	}
}

// FuzzQuery: whatever is asked is answered, with a code or a value.
func FuzzQuery(f *testing.F) {
	dora := abcitest.NewActor(f, "dora")
	c := abcitest.New(f, abcitest.Genesis(f, 1000*mman.MAN, dora))
	c.Pass(2)
	app := func() *abci.Application { return c.App }
	for _, path := range []string{"/mman/supply", "/mman/offers?limit=3&after=00", "/mman/validators", "/mman/account/" + dora.Address.String(), "/store/bank/key", "/mman/beacon?fixed=1", tx.PathBalance, tx.PathSimulate} {
		f.Add(path, []byte("a\x01"), int64(1), true)
	}
	f.Fuzz(func(t *testing.T, path string, data []byte, height int64, prove bool) {
		answer, err := app().Query(t.Context(), &types.RequestQuery{Path: path, Data: data, Height: height, Prove: prove})
		require.NoError(t, err)
		require.Equal(t, answer.Code != 0, answer.Log != "")
	})
}

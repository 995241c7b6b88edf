package market_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/block"
	ledger "github.com/limboid/massive-man/abci/market"
	"github.com/limboid/massive-man/abci/state"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/resources"
)

const chainID = "mman-local-usage"

// purse is a bank in which money does not matter.
type purse struct{ key sig.PublicKey }

func (purse) Hold(*block.Context, mman.Address, mman.Amount) error    { return nil }
func (purse) Release(*block.Context, mman.Address, mman.Amount) error { return nil }
func (purse) Burn(*block.Context, mman.Amount) error                  { return nil }
func (purse) Lock(*block.Context, mman.Address, mman.Amount) error    { return nil }
func (purse) Unlock(*block.Context, mman.Address, mman.Amount) error  { return nil }
func (purse) Locked(state.Reader) (mman.Amount, error)                { return 0, nil }
func (purse) Escrow(state.Reader) (mman.Amount, error)                { return 0, nil }
func (p purse) Key(state.Reader, mman.Address) (sig.PublicKey, error) { return p.key, nil }

// days is a ledger of the market alone, whose blocks can be days apart.
type days struct {
	t      *testing.T
	module ledger.Module
	state  *state.Overlay
	key    sig.PrivateKey
	height uint64
	day    int64
}

func newDays(t *testing.T, when string) *days {
	t.Helper()
	key, err := sig.FromSeed(sig.Ed25519, make([]byte, sig.SecretSize))
	require.NoError(t, err)
	store, err := state.Open(state.NewMemory())
	require.NoError(t, err)
	d := &days{t: t, module: ledger.New(purse{key.Public()}), state: store.Begin(), key: key, day: 20_000}
	peer := mman.PeerID(key.Public().Bytes())
	o := market.Offer{
		Version: 1, Provider: key.Public().Address(), Peer: peer, Kind: resources.KindCompute, Facet: resources.FacetWasm, Meter: 1,
		Resource: mman.SumCID(mman.CodecDagCBOR, []byte("box")), Capacity: 1 << 20, Expires: 80_000,
		Policy: policy.Policy{Default: policy.Allow, Rules: []policy.Rule{{ID: "quota", Effect: policy.Deny, Phase: policy.PhaseMatch, When: when}}},
	}
	signed, _, err := market.SignOffer(chainID, o, key)
	require.NoError(t, err)
	d.block(tx.MsgBindNode{Account: o.Provider, Peer: peer}.SignNode(key, chainID), tx.MsgOffer{Provider: o.Provider, Offer: signed.Bytes, Signature: signed.Signature})
	return d
}

func (d *days) block(msgs ...tx.Msg) {
	d.t.Helper()
	d.height++
	var events []block.Event
	ctx := &block.Context{
		Header: block.Header{ChainID: chainID, Height: d.height, Time: d.day * 86_400}, Params: genesis.Defaults(genesis.Local),
		State: d.state, Events: &events, TxHash: mman.Sum256(state.Uint64Key(d.height)),
	}
	for i, m := range msgs {
		ctx.Message = uint32(i)
		require.NoError(d.t, d.module.Execute(ctx, m))
	}
	require.NoError(d.t, d.module.EndBlock(ctx))
}

// ask reports whether the consumer gets a lease today.
func (d *days) ask(consumer byte) bool {
	d.t.Helper()
	r := market.Request{
		Version: 1, Consumer: mman.Address{consumer}, LeaseKey: mman.LeaseKey{1}, Cap: 1, Blocks: 10, Deadline: d.height + 2, Limits: resources.DefaultLimits(),
		Legs: []market.LegRequest{
			{Role: market.RoleAlgorithm, Facet: resources.FacetWasm, Resource: mman.SumCID(mman.CodecRaw, []byte("module")), Supplied: true},
			{Role: market.RoleCompute, Facet: resources.FacetWasm},
		},
	}
	raw, err := r.Encode()
	require.NoError(d.t, err)
	d.block(tx.MsgRequest{Consumer: r.Consumer, Request: raw})
	id := mman.NewRequestID(chainID, mman.Sum256(state.Uint64Key(d.height)), 0)
	decision, ok, err := ledger.LookupDecision(d.state, id)
	require.NoError(d.t, err)
	require.True(d.t, ok)
	d.block() // its deadline
	return decision.Outcome == match.Matched
}

// TestQuota: leases are counted by days, for each consumer, and forgotten.
func TestQuota(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, when string
		days       []int64 // on which the first consumer asks
		want       []bool
	}{
		{"one a day", "usage.leases_1d >= 1", []int64{0, 0, 1, 1, 3}, []bool{true, false, true, false, true}},
		{"two a week", "usage.leases_7d >= 2", []int64{0, 3, 6, 7, 9, 10, 13, 14}, []bool{true, true, false, true, false, true, false, true}},
		{"one a month", "usage.leases_30d >= 1", []int64{0, 29, 30, 59, 60}, []bool{true, false, true, false, true}},
		{"after a long time", "usage.leases_30d >= 1", []int64{0, 500, 500}, []bool{true, true, false}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := newDays(t, tc.when)
			start := d.day
			for i, day := range tc.days {
				d.day = start + day
				require.Equal(t, tc.want[i], d.ask(1), "day %d", day)
			}
			require.True(t, d.ask(2), "another consumer has counts of its own")
		})
	}
}

// TestCountsOfAnyDays holds the counts against a list of all leases.
func TestCountsOfAnyDays(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	d := newDays(t, "usage.leases_1d >= 2 || usage.leases_7d >= 5 || usage.leases_30d >= 9")
	var leased []int64
	within := func(n int64) (count int) {
		for _, day := range leased {
			if day > d.day-n {
				count++
			}
		}
		return count
	}
	for range 300 {
		d.day += rng.Int64N(3) * rng.Int64N(2) * (1 + rng.Int64N(20)*rng.Int64N(2))
		want := within(1) < 2 && within(7) < 5 && within(30) < 9
		require.Equal(t, want, d.ask(7), "day %d after %v", d.day, leased)
		if want {
			leased = append(leased, d.day)
		}
	}
}

// TestCountsAreForgotten: a month after the last lease nothing is left of them.
func TestCountsAreForgotten(t *testing.T) {
	t.Parallel()
	d := newDays(t, "usage.leases_1d >= 1")
	require.True(t, d.ask(1))
	counts := func() int {
		pairs, err := d.state.Iterate(state.MarketUsageByConsumer.Store(), state.MarketUsageByConsumer.Key(), nil, 10)
		require.NoError(t, err)
		return len(pairs)
	}
	require.Equal(t, 1, counts())
	d.day += 29
	d.block()
	require.Equal(t, 1, counts())
	d.day++
	d.block()
	require.Zero(t, counts())
}

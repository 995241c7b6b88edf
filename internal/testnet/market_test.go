package testnet_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/internal/testnet"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/market/settle"
	"github.com/limboid/massive-man/node"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk"
)

// holder is a client that acts for a node's account, as its operator would.
func holder(t *testing.T, n *testnet.Net, of *testnet.Node) *sdk.Client {
	t.Helper()
	ring, err := node.OpenKeyring(of.Home, true)
	require.NoError(t, err)
	key, err := ring.Get("node", nil)
	require.NoError(t, err)
	c, err := sdk.Connect(t.Context(), sdk.Config{
		Node: n.Validators[0].Running.RPC, Leases: filepath.Join(t.TempDir(), "leases"), Key: key, Lock: ring.Lock,
		Now: time.Now, After: time.After,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// TestMarket asks why a request is not served, in each way that the ledger can
// refuse it, decides again upon what the ledger says it looked at, and follows an
// offer that is shared and taken back.
func TestMarket(t *testing.T) {
	net := testnet.New(t, 1, "box")
	box, ctx := net.Providers[0], t.Context()
	consumer, owner := net.Consumer(t), holder(t, net, box)
	module := sdk.Content{File: file(t, "wordcount.wasm", examples.WordcountModule())}
	parent := resources.Parent{Resource: mman.SumCID(mman.CodecDagCBOR, []byte("parent")), Owner: mman.Address{7}, Share: 1000}
	lend := func(p policy.Policy, change func(l *provider.Listing)) provider.Published {
		t.Helper()
		l := provider.Listing{
			Manifest: resources.Manifest{Version: 1, Kind: resources.KindCompute, Facet: resources.FacetWasm, Name: "compute", Parents: []resources.Parent{parent}},
			Policy:   p, Price: price.Price{PerLease: 1000, Units: []price.UnitPrice{{Unit: resources.UnitWallMs, Per: 1000, UMan: 100}}}, Capacity: 1,
			Region: "us-east",
		}
		if change != nil {
			change(&l)
		}
		out, err := box.Provider.Publish(ctx, l)
		require.NoError(t, err)
		return out
	}
	rule := func(id, when string) policy.Policy {
		return policy.Policy{Default: policy.Allow, Rules: []policy.Rule{{ID: id, Effect: policy.Deny, Phase: policy.PhaseMatch, When: when}}}
	}
	wanted := func() sdk.Wanted {
		w := sdk.DefaultWanted()
		w.Algorithm, w.Fresh = module, true
		return w
	}
	ask := func(t *testing.T, w sdk.Wanted, says ...string) {
		t.Helper()
		_, err := consumer.Lease(ctx, w)
		var refused *sdk.NotServedError
		require.ErrorAs(t, err, &refused)
		r, err := consumer.Chain().Request(ctx, refused.Request)
		require.NoError(t, err)
		sentences, err := consumer.Why(ctx, r)
		require.NoError(t, err)
		for _, s := range says {
			require.Contains(t, strings.Join(sentences, "\n"), s)
		}
		_, err = consumer.Replay(ctx, r)
		require.NoError(t, err)
		r.Decision.Rejections = append(r.Decision.Rejections, match.Rejection{Leg: 1, Rule: "forged"})
		_, err = consumer.Replay(ctx, r)
		require.ErrorIs(t, err, mman.ErrInvariant)
	}
	quote := func(t *testing.T, w sdk.Wanted) sdk.Quote {
		t.Helper()
		q, err := consumer.Quote(ctx, w, mman.Address{})
		require.NoError(t, err)
		return q
	}

	t.Run("nothing offered", func(t *testing.T) {
		ask(t, wanted(), "nobody offers this compute now")
		require.Zero(t, quote(t, wanted()).Eligible)
	})
	t.Run("region", func(t *testing.T) {
		lend(rule("eu-only", `!compute.region.startsWith("eu")`), nil)
		ask(t, wanted(), `rule "eu-only"`, `compute.region is "us-east"`)
	})
	t.Run("reputation", func(t *testing.T) {
		lend(rule("known", "consumer.reputation < 60"), nil)
		ask(t, wanted(), "consumer.reputation is 0")
	})
	t.Run("purpose", func(t *testing.T) {
		lend(rule("research", `request.purpose != "research"`), nil)
		ask(t, wanted(), `request.purpose is ""`)
		require.Contains(t, quote(t, wanted()).Change, "--purpose research")
	})
	t.Run("obligations", func(t *testing.T) {
		lend(policy.Policy{Default: policy.Allow, Obligations: []policy.Obligation{{Name: policy.NoTraining}}}, nil)
		ask(t, wanted(), "accept its obligations with --accept")
		require.Contains(t, quote(t, wanted()).Change, "--accept no_training")
	})
	t.Run("price", func(t *testing.T) {
		lend(policy.Policy{Default: policy.Allow}, func(l *provider.Listing) { l.Price.PerLease = 2 * mman.MAN })
		ask(t, wanted(), "raise --max", "With one change it would be matched: Raise the cap: --max 2MAN.")
		require.Contains(t, quote(t, wanted()).Change, "--max 2MAN.")
	})
	t.Run("capacity", func(t *testing.T) {
		lend(policy.Policy{Default: policy.Allow}, nil)
		q := quote(t, wanted())
		require.Equal(t, 1, q.Eligible)
		require.Equal(t, mman.Amount(140), q.Burned, "two in a hundred")
		require.Len(t, q.Payments, 2)
		require.Equal(t, settle.Payment{Leg: 1, To: parent.Owner, Amount: 686, Royalty: parent.Resource}, q.Payments[1], "a tenth of the rest")
		require.Equal(t, q.From, q.Burned+q.Payments[0].Amount+q.Payments[1].Amount)
		require.Equal(t, mman.Amount(1000), q.Fixed)
		require.Equal(t, mman.Amount(1000+6000), q.From, "a minute at 100 uman a second")
		lease, err := consumer.Lease(ctx, wanted())
		require.NoError(t, err)
		ask(t, wanted(), "no free capacity")
		session, err := consumer.Open(ctx, lease)
		require.NoError(t, err)
		_, err = session.Settle(ctx)
		require.NoError(t, err)
	})
	t.Run("decisions", func(t *testing.T) {
		p := rule("enough", "run.calls > 2")
		p.Rules[0].Phase = policy.PhaseRun
		lend(p, nil)
		lease, err := consumer.Lease(ctx, wanted())
		require.NoError(t, err)
		session, err := consumer.Open(ctx, lease)
		require.NoError(t, err)
		var heads []uint64
		for range 2 {
			out, err := session.Run(ctx, sdk.Work{Stdin: strings.NewReader("a b a")})
			require.NoError(t, err)
			heads = append(heads, out.Statement.Decisions.Size)
		}
		_, err = session.Run(ctx, sdk.Work{})
		require.ErrorIs(t, err, mman.ErrPolicy)
		require.ErrorContains(t, err, `"enough"`)
		require.Equal(t, []uint64{2, 4}, heads, "a start and the output of each run")
		all, err := consumer.Decisions(ctx, lease.Lease.ID, 0, nil)
		require.NoError(t, err)
		require.Len(t, all.Entries, 4)
		require.Equal(t, 4, all.Again)
		for i := range uint64(4) {
			one, err := consumer.Decisions(ctx, lease.Lease.ID, 0, &i)
			require.NoError(t, err)
			require.Equal(t, all.Entries[i], one.Entries[0])
		}
		last := uint64(4)
		_, err = consumer.Decisions(ctx, lease.Lease.ID, 0, &last)
		require.ErrorIs(t, err, mman.ErrNotFound, "the refused run is in the log, and under no statement yet")
		empty, err := consumer.Decisions(ctx, lease.Lease.ID, 1, nil)
		require.NoError(t, err)
		require.Zero(t, empty.Head)
		session, err = consumer.Open(ctx, lease)
		require.NoError(t, err)
		_, err = session.Settle(ctx)
		require.NoError(t, err)
	})
	t.Run("old receipts", func(t *testing.T) {
		lend(policy.Policy{Default: policy.Allow}, nil)
		lease, err := consumer.Lease(ctx, wanted())
		require.NoError(t, err)
		session, err := consumer.Open(ctx, lease)
		require.NoError(t, err)
		var items []tx.SettleItem
		var paid []mman.Amount
		for range 3 {
			out, err := session.Run(ctx, sdk.Work{Stdin: strings.NewReader("a b a")})
			require.NoError(t, err)
			kept, err := consumer.Leases().FindRun(out.Receipt)
			require.NoError(t, err)
			items = append(items, tx.SettleItem{Receipt: kept.Receipt.Bytes, Signature: kept.Receipt.Signature})
			paid = append(paid, out.Statement.Gross)
		}
		require.NoError(t, session.Close(ctx))
		// Anybody brings them, in whatever order and how often: the highest counts, once.
		me, err := consumer.Submitter()
		require.NoError(t, err)
		for _, order := range [][]int{{0}, {1, 0, 1}, {0, 0}, {2, 1, 0}, {1}, {2}} {
			m := tx.MsgSettle{Sender: me.Address()}
			for _, i := range order {
				m.Items = append(m.Items, items[i])
			}
			_, err = me.Submit(ctx, m)
			require.NoError(t, err)
			got, err := consumer.Chain().Lease(ctx, lease.Lease.ID)
			require.NoError(t, err)
			require.Contains(t, paid, got.Paid)
			require.GreaterOrEqual(t, got.Paid, paid[slices.Max(order)], "an old one takes nothing back")
		}
		session, err = consumer.Open(ctx, lease)
		require.NoError(t, err)
		_, err = session.Settle(ctx)
		require.NoError(t, err)
		got, err := consumer.Chain().Lease(ctx, lease.Lease.ID)
		require.NoError(t, err)
		require.Equal(t, paid[2], got.Paid)
		require.Equal(t, got.Cap-got.Paid, got.Refunded)
	})
	t.Run("deadline", func(t *testing.T) {
		lend(policy.Policy{Default: policy.Deny}, nil)
		w := wanted()
		w.Patience, w.Wait = 3, true
		ask(t, w, "Its deadline passed", `rule "default"`)
	})
	t.Run("budget", func(t *testing.T) {
		w := wanted()
		w.Cap = 5000 * mman.MAN
		_, err := consumer.Lease(ctx, w)
		require.ErrorIs(t, err, mman.ErrFunds)
		require.ErrorContains(t, err, "are needed")
	})
	t.Run("shared and taken back", func(t *testing.T) {
		offer := box.Provider.Published()[0].Offer
		me, err := consumer.Submitter()
		require.NoError(t, err)
		_, err = owner.Share(ctx, offer, me.Address(), policy.Policy{Default: policy.Allow}, 1000)
		require.NoError(t, err)
		lease, err := consumer.Lease(ctx, wanted())
		require.NoError(t, err)
		require.True(t, lease.Lease.Compute().Granted)
		session, err := consumer.Open(ctx, lease)
		require.NoError(t, err)
		require.NoError(t, session.Close(ctx))
		require.NoError(t, owner.Unshare(ctx, offer, me.Address()))
		testnet.Eventually(t, "the provider's own node has the block", func() (bool, error) {
			session, opening := consumer.Open(ctx, lease)
			if err = opening; err == nil {
				return false, session.Close(ctx)
			}
			return true, nil
		})
		require.ErrorIs(t, err, mman.ErrPolicy)
		require.ErrorContains(t, err, "revoked")
		w := wanted()
		ask(t, w, "the share was revoked")
	})
}

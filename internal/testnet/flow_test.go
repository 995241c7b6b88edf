package testnet_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/examples/stats"
	"github.com/limboid/massive-man/internal/testnet"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk"
)

// TestFlow is the lifecycle of the network, step by step, as docs/flow.md tells
// it: one provider holds a private table and lends compute beside it, another
// sells an algorithm, a consumer who has met neither has it run there.
func TestFlow(t *testing.T) {
	net := testnet.New(t, 4, "data", "code")
	owner, author := net.Providers[0].Provider, net.Providers[1].Provider
	consumer := net.Consumer(t)
	ctx := t.Context()

	var code, data provider.Published
	step := func(name string, run func(t *testing.T)) {
		t.Helper()
		if !t.Run(name, run) {
			t.FailNow() // the steps after it stand on it
		}
	}
	step("publish", func(t *testing.T) {
		t.Helper()
		var err error
		code, err = author.Publish(ctx, provider.Listing{
			Manifest: resources.Manifest{Version: 1, Kind: resources.KindAlgorithm, Facet: resources.FacetWasm, Name: "summary"},
			Content:  file(t, "stats.wasm", examples.StatsModule()), Private: true,
			Policy: policy.Policy{Default: policy.Allow}, Price: price.Price{PerLease: 10_000, Share: 500}, Capacity: 4,
		})
		require.NoError(t, err)
		data, err = owner.Publish(ctx, provider.Listing{
			Manifest: resources.Manifest{Version: 1, Kind: resources.KindDataset, Facet: resources.FacetFile, Name: "penguins"},
			Content:  file(t, "penguins.csv", examples.Penguins()), Private: true,
			Policy: policy.Policy{Default: policy.Allow, Algorithms: []mman.CID{code.Resource}},
			Price:  price.Price{PerLease: 20_000, Share: 1000}, Capacity: 4,
		})
		require.NoError(t, err)
		_, err = owner.Publish(ctx, provider.Listing{
			Manifest: resources.Manifest{Version: 1, Kind: resources.KindCompute, Facet: resources.FacetWasm, Name: "compute"},
			Policy:   policy.Policy{Default: policy.Allow, Limits: policy.Limits{Network: "none"}},
			Price:    price.Price{Units: []price.UnitPrice{{Unit: resources.UnitWallMs, Per: 1000, UMan: 10_000}}}, Capacity: 4,
		})
		require.NoError(t, err)
	})

	step("discover", func(t *testing.T) {
		t.Helper()
		for _, want := range []provider.Published{code, data} {
			var found []sdk.Found
			testnet.Eventually(t, want.Name+" is found in the DHT", func() (_ bool, err error) {
				found, err = consumer.Find(ctx, want.Kind, want.Facet, mman.CID{}, true)
				return len(found) > 0, err
			})
			require.Len(t, found, 1)
			require.Equal(t, want.Resource, found[0].Offer.Resource)
			require.NotNil(t, found[0].Manifest)
			require.Equal(t, want.Name, found[0].Manifest.Name)
		}
	})

	wanted := sdk.DefaultWanted()
	wanted.Algorithm, wanted.Data, wanted.Discover = sdk.Content{Resource: code.Resource}, []sdk.Content{{Resource: data.Resource}}, true
	var lease *sdk.Lease
	step("match", func(t *testing.T) {
		t.Helper()
		forbidden := wanted
		forbidden.Algorithm = sdk.Content{File: file(t, "wordcount.wasm", examples.WordcountModule())}
		forbidden.Discover = false
		_, err := consumer.Lease(ctx, forbidden)
		var refused *sdk.NotServedError
		require.ErrorAs(t, err, &refused)
		require.ErrorIs(t, err, mman.ErrPolicy)
		require.Equal(t, policy.RuleAlgorithms, refused.Decision.Rejections[0].Rule)

		lease, err = consumer.Lease(ctx, wanted)
		require.NoError(t, err)
	})

	step("lease", func(t *testing.T) {
		t.Helper()
		onChain, err := consumer.Chain().Lease(ctx, lease.Lease.ID)
		require.NoError(t, err)
		require.Equal(t, market.LeaseOpen, onChain.State)
		require.Equal(t, net.Providers[1].Address, onChain.Algorithm().Provider)
		require.Equal(t, net.Providers[0].Address, onChain.Compute().Provider)
		supply, err := consumer.Chain().Supply(ctx)
		require.NoError(t, err)
		require.Equal(t, wanted.Cap, supply.Escrow)
		require.True(t, supply.Conserved())
	})

	var session *sdk.Session
	var outcome sdk.Outcome
	step("execute", func(t *testing.T) {
		t.Helper()
		var err error
		session, err = consumer.Open(ctx, lease)
		require.NoError(t, err)
		var out, errs bytes.Buffer
		outcome, err = session.Run(ctx, sdk.Work{Args: []string{"--seed", "7"}, Stdout: &out, Stderr: &errs})
		require.NoError(t, err, errs.String())
		require.Zero(t, outcome.Result.ExitCode, errs.String())
		want, err := stats.Summarize(examples.Penguins(), stats.Options{Sample: true, Seed: 7})
		require.NoError(t, err)
		require.Equal(t, string(want), out.String())
	})

	step("receipt", func(t *testing.T) {
		t.Helper()
		gross, err := lease.Lease.Gross(0, outcome.Statement.Usage)
		require.NoError(t, err)
		require.Equal(t, gross, outcome.Paid)
		paid, err := lease.Paid()
		require.NoError(t, err)
		require.Equal(t, gross, paid)
	})

	step("settle", func(t *testing.T) {
		t.Helper()
		_, err := session.Settle(ctx)
		require.NoError(t, err)
		onChain, err := consumer.Chain().Lease(ctx, lease.Lease.ID)
		require.NoError(t, err)
		require.Equal(t, market.LeaseClosed, onChain.State)
		require.Equal(t, outcome.Paid, onChain.Paid)
		require.Equal(t, wanted.Cap, onChain.Paid+onChain.Refunded)
		supply, err := consumer.Chain().Supply(ctx)
		require.NoError(t, err)
		require.Zero(t, supply.Escrow)
		require.True(t, supply.Conserved())
		st, err := consumer.Chain().Status(ctx)
		require.NoError(t, err)
		require.NotEmpty(t, appHash(t, net, st.Height-1))
	})
}

// appHash returns the state's root at height, on which all nodes must agree.
func appHash(t *testing.T, net *testnet.Net, height uint64) string {
	t.Helper()
	var hash string
	for _, n := range net.Nodes() {
		c := n.RPC(t)
		testnet.Eventually(t, n.Name+" reaches the height", func() (bool, error) {
			st, err := c.Status(t.Context())
			return st.Height > height, err
		})
		h, err := c.AppHash(t.Context(), height)
		require.NoError(t, err)
		if hash == "" {
			hash = h
		}
		require.Equal(t, hash, h, n.Name)
	}
	return hash
}

func file(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

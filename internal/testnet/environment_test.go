package testnet_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/internal/testnet"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/environment"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
	"github.com/limboid/massive-man/sdk"
)

const perStep = 10

// offerSteps lends compute by the step, on a network that has it for other units too.
func offerSteps(t *testing.T, owner *testnet.Node) {
	t.Helper()
	_, err := owner.Provider.Publish(t.Context(), provider.Listing{
		Manifest: resources.Manifest{Version: 1, Kind: resources.KindCompute, Facet: resources.FacetWasm, Name: "steps", Attributes: []resources.Attribute{{Key: "priced", Value: "step"}}},
		Policy:   policy.Policy{Default: policy.Allow}, Capacity: 4,
		Price: price.Price{Units: []price.UnitPrice{{Unit: resources.UnitSteps, Per: 1, UMan: perStep}}},
	})
	require.NoError(t, err)
}

// steps is the part of TestTalk that is an environment's: batches are reset and stepped
// on a lease, each step is paid, none makes a transaction, what cannot be is refused,
// and a program that is no environment ends with a sentence.
func steps(t *testing.T, owner *testnet.Node, consumer *sdk.Client) {
	t.Helper()
	ctx := t.Context()
	offerSteps(t, owner)
	wanted := sdk.DefaultWanted()
	wanted.Where = `"priced=step" in offer.attributes`
	wanted.Environment = sdk.Content{File: file(t, "cartpole.wasm", examples.CartPoleModule())}
	lease, err := consumer.Lease(ctx, wanted)
	require.NoError(t, err)
	session, err := consumer.Open(ctx, lease)
	require.NoError(t, err)
	_, err = session.Run(ctx, sdk.Work{})
	require.ErrorIs(t, err, mman.ErrUnsupported, "it is reset and stepped, not run")
	account := lease.Lease.Consumer
	before, err := consumer.Chain().Account(ctx, account)
	require.NoError(t, err)

	play := func(seed uint64, n, times int) ([]float64, sdk.Outcome) {
		env, spec, err := session.Environment(ctx, sdk.Work{Held: func(err error) { t.Log("held: ", err) }})
		require.NoError(t, err)
		require.Equal(t, "CartPole-v1", spec.ID)
		_, err = env.Reset(ctx, environment.Reset{NumEnvs: n, Seeds: []uint64{seed}})
		require.NoError(t, err)
		actions := make([]float64, n)
		var last environment.Moved
		for i := range times {
			for k := range actions {
				actions[k] = float64((i + k) % 2)
			}
			last, err = env.Step(ctx, actions)
			require.NoError(t, err)
		}
		actions[0] = 2
		_, err = env.Step(ctx, actions)
		require.ErrorIs(t, err, mman.ErrInvalid)
		_, err = env.Reset(ctx, environment.Reset{NumEnvs: 2000})
		require.ErrorIs(t, err, mman.ErrPrice, "a batch that a window does not pay for")
		outcome, err := env.Close(ctx)
		require.NoError(t, err)
		require.Zero(t, outcome.Result.Code)
		require.EqualValues(t, n*times, outcome.Usage.Steps)
		require.EqualValues(t, n*times*perStep, outcome.Paid, "each step is paid, and nothing else")
		return last.Observation, outcome
	}
	// 64 carts 100 times cost 64,000 uman, three windows and more.
	once, first := play(42, 64, 100)
	again, second := play(42, 64, 100)
	require.Equal(t, once, again, "the same seeds")
	require.Equal(t, first.Result.Output, second.Result.Output)
	require.Equal(t, first.Usage.Fuel, second.Usage.Fuel)
	other, _ := play(43, 64, 100)
	require.NotEqual(t, once, other)
	after, err := consumer.Chain().Account(ctx, account)
	require.NoError(t, err)
	require.Equal(t, before.Sequence, after.Sequence, "no run and no step made a transaction")

	// A user who gives up in the middle pays for what was answered.
	giving, stop := context.WithCancel(ctx)
	env, _, err := session.Environment(giving, sdk.Work{Idle: time.Hour})
	require.NoError(t, err)
	_, err = env.Reset(ctx, environment.Reset{})
	require.NoError(t, err)
	_, err = env.Step(ctx, []float64{1})
	require.NoError(t, err)
	stop()
	outcome, err := env.Close(giving)
	require.ErrorIs(t, err, mman.ErrCanceled)
	require.EqualValues(t, 1, outcome.Usage.Steps)
	require.EqualValues(t, perStep, outcome.Paid)
	_, err = session.Settle(ctx)
	require.NoError(t, err)

	wanted.Environment = sdk.Content{File: file(t, "print.wasm", wasmtest.Print("no environment"))}
	if lease, err = consumer.Lease(ctx, wanted); err == nil {
		session, err = consumer.Open(ctx, lease)
	}
	require.NoError(t, err)
	_, _, err = session.Environment(ctx, sdk.Work{})
	require.ErrorIs(t, err, mman.ErrEnvironment)
	require.ErrorContains(t, err, "the first is its spec")
	require.NoError(t, session.Close(ctx))
}

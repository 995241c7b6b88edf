package testnet_test

import (
	"bufio"
	"context"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/testnet"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
	"github.com/limboid/massive-man/sdk"
)

// TestTalk is a conversation with an algorithm at a provider: input and output go
// to and fro, it is paid ahead by windows, costs in the end what it
// used, and settles to the last uman.
func TestTalk(t *testing.T) {
	net := testnet.New(t, 1)
	owner := net.Validators[0]
	consumer := net.Consumer(t)
	ctx := t.Context()
	_, err := owner.Provider.Publish(ctx, provider.Listing{
		Manifest: resources.Manifest{Version: 1, Kind: resources.KindCompute, Facet: resources.FacetWasm, Name: "compute"},
		Policy:   policy.Policy{Default: policy.Allow},
		// A window of 2 % of 1 MAN pays for 20 bytes out.
		Price: price.Price{PerLease: 5000, Units: []price.UnitPrice{{Unit: resources.UnitOutBytes, Per: 1, UMan: 1000}, {Unit: resources.UnitFuel, Per: 1000, UMan: 1}}}, Capacity: 4,
	})
	require.NoError(t, err)
	wanted := sdk.DefaultWanted()
	wanted.Algorithm = sdk.Content{File: file(t, "echo.wasm", wasmtest.Echo())}
	wanted.Limits.WallMs = 600_000
	lease, err := consumer.Lease(ctx, wanted)
	require.NoError(t, err)
	session, err := consumer.Open(ctx, lease)
	require.NoError(t, err)

	in, typed := io.Pipe()
	out, written := io.Pipe()
	answers := bufio.NewReader(out)
	type end struct {
		outcome sdk.Outcome
		err     error
	}
	done := make(chan end, 1)
	var paid []mman.Amount
	go func() {
		outcome, err := session.Run(ctx, sdk.Work{
			Input: in, Stdout: written, Paid: func(a mman.Amount) { paid = append(paid, a) },
			Held: func(err error) { t.Log("held: ", err) },
		})
		_ = written.CloseWithError(err) // always nil
		done <- end{outcome, err}
	}()
	say := func(line string) {
		t.Helper()
		_, err := io.WriteString(typed, line+"\n")
		require.NoError(t, err)
		got, err := answers.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, line+"\n", got)
	}
	for range 10 {
		say("what is said twice") // 19 bytes: a window for each line
	}
	for range 10 {
		say("and something else.")
	}
	require.NoError(t, typed.Close())
	got := <-done
	require.NoError(t, got.err)
	require.Zero(t, got.outcome.Result.Code)
	require.EqualValues(t, 390, got.outcome.Usage.OutBytes)
	require.EqualValues(t, 390, got.outcome.Usage.InBytes)
	require.Greater(t, len(paid), 10, "it was paid on the way")
	gross, err := got.outcome.Statement.Factors.Gross(got.outcome.Statement.Usage)
	require.NoError(t, err)
	require.Equal(t, gross, got.outcome.Paid, "what was paid ahead and not used came back")
	require.Greater(t, gross, lease.Lease.Progress(), "an interactive run is not held to the progress part")

	_, err = session.Settle(ctx)
	require.NoError(t, err)
	onChain, err := consumer.Chain().Lease(ctx, lease.Lease.ID)
	require.NoError(t, err)
	require.Equal(t, market.LeaseClosed, onChain.State)
	require.Equal(t, gross, onChain.Paid)
	require.Equal(t, wanted.Cap, onChain.Paid+onChain.Refunded)

	t.Run("environment", func(t *testing.T) { steps(t, owner, consumer) })
}

// TestTalkCanceled: a consumer that gives up pays for what was used, and the guest
// that waits for it is gone.
func TestTalkCanceled(t *testing.T) {
	net := testnet.New(t, 1)
	consumer := net.Consumer(t)
	_, err := net.Validators[0].Provider.Publish(t.Context(), provider.Listing{
		Manifest: resources.Manifest{Version: 1, Kind: resources.KindCompute, Facet: resources.FacetWasm, Name: "compute"},
		Policy:   policy.Policy{Default: policy.Allow}, Capacity: 4,
		Price: price.Price{Units: []price.UnitPrice{{Unit: resources.UnitWallMs, Per: 1, UMan: 1}}},
	})
	require.NoError(t, err)
	wanted := sdk.DefaultWanted()
	wanted.Algorithm = sdk.Content{File: file(t, "echo.wasm", wasmtest.Echo())}
	lease, err := consumer.Lease(t.Context(), wanted)
	require.NoError(t, err)
	session, err := consumer.Open(t.Context(), lease)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	in, typed := io.Pipe()
	go func() { _, _ = io.WriteString(typed, "hello\n") }() // read or not
	outcome, err := session.Run(ctx, sdk.Work{Input: in, Stdout: writer(func(p []byte) (int, error) {
		cancel()
		return len(p), nil
	})})
	require.NoError(t, err)
	require.Equal(t, mman.ErrCanceled.Code, outcome.Result.Code)
	require.Positive(t, outcome.Paid)
	require.NoError(t, typed.Close())
	again, err := session.Run(t.Context(), sdk.Work{})
	require.NoError(t, err, "the session goes on")
	require.Zero(t, again.Result.Code)
	_, err = session.Settle(t.Context())
	require.NoError(t, err)
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

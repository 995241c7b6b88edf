package e2e_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/localnet"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
	"github.com/limboid/massive-man/sdk"
)

// hesitant returns an algorithm that ends at once without input, and never with
// some.
func hesitant() []byte {
	const vector, count, scratch, buffer = 16, 32, 64, 1024
	b := &wasmtest.Builder{MinPages: 1}
	read := b.ImportWASI("fd_read", 4)
	b.Data(vector, []byte{0, buffer >> 8, 0, 0, 16, 0, 0, 0})
	return b.Command(0,
		wasmtest.CallWASI(read, 0, vector, 1, count),
		wasmtest.Load(count),
		wasmtest.If(wasmtest.Loop(wasmtest.Br(0))),
	)
}

// grace is that of the chain of TestVanish.
const grace = 20

// vanishing is a network with one lender, who settles only when a lease is about
// to end or it starts, and a consumer who is a process of its own.
type vanishing struct {
	*network

	lender *localnet.Node
	home   string // of the consumer
	client *sdk.Client
	run    []string // arguments that run hesitant
	spin   string   // input on which it never ends
}

// TestVanish lets either side of a run vanish in its middle. Nothing is paid
// above the last receipt, what the receipts say is not lost, and the rest comes
// back when the lease's time is over.
func TestVanish(t *testing.T) {
	net := raise(t, localnet.Spec{
		Validators: 1, Providers: []string{"lender"}, Consumers: []string{"consumer"}, Params: shortLeases(grace, 5),
	}, 1_000_000)
	dir := t.TempDir()
	v := &vanishing{
		network: net, lender: net.Providers[0], home: net.Consumers[0].Home, client: net.consumer(t),
		run:  []string{"request", "run", write(t, dir, "hesitant.wasm", hesitant()), "--wall", "60s", "--blocks", "60", "--max", "1MAN"},
		spin: write(t, dir, "spin", []byte("spin")),
	}
	net.publish(t, v.lender, "compute", computeListing, nil)
	t.Run("consumer", v.consumerVanishes)
	t.Run("provider", v.providerVanishes)
}

// receipts is how many a consumer signs before it vanishes: the last one may not have
// left it, and the provider may not have written down the one before, but it goes on only
// for a while without.
const receipts = 5

// spinning starts a run that never ends and waits until its consumer, a process,
// has signed for parts of it.
func (v *vanishing) spinning(t *testing.T) (*job, *sdk.OwnLease) {
	t.Helper()
	before, err := v.client.Leases().All()
	require.NoError(t, err)
	j := begin(t, v.home, append([]string{"client", "-o", "json"}, append(v.run, "--input", v.spin)...)...)
	var own *sdk.OwnLease
	signed := map[mman.Amount]bool{}
	eventually(t, within, "some receipts", func(context.Context) (bool, error) {
		select {
		case <-j.done:
			require.FailNow(t, "the consumer ended first", "%s", &j.errs)
		default:
		}
		all, err := v.client.Leases().All()
		if err != nil {
			return false, err
		}
		i := slices.IndexFunc(all, func(o *sdk.OwnLease) bool {
			return !slices.ContainsFunc(before, func(b *sdk.OwnLease) bool { return b.Lease.ID == o.Lease.ID })
		})
		if i < 0 {
			return false, nil
		}
		own = all[i]
		paid, err := own.Paid()
		if paid > 0 {
			signed[paid] = true
		}
		return len(signed) == receipts, err
	})
	return j, own
}

func (v *vanishing) lease(t *testing.T, id mman.LeaseID) market.Lease {
	t.Helper()
	lease, err := v.client.Chain().Lease(t.Context(), id)
	require.NoError(t, err)
	return lease
}

// consumerVanishes kills the consumer in the middle of a run, and then the
// provider before it has settled anything.
func (v *vanishing) consumerVanishes(t *testing.T) {
	j, own := v.spinning(t)
	j.kill(t)
	signed, err := own.Paid()
	require.NoError(t, err)
	require.Zero(t, v.lease(t, own.Lease.ID).Paid, "it settles at the end")
	v.kill(t, v.lender)
	v.start(t, v.lender)
	v.await(t, v.lender, 1)

	// The provider has the receipts that it held, and settles them.
	eventually(t, within, "the settlement", func(ctx context.Context) (bool, error) {
		lease, err := v.client.Chain().Lease(ctx, own.Lease.ID)
		return lease.Paid > 0, err
	})
	final := v.expire(t, v.client)
	lease := final.leases[own.Lease.ID]
	require.LessOrEqual(t, lease.Paid, signed)
	require.Equal(t, lease.Cap, lease.Paid+lease.Refunded)
	require.Equal(t, lease.Expires+grace, lease.CloseAt)
	require.Equal(t, lease.Opened+60, lease.Expires)
	require.Zero(t, final.supply[0].Escrow)

	// The rest came back at that height and not before: the last heights can
	// still be asked for.
	rpc := v.running[v.Validators[0]].Running.RPC
	var before, after market.Lease
	path := "/mman/leases/" + lease.ID.String()
	require.NoError(t, at(t.Context(), rpc, lease.CloseAt-1, path, &before))
	require.NoError(t, at(t.Context(), rpc, lease.CloseAt, path, &after))
	require.Equal(t, market.LeaseOpen, before.State)
	require.Equal(t, market.LeaseClosed, after.State)
}

// providerVanishes kills the provider in the middle of a run. The consumer is
// told, and uses the same lease again when the provider is back.
func (v *vanishing) providerVanishes(t *testing.T) {
	j, own := v.spinning(t)
	v.kill(t, v.lender)
	code := j.end(t, within)
	require.Contains(t, []int{1, 4}, code)
	require.NotContains(t, j.errs.String(), "goroutine ")
	answer := object(t, j.out.Bytes())
	require.Contains(t, answer, "error")
	signed, err := own.Paid()
	require.NoError(t, err)
	require.Zero(t, v.lease(t, own.Lease.ID).Paid)

	// Without a provider the consumer is told so.
	gone := ask(t, v.home, 4, v.run...)
	require.Contains(t, gone, "error")

	v.start(t, v.lender)
	v.await(t, v.lender, 1)
	again := ask(t, v.home, 0, slices.Concat(v.run, []string{"--close"})...)
	require.Equal(t, own.Lease.ID.String(), again["lease"], "the open lease is used again")
	paid, ok := again["paid_uman"].(float64)
	require.True(t, ok)
	lease := v.lease(t, own.Lease.ID)
	require.Equal(t, market.LeaseClosed, lease.State)
	require.Equal(t, signed+mman.Amount(paid), lease.Paid, "what was signed before the kill and after it")
	require.Equal(t, lease.Cap, lease.Paid+lease.Refunded)
	require.NoDirExists(t, filepath.Join(v.home, "leases", lease.ID.String()))
	st, err := v.client.Chain().Status(t.Context())
	require.NoError(t, err)
	require.Zero(t, v.audit(t, st.Height-1).supply[0].Escrow)
}

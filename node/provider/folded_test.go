package provider_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/p2p/protocol/blocks"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
)

// TestOldAccessesAreFolded: a consumer that comes more often than accesses are listed
// cannot push its first one out of the owner's log, not even while that goes on, and
// nothing that left is forgotten.
func TestOldAccessesAreFolded(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	l.KeepAccesses(3)
	hold, held := make(chan struct{}), make(chan struct{})
	l.executor.Play = func(_ context.Context, task resources.Task, streams resources.IO) (resources.Result, error) {
		if len(task.Args) > 0 {
			close(held)
			<-hold
		}
		_, err := streams.Stdout.Write([]byte("ab"))
		return resources.Result{Usage: resources.Usage{WallMs: 1, CallCount: 1, InBytes: 3, OutBytes: 2}}, err
	}
	first := l.attack(t, 1, module, []byte("secret"), nil)
	done := make(chan error, 1)
	go func() {
		_, err := first.request(func(r *session.Run) { r.Args = []string{"wait"} })
		done <- err
	}()
	<-held
	again := l.consumer(t, first.lease, 1)
	require.NoError(t, again.open())
	for range 6 {
		again.pay()
	}
	only := func(f provider.AccessFilter) provider.Access {
		t.Helper()
		f.Limit, f.Folded = 10, true
		log, err := l.Accesses(f)
		require.NoError(t, err)
		require.Len(t, log, 1)
		require.NotNil(t, log[0].Folded)
		return log[0]
	}
	lease := provider.AccessFilter{Lease: first.lease.ID}
	one := only(lease)
	require.False(t, one.Over, "the first goes on")
	require.Equal(t, []uint64{0, 1}, []uint64{one.Lane, one.Run})
	require.Equal(t, provider.Folded{Count: 4, Open: 1, Height: 100, Lane: 1, Run: 3, BytesIn: 9, BytesOut: 6}, *one.Folded)
	close(hold)
	require.NoError(t, <-done)

	// The end of what was folded is told too, and a restart forgets nothing.
	for name, restart := range map[string]bool{"at once": false, "after a restart": true} {
		if restart {
			l.restart(t)
		}
		one = only(lease)
		require.True(t, one.Over, name)
		require.Equal(t, []uint64{3, 2}, []uint64{one.BytesIn, one.BytesOut}, "%s: of the first alone", name)
		require.Equal(t, provider.Folded{Count: 4, Height: 100, Lane: 1, Run: 3, BytesIn: 12, BytesOut: 8}, *one.Folded, name)
		log, err := l.Accesses(provider.AccessFilter{Lease: first.lease.ID, Limit: 10})
		require.NoError(t, err)
		require.Len(t, log, 4, "%s: three one by one, and those that were folded", name)
		var count, in, out uint64
		for _, a := range log {
			if f := a.Folded; f != nil {
				count, in, out = count+f.Count, in+f.BytesIn, out+f.BytesOut
				continue
			}
			count, in, out = count+1, in+a.BytesIn, out+a.BytesOut
		}
		require.Equal(t, []uint64{7, 7 * 3, 7 * 2}, []uint64{count, in, out}, name)
	}

	// Another lease pushes those out that are left, and is told apart.
	l.KeepAccesses(3)
	l.chain.change(func() { l.chain.height++ })
	second := l.attack(t, 2, module, []byte("secret"), nil)
	for range 5 {
		second.pay()
	}
	require.EqualValues(t, 7, only(lease).Folded.Count)
	other := only(provider.AccessFilter{Lease: second.lease.ID})
	require.EqualValues(t, 2, other.Folded.Count)
	log, err := l.Accesses(provider.AccessFilter{Limit: 1, Folded: true})
	require.NoError(t, err)
	require.Equal(t, []provider.Access{other}, log[:1], "as many as were asked for, the newest first")

	// So are refusals.
	for range 5 {
		require.Error(t, l.ask(t, second.lease, l.host.ID(), l.host.Sign, func(r *blocks.Request) { r.Root = mman.SumCID(mman.CodecRaw, []byte("secret")) }))
	}
	log, err = l.Accesses(provider.AccessFilter{Lease: second.lease.ID, Limit: 10, Folded: true})
	require.NoError(t, err)
	require.Len(t, log, 2)
	for _, a := range log {
		if a.Decision == policy.Deny {
			require.EqualValues(t, 2, a.Folded.Count)
			require.Zero(t, a.Folded.BytesOut)
		}
	}
}

package provider_test

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/node/store"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/p2ptest"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
)

// diskStores keep a lease's contents in the node's database, as a node does.
type diskStores struct {
	*stores

	data *store.Data
}

func (s diskStores) Lease(id mman.LeaseID) *content.PrivateStore {
	return content.NewPrivateStore(s.data.LeaseBlocks(id))
}

// durablePayer signs what it is told, after it wrote it down.
type durablePayer struct {
	lender *lender
	lease  market.Lease
	book   *store.KV
}

func (p durablePayer) Acknowledge(s market.Signed) (market.Signed, bool, error) {
	st, id, err := market.OpenStatement(chainID, s, p.lender.host.ID())
	if err != nil {
		return market.Signed{}, false, err
	}
	gross, err := p.lease.Gross(st.Lane, st.Usage)
	if err != nil {
		return market.Signed{}, false, err
	}
	r, err := market.SignReceipt(chainID, market.Receipt{Version: 1, Statement: id, Lease: st.Lease, Lane: st.Lane, Seq: st.Seq, Paid: gross, Final: st.Result != nil}, signer{p.lender.leaseKey})
	if err != nil {
		return market.Signed{}, false, err
	}
	return r, true, p.book.Set([]byte{1}, r.Bytes)
}

// BenchmarkOpenLease measures a trivial run on an open lease, request to
// result, between two hosts over loopback: every statement and receipt is
// signed, verified and on disk on both sides.
func BenchmarkOpenLease(b *testing.B) {
	l := newLender(b, 0)
	l.useDisk(b)
	l.executor.Play = func(_ context.Context, _ resources.Task, streams resources.IO) (resources.Result, error) {
		_, err := io.WriteString(streams.Stdout, "42\n")
		return resources.Result{Usage: resources.Usage{WallMs: 1, OutBytes: 3, CallCount: 1}}, err
	}
	host := p2ptest.Start(b, 1)
	p2ptest.Connect(b, host, l.host)
	server := &session.Server{Provider: l, Idle: time.Minute}
	l.host.Handle(b.Context(), session.Protocol, func(ctx context.Context, s p2p.Stream) { _ = server.Serve(ctx, s) })
	lease := l.lease(1, func(m *market.Lease) { m.Cap = mman.MaxSupply })
	scfg := store.DefaultConfig(filepath.Join(b.TempDir(), "consumer"), l.cfg.Logger)
	scfg.MinFree = 0
	db, err := store.Open(scfg)
	require.NoError(b, err)
	defer func() { require.NoError(b, db.Close()) }()
	c, err := session.Dial(b.Context(), host, session.Opening{ChainID: chainID, Lease: lease.ID, Provider: l.host.ID()}, signer{l.leaseKey})
	require.NoError(b, err)
	payer := durablePayer{l, lease, db.Data().Namespace(store.NamespaceNode)}
	source := func(mman.CID) (io.ReadCloser, uint64, error) {
		return io.NopCloser(bytes.NewReader(module)), uint64(len(module)), nil
	}
	var took []time.Duration
	n := uint64(0)
	for b.Loop() {
		n++
		var stdout bytes.Buffer
		begun := time.Now()
		_, err := c.Run(b.Context(), session.Run{Number: n, Limits: lease.Limits}, source, payer, session.Sinks{Stdout: &stdout, Stderr: io.Discard})
		took = append(took, time.Since(begun))
		require.NoError(b, err)
		require.Equal(b, "42\n", stdout.String())
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	_, err = c.Close(b.Context(), false)
	require.NoError(b, err)
}

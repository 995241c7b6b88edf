package provider_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	blockformat "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/p2ptest"
	"github.com/limboid/massive-man/p2p/protocol/blocks"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
)

// counting is a block store that counts what is looked up.
type counting struct {
	content.Blockstore

	n *atomic.Uint64
}

func (c counting) Has(ctx context.Context, id cid.Cid) (bool, error) {
	c.n.Add(1)
	return c.Blockstore.Has(ctx, id)
}

func (c counting) Get(ctx context.Context, id cid.Cid) (blockformat.Block, error) {
	c.n.Add(1)
	return c.Blockstore.Get(ctx, id)
}

func (c counting) GetSize(ctx context.Context, id cid.Cid) (int, error) {
	c.n.Add(1)
	return c.Blockstore.GetSize(ctx, id)
}

// TestNoOracle: who may not have a private block learns nothing by asking for it. The
// answers have the same words whether the block is here or not, and so much is looked
// up for them: what is compared is the number of operations on the private store and
// on the ledger, over asks in a random order, not a clock.
func TestNoOracle(t *testing.T) {
	t.Parallel()
	var looks atomic.Uint64
	l := newLender(t, 0)
	l.stores.private = content.NewPrivateStore(counting{content.Memory(), &looks})
	l.restart(t)
	require.NoError(t, blocks.Serve(t.Context(), l.host, l, blocks.Default()))
	other := p2ptest.Start(t, 1)
	p2ptest.Connect(t, l.host, other)
	secret := bytes.Repeat([]byte("sealed "), 400_000) // three blocks and their root
	p, err := l.Publish(t.Context(), listing(t, resources.KindDataset, "data", true, secret))
	require.NoError(t, err)
	root, _, err := content.SumUnixFS(t.Context(), bytes.NewReader(secret))
	require.NoError(t, err)
	manifest, err := l.Manifest(t.Context(), p.Resource)
	require.NoError(t, err)
	there, err := l.stores.private.Has(t.Context(), root)
	require.NoError(t, err)
	require.True(t, there)
	lease := l.lease(1, func(m *market.Lease) {
		m.Legs = []market.Leg{m.Legs[0], {Role: market.RoleData, Resource: p.Resource, Offer: p.Offer, Peer: l.host.ID(), Provider: l.chain.Address(), Sealed: true}, {Role: market.RoleCompute, Peer: other.ID()}}
	})
	strange := mman.LeaseID{99}
	random := rand.New(rand.NewPCG(1, 2))
	asks := map[string]func(*blocks.Request, bool){
		"root": func(r *blocks.Request, here bool) {
			if r.Root = root; !here {
				r.Root = mman.SumCID(mman.CodecDagPB, []byte{byte(random.Uint32()), byte(random.Uint32())})
			}
		},
		"block": func(r *blocks.Request, here bool) {
			if r.Root = mman.SumCID(mman.CodecRaw, secret[:content.ChunkSize]); !here {
				r.Root = mman.SumCID(mman.CodecRaw, []byte{byte(random.Uint32()), byte(random.Uint32())})
			}
		},
		"name": func(r *blocks.Request, here bool) {
			if r.Name = manifest.Content.Private; !here {
				r.Name = mman.Sum256([]byte{byte(random.Uint32())})
			}
		},
	}
	for name, ask := range asks {
		for who, sign := range map[string]func(mman.SignContext, string, []byte) []byte{"consumer": signer{l.leaseKey}.Sign, "compute": other.Sign} {
			for _, id := range []mman.LeaseID{lease.ID, strange} {
				counts, texts := map[bool]map[uint64]int{true: {}, false: {}}, map[bool]map[string]int{true: {}, false: {}}
				for i := range 40 {
					here := i%2 == 0
					if random.IntN(2) == 0 {
						here = !here
					}
					r := blocks.Request{Lease: id, Asker: other.ID()}
					ask(&r, here)
					payload, err := r.Payload()
					require.NoError(t, err)
					r.Signature = sign(mman.SignBlocks, chainID, payload)
					before := looks.Load() + l.chain.looks.Load()
					_, err = l.Authorize(t.Context(), r, other.ID())
					require.Error(t, err)
					counts[here][looks.Load()+l.chain.looks.Load()-before]++
					if i >= 4 {
						continue
					}
					into := content.NewPrivateStore(content.Memory())
					_, err = blocks.Fetch(t.Context(), other, blocks.Job{Sources: []blocks.Source{{Peer: l.host.ID(), Request: r}}, Into: into, MaxBytes: 1 << 20}, blocks.Default())
					require.ErrorIs(t, err, mman.ErrNotFound)
					text := strings.ReplaceAll(strings.ReplaceAll(err.Error(), r.Root.String(), "ROOT"), r.Name.String(), "NAME")
					texts[here][text]++
				}
				same := func(a, b any) { require.Equal(t, a, b, "%s by the %s of lease %s", name, who, id) }
				same(keys(counts[true]), keys(counts[false]))
				require.Len(t, keys(counts[true]), 1, "as much is looked up each time")
				if len(texts[true]) > 0 && len(texts[false]) > 0 {
					same(keys(texts[true]), keys(texts[false]))
				}
			}
		}
	}
	_, err = l.public.Public().Get(t.Context(), root)
	require.ErrorIs(t, err, mman.ErrNotFound, "Bitswap and the gateway read the public store alone")
	log, err := l.Accesses(provider.AccessFilter{Limit: 10, Lease: lease.ID})
	require.NoError(t, err)
	require.Len(t, log, 10)
	require.Equal(t, policy.Deny, log[0].Decision)
	require.Equal(t, provider.AccessTransfer, log[0].Form)
	require.Equal(t, other.ID(), log[0].Peer)
	require.Zero(t, log[0].BytesOut)
}

func keys[K comparable](m map[K]int) map[K]bool {
	out := map[K]bool{}
	for k := range m {
		out[k] = true
	}
	return out
}

// TestLentIsNotServedOn: what another provider lent to a lease is for its runs alone.
// The consumer can neither fetch it nor put it on a run's standard input by its CID,
// which the result names; other leases and the public store do not have it.
func TestLentIsNotServedOn(t *testing.T) {
	t.Parallel()
	compute, holder, p, lease := lentAlgorithm(t)
	holder.chain.change(func() { holder.chain.leases[lease.ID] = lease })
	compute.executor.Play = plain
	c := compute.consumer(t, lease, 0)
	require.NoError(t, c.open())
	st := c.pay()
	lent := mman.SumCID(mman.CodecRaw, module)
	require.Equal(t, lent, st.Result.Algorithm)

	log, err := holder.Accesses(provider.AccessFilter{Limit: 10, Resource: p.Resource})
	require.NoError(t, err)
	require.Len(t, log, 1)
	require.Equal(t, provider.AccessTransfer, log[0].Form)
	require.Equal(t, compute.host.ID(), log[0].Peer)
	holder.eventually(t, "the transfer is over", func() bool {
		log, err = holder.Accesses(provider.AccessFilter{Limit: 10, Resource: p.Resource})
		return err == nil && log[0].Over
	})
	require.EqualValues(t, len(module), log[0].BytesOut)

	key := signer{compute.leaseKey}.Sign
	asked := func(r *blocks.Request) { r.Root = lent }
	require.ErrorIs(t, compute.ask(t, lease, mman.PeerID{4}, key, asked), mman.ErrNotFound)
	require.ErrorIs(t, compute.ask(t, compute.lease(2), mman.PeerID{4}, key, asked), mman.ErrNotFound)
	_, err = compute.public.Public().Get(t.Context(), lent)
	require.ErrorIs(t, err, mman.ErrNotFound)
	for name, restart := range map[string]bool{"at once": false, "after a restart": true} {
		if restart {
			c.work.Close()
			compute.restart(t)
			require.NoError(t, c.open())
		}
		run := session.Run{Number: c.run + 1, Limits: lease.Limits, Stdin: lent, StdinBytes: uint64(len(module))}
		missing, err := c.work.Missing(t.Context(), run)
		require.NoError(t, err)
		require.Equal(t, []mman.CID{lent}, missing, "%s: the consumer has to bring it, as if it were not here", name)
		require.ErrorIs(t, c.work.Supply(t.Context(), lent, uint64(len(module)), strings.NewReader(fmt.Sprintf("%*s", len(module), "x"))), mman.ErrContent)
	}
	require.NoError(t, c.work.Supply(t.Context(), lent, uint64(len(module)), bytes.NewReader(module)))
}

// halfway is a block store that calls then, once, when so many blocks were read after it
// was armed.
type halfway struct {
	content.Blockstore

	left *atomic.Int64
	then func()
}

func (h halfway) Get(ctx context.Context, id cid.Cid) (blockformat.Block, error) {
	b, err := h.Blockstore.Get(ctx, id)
	if h.left.Add(-1) == 0 {
		h.then()
	}
	return b, err
}

// TestLeaseEndsWithinATransfer: what allowed a transfer is asked again while it goes on.
// When the lease is over, or the share was taken back, after some blocks, the next block
// is not there, and the owner's log says that the transfer has ended and why.
func TestLeaseEndsWithinATransfer(t *testing.T) {
	t.Parallel()
	big := make([]byte, 8*content.ChunkSize) // no two blocks alike
	_, _ = rand.NewChaCha8([32]byte{1}).Read(big)
	copy(big, module)
	change := func(l *lender, id mman.LeaseID, f func(*market.Lease)) {
		lease := l.chain.leases[id]
		f(&lease)
		l.chain.leases[id] = lease
	}
	for name, tc := range map[string]struct {
		end    func(l *lender, id mman.LeaseID)
		reason string // "" is a lease that stands
	}{
		"closed": {func(l *lender, id mman.LeaseID) {
			change(l, id, func(m *market.Lease) { m.State = market.LeaseClosed })
		}, "it is closed"},
		"expired":        {func(l *lender, _ mman.LeaseID) { l.chain.height = 1000 }, "expires at height 1000"},
		"revoked":        {func(l *lender, _ mman.LeaseID) { l.chain.grant = nil }, "was revoked or has expired"},
		"denied":         {func(l *lender, _ mman.LeaseID) { l.chain.grant = &policy.Policy{Default: policy.Deny} }, `rule "default"`},
		"blocks go by":   {func(*lender, mman.LeaseID) {}, ""},
		"and no more do": {func(l *lender, _ mman.LeaseID) { l.chain.height-- }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLender(t, 0)
			var left atomic.Int64
			lease := mman.LeaseID{1}
			l.stores.private = content.NewPrivateStore(halfway{content.Memory(), &left, func() {
				l.chain.change(func() {
					l.chain.height++
					tc.end(l, lease)
				})
			}})
			l.restart(t)
			require.NoError(t, blocks.Serve(t.Context(), l.host, l, blocks.Default()))
			other := p2ptest.Start(t, 1)
			p2ptest.Connect(t, l.host, other)
			p, err := l.Publish(t.Context(), listing(t, resources.KindAlgorithm, "algo", true, big))
			require.NoError(t, err)
			l.eventually(t, "prepared, so that nobody else reads", func() bool { return len(l.executor.Came()) > 0 })
			l.chain.change(func() { l.chain.grant = &policy.Policy{Default: policy.Allow} })
			l.lease(lease[0], func(m *market.Lease) {
				m.Legs = []market.Leg{
					{Role: market.RoleAlgorithm, Facet: resources.FacetWasm, Resource: p.Resource, Offer: p.Offer, Peer: l.host.ID(), Provider: l.chain.Address(), Granted: true},
					{Role: market.RoleCompute, Peer: other.ID()},
				}
			})
			r := blocks.Request{Lease: lease, Asker: other.ID()}
			r.Root, _, err = content.SumUnixFS(t.Context(), bytes.NewReader(big))
			require.NoError(t, err)
			payload, err := r.Payload()
			require.NoError(t, err)
			r.Signature = other.Sign(mman.SignBlocks, chainID, payload)
			into := content.NewPrivateStore(content.Memory())
			left.Store(4)
			got, err := blocks.Fetch(t.Context(), other, blocks.Job{Sources: []blocks.Source{{Peer: l.host.ID(), Request: r}}, Into: into, MaxBytes: 16 << 20}, blocks.Default())
			var log []provider.Access
			l.eventually(t, "the transfer is over", func() bool {
				var err error
				log, err = l.Accesses(provider.AccessFilter{Limit: 10, Lease: lease})
				return err == nil && len(log) == 1 && log[0].Over
			})
			require.Equal(t, policy.Allow, log[0].Decision)
			if tc.reason == "" {
				require.NoError(t, err)
				require.EqualValues(t, len(big), got.Size)
				require.Empty(t, log[0].Reason)
				return
			}
			require.ErrorIs(t, err, mman.ErrNotFound, "as if the block were not there")
			require.NotContains(t, err.Error(), tc.reason, "who asks is not told")
			require.Contains(t, log[0].Reason, tc.reason, "the owner is")
			require.NotZero(t, log[0].BytesOut)
			require.LessOrEqual(t, log[0].BytesOut, uint64(len(big)/2), "nothing after it")
		})
	}
}

package provider_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/p2p/p2ptest"
	"github.com/limboid/massive-man/p2p/protocol/blocks"
	"github.com/limboid/massive-man/p2p/protocol/offers"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
)

func TestPublish(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	data := []byte("public data")
	p, err := l.Publish(t.Context(), listing(t, resources.KindDataset, "pub", false, data))
	require.NoError(t, err)
	require.Equal(t, []string{tx.TypeBindNode, tx.TypeOffer}, kinds(l.chain.take()))
	m, err := l.Manifest(t.Context(), p.Resource)
	require.NoError(t, err)
	require.Equal(t, mman.SumCID(mman.CodecRaw, data), m.Content.Public)
	require.Equal(t, uint64(len(data)), m.Content.Bytes)
	o := l.chain.offers[p.Offer]
	require.False(t, o.Sealed)
	require.Equal(t, l.host.ID(), o.Peer)

	secret := []byte("private data")
	terms := listing(t, resources.KindDataset, "secret", true, secret)
	q, err := l.Publish(t.Context(), terms)
	require.NoError(t, err)
	m, err = l.Manifest(t.Context(), q.Resource)
	require.NoError(t, err)
	require.True(t, m.Content.Public.IsZero())
	require.NotContains(t, m.Content.Private.String(), mman.SumCID(mman.CodecRaw, secret).String())
	has, err := l.public.Public().Has(t.Context(), mman.SumCID(mman.CodecRaw, secret))
	require.NoError(t, err)
	require.False(t, has, "Bitswap never sees it")
	require.True(t, l.chain.offers[q.Offer].Sealed)

	// The same again: same salt, same manifest, new terms.
	l.restart(t)
	terms.Price.PerLease = 7
	again, err := l.Publish(t.Context(), terms)
	require.NoError(t, err)
	require.Equal(t, q.Resource, again.Resource)
	require.NotEqual(t, q.Offer, again.Offer)
	require.Len(t, l.Published(), 2)

	answers, err := l.Offers(t.Context(), offers.Query{Resource: q.Resource})
	require.NoError(t, err)
	require.Len(t, answers, 1)
	answers, err = l.Offers(t.Context(), offers.Query{Kind: string(resources.KindCompute)})
	require.NoError(t, err)
	require.Empty(t, answers)

	require.NoError(t, l.Withdraw(t.Context(), q.Resource))
	require.ErrorIs(t, l.Withdraw(t.Context(), q.Resource), mman.ErrNotFound)
	require.ErrorIs(t, l.Withdraw(t.Context(), mman.SumCID(mman.CodecRaw, nil)), mman.ErrNotFound)
	require.Len(t, l.Published(), 1)
	answers, err = l.Offers(t.Context(), offers.Query{Kind: string(resources.KindDataset)})
	require.NoError(t, err)
	require.Len(t, answers, 1)
	require.NoError(t, l.Announce(t.Context()))
	l.chain.take()
	_, err = l.Publish(t.Context(), terms)
	require.NoError(t, err, "after a withdrawal")
	require.Len(t, l.Published(), 2)
}

func TestPublishThatFails(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	terms := listing(t, resources.KindDataset, "a", true, []byte("a"))
	l.chain.change(func() { l.chain.fail = mman.ErrFunds })
	_, err := l.Publish(t.Context(), terms)
	require.ErrorIs(t, err, mman.ErrFunds)
	require.Empty(t, l.Published())
	at, stop := l.live(t)
	l.chain.change(func() { l.chain.fail = nil })
	at(101)
	l.eventually(t, "bound", func() bool { _, _, err := l.chain.Bound(l.host.ID()); return err == nil })
	require.NoError(t, stop())
	require.Equal(t, []string{tx.TypeBindNode}, kinds(l.chain.take()), "what was refused is not offered later")

	p, err := l.Publish(t.Context(), terms)
	require.NoError(t, err)
	l.chain.change(func() { l.chain.fail = mman.ErrFunds })
	better := terms
	better.Price.PerLease = 9
	_, err = l.Publish(t.Context(), better)
	require.ErrorIs(t, err, mman.ErrFunds)
	require.ErrorIs(t, l.Withdraw(t.Context(), p.Resource), mman.ErrFunds)
	require.Equal(t, p, l.Published()[0], "the old terms stand")

	for name, change := range map[string]func(*provider.Listing){
		"no file":      func(l *provider.Listing) { l.Content = "/nowhere/at/all" },
		"a folder":     func(l *provider.Listing) { l.Content = t.TempDir() },
		"no name":      func(l *provider.Listing) { l.Manifest.Name = "" },
		"no policy":    func(l *provider.Listing) { l.Policy = policy.Policy{} },
		"compute file": func(l *provider.Listing) { l.Manifest.Kind = resources.KindCompute },
		"other facet": func(l *provider.Listing) {
			l.Manifest.Kind, l.Manifest.Facet, l.Content = resources.KindCompute, "gpu", ""
		},
	} {
		bad := terms
		change(&bad)
		_, err := l.Publish(t.Context(), bad)
		require.Error(t, err, name)
	}
	claim := listing(t, resources.KindCompute, "fast", false, nil)
	claim.Manifest.Attributes = []resources.Attribute{{Key: provider.AttributeGPU, Value: "nvidia"}}
	_, err = l.Publish(t.Context(), claim)
	require.ErrorIs(t, err, mman.ErrUnsupported, "what no program is given is not offered")
	require.ErrorContains(t, err, "gpu=nvidia is offered")
}

func TestOffersAreRenewedAtHalfLife(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	p, err := l.Publish(t.Context(), listing(t, resources.KindCompute, "cpu", false, nil))
	require.NoError(t, err)
	l.chain.take()
	l.restart(t)
	at, stop := l.live(t)
	at(100 + l.cfg.OfferBlocks/2 - 1)
	at(100 + l.cfg.OfferBlocks/2)
	l.eventually(t, "renewed", func() bool { return l.Published()[0].Expires > p.Expires })
	require.NoError(t, stop())
	require.Equal(t, []string{tx.TypeOffer}, kinds(l.chain.take()))
}

func TestBindIgnoresTheOrderOfAddresses(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	addrs := []string{"/b", "/a"}
	l.cfg.Addrs = func() []string { return addrs }
	l.restart(t)
	at, stop := l.live(t)
	at(101)
	l.eventually(t, "bound", func() bool { _, _, err := l.chain.Bound(l.host.ID()); return err == nil })
	require.NoError(t, stop())
	addrs = []string{"/a", "/b"}
	l.chain.take()
	_, err := l.Publish(t.Context(), listing(t, resources.KindCompute, "cpu", false, nil))
	require.NoError(t, err)
	require.Equal(t, []string{tx.TypeOffer}, kinds(l.chain.take()))
}

// ask signs a request for content.
func (l *lender) ask(t *testing.T, lease market.Lease, asker mman.PeerID, sign func(mman.SignContext, string, []byte) []byte, change func(*blocks.Request)) error {
	t.Helper()
	r := blocks.Request{Lease: lease.ID, Asker: asker}
	change(&r)
	payload, err := r.Payload()
	require.NoError(t, err)
	r.Signature = sign(mman.SignBlocks, chainID, payload)
	grant, err := l.Authorize(t.Context(), r, asker)
	if err == nil {
		_, err = grant.Store.Get(t.Context(), grant.Root)
	}
	return err
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	other := p2ptest.Start(t, 1)
	open, err := l.Publish(t.Context(), listing(t, resources.KindAlgorithm, "algo", true, module))
	require.NoError(t, err)
	sealed, err := l.Publish(t.Context(), listing(t, resources.KindDataset, "data", true, []byte("sealed")))
	require.NoError(t, err)
	manifest := func(p provider.Published) resources.Manifest {
		m, err := l.Manifest(t.Context(), p.Resource)
		require.NoError(t, err)
		return m
	}
	leg := func(role market.Role, p provider.Published, sealed bool) market.Leg {
		return market.Leg{Role: role, Resource: p.Resource, Offer: p.Offer, Peer: l.host.ID(), Provider: l.chain.Address(), Sealed: sealed}
	}
	// The other node computes with this node's algorithm and data.
	lent := l.lease(1, func(m *market.Lease) {
		m.Legs = []market.Leg{leg(market.RoleAlgorithm, open, false), leg(market.RoleData, sealed, true), {Role: market.RoleCompute, Peer: other.ID()}}
	})
	name := func(p provider.Published) func(*blocks.Request) {
		return func(r *blocks.Request) { r.Name = manifest(p).Content.Private }
	}
	root := func(b []byte) func(*blocks.Request) {
		return func(r *blocks.Request) { r.Root = mman.SumCID(mman.CodecRaw, b) }
	}
	key := signer{l.leaseKey}.Sign
	require.NoError(t, l.ask(t, lent, other.ID(), other.Sign, name(open)))
	require.NoError(t, l.ask(t, lent, other.ID(), other.Sign, root(module)))
	require.ErrorIs(t, l.ask(t, lent, other.ID(), other.Sign, name(sealed)), mman.ErrNotFound, "sealed data never leaves")
	require.ErrorIs(t, l.ask(t, lent, other.ID(), other.Sign, root([]byte("sealed"))), mman.ErrNotFound)
	require.ErrorIs(t, l.ask(t, lent, l.host.ID(), l.host.Sign, name(open)), mman.ErrNotYourLease)
	require.ErrorIs(t, l.ask(t, lent, other.ID(), l.host.Sign, name(open)), mman.ErrNotYourLease)
	require.ErrorIs(t, l.ask(t, lent, mman.PeerID{4}, key, name(open)), mman.ErrNotFound, "the consumer gets results only")
	require.ErrorIs(t, l.ask(t, lent, mman.PeerID{4}, key, root(module)), mman.ErrNotFound)
	require.ErrorIs(t, l.ask(t, market.Lease{ID: mman.LeaseID{77}}, other.ID(), other.Sign, name(open)), mman.ErrNotFound)
	for name2, change := range map[string]func(*market.Lease){
		"closed":          func(m *market.Lease) { m.State = market.LeaseClosed },
		"of another peer": func(m *market.Lease) { m.Legs[0].Peer = other.ID() },
	} {
		gone := l.lease(2, func(m *market.Lease) { m.Legs = append([]market.Leg{}, lent.Legs...) }, change)
		require.Error(t, l.ask(t, gone, other.ID(), other.Sign, name(open)), name2)
	}

	// This node computes: results go to the consumer alone, also after the end.
	c := l.consumer(t, l.lease(3), 0)
	require.NoError(t, c.open())
	st := c.pay()
	result := func(r *blocks.Request) { r.Root = st.Result.Output }
	_, err = l.stores.Lease(c.lease.ID).Get(t.Context(), mman.SumCID(mman.CodecRaw, module))
	require.NoError(t, err)
	require.NoError(t, l.ask(t, c.lease, mman.PeerID{4}, key, result))
	require.ErrorIs(t, l.ask(t, c.lease, other.ID(), other.Sign, result), mman.ErrNotYourLease)
	require.ErrorIs(t, l.ask(t, lent, mman.PeerID{4}, key, result), mman.ErrNotFound)
	_, _, err = content.AddTo(t.Context(), l.stores.Lease(c.lease.ID), strings.NewReader("lent by others"))
	require.NoError(t, err)
	require.ErrorIs(t, l.ask(t, c.lease, mman.PeerID{4}, key, root([]byte("lent by others"))), mman.ErrNotFound)
	_, err = c.work.Settle(t.Context())
	require.NoError(t, err)
	c.work.Close()
	at, stop := l.live(t)
	at(200)
	require.NoError(t, stop())
	l.restart(t)
	require.NoError(t, l.ask(t, c.lease, mman.PeerID{4}, key, result), "kept until the lease is retired")
	require.NoError(t, l.stores.Lease(c.lease.ID).Delete(t.Context(), st.Result.Output))
	require.ErrorIs(t, l.ask(t, c.lease, mman.PeerID{4}, key, result), mman.ErrNotFound)
}

// TestForeignOfferOfOurData: somebody else offers our private data set by the
// name of its public manifest, with a policy that allows everything. Our own
// compute must not open it for that lease.
func TestForeignOfferOfOurData(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	terms := listing(t, resources.KindDataset, "data", true, []byte("secret"))
	terms.Policy = policy.Policy{Default: policy.Deny}
	p, err := l.Publish(t.Context(), terms)
	require.NoError(t, err)
	var seen []byte
	l.executor.Play = func(ctx context.Context, task resources.Task, _ resources.IO) (resources.Result, error) {
		for _, in := range task.Inputs {
			b, err := task.Content.Open(ctx, in)
			if err != nil {
				return resources.Result{}, err
			}
			seen = readAll(t, b)
		}
		return resources.Result{Usage: resources.Usage{WallMs: 1, CallCount: 1}}, nil
	}
	data := market.Leg{Role: market.RoleData, Facet: resources.FacetFile, Resource: p.Resource, Offer: mman.SumCID(mman.CodecDagCBOR, []byte("mallory's")), Peer: mman.PeerID{66}, Provider: mman.Address{66}}
	c := l.consumer(t, l.lease(1, func(m *market.Lease) { m.Legs = []market.Leg{m.Legs[0], data, m.Legs[1]} }), 0)
	require.NoError(t, c.open())
	_, err = c.request()
	require.Error(t, err)
	require.Empty(t, seen)

	// Within our own leg it is our policy that decides.
	data.Peer, data.Offer, data.Provider, data.Sealed = l.host.ID(), p.Offer, l.chain.Address(), true
	ours := func(m *market.Lease) { m.Legs = []market.Leg{m.Legs[0], data, m.Legs[1]} }
	require.ErrorIs(t, l.consumer(t, l.lease(2, ours), 0).open(), mman.ErrPolicy)
	denied := data.Offer
	terms.Policy.Default = policy.Allow
	p, err = l.Publish(t.Context(), terms)
	require.NoError(t, err)
	data.Offer = p.Offer
	c = l.consumer(t, l.lease(3, ours), 0)
	require.NoError(t, c.open())
	_, err = c.request()
	require.NoError(t, err)
	require.Equal(t, []byte("secret"), seen)
	l.chain.change(func() { delete(l.chain.offers, p.Offer) })
	require.NoError(t, l.consumer(t, l.lease(4, ours), 0).open(), "renewed since: the lease keeps its terms")
	data.Offer = denied
	require.ErrorIs(t, l.consumer(t, l.lease(5, ours), 0).open(), mman.ErrPolicy, "renewed since: the lease keeps its terms")
}

// lentAlgorithm is a lease of one node's compute and another node's private algorithm,
// of which the other one's ledger does not know yet.
func lentAlgorithm(t *testing.T, change ...func(*market.Lease)) (compute, holder *lender, p provider.Published, lease market.Lease) {
	t.Helper()
	compute, holder = newLender(t, 0), newLender(t, 1)
	p2ptest.Connect(t, compute.host, holder.host)
	require.NoError(t, blocks.Serve(t.Context(), holder.host, holder, blocks.Default()))
	p, err := holder.Publish(t.Context(), listing(t, resources.KindAlgorithm, "algo", true, module))
	require.NoError(t, err)
	return compute, holder, p, compute.lease(1, append(change, func(m *market.Lease) {
		m.Legs[0] = market.Leg{Role: market.RoleAlgorithm, Facet: resources.FacetWasm, Resource: p.Resource, Offer: p.Offer, Peer: holder.host.ID(), Provider: holder.chain.Address()}
	})...)
}

// TestFetchWaitsForTheOtherNode: a lease is new, and the node that lends the
// algorithm has not seen its block yet.
func TestFetchWaitsForTheOtherNode(t *testing.T) {
	t.Parallel()
	compute, holder, _, lease := lentAlgorithm(t, func(m *market.Lease) { m.Opened = 100 })
	c := compute.consumer(t, lease, 0)
	require.NoError(t, c.open())
	done := make(chan error, 1)
	go func() {
		_, err := c.request()
		done <- err
	}()
	go func() {
		holder.chain.change(func() { holder.chain.leases[lease.ID] = lease })
		for t.Context().Err() == nil && len(compute.executor.Tasks()) == 0 {
			compute.AtHeight(101)
		}
	}()
	require.NoError(t, <-done)
	id := mman.SumCID(mman.CodecRaw, module)
	require.Equal(t, id, compute.executor.Tasks()[0].Algorithm)
	require.Equal(t, []mman.CID{id}, compute.executor.Came(), "compiled when it was fetched")
	require.Equal(t, []mman.CID{id}, holder.executor.Came(), "compiled when it was published")

	// An old lease gets its answer at once, and so does a missing content.
	old := compute.lease(2, func(m *market.Lease) { m.Legs = append([]market.Leg{}, lease.Legs...) })
	c = compute.consumer(t, old, 0)
	require.NoError(t, c.open())
	_, err := c.request()
	require.ErrorIs(t, err, mman.ErrNotFound)
}

// TestResourceIsLentAsWhatItIs: a foreign offer cannot make a script of another
// language, or a dataset, of what a manifest says is JavaScript.
func TestResourceIsLentAsWhatItIs(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	script := listing(t, resources.KindAlgorithm, "script", true, []byte("1"))
	script.Manifest.Facet = resources.FacetJS
	private, err := l.Publish(t.Context(), script)
	require.NoError(t, err)
	script = listing(t, resources.KindAlgorithm, "open script", false, []byte("2"))
	script.Manifest.Facet = resources.FacetJS
	public, err := l.Publish(t.Context(), script)
	require.NoError(t, err)
	number := byte(0)
	run := func(p provider.Published, facet resources.Facet) error {
		number++
		c := l.consumer(t, l.lease(number, func(m *market.Lease) {
			m.Legs[0] = market.Leg{Role: market.RoleAlgorithm, Facet: facet, Resource: p.Resource, Offer: p.Offer, Peer: l.host.ID(), Provider: l.chain.Address()}
		}), 0)
		require.NoError(t, c.open())
		_, err := c.request()
		return err
	}
	other, err := l.Publish(t.Context(), listing(t, resources.KindAlgorithm, "module", true, module))
	require.NoError(t, err)
	for name, p := range map[string]provider.Published{"private": private, "public": public} {
		require.NoError(t, run(p, resources.FacetJS), name)
		require.ErrorIs(t, run(p, resources.FacetWasm), mman.ErrContent, name)
	}
	require.ErrorIs(t, run(other, resources.FacetJS), mman.ErrContent)
	for _, task := range l.executor.Tasks() {
		require.Equal(t, resources.FacetJS, task.Facet)
	}
}

// TestInterpreterIsAskedFor: of a provider without Python the consumer of a script
// is asked for it, and nothing else is taken for it.
func TestInterpreterIsAskedFor(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	python, ok := resources.InterpreterOf(resources.FacetPython)
	require.True(t, ok)
	ask := func(id byte, facet resources.Facet) (*consumer, []mman.CID) {
		c := l.consumer(t, l.lease(id, func(m *market.Lease) { m.Legs[0].Facet = facet }), 0)
		require.NoError(t, c.open())
		missing, err := c.work.Missing(t.Context(), session.Run{Number: 1, Limits: resources.DefaultLimits()})
		require.NoError(t, err)
		return c, missing
	}
	script := mman.SumCID(mman.CodecRaw, module)
	c, missing := ask(1, resources.FacetPython)
	require.Equal(t, []mman.CID{script, python.Module}, missing)
	require.ErrorIs(t, c.work.Supply(t.Context(), python.Module, python.Bytes, bytes.NewReader(module)), mman.ErrContent)
	c, missing = ask(2, resources.FacetJS)
	require.Equal(t, []mman.CID{script}, missing, "JavaScript is built in")
	require.ErrorIs(t, c.work.Supply(t.Context(), python.Module, uint64(len(module)), bytes.NewReader(module)), mman.ErrContent)
	_, missing = ask(3, resources.FacetPython)
	require.Contains(t, missing, python.Module)
}

// TestSuppliedAlgorithmsAreCompiledAtOnce: a module is, before anybody asks for a run;
// a script is not, nor what is not whole.
func TestSuppliedAlgorithmsAreCompiledAtOnce(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	id := mman.SumCID(mman.CodecRaw, module)
	supply := func(n byte, facet resources.Facet, size int) error {
		c := l.consumer(t, l.lease(n, func(m *market.Lease) { m.Legs[0].Facet = facet }), 0)
		require.NoError(t, c.open())
		return c.work.Supply(t.Context(), id, uint64(size), bytes.NewReader(module))
	}
	require.NoError(t, supply(1, resources.FacetJS, len(module)))
	require.ErrorIs(t, supply(2, resources.FacetWasm, len(module)+1), mman.ErrContent)
	require.Empty(t, l.executor.Came())
	require.NoError(t, supply(3, resources.FacetWasm, len(module)))
	require.Equal(t, []mman.CID{id}, l.executor.Came())
	require.Empty(t, l.executor.Tasks())
}

func TestSupplyIsChecked(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	c := l.consumer(t, l.lease(1), 0)
	require.NoError(t, c.open())
	id := mman.SumCID(mman.CodecRaw, module)
	require.ErrorIs(t, c.work.Supply(t.Context(), id, 3, strings.NewReader("abc")), mman.ErrContent)
	require.ErrorIs(t, c.work.Supply(t.Context(), id, uint64(len(module))+1, bytes.NewReader(module)), mman.ErrContent)
	require.ErrorIs(t, c.work.Supply(t.Context(), id, 2<<20, bytes.NewReader(module)), mman.ErrInputLimit)
	_, err := c.request(func(r *session.Run) {
		r.Inline, r.StdinBytes, r.Stdin = []byte("x"), 1, mman.SumCID(mman.CodecRaw, []byte("y"))
	})
	require.ErrorIs(t, err, mman.ErrContent)
	in := []byte("input")
	_, err = c.request(func(r *session.Run) {
		r.Inline, r.StdinBytes, r.Stdin = in, uint64(len(in)), mman.SumCID(mman.CodecRaw, in)
	})
	require.NoError(t, err)
	require.Equal(t, mman.SumCID(mman.CodecRaw, in), l.executor.Tasks()[0].Stdin)
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	good := provider.Default()
	good.ChainID, good.Addrs = chainID, func() []string { return nil }
	require.NoError(t, good.Validate())
	for name, change := range map[string]func(*provider.Config){
		"no chain":      func(c *provider.Config) { c.ChainID = "" },
		"no addresses":  func(c *provider.Config) { c.Addrs = nil },
		"no logger":     func(c *provider.Config) { c.Logger = nil },
		"short offers":  func(c *provider.Config) { c.OfferBlocks = 3 },
		"never settled": func(c *provider.Config) { c.SettleBlocks = 0 },
	} {
		bad := good
		change(&bad)
		require.ErrorIs(t, bad.Validate(), mman.ErrInvalid, name)
	}
}

const goodListing = `resource:
  kind: dataset
  facet: file
  name: iris
  licence: CC0-1.0
  content: data.csv
  private: true
  any_algorithm: true
  attributes: {rows: "150"}
policy:
  default: deny
  rules:
    - {id: all, effect: allow, phase: match}
price:
  per_lease: 0.5MAN
  share_bp: 100
`

func TestListing(t *testing.T) {
	t.Parallel()
	l, err := provider.ParseListing([]byte(goodListing))
	require.NoError(t, err)
	require.Equal(t, mman.MAN/2, l.Price.PerLease)
	require.Equal(t, uint64(provider.DefaultCapacity), l.Capacity)
	require.Equal(t, []resources.Attribute{{Key: "rows", Value: "150"}}, l.Manifest.Attributes)
	compute, err := provider.ParseListing([]byte("resource: {kind: compute, facet: wasm, name: cpu}\npolicy: {default: allow}\nprice: {units: [{unit: wall_ms, per: 1000, price: 10uman}]}\ncapacity: 3\n"))
	require.NoError(t, err)
	require.Equal(t, []price.UnitPrice{{Unit: resources.UnitWallMs, Per: 1000, UMan: 10}}, compute.Price.Units)
	dir := t.TempDir()
	path := filepath.Join(dir, "l.yaml")
	require.NoError(t, os.WriteFile(path, []byte(goodListing), 0o600))
	_, err = provider.ReadListing(path)
	require.ErrorIs(t, err, mman.ErrNotFound, "its content is not there")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "data.csv"), []byte("a\n1\n"), 0o600))
	l, err = provider.ReadListing(path)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "data.csv"), l.Content)
	_, err = provider.ReadListing(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, mman.ErrNotFound)
	_, err = provider.ReadListing(dir)
	require.Error(t, err)
	require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte("# x\n"), 20_000), 0o600))
	_, err = provider.ReadListing(path)
	require.ErrorIs(t, err, mman.ErrTooLarge)
}

func TestBadListings(t *testing.T) {
	t.Parallel()
	for name, change := range map[string][2]string{
		"empty":             {goodListing, ""},
		"not yaml":          {goodListing, "{"},
		"a list":            {goodListing, "- a"},
		"unknown key":       {"resource:", "rezource:"},
		"unknown inner key": {"kind:", "kinds:"},
		"two documents":     {"price:", "---\nprice:"},
		"key twice":         {"  kind: dataset", "  kind: dataset\n  kind: compute"},
		"no content":        {"  content: data.csv\n", ""},
		"compute content":   {"kind: dataset", "kind: compute"},
		"odd price":         {"0.5MAN", "half"},
		"negative price":    {"0.5MAN", "-1MAN"},
		"too precise":       {"0.5MAN", "0.0000001MAN"},
		"share":             {"100", "20000"},
		"negative share":    {"100", "-1"},
		"units of data":     {"share_bp: 100", "units: [{unit: wall_ms, per: 1, price: 1uman}]"},
		"no policy":         {"default: deny", "default: maybe"},
		"policy key":        {"default: deny", "defaults: deny"},
		"private a number":  {"private: true", "private: 17"},
		"any algorithm":     {"any_algorithm: true", "any_algorithm: false"},
		"public, any":       {"private: true", "private: false"},
		"attributes a list": {`{rows: "150"}`, "[a]"},
		"alias bomb":        {"content: data.csv", "content: &a data.csv\n  source: *b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(goodListing, change[0], change[1], 1)
			require.NotEqual(t, goodListing, text)
			_, err := provider.ParseListing([]byte(text))
			require.Error(t, err)
			require.NotEqual(t, mman.ErrInternal.Code, mman.CodeOf(err), err)
			require.Less(t, len(err.Error()), 2048)
		})
	}
}

func FuzzParseListing(f *testing.F) {
	f.Add([]byte(goodListing))
	f.Add([]byte("resource: {kind: compute, facet: wasm, name: cpu}\npolicy: {default: allow}\nprice: {units: [{unit: wall_ms, per: 1000, price: 10uman}]}\n"))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("resource: {<<: {kind: dataset}}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := provider.ParseListing(b)
		if err != nil {
			if mman.CodeOf(err) == mman.ErrInternal.Code {
				t.Fatalf("an error without a code: %v", err)
			}
			return
		}
		if err := l.Policy.Validate(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestPrivateDataChoosesItsAlgorithms: what is private and lets everything be computed
// on it is handed out, which its owner has to say.
func TestPrivateDataChoosesItsAlgorithms(t *testing.T) {
	t.Parallel()
	l := newLender(t, 0)
	terms := listing(t, resources.KindDataset, "secret", true, []byte("secret"))
	_, err := l.Publish(t.Context(), terms)
	require.NoError(t, err, "the owner says so")
	terms.AnyAlgorithm = false
	_, err = l.Publish(t.Context(), terms)
	require.ErrorIs(t, err, mman.ErrPolicy)
	require.ErrorContains(t, err, "any_algorithm")
	rule := policy.Rule{ID: "published", Effect: policy.Deny, Phase: policy.PhaseMatch, When: "algorithm.supplied"}
	terms.Policy.Rules = []policy.Rule{rule}
	_, err = l.Publish(t.Context(), terms)
	require.ErrorIs(t, err, mman.ErrPolicy, "anybody can publish what prints it")
	rule.Effect, rule.When = policy.Allow, `"reviewed=yes" in algorithm.attributes`
	terms.Policy.Default, terms.Policy.Rules = policy.Deny, []policy.Rule{rule}
	described, err := l.Publish(t.Context(), terms)
	require.NoError(t, err)
	require.Equal(t, uint64(16<<20), l.chain.offers[described.Offer].Policy.Limits.OutputBytes, "no request raises it")
	terms.Policy.Limits.OutputBytes = 1 << 30
	described, err = l.Publish(t.Context(), terms)
	require.NoError(t, err)
	require.Equal(t, uint64(1<<30), l.chain.offers[described.Offer].Policy.Limits.OutputBytes, "its owner does")
	open := listing(t, resources.KindDataset, "open", false, []byte("open"))
	_, err = l.Publish(t.Context(), open)
	require.NoError(t, err, "what is public is read anyway")
	open.AnyAlgorithm = true
	_, err = l.Publish(t.Context(), open)
	require.ErrorIs(t, err, mman.ErrInvalid)
}

package match_test

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/resources"
)

// book is a match.Book over a list.
type book []match.Entry

func (b book) Offer(id mman.CID) (match.Entry, bool, error) {
	i := slices.IndexFunc(b, func(e match.Entry) bool { return e.ID == id })
	if i < 0 {
		return match.Entry{}, false, nil
	}
	return b[i], true, nil
}

// Usage of a consumer on every offer: three leases today.
func (book) Usage(match.Entry, mman.Address) (policy.Usage, error) {
	return policy.Usage{Leases1d: 3, Leases7d: 5, Leases30d: 8}, nil
}

func (b book) Scan(kind resources.Kind, facet resources.Facet, resource mman.CID, limit int) ([]match.Entry, error) {
	var out []match.Entry
	for _, e := range b {
		if len(out) < limit && (e.Offer.Resource == resource || resource.IsZero() && e.Offer.Kind == kind && e.Offer.Facet == facet) {
			out = append(out, e)
		}
	}
	return out, nil
}

func cid(name string) mman.CID { return mman.SumCID(mman.CodecDagCBOR, []byte(name)) }

func entry(name string, kind resources.Kind, change ...func(o *market.Offer)) match.Entry {
	o := market.Offer{
		Version: 1, Provider: mman.Address{1}, Peer: mman.PeerID{1}, Kind: kind, Facet: resources.FacetWasm,
		Resource: cid("the " + string(kind)), Policy: policy.Policy{Default: policy.Allow}, Capacity: 1, Expires: 100,
	}
	if kind == resources.KindDataset {
		o.Facet = resources.FacetFile
	}
	for _, fn := range change {
		fn(&o)
	}
	return match.Entry{ID: cid(name), Offer: o}
}

func perLease(n mman.Amount) func(o *market.Offer) {
	return func(o *market.Offer) { o.Price.PerLease = n }
}

func perSecond(n mman.Amount) func(o *market.Offer) {
	return func(o *market.Offer) {
		o.Price.Units = []price.UnitPrice{{Unit: resources.UnitWallMs, Per: 1000, UMan: n}}
	}
}

func request() market.Request {
	return market.Request{
		Version: 1, Consumer: mman.Address{9}, LeaseKey: mman.LeaseKey{1}, Cap: 1000, Blocks: 10, Deadline: 20, Limits: resources.DefaultLimits(),
		Legs: []market.LegRequest{
			{Role: market.RoleAlgorithm, Facet: resources.FacetWasm, Resource: cid("module"), Supplied: true},
			{Role: market.RoleData, Facet: resources.FacetFile, Resource: cid("the dataset")},
			{Role: market.RoleCompute, Facet: resources.FacetWasm},
		},
	}
}

func fill(t *testing.T, r market.Request, b book) (match.Decision, []market.Leg, resources.Limits) {
	t.Helper()
	d, fit, err := match.Fill(mman.RequestID{7}, r, b, policy.Chain{Height: 5, Time: 1_767_600_000})
	require.NoError(t, err)
	require.Equal(t, d.Outcome == match.Matched, fit.Legs != nil)
	return d, fit.Legs, fit.Limits
}

func TestFill(t *testing.T) {
	t.Parallel()
	data := entry("data", resources.KindDataset)
	for _, tc := range []struct {
		name    string
		book    book
		change  func(r *market.Request)
		compute string // name of the compute offer that wins, "" when it waits
		code    *mman.Error
		rule    string
	}{
		{"one of each", book{data, entry("c", resources.KindCompute)}, nil, "c", nil, ""},
		{"cheapest by the second", book{data, entry("a", resources.KindCompute, perSecond(3)), entry("b", resources.KindCompute, perSecond(2))}, nil, "b", nil, ""},
		{"cheapest in all", book{data, entry("a", resources.KindCompute, perSecond(2), perLease(100)), entry("b", resources.KindCompute, perSecond(3))}, nil, "b", nil, ""},
		{"the named one, though dearer", book{data, entry("a", resources.KindCompute), entry("b", resources.KindCompute, perLease(9))}, func(r *market.Request) {
			r.Legs[2].Offers = []mman.CID{cid("b")}
		}, "b", nil, ""},
		{"the next when the cheapest is full", book{data, {ID: cid("a"), Offer: entry("a", resources.KindCompute).Offer, Open: 1}, entry("b", resources.KindCompute, perLease(9))}, nil, "b", nil, ""},
		{"the next when the cheapest denies", book{data, entry("a", resources.KindCompute, func(o *market.Offer) { o.Policy.Default = policy.Deny }), entry("b", resources.KindCompute, perLease(9))}, nil, "b", nil, ""},
		{"full", book{data, {ID: cid("a"), Offer: entry("a", resources.KindCompute).Offer, Open: 1}}, nil, "", mman.ErrCapacity, "capacity"},
		{"too many at once", book{data, {ID: cid("a"), Offer: entry("a", resources.KindCompute, func(o *market.Offer) { o.Capacity, o.Policy.Limits.Concurrent = 9, 2 }).Offer, Open: 2}}, nil, "", mman.ErrPolicy, "limits.concurrent"},
		{"algorithm not on the list", book{entry("data", resources.KindDataset, func(o *market.Offer) { o.Policy.Algorithms = []mman.CID{cid("other")} }), entry("c", resources.KindCompute)}, nil, "", mman.ErrPolicy, "algorithms"},
		{"algorithm on the list", book{entry("data", resources.KindDataset, func(o *market.Offer) { o.Policy.Algorithms = []mman.CID{cid("module")} }), entry("c", resources.KindCompute)}, nil, "c", nil, ""},
		{"no data", book{entry("c", resources.KindCompute)}, nil, "", mman.ErrResourceGone, "data"},
		{"no compute", book{data}, nil, "", mman.ErrResourceGone, "compute"},
		{"above the cap together", book{entry("data", resources.KindDataset, perLease(600)), entry("c", resources.KindCompute, perLease(401))}, nil, "", mman.ErrPrice, "cap"},
		{"just the cap together", book{entry("data", resources.KindDataset, perLease(600)), entry("c", resources.KindCompute, perLease(400))}, nil, "c", nil, ""},
		{"sealed data pins the node", book{entry("data", resources.KindDataset, func(o *market.Offer) { o.Sealed, o.Peer = true, mman.PeerID{2} }), entry("a", resources.KindCompute), entry("b", resources.KindCompute, perLease(9), func(o *market.Offer) { o.Peer = mman.PeerID{2} })}, nil, "b", nil, ""},
		{"sealed data of the same account elsewhere", book{entry("data", resources.KindDataset, func(o *market.Offer) { o.Sealed, o.Peer = true, mman.PeerID{2} }), entry("a", resources.KindCompute)}, nil, "", mman.ErrPolicy, "sealed"},
		{"a candidate of another kind", book{data, entry("c", resources.KindCompute)}, func(r *market.Request) { r.Legs[2].Offers = []mman.CID{cid("data")} }, "", mman.ErrInvalid, "kind"},
		{"a candidate for another resource", book{data, entry("c", resources.KindCompute)}, func(r *market.Request) {
			r.Legs[2].Resource, r.Legs[2].Offers = cid("bigger"), []mman.CID{cid("c")}
		}, "", mman.ErrInvalid, "resource"},
		{"a candidate that is gone", book{data}, func(r *market.Request) { r.Legs[2].Offers = []mman.CID{cid("x")} }, "", mman.ErrOfferGone, "expires"},
		{"a price beyond all money ranks last", book{data, entry("a", resources.KindCompute, func(o *market.Offer) {
			o.Price.Units = []price.UnitPrice{{Unit: resources.UnitWallMs, Per: 1, UMan: 1 << 40}}
		}), entry("b", resources.KindCompute, perSecond(5))}, nil, "b", nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := request()
			if tc.change != nil {
				tc.change(&r)
			}
			d, legs, _ := fill(t, r, tc.book)
			if tc.compute != "" {
				require.Equal(t, match.Matched, d.Outcome, "%+v", d.Rejections)
				require.Equal(t, cid(tc.compute), legs[2].Offer)
				require.Equal(t, cid("data"), legs[1].Offer)
				require.True(t, legs[0].Supplied)
				require.NotEmpty(t, d.Explain())
				return
			}
			require.Equal(t, match.Queued, d.Outcome)
			require.True(t, slices.ContainsFunc(d.Rejections, func(r match.Rejection) bool {
				return r.Code == tc.code.Code && r.Rule == tc.rule
			}), "%+v", d.Rejections)
			require.NotEmpty(t, d.Explain())
		})
	}
}

// TestTies: of equal offers the lower id wins, whatever the order of the book.
func TestTies(t *testing.T) {
	t.Parallel()
	b := book{entry("data", resources.KindDataset)}
	for i := range 10 {
		b = append(b, entry(fmt.Sprint("equal", i), resources.KindCompute, perLease(5)))
	}
	lowest := slices.MinFunc(b[1:], func(x, y match.Entry) int { return bytes.Compare(x.ID.Bytes(), y.ID.Bytes()) })
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 20 {
		rng.Shuffle(len(b), func(i, j int) { b[i], b[j] = b[j], b[i] })
		_, legs, _ := fill(t, request(), b)
		require.Equal(t, lowest.ID, legs[2].Offer)
	}
}

// TestLimits: the lease's limits are the tightest of all legs and the request.
func TestLimits(t *testing.T) {
	t.Parallel()
	r := request()
	b := book{
		entry("data", resources.KindDataset, func(o *market.Offer) { o.Policy.Limits = policy.Limits{OutputBytes: 1024, WallMs: 90_000} }),
		entry("c", resources.KindCompute, func(o *market.Offer) { o.Policy.Limits = policy.Limits{MemoryBytes: 64 << 20} }),
	}
	_, _, limits := fill(t, r, b)
	require.Equal(t, resources.Limits{WallMs: 60_000, MemoryBytes: 64 << 20, InputBytes: r.Limits.InputBytes, OutputBytes: 1024, Fuel: r.Limits.Fuel}, limits)
}

// TestBounds: a decision stays small, however many candidates there are, and a
// request without candidates looks at no more than MaxScan for each leg.
func TestBounds(t *testing.T) {
	t.Parallel()
	var b book
	for i := range 500 {
		b = append(b, entry(strconv.Itoa(i), resources.KindCompute, func(o *market.Offer) {
			o.Policy.Rules = []policy.Rule{{ID: strings.Repeat("a", 60) + strings.Repeat("b", i%4), Effect: policy.Deny, Phase: policy.PhaseMatch}}
		}))
	}
	d, _, _ := fill(t, request(), b)
	require.Len(t, d.Rejections, match.MaxRejections)
	require.LessOrEqual(t, d.Scanned, uint64(2*match.MaxScan))
	raw, err := dagcbor.Marshal(d)
	require.NoError(t, err)
	require.Less(t, len(raw), 4096)
}

func TestOrder(t *testing.T) {
	t.Parallel()
	ids := make([]mman.RequestID, 50)
	for i := range ids {
		ids[i] = mman.RequestID{byte(i)}
	}
	one, two, other := slices.Clone(ids), slices.Clone(ids), slices.Clone(ids)
	slices.Reverse(two)
	match.Order(mman.Hash{1}, one)
	match.Order(mman.Hash{1}, two)
	match.Order(mman.Hash{2}, other)
	require.Equal(t, one, two)
	require.NotEqual(t, one, other)
	require.NotEqual(t, one, ids)
	slices.SortFunc(one, func(a, b mman.RequestID) int { return cmp.Compare(a[0], b[0]) })
	require.Equal(t, ids, one)
}

func TestNewLease(t *testing.T) {
	t.Parallel()
	r := request()
	_, fit, err := match.Fill(mman.RequestID{7}, r, book{entry("data", resources.KindDataset), entry("c", resources.KindCompute)}, policy.Chain{Height: 5})
	require.NoError(t, err)
	l, err := match.NewLease(mman.RequestID{7}, r, fit, 5, 30)
	require.NoError(t, err)
	require.Equal(t, mman.RequestID{7}.Lease(), l.ID)
	require.Equal(t, uint64(15), l.Expires)
	require.Equal(t, uint64(45), l.CloseAt)
	require.Equal(t, market.LeaseOpen, l.State)
	require.Equal(t, r.Cap, l.Escrow())
	raw, err := dagcbor.Marshal(l)
	require.NoError(t, err)
	again, err := dagcbor.Unmarshal[market.Lease](raw, 1<<16)
	require.NoError(t, err)
	require.Equal(t, l.ID, again.ID)
}

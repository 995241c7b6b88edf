package match_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
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

// listing is an offer in a book, with its open leases.
type listing struct {
	match.Entry

	Open uint64
}

// book is a match.Book over a list.
type book []listing

func (b book) Offer(id mman.CID) (match.Entry, bool, error) {
	i := slices.IndexFunc(b, func(l listing) bool { return l.ID == id })
	if i < 0 {
		return match.Entry{}, false, nil
	}
	return b[i].Entry, true, nil
}

func (b book) Open(e match.Entry) (uint64, error) {
	return b[slices.IndexFunc(b, func(l listing) bool { return l.ID == e.ID })].Open, nil
}

// Usage of a consumer on every offer: three leases today.
func (book) Usage(match.Entry, mman.Address) (policy.Usage, error) {
	return policy.Usage{Leases1d: 3, Leases7d: 5, Leases30d: 8}, nil
}

func (book) Grant(match.Entry, mman.Address) (match.Grant, bool, error) {
	return match.Grant{}, false, nil
}

func in(e match.Entry, class match.Class) bool {
	return e.Offer.Resource == class.Resource || class.Resource.IsZero() && e.Offer.Kind == class.Kind && e.Offer.Facet == class.Facet
}

func (b book) Scan(class match.Class, after []byte, limit int) ([]match.Spot, error) {
	var out []match.Spot
	for _, l := range b {
		key := append(binary.BigEndian.AppendUint64(nil, l.Offer.Price.Index()), l.ID.Bytes()...)
		if in(l.Entry, class) && bytes.Compare(key, after) > 0 {
			out = append(out, match.Spot{ID: l.ID, Key: key})
		}
	}
	slices.SortFunc(out, func(x, y match.Spot) int { return bytes.Compare(x.Key, y.Key) })
	return out[:min(len(out), limit)], nil
}

func (b book) Arrivals(class match.Class, after uint64, limit int) ([]match.Arrival, uint64, error) {
	var out []match.Arrival
	for _, l := range b {
		if in(l.Entry, class) && l.Arrival > after {
			out = append(out, match.Arrival{Number: l.Arrival, ID: l.ID})
		}
	}
	slices.SortFunc(out, func(x, y match.Arrival) int { return cmp.Compare(x.Number, y.Number) })
	if len(out) > limit {
		return out[:limit], out[limit-1].Number, nil
	}
	return out, b.Arrived(), nil
}

func (b book) Arrived() uint64 {
	newest := uint64(0)
	for _, l := range b {
		newest = max(newest, l.Arrival)
	}
	return newest
}

func cid(name string) mman.CID { return mman.SumCID(mman.CodecDagCBOR, []byte(name)) }

func entry(name string, kind resources.Kind, change ...func(o *market.Offer)) listing {
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
	return listing{Entry: match.Entry{ID: cid(name), Offer: o}}
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
	a := attempt(t, r, b, match.Begin(r, 1000, b.Arrived()), nil)
	require.True(t, a.Looked)
	require.Equal(t, a.Decision.Outcome == match.Matched, a.Fit.Legs != nil)
	return a.Decision, a.Fit.Legs, a.Fit.Limits
}

// attempt makes an attempt and checks that whoever has its inputs decides alike.
func attempt(t *testing.T, r market.Request, b book, p match.Progress, before []match.Rejection) match.Attempt {
	t.Helper()
	a, err := match.Fill(mman.RequestID{7}, r, b, policy.Chain{Height: 5, Time: 1_767_600_000}, p, before)
	require.NoError(t, err)
	if !a.Looked {
		return a
	}
	again, err := match.Decide(r, a.Decision, a.Inputs, func(id mman.CID) (market.Offer, error) {
		e, ok, err := b.Offer(id)
		require.True(t, ok)
		return e.Offer, err
	})
	require.NoError(t, err)
	want, err := dagcbor.Marshal(a.Decision)
	require.NoError(t, err)
	got, err := dagcbor.Marshal(again)
	require.NoError(t, err)
	require.Equal(t, want, got, "the replay of\n%+v\nis\n%+v", a.Decision, again)
	require.LessOrEqual(t, len(want), match.MaxDecisionBytes)
	return a
}

func TestFill(t *testing.T) {
	t.Parallel()
	data := entry("data", resources.KindDataset)
	listed := book{entry("data", resources.KindDataset, func(o *market.Offer) { o.Policy.Algorithms = []mman.CID{cid("module")} }), entry("c", resources.KindCompute)}
	script := func(facet resources.Facet) func(*market.Request) {
		return func(r *market.Request) { r.Legs[0].Facet = facet }
	}
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
		{"the next when the cheapest is full", book{data, {entry("a", resources.KindCompute).Entry, 1}, entry("b", resources.KindCompute, perLease(9))}, nil, "b", nil, ""},
		{"the next when the cheapest denies", book{data, entry("a", resources.KindCompute, func(o *market.Offer) { o.Policy.Default = policy.Deny }), entry("b", resources.KindCompute, perLease(9))}, nil, "b", nil, ""},
		{"full", book{data, {entry("a", resources.KindCompute).Entry, 1}}, nil, "", mman.ErrCapacity, "capacity"},
		{"a script on the list that is supplied as JavaScript", listed, script(resources.FacetJS), "", mman.ErrPolicy, "algorithms"},
		{"the same, supplied as Python", listed, script(resources.FacetPython), "", mman.ErrPolicy, "algorithms"},
		{"too many at once", book{data, {entry("a", resources.KindCompute, func(o *market.Offer) { o.Capacity, o.Policy.Limits.Concurrent = 9, 2 }).Entry, 2}}, nil, "", mman.ErrPolicy, "limits.concurrent"},
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
	lowest := slices.MinFunc(b[1:], func(x, y listing) int { return bytes.Compare(x.ID.Bytes(), y.ID.Bytes()) })
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
	require.NotEmpty(t, d.Rejections)
	require.LessOrEqual(t, d.Scanned, uint64(2*match.MaxScan))
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
	b := book{entry("data", resources.KindDataset), entry("c", resources.KindCompute)}
	fit := attempt(t, r, b, match.Begin(r, 100, 0), nil).Fit
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

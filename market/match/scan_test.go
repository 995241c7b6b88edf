package match_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/resources"
)

// wall is a book of n cheap compute offers that deny, each by a rule of its own.
func wall(n int) book {
	b := make(book, 0, n+1)
	for i := range n {
		b = append(b, entry(fmt.Sprint("wall", i), resources.KindCompute, perLease(1), rules(
			when("no", policy.Deny, fmt.Sprintf("request.cap_uman < %d", 1_000_000+i)),
		)))
	}
	return b
}

func anyCompute() market.Request {
	r := request()
	r.Legs = append(r.Legs[:1:1], r.Legs[2])
	return r
}

// TestBehindAWall: a request gets past any number of offers that deny, a page at
// a time, as far as its looks are paid for.
func TestBehindAWall(t *testing.T) {
	t.Parallel()
	b := append(wall(1000), entry("winner", resources.KindCompute, perLease(9)))
	r := anyCompute()
	p, before := match.Begin(r, 1001, 0), []match.Rejection(nil)
	for n := 1; ; n++ {
		a := attempt(t, r, b, p, before)
		require.True(t, a.Looked)
		require.LessOrEqual(t, len(a.Inputs.Looks), match.MaxScan)
		if a.Decision.Outcome == match.Matched {
			require.Equal(t, 16, n, "1001 offers are 16 pages")
			require.Equal(t, cid("winner"), a.Fit.Legs[1].Offer)
			require.Equal(t, uint64(1001), a.Decision.Scanned)
			break
		}
		require.True(t, a.Decision.More)
		require.NotEmpty(t, a.Decision.Explain())
		p, before = a.Progress, a.Decision.Rejections
	}

	// Without the place that it reached, it sees the same page for ever.
	for range 40 {
		a := attempt(t, r, b, match.Begin(r, 1001, 0), nil)
		require.Equal(t, match.Queued, a.Decision.Outcome)
	}

	p = match.Begin(r, 130, 0)
	for p.Goes(r) {
		p = attempt(t, r, b, p, nil).Progress
	}
	require.Zero(t, p.Left)
	require.Equal(t, uint64(130), p.Scanned)
	require.False(t, attempt(t, r, b, p, nil).Looked, "what is not paid for is not looked at")
}

// TestArrivals: once a request has seen the book, it looks at what comes in and
// at nothing twice, but for what it kept.
func TestArrivals(t *testing.T) {
	t.Parallel()
	r := request()
	b := append(wall(70), entry("data", resources.KindDataset))
	p := match.Begin(r, 1000, b.Arrived())
	for p.Goes(r) {
		p = attempt(t, r, b, p, nil).Progress
	}
	require.Equal(t, uint64(71), p.Scanned)
	require.Equal(t, []mman.CID{cid("data")}, p.Legs[1].Kept)
	require.False(t, attempt(t, r, b, p, nil).Looked)

	denies := entry("newcomer", resources.KindCompute, rules(when("never", policy.Deny, "true")))
	denies.Arrival = 5
	b = append(b, denies)
	a := attempt(t, r, b, p, []match.Rejection{{Leg: 2, Offer: cid("wall0"), Code: mman.ErrPolicy.Code, Rule: "no"}})
	require.True(t, a.Looked)
	require.Len(t, a.Inputs.Looks, 2, "the data that fits, and the newcomer")
	require.Equal(t, uint64(72), a.Decision.Scanned)
	require.Equal(t, "never", a.Decision.Rejections[0].Rule)
	require.Equal(t, "no", a.Decision.Rejections[1].Rule, "what was found before still tells something")
	p = a.Progress
	require.False(t, attempt(t, r, b, p, nil).Looked)

	// A place becomes free: the same offer arrives again.
	b[len(b)-1] = entry("newcomer", resources.KindCompute)
	b[len(b)-1].Arrival = 6
	a = attempt(t, r, b, p, nil)
	require.Equal(t, match.Matched, a.Decision.Outcome)
	require.Equal(t, []mman.CID{cid("data"), cid("newcomer")}, a.Decision.Chosen)
}

// TestNamed: offers that are named are asked again when one of them changes.
func TestNamed(t *testing.T) {
	t.Parallel()
	r := anyCompute()
	r.Legs[1].Offers = []mman.CID{cid("a"), cid("b")}
	full := entry("a", resources.KindCompute)
	full.Open = 1
	b := book{full, entry("b", resources.KindCompute, rules(when("never", policy.Deny, "true"))), entry("c", resources.KindCompute)}
	a := attempt(t, r, b, match.Begin(r, 10, 3), nil)
	require.Equal(t, match.Queued, a.Decision.Outcome)
	require.False(t, attempt(t, r, b, a.Progress, nil).Looked)
	b[2].Arrival = 4
	require.False(t, attempt(t, r, b, a.Progress, nil).Looked, "another's arrival changes nothing")
	b[0].Open, b[0].Arrival = 0, 5
	again := attempt(t, r, b, a.Progress, nil)
	require.Equal(t, match.Matched, again.Decision.Outcome)
	require.Equal(t, uint64(4), again.Decision.Scanned)
}

// TestSleeps: a policy that depends on time is asked again when the ledger wakes
// the request, and no other.
func TestSleeps(t *testing.T) {
	t.Parallel()
	r := anyCompute()
	hours := entry("hours", resources.KindCompute, rules(when("later", policy.Deny, "chain.height < 50")))
	b := append(wall(3), hours)
	a := attempt(t, r, b, match.Begin(r, 10, 0), nil)
	require.True(t, a.Progress.Sleeps())
	require.Equal(t, []mman.CID{cid("hours")}, a.Progress.Legs[1].Kept)
	p := a.Progress
	require.False(t, attempt(t, r, b, p, nil).Looked)
	p.Woken = true
	early := attempt(t, r, b, p, nil)
	require.True(t, early.Looked)
	require.Len(t, early.Inputs.Looks, 1)
	p = early.Progress
	p.Woken = true
	late, err := match.Fill(mman.RequestID{7}, r, b, policy.Chain{Height: 50}, p, nil)
	require.NoError(t, err)
	require.Equal(t, match.Matched, late.Decision.Outcome)
}

// TestWhere: the consumer's own condition stands beside the providers' policies,
// and what meets it need not be named.
func TestWhere(t *testing.T) {
	t.Parallel()
	r := request()
	r.Legs[1].Resource, r.Legs[1].Where = mman.CID{}, `"topic=birds" in offer.attributes && !offer.sealed`
	r.Legs[2].Where = `offer.region.startsWith("eu") && offer.per_lease_uman <= 5`
	require.NoError(t, r.Validate())
	birds := func(o *market.Offer) { o.Attributes = []resources.Attribute{{Key: "topic", Value: "birds"}} }
	b := book{
		entry("fish", resources.KindDataset), entry("birds", resources.KindDataset, birds, perLease(3)),
		entry("us", resources.KindCompute, region("us-east")), entry("dear", resources.KindCompute, region("eu-west"), perLease(6)),
		entry("eu", resources.KindCompute, region("eu-west"), perLease(5)),
	}
	d, legs, _ := fill(t, r, b)
	require.Equal(t, match.Matched, d.Outcome)
	require.Equal(t, []mman.CID{cid("birds"), cid("eu")}, d.Chosen)
	require.Equal(t, cid("the dataset"), legs[1].Resource)
	require.Contains(t, d.Reasons()[0].Explain(), "--where")
	for _, bad := range []string{"offer.price == 1", "offer.sealed +", `consumer.id == "x"`, "offer.capacity"} {
		r.Legs[2].Where = bad
		require.Error(t, r.Validate(), bad)
	}
	r = request()
	r.Legs[1].Resource = mman.CID{}
	require.ErrorIs(t, r.Validate(), mman.ErrInvalid)
}

// TestLoad: the provider's curve is fixed in the lease.
func TestLoad(t *testing.T) {
	t.Parallel()
	busy := entry("c", resources.KindCompute, perSecond(10), perLease(100), func(o *market.Offer) {
		o.Capacity = 10
		o.Price.Load = []price.LoadStep{{At: 5000, Add: 1000}, {At: 9000, Add: 10_000}}
	})
	for open, want := range map[uint64]price.Factor{0: {}, 4: {}, 5: {Load: 1000}, 8: {Load: 1000}, 9: {Load: 10_000}} {
		busy.Open = open
		_, legs, _ := fill(t, anyCompute(), book{busy})
		require.Equal(t, want, legs[1].Factor, "open %d", open)
		gross, err := market.Lease{Legs: legs}.Gross(0, resources.Usage{WallMs: 10_000})
		require.NoError(t, err)
		require.Equal(t, 200*mman.Amount(10_000+want.Load)/10_000, gross)
	}
	busy.Open = 9
	d, _, _ := fill(t, func() market.Request { r := anyCompute(); r.Cap = 150; return r }(), book{busy})
	require.Equal(t, mman.ErrPrice.Code, d.Rejections[0].Code, "the cap is held against the price with its load")
}

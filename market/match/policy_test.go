package match_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/dagcbor"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/resources"
)

func rules(list ...policy.Rule) func(o *market.Offer) {
	return func(o *market.Offer) { o.Policy.Rules = list }
}

func when(id string, effect policy.Effect, condition string) policy.Rule {
	return policy.Rule{ID: id, Effect: effect, Phase: policy.PhaseMatch, When: condition}
}

func region(name string) func(o *market.Offer) { return func(o *market.Offer) { o.Region = name } }

// TestPolicies: each leg's policy sees the request, the chain, the usage and the
// other legs.
func TestPolicies(t *testing.T) {
	t.Parallel()
	eu := rules(when("not-eu", policy.Deny, `!compute.region.startsWith("eu")`))
	for _, tc := range []struct {
		name    string
		book    book
		change  func(r *market.Request)
		compute string
		rule    string // of a rejection
	}{
		{"data wants another region", book{entry("data", resources.KindDataset, eu), entry("c", resources.KindCompute, region("us-east"))}, nil, "", "not-eu"},
		{"data picks the dearer compute", book{
			entry("data", resources.KindDataset, eu), entry("c", resources.KindCompute, region("us-east")), entry("e", resources.KindCompute, region("eu-west"), perLease(9)),
		}, nil, "e", "not-eu"},
		{"data that refuses gives way to other data", book{
			entry("data", resources.KindDataset, eu), entry("open data", resources.KindDataset, perLease(1)), entry("c", resources.KindCompute, region("us-east")),
		}, nil, "c", "not-eu"},
		{"compute refuses sealed data", book{
			entry("data", resources.KindDataset, func(o *market.Offer) { o.Sealed = true }),
			entry("c", resources.KindCompute, rules(when("no-secrets", policy.Deny, "data.sealed"))),
		}, nil, "", "no-secrets"},
		{"compute refuses what the consumer brings", book{
			entry("data", resources.KindDataset), entry("c", resources.KindCompute, rules(when("known", policy.Deny, "algorithm.supplied && algorithm.provider == consumer.id"))),
		}, nil, "", "known"},
		{"purpose", book{entry("data", resources.KindDataset, rules(when("research", policy.Deny, `request.purpose != "research"`))), entry("c", resources.KindCompute)}, nil, "", "research"},
		{"the right purpose", book{entry("data", resources.KindDataset, rules(when("research", policy.Deny, `request.purpose != "research"`))), entry("c", resources.KindCompute)}, func(r *market.Request) {
			r.Purpose = "research"
		}, "c", ""},
		{"usage", book{entry("data", resources.KindDataset), entry("c", resources.KindCompute, rules(when("three", policy.Deny, "usage.leases_1d >= 3 && usage.leases_30d == 8")))}, nil, "", "three"},
		{"height and time", book{entry("data", resources.KindDataset), entry("c", resources.KindCompute, rules(when("now", policy.Deny, "chain.height == 5 && chain.time == 1767600000")))}, nil, "", "now"},
		{"an error denies", book{entry("data", resources.KindDataset), entry("c", resources.KindCompute, rules(when("broken", policy.Allow, "1 / (chain.height - 5) > 0")))}, nil, "", "broken"},
		{"obligation", book{entry("data", resources.KindDataset, func(o *market.Offer) {
			o.Policy.Obligations = []policy.Obligation{{Name: policy.NoTraining}}
		}), entry("c", resources.KindCompute)}, nil, "", policy.RuleObligations},
		{"obligations of two legs", book{entry("data", resources.KindDataset, func(o *market.Offer) {
			o.Policy.Obligations = []policy.Obligation{{Name: policy.NoTraining}}
		}), entry("c", resources.KindCompute, func(o *market.Offer) {
			o.Policy.Obligations = []policy.Obligation{{Name: policy.DeleteAfter, Value: "24h"}}
		})}, func(r *market.Request) {
			r.Accepts = []policy.Obligation{{Name: policy.DeleteAfter, Value: "24h"}, {Name: policy.NoTraining}}
		}, "c", ""},
		{"an obligation with another value", book{entry("data", resources.KindDataset), entry("c", resources.KindCompute, func(o *market.Offer) {
			o.Policy.Obligations = []policy.Obligation{{Name: policy.DeleteAfter, Value: "24h"}}
		})}, func(r *market.Request) {
			r.Accepts = []policy.Obligation{{Name: policy.DeleteAfter, Value: "48h"}}
		}, "", policy.RuleObligations},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := request()
			if tc.change != nil {
				tc.change(&r)
			}
			require.NoError(t, r.Validate())
			d, legs, _ := fill(t, r, tc.book)
			if tc.compute == "" {
				require.Equal(t, match.Queued, d.Outcome)
			} else {
				require.Equal(t, cid(tc.compute), legs[2].Offer)
			}
			if tc.rule == "" {
				require.Empty(t, d.Rejections)
				return
			}
			require.Equal(t, tc.rule, d.Rejections[0].Rule)
			require.Equal(t, mman.ErrPolicy.Code, d.Rejections[0].Code)
			require.NotEmpty(t, d.Explain())
		})
	}
}

// TestResidual: what only the run can tell is left in the lease, and the
// provider finds there what it needs to decide it.
func TestResidual(t *testing.T) {
	t.Parallel()
	b := book{
		entry("data", resources.KindDataset, rules(
			when("z-large", policy.Deny, "run.output_bytes > 100 && compute.region == 'eu'"),
			when("friendly", policy.Allow, "consumer.reputation >= 0"),
			policy.Rule{ID: "a-calls", Effect: policy.Deny, Phase: policy.PhaseRun, When: "run.calls > 2"},
		)),
		entry("c", resources.KindCompute, region("eu"), rules(policy.Rule{ID: "hours", Effect: policy.Deny, Phase: policy.PhaseBoth, When: "chain.height > 7"})),
	}
	r := request()
	r.Purpose = "research"
	fit := attempt(t, r, b, match.Begin(r, 100, 0), nil).Fit
	require.Equal(t, []match.Residual{{Leg: 1, Rule: "a-calls"}, {Leg: 1, Rule: "z-large"}}, fit.Residual)
	require.Equal(t, policy.Record{Held: 0b010, Left: 0b101}, fit.Legs[1].Rules)
	require.Equal(t, policy.Record{}, fit.Legs[2].Rules)
	require.Equal(t, "eu", fit.Legs[2].Region, "the data's rule reads it while the work runs")
	l, err := match.NewLease(mman.RequestID{7}, r, fit, 5, 30)
	require.NoError(t, err)
	want, err := match.ResidualHash(fit.Residual)
	require.NoError(t, err)
	require.Equal(t, want, l.Residual)
	none, err := match.ResidualHash(nil)
	require.NoError(t, err)
	require.NotEqual(t, none, l.Residual)

	raw, err := dagcbor.Marshal(l)
	require.NoError(t, err)
	again, err := dagcbor.Unmarshal[market.Lease](raw, 1<<16)
	require.NoError(t, err)
	for i, leg := range again.Legs {
		require.Equal(t, l.Legs[i].Rules, leg.Rules)
		require.Equal(t, l.Legs[i].Region, leg.Region)
	}
	require.Equal(t, "research", again.Purpose)

	for _, tc := range []struct {
		name   string
		leg    int
		height uint64
		run    *policy.Run
		rule   string // that denies
	}{
		{"the first run", 1, 6, &policy.Run{Calls: 1}, ""},
		{"the third run", 1, 6, &policy.Run{Calls: 3}, "a-calls"},
		{"too much output", 1, 6, &policy.Run{Calls: 1, OutputBytes: 101}, "z-large"},
		{"nobody counts", 1, 6, nil, "z-large"},
		{"compute in time", 2, 7, &policy.Run{}, ""},
		{"compute too late", 2, 8, &policy.Run{}, "hours"},
	} {
		c := match.Facts(again, again.Legs[tc.leg])
		c.Chain, c.Run = &policy.Chain{Height: tc.height}, tc.run
		got := b[tc.leg-1].Offer.Policy.Decide(c)
		require.Equal(t, tc.rule == "", got.Allowed(), tc.name)
		if tc.rule != "" {
			require.Equal(t, tc.rule, got.Rule, tc.name)
		}
	}
}

// TestSteps: policies that cost much cannot hold up a block.
func TestSteps(t *testing.T) {
	t.Parallel()
	costly := "data.attributes.exists(a, data.providers.exists(b, a != b && a > b))"
	var b book
	for i := range match.MaxScan {
		b = append(b, entry(strconv.Itoa(i), resources.KindCompute, rules(when("costly", policy.Deny, costly), when("never", policy.Deny, "true"))))
	}
	program, err := b[0].Offer.Policy.Compile()
	require.NoError(t, err)
	require.Greater(t, program.Cost()*match.MaxScan, uint64(match.MaxSteps), "the case must be beyond the bound")
	r := request()
	r.Legs = append(r.Legs[:1:1], r.Legs[2])
	d, _, _ := fill(t, r, b)
	require.Equal(t, match.Queued, d.Outcome)
	require.True(t, d.More, "the scan stops early and goes on")
	require.Less(t, d.Scanned, uint64(match.MaxScan))
	r.Legs[1].Offers = []mman.CID{b[0].ID}
	d, _, _ = fill(t, r, b)
	require.Equal(t, []match.Rejection{{Leg: 1, Offer: b[0].ID, Code: mman.ErrPolicy.Code, Rule: "never"}}, d.Rejections)
}

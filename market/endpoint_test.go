package market_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/resources"
)

// TestEndpointAlone: an endpoint is leased alone, sees its session, and is priced by
// what it meters.
func TestEndpointAlone(t *testing.T) {
	t.Parallel()
	leg := market.LegRequest{Role: market.RoleEndpoint, Facet: resources.FacetHTTP, Resource: mman.SumCID(mman.CodecDagCBOR, []byte("api"))}
	r := market.Request{
		Version: 1, Consumer: mman.Address{1}, LeaseKey: mman.LeaseKey{1}, Legs: []market.LegRequest{leg},
		Cap: 1000, Blocks: 10, Deadline: 10, Limits: resources.DefaultLimits(),
	}
	b, err := r.Encode()
	require.NoError(t, err)
	back, err := market.DecodeRequest(b)
	require.NoError(t, err)
	require.Equal(t, market.RoleEndpoint, back.Legs[0].Role)

	for name, change := range map[string]func(*market.Request){
		"supplied":    func(r *market.Request) { r.Legs[0].Supplied = true },
		"twice":       func(r *market.Request) { r.Legs = append(r.Legs, leg) },
		"of no kind":  func(r *market.Request) { r.Legs[0].Facet = resources.FacetWasm },
		"of anything": func(r *market.Request) { r.Legs[0].Resource = mman.CID{} },
		"with compute": func(r *market.Request) {
			r.Legs = append(r.Legs, market.LegRequest{Role: market.RoleCompute, Facet: resources.FacetWasm})
		},
		"too many": func(r *market.Request) { r.Legs[0].Offers = make([]mman.CID, market.MaxCandidates+1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := r
			bad.Legs = append([]market.LegRequest(nil), r.Legs...)
			change(&bad)
			require.Error(t, bad.Validate())
		})
	}

	perToken := price.Price{Units: []price.UnitPrice{{Unit: resources.UnitTokens, Per: 1000, UMan: 5}, {Unit: resources.UnitCalls, Per: 1, UMan: 1}}}
	require.NoError(t, perToken.Validate(resources.KindEndpoint, resources.FacetHTTP))
	require.Error(t, perToken.Validate(resources.KindCompute, resources.FacetWasm), "nobody counts tokens there")
	require.Error(t, price.Price{Share: 1}.Validate(resources.KindEndpoint, resources.FacetHTTP))
	require.Error(t, price.Price{Units: []price.UnitPrice{{Unit: resources.UnitFuel, Per: 1, UMan: 1}}}.Validate(resources.KindEndpoint, resources.FacetHTTP))

	l := market.Lease{Legs: []market.Leg{{Role: market.RoleEndpoint, Facet: resources.FacetHTTP, Price: perToken}}}
	require.Empty(t, l.Data())
	require.Equal(t, l.Algorithm(), l.Compute())
	gross, err := l.Gross(0, resources.Usage{Tokens: 1001, CallCount: 2})
	require.NoError(t, err)
	require.EqualValues(t, 8, gross, "2 for the calls and 5.005, rounded up once")
}

package resources_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

func TestRelease(t *testing.T) {
	t.Parallel()
	require.NoError(t, resources.DefaultRelease().Validate())
	gate := mman.SumCID(mman.CodecRaw, []byte("gate"))
	for name, change := range map[string]func(*resources.Release){
		"bits":               func(r *resources.Release) { r.Bits = 0 },
		"too many bits":      func(r *resources.Release) { r.Bits = resources.ReleaseMaxBits + 1 },
		"output":             func(r *resources.Release) { r.OutputBytes = resources.ReleaseMaxOutput + 1 },
		"pad above output":   func(r *resources.Release) { r.PadBytes = r.OutputBytes + 1 },
		"steps":              func(r *resources.Release) { r.FuelSteps = 33 },
		"slot":               func(r *resources.Release) { r.SlotMs = 0 },
		"args without gate":  func(r *resources.Release) { r.Args = []string{"x"} },
		"args are too long":  func(r *resources.Release) { r.Gate, r.Args = gate, []string{string(make([]byte, 513))} },
		"args hold a zero":   func(r *resources.Release) { r.Gate, r.Args = gate, []string{"\x00"} },
		"too many arguments": func(r *resources.Release) { r.Gate, r.Args = gate, make([]string, resources.MaxArgs+1) },
	} {
		r := resources.DefaultRelease()
		change(&r)
		require.Error(t, r.Validate(), name)
	}
}

// TestOutlet: what is counted is what can be seen.
func TestOutlet(t *testing.T) {
	t.Parallel()
	_, ok := resources.Join(nil)
	require.False(t, ok)
	one, two := resources.DefaultRelease(), resources.DefaultRelease()
	one.Gate, two.Gate = mman.SumCID(mman.CodecRaw, []byte("1")), mman.SumCID(mman.CodecRaw, []byte("2"))
	one.FuelSteps, two.SlotMs, two.Bits = 8, 4000, 100_000
	o, ok := resources.Join([]resources.Release{one, two})
	require.True(t, ok)
	require.Equal(t, []resources.Gate{{Module: one.Gate}, {Module: two.Gate}}, o.Gates)
	require.EqualValues(t, 1, o.FuelSteps)
	require.EqualValues(t, 4000, o.SlotMs)
	require.EqualValues(t, 100_000, o.Bits)

	o = resources.Outlet{Release: resources.Release{OutputBytes: 1000, PadBytes: 256, FuelSteps: 4, SlotMs: 100}}
	limits := resources.Limits{WallMs: 1000, OutputBytes: 900}
	require.EqualValues(t, 768, o.Most(limits))
	require.EqualValues(t, 256, o.Padded(1))
	require.EqualValues(t, 0, o.Padded(0))
	require.EqualValues(t, 6, o.Slots(1000), "100, 200, 400, 800, 1600, 3200 ms")
	require.EqualValues(t, 8, o.Cost(limits), "released or not, 4 steps, 6 moments, 4 lengths are 192")
	require.EqualValues(t, 8+8*256, o.Worth(limits, 256))
	steps := map[uint64]bool{}
	for used := range uint64(1025) {
		step := o.Fuel(used, 1024)
		require.GreaterOrEqual(t, step, used)
		steps[step] = true
	}
	require.Equal(t, map[uint64]bool{128: true, 256: true, 512: true, 1024: true}, steps)
	o.FuelSteps = 32
	require.EqualValues(t, 1, o.Fuel(0, 1), "a limit of one step")
}

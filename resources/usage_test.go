package resources_test

import (
	"context"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// units lists every unit; a counter of Usage without one would have no price.
func units() []resources.Unit {
	return []resources.Unit{
		resources.UnitFuel, resources.UnitCPUMs, resources.UnitWallMs, resources.UnitMemoryMs, resources.UnitInBytes,
		resources.UnitOutBytes, resources.UnitCalls, resources.UnitTokens, resources.UnitSteps,
	}
}

func TestEveryCounterHasAUnit(t *testing.T) {
	t.Parallel()
	require.Len(t, units(), reflect.TypeFor[resources.Usage]().NumField())
	for i, unit := range units() {
		var u resources.Usage
		reflect.ValueOf(&u).Elem().Field(i).SetUint(7)
		got, err := u.Of(unit)
		require.NoError(t, err)
		require.Equal(t, uint64(7), got, unit)
	}
	_, err := resources.Usage{}.Of("gpu_ms")
	require.ErrorIs(t, err, mman.ErrInvalid)
	require.ErrorContains(t, err, `"gpu_ms"`)
}

func TestUsageArithmetic(t *testing.T) {
	t.Parallel()
	a := resources.Usage{Fuel: 1, CPUMs: 2, WallMs: 3, MemoryMs: 4, InBytes: 5, OutBytes: 6, CallCount: 7, Tokens: 8, Steps: 9}
	sum, err := a.Add(a)
	require.NoError(t, err)
	require.Equal(t, a, sum.Since(a))
	require.True(t, a.AtMost(sum))
	require.False(t, sum.AtMost(a))
	for i := range reflect.TypeFor[resources.Usage]().NumField() {
		more := a
		field := reflect.ValueOf(&more).Elem().Field(i)
		field.SetUint(field.Uint() + 1)
		require.False(t, more.AtMost(a), "field %d", i)
		field.SetUint(math.MaxUint64)
		_, err := more.Add(a)
		require.ErrorIs(t, err, mman.ErrOverflow, "field %d", i)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	require.NoError(t, resources.DefaultLimits().Validate())
	require.NoError(t, resources.MaxLimits().Validate())
	for i := range reflect.TypeFor[resources.Limits]().NumField() {
		for _, value := range []uint64{0, reflect.ValueOf(resources.MaxLimits()).Field(i).Uint() + 1} {
			l := resources.DefaultLimits()
			reflect.ValueOf(&l).Elem().Field(i).SetUint(value)
			require.ErrorIs(t, l.Validate(), mman.ErrInvalid)
		}
	}
	d := resources.DefaultLimits()
	require.Equal(t, d, d.Tighten(resources.Limits{}), "zero bounds nothing")
	require.Equal(t, d, resources.MaxLimits().Tighten(d))
	require.Equal(t, d, d.Tighten(resources.MaxLimits()))
}

func TestMetered(t *testing.T) {
	t.Parallel()
	for _, unit := range units() {
		require.False(t, resources.Metered(resources.FacetFile, unit), unit)
	}
	require.True(t, resources.Metered(resources.FacetWasm, resources.UnitWallMs))
	require.False(t, resources.Metered(resources.FacetWasm, "gpu_ms"))
}

type nothing struct{}

func (nothing) Open(context.Context, mman.CID) (resources.Blob, error) { return nil, mman.ErrNotFound }

func TestTaskRefusals(t *testing.T) {
	t.Parallel()
	good := func() resources.Task {
		return resources.Task{Algorithm: mman.SumCID(mman.CodecRaw, nil), Limits: resources.DefaultLimits(), Content: nothing{}}
	}
	require.NoError(t, good().Validate())
	for name, c := range map[string]struct {
		change func(*resources.Task)
		want   *mman.Error
	}{
		"no algorithm":       {func(t *resources.Task) { t.Algorithm = mman.CID{} }, mman.ErrInvalid},
		"zero byte":          {func(t *resources.Task) { t.Args = []string{"a\x00b"} }, mman.ErrInvalid},
		"many arguments":     {func(t *resources.Task) { t.Args = make([]string, resources.MaxArgs+1) }, mman.ErrTooLarge},
		"long arguments":     {func(t *resources.Task) { t.Args = []string{strings.Repeat("a", resources.MaxArgsBytes+1)} }, mman.ErrTooLarge},
		"many inputs":        {func(t *resources.Task) { t.Inputs = make([]mman.CID, resources.MaxInputs+1) }, mman.ErrTooLarge},
		"input without name": {func(t *resources.Task) { t.Inputs = make([]mman.CID, 1) }, mman.ErrInvalid},
		"nowhere to read":    {func(t *resources.Task) { t.Content = nil }, mman.ErrInvalid},
		"no limits":          {func(t *resources.Task) { t.Limits = resources.Limits{} }, mman.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task := good()
			c.change(&task)
			require.ErrorIs(t, task.Validate(), c.want)
		})
	}
}

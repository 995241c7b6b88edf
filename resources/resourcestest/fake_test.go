package resourcestest_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/resourcestest"
)

func TestFakePlaysItsScript(t *testing.T) {
	t.Parallel()
	content := &resourcestest.Content{}
	task := resources.Task{Algorithm: content.Add([]byte("the answer")), Limits: resources.DefaultLimits(), Content: content}
	fake := &resourcestest.Fake{}
	run := func() (string, resources.Result, error) {
		prepared, err := fake.Prepare(t.Context(), task)
		require.NoError(t, err)
		var out strings.Builder
		result, err := fake.Run(t.Context(), prepared, resources.IO{Stdout: &out})
		require.NoError(t, prepared.Close())
		return out.String(), result, err
	}
	out, result, err := run()
	require.NoError(t, err)
	require.Equal(t, "the answer", out)
	require.EqualValues(t, 10, result.Usage.OutBytes)
	require.Zero(t, content.Opened())

	fake.Play = func(context.Context, resources.Task, resources.IO) (resources.Result, error) {
		return resources.Result{ExitCode: 7}, mman.ErrWall
	}
	_, result, err = run()
	require.ErrorIs(t, err, mman.ErrWall)
	require.EqualValues(t, 7, result.ExitCode)
	require.Len(t, fake.Tasks(), 2)

	fake.PrepareErr = mman.ErrModule
	_, err = fake.Prepare(t.Context(), task)
	require.ErrorIs(t, err, mman.ErrModule)
	fake.PrepareErr = nil
	task.Algorithm = mman.SumCID(mman.CodecRaw, []byte("gone"))
	_, err = fake.Prepare(t.Context(), task)
	require.ErrorIs(t, err, mman.ErrNotFound)
}

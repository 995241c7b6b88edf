package meter_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/resources/wasm/meter"
)

// command runs a WASI command and returns what it wrote, its exit code and its
// fuel.
func (e engine) command(t *testing.T, module wazero.CompiledModule, limit uint64, args ...string) (output string, exit uint32, used uint64) {
	t.Helper()
	ctx := t.Context()
	var out bytes.Buffer
	m, err := e.runtime.InstantiateModule(ctx, module, wazero.NewModuleConfig().WithName("").WithStartFunctions().
		WithStdout(&out).WithStderr(&out).WithStdin(bytes.NewReader(examples.Book())).WithArgs(append([]string{"algorithm"}, args...)...).
		WithFSConfig(wazero.NewFSConfig().WithFSMount(fstest.MapFS{"0": {Data: examples.Penguins()}}, "/data")))
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close(context.WithoutCancel(ctx))) }()
	setLimit(m, limit)
	_, err = m.ExportedFunction("_start").Call(ctx)
	exit = 1 << 31
	if err == nil {
		exit = 0
	} else if exited, ok := errors.AsType[*sys.ExitError](err); ok {
		exit = exited.ExitCode()
	}
	if g := global(m, meter.UsedGlobal); g != nil {
		used = g.Get()
	}
	return out.String(), exit, used
}

// Go programs give the same metered and not, with the same fuel each time.
func TestProgramsGiveTheSame(t *testing.T) {
	t.Parallel()
	e := compiler(t)
	wasi_snapshot_preview1.MustInstantiate(t.Context(), e.runtime)
	for name, tt := range map[string]struct {
		module []byte
		args   []string
	}{
		"wordcount": {examples.WordcountModule(), nil},
		"stats":     {examples.StatsModule(), []string{"--seed", "7"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := meter.Instrument(tt.module, meter.Options{})
			require.NoError(t, err)
			t.Logf("%d bytes, metered %d; %d blocks, %d charges, %d checks", len(tt.module), len(m.Module), m.Blocks, m.Charges, m.Checks)
			plain, err := e.runtime.CompileModule(t.Context(), tt.module)
			require.NoError(t, err)
			metered, err := e.runtime.CompileModule(t.Context(), m.Module)
			require.NoError(t, err)
			want, code, _ := e.command(t, plain, 0, tt.args...)
			require.NotEmpty(t, want)
			got, exit, used := e.command(t, metered, noLimit, tt.args...)
			require.Equal(t, want, got)
			require.Equal(t, code, exit)
			got, exit, again := e.command(t, metered, used, tt.args...)
			require.Equal(t, want, got)
			require.Equal(t, code, exit)
			require.Equal(t, used, again)
			_, exit, short := e.command(t, metered, used/2, tt.args...)
			require.Equal(t, uint32(1<<31), exit)
			require.Greater(t, short, used/2)
			t.Logf("%d units", used)
		})
	}
}

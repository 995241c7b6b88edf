package wasm_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/resources/resourcestest"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
)

func newExecutor(t testing.TB, change ...func(*wasm.Config)) *wasm.Executor {
	t.Helper()
	config := wasm.Config{Clock: time.Now}
	for _, f := range change {
		f(&config)
	}
	e, err := wasm.New(config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

func TestConformance(t *testing.T) {
	t.Parallel()
	resourcestest.Run(t, resourcestest.Harness{
		New:             func(t *testing.T) resourcestest.Closer { t.Helper(); return newExecutor(t) },
		Echo:            wasmtest.Echo(),
		Args:            wasmtest.Args(),
		Exit3:           wasmtest.Exit(3),
		LoopForever:     wasmtest.LoopForever(),
		AllocateForever: wasmtest.AllocateForever(),
		PrintForever:    wasmtest.PrintForever(),
		Trap:            wasmtest.Trap(),
		ReadInput:       wasmtest.ReadInput(),
		NotProgram:      []byte("#!/bin/sh\necho no\n"),
		ForbiddenImport: wasmtest.ForbiddenImport(),
		ClockRandom:     wasmtest.ClockRandom(),
	})
}

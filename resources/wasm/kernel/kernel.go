package kernel

import (
	"context"
	_ "embed" // the compiled kernels
	"errors"
	"fmt"
	"math"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources/wasm/meter"
)

//go:embed kernels.wasm
var module []byte

// Module returns the compiled kernels.
func Module() []byte { return append([]byte(nil), module...) }

// Kernel is one exported function of the module.
type Kernel struct {
	// Name is that of the export.
	Name string
	// Rounds are as many as take some milliseconds.
	Rounds uint32
	// Short are few enough for an interpreter; 0 where one round takes it long.
	Short uint32
	// Native does the same in Go, at once; nil for what only tests run.
	Native func(rounds uint32) uint32
}

// List returns the kernels: first those that are measured, which have a Native.
func List() []Kernel {
	return []Kernel{
		{"sha256", 1, 0, sha256},
		{"nbody", 40_000, 200, nbody},
		{"fannkuch", 8, 6, fannkuch},
		{"sieve", 1, 0, sieve},
		{"sort", 1, 0, sort},
		{"json", 3, 0, json},
		{"interpreter", 200_000, 1000, interpreter},
		{"tightloop", 5_000_000, 1000, tightloop},
		{"matmul", 8, 0, nil},
		{"fib", 26, 15, nil},
		{"copies", 100_000, 1000, nil},
	}
}

// Instance is a module that runs by itself. Not safe for concurrent use.
type Instance struct {
	runtime wazero.Runtime
	module  api.Module
}

// Open compiles a module without imports and instantiates it; Close frees it.
// Errors wrap mman.ErrModule.
func Open(ctx context.Context, module []byte) (*Instance, error) {
	runtime := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().
		WithCoreFeatures(api.CoreFeaturesV2).
		WithDebugInfoEnabled(false))
	m, err := runtime.InstantiateWithConfig(ctx, module, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", mman.ErrModule, err), runtime.Close(ctx))
	}
	i := &Instance{runtime, m}
	if limit := i.global(meter.LimitGlobal); limit != nil {
		limit.Set(math.MaxUint64)
	}
	return i, nil
}

// Close frees the instance.
func (i *Instance) Close(ctx context.Context) error { return i.runtime.Close(ctx) }

func (i *Instance) global(name string) api.MutableGlobal {
	g, _ := i.module.ExportedGlobal(name).(api.MutableGlobal)
	return g
}

// Run calls a kernel and returns its checksum. It fails with mman.ErrNotFound for
// a name that is not exported, and with mman.ErrGuestTrap.
func (i *Instance) Run(ctx context.Context, name string, rounds uint32) (uint32, error) {
	f := i.module.ExportedFunction(name)
	if f == nil {
		return 0, fmt.Errorf("%w: kernel %q", mman.ErrNotFound, name)
	}
	out, err := f.Call(ctx, uint64(rounds))
	if err != nil {
		return 0, fmt.Errorf("%w: kernel %s: %w", mman.ErrGuestTrap, name, err)
	}
	return api.DecodeU32(out[0]), nil
}

// Fuel returns what all runs so far used, 0 if the module is not metered.
func (i *Instance) Fuel() uint64 {
	if used := i.global(meter.UsedGlobal); used != nil {
		return used.Get()
	}
	return 0
}

package meter_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources/wasm/meter"
)

// The core test suite of the WebAssembly specification, as the engine ships it
// with its source: scripts in JSON beside modules.

type specScript struct {
	Commands []specCommand `json:"commands"`
}

type specCommand struct {
	Type       string      `json:"type"`
	Line       int         `json:"line"`
	Name       string      `json:"name"`
	Filename   string      `json:"filename"`
	As         string      `json:"as"`
	Action     specAction  `json:"action"`
	Expected   []specValue `json:"expected"`
	ModuleType string      `json:"module_type"`
	Text       string      `json:"text"`
}

type specAction struct {
	Type   string      `json:"type"`
	Args   []specValue `json:"args"`
	Field  string      `json:"field"`
	Module string      `json:"module"`
}

type specValue struct {
	Type     string `json:"type"`
	LaneType string `json:"lane_type"`
	Value    any    `json:"value"`
}

// lanes returns the values of a vector; of another value, itself.
func (v specValue) lanes() []specValue {
	texts, ok := v.Value.([]any)
	if !ok {
		return []specValue{v}
	}
	all := make([]specValue, 0, len(texts))
	for _, text := range texts {
		all = append(all, specValue{Type: v.LaneType, Value: text})
	}
	return all
}

// size is that of a lane, in bits.
func (v specValue) size() int {
	switch v.Type {
	case "i8":
		return 8
	case "i16":
		return 16
	case "i32", "f32":
		return 32
	default:
		return 64
	}
}

// words returns a value as the engine takes it: a vector is two.
func (v specValue) words(t *testing.T) []uint64 {
	t.Helper()
	lanes := v.lanes()
	if len(lanes) == 1 {
		return []uint64{v.bits(t)}
	}
	words := make([]uint64, 2)
	for i, l := range lanes {
		at := i * l.size()
		words[at/64] |= l.bits(t) << (at % 64)
	}
	return words
}

// matchesWords tells whether the first of the engine's words are the value, and
// returns the others.
func (v specValue) matchesWords(t *testing.T, got []uint64) (rest []uint64, ok bool) {
	t.Helper()
	lanes := v.lanes()
	if len(lanes) == 1 {
		return got[1:], v.matches(t, got[0])
	}
	for i, l := range lanes {
		at := i * l.size()
		lane := got[at/64] >> (at % 64) & (math.MaxUint64 >> (64 - l.size()))
		if !l.matches(t, lane) {
			return got[2:], false
		}
	}
	return got[2:], true
}

func (v specValue) bits(t *testing.T) uint64 {
	t.Helper()
	text, isText := v.Value.(string)
	if !isText || text == "null" {
		return 0
	}
	size := v.size()
	if strings.HasPrefix(text, "-") {
		n, err := strconv.ParseInt(text, 10, size)
		require.NoError(t, err)
		return uint64(n) & (math.MaxUint64 >> (64 - size))
	}
	n, err := strconv.ParseUint(text, 10, size)
	require.NoError(t, err)
	if v.Type == "externref" {
		n++ // the engine's null is 0
	}
	return n
}

func (v specValue) matches(t *testing.T, got uint64) bool {
	t.Helper()
	text, _ := v.Value.(string)
	switch {
	case strings.HasPrefix(text, "nan:") && v.Type == "f32":
		// Canonical, where the specification allows more; neg and abs set the sign.
		return uint32(got)&0x7fffffff == 0x7fc00000
	case strings.HasPrefix(text, "nan:"):
		return got&(1<<63-1) == 0x7ff8000000000000
	case v.Type == "f32" || v.Type == "i32":
		return uint32(got) == uint32(v.bits(t)) // the others are nobody's
	case v.Type == "funcref":
		return (got == 0) == (text == "null")
	default:
		return got == v.bits(t)
	}
}

func wazeroDir(tb testing.TB) string {
	tb.Helper()
	out, err := exec.CommandContext(tb.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	require.NoError(tb, err)
	return strings.TrimSpace(string(out))
}

// specWorld is the state of one script in one engine.
type specWorld struct {
	ctx     context.Context //nolint:containedctx // one script's life
	runtime wazero.Runtime
	named   map[string]api.Module
	last    api.Module
}

type specReport struct {
	modules, returns, traps, exhausted, invalid, unlinkable int
}

// instantiate does with a metered module what its start section asks for.
func (w *specWorld) instantiate(module []byte, name string) (api.Module, error) {
	compiled, err := w.runtime.CompileModule(w.ctx, module)
	if err != nil {
		return nil, err
	}
	m, err := w.runtime.InstantiateModule(w.ctx, compiled, wazero.NewModuleConfig().WithName(name).WithStartFunctions())
	if err != nil {
		return nil, err
	}
	setLimit(m, math.MaxUint64)
	if start := m.ExportedFunction(meter.StartFunction); start != nil {
		if _, err := start.Call(w.ctx); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func setLimit(m api.Module, limit uint64) {
	if g, ok := m.ExportedGlobal(meter.LimitGlobal).(api.MutableGlobal); ok {
		g.Set(limit)
	}
}

func TestSpecification(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(wazeroDir(t), "internal", "integration_test", "spectest")
	for _, version := range []string{"v1", "v2"} {
		scripts, err := filepath.Glob(filepath.Join(dir, version, "testdata", "*.json"))
		require.NoError(t, err)
		require.Greater(t, len(scripts), 50, "the engine's source lacks the scripts of the specification")
		var sum specReport
		for _, script := range scripts {
			if strings.HasSuffix(script, "/v1/testdata/linking.json") {
				continue // version 2.0 writes segments in order until one does not fit
			}
			runScript(t, script, filepath.Join(dir, "testdata", "spectest.wasm"), &sum)
		}
		t.Logf("%s: %+v", version, sum)
		require.Greater(t, sum.returns, 10_000)
	}
}

func newSpecWorld(t *testing.T, host []byte, metered bool) *specWorld {
	t.Helper()
	ctx := t.Context()
	w := &specWorld{ctx: ctx, named: map[string]api.Module{}}
	w.runtime = wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithCoreFeatures(api.CoreFeaturesV2))
	t.Cleanup(func() { require.NoError(t, w.runtime.Close(context.WithoutCancel(ctx))) })
	if metered {
		m, err := meter.InstrumentWith(host, meter.Options{}, meter.Switches{AnyImport: true})
		require.NoError(t, err)
		host = m.Module
	}
	_, err := w.instantiate(host, "spectest")
	require.NoError(t, err)
	return w
}

func runScript(t *testing.T, script, hostFile string, sum *specReport) {
	t.Helper()
	raw, err := os.ReadFile(script)
	require.NoError(t, err)
	var s specScript
	require.NoError(t, json.Unmarshal(raw, &s))
	host, err := os.ReadFile(hostFile)
	require.NoError(t, err)
	w := newSpecWorld(t, host, true)
	plain := newSpecWorld(t, host, false)
	for i, c := range s.Commands {
		where := fmt.Sprintf("%s:%d %s %s", filepath.Base(script), c.Line, c.Type, c.Action.Field)
		var module []byte
		if c.Filename != "" && c.ModuleType != "text" {
			module, err = os.ReadFile(filepath.Join(filepath.Dir(script), c.Filename))
			require.NoError(t, err)
		}
		switch c.Type {
		case "module":
			sum.modules++
			as := registeredAs(s.Commands[i:])
			w.module(t, where, module, c.Name, as, true)
			plain.module(t, where, module, c.Name, as, false)
		case "register": // done with the module
		case "action", "assert_return":
			w.returns(t, plain, where, c, sum)
		case "assert_trap", "assert_exhaustion":
			w.traps(t, plain, where, c, sum)
		case "assert_invalid", "assert_malformed":
			if c.ModuleType == "text" {
				continue
			}
			sum.invalid++
			_, err := meter.InstrumentWith(module, meter.Options{}, meter.Switches{AnyImport: true})
			if err == nil && strings.Contains(script, "/v1/") { // valid since
				if _, err := plain.runtime.CompileModule(plain.ctx, module); err != nil {
					require.ErrorContains(t, err, "empty module name", where) // the engine's own rule
				}
				continue
			}
			require.Error(t, err, "%s %s: %s", where, c.Filename, c.Text)
			require.True(t, errors.Is(err, mman.ErrModule) || errors.Is(err, mman.ErrImport), "%s: %v", where, err)
		case "assert_unlinkable", "assert_uninstantiable":
			sum.unlinkable++
			_, want := plain.instantiate(module, "")
			m, err := meter.InstrumentWith(module, meter.Options{}, meter.Switches{AnyImport: true})
			if err == nil {
				_, err = w.instantiate(m.Module, "")
				// The engine takes element segments that do not fit a table.
				require.True(t, (err == nil) == (want == nil) && (err != nil || strings.Contains(script, "/v1/") || strings.Contains(c.Text, "table")), where)
			}
		default:
			t.Fatalf("%s: unknown command", where)
		}
	}
}

func (w *specWorld) module(t *testing.T, where string, module []byte, name, as string, metered bool) {
	t.Helper()
	if metered {
		// An imported memory has another maximum than its importer knows, so that
		// growing it may fail as the specification says.
		foreign := strings.HasPrefix(where, "imports") || strings.HasPrefix(where, "linking")
		m, err := meter.InstrumentWith(module, meter.Options{}, meter.Switches{AnyImport: true, NoGrow: foreign})
		require.NoError(t, err, where)
		module = m.Module
	}
	m, err := w.instantiate(module, as)
	require.NoError(t, err, where)
	w.last = m
	w.named[name] = m
}

// registeredAs returns the name that the first of the commands, a module, is
// registered under later.
func registeredAs(commands []specCommand) string {
	for i, c := range commands[1:] {
		if c.Type == "register" && (c.Name == commands[0].Name && c.Name != "" || c.Name == "" && !slices.ContainsFunc(commands[1:i+1], isModule)) {
			return c.As
		}
	}
	return ""
}

func isModule(c specCommand) bool { return c.Type == "module" }

func (w *specWorld) target(a specAction) api.Module {
	if a.Module != "" {
		return w.named[a.Module]
	}
	return w.last
}

func (w *specWorld) invoke(t *testing.T, a specAction) ([]uint64, error) {
	t.Helper()
	m := w.target(a)
	require.NotNil(t, m, "%+v", a)
	if a.Type == "get" {
		return []uint64{m.ExportedGlobal(a.Field).Get()}, nil
	}
	args := make([]uint64, 0, len(a.Args))
	for _, v := range a.Args {
		args = append(args, v.words(t)...)
	}
	for _, named := range w.named { // what was stopped may go on
		if g, ok := named.ExportedGlobal(meter.StackGlobal).(api.MutableGlobal); ok {
			g.Set(0)
		}
	}
	return m.ExportedFunction(a.Field).Call(w.ctx, args...)
}

func (w *specWorld) returns(t *testing.T, plain *specWorld, where string, c specCommand, sum *specReport) {
	t.Helper()
	got, err := w.invoke(t, c.Action)
	require.NoError(t, err, where)
	sum.returns++
	_, err = plain.invoke(t, c.Action)
	require.NoError(t, err, where)
	if c.Type == "action" {
		return
	}
	for i, want := range c.Expected {
		rest, ok := want.matchesWords(t, got)
		require.True(t, ok, "%s: result %d of %#x is not %s %v", where, i, got, want.Type, want.Value)
		got = rest
	}
	require.Empty(t, got, where)
}

func (w *specWorld) traps(t *testing.T, plain *specWorld, where string, c specCommand, sum *specReport) {
	t.Helper()
	_, err := w.invoke(t, c.Action)
	require.Error(t, err, where)
	if c.Type == "assert_exhaustion" {
		sum.exhausted++
		require.Equal(t, uint64(meter.StopStack), w.target(c.Action).ExportedGlobal(meter.StopGlobal).Get(), where)
		return
	}
	sum.traps++
	_, want := plain.invoke(t, c.Action)
	require.Error(t, want, where)
	line := func(err error) string { s, _, _ := strings.Cut(err.Error(), "\n"); return s }
	require.Equal(t, line(want), line(err), where)
}

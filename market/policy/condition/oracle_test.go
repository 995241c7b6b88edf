package condition_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/market/policy/condition"
)

// testWords are the words of these tests, sorted.
func testWords() []condition.Word {
	return []condition.Word{
		{Name: "a.flag", Kind: condition.Bool},
		{Name: "a.high", Kind: condition.Int},
		{Name: "a.late", Kind: condition.Int},
		{Name: "a.list", Kind: condition.Texts, Bytes: 32, Count: 8},
		{Name: "a.low", Kind: condition.Int},
		{Name: "a.maybe", Kind: condition.Bool},
		{Name: "a.name", Kind: condition.Text, Bytes: 32},
		{Name: "a.nums", Kind: condition.Ints, Count: 8},
	}
}

// values are what the words hold; a missing one is unknown.
type values map[string]any

func (v values) read(i int) condition.Value {
	switch x := v[testWords()[i].Name].(type) {
	case bool:
		return condition.OfBool(x)
	case int64:
		return condition.OfInt(x)
	case string:
		return condition.OfText(x)
	case []string:
		return condition.OfTexts(x)
	case []int64:
		return condition.OfInts(x)
	default:
		return condition.Unknown()
	}
}

func someValues() values {
	return values{
		"a.flag": true, "a.high": int64(math.MaxInt64), "a.low": int64(-7), "a.name": "eu-wäst",
		"a.list": []string{"licence=MIT", "eu", "", "ж=1"}, "a.nums": []int64{0, 3, -7},
	}
}

// oracle is cel-go's parser, checker and evaluator over the same words.
type oracle struct{ env *cel.Env }

func newOracle(tb testing.TB) oracle {
	tb.Helper()
	var options []cel.EnvOption
	for _, w := range testWords() {
		kind := map[condition.Kind]*cel.Type{
			condition.Bool: cel.BoolType, condition.Int: cel.IntType, condition.Text: cel.StringType,
			condition.Ints: cel.ListType(cel.IntType), condition.Texts: cel.ListType(cel.StringType),
		}[w.Kind]
		options = append(options, cel.Variable(w.Name, kind))
	}
	env, err := cel.NewEnv(options...)
	require.NoError(tb, err)
	return oracle{env}
}

// answer evaluates with what is not in v unknown.
func (o oracle) answer(tb testing.TB, source string, v values) condition.Truth {
	tb.Helper()
	ast, issues := o.env.Compile(source)
	require.NoError(tb, issues.Err(), "cel-go refuses %q", source)
	require.Equal(tb, cel.BoolType, ast.OutputType(), source)
	program, err := o.env.Program(ast, cel.EvalOptions(cel.OptPartialEval))
	require.NoError(tb, err)
	var missing []*cel.AttributePatternType
	for _, w := range testWords() {
		if _, ok := v[w.Name]; !ok {
			missing = append(missing, cel.AttributePattern(w.Name))
		}
	}
	activation, err := cel.PartialVars(map[string]any(v), missing...)
	require.NoError(tb, err)
	out, _, err := program.Eval(activation)
	switch {
	case err != nil:
		return condition.Failed
	case types.IsUnknown(out):
		return condition.Undecided
	case out == types.True:
		return condition.True
	default:
		return condition.False
	}
}

// agree holds our answer against cel-go's and returns it.
func agree(tb testing.TB, o oracle, source string, v values) condition.Truth {
	tb.Helper()
	c, err := condition.Compile(source, testWords())
	require.NoError(tb, err, source)
	got := c.Eval(v.read)
	require.Equal(tb, o.answer(tb, source, v), got.Truth, "%q: ours says %s (%s)", source, got.Truth, got.Reason)
	return got.Truth
}

// writer writes random conditions of a kind.
type writer struct {
	rnd  *rand.Rand
	vars []string // variables in scope, all texts
}

func (w *writer) pick(list ...string) string { return list[w.rnd.IntN(len(list))] }

func (w *writer) boolean(depth int) string {
	if depth == 0 {
		return w.pick("true", "false", "a.flag", "a.maybe", "a.flag", `a.name == "x"`, "a.late > 3", "a.low / 0 == 1")
	}
	d := depth - 1
	switch w.rnd.IntN(12) {
	case 0:
		return "!(" + w.boolean(d) + ")"
	case 1:
		return w.boolean(d) + " && (" + w.boolean(d) + ") && " + "(" + w.boolean(d) + ")"
	case 2:
		return "(" + w.boolean(d) + ") || (" + w.boolean(d) + ") || (" + w.boolean(d) + ")"
	case 3:
		return "((" + w.boolean(d) + ") ? (" + w.boolean(d) + ") : (" + w.boolean(d) + "))"
	case 4:
		return w.integer(d) + w.pick(" == ", " != ", " < ", " <= ", " > ", " >= ") + w.integer(d)
	case 5:
		return w.text(d) + w.pick(" == ", " != ", " < ", " <= ", " > ", " >= ") + w.text(d)
	case 6:
		return w.integer(d) + " in " + w.pick("a.nums", "[1, -7, 3]", "["+w.integer(d)+", a.low]")
	case 7:
		return w.text(d) + " in " + w.pick("a.list", `["eu", 'licence=MIT']`, "["+w.text(d)+", a.name]")
	case 8:
		return w.text(d) + w.pick(".startsWith(", ".endsWith(", ".contains(") + w.text(d) + ")"
	case 9:
		v := "v" + strconv.Itoa(len(w.vars))
		w.vars = append(w.vars, v)
		body := w.boolean(d)
		w.vars = w.vars[:len(w.vars)-1]
		return w.pick("a.list", `["a", "eu", ""]`) + w.pick(".exists(", ".all(") + v + ", " + body + ")"
	case 10:
		return w.boolean(d) + w.pick(" == ", " != ") + "(" + w.boolean(d) + ")"
	default:
		return "(" + w.boolean(d) + ")"
	}
}

func (w *writer) integer(depth int) string {
	if depth == 0 {
		return w.pick("0", "1", "-7", "0x1F", "86400", "9223372036854775807", "-9223372036854775808", "a.high", "a.low", "a.late", "a.nums.size()")
	}
	d := depth - 1
	switch w.rnd.IntN(5) {
	case 0:
		return "(" + w.integer(d) + w.pick(" + ", " - ", " * ", " / ", " % ") + w.integer(d) + ")"
	case 1:
		return "-(" + w.integer(d) + ")"
	case 2:
		return "size(" + w.pick("a.list", "a.nums", w.text(d)) + ")"
	case 3:
		return "(" + w.boolean(d) + " ? " + w.integer(d) + " : " + w.integer(d) + ")"
	default:
		return w.integer(0)
	}
}

func (w *writer) text(depth int) string {
	if depth > 0 && w.rnd.IntN(4) == 0 {
		return "(" + w.boolean(depth-1) + " ? " + w.text(depth-1) + " : " + w.text(depth-1) + ")"
	}
	if len(w.vars) > 0 && w.rnd.IntN(2) == 0 {
		return w.pick(w.vars...)
	}
	return w.pick("a.name", `"eu"`, `'licence='`, `""`, `"ж"`, `"\u00e4\n\\"`, `"eu-w\u00e4st"`)
}

// TestAgainstOracle compares random conditions with cel-go's answers.
func TestAgainstOracle(t *testing.T) {
	t.Parallel()
	const n = 3000
	seed := uint64(20260104)
	o := newOracle(t)
	w := &writer{rnd: rand.New(rand.NewPCG(seed, 1))}
	seen := map[condition.Truth]int{}
	for i := range n {
		source := w.boolean(1 + i%4)
		if len(source) > condition.MaxBytes {
			continue
		}
		if _, err := condition.Compile(source, testWords()); err != nil {
			require.ErrorContains(t, err, "deeper", "seed %d: %s", seed, source)
			continue
		}
		seen[agree(t, o, source, someValues())]++
	}
	for _, truth := range []condition.Truth{condition.False, condition.True, condition.Undecided, condition.Failed} {
		require.Greater(t, seen[truth], n/40, "seed %d: %s", seed, truth)
	}
}

// FuzzCompile: whatever we accept, cel-go accepts and answers alike; nothing
// panics; the cost is an upper bound.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{
		`a.flag && a.name.startsWith("eu") || a.low % 7 == 0`, `a.list.exists(x, x == "eu" && a.nums.all(n, n > -8))`,
		`a.name in ["x", 'y\u0041'] ? a.maybe : !a.flag`, `-9223372036854775808 == -a.high - 1`, `size(a.list) == 0x04 // four`,
		`((((((((((((((((((((((a.flag))))))))))))))))))))))`, `1.5 > 1`, `a . flag`, `"""x""" == a.name`, `[1][0] == 1`, `--1 == 1`, `a.late<-1`,
	} {
		f.Add(s)
	}
	o := newOracle(f)
	f.Fuzz(func(t *testing.T, source string) {
		c, err := condition.Compile(source, testWords())
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		require.NotZero(t, c.Cost())
		_ = agree(t, o, source, someValues())
		_ = agree(t, o, source, values{})
	})
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ source, says string }{
		{"", "column 1: a value is missing before the end"},
		{"a.flag a.maybe", `column 8: "a" cannot stand here`},
		{"a.high", "is an int, a bool is needed"},
		{"a.colour == 1", "there are a.flag, a.high"},
		{"b.flag", "words begin with a"},
		{"flag", "words begin with a"},
		{"a == 1", "there are a.flag"},
		{"a.high > 1.5", "numbers are whole"},
		{"a.high > 1e3", "numbers are whole"},
		{"a.high > 1u", "no number"},
		{"a.high > 007", "leading 0"},
		{"a.high > 1_000", "no number"},
		{"a.high > 0x", "no number"},
		{"a.high > 9223372036854775808", "64 bits"},
		{"a.name == b'x'", "raw texts and bytes"},
		{`a.name == "x`, "no end"},
		{"a.name == \"\t\"", "U+0009"},
		{`a.name == "\ud800"`, "no character"},
		{`a.name == "\u00`, "four hex digits"},
		{`a.name == "\x41"`, "escape"},
		{`a.name == "\`, "no end"},
		{"a.name == null", "no null"},
		{"a.name.matches('e.*')", "regular expressions"},
		{"a.list.map(x, x) == a.list", "use exists or all"},
		{"a.list[0] == 'x'", "no index"},
		{"{'a': 1} == {'a': 1}", "maps"},
		{"[] == []", "empty list"},
		{"[1, 'x'].exists(x, true)", "all alike"},
		{"[true].exists(x, x)", "ints or texts"},
		{"a.list == a.list", "lists are not compared"},
		{"a.high == a.name", "compares what is alike"},
		{"a.flag < true", "no order"},
		{"a.high in a.list", "in needs a list"},
		{"a.high in a.high", "in needs a list"},
		{"a.name + 'x' == 'y'", "for ints"},
		{"a.high + a.name == 1", "+ needs an int"},
		{"!a.high", "! needs a bool"},
		{"!!a.flag", "once"},
		{"--1 == 1", "once"},
		{"-a.name == 'x'", "- needs an int"},
		{"a.flag && 1", "&& needs a bool"},
		{"a.flag ? 1 : 'x'", "both sides"},
		{"a.high ? true : false", "? needs a bool"},
		{"int('3') == 3", "the function \"int\" is not supported"},
		{"timestamp(a.high).getHours('CET') > 8", "the function \"timestamp\""},
		{"has(a.flag)", "the function \"has\""},
		{"size(a.high) == 1", "size needs a list or a text"},
		{"size(a.list, a.list) == 1", "size takes one"},
		{"a.name.size(1) == 1", "takes no argument"},
		{"a.name.startsWith()", "takes one text"},
		{"a.name.startsWith(1)", "needs a text"},
		{"a.name.length() == 1", "the call \"length\""},
		{"a.name.first == 'x'", "no field"},
		{"a.name.exists(x, true)", "needs a list"},
		{"a.list.exists(a, true)", "is in use"},
		{"a.list.exists(x, a.nums.all(x, true))", "is in use"},
		{"a.list.exists(_x, true)", "begins with a letter"},
		{"a.list.exists(true, true)", "meaning of its own"},
		{"a.list.exists(x, x)", "exists needs a bool"},
		{"a.list.exists(x)", `"," is missing`},
		{"x == 1 && a.list.exists(x, true)", "not known"},
		{"a.flag = true", "has no meaning"},
		{"a.flag && return", "reserved"},
		{"(a.flag", `")" is missing before the end`},
		{"a.flag ? true", `":" is missing`},
		{"\xff", "UTF-8"},
		{"true" + strings.Repeat(" ", condition.MaxBytes), "4096"},
		{strings.Repeat("(", 25) + "true" + strings.Repeat(")", 25), "deeper than 24"},
		{"1" + strings.Repeat("+1", 25) + " == 1", "deeper than 24"},
		{"1 in [1" + strings.Repeat(",1", 64) + "]", "at most 64"},
	} {
		_, err := condition.Compile(tc.source, testWords())
		require.ErrorContains(t, err, tc.says, tc.source)
		require.NotContains(t, err.Error(), "\n")
	}
}

func TestCompileAccepts(t *testing.T) {
	t.Parallel()
	o := newOracle(t)
	for source, want := range map[string]condition.Truth{
		"true" + strings.Repeat(" && true", 400):                     condition.True,
		strings.Repeat("(", 20) + "true" + strings.Repeat(")", 20):   condition.True,
		"a.late > 0 && false":                                        condition.False,
		"a.late > 0 || 1/0 == 1":                                     condition.Undecided,
		"1/0 == 1 || true":                                           condition.True,
		"1/0 == 1 && a.flag":                                         condition.Failed,
		"a.late / 0 == a.late":                                       condition.Undecided,
		"a.late + 1/0 == 1":                                          condition.Failed,
		"a.high + 1 > 0":                                             condition.Failed,
		"-9223372036854775808 / -1 > 0":                              condition.Failed,
		"-9223372036854775808 % -1 == 0":                             condition.Failed,
		"-7 % 3 == -1 && -7 / 2 == -3":                               condition.True,
		"-9223372036854775808 * -1 > 0":                              condition.Failed,
		"4611686018427387904 * -2 == -9223372036854775808":           condition.True,
		"a.list.exists(x, x.startsWith('licence='))":                 condition.True,
		"a.list.all(x, size(x) < 4)":                                 condition.False,
		"a.list.all(x, a.late > 0)":                                  condition.Undecided,
		"a.list.all(x, x == '' || a.late > 0 || 1/0 == 1)":           condition.Undecided,
		"a.list.exists(x, a.nums.exists(n, n == size(x) && n == 3))": condition.True,
		"size('\\u00e4ж') == 2":                                      condition.True,
		"(a.flag ? a.name : 'x') == \"eu-wäst\"":                     condition.True,
		"a.maybe ? a.flag : a.flag":                                  condition.Undecided,
		"a.name > 'eu' && 'eu' <= a.name && !(a.name < 'eu')":        condition.True,
		"a.low in [a.late, -7]":                                      condition.Undecided,
		"a.flag // a remark\n && true":                               condition.True,
	} {
		require.Equal(t, want, agree(t, o, source, someValues()), source)
	}
}

// TestBounds: a value beyond what its word declares fails, because the cost was
// counted without it.
func TestBounds(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]values{
		"text":     {"a.name": strings.Repeat("x", 33)},
		"element":  {"a.list": []string{strings.Repeat("x", 33)}},
		"elements": {"a.list": make([]string, 9)},
		"kind":     {"a.name": int64(3)},
	} {
		c, err := condition.Compile(`a.name == "x" || a.list.exists(x, true)`, testWords())
		require.NoError(t, err)
		if v["a.name"] == nil {
			v["a.name"] = "y"
		}
		if v["a.list"] == nil {
			v["a.list"] = []string{}
		}
		got := c.Eval(v.read)
		require.Equal(t, condition.Failed, got.Truth, name)
		require.Contains(t, got.Reason, "bounds")
	}
}

// TestCost: the count grows with what a condition may have to do.
func TestCost(t *testing.T) {
	t.Parallel()
	last := uint64(0)
	for _, source := range []string{
		"a.flag", "a.flag && a.flag", "a.name in a.list", "a.list.exists(x, x == a.name)",
		"a.list.exists(x, a.list.exists(y, x == y))", "a.list.exists(x, a.list.exists(y, a.list.exists(z, x == z && y == z)))",
	} {
		c, err := condition.Compile(source, testWords())
		require.NoError(t, err)
		require.Greater(t, c.Cost(), last, source)
		last = c.Cost()
	}
	deep := "true"
	for i := range 20 {
		deep = fmt.Sprintf("a.list.exists(x%d, %s)", i, deep)
	}
	c, err := condition.Compile(deep, testWords())
	require.NoError(t, err)
	require.Greater(t, c.Cost(), uint64(1)<<58)
}

func TestWords(t *testing.T) {
	t.Parallel()
	c, err := condition.Compile("a.name == 'x' || a.flag && a.list.exists(x, x == a.name)", testWords())
	require.NoError(t, err)
	require.Equal(t, []int{0, 3, 6}, c.Words())
}

func TestStrings(t *testing.T) {
	t.Parallel()
	for want, v := range map[string]condition.Value{
		"true": condition.OfBool(true), "-3": condition.OfInt(-3), `"ä\n"`: condition.OfText("ä\n"), `["a", "b"]`: condition.OfTexts([]string{"a", "b"}),
		"[1]": condition.OfInts([]int64{1}), "unknown": condition.Unknown(), "false": {}, "9223372036854775807": condition.OfUint(math.MaxUint64),
	} {
		require.Equal(t, want, v.String())
	}
}

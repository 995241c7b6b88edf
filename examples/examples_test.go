package examples_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/examples/stats"
	"github.com/limboid/massive-man/examples/wordcount"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/resourcestest"
	"github.com/limboid/massive-man/resources/wasm"
)

func newExecutor(t *testing.T) *wasm.Executor {
	t.Helper()
	executor, err := wasm.New(wasm.Config{Clock: time.Now})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, executor.Close()) })
	return executor
}

// run runs a module and returns what it printed.
func run(t *testing.T, executor *wasm.Executor, module, stdin, input []byte, args ...string) (stdout, stderr string, code uint32) {
	t.Helper()
	content := &resourcestest.Content{}
	task := resources.Task{
		Algorithm: content.Add(module), Args: args, Limits: resources.DefaultLimits(), Content: content,
		Stdin: content.Add(stdin), Inputs: []mman.CID{content.Add(input)},
	}
	prepared, err := executor.Prepare(t.Context(), task)
	require.NoError(t, err)
	var out, errs bytes.Buffer
	result, err := executor.Run(t.Context(), prepared, resources.IO{Stdout: &out, Stderr: &errs})
	require.NoError(t, err)
	require.NoError(t, prepared.Close())
	return out.String(), errs.String(), result.ExitCode
}

// randomCSV makes a table that asks for quoting, signs, gaps and fractions.
func randomCSV(random *rand.Rand) []byte {
	var b strings.Builder
	b.WriteString("kind,\"quoted, name\",x,y\r\n")
	for range random.IntN(200) {
		fmt.Fprintf(&b, "\"g \"\"%d\"\"\",line,", random.IntN(5))
		if random.IntN(10) > 0 {
			fmt.Fprintf(&b, "%d.%d", random.IntN(2000)-1000, random.IntN(1000))
		}
		fmt.Fprintf(&b, ",%d\n", random.Int64N(1_000_000_000_000))
	}
	return []byte(b.String())
}

func TestStatsRunsAlikeNativelyAndAsWASM(t *testing.T) {
	t.Parallel()
	executor := newExecutor(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	tables := [][]byte{examples.Penguins()}
	for range 5 {
		tables = append(tables, randomCSV(random))
	}
	for i, table := range tables {
		for _, args := range [][]string{nil, {"--seed", "7"}, {"--seed", strconv.FormatUint(random.Uint64(), 10)}} {
			options, err := stats.ParseArgs(args)
			require.NoError(t, err)
			want, err := stats.Summarize(table, options)
			require.NoError(t, err, "table %d", i)
			stdout, stderr, code := run(t, executor, examples.StatsModule(), nil, table, args...)
			require.Empty(t, stderr)
			require.Zero(t, code)
			require.Equal(t, string(want), stdout, "table %d, args %v", i, args)
		}
	}
	_, stderr, code := run(t, executor, examples.StatsModule(), nil, []byte("a,b\n1\n"))
	require.EqualValues(t, 2, code)
	require.Equal(t, "stats: line 2: 1 fields, the header has 2\n", stderr)
}

func TestWordcountRunsAlikeNativelyAndAsWASM(t *testing.T) {
	t.Parallel()
	executor := newExecutor(t)
	for _, text := range [][]byte{examples.Book(), nil, []byte("one")} {
		want, err := wordcount.Count(bytes.NewReader(text))
		require.NoError(t, err)
		stdout, stderr, code := run(t, executor, examples.WordcountModule(), text, nil)
		require.Empty(t, stderr)
		require.Zero(t, code)
		require.Equal(t, string(want), stdout)
	}
}

func TestPenguinsAreTheRealOnes(t *testing.T) {
	t.Parallel()
	require.Len(t, bytes.Split(bytes.TrimSpace(examples.Penguins()), []byte("\n")), 345)
	require.Equal(t, "316331f1", fmt.Sprintf("%x", sha256.Sum256(examples.Penguins()))[:8])
	summary, err := stats.Summarize(examples.Penguins(), stats.Options{Column: "body_mass_g"})
	require.NoError(t, err)
	require.JSONEq(t, `{"rows":344,"group_by":"species","groups":[
		{"name":"Adelie","rows":152,"columns":[{"name":"body_mass_g","count":151,"mean":3700.662252,"min":2850,"max":4775}]},
		{"name":"Chinstrap","rows":68,"columns":[{"name":"body_mass_g","count":68,"mean":3733.088235,"min":2700,"max":4800}]},
		{"name":"Gentoo","rows":124,"columns":[{"name":"body_mass_g","count":123,"mean":5076.01626,"min":3950,"max":6300}]}]}`,
		string(summary))
}

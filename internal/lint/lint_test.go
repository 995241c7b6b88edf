package lint_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/analysistest"
	"golang.org/x/tools/go/analysis/checker"
	"golang.org/x/tools/go/packages"

	"github.com/limboid/massive-man/internal/lint"
)

// TestFixtures runs the analyzer over small packages in testdata whose comments
// say what it must report, and where it must stay silent.
func TestFixtures(t *testing.T) {
	const module = "github.com/limboid/massive-man"
	analysistest.Run(t, analysistest.TestData(), lint.Analyzer,
		module,
		module+"/abci",
		module+"/abci/abcitest",
		module+"/abci/bank",
		module+"/genesis",
		module+"/market/allowed",
		module+"/market/clock",
		module+"/market/concurrency",
		module+"/market/floats",
		module+"/market/format",
		module+"/market/imports",
		module+"/market/ranges",
		module+"/p2p",
		module+"/resources",
		module+"/resources/wasm",
	)
}

// TestModule holds the real packages to the rules.
func TestModule(t *testing.T) {
	t.Parallel()
	all, err := packages.Load(&packages.Config{Context: t.Context(), Mode: packages.NeedName, Dir: "../.."}, "./...")
	require.NoError(t, err)
	var guarded []string
	for _, p := range all {
		if lint.Guards(p.PkgPath) {
			guarded = append(guarded, p.PkgPath)
		}
	}
	require.NotEmpty(t, guarded)

	pkgs, err := packages.Load(&packages.Config{Context: t.Context(), Mode: packages.LoadSyntax, Dir: "../.."}, guarded...)
	require.NoError(t, err)
	for _, p := range pkgs {
		require.Empty(t, p.Errors, p.PkgPath)
	}
	graph, err := checker.Analyze([]*analysis.Analyzer{lint.Analyzer}, pkgs, nil)
	require.NoError(t, err)
	for _, action := range graph.Roots {
		require.NoError(t, action.Err)
		for _, d := range action.Diagnostics {
			t.Errorf("%s: %s", action.Package.Fset.Position(d.Pos), d.Message)
		}
	}
}

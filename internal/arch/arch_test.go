package arch_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/internal/arch"
)

// TestLaw holds every package of the module, as go list sees it, to the law.
func TestLaw(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Name,Doc,Imports,Deps", "./...")
	cmd.Dir = "../.."
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())

	var pkgs []arch.Package
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p arch.Package
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		pkgs = append(pkgs, p)
	}
	require.True(t, slices.ContainsFunc(pkgs, func(p arch.Package) bool { return p.ImportPath == arch.Module }))
	for _, breach := range arch.Check(pkgs) {
		t.Error(breach)
	}
}

// TestFolders looks at what is on disk, whether or not it holds Go files.
func TestFolders(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir("../..")
	require.NoError(t, err)
	known := append(arch.Folders(), "docs", "bin")
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			require.Contains(t, known, e.Name(), "a new top-level folder needs a reason in RATIONALE.md")
		}
	}
}

// TestCheck shows that the law bites: each import list breaks it in one way.
func TestCheck(t *testing.T) {
	t.Parallel()
	const m = arch.Module
	pkg := func(path string, imports ...string) arch.Package {
		name := path[strings.LastIndexByte(path, '/')+1:]
		return arch.Package{ImportPath: path, Name: name, Doc: "Package x is.", Imports: imports}
	}
	reach := func(path string, deps ...string) arch.Package {
		p := pkg(path)
		p.Deps = deps
		return p
	}
	for _, tc := range []struct {
		name string
		pkg  arch.Package
		want string // "" when it is lawful
	}{
		{"root stands alone", pkg(m, m+"/internal/sig"), "leaves only"},
		{"leaf imports leaf", pkg(m+"/internal/sig", m+"/internal/dagcbor"), "internal/sig imports internal/dagcbor"},
		{"leaf imports root", pkg(m+"/internal/sig", m, "crypto/sha256"), ""},
		{"resources know no market", pkg(m+"/resources", m+"/market"), "resources imports market"},
		{"market knows no driver", pkg(m+"/market/match", m+"/resources/wasm"), "market/match imports resources/wasm"},
		{"market knows resources", pkg(m+"/market", m+"/resources", m+"/internal/dagcbor", m), ""},
		{"driver knows no market", pkg(m+"/resources/wasm", m+"/market"), "resources/wasm imports market"},
		{"driver knows no network", pkg(m+"/resources/wasm/wasi", m+"/p2p"), "resources/wasm/wasi imports p2p"},
		{"driver knows no driver", pkg(m+"/resources/dataset", m+"/resources/wasm"), "resources/dataset imports resources/wasm"},
		{"network knows no chain", pkg(m+"/p2p/discovery", m+"/abci/tx"), "p2p/discovery imports abci/tx"},
		{"module knows no module", pkg(m+"/abci/market", m+"/abci/bank"), "abci/market imports abci/bank"},
		{"module knows no application", pkg(m+"/abci/market", m+"/abci"), "abci/market imports abci"},
		{"module knows state", pkg(m+"/abci/market", m+"/abci/tx", m+"/abci/state", m+"/market/settle"), ""},
		{"application knows no harness", pkg(m+"/abci", m+"/abci/abcitest"), "abci imports abci/abcitest"},
		{"application knows modules", pkg(m+"/abci", m+"/abci/bank", "github.com/cometbft/cometbft/abci/types"), ""},
		{"nobody but programs imports node", pkg(m+"/sdk", m+"/node"), "sdk imports node"},
		{"client program links no node", pkg(m+"/cmd/internal/client", m+"/node/consensus"), "cmd/internal/client imports node/consensus"},
		{"client envelope", pkg(m+"/sdk", m+"/abci/tx", m+"/p2p/content"), ""},
		{"client knows no application", pkg(m+"/sdk", m+"/abci"), "sdk imports abci"},
		{"node imports no client", pkg(m+"/node", m+"/sdk"), "node imports sdk"},
		{"unknown room", pkg(m + "/internal/attic"), "no row of arch.Law"},
		{"unknown folder", pkg(m + "/pkg"), `"pkg" is not a top-level folder`},
		{"nameless", pkg(m + "/market/types"), `"types" says nothing`},
		{"nameless folder", pkg(m + "/node/common/clock"), `"common" says nothing`},
		{"nameless package", arch.Package{ImportPath: m + "/node/clock", Name: "helpers", Doc: "Package x is."}, `"helpers" says nothing`},
		{"undocumented", arch.Package{ImportPath: m + "/market", Name: "market"}, "no package comment"},
		{"libp2p at home", pkg(m+"/p2p/discovery", "github.com/libp2p/go-libp2p/core/peer"), ""},
		{"libp2p abroad", pkg(m+"/node/provider", "github.com/libp2p/go-libp2p/core/peer"), "the one door to the network"},
		{"boxo abroad", pkg(m+"/sdk", "github.com/ipfs/boxo/blockstore"), "the one door to the network"},
		{"consensus at home", pkg(m+"/node/consensus", "github.com/cometbft/cometbft/node", "github.com/cometbft/cometbft-db"), ""},
		{"consensus abroad", pkg(m+"/abci", "github.com/cometbft/cometbft/node"), "CometBFT's node"},
		{"abci types abroad", pkg(m+"/abci/bank", "github.com/cometbft/cometbft/abci/types"), "the one door to ABCI"},
		{"cometbft-db abroad", pkg(m+"/node/store", "github.com/cometbft/cometbft-db"), "CometBFT's stores"},
		{"wazero abroad", pkg(m+"/market", "github.com/tetratelabs/wazero"), "the one WASM engine"},
		{"badger at home", pkg(m+"/node/store", "github.com/dgraph-io/badger/v4"), ""},
		{"badger abroad", pkg(m+"/abci/state", "github.com/dgraph-io/badger/v4"), "the one store on disk"},
		{"cbor abroad", pkg(m+"/market", "github.com/fxamacker/cbor/v2"), "one strict codec"},
		{"ed25519 abroad", pkg(m+"/abci/tx", "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"), "one ed25519 verifier"},
		{"secp256k1 abroad", pkg(m+"/sdk", "github.com/decred/dcrd/dcrec/secp256k1/v4"), "one secp256k1 verifier"},
		{"prefix of a name is not a path", pkg(m+"/market", "github.com/fxamacker/cborish"), ""},
		{"pure layer reaches the network", reach(m+"/market/policy", "fmt", "net/http"), "market/policy reaches net/http"},
		{"client reaches the node", reach(m+"/cmd/mman", m+"/node/store"), "cmd/mman reaches"},
		{"client reaches consensus", reach(m+"/sdk/light", "github.com/cometbft/cometbft/node"), "sdk/light reaches"},
		{"others are free", pkg("example.org/types", m+"/node"), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := arch.Check([]arch.Package{tc.pkg})
			if tc.want == "" {
				require.Empty(t, got)
				return
			}
			require.Contains(t, strings.Join(got, "\n"), tc.want)
		})
	}
}

// TestRooms keeps the table readable: every row says why.
func TestRooms(t *testing.T) {
	t.Parallel()
	for _, r := range arch.Law() {
		require.NotEmpty(t, r.Why, r.In)
	}
	for _, h := range arch.Homes() {
		require.NotEmpty(t, h.Why, h.Dep)
	}
}

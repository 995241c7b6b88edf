package arch

// Module is the import path of the root package.
const Module = "github.com/limboid/massive-man"

// Room is one row of the law. In and May are paths below the module: "." is the
// root package, "x" the package x alone, "x/..." x and everything below it, and
// a leading "!" takes a path away again.
type Room struct {
	In  string
	May []string // of this module; leaves may always be imported
	Why string
}

// Home says where a heavy dependency may be imported: everything at or below
// the import path Dep, only by the packages In.
type Home struct {
	Dep string
	In  []string
	Why string
}

// Distance is a package that must not be reached, over any number of imports.
type Distance struct {
	From string
	To   []string // import paths; a path that ends in "/..." includes what is below
	Why  string
}

// Leaves may be imported by every package above them.
func Leaves() []string {
	return []string{".", "internal/beside", "internal/dagcbor", "internal/feed", "internal/sig"}
}

// Law returns the rows; the first row that covers a package decides.
func Law() []Room {
	return []Room{
		// Leaves.
		{In: ".", Why: "primitives: standard library only"},
		{In: "internal/dagcbor", May: []string{"."}, Why: "the codec under everything"},
		{In: "internal/sig", May: []string{".", "internal/beside"}, Why: "keys and signatures"},
		{In: "internal/alarm", Why: "an instant; knows nothing of what it wakes"},
		{In: "internal/beside", Why: "another processor; knows nothing of what runs there"},
		{In: "internal/feed", Why: "a writer before a reader; knows nothing of either"},

		// Pure layers, bottom up.
		{In: "resources", Why: "what a thing is does not know what it costs or who carries it"},
		{In: "market/...", May: []string{"market/...", "resources"}, Why: "rules see descriptors, never drivers or the network"},
		{In: "genesis", May: []string{"market/...", "resources"}, Why: "the first state is data"},

		// The state machine.
		{In: "abci/tx", May: []string{"genesis", "market/storage"}, Why: "a client links the envelope and its gas table without the chain"},
		{In: "abci/state", Why: "a store of keys and values"},
		{In: "abci/block", May: []string{"abci/state", "genesis"}, Why: "what a module sees of a block"},
		{In: "abci/abcitest/...", May: []string{"abci/...", "genesis", "market/...", "resources"}, Why: "drives the whole application"},
		{In: "abci/state/statetest", May: []string{"abci/state"}, Why: "judges stores"},
		{In: "abci", May: []string{"abci/...", "!abci/abcitest/...", "genesis", "market/...", "resources"}, Why: "routes to the modules"},
		{In: "abci/...", May: []string{"abci/block", "abci/tx", "abci/state", "genesis", "market/...", "resources"}, Why: "modules do not know each other nor the application"},

		// Drivers and network.
		{In: "resources/resourcestest/...", May: []string{"resources"}, Why: "judges drivers, knows none"},
		{In: "resources/folder", Why: "how a folder is one content, for who makes it and who mounts it"},
		{In: "resources/prepare", May: []string{"resources", "resources/folder"}, Why: "what drivers do alike before a task runs"},
		{In: "resources/gate", May: []string{"resources"}, Why: "a run and its filters over any executor, for the provider and for whoever replays"},
		{In: "resources/wasm/...", May: []string{"internal/alarm", "resources", "resources/folder", "resources/prepare", "resources/environment", "resources/wasm/..."}, Why: "a driver knows a task, not a price or a peer"},
		{In: "resources/container/mux", Why: "how connections to a hosted container travel, on both sides and within it"},
		{In: "resources/container/hosting", May: []string{"resources"}, Why: "what is said of a hosted container, on both sides"},
		{In: "resources/container/...", May: []string{"resources", "resources/folder", "resources/prepare", "resources/container/..."}, Why: "a driver knows a task, not a price or a peer"},
		{In: "resources/endpoint/call", May: []string{"resources"}, Why: "how a call travels and what it costs in tokens, on both sides"},
		{In: "resources/endpoint/...", May: []string{"resources", "resources/endpoint/..."}, Why: "a driver knows a task, not a price or a peer"},
		{In: "resources/gpu", Why: "what the kernel shows of a machine"},
		{In: "resources/environment", May: []string{"resources"}, Why: "how one talks with an environment, on both sides"},
		{In: "resources/dataset/...", May: []string{"resources", "resources/dataset/..."}, Why: "a driver knows a task, not a price or a peer"},
		{In: "p2p/...", May: []string{"p2p/...", "market/...", "resources"}, Why: "the network carries bytes, it does not know the chain"},

		// Assembly.
		{In: "node/store", May: []string{"abci/state"}, Why: "bytes on disk, whatever they mean; the state says what it needs of a store"},
		{In: "node", May: []string{"node/...", "p2p/...", "resources/...", "abci/...", "!abci/abcitest/...", "genesis", "market/...", "sdk/keyring", "sdk/chain", "sdk/submit"}, Why: "wires one running node; a provider's account signs and submits as any account does"},
		{In: "node/api", May: []string{"node/keeper", "node/library", "node/provider", "p2p/content", "sdk/chain", "resources", "market/policy"}, Why: "shows what the ledger answers, what the provider lends and what everybody may have"},
		{In: "node/...", May: []string{"node/...", "p2p/...", "resources/...", "abci/...", "!abci/abcitest/...", "genesis", "market/..."}, Why: "assembles one running node"},
		{In: "sdk/...", May: []string{"sdk/...", "abci/tx", "genesis", "market/...", "resources", "resources/wasm/meter", "resources/endpoint/call", "resources/environment", "resources/folder", "resources/container/mux", "resources/container/hosting", "p2p/..."}, Why: "a client does not link the node"},

		// Programs.
		{In: "cmd/mman", May: []string{"cmd/internal/...", "!cmd/internal/daemon/..."}, Why: "a thin main of the client"},
		{In: "cmd/mman-node", May: []string{"cmd/internal/..."}, Why: "a thin main of the node"},
		{In: "cmd/internal/client/...", May: []string{"cmd/internal/...", "!cmd/internal/daemon/...", "sdk/...", "abci/tx", "genesis", "market/...", "resources/...", "p2p/..."}, Why: "the verbs of mman work with no daemon beside them"},
		{In: "cmd/internal/...", May: []string{"cmd/internal/...", "node/...", "sdk/...", "p2p/...", "resources/...", "abci/...", "!abci/abcitest/...", "genesis", "market/...", "examples/...", "internal/localnet", "internal/bench"}, Why: "the verbs of mman-node; the demo recomputes an example natively"},

		// Around the product.
		{In: "internal/arch/...", Why: "reads import paths only"},
		{In: "internal/lint/...", May: []string{"internal/lint/..."}, Why: "reads syntax only"},
		{In: "internal/paramdoc", May: []string{"genesis"}, Why: "writes a table"},
		{In: "internal/localnet", May: []string{"genesis", "node", "p2p", "sdk/chain"}, Why: "lays out homes and starts programs"},
		{In: "internal/bench", May: []string{"...", "!internal/arch/...", "!internal/lint/...", "!cmd/..."}, Why: "measures whole networks and single parts"},
		{In: "internal/testnet/...", May: []string{"...", "!internal/arch/...", "!internal/lint/..."}, Why: "whole networks under test"},
		{In: "internal/e2e/...", May: []string{"...", "!internal/arch/...", "!internal/lint/..."}, Why: "whole programs under test"},
		{In: "internal/npm", Why: "installs packages for tests"},
		{In: "internal/kubo", Why: "runs a stock kubo, for tests and comparison"},
		{In: "internal/ipfs", Why: "a test of foreign programs, nothing to import"},
		{In: "internal/openai", Why: "a test of foreign clients and their script, nothing to import"},
		{In: "internal/cosmjs", Why: "a test of foreign clients and their script, nothing to import"},
		{In: "internal/stock", Why: "a test of CometBFT's own tools, nothing to import"},
		{In: "internal/docrun", Why: "a test of the commands in the documentation, nothing to import"},
		{In: "examples/...", May: []string{"examples/..."}, Why: "examples are programs of our users: they link nothing of ours"},
	}
}

// Homes returns the home of each heavy dependency. Longer paths come first: the
// first row that covers an import decides. Test files are free.
func Homes() []Home {
	harness := []string{"internal/testnet/...", "internal/e2e/..."}
	home := func(dep, why string, in ...string) Home { return Home{dep, append(in, harness...), why} }
	return []Home{
		home("github.com/libp2p/go-yamux", "streams over the one that a run is", "resources/container/mux"),
		home("github.com/libp2p", "the one door to the network", "p2p/..."),
		home("github.com/ipfs/boxo", "the one door to the network", "p2p/..."),
		home("github.com/cometbft/cometbft/abci", "the one door to ABCI; the benchmark has a reference application", "abci", "abci/abcitest/...", "node/consensus", "node/light", "internal/bench"),
		home("github.com/cometbft/cometbft/proto", "the one door to ABCI", "abci", "abci/abcitest/...", "node/consensus"),
		home("github.com/cometbft/cometbft/light", "a client that checks headers", "node/consensus", "node/light", "sdk/light"),
		home("github.com/cometbft/cometbft-db", "CometBFT's stores", "node/consensus", "node/light"),
		home("github.com/cometbft/cometbft", "CometBFT's node and its RPC", "node/consensus", "node/light"),
		home("github.com/tetratelabs/wazero", "the one WASM engine", "resources/wasm/..."),
		home("github.com/paralin", "the one interpreter that is embedded", "resources/wasm/interpreter"),
		home("github.com/moby", "the one container engine's client", "resources/container"),
		home("github.com/containerd", "the errors of that client", "resources/container"),
		home("github.com/dgraph-io", "the one store on disk", "node/store"),
		home("cel.dev/cel-go", "tests only: policies have their own evaluator, so that an upgrade is no fork"),
		home("github.com/parquet-go", "tests only: another reader and writer of Parquet, to hold ours against"),
		home("github.com/gorilla/websocket", "tests only: a websocket's two ends that others wrote, to hold endpoints against"),
		home("github.com/fxamacker/cbor", "one strict codec", "internal/dagcbor"),
		home("github.com/oasisprotocol/curve25519-voi", "one ed25519 verifier everywhere", "internal/sig"),
		home("github.com/decred/dcrd", "one secp256k1 verifier everywhere; the keyring derives keys", "internal/sig", "sdk/keyring"),
		home("github.com/spf13", "only programs have flags", "cmd/..."),
		home("github.com/stretchr", "only tests test", "resources/resourcestest/...", "abci/abcitest/...", "abci/state/statetest", "p2p/p2ptest", "resources/wasm/wasmtest", "internal/npm"),
		home("golang.org/x/tools", "only the analyzer reads syntax", "internal/lint/..."),
	}
}

// Distances returns what must stay out of reach.
func Distances() []Distance {
	inout := []string{
		"net/http", "os/exec",
		"github.com/libp2p/...", "github.com/ipfs/boxo/...", "github.com/dgraph-io/...",
		"github.com/tetratelabs/...", "github.com/cometbft/...", "github.com/moby/...",
	}
	client := []string{Module + "/node/...", "github.com/moby/...", "github.com/dgraph-io/...", "github.com/cometbft/cometbft/node", "github.com/cometbft/cometbft/consensus"}
	return []Distance{
		{".", []string{"net", "os/exec", "github.com/..."}, "primitives: standard library only"},
		{"resources", inout, "pure"},
		{"market/...", inout, "pure"},
		{"genesis", inout, "pure"},
		{"abci/tx", inout, "pure, and a client links it"},
		{"abci/state", inout, "pure"},
		{"sdk/...", client, "a client is small"},
		{"cmd/mman", client, "a client is small"},
	}
}

// Folders returns the top-level folders that may hold Go packages. Another one
// needs a reason in RATIONALE.md.
func Folders() []string {
	return []string{"abci", "cmd", "examples", "genesis", "internal", "market", "node", "p2p", "resources", "sdk"}
}

// Nameless returns package names that say nothing about what is inside.
func Nameless() []string {
	return []string{"util", "utils", "common", "types", "helpers", "helper", "base", "manager", "misc", "shared"}
}

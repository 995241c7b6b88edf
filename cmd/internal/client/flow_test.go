package client_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/examples/wordcount"
	"github.com/limboid/massive-man/internal/testnet"
	"github.com/limboid/massive-man/node/store"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/wasm/wasmtest"
)

const computeListing = `
resource: {kind: compute, facet: wasm, name: half of a farm}
policy: {default: allow, limits: {network: none}}
price: {units: [{unit: wall_ms, per: 1000, price: 10000uman}]}
capacity: 8
`

const dataListing = `
resource: {kind: dataset, facet: file, name: Penguins, summary: Birds of Palmer station, content: penguins.csv, private: true}
policy: {default: allow, algorithms: [%s]}
price: {per_lease: 0.02MAN}
`

const describedListing = `
resource: {kind: dataset, facet: file, name: Described, content: penguins.csv, private: true}
policy: {default: deny, rules: [{id: reviewed, effect: allow, when: '!algorithm.supplied && "reviewed=yes" in algorithm.attributes'}]}
price: {per_lease: 0.02MAN}
`

const reviewedListing = `
resource: {kind: algorithm, facet: wasm, name: Reviewed, content: stats.wasm, attributes: {reviewed: "yes"}}
policy: {default: allow}
`

const checkpointListing = `
resource: {kind: dataset, facet: checkpoint, name: Tuned, content: model2.bin, parents: [{resource: %s, owner: %s, share_bp: 1000}]}
policy: {default: allow}
price: {per_lease: 0.1MAN}
`

// TestFlow types what a new user would, on a real network in this process: a
// provider lends through its node's API, a consumer runs its own algorithm on
// its own file, is refused on data that is not for it, and closes its lease.
func TestFlow(t *testing.T) {
	net := testnet.New(t, 1, "farm")
	farm, dir := net.Providers[0], t.TempDir()
	require.NoError(t, farm.Running.Write(farm.Home))
	operator := person{home: farm.Home}
	me := person{home: filepath.Join(dir, "me"), node: net.Validators[0].Running.RPC}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	book := "It was the best of times, it was the worst of times.\n"
	stats := write("stats.wasm", string(examples.StatsModule()))
	module, text := write("wordcount.wasm", string(examples.WordcountModule())), write("book.txt", book)
	write("penguins.csv", string(examples.Penguins()))

	made := me.json(t, 0, "keys", "new", "me", "--unencrypted")
	address := word(t, made, "address")
	require.Contains(t, me.fails(t, 4, "account"), "never received anything")
	require.Contains(t, me.fails(t, 3, "request", "run", module, "--input", text), "fund it first")
	sent := operator.json(t, 0, "send", address, "5MAN")
	require.InDelta(t, 5_000_000, sent["amount_uman"], 0)
	require.Equal(t, true, operator.json(t, 0, "tx", word(t, sent, "tx"))["ok"])
	require.InDelta(t, 5_000_000, me.json(t, 0, "account")["balance_uman"], 0)

	// Nobody lends anything yet.
	refused := me.json(t, 4, "request", "run", module, "--input", text)
	require.Contains(t, word(t, part(t, refused, "error"), "text"), "nobody offers")
	require.Contains(t, me.says(t, "lease", "list"), "No lease")

	lent := operator.json(t, 0, "resource", "add", write("farm.yaml", computeListing))
	require.Equal(t, "compute", lent["kind"])
	require.Contains(t, operator.fails(t, 1, "offer", "add", write("bad.yaml", "resource: {kin: compute}")), "kin")
	require.Contains(t, operator.says(t, "resource", "list", "--mine"), "half of a farm")
	require.Contains(t, me.says(t, "offer", "list", "--kind", "compute"), lent["offer"])
	require.Contains(t, me.says(t, "offer", "show", word(t, lent, "offer")), "0.01MAN per 1000 wall_ms")
	require.Contains(t, me.says(t, "search", "FARM"), lent["resource"])
	testnet.Eventually(t, "an offer in the DHT", func() (bool, error) {
		found, _ := me.json(t, 0, "search", "FARM", "--discover", "dht")["found"].([]any)
		return len(found) == 1, nil
	})
	require.Contains(t, me.says(t, "search", "no", "such", "thing"), "Nothing")
	require.Contains(t, me.says(t, "resource", "show", word(t, lent, "resource")), "half of a farm")

	// A conversation, from a pipe.
	echo := write("echo.wasm", string(wasmtest.Echo()))
	talker := me
	talker.stdin = "one\ntwo\n"
	talkedCode, said, asides := talker.types(t, "request", "repl", echo, "--meter", "--close")
	require.Zero(t, talkedCode, asides)
	require.Equal(t, "one\ntwo\n", said)
	require.Contains(t, asides, "paid 0.")
	talked := talker.json(t, 0, "request", "repl", echo, "--close")
	require.InDelta(t, 8, part(t, talked, "usage")["in_bytes"], 0)
	require.Contains(t, me.fails(t, 1, "replay", word(t, talked, "receipt")), "interactive")
	require.Contains(t, me.fails(t, 2, "request", "repl", echo, "--idle", "2h"), "--idle")

	want, err := wordcount.Count(strings.NewReader(book))
	require.NoError(t, err)
	require.Equal(t, string(want), me.says(t, "request", "run", module, "--input", text))

	out := filepath.Join(dir, "out.txt")
	me.stdin = book
	first := me.json(t, 0, "request", "run", module, "--input", "-", "--out", out, "--seed", "7")
	got, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
	sum := sha256.Sum256(want)
	result := part(t, first, "result")
	require.Equal(t, hex.EncodeToString(sum[:]), result["sha256"])
	require.InDelta(t, len(want), result["bytes"], 0)
	require.Positive(t, first["paid_uman"])
	require.Positive(t, first["burned_uman"])
	require.Contains(t, first["usage"], "wall_ms")
	require.Zero(t, part(t, first, "ms")["match"], "the open lease is used again")
	lease := word(t, first, "lease")
	why := me.json(t, 0, "why", word(t, first, "request"))
	require.Equal(t, "matched", why["state"])
	require.Contains(t, why["explain"], "was chosen: compute for ")
	shown := me.json(t, 0, "lease", "show", lease)
	require.Equal(t, "open", shown["state"])
	require.Positive(t, shown["signed_uman"])

	// What fails leaves no file behind, and what is there as it was.
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	me.stdin = ""
	failed := me.json(t, 1, "request", "run", stats, "--out", out, "--", "--no-such-flag")
	require.NotZero(t, failed["exit_code"])
	require.Positive(t, failed["paid_uman"])
	require.NotNil(t, failed["error"])
	after, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, after, len(entries))
	kept, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, got, kept)

	// A module on which nothing can run leaves no lease, and no limit's sentence
	// comes twice.
	library := write("library.wasm", "\x00asm\x01\x00\x00\x00")
	require.Contains(t, me.fails(t, 1, "request", "run", library), "the lease is closed")
	loop := write("loop.wasm", "\x00asm\x01\x00\x00\x00"+
		"\x01\x04\x01\x60\x00\x00"+"\x03\x02\x01\x00"+"\x05\x03\x01\x00\x01"+
		"\x07\x13\x02\x06_start\x00\x00\x06memory\x02\x00"+
		"\x0a\x09\x01\x07\x00\x03\x40\x0c\x00\x0b\x0b")
	require.Contains(t, me.fails(t, 1, "request", "run", loop, "--wall", "100ms"), "raise --wall")
	require.Contains(t, me.fails(t, 3, "request", "run", module, "--max", "6MAN"), "not enough funds")
	require.Contains(t, me.fails(t, 2, "request", "run", module, "--blocks", "999999999"), "--blocks 999999999")

	// Data for another algorithm only.
	private := operator.json(t, 0, "resource", "add", write("data.yaml", strings.Replace(dataListing, "%s", word(t, lent, "resource"), 1)))
	denied := me.json(t, 3, "request", "run", module, "--data", word(t, private, "resource"))
	require.Contains(t, word(t, part(t, denied, "error"), "text"), `rule "algorithms"`)
	require.Contains(t, me.fails(t, 3, "request", "run", module, "--data", word(t, private, "resource"), "--discover", "dht"), `rule "algorithms"`)

	// Two versions of a checkpoint.
	weights := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(weights) // it never fails
	model := string(weights)
	v1 := operator.json(t, 0, "push", write("model.bin", model), "--name", "model")
	v2 := operator.json(t, 0, "push", write("model2.bin", "new "+model), "--name", "model", "--parent", word(t, v1, "resource")+"="+address+":500")
	require.Contains(t, operator.fails(t, 2, "push", text, "--parent", "x"), "x")
	pulled := filepath.Join(dir, "pulled.bin")
	versions := func(args ...string) []any {
		list, _ := me.json(t, 0, append([]string{"pull", "--out", pulled}, args...)...)["versions"].([]any)
		return list
	}
	require.Len(t, versions(word(t, v1, "resource")), 1)
	again1, err := os.ReadFile(pulled)
	require.NoError(t, err)
	require.Equal(t, model, string(again1))
	changed, _ := versions(word(t, v2, "resource"))[0].(map[string]any)
	require.Less(t, changed["moved_bytes"], float64(len(model)/2), "the version that is here is the base")
	require.Len(t, versions(word(t, v2, "resource"), "--depth", "5"), 2)
	again1, err = os.ReadFile(pulled + ".1")
	require.NoError(t, err)
	require.Equal(t, model, string(again1))
	require.Contains(t, me.fails(t, 3, "pull", word(t, private, "resource"), "--out", pulled), "its owner keeps it")

	// A folder is the input of a run: one that is here, one that anybody gives, one that
	// is lent, and one from a storage lease.
	operator.json(t, 0, "send", address, "10MAN")
	birds := filepath.Join(dir, "birds")
	require.NoError(t, os.MkdirAll(filepath.Join(birds, "antarctic"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(birds, "antarctic", "penguins.csv"), examples.Penguins(), 0o600))
	table := me.says(t, "request", "run", stats, "--close", "--data", filepath.Join(dir, "penguins.csv"))
	ran := me.json(t, 0, "request", "run", stats, "--close", "--data", birds, "--out", out, "--", "/data/0/antarctic/penguins.csv")
	got, err = os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, table, string(got))
	require.Equal(t, true, me.json(t, 0, "replay", word(t, ran, "receipt"))["equal"])
	given, _ := operator.json(t, 0, "add", birds)["added"].([]any)
	flock, _ := given[0].(map[string]any)
	folder := operator.json(t, 0, "resource", "add", write("birds.yaml", strings.NewReplacer("file", "folder", "penguins.csv", "birds", ", algorithms: [%s]", "", "private: true", "private: true, any_algorithm: true").Replace(dataListing)))
	operator.json(t, 0, "offer", "storage", "--capacity", "1GiB")
	stored := part(t, me.json(t, 0, "request", "store", birds, "--replicas", "1", "--for", "1h"), "lease")
	for _, data := range []string{word(t, flock, "root"), word(t, folder, "resource"), word(t, stored, "id")} {
		require.Equal(t, table, me.says(t, "request", "run", stats, "--close", "--data", data, "--", "/data/0/antarctic/penguins.csv"), data)
	}
	again := filepath.Join(dir, "fetched")
	me.json(t, 0, "request", "fetch", word(t, stored, "id"), "--out", again)
	got, err = os.ReadFile(filepath.Join(again, "antarctic", "penguins.csv"))
	require.NoError(t, err)
	require.Equal(t, examples.Penguins(), got)
	require.Contains(t, me.fails(t, 2, "request", "fetch", word(t, stored, "id"), "--out", again), "already")

	// A private set whose policy describes the algorithms that may see it: one is
	// reviewed, and the same program as a file of the consumer's own is not.
	described := word(t, operator.json(t, 0, "resource", "add", write("described.yaml", describedListing)), "resource")
	reviewed := word(t, operator.json(t, 0, "resource", "add", write("reviewed.yaml", reviewedListing)), "resource")
	require.Equal(t, table, me.says(t, "request", "run", reviewed, "--close", "--data", described))
	require.Contains(t, me.fails(t, 3, "request", "run", stats, "--close", "--data", described), "default")
	require.Contains(t, me.fails(t, 3, "request", "run", module, "--close", "--data", described), "default")

	// A checkpoint that derives from another pays the other's owner.
	author := person{home: filepath.Join(dir, "author"), node: me.node}
	owner := word(t, author.json(t, 0, "keys", "new", "author", "--unencrypted"), "address")
	tuned := operator.json(t, 0, "resource", "add", write("tuned.yaml", fmt.Sprintf(checkpointListing, word(t, v1, "resource"), owner)))
	require.Contains(t, author.fails(t, 4, "account"), "never received anything")
	me.json(t, 0, "request", "run", module, "--close", "--data", word(t, tuned, "resource"), "--input", text)
	testnet.Eventually(t, "the parent's owner is paid", func() (bool, error) {
		code, _, _ := author.types(t, "account")
		return code == 0, nil
	})
	require.InDelta(t, 9800, author.json(t, 0, "account")["balance_uman"], 0, "a tenth of 0.1MAN, of which 2 % is burned")

	closed := me.json(t, 0, "lease", "close", lease)
	require.Equal(t, true, closed["closed"])
	testnet.Eventually(t, "the lease is closed on the node that is asked too", func() (bool, error) {
		return me.json(t, 0, "lease", "show", lease)["state"] == "closed", nil
	})
	settled := me.json(t, 0, "request", "run", module, "--input", text, "--close", "--discover", "dht")
	require.NotEmpty(t, settled["settled"])
	require.NotEqual(t, lease, settled["lease"])

	// Anybody can compute what it cost again.
	bill := me.json(t, 0, "receipt", "verify", word(t, settled, "receipt"))
	require.Equal(t, bill["gross_uman"], bill["settled_uman"], "what was signed for was settled")
	file := filepath.Join(t.TempDir(), "bill.json")
	me.json(t, 0, "receipt", "export", word(t, settled, "receipt"), file)
	nobody := person{home: filepath.Join(t.TempDir(), "nobody"), node: me.node}
	require.Equal(t, bill, nobody.json(t, 0, "receipt", "verify", file))
	require.Contains(t, nobody.says(t, "receipt", "verify", file), "rounded up once")
	signed, err := os.ReadFile(file)
	require.NoError(t, err)

	// Who has the contents, or finds them on the network, runs it again, too.
	elsewhere := nobody.json(t, 0, "replay", file, "--data", text, "--data", module)
	require.Equal(t, true, elsewhere["equal"], elsewhere["differs"])
	require.Equal(t, settled["paid_uman"], elsewhere["billed_uman"])
	operator.json(t, 0, "add", module)
	operator.json(t, 0, "add", text)
	elsewhere = nobody.json(t, 0, "replay", file)
	require.Equal(t, true, elsewhere["equal"], elsewhere["differs"])
	for change, tt := range map[string]struct {
		part  string
		value any
		want  string
	}{
		"a seed":        {"seed", strings.Repeat("01", 32), "not the one that the provider signed for"},
		"an argument":   {"args", []string{"x"}, "not the one that the provider signed for"},
		"another input": {"stdin_bytes", len(book) - 1, "not the one that the provider signed for"},
		"the run":       {"number", 2, "not the one that the provider signed for"},
		"no number":     {"number", 0, "numbered from 1"},
		"a new word":    {"speed", 1, "unknown field"},
	} {
		var changed map[string]any
		require.NoError(t, json.Unmarshal(signed, &changed))
		part(t, changed, "run")[tt.part] = tt.value
		b, err := json.Marshal(changed)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, b, 0o600))
		require.Contains(t, nobody.fails(t, 1, "replay", file), tt.want, change)
	}
	for top, tt := range map[string]struct {
		value any
		want  string
	}{
		"run":     {nil, "does not describe the run"},
		"before":  {resources.Usage{WallMs: 1 << 62}, "more was used before the run"},
		"receipt": {map[string]any{}, "ends too early"},
		"input":   {strings.Repeat("x", 256<<10), "at most 262144 bytes"},
	} {
		var changed map[string]any
		require.NoError(t, json.Unmarshal(signed, &changed))
		changed[top] = tt.value
		b, err := json.Marshal(changed)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, b, 0o600))
		require.Contains(t, nobody.fails(t, 1, "replay", file), tt.want, top)
	}

	require.NoError(t, os.WriteFile(file, []byte(strings.Replace(string(signed), net.Genesis.ChainID, "mman-local-0", 1)), 0o600))
	require.Contains(t, nobody.fails(t, 1, "receipt", "verify", file), "not signed by")
	require.NoError(t, os.WriteFile(file, []byte("{}{}"), 0o600))
	nobody.fails(t, 1, "receipt", "verify", file)
	require.Contains(t, nobody.fails(t, 4, "receipt", "verify", word(t, lent, "resource")), "no run of this home")

	// The run that was paid for, done again here.
	replayed := me.json(t, 0, "replay", word(t, settled, "receipt"))
	require.Equal(t, true, replayed["equal"], replayed["differs"])
	require.Equal(t, settled["paid_uman"], replayed["billed_uman"])
	require.NoError(t, os.WriteFile(text, []byte("changed"), 0o600))
	require.Contains(t, me.fails(t, 1, "replay", word(t, settled, "receipt")), "changed since the run")
	require.Contains(t, me.fails(t, 4, "replay", word(t, lent, "resource")), "no run of this home")

	require.Contains(t, operator.says(t, "offer", "withdraw", word(t, private, "offer")), "Penguins")
	operator.json(t, 0, "resource", "rm", word(t, lent, "resource"))
	require.Contains(t, operator.fails(t, 4, "resource", "rm", word(t, lent, "resource")), "lends no")
	status := me.json(t, 0, "status")
	require.Equal(t, true, status["conserved"])
	require.Equal(t, net.Genesis.ChainID, status["chain_id"])
}

// TestPushWithoutHistory: a node that never had the first version publishes the second
// and names the first as its parent; the second is pulled from it alone.
func TestPushWithoutHistory(t *testing.T) {
	net := testnet.New(t, 1, "farm", "shop")
	farm, shop, dir := net.Providers[0], net.Providers[1], t.TempDir()
	for _, n := range net.Providers {
		require.NoError(t, n.Running.Write(n.Home))
	}
	first := net.Validators[0].Running
	me := person{home: filepath.Join(dir, "me"), node: first.RPC, env: map[string]string{"MMAN_PEER": shop.Running.Peers[0]}}
	weights := make([]byte, 4<<20)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(weights) // it never fails
	model := filepath.Join(dir, "model.bin")
	push := func(n *testnet.Node, text string, args ...string) (resource string, root mman.CID) {
		require.NoError(t, os.WriteFile(model, []byte(text), 0o600))
		resource = word(t, person{home: n.Home}.json(t, 0, append([]string{"push", model, "--name", "model"}, args...)...), "resource")
		manifest := part(t, person{home: n.Home, node: first.RPC}.json(t, 0, "resource", "show", resource), "manifest")
		root, err := mman.ParseCID(word(t, part(t, manifest, "content"), "public"))
		require.NoError(t, err)
		return resource, root
	}
	v1, root1 := push(farm, string(weights))
	changed := "new " + string(weights)
	v2, root2 := push(shop, changed, "--parent", v1)
	farm.Stop()
	pulled := filepath.Join(dir, "pulled.bin")
	list, _ := me.json(t, 0, "pull", v2, "--out", pulled)["versions"].([]any)
	require.Len(t, list, 1)
	got, err := os.ReadFile(pulled)
	require.NoError(t, err)
	require.Equal(t, changed, string(got))
	require.Contains(t, me.says(t, "resource", "show", v2), v1, "the lineage")

	shop.Stop()
	cfg := store.DefaultConfig(filepath.Join(shop.Home, "store"), slog.New(slog.DiscardHandler))
	cfg.MinFree = 0
	db, err := store.Open(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	kept := content.NewPublicStore(db.Data().PublicBlocks())
	for root, want := range map[mman.CID]bool{root1: false, root2: true} {
		has, err := kept.Has(t.Context(), root)
		require.NoError(t, err)
		require.Equal(t, want, has, "the node that pushed the second version has it alone")
	}
}

// TestProviderGone: a consumer whose provider is gone is told so, and gets the
// rest of the escrow after the time that the provider has to settle.
func TestProviderGone(t *testing.T) {
	net := testnet.New(t, 1, "farm")
	farm, dir := net.Providers[0], t.TempDir()
	require.NoError(t, farm.Running.Write(farm.Home))
	operator := person{home: farm.Home}
	me := person{home: net.Validators[0].Home, node: net.Validators[0].Running.RPC}
	module, listing := filepath.Join(dir, "wordcount.wasm"), filepath.Join(dir, "farm.yaml")
	require.NoError(t, os.WriteFile(module, examples.WordcountModule(), 0o600))
	require.NoError(t, os.WriteFile(listing, []byte(computeListing), 0o600))
	operator.json(t, 0, "resource", "add", listing)
	lease := word(t, me.json(t, 0, "request", "run", module), "lease")

	farm.Stop()
	begun := time.Now()
	require.Contains(t, me.fails(t, 4, "request", "run", module), "it does not answer at")
	require.Less(t, time.Since(begun), 15*time.Second, "somebody waits")
	closing := me.json(t, 0, "lease", "close", lease)
	require.Equal(t, false, closing["closed"])
	require.Positive(t, closing["close_at"])
	require.Equal(t, "closing", me.json(t, 0, "lease", "show", lease)["state"])
}

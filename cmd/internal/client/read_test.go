package client_test

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/internal/testnet"
)

// TestDataset lends a public and a private table, finds them by their columns and
// attributes, and reads some rows of the public one without fetching it.
func TestDataset(t *testing.T) {
	net := testnet.New(t, 1, "farm")
	farm, dir := net.Providers[0], t.TempDir()
	require.NoError(t, farm.Running.Write(farm.Home))
	operator := person{home: farm.Home}
	// The chain may not know yet where validators listen.
	first := net.Validators[0].Running
	me := person{home: filepath.Join(dir, "me"), node: first.RPC, env: map[string]string{"MMAN_PEER": first.Peers[0]}}
	var text strings.Builder
	text.WriteString("flipper,species\n")
	for i := range 1_000_000 {
		text.WriteString(strconv.Itoa(i) + ",Gentoo\n")
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	write("open.csv", text.String())
	write("sealed.jsonl", `{"iris":"blue","secret":"x"}`+"\n")
	lent := operator.json(t, 0, "resource", "add", write("open.yaml", "resource: {kind: dataset, facet: file, name: Birds, licence: CC0-1.0, source: a walk, content: open.csv}\npolicy: {default: allow}\nprice: {per_lease: 0.01MAN}\n"))
	operator.json(t, 0, "resource", "add", write("sealed.yaml", "resource: {kind: dataset, facet: file, name: Eyes, content: sealed.jsonl, private: true}\npolicy: {default: deny, rules: [{id: reviewed, effect: allow, when: '\"reviewed=yes\" in algorithm.attributes'}]}\nprice: {per_lease: 0.01MAN}\n"))
	require.Contains(t, operator.fails(t, 1, "resource", "add", write("bad.yaml", "resource: {kind: dataset, facet: file, name: Eyes, content: sealed.jsonl, sample: 9}\npolicy: {default: allow}\n")), "at most 8")

	whole := operator.fails(t, 3, "resource", "add", write("bad.yaml", "resource: {kind: dataset, facet: file, name: Eyes, content: sealed.jsonl, private: true}\npolicy: {default: allow}\n"))
	require.Contains(t, whole, "any algorithm")
	require.Contains(t, whole, "any_algorithm: true", "the way out")

	resource := word(t, lent, "resource")
	shown := me.json(t, 0, "resource", "show", resource)
	manifest := part(t, shown, "manifest")
	require.Equal(t, []string{"CC0-1.0", "a walk"}, []string{word(t, manifest, "licence"), word(t, manifest, "source")})
	table := part(t, manifest, "table")
	require.Equal(t, "csv", table["format"])
	require.InDelta(t, 1_000_000, table["rows"], 0)
	require.Equal(t, []any{"0,Gentoo", "1,Gentoo", "2,Gentoo"}, table["sample"])
	said := me.says(t, "resource", "show", resource)
	require.Contains(t, said, "flipper int, species text")
	require.Regexp(t, `source +a walk`, said)
	require.Contains(t, me.says(t, "search", "FLIPPER", "--kind", "dataset"), resource)
	require.Contains(t, me.says(t, "search", "--where", `"rows=1000000" in offer.attributes`), resource)
	sealed := me.json(t, 0, "search", "iris")
	found, _ := sealed["found"].([]any)
	require.Len(t, found, 1)
	one, _ := found[0].(map[string]any)
	require.NotContains(t, part(t, one, "table"), "sample", "rows of private data stay private")
	require.Contains(t, me.fails(t, 3, "resource", "read", word(t, one, "resource")), "its owner keeps it")

	// The owner is told of each resource when it was announced and whether it is reachable.
	operator.json(t, 0, "add", filepath.Join(dir, "open.yaml"))
	testnet.Eventually(t, "all is announced", func() (bool, error) {
		shares, _ := operator.json(t, 0, "status")["shares"].([]any)
		require.Len(t, shares, 3)
		for _, share := range shares {
			one, _ := share.(map[string]any)
			if one["provided"] == nil {
				return false, nil
			}
			require.Equal(t, "machine", one["reachable"])
		}
		return true, nil
	})
	require.Contains(t, operator.says(t, "status"), "reachable from this machine only")
	require.NotContains(t, me.json(t, 0, "status"), "shares")

	require.Equal(t, strings.Join([]string{"species", "Gentoo", "Gentoo", ""}, "\n"), me.says(t, "resource", "read", resource, "--rows", "10:12", "--columns", "species"))
	out := filepath.Join(dir, "part.csv")
	got := me.json(t, 0, "resource", "read", resource, "--rows", ":5", "--out", out)
	require.InDelta(t, 5, got["to"], 0)
	require.InDelta(t, text.Len(), got["bytes"], 0)
	require.Less(t, got["moved_bytes"], float64(text.Len()), "it is not fetched whole")
	b, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, text.String()[:strings.Index(text.String(), "5,")], string(b))
	require.Contains(t, me.fails(t, 4, "resource", "read", resource, "--columns", "wings"), "wings")
	require.Contains(t, me.fails(t, 2, "resource", "read", resource, "--rows", "5:5"), "5:5")

	// Parquet: rows as values, or columns as they are.
	type bird struct {
		Wing int32  `parquet:"wing,delta"`
		Kind string `parquet:"kind,dict,snappy"`
		Pad  []byte `parquet:"pad"`
	}
	flock := func(first, n int32) *bytes.Buffer {
		var packed bytes.Buffer
		w := parquet.NewGenericWriter[bird](&packed, parquet.MaxRowsPerRowGroup(1000))
		for i := first; i < first+n; i++ {
			_, err := w.Write([]bird{{i, []string{"Gentoo", "Adelie"}[i%2], bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 500)}})
			require.NoError(t, err)
		}
		require.NoError(t, w.Close())
		return &packed
	}
	packed := flock(0, 12_000)
	write("birds.parquet", packed.String())
	lent = operator.json(t, 0, "resource", "add", write("birds.yaml", "resource: {kind: dataset, facet: file, name: Wings, content: birds.parquet}\npolicy: {default: allow}\n"))
	resource = word(t, lent, "resource")
	table = part(t, part(t, me.json(t, 0, "resource", "show", resource), "manifest"), "table")
	require.Equal(t, "parquet", table["format"])
	require.Len(t, table["sample"], 3)
	lines := strings.Split(me.says(t, "resource", "read", resource, "--rows", "2001:2003", "--columns", "kind,wing"), "\n")
	require.Len(t, lines, 3, "two rows and the end")
	require.JSONEq(t, `{"wing": 2001, "kind": "Adelie"}`, lines[0])
	require.JSONEq(t, `{"wing": 2002, "kind": "Gentoo"}`, lines[1])
	got = me.json(t, 0, "resource", "read", resource, "--rows", "2001:2003", "--columns", "kind,wing", "--out", out)
	require.Equal(t, "jsonl", got["as"])
	require.Less(t, got["moved_bytes"], float64(packed.Len()/2), "columns that are not wanted do not move")
	got = me.json(t, 0, "resource", "read", resource, "--rows", "2001:2003", "--columns", "kind,wing", "--as", "parquet", "--out", out)
	require.InDelta(t, 2000, got["from"], 0)
	rows, err := parquet.ReadFile[bird](out)
	require.NoError(t, err)
	require.Len(t, rows, 1000)
	require.Equal(t, int32(2001), rows[1].Wing)
	require.Contains(t, me.fails(t, 1, "resource", "read", resource, "--limit", "100KiB"), "--limit")
	require.Contains(t, me.fails(t, 2, "resource", "read", resource, "--as", "xml"), "parquet")

	// A price for reads: nothing comes without money, and what is billed is what came.
	dear := flock(50_000, 5000)
	write("dear.parquet", dear.String())
	terms := "resource: {kind: dataset, facet: file, name: Dear wings, content: dear.parquet}\npolicy: {default: allow}\n"
	require.Contains(t, operator.fails(t, 1, "resource", "add", write("dear.yaml", terms+"reads: {}\n")), "reads.price")
	set := word(t, operator.json(t, 0, "resource", "add", write("dear.yaml", terms+"reads: {price: 0.01MAN}\n")), "resource")
	require.Len(t, part(t, part(t, me.json(t, 0, "resource", "show", set), "manifest"), "table")["sample"], 3, "what is in it is public")
	require.Contains(t, me.fails(t, 3, "resource", "read", set), "mman request data")
	money := word(t, me.json(t, 0, "keys", "new", "me", "--unencrypted"), "address")
	require.Contains(t, me.fails(t, 3, "request", "data", set), "fund it first")
	operator.json(t, 0, "send", money, "2MAN")
	require.Contains(t, me.fails(t, 4, "request", "data", resource), "without a price", "the set above costs nothing")
	buy := func(rows string, flags ...string) (bought map[string]any, billed float64) {
		bought = me.json(t, 0, append([]string{"request", "data", set, "--rows", rows, "--columns", "kind,wing", "--max", "0.5MAN", "--out", out}, flags...)...)
		usage := part(t, bought, "usage")
		billed, _ = usage["out_bytes"].(float64)
		require.InDelta(t, bought["came_bytes"], billed, 0, "bytes billed are bytes that came")
		calls, _ := usage["calls"].(float64)
		require.Positive(t, calls)
		moved, _ := bought["moved_bytes"].(float64)
		require.Greater(t, billed, moved)
		require.Less(t, billed, moved+200*calls, "beside the blocks only the heads of the answers came")
		require.Less(t, moved, 0.7*float64(dear.Len()), "blocks that are not needed do not come")
		require.Len(t, bought["receipts"], int(calls))
		return bought, billed
	}
	once, billed1 := buy("2001:2003")
	b, err = os.ReadFile(out)
	require.NoError(t, err)
	lines = strings.Split(string(b), "\n")
	require.Len(t, lines, 3)
	require.JSONEq(t, `{"wing": 52001, "kind": "Adelie"}`, lines[0])
	farm.Stop()
	farm.Start(t)
	farm.Await(t)
	require.NoError(t, farm.Running.Write(farm.Home))
	second, billed2 := buy("4000:4001", "--close")
	require.Equal(t, once["lease"], second["lease"], "the seller's restart ends no lease")
	receipts, _ := second["receipts"].([]any)
	last, _ := receipts[len(receipts)-1].(string)
	shown = me.json(t, 0, "receipt", "verify", last)
	require.InDelta(t, billed1+billed2, part(t, part(t, shown, "statement"), "usage")["out_bytes"], 0, "the last receipt pays for all bytes that came")
	require.InDelta(t, math.Ceil((billed1+billed2)*10_000/(1<<20)), shown["gross_uman"], 0, "0.01 MAN a MiB, rounded up once")
	require.Equal(t, shown["gross_uman"], shown["settled_uman"])
	operator.json(t, 0, "resource", "rm", set)
	require.Contains(t, me.fails(t, 4, "request", "data", set), "nobody sells parts")

	left, err := os.ReadDir(filepath.Join(me.home, "fetching"))
	require.NoError(t, err)
	require.Empty(t, left)
}

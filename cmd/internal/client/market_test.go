package client_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/examples"
	"github.com/limboid/massive-man/internal/testnet"
)

// stand is a network with one provider's operator and one consumer.
type stand struct {
	net               *testnet.Net
	operator, me      person
	dir, module, mine string
	added             int
}

func newStand(t *testing.T) *stand {
	t.Helper()
	net, dir := testnet.New(t, 1, "box"), t.TempDir()
	box := net.Providers[0]
	require.NoError(t, box.Running.Write(box.Home))
	s := &stand{net: net, operator: person{home: box.Home}, dir: dir}
	s.me = person{home: filepath.Join(dir, "me"), node: net.Validators[0].Running.RPC}
	s.module = s.write(t, "wordcount.wasm", string(examples.WordcountModule()))
	s.mine = word(t, s.me.json(t, 0, "keys", "new", "me", "--unencrypted"), "address")
	s.operator.json(t, 0, "send", s.mine, "5MAN")
	return s
}

func (s *stand) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// lend offers compute under a policy, at a price per lease, until forget.
func (s *stand) lend(t *testing.T, policy, perLease string) (offer string, forget func()) {
	t.Helper()
	s.added++
	listing := fmt.Sprintf("resource: {kind: compute, facet: wasm, name: box %d}\nregion: us-east\npolicy: %s\nprice: {per_lease: %s}\ncapacity: 1\n", s.added, policy, perLease)
	lent := s.operator.json(t, 0, "resource", "add", s.write(t, "box.yaml", listing))
	return word(t, lent, "offer"), func() { s.operator.json(t, 0, "resource", "rm", word(t, lent, "resource")) }
}

// TestWhyNotServed asks in ten situations why a request was not served, as a person
// would, and gets one plain sentence in each.
func TestWhyNotServed(t *testing.T) {
	s := newStand(t)
	const open, cheap = "{default: allow}", "1000uman"
	rule := func(id, when string) string {
		return fmt.Sprintf("{default: allow, rules: [{id: %s, effect: deny, phase: match, when: '%s'}]}", id, when)
	}
	run := []string{"request", "run", s.module, "--new-lease"}
	for _, tc := range []struct {
		name          string
		policy, price string
		args          []string
		code          int
		says          []string
	}{
		{"price", open, "2MAN", nil, 3, []string{"raise --max", "With one change it would be matched: Raise the cap: --max 2MAN."}},
		{"policy rule", rule("research-only", `request.purpose != "research"`), cheap, nil, 3, []string{`rule "research-only"`, `request.purpose is ""`, "--purpose research"}},
		{"region", rule("eu-only", `!compute.region.startsWith("eu")`), cheap, nil, 3, []string{`rule "eu-only"`, `compute.region is "us-east"`}},
		{"reputation", rule("known", "consumer.reputation < 60"), cheap, nil, 3, []string{`rule "known"`, "consumer.reputation is 0"}},
		{"budget", open, cheap, []string{"--max", "5000MAN"}, 3, []string{"are needed"}},
		{"deadline", "{default: deny}", cheap, []string{"--patience", "8", "--wait"}, 3, []string{"deadline passed", `rule "default"`}},
		{"missing resource", open, cheap, []string{"--data", examplesCID}, 4, []string{"nobody offers"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, forget := s.lend(t, tc.policy, tc.price)
			defer forget()
			said := s.me.fails(t, tc.code, append(run, tc.args...)...)
			t.Log(strings.TrimSpace(said))
			if _, rest, ok := strings.Cut(said, "mman: request "); ok { // and what a rule read, and what would help
				why := s.me.says(t, "why", rest[:40])
				s.me.says(t, "why", "--replay", rest[:40])
				said += why
				t.Log(strings.TrimSpace(why))
			}
			for _, part := range tc.says {
				require.Contains(t, strings.ToLower(said), strings.ToLower(part))
			}
		})
	}
	t.Run("offered since", func(t *testing.T) {
		_, forget := s.lend(t, open, "2MAN")
		_, said, _ := strings.Cut(s.me.fails(t, 3, run...), "mman: request ")
		forget()
		_, forget = s.lend(t, open, cheap)
		defer forget()
		require.Contains(t, s.me.says(t, "why", said[:40]), "It would be matched by what is offered now")
	})
	t.Run("capacity", func(t *testing.T) {
		_, forget := s.lend(t, open, cheap)
		defer forget()
		lease := word(t, s.me.json(t, 0, run...), "lease")
		said := s.me.fails(t, 4, run...)
		require.Contains(t, said, "no free capacity")
		t.Log(strings.TrimSpace(said))
		require.Contains(t, s.me.says(t, "lease", "decisions", lease), "the provider signed")
		s.me.says(t, "lease", "close", lease)
	})
	t.Run("revoked share", func(t *testing.T) {
		offer, forget := s.lend(t, "{default: deny}", cheap)
		defer forget()
		s.me.fails(t, 3, run...)
		require.Contains(t, s.operator.says(t, "share", offer, "--with", s.mine), "is shared with")
		lease := word(t, s.me.json(t, 0, run...), "lease")
		s.me.says(t, "lease", "close", lease)
		require.Contains(t, s.operator.says(t, "unshare", offer, "--with", s.mine), s.mine)
		said := s.me.fails(t, 3, run...)
		require.Contains(t, said, "revoked")
		t.Log(strings.TrimSpace(said))
		require.Contains(t, s.operator.fails(t, 4, "unshare", offer, "--with", s.mine), "not shared")
	})
	t.Run("offline", func(t *testing.T) {
		s.lend(t, open, cheap)
		s.net.Providers[0].Stop()
		said := s.me.fails(t, 4, run...)
		require.Contains(t, said, "does not answer")
		t.Log(strings.TrimSpace(said))
	})
}

// examplesCID is a manifest that nobody has.
const examplesCID = "bafyreib4pff766vhpbxbhjbqqnsh5emeznvujayjj4z2iu533cprgbz23m"

// TestQuoteAndSearch: what it would cost, asked without a wallet, and searches by
// condition.
func TestQuoteAndSearch(t *testing.T) {
	s := newStand(t)
	nobody := person{home: filepath.Join(s.dir, "nobody"), node: s.me.node}
	refused := nobody.json(t, 3, "quote", s.module)
	require.InDelta(t, 0, refused["eligible"], 0)
	_, forget := s.lend(t, "{default: allow}", "2MAN")
	refused = nobody.json(t, 3, "quote", s.module)
	require.Contains(t, word(t, refused, "change"), "--max 2MAN.", "the smallest change")
	require.Contains(t, fmt.Sprint(refused["blockers"]), "raise --max")
	forget()
	s.lend(t, "{default: allow, obligations: [attribution]}", "3000uman")
	require.Contains(t, word(t, nobody.json(t, 3, "quote", s.module), "change"), "--accept attribution")
	quote := nobody.json(t, 0, "quote", s.module, "--accept", "attribution", "--max", "0.5MAN")
	require.InDelta(t, 500_000, quote["cap_uman"], 0, "the hard cap")
	require.InDelta(t, 3000, quote["from_uman"], 0)
	require.InDelta(t, 3000, quote["to_uman"], 0)
	require.InDelta(t, 1, quote["eligible"], 0)
	require.Contains(t, nobody.says(t, "quote", s.module, "--accept", "attribution"), "held in escrow")
	_, err := os.Stat(nobody.home)
	require.ErrorIs(t, err, os.ErrNotExist, "it needs no home")

	found := func(args ...string) int {
		t.Helper()
		list, ok := nobody.json(t, 0, append([]string{"search"}, args...)...)["found"].([]any)
		require.True(t, ok)
		return len(list)
	}
	require.Equal(t, 1, found("--where", `offer.region == "us-east" && offer.per_lease_uman < 4000`))
	require.Equal(t, 0, found("--where", `offer.region.startsWith("eu")`))
	require.Contains(t, nobody.fails(t, 2, "search", "--where", "offer.colour == 1"), "--where")

	// A dataset that may be any, as long as it fits.
	s.write(t, "penguins.csv", string(examples.Penguins()))
	s.operator.json(t, 0, "resource", "add", s.write(t, "data.yaml",
		"resource: {kind: dataset, facet: file, name: Birds, content: penguins.csv, attributes: {about: birds}}\npolicy: {default: allow}\nprice: {per_lease: 1uman}\n"))
	stats := s.write(t, "stats.wasm", string(examples.StatsModule()))
	run := []string{"request", "run", stats, "--accept", "attribution", "--data-where"}
	require.Contains(t, s.me.says(t, append(run, `offer.attributes.exists(a, a == "about=birds")`, "--", "--group", "species", "--column", "body_mass_g")...), "Gentoo")
	require.Contains(t, s.me.fails(t, 4, append(run, `offer.attributes.exists(a, a == "about=fish")`)...), "does not meet your own --where")
	require.Contains(t, s.me.fails(t, 2, append(run, "offer.colour")...), "--data-where")
}

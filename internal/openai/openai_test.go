package openai_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/npm"
	"github.com/limboid/massive-man/internal/testnet"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/policy"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk"
	"github.com/limboid/massive-man/sdk/gateway"
)

// The bounds of the installation and of the runs.
const (
	within = 4 * time.Minute
	token  = "mman-0123456789abcdef"
	key    = "lm-key-of-the-provider"
)

// model is the server process behind the endpoint, and what it counted itself.
type model struct {
	url string

	mu     sync.Mutex
	tokens uint64
}

func (m *model) counted() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tokens
}

// startModel builds and starts the server of examples/lm.
func startModel(t *testing.T, keyFile string) *model {
	t.Helper()
	program := filepath.Join(t.TempDir(), "lm")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, "../../examples/lm/lmserve")
	said, err := build.CombinedOutput()
	require.NoError(t, err, "%s", said)
	cmd := exec.CommandContext(t.Context(), program, "--listen", "127.0.0.1:0", "--key-file", keyFile, "--pause", "2ms")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = t.Output()
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan(), "its address")
	m := &model{url: lines.Text()}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines.Scan() {
			var one struct {
				Usage struct {
					Total uint64 `json:"total_tokens"`
				} `json:"usage"`
			}
			if json.Unmarshal(lines.Bytes(), &one) == nil {
				m.mu.Lock()
				m.tokens += one.Usage.Total
				m.mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended with the test's context
		<-ended
		_ = cmd.Wait() // it was killed
	})
	return m
}

// TestOpenAI lets the official library and curl use a model at a provider, through
// offer, lease and receipts, and holds the bill against the server's own count.
func TestOpenAI(t *testing.T) {
	folder := npm.Install(t, "mman-openai", within, "curl")
	keyFile := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(keyFile, []byte(key+"\n"), 0o600))
	lm := startModel(t, keyFile)
	listing, err := provider.ReadListing("../../examples/lm/listing.yaml")
	require.NoError(t, err, "the example is a listing")
	listing.Endpoint.Upstream, listing.Endpoint.SecretFile = lm.url, keyFile

	net := testnet.New(t, 1)
	ctx := t.Context()
	lent, err := net.Validators[0].Provider.Publish(ctx, listing)
	require.NoError(t, err)
	consumer := net.Consumer(t)
	found, err := consumer.Find(ctx, resources.KindEndpoint, resources.FacetHTTP, mman.CID{}, false)
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, []resources.Attribute{{Key: "api", Value: "openai"}, {Key: "models", Value: "book-trigrams"}}, found[0].Offer.Attributes, "it was recognised")

	wanted := sdk.DefaultWanted()
	wanted.Endpoint, wanted.Limits.WallMs = lent.Resource, 120_000
	lease, err := consumer.Lease(ctx, wanted)
	require.NoError(t, err)
	calls, err := consumer.Calls(lease, 4)
	require.NoError(t, err)
	bill := &sums{}
	at := open(t, calls, bill)

	// The library.
	cmd := exec.CommandContext(ctx, "node", "client.mjs")
	cmd.Dir, cmd.Env = folder, append(os.Environ(), "OPENAI_BASE_URL="+at+"/v1", "OPENAI_API_KEY="+token)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	require.NoError(t, err, "%s", &errs)
	var got struct {
		Models     any    `json:"models"`
		Retrieved  any    `json:"retrieved"`
		Chat       any    `json:"chat"`
		Streamed   any    `json:"streamed"`
		Text       any    `json:"text"`
		Tokens     uint64 `json:"tokens"`
		Unasked    int    `json:"unasked"`
		Unknown    int    `json:"unknown"`
		Dimensions []int  `json:"dimensions"`
		Wrong      []any  `json:"wrong"`
		Denied     []any  `json:"denied"`
	}
	require.NoError(t, json.Unmarshal(out, &got), "%s", out)
	require.Equal(t, []any{"book-trigrams"}, got.Models)
	require.Equal(t, "book-trigrams", got.Retrieved)
	require.NotEmpty(t, got.Chat)
	require.Equal(t, got.Chat, got.Streamed, "the same prompt, the same text")
	require.NotEmpty(t, got.Text)
	require.Equal(t, []int{64, 64}, got.Dimensions)
	require.Zero(t, got.Unasked)
	require.Equal(t, 404, got.Unknown, "the server's own errors pass")
	require.Equal(t, []any{401.0, "AuthenticationError"}, got.Wrong)
	require.Equal(t, []any{403.0, "PermissionDeniedError"}, got.Denied)
	require.Equal(t, lm.counted(), bill.usage().Tokens, "the bill is the server's own count")
	require.Greater(t, lm.counted(), got.Tokens, "and one stream told nobody its usage")

	// curl.
	curl := exec.CommandContext(ctx, "curl", "-sSN", "-H", "Authorization: Bearer "+token, "-H", "Content-Type: application/json",
		"-d", `{"model":"book-trigrams","messages":[{"role":"user","content":"Light"}],"max_tokens":5,"stream":true}`, at+"/v1/chat/completions")
	out, err = curl.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, 6+1, strings.Count(string(out), "data: "), "%s", out)
	require.True(t, strings.HasSuffix(string(out), "data: [DONE]\n\n"), "%s", out)
	require.Equal(t, lm.counted(), bill.usage().Tokens)

	// The ledger.
	price := listing.Price
	gross, err := price.Of(bill.usage())
	require.NoError(t, err)
	require.InDelta(t, float64(gross), float64(bill.total()), 4, "each lane rounds up once")
	require.NoError(t, calls.Close(ctx))
	_, err = consumer.CloseLease(ctx, lease.Lease.ID)
	require.NoError(t, err)
	ended, err := consumer.Chain().Lease(ctx, lease.Lease.ID)
	require.NoError(t, err)
	require.Equal(t, market.LeaseClosed, ended.State)
	require.Equal(t, bill.total(), ended.Paid, "what the receipts say is what the ledger paid")
	require.Equal(t, wanted.Cap, ended.Paid+ended.Refunded)
	t.Logf("%d calls, %d tokens, %s", bill.calls, bill.usage().Tokens, bill.total())
}

// TestBudgetAndRules: a call stops when the budget is empty, and a policy's run rules
// and rate are obeyed, each with an error in the API's own form.
func TestBudgetAndRules(t *testing.T) {
	keyFile := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(keyFile, []byte(key+"\n"), 0o600))
	lm := startModel(t, keyFile)
	net := testnet.New(t, 1)
	for _, c := range []struct {
		name   string
		max    mman.Amount
		change func(*provider.Listing)
		calls  int // that succeed
		status string
		kind   string
	}{
		{"budget", 1000, func(*provider.Listing) {}, 9, "402", "insufficient_quota"},
		{"rule", mman.MAN, func(l *provider.Listing) {
			l.Policy = policy.Policy{Default: policy.Allow, Rules: []policy.Rule{{ID: "three", Effect: policy.Deny, Phase: policy.PhaseRun, When: "run.calls > 3"}}}
		}, 3, "403", "permission_denied"},
		{"rate", mman.MAN, func(l *provider.Listing) { l.Endpoint.PerMinute, l.Endpoint.Burst = 1, 2 }, 2, "429", "rate_limit_exceeded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			listing, err := provider.ReadListing("../../examples/lm/listing.yaml")
			require.NoError(t, err)
			listing.Endpoint.Upstream, listing.Endpoint.SecretFile = lm.url, keyFile
			listing.Manifest.Name = c.name
			c.change(&listing)
			lent, err := net.Validators[0].Provider.Publish(t.Context(), listing)
			require.NoError(t, err)
			consumer := net.Consumer(t)
			wanted := sdk.DefaultWanted()
			wanted.Endpoint, wanted.Cap = lent.Resource, c.max
			lease, err := consumer.Lease(t.Context(), wanted)
			require.NoError(t, err)
			calls, err := consumer.Calls(lease, 1)
			require.NoError(t, err)
			bill := &sums{}
			at := open(t, calls, bill)
			for i := range c.calls + 1 {
				cmd := exec.CommandContext(t.Context(), "curl", "-sS", "-w", "%{http_code}", "-H", "Authorization: Bearer "+token, at+"/v1/models")
				out, err := cmd.CombinedOutput()
				require.NoError(t, err)
				if i < c.calls {
					require.True(t, strings.HasSuffix(string(out), "200"), "call %d: %s", i, out)
					continue
				}
				require.True(t, strings.HasSuffix(string(out), c.status), "%s", out)
				require.Contains(t, string(out), c.kind)
			}
			require.LessOrEqual(t, bill.total(), c.max)
			require.NoError(t, calls.Close(t.Context()))
		})
	}
}

// sums adds up what calls cost.
type sums struct {
	mu    sync.Mutex
	calls int
	used  resources.Usage
	paid  mman.Amount
}

func (s *sums) add(c gateway.Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.used, _ = s.used.Add(c.Usage)
	s.paid += c.Paid
}

func (s *sums) usage() resources.Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

func (s *sums) total() mman.Amount {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paid
}

// open opens the loopback address, and returns it.
func open(t *testing.T, calls *sdk.Calls, bill *sums) string {
	t.Helper()
	g, err := gateway.New(t.Context(), gateway.Config{Listen: "127.0.0.1:0", Token: token, API: "openai", Run: calls.Do, Now: time.Now, Done: bill.add})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	return "http://" + g.Addr()
}

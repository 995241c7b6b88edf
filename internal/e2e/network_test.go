package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/localnet"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/match"
	"github.com/limboid/massive-man/node"
	"github.com/limboid/massive-man/node/api"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/sdk"
	"github.com/limboid/massive-man/sdk/chain"
)

// within bounds a wait for processes on a machine that does other work too.
const within = 60 * time.Second

// network is a network of processes and who of them runs.
type network struct {
	*localnet.Net

	runner  localnet.Runner
	running map[*localnet.Node]*localnet.Process
	quiet   atomic.Bool // load waits
}

// raise lays out a network and starts it. It ends with the test, which must
// leave every node running or stopped by its own doing.
func raise(t *testing.T, spec localnet.Spec, settle uint64) *network {
	t.Helper()
	spec.Dir = t.TempDir()
	laid, err := localnet.Layout(spec)
	require.NoError(t, err)
	n := &network{Net: laid, runner: localnet.Runner{Program: program, Settle: settle}, running: map[*localnet.Node]*localnet.Process{}}
	require.NoError(t, laid.Assign(t.Context(), n.runner))
	t.Cleanup(func() { n.stop(t) })
	for _, one := range n.Nodes() {
		n.start(t, one)
	}
	for _, one := range n.Nodes() {
		n.await(t, one, 2)
	}
	return n
}

func (n *network) start(t *testing.T, one *localnet.Node) {
	t.Helper()
	p, err := n.runner.Start(one)
	require.NoError(t, err)
	n.running[one] = p
}

func (n *network) await(t *testing.T, one *localnet.Node, height uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	require.NoError(t, n.running[one].Wait(ctx, height))
}

// kill ends a node as a power cut would.
func (n *network) kill(t *testing.T, one *localnet.Node) {
	t.Helper()
	require.NoError(t, n.running[one].Kill())
	delete(n.running, one)
}

// stop ends what runs: providers, who settle what is due, before validators. No
// node may have panicked or ended otherwise than asked.
func (n *network) stop(t *testing.T) {
	t.Helper()
	for _, group := range [][]*localnet.Node{n.Providers, n.Validators} {
		var all []*localnet.Process
		for _, one := range group {
			if p := n.running[one]; p != nil {
				all = append(all, p)
			}
		}
		if err := localnet.StopAll(all); err != nil {
			assert.Fail(t, "not all ended as they should", "%v", err) // go on: the rest must end too
		}
	}
	for _, one := range n.Nodes() {
		log, err := os.ReadFile(filepath.Join(one.Home, "node.log"))
		require.NoError(t, err)
		if strings.Contains(string(log), "goroutine ") {
			assert.Fail(t, one.Name+" panicked", "%s", tail(string(log)))
		} else if t.Failed() {
			t.Logf("%s: %s", one.Name, tail(string(log)))
		}
	}
}

// publish has a provider lend what a listing says.
func (n *network) publish(t *testing.T, one *localnet.Node, name, listing string, content map[string][]byte) provider.Published {
	t.Helper()
	for file, data := range content {
		write(t, one.Home, file, data)
	}
	path := write(t, one.Home, name+".yaml", []byte(listing))
	run := n.running[one].Running
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	got, err := api.NewClient(run.API, run.Token).Publish(ctx, path)
	require.NoError(t, err)
	return got
}

// consumer connects the first consumer from this process.
func (n *network) consumer(t *testing.T) *sdk.Client {
	t.Helper()
	me := n.Consumers[0]
	ring, err := node.OpenKeyring(me.Home, true)
	require.NoError(t, err)
	key, err := ring.Get("me", nil)
	require.NoError(t, err)
	c, err := sdk.Connect(t.Context(), sdk.Config{
		Node: n.running[n.Validators[0]].Running.RPC, Leases: filepath.Join(me.Home, "leases"),
		Key: key, Lock: ring.Lock, Now: time.Now, After: time.After,
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	return c
}

// rpc returns a client of a node's RPC.
func (n *network) rpc(t *testing.T, one *localnet.Node) *chain.Client {
	t.Helper()
	c, err := chain.New(n.running[one].Running.RPC)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// at asks a node's application for a path at one height.
func at(ctx context.Context, rpc string, height uint64, path string, into any) error {
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": "abci_query", "params": map[string]any{
		"path": path, "data": "", "height": strconv.FormatUint(height, 10), "prove": false,
	}})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, rpc, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	var answer struct {
		Result struct {
			Response struct {
				Code  uint32 `json:"code"`
				Log   string `json:"log"`
				Value []byte `json:"value"`
			} `json:"response"`
		} `json:"result"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if r := answer.Result.Response; r.Code != 0 {
		return fmt.Errorf("query %s at height %d: %s", path, height, r.Log)
	}
	return json.Unmarshal(answer.Result.Response.Value, into)
}

// pages reads a whole list at one height.
func pages[T any](ctx context.Context, rpc string, height uint64, path string) ([]T, error) {
	var out []T
	for after := ""; ; {
		var p chain.Page[T]
		if err := at(ctx, rpc, height, path+"&limit=50"+after, &p); err != nil {
			return nil, err
		}
		out = append(out, p.Items...)
		if p.Next == "" {
			return out, nil
		}
		after = "&after=" + p.Next
	}
}

// ledger is what the validators say of one height.
type ledger struct {
	height uint64
	hashes []string
	supply []chain.Supply
	leases map[mman.LeaseID]market.Lease // of the consumer, as the first has them
	queued mman.Amount                   // in the consumer's queued requests
}

// audit takes a later height that all validators have, and checks that they
// agree on it, that no money was made or lost, and that the escrow is that
// of the consumer's leases and queued requests. Load waits meanwhile: nodes keep the
// state of few heights, and on a busy machine one that catches up may stay further
// behind than that for as long as blocks come fast.
func (n *network) audit(t *testing.T, above uint64) ledger {
	t.Helper()
	n.quiet.Store(true)
	defer n.quiet.Store(false)
	var l ledger
	eventually(t, within, "a height above "+strconv.FormatUint(above, 10)+" at all validators", func(ctx context.Context) (bool, error) {
		var err error
		l, err = n.look(ctx, above)
		return err == nil, err
	})
	held := l.queued
	for i := range n.Validators {
		require.Equal(t, l.hashes[0], l.hashes[i], "height %d: app hash of validator %d", l.height, i)
		require.Equal(t, l.supply[0], l.supply[i], "height %d: supply at validator %d", l.height, i)
	}
	require.True(t, l.supply[0].Conserved(), "height %d: %+v", l.height, l.supply[0])
	for id, one := range l.leases {
		require.LessOrEqual(t, one.Paid+one.Refunded, one.Cap, "height %d: lease %s", l.height, id)
		require.LessOrEqual(t, one.Burned, one.Paid, "height %d: lease %s", l.height, id)
		if one.State == market.LeaseClosed {
			require.Equal(t, one.Cap, one.Paid+one.Refunded, "height %d: lease %s", l.height, id)
		} else {
			require.Zero(t, one.Refunded, "height %d: lease %s", l.height, id)
		}
		held += one.Escrow()
	}
	require.Equal(t, held, l.supply[0].Escrow, "height %d: what leases and requests hold is the escrow", l.height)
	return l
}

// look reads one height from all validators. It returns an error while the
// height is not there yet, or not any more: nodes keep the last heights only.
func (n *network) look(ctx context.Context, above uint64) (l ledger, err error) {
	var rpcs []*chain.Client
	for _, v := range n.Validators {
		c, err := chain.New(n.running[v].Running.RPC)
		if err != nil {
			return l, err
		}
		defer c.Close()
		st, err := c.Status(ctx)
		if err != nil {
			return l, err
		}
		if st.Height <= above+1 {
			return l, fmt.Errorf("%s is at height %d, the height %d is needed", v.Name, st.Height, above+2)
		}
		if l.height == 0 || st.Height-1 < l.height {
			l.height = st.Height - 1 // its app hash stands in the next header
		}
		rpcs = append(rpcs, c)
	}
	for _, c := range rpcs {
		var supply chain.Supply
		if err := at(ctx, c.URL(), l.height, "/mman/supply", &supply); err != nil {
			return l, err
		}
		hash, err := c.AppHash(ctx, l.height)
		if err != nil {
			return l, err
		}
		l.hashes, l.supply = append(l.hashes, hash), append(l.supply, supply)
	}
	who := n.Consumers[0].Address.String()
	leases, err := pages[market.Lease](ctx, rpcs[0].URL(), l.height, "/mman/leases?account="+who)
	if err != nil {
		return l, err
	}
	requests, err := pages[chain.RequestRecord](ctx, rpcs[0].URL(), l.height, "/mman/requests?consumer="+who)
	if err != nil {
		return l, err
	}
	l.leases = map[mman.LeaseID]market.Lease{}
	for _, one := range leases {
		l.leases[one.ID] = one
	}
	for _, r := range requests {
		if r.State == match.Queued {
			l.queued += r.Request.Cap
		}
	}
	return l, nil
}

// shortLeases are the parameters of a chain on which leases end soon.
func shortLeases(grace, dispute uint64) *genesis.Params {
	p := genesis.Defaults(genesis.Local)
	p.GraceBlocks, p.DisputeBlocks = grace, dispute
	return &p
}

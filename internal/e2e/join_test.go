package e2e_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/abci/abcitest"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/localnet"
	"github.com/limboid/massive-man/node"
	"github.com/limboid/massive-man/sdk/chain"
)

// TestJoin: a machine that knows one address joins a network under load. It
// fetches the ledger, not the blocks from the first one on, and agrees with the
// validators from there on, also after it was killed. MMAN_JOINS machines do so, one
// after the other.
func TestJoin(t *testing.T) {
	params := genesis.Defaults(genesis.Local)
	params.EpochBlocks = 10
	n := raise(t, localnet.Spec{Validators: 2, Consumers: []string{"me"}, Params: &params}, 2)
	rpc := n.running[n.Validators[0]].Running.RPC
	first := n.rpc(t, n.Validators[0])
	me, newcomer := n.Consumers[0].Home, filepath.Join(t.TempDir(), "home")

	refusedJoin := func(code int, words []string, args ...string) {
		j := run(t, newcomer, append([]string{"join", "--home", newcomer}, args...)...)
		require.Equal(t, code, j.code, "%s", &j.errs)
		oneSentence(t, j.errs.String(), words...)
		require.NoDirExists(t, newcomer)
	}
	refusedJoin(2, []string{"RPC"})
	refusedJoin(2, []string{"--trust", "HEIGHT:HASH"}, rpc, "--trust", "12")
	refusedJoin(1, []string{"block 1", "--trust"}, rpc, "--trust", "1:"+someHash)
	refusedJoin(4, []string{"not reachable"}, "http://127.0.0.1:9")
	known := filepath.Join(n.Validators[0].Home, "genesis.json")
	other := n.Genesis
	other.ChainID = "mman-local-other"
	otherFile := filepath.Join(t.TempDir(), "genesis.json")
	encoded, err := other.Encode()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(otherFile, encoded, 0o600))
	refusedJoin(1, []string{rpc, "mman-local-other"}, rpc, "--genesis", otherFile)
	refusedJoin(4, []string{"--genesis", "no such file"}, rpc, "--genesis", otherFile+".none")
	refusedJoin(2, []string{"--peers", "id@host:port"}, rpc, "--peers", "127.0.0.1:26656")

	send := func() uint64 {
		ask(t, me, 0, "send", someone(), "1MAN")
		st, err := first.Status(t.Context())
		require.NoError(t, err)
		return st.Height
	}
	for send() < 2*params.EpochBlocks+4 {
	}
	nowhere := strings.Repeat("0a", 20) + "@127.0.0.1:9"
	j := run(t, newcomer, "join", "--home", newcomer, "-o", "json", rpc, n.running[n.Validators[1]].Running.RPC, "--genesis", known, "--peers", nowhere)
	require.Zero(t, j.code, "%s", &j.errs)
	joined := object(t, j.out.Bytes())
	require.NotEmpty(t, joined["trust"])
	require.Len(t, joined["peers"], 3)
	require.Contains(t, joined["peers"], nowhere)
	refusedAgain := run(t, newcomer, "join", "--home", newcomer, rpc)
	require.Equal(t, 1, refusedAgain.code)
	oneSentence(t, refusedAgain.errs.String(), "already", "--home")

	told := run(t, newcomer, "status", "--home", n.Validators[0].Home)
	require.Zero(t, told.code, "%s", &told.errs)
	require.Contains(t, told.out.String(), n.Genesis.ChainID+": this node is a validator, at height ")
	require.Contains(t, told.out.String(), " of it in escrow; the supply is conserved.\nAccount "+n.Validators[0].Address.String()+" holds ")

	live := func() *job {
		j := serve(t, newcomer)
		target := send() + 3
		for send() < target {
		}
		require.GreaterOrEqual(t, height(t, j, newcomer, target), target, "%s", &j.errs)
		running, err := node.ReadRunning(newcomer)
		require.NoError(t, err)
		c, err := chain.New(running.RPC)
		require.NoError(t, err)
		defer c.Close()
		st, err := c.Status(t.Context())
		require.NoError(t, err)
		assert.Greater(t, st.Earliest, params.EpochBlocks, "it fetched a state, not all blocks")
		assert.False(t, st.Syncing)
		figures := page(t, running.API+"/metrics")
		for _, name := range []string{"mman_chain_height", "mman_state_pairs", "cometbft_consensus_height", "go_goroutines"} {
			assert.Regexp(t, `(?m)^`+name+`(\{.*\})? [1-9]`, figures)
		}
		assert.Regexp(t, `(?m)^mman_mempool_txs\{.*\} \d`, figures) // nothing may wait
		told := run(t, newcomer, "status", "--home", newcomer)
		require.Zero(t, told.code, "%s", &told.errs)
		assert.Contains(t, told.out.String(), "this node follows the chain, at height ")
		eventually(t, within, "the same ledger at all three", func(ctx context.Context) (bool, error) {
			here, err := c.Status(ctx)
			if err != nil {
				return false, err
			}
			at1, err := c.AppHash(ctx, here.Height-1)
			if err != nil {
				return false, err
			}
			at2, err := first.AppHash(ctx, here.Height-1)
			if err != nil {
				return false, err
			}
			require.Equal(t, at2, at1, "height %d", here.Height-1)
			supply, err := c.Supply(ctx)
			if err != nil {
				return false, err
			}
			return supply.Conserved(), nil
		})
		return j
	}
	live().kill(t)
	quit(t, live())

	joins := abcitest.Setting(t, "MMAN_JOINS", 1)
	for range joins - 1 {
		newcomer = filepath.Join(t.TempDir(), "home")
		j := run(t, newcomer, "join", "--home", newcomer, rpc, n.running[n.Validators[1]].Running.RPC)
		require.Zero(t, j.code, "%s", &j.errs)
		quit(t, live())
	}
	st, err := first.Status(t.Context())
	require.NoError(t, err)
	t.Logf("G7: %d joined by a state that they fetched, at heights up to %d, under load; each has the validators' app hash", joins, st.Height)
}

// page reads what a node serves over HTTP.
func page(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer answer.Body.Close() //nolint:errcheck // it was read
	require.Equal(t, http.StatusOK, answer.StatusCode)
	b, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return string(b)
}

// someHash is the hash of no block.
const someHash = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

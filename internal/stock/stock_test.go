package stock_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	rpchttp "github.com/cometbft/cometbft/rpc/client/http"
	ctypes "github.com/cometbft/cometbft/rpc/core/types"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/internal/localnet"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/internal/testnet"
)

const (
	within   = time.Minute
	building = 10 * time.Minute
	poll     = 50 * time.Millisecond
)

// build makes the tools out of a copy of their module, whose requirements follow
// those of the nodes.
func build(t *testing.T) (folder string) {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	folder = t.TempDir()
	require.NoError(t, os.CopyFS(folder, os.DirFS(filepath.Join("testdata", "tools"))))
	for _, args := range [][]string{
		{"mod", "edit", "-replace", "github.com/limboid/massive-man=" + root},
		{"build", "-mod=mod", "-buildvcs=false", "-o", folder + "/", "github.com/cometbft/cometbft/cmd/cometbft"},
		{"build", "-mod=mod", "-buildvcs=false", "-o", filepath.Join(folder, "sender"), "./load"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), building)
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = folder
		cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
		said, err := cmd.CombinedOutput()
		cancel()
		require.NoError(t, err, "go %v: %s", args, said)
	}
	return folder
}

// TestStockTools runs CometBFT's own programs against two validators.
func TestStockTools(t *testing.T) {
	tools := build(t)
	n := testnet.New(t, 2)
	first, second := n.Validators[0].Running.RPC, n.Validators[1].Running.RPC
	client, err := rpchttp.New(first, "/websocket")
	require.NoError(t, err)
	require.NoError(t, client.Start())
	t.Cleanup(func() { require.NoError(t, client.Stop()) })

	t.Run("rpc", func(t *testing.T) { speak(t, client, n.Genesis.ChainID) })
	t.Run("light client of headers", func(t *testing.T) { follow(t, tools, client, n.Genesis.ChainID, first, second) })
	t.Run("load tool", func(t *testing.T) { load(t, tools, n, first) })
}

// speak asks a node all that CometBFT's Go client can.
func speak(t *testing.T, client *rpchttp.HTTP, chain string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	blocks, err := client.Subscribe(ctx, "stock", "tm.event = 'NewBlock'")
	require.NoError(t, err)
	var seen ctypes.ResultEvent
	for range 2 {
		select {
		case seen = <-blocks:
		case <-ctx.Done():
			require.FailNow(t, "no block was told")
		}
	}
	require.NotEmpty(t, seen.Events)
	require.NoError(t, client.UnsubscribeAll(ctx, "stock"))

	status, err := client.Status(ctx)
	require.NoError(t, err)
	require.Equal(t, chain, status.NodeInfo.Network)
	height := status.SyncInfo.LatestBlockHeight - 1
	info, err := client.ABCIInfo(ctx)
	require.NoError(t, err)
	require.GreaterOrEqual(t, info.Response.LastBlockHeight, height)
	block, err := client.Block(ctx, &height)
	require.NoError(t, err)
	require.Equal(t, height, block.Block.Height)
	commit, err := client.Commit(ctx, &height)
	require.NoError(t, err)
	require.Equal(t, block.BlockID.Hash, commit.Commit.BlockID.Hash)
	byHash, err := client.BlockByHash(ctx, block.BlockID.Hash)
	require.NoError(t, err)
	require.Equal(t, height, byHash.Block.Height)
	validators, err := client.Validators(ctx, &height, nil, nil)
	require.NoError(t, err)
	require.Equal(t, 2, validators.Total)
	for name, call := range map[string]func() error{
		"health":               func() error { _, err := client.Health(ctx); return err },
		"net_info":             func() error { _, err := client.NetInfo(ctx); return err },
		"genesis":              func() error { _, err := client.Genesis(ctx); return err },
		"genesis_chunked":      func() error { _, err := client.GenesisChunked(ctx, 0); return err },
		"blockchain":           func() error { _, err := client.BlockchainInfo(ctx, 1, height); return err },
		"block_results":        func() error { _, err := client.BlockResults(ctx, &height); return err },
		"consensus_params":     func() error { _, err := client.ConsensusParams(ctx, &height); return err },
		"consensus_state":      func() error { _, err := client.ConsensusState(ctx); return err },
		"dump_consensus_state": func() error { _, err := client.DumpConsensusState(ctx); return err },
		"unconfirmed_txs":      func() error { _, err := client.UnconfirmedTxs(ctx, nil); return err },
		"num_unconfirmed_txs":  func() error { _, err := client.NumUnconfirmedTxs(ctx); return err },
		"tx_search":            func() error { _, err := client.TxSearch(ctx, "tx.height > 0", true, nil, nil, "asc"); return err },
		"block_search":         func() error { _, err := client.BlockSearch(ctx, "block.height > 0", nil, nil, "asc"); return err },
		"abci_query":           func() error { _, err := client.ABCIQuery(ctx, "/mman/supply", nil); return err },
	} {
		require.NoError(t, call(), name)
	}
}

// follow runs the command's light client and compares its headers.
func follow(t *testing.T, tools string, client *rpchttp.HTTP, chain, first, second string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	// The first block has the time of the genesis file, too long ago to be trusted.
	height := int64(2)
	trusted, err := client.Commit(ctx, &height)
	for ; err != nil; trusted, err = client.Commit(ctx, &height) {
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			require.NoError(t, err)
		}
	}
	ports, err := localnet.FreePorts(t.Context(), 1)
	require.NoError(t, err)
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0]))
	cmd := exec.CommandContext(ctx, filepath.Join(tools, "cometbft"), "light", chain, "-p", first, "-w", second,
		"--height", strconv.FormatInt(height, 10), "--hash", trusted.Header.Hash().String(), "--laddr", "tcp://"+at, "--home-dir", t.TempDir(), "--home", t.TempDir())
	said, err := os.Create(filepath.Join(t.TempDir(), "said"))
	require.NoError(t, err)
	defer said.Close() //nolint:errcheck // it is read below
	cmd.Stdout, cmd.Stderr = said, said
	require.NoError(t, cmd.Start())
	defer func() {
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed
	}()
	later := height + 3
	var got struct {
		Result struct {
			Header struct {
				AppHash string `json:"app_hash"`
			} `json:"header"`
		} `json:"result"`
	}
	for {
		if err = get(ctx, fmt.Sprintf("http://%s/header?height=%d", at, later), &got); err == nil && got.Result.Header.AppHash != "" {
			break
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			text, _ := os.ReadFile(said.Name())
			require.FailNow(t, "the light client has no header", "%v\n%s", err, text)
		}
	}
	want, err := client.Header(ctx, &later)
	require.NoError(t, err)
	require.Equal(t, want.Header.AppHash.String(), got.Result.Header.AppHash)
}

func get(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	return json.NewDecoder(resp.Body).Decode(into)
}

// load has CometBFT's load tool send signed transfers.
func load(t *testing.T, tools string, n *testnet.Net, rpc string) {
	t.Helper()
	const accounts, seed, gas, count = 2, "stock load", 200_000, 150
	consumer := n.Consumer(t)
	submitter, err := consumer.Submitter()
	require.NoError(t, err)
	fund := tx.MsgMultiSend{From: submitter.Address()}
	for i := range uint64(accounts) {
		s := mman.Sum256([]byte(seed), binary.BigEndian.AppendUint64(nil, i))
		key, err := sig.FromSeed(sig.Ed25519, s[:])
		require.NoError(t, err)
		fund.Outputs = append(fund.Outputs, tx.Output{To: key.Public().Address(), Amount: 100 * mman.MAN})
	}
	_, err = submitter.Submit(t.Context(), fund)
	require.NoError(t, err)
	begin, err := consumer.Chain().Account(t.Context(), fund.Outputs[0].To)
	require.NoError(t, err)
	price, err := consumer.Chain().Fee(t.Context())
	require.NoError(t, err)
	fee, err := genesis.FeeAt(4*price.BaseFeeMicro, gas)
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(tools, "sender"), "-c", strconv.Itoa(accounts), "-T", "20", "-r", "100", "-N", strconv.Itoa(count),
		"-s", "250", "--broadcast-tx-method", "sync", "--endpoints", "ws"+rpc[len("http"):]+"/websocket")
	cmd.Env = append(os.Environ(), "LOAD_CHAIN="+n.Genesis.ChainID, "LOAD_SEED="+seed, "LOAD_ACCOUNTS="+strconv.Itoa(accounts),
		fmt.Sprintf("LOAD_FIRST=%d", begin.Number), "LOAD_GAS="+strconv.Itoa(gas), fmt.Sprintf("LOAD_FEE=%d", fee))
	said, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", said)
	for _, o := range fund.Outputs {
		for {
			a, err := consumer.Chain().Account(ctx, o.To)
			require.NoError(t, err)
			if a.Sequence == count {
				break
			}
			select {
			case <-time.After(poll):
			case <-ctx.Done():
				require.FailNow(t, "not all transfers are in blocks", "%d of %d\n%s", a.Sequence, count, said)
			}
		}
	}
	supply, err := consumer.Chain().Supply(t.Context())
	require.NoError(t, err)
	require.True(t, supply.Conserved())
}

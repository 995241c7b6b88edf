package cosmjs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/npm"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/internal/testnet"
	"github.com/limboid/massive-man/sdk/keyring"
)

// mnemonic is public, as is that of every test.
func mnemonic() string { return strings.Repeat("abandon ", 11) + "about" }

// The bounds of the installation and of the run.
const (
	within = 3 * time.Minute
	run    = 40 * time.Second
)

// task is what the script is told.
type task struct {
	RPC       string       `json:"rpc"`
	Mnemonic  string       `json:"mnemonic"`
	To        mman.Address `json:"to"`
	Stranger  mman.Address `json:"stranger"`
	Validator string       `json:"validator"`
}

// told is what the script saw.
type told struct {
	Address mman.Address `json:"address"`
	ChainID string       `json:"chain_id"`
	Gas     uint64       `json:"gas"`
	Hash    string       `json:"hash"`
	Height  uint64       `json:"height"`
}

// TestCosmJS lets CosmJS connect, ask for accounts and balances, simulate, sign
// with a mnemonic, send, search and subscribe.
func TestCosmJS(t *testing.T) {
	folder := npm.Install(t, "mman-cosmjs", within)
	net := testnet.New(t, 1)
	account, err := keyring.Derive(mnemonic(), sig.Secp256k1, 0)
	require.NoError(t, err)
	consumer := net.Consumer(t)
	submitter, err := consumer.Submitter()
	require.NoError(t, err)
	_, err = submitter.Submit(t.Context(), tx.MsgSend{From: submitter.Address(), To: account.Public().Address(), Amount: 100 * mman.MAN})
	require.NoError(t, err)

	in, err := json.Marshal(task{
		RPC: net.Validators[0].Running.RPC, Mnemonic: mnemonic(), To: mman.Address{1, 2, 3}, Stranger: mman.Address{4, 5, 6},
		Validator: net.Validators[0].Address.ValidatorString(),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), run)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "client.mjs")
	var out, errs bytes.Buffer
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = folder, bytes.NewReader(in), &out, &errs
	err = cmd.Run()
	require.NoError(t, err, "%s", errs.String())
	var got told
	require.NoError(t, json.Unmarshal(out.Bytes(), &got), "%s", out.String())
	require.Equal(t, account.Public().Address(), got.Address, "both derive the same account")
	require.Equal(t, net.Genesis.ChainID, got.ChainID)
	require.Positive(t, got.Gas)

	var hash mman.Hash
	require.NoError(t, hash.UnmarshalText(bytes.ToLower([]byte(got.Hash))))
	landed, err := consumer.Chain().Tx(t.Context(), hash)
	require.NoError(t, err)
	require.Equal(t, got.Height, landed.Height)
	held, err := consumer.Chain().Delegations(t.Context(), got.Address, 10)
	require.NoError(t, err)
	require.Len(t, held, 1)
	require.Equal(t, net.Validators[0].Address.ValidatorString(), held[0].Validator)
	require.GreaterOrEqual(t, held[0].Amount, 4*mman.MAN-1, "it may have earned something")
	leaving, err := consumer.Chain().Unbondings(t.Context(), got.Address, 10)
	require.NoError(t, err)
	require.Len(t, leaving, 1)
	supply, err := consumer.Chain().Supply(t.Context())
	require.NoError(t, err)
	require.True(t, supply.Conserved())
}

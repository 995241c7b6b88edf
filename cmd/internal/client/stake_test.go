package client_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/abci/tx"
	"github.com/limboid/massive-man/internal/testnet"
)

// TestStake backs a validator, takes stake back, and makes another validator.
func TestStake(t *testing.T) {
	net := testnet.New(t, 1)
	p := person{home: t.TempDir(), node: net.Validators[0].Running.RPC}
	var own mman.Address
	require.NoError(t, own.UnmarshalText([]byte(word(t, p.json(t, 0, "keys", "new", "me", "--unencrypted"), "address"))))
	submitter, err := net.Consumer(t).Submitter()
	require.NoError(t, err)
	_, err = submitter.Submit(t.Context(), tx.MsgSend{From: submitter.Address(), To: own, Amount: 50 * mman.MAN})
	require.NoError(t, err)

	first := net.Validators[0].Address.ValidatorString()
	require.Contains(t, p.says(t, "stake", "list"), first)
	require.Contains(t, p.says(t, "stake", "delegate", first, "5MAN"), "delegate 5MAN: done at height")
	require.Contains(t, p.says(t, "stake", "show"), "active")
	p.says(t, "stake", "undelegate", first, "1MAN")
	shown := p.json(t, 0, "stake", "show")
	require.Len(t, shown["delegations"], 1)
	require.Len(t, shown["unbondings"], 1)
	require.NotContains(t, shown, "validator")
	require.Contains(t, p.says(t, "stake", "show", first), "signs")

	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	b, err := json.Marshal(map[string]any{"priv_key": map[string]any{"type": "tendermint/PrivKeyEd25519", "value": []byte(key)}})
	require.NoError(t, err)
	file := filepath.Join(p.home, "priv_validator_key.json")
	require.NoError(t, os.WriteFile(file, b, 0o600))
	p.says(t, "stake", "create", "My node", "2MAN", "--key-file", file, "--commission", "2.5")
	require.Contains(t, p.says(t, "stake", "list"), "2.5%")
	p.says(t, "stake", "redelegate", first, own.ValidatorString(), "1MAN")
	p.says(t, "stake", "edit", "--name", "Your node")
	require.Contains(t, p.says(t, "stake", "show"), "Your node")
	require.Contains(t, p.fails(t, 1, "stake", "unjail"), "not jailed")
	require.Contains(t, p.fails(t, 2, "stake", "create", "x", "2MAN"), "--key-file")
	require.Contains(t, p.fails(t, 2, "stake", "create", "x", "2MAN", "--key-file", file, "--commission", "101"), "percentage")
	require.Contains(t, p.fails(t, 2, "stake", "delegate", first, "0MAN"), "nothing")
	require.Contains(t, p.fails(t, 2, "stake", "delegate", "manvaloper1x", "1MAN"), "manvaloper1x")
	require.NoError(t, os.WriteFile(file, []byte("{}"), 0o600))
	p.fails(t, 1, "stake", "create", "x", "2MAN", "--key-file", file)
}

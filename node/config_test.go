package node_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/node"
)

func TestLoadConfig(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want string // in the error, "" for none
	}{
		"no file":          {"", ""},
		"own keys":         {"rpc: 127.0.0.1:1\nlisten: [/ip4/127.0.0.1/tcp/2]\nsettle_blocks: 3\n", ""},
		"keys of mman":     {"node: http://127.0.0.1:1\nfrom: me\nrequest: {run: {max: 1MAN}}\nrpc: 127.0.0.1:1\n", ""},
		"unknown key":      {"rcp: 127.0.0.1:1\n", "rcp"},
		"wrong type":       {"settle_blocks: many\n", "SettleBlocks"},
		"not YAML":         {"rpc: [", "config.yaml"},
		"larger than sane": {strings.Repeat("# x\n", 20_000), "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			if c.text != "" {
				require.NoError(t, os.WriteFile(filepath.Join(home, "config.yaml"), []byte(c.text), 0o600))
			}
			cfg, err := node.LoadConfig(home)
			if c.want != "" {
				require.ErrorContains(t, err, c.want)
				return
			}
			require.NoError(t, err)
			require.Equal(t, home, cfg.Home)
			require.NotEmpty(t, cfg.API)
			if strings.Contains(c.text, "rpc") {
				require.Equal(t, "127.0.0.1:1", cfg.RPC)
			}
		})
	}
}

func TestSavedConfigIsRead(t *testing.T) {
	t.Parallel()
	cfg, err := node.LoadConfig(t.TempDir())
	require.NoError(t, err)
	cfg.Moniker, cfg.Peers, cfg.Bootstrap, cfg.SettleBlocks = "one", []string{"a@b:1"}, []string{"/ip4/127.0.0.1/tcp/1"}, 7
	require.NoError(t, cfg.Save())
	again, err := node.LoadConfig(cfg.Home)
	require.NoError(t, err)
	require.Equal(t, cfg, again)
}

func TestGenesisOfAnotherNetwork(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	_, err := node.ReadGenesis(home)
	require.ErrorIs(t, err, mman.ErrNotFound)
	require.ErrorContains(t, err, "mman-node init")
	require.NoError(t, os.WriteFile(filepath.Join(home, "genesis.json"), []byte(`{"chain_id": "mman-x"`), 0o600))
	_, err = node.ReadGenesis(home)
	require.ErrorIs(t, err, mman.ErrGenesis)
}

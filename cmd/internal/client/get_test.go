package client_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/testnet"
)

// TestFolders gives a folder and a file through one node, fetches both without any
// daemon, and carries them to another node in a CAR file.
func TestFolders(t *testing.T) {
	net := testnet.New(t, 1, "farm")
	farm, other, dir := net.Providers[0], net.Validators[0], t.TempDir()
	for _, n := range []*testnet.Node{farm, other} {
		require.NoError(t, n.Running.Write(n.Home))
	}
	giver, second := person{home: farm.Home}, person{home: other.Home}
	// The chain may not know yet where validators listen.
	me := person{home: filepath.Join(dir, "me"), node: other.Running.RPC, env: map[string]string{"MMAN_PEER": other.Running.Peers[0]}}
	big := bytes.Repeat([]byte("0123456789abcdef"), 5<<16)
	for i := range big {
		big[i] ^= byte(i >> 10)
	}
	photos := filepath.Join(dir, "photos")
	for name, data := range map[string][]byte{"readme.txt": []byte("read me"), "deep/er/big.bin": big, "deep/empty": {}, ".hidden": []byte("no")} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(photos, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(photos, name), data, 0o600))
	}
	require.Contains(t, giver.says(t, "add", "--list"), "Nothing")
	item, _ := giver.json(t, 0, "add", photos)["added"].([]any)
	require.Len(t, item, 1)
	added, _ := item[0].(map[string]any)
	require.InDelta(t, 3, added["files"], 0)
	require.InDelta(t, len(big)+7, added["bytes"], 0)
	root := word(t, added, "root")
	require.Contains(t, giver.says(t, "add", filepath.Join(photos, "readme.txt")), "readme.txt")
	require.Contains(t, giver.says(t, "add", "--list"), root)
	text := mman.SumCID(mman.CodecRaw, []byte("read me")).String()

	// Without a daemon.
	require.Equal(t, "read me", me.says(t, "get", text))
	out := filepath.Join(dir, "out")
	got := me.json(t, 0, "get", root, "--out", out)
	require.InDelta(t, 3, got["files"], 0)
	same := func(dir string) {
		data, err := os.ReadFile(filepath.Join(dir, "deep/er/big.bin"))
		require.NoError(t, err)
		require.True(t, bytes.Equal(big, data))
		require.FileExists(t, filepath.Join(dir, "deep/empty"))
		require.NoFileExists(t, filepath.Join(dir, ".hidden"))
	}
	same(out)
	require.Contains(t, me.fails(t, 2, "get", root, "--out", out), "already")
	require.Contains(t, me.fails(t, 2, "get", root), "folder")
	require.Contains(t, me.fails(t, 1, "get", root, "--out", out+"2", "--limit", "1MiB"), "too large")
	require.NoDirExists(t, out+"2")
	me.json(t, 2, "get", text)

	// In a CAR file, to a node that gives it then as its own.
	car := filepath.Join(dir, "photos.car")
	me.json(t, 0, "car", "export", root, "--out", car)
	whole, err := os.ReadFile(car)
	require.NoError(t, err)
	cut, wrong := filepath.Join(dir, "cut.car"), filepath.Join(dir, "wrong.car")
	require.NoError(t, os.WriteFile(cut, whole[:len(whole)-100], 0o600))
	damaged := bytes.Clone(whole)
	damaged[len(damaged)/2] ^= 1
	require.NoError(t, os.WriteFile(wrong, damaged, 0o600))
	require.Contains(t, second.fails(t, 1, "car", "import", cut), "cut off")
	require.Contains(t, second.fails(t, 1, "car", "import", wrong), "came for block")
	require.Contains(t, second.fails(t, 2, "car", "import", photos), "not a file")
	require.Contains(t, second.fails(t, 4, "car", "import", car+"x"), "photos.carx")
	require.Contains(t, second.fails(t, 4, "add", car+"x"), "photos.carx")
	require.Contains(t, second.says(t, "add", "--list"), "Nothing")
	require.Contains(t, second.says(t, "car", "import", car), root)
	farm.Stop()
	me.json(t, 0, "get", root, "--out", filepath.Join(dir, "third"))
	same(filepath.Join(dir, "third"))
	left, err := os.ReadDir(filepath.Join(me.home, "fetching"))
	require.NoError(t, err)
	require.LessOrEqual(t, len(left), 1, "what is fetched is not kept twice, but what failed is, for the next try")

	// After a restart the node still has it, and says so.
	require.Contains(t, second.says(t, "add", "--list"), root)

	// It is taken back, but for what was added beside it.
	second.json(t, 0, "add", filepath.Join(photos, "readme.txt"))
	require.Contains(t, second.fails(t, 4, "rm", mman.SumCID(mman.CodecRaw, []byte("other")).String()), "add --list")
	gone := second.json(t, 0, "rm", root)
	require.InDelta(t, 1<<20, gone["freed_bytes"], 4096, "its chunks are all alike")
	require.NotContains(t, second.says(t, "add", "--list"), root)
	require.Contains(t, second.says(t, "add", "--list"), text)
	require.Equal(t, "read me", me.says(t, "get", text))
	require.Contains(t, second.fails(t, 4, "rm", root), "was not added")
}

package client_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := person{home: filepath.Join(dir, "home"), env: map[string]string{"MMAN_PASSPHRASE": "correct horse"}}
	require.Contains(t, p.says(t, "keys", "list"), "mman keys new NAME")
	require.Empty(t, p.json(t, 0, "keys", "list")["keys"])

	words := filepath.Join(dir, "words.txt")
	made := p.json(t, 0, "keys", "new", "me", "--mnemonic-file", words)
	require.Len(t, made, 3)
	require.Equal(t, "me", made["name"])
	require.Equal(t, "ed25519", made["type"])
	require.Regexp(t, "^man1", made["address"])
	mnemonic, err := os.ReadFile(words)
	require.NoError(t, err)
	require.Len(t, strings.Fields(string(mnemonic)), 24)

	require.Contains(t, p.fails(t, 1, "keys", "new", "me"), "another name")
	require.Contains(t, p.fails(t, 1, "keys", "new", "you", "--mnemonic-file", words), "does not exist")
	kept, err := os.ReadFile(words)
	require.NoError(t, err)
	require.Equal(t, mnemonic, kept)

	// Away from a terminal the words are shown nowhere.
	out := p.says(t, "keys", "new", "piped")
	require.Less(t, len(strings.Fields(out)), 24)
	require.Contains(t, out, "mman keys export piped")

	again := person{home: filepath.Join(dir, "again"), env: p.env}
	same := again.json(t, 0, "keys", "import", "copy", "--mnemonic-file", words)
	require.Equal(t, made["address"], same["address"])
	other := again.json(t, 0, "keys", "import", "wallet", "--mnemonic-file", words, "--type", "secp256k1", "--index", "1")
	require.NotEqual(t, made["address"], other["address"])

	backup := filepath.Join(dir, "backup.json")
	require.Equal(t, backup, p.json(t, 0, "keys", "export", "me", "--out", backup)["file"])
	require.Contains(t, p.fails(t, 1, "keys", "export", "me", "--out", backup), "does not exist")
	stat, err := os.Stat(backup)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), stat.Mode().Perm())
	piped := p.says(t, "keys", "export", "me")
	require.NotContains(t, piped, strings.Fields(string(mnemonic))[0]+" "+strings.Fields(string(mnemonic))[1])
	require.Equal(t, made["address"], again.json(t, 0, "keys", "import", "restored", backup)["address"])

	wrong := person{home: again.home, env: map[string]string{"MMAN_PASSPHRASE": "wrong"}}
	require.Contains(t, wrong.fails(t, 1, "keys", "export", "restored"), "passphrase")
	file := filepath.Join(dir, "passphrase")
	require.NoError(t, os.WriteFile(file, []byte("correct horse\r\nignored\n"), 0o600))
	wrong.says(t, "keys", "export", "restored", "--passphrase-file", file)

	list, _ := again.json(t, 0, "keys", "list")["keys"].([]any)
	require.Len(t, list, 3)
	require.Contains(t, again.says(t, "keys", "list"), "encrypted")
	require.Contains(t, again.fails(t, 2, "keys", "show"), "copy, restored, wallet")
	shown := again.json(t, 0, "keys", "show", "wallet")
	require.Equal(t, other["address"], shown["address"])
	require.Regexp(t, "^secp256k1:", shown["public_key"])
}

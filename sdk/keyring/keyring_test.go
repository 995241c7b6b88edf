package keyring_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/sig"
	"github.com/limboid/massive-man/sdk/keyring"
)

var words = strings.Repeat("abandon ", 11) + "about"

func cheap() keyring.KDF { return keyring.KDF{Time: 1, MemoryKiB: 8, Threads: 1} }

func open(t *testing.T, cfg keyring.Config) *keyring.Keyring {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(t.TempDir(), "home", "keys")
	}
	cfg.KDF = cheap()
	k, err := keyring.Open(cfg)
	require.NoError(t, err)
	return k
}

func secret(s string) keyring.Passphrase {
	return func(string) ([]byte, error) { return []byte(s), nil }
}

func TestKeyring(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]keyring.Config{"encrypted": {}, "unencrypted": {Unencrypted: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg.Dir = filepath.Join(t.TempDir(), "home", "keys")
			k := open(t, cfg)
			list, err := k.List()
			require.NoError(t, err)
			require.Empty(t, list)

			alice, err := k.New("alice", sig.Ed25519, words, 0, secret("open sesame"))
			require.NoError(t, err)
			bob, err := k.New("bob_2", sig.Secp256k1, words, 0, secret("other"))
			require.NoError(t, err)
			require.NotEqual(t, alice.Address, bob.Address)
			require.Equal(t, !cfg.Unencrypted, alice.Encrypted)
			list, err = k.List()
			require.NoError(t, err)
			require.Equal(t, []keyring.Info{alice, bob}, list)
			info, err := k.Info("alice")
			require.NoError(t, err)
			require.Equal(t, alice, info)

			want, err := keyring.Derive(words, sig.Ed25519, 0)
			require.NoError(t, err)
			got, err := k.Get("alice", secret("open sesame"))
			require.NoError(t, err)
			require.Equal(t, want.Bytes(), got.Bytes())

			stat, err := os.Stat(filepath.Join(cfg.Dir, "alice.json"))
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o600), stat.Mode().Perm())
			stat, err = os.Stat(cfg.Dir)
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o700), stat.Mode().Perm())
			data, err := os.ReadFile(filepath.Join(cfg.Dir, "alice.json"))
			require.NoError(t, err)
			require.Equal(t, cfg.Unencrypted, bytes.Contains(data, []byte(hex.EncodeToString(want.Bytes()))))

			_, err = k.New("alice", sig.Ed25519, words, 1, secret("x"))
			require.ErrorIs(t, err, mman.ErrExists)
			again, err := os.ReadFile(filepath.Join(cfg.Dir, "alice.json"))
			require.NoError(t, err)
			require.Equal(t, data, again)

			_, err = k.Get("carol", secret("x"))
			require.ErrorIs(t, err, mman.ErrNotFound)
		})
	}
}

func TestPassphrases(t *testing.T) {
	t.Parallel()
	k := open(t, keyring.Config{})
	_, err := k.New("alice", sig.Ed25519, words, 0, secret("right"))
	require.NoError(t, err)
	for name, c := range map[string]struct {
		ask  keyring.Passphrase
		says string
	}{
		"wrong":  {secret("wrong"), "passphrase is wrong"},
		"empty":  {secret(""), "empty"},
		"long":   {secret(strings.Repeat("x", 1025)), "at most 1024"},
		"nobody": {nil, "nobody to ask"},
		"failed": {func(string) ([]byte, error) { return nil, errors.New("no terminal") }, "no terminal"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := k.Get("alice", c.ask)
			require.ErrorIs(t, err, mman.ErrKeyfile)
			require.ErrorContains(t, err, c.says)
			_, err = k.Export("alice", c.ask)
			require.ErrorIs(t, err, mman.ErrKeyfile)
			if name != "wrong" {
				_, err = k.New("new-"+name, sig.Ed25519, words, 0, c.ask)
				require.ErrorIs(t, err, mman.ErrKeyfile)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	k := open(t, keyring.Config{Unencrypted: true})
	for _, name := range []string{"", "A", "a.b", "../x", "a/b", "ä", strings.Repeat("a", 33), "a b", "\x00"} {
		_, err := k.New(name, sig.Ed25519, words, 0, nil)
		require.ErrorIs(t, err, mman.ErrInvalid, "%q", name)
		_, err = k.Get(name, nil)
		require.ErrorIs(t, err, mman.ErrInvalid, "%q", name)
	}
	_, err := k.New("a", sig.Ed25519, words, 1<<31, nil)
	require.ErrorIs(t, err, mman.ErrInvalid)
	_, err = k.New("a", 7, words, 0, nil)
	require.ErrorIs(t, err, mman.ErrInvalid)
	_, err = k.Import("a", sig.PrivateKey{}, nil)
	require.ErrorIs(t, err, mman.ErrInvalid)
	_, err = keyring.Open(keyring.Config{})
	require.ErrorIs(t, err, mman.ErrInvalid)
	for _, kdf := range []keyring.KDF{
		{0, 8, 1},
		{17, 8, 1},
		{1, 7, 1},
		{1, 1<<20 + 1, 1},
		{1, 8, 0},
		{1, 8, 2},
		{1, 1024, 17},
	} {
		_, err = keyring.Open(keyring.Config{Dir: "x", KDF: kdf})
		require.ErrorIs(t, err, mman.ErrInvalid, "%v", kdf)
	}
	require.NoError(t, keyring.DefaultKDF().Validate())
}

func TestExportImport(t *testing.T) {
	t.Parallel()
	from := open(t, keyring.Config{})
	alice, err := from.New("alice", sig.Secp256k1, words, 3, secret("right"))
	require.NoError(t, err)
	data, err := from.Export("alice", secret("right"))
	require.NoError(t, err)

	to := open(t, keyring.Config{})
	asked := 0
	got, err := to.ImportFile("copy", data, func(string) ([]byte, error) { asked++; return []byte("right"), nil })
	require.NoError(t, err)
	require.Equal(t, 1, asked)
	require.Equal(t, alice.Address, got.Address)
	require.True(t, got.Encrypted)
	_, err = to.Get("copy", secret("right"))
	require.NoError(t, err)
	_, err = to.ImportFile("other", data, secret("wrong"))
	require.ErrorIs(t, err, mman.ErrKeyfile)
	_, err = to.ImportFile("other", data, nil)
	require.ErrorIs(t, err, mman.ErrKeyfile)
	_, err = to.ImportFile("other", []byte("{}"), nil)
	require.ErrorIs(t, err, mman.ErrKeyfile)

	plain := open(t, keyring.Config{Unencrypted: true})
	got, err = plain.ImportFile("copy", data, secret("right"))
	require.NoError(t, err)
	require.False(t, got.Encrypted)
	data, err = plain.Export("copy", nil)
	require.NoError(t, err)
	got, err = to.ImportFile("back", data, secret("new"))
	require.NoError(t, err)
	require.True(t, got.Encrypted)
	_, err = to.Get("back", secret("new"))
	require.NoError(t, err)
}

// Any changed value in a key file is noticed, and never taken for a wrong
// passphrase, so that nobody doubts a passphrase that is right.
func TestDamage(t *testing.T) {
	t.Parallel()
	for _, plain := range []bool{false, true} {
		cfg := keyring.Config{Dir: filepath.Join(t.TempDir(), "keys"), Unencrypted: plain}
		k := open(t, cfg)
		_, err := k.New("alice", sig.Ed25519, words, 0, secret("right"))
		require.NoError(t, err)
		path := filepath.Join(cfg.Dir, "alice.json")
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		r := rand.New(rand.NewPCG(1, 2))
		for range 300 {
			bad := bytes.Clone(data)
			at := r.IntN(len(bad))
			if bad[at] == ' ' || bad[at] == '\n' {
				continue // blanks mean nothing
			}
			bad[at] = "0123456789abcdef{}\"x"[r.IntN(20)]
			if bytes.EqualFold(bad, data) {
				continue
			}
			require.NoError(t, os.WriteFile(path, bad, 0o600))
			_, err := k.Get("alice", secret("right"))
			require.ErrorIs(t, err, mman.ErrKeyfile, "byte %d of\n%s", at, bad)
			require.NotContains(t, err.Error(), "passphrase is wrong")
		}
		for name, bad := range map[string][]byte{
			"empty": nil, "cut": data[:len(data)/2], "more": append(bytes.Clone(data), "}"...),
			"another": append(bytes.Clone(data), data...), "large": bytes.Repeat([]byte(" "), 9000), "null": []byte("null"),
		} {
			require.NoError(t, os.WriteFile(path, bad, 0o600))
			_, err := k.Get("alice", secret("right"))
			require.ErrorIs(t, err, mman.ErrKeyfile, name)
			_, err = k.List()
			require.ErrorIs(t, err, mman.ErrKeyfile, name)
			require.ErrorContains(t, err, "alice", name)
		}
	}
}

// A file that was made to exhaust the machine is refused before argon2id runs.
func TestForeignCost(t *testing.T) {
	t.Parallel()
	k := open(t, keyring.Config{})
	_, err := k.New("alice", sig.Ed25519, words, 0, secret("right"))
	require.NoError(t, err)
	data, err := k.Export("alice", secret("right"))
	require.NoError(t, err)
	var m map[string]any
	require.NoError(t, json.Unmarshal(data, &m))
	m["kdf"] = map[string]any{"time": 1 << 30, "memory_kib": 1 << 30, "threads": 255}
	delete(m, "checksum")
	bad, err := json.Marshal(m)
	require.NoError(t, err)
	_, err = k.ImportFile("other", bad, secret("right"))
	require.ErrorIs(t, err, mman.ErrKeyfile)
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	k := open(t, keyring.Config{Dir: dir, Unencrypted: true})
	_, err := k.New("alice", sig.Ed25519, words, 0, nil)
	require.NoError(t, err)
	path := filepath.Join(dir, "alice.json")

	require.NoError(t, os.Chmod(path, 0o640))
	_, err = k.Get("alice", nil)
	require.ErrorIs(t, err, mman.ErrKeyfile)
	require.ErrorContains(t, err, "chmod 600")
	require.NoError(t, os.Chmod(path, 0o600))

	require.NoError(t, os.Chmod(dir, 0o750))
	_, err = k.Get("alice", nil)
	require.ErrorIs(t, err, mman.ErrKeyfile)
	require.ErrorContains(t, err, "chmod 700")
	_, err = k.New("bob", sig.Ed25519, words, 0, nil)
	require.ErrorIs(t, err, mman.ErrKeyfile)
	_, err = k.List()
	require.ErrorIs(t, err, mman.ErrKeyfile)
	require.NoError(t, os.Chmod(dir, 0o700))

	require.NoError(t, os.Mkdir(filepath.Join(dir, "dir.json"), 0o700))
	_, err = k.Get("dir", nil)
	require.ErrorIs(t, err, mman.ErrKeyfile)

	outside := filepath.Join(t.TempDir(), "outside.json")
	require.NoError(t, os.WriteFile(outside, nil, 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "link.json")))
	_, err = k.Get("link", nil)
	require.ErrorIs(t, err, mman.ErrKeyfile)

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = open(t, keyring.Config{Dir: file}).List()
	require.ErrorIs(t, err, mman.ErrKeyfile)
	_, err = open(t, keyring.Config{Dir: file}).New("a", sig.Ed25519, words, 0, secret("x"))
	require.ErrorIs(t, err, mman.ErrKeyfile)
}

// A crash between write and rename leaves an unfinished file, which neither
// shows nor stops the next one.
func TestUnfinishedFile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	k := open(t, keyring.Config{Dir: dir, Unencrypted: true})
	_, err := k.New("alice", sig.Ed25519, words, 0, nil)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".new"), []byte("half"), 0o600))
	_, err = k.New("bob", sig.Ed25519, words, 1, nil)
	require.NoError(t, err)
	list, err := k.List()
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.NoFileExists(t, filepath.Join(dir, ".new"))
}

func TestConcurrentNew(t *testing.T) {
	t.Parallel()
	k := open(t, keyring.Config{Unencrypted: true})
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = k.New("alice", sig.Ed25519, words, uint32(i), nil)
		})
	}
	wg.Wait()
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
			continue
		}
		require.ErrorIs(t, err, mman.ErrExists)
	}
	require.Equal(t, 1, made)
}

func TestLock(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	k := open(t, keyring.Config{Dir: dir})
	other := open(t, keyring.Config{Dir: dir})
	a, b := mman.Address{1}, mman.Address{2}

	unlock, err := k.Lock(t.Context(), a)
	require.NoError(t, err)
	free, err := other.Lock(t.Context(), b)
	require.NoError(t, err, "another account")
	free()

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = other.Lock(ended, a)
	require.ErrorIs(t, err, mman.ErrOtherHolder)
	require.ErrorIs(t, err, context.Canceled)

	waiting, stop := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() {
		_, err := other.Lock(waiting, a)
		gaveUp <- err
	}()
	next := make(chan error)
	go func() {
		free, err := other.Lock(t.Context(), a)
		if err == nil {
			free()
		}
		next <- err
	}()
	stop()
	require.ErrorIs(t, <-gaveUp, mman.ErrOtherHolder)
	select {
	case err := <-next:
		require.Fail(t, "two hold the lock", "%v", err)
	default:
	}
	unlock()
	require.NoError(t, <-next, "who gave up keeps nothing")
	unlock, err = k.Lock(t.Context(), a)
	require.NoError(t, err)
	unlock()
}

// Many increments of a plain counter, each under the lock.
func TestLockExcludes(t *testing.T) {
	t.Parallel()
	k := open(t, keyring.Config{})
	file := filepath.Join(t.TempDir(), "counter")
	require.NoError(t, os.WriteFile(file, []byte("0"), 0o600))
	const workers, each = 4, 25
	errs := make(chan error, workers)
	for range workers {
		go func() {
			errs <- func() error {
				for range each {
					unlock, err := k.Lock(t.Context(), mman.Address{1})
					if err != nil {
						return err
					}
					var n int
					data, err := os.ReadFile(file)
					if err == nil {
						_, err = fmt.Sscan(string(data), &n)
					}
					if err == nil {
						err = os.WriteFile(file, fmt.Append(nil, n+1), 0o600)
					}
					unlock()
					if err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	for range workers {
		require.NoError(t, <-errs)
	}
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "100", string(data))
}

func TestLeaseKeys(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "leases")
	random := rand.NewChaCha8([32]byte{5})
	_, err := keyring.LoadLeaseKey(dir, "x")
	require.ErrorIs(t, err, mman.ErrNotFound)

	key, err := keyring.NewLeaseKey(dir, random)
	require.NoError(t, err)
	require.Equal(t, sig.Ed25519, key.Type())
	got, err := keyring.LoadLeaseKey(dir, keyring.LeaseKeyName(key.Public()))
	require.NoError(t, err)
	require.Equal(t, key.Bytes(), got.Bytes())

	lease := mman.LeaseID{1}.String()
	require.NoError(t, keyring.SaveLeaseKey(dir, lease, key))
	require.NoError(t, keyring.SaveLeaseKey(dir, lease, key), "again")
	stat, err := os.Stat(filepath.Join(dir, lease+".key"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), stat.Mode().Perm())
	other, err := sig.Generate(sig.Ed25519, random)
	require.NoError(t, err)
	require.ErrorIs(t, keyring.SaveLeaseKey(dir, lease, other), mman.ErrExists)
	got, err = keyring.LoadLeaseKey(dir, lease)
	require.NoError(t, err)
	require.Equal(t, key.Public(), got.Public())

	require.ErrorIs(t, keyring.SaveLeaseKey(dir, "../x", key), mman.ErrInvalid)
	require.ErrorIs(t, keyring.SaveLeaseKey(dir, "x", sig.PrivateKey{}), mman.ErrInvalid)
	_, err = keyring.LoadLeaseKey(dir, "../x")
	require.ErrorIs(t, err, mman.ErrInvalid)
	_, err = keyring.LoadLeaseKey(dir, "x")
	require.ErrorIs(t, err, mman.ErrNotFound)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "x.key"), []byte("{"), 0o600))
	_, err = keyring.LoadLeaseKey(dir, "x")
	require.ErrorIs(t, err, mman.ErrKeyfile)
	require.ErrorIs(t, keyring.SaveLeaseKey(dir, "x", key), mman.ErrKeyfile, "a damaged key is not written over")
	require.NoError(t, os.Chmod(filepath.Join(dir, lease+".key"), 0o644))
	_, err = keyring.LoadLeaseKey(dir, lease)
	require.ErrorIs(t, err, mman.ErrKeyfile)

	sealed := open(t, keyring.Config{})
	_, err = sealed.New("a", sig.Ed25519, words, 0, secret("p"))
	require.NoError(t, err)
	data, err := sealed.Export("a", secret("p"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "y.key"), data, 0o600))
	_, err = keyring.LoadLeaseKey(dir, "y")
	require.ErrorIs(t, err, mman.ErrKeyfile)
}

func TestMnemonicFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "words")
	_, err := keyring.ReadMnemonic(path)
	require.ErrorIs(t, err, mman.ErrNotFound)
	require.NoError(t, keyring.WriteMnemonic(path, words))
	require.ErrorIs(t, keyring.WriteMnemonic(path, words), mman.ErrExists)
	stat, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), stat.Mode().Perm())
	got, err := keyring.ReadMnemonic(path)
	require.NoError(t, err)
	require.Equal(t, words, got)
	require.ErrorIs(t, keyring.WriteMnemonic(filepath.Join(t.TempDir(), "no", "folder"), words), mman.ErrKeyfile)
	_, err = keyring.ReadMnemonic(t.TempDir())
	require.ErrorIs(t, err, mman.ErrKeyfile)
	require.NoError(t, os.WriteFile(path, []byte("not a mnemonic"), 0o600))
	_, err = keyring.ReadMnemonic(path)
	require.ErrorIs(t, err, mman.ErrInvalid)
}

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/node"
	"github.com/limboid/massive-man/sdk/chain"
)

// anywhere lets a node listen on free ports.
func anywhere() []string {
	return []string{"--rpc-listen", "127.0.0.1:0", "--p2p-listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--listen", "/ip4/127.0.0.1/tcp/0"}
}

// serve starts a node in a home.
func serve(t *testing.T, home string, args ...string) *job {
	t.Helper()
	return begin(t, home, append(append([]string{"start", "--home", home}, anywhere()...), args...)...)
}

// ended reports whether the process has.
func (j *job) ended() bool {
	select {
	case <-j.done:
		return true
	default:
		return false
	}
}

// height waits until the node in a home is at height or above and returns where
// it is; 0 when the process has ended first.
func height(t *testing.T, j *job, home string, least uint64) (at uint64) {
	t.Helper()
	eventually(t, within, "a height of the node", func(ctx context.Context) (bool, error) {
		if j.ended() {
			return true, nil
		}
		run, err := node.ReadRunning(home)
		if err != nil || len(run.PIDs) == 0 || run.PIDs[0] != j.cmd.Process.Pid {
			return false, fmt.Errorf("not yet, or of a process that was killed: %w; %s", err, tail(j.errs.String()))
		}
		c, err := chain.New(run.RPC)
		if err != nil {
			return false, err
		}
		defer c.Close()
		st, err := c.Status(ctx)
		at = st.Height
		return at >= least, err
	})
	if j.ended() {
		return 0
	}
	return at
}

// lived makes a home with a chain of a few blocks. It was stopped in order, or
// else killed.
func lived(t *testing.T, orderly bool) (home string, at uint64) {
	t.Helper()
	home = filepath.Join(t.TempDir(), "home")
	j := serve(t, home)
	at = height(t, j, home, 3)
	require.NotZero(t, at, "%s", &j.errs)
	if orderly {
		quit(t, j)
	}
	j.kill(t)
	return home, at
}

// quit ends a node in order.
func quit(t *testing.T, j *job) {
	t.Helper()
	require.NoError(t, j.cmd.Process.Signal(syscall.SIGTERM))
	require.Zero(t, j.end(t, within), "%s", &j.errs)
	require.NotContains(t, j.errs.String(), "goroutine ")
}

// refused starts a node that must end with one sentence that has the words.
func refused(t *testing.T, code int, home string, args []string, words ...string) {
	t.Helper()
	j := serve(t, home, args...)
	require.Equal(t, code, j.end(t, within), "%s", &j.errs)
	oneSentence(t, j.errs.String(), words...)
}

// TestRefused starts nodes that cannot live, and reads why.
func TestRefused(t *testing.T) {
	good, at := lived(t, true)
	other, _ := lived(t, true)
	copied := func(t *testing.T) string {
		t.Helper()
		home := filepath.Join(t.TempDir(), "home")
		copyTree(t, good, home)
		return home
	}
	genesis, err := os.ReadFile(filepath.Join(other, "genesis.json"))
	require.NoError(t, err)

	for _, flag := range []string{"--rpc-listen", "--p2p-listen", "--listen", "--api"} {
		t.Run("port in use "+flag, func(t *testing.T) {
			taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer func() { require.NoError(t, taken.Close()) }()
			address := taken.Addr().String()
			if flag == "--listen" {
				_, port, err := net.SplitHostPort(address)
				require.NoError(t, err)
				address = "/ip4/127.0.0.1/tcp/" + port
			}
			refused(t, 1, copied(t), []string{flag, address}, "port in use", address, flag)
		})
	}
	t.Run("home of another network", func(t *testing.T) {
		home := copied(t)
		write(t, home, "genesis.json", genesis)
		refused(t, 1, home, nil, "home cannot be used", "use that network's genesis file, or another home")
	})
	t.Run("truncated genesis", func(t *testing.T) {
		home := copied(t)
		write(t, home, "genesis.json", genesis[:len(genesis)/2])
		refused(t, 1, home, nil, "genesis is not valid", "put that of the network into "+filepath.Join(home, "genesis.json")+" again")
	})
	t.Run("empty genesis", func(t *testing.T) {
		home := copied(t)
		write(t, home, "genesis.json", nil)
		refused(t, 1, home, nil, "genesis is not valid", "put that of the network into "+filepath.Join(home, "genesis.json")+" again")
	})
	for name, change := range map[string]func(doc, account, validator map[string]any){
		"a validator twice":     func(doc, _, one map[string]any) { doc["validators"] = []any{one, one} },
		"no validators":         func(doc, _, _ map[string]any) { doc["validators"] = []any{} },
		"an account twice":      func(doc, one, _ map[string]any) { doc["accounts"] = []any{one, one} },
		"more than all coins":   func(_, one, _ map[string]any) { one["balance"] = uint64(1<<64 - 1) },
		"a sum above all coins": func(_, one, _ map[string]any) { one["balance"] = uint64(1<<53 - 1) },
		"more than all power":   func(_, _, one map[string]any) { one["power"] = uint64(1<<64 - 1) },
	} {
		t.Run("genesis with "+name, func(t *testing.T) {
			var doc map[string]any
			require.NoError(t, json.Unmarshal(genesis, &doc))
			accounts, ok := doc["accounts"].([]any)
			require.True(t, ok)
			validators, ok := doc["validators"].([]any)
			require.True(t, ok)
			account, ok := accounts[0].(map[string]any)
			require.True(t, ok)
			validator, ok := validators[0].(map[string]any)
			require.True(t, ok)
			change(doc, account, validator)
			bad, err := json.Marshal(doc)
			require.NoError(t, err)
			home := copied(t)
			file := write(t, home, "genesis.json", bad)
			refused(t, 1, home, nil, "genesis is not valid", "put that of the network into "+filepath.Join(home, "genesis.json")+" again")
			j := run(t, home, "init", "--home", filepath.Join(t.TempDir(), "fresh"), "--genesis", file)
			require.NotZero(t, j.code)
			oneSentence(t, j.errs.String(), "genesis is not valid", "get that of the network again")
		})
	}
	t.Run("unknown config key", func(t *testing.T) {
		home := copied(t)
		write(t, home, "config.yaml", []byte("moniker: me\ncolour: blue\n"))
		refused(t, 2, home, nil, "config.yaml", "colour")
	})
	t.Run("rules of an unknown version", func(t *testing.T) {
		home := copied(t)
		write(t, home, "config.yaml", fmt.Appendf(nil, "upgrades: [{height: %d, version: 9}]\n", at+3))
		refused(t, 1, home, nil, "version 9", "install a newer mman-node")
		refused(t, 1, home, nil, "version 9", "install a newer mman-node") // and again
	})
	t.Run("keys that others may read", func(t *testing.T) {
		home := copied(t)
		require.NoError(t, os.Chmod(filepath.Join(home, "consensus", "priv_validator_key.json"), 0o644))
		refused(t, 1, home, nil, "may be read by others", "chmod 600")
	})
	t.Run("home in use", func(t *testing.T) {
		home := copied(t)
		j := serve(t, home)
		require.NotZero(t, height(t, j, home, at+1), "%s", &j.errs)
		refused(t, 1, home, nil, "another process holds it")
		require.NotZero(t, height(t, j, home, at+2), "the first goes on: %s", &j.errs)
		quit(t, j)
	})
	t.Run("no home at all", func(t *testing.T) {
		refused(t, 1, write(t, t.TempDir(), "file", nil), nil, "home cannot be used")
	})
}

// TestDamaged flips bytes in every kind of file of both databases, of a home that
// was stopped in order and of one that was killed. The node refuses the home in
// one sentence, or recovers and makes blocks; it never panics.
func TestDamaged(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 4))
	for _, orderly := range []bool{true, false} {
		home, at := lived(t, orderly)
		for _, file := range storeFiles(t, home) {
			t.Run(fmt.Sprintf("orderly %t %s", orderly, file), func(t *testing.T) {
				hurt := filepath.Join(t.TempDir(), "home")
				copyTree(t, home, hurt)
				damage(t, rng, filepath.Join(hurt, file))
				j := serve(t, hurt)
				if height(t, j, hurt, at+1) == 0 {
					require.Equal(t, 1, j.code, "%s", head(j.errs.String()))
					t.Log(oneSentence(t, j.errs.String(), "stored data is damaged", "let the node "))
					return
				}
				quit(t, j)
			})
		}
	}
}

// storeFiles lists one file of each kind below both databases that holds
// anything.
func storeFiles(t *testing.T, home string) []string {
	t.Helper()
	kinds := map[string]bool{}
	var out []string
	require.NoError(t, fs.WalkDir(os.DirFS(home), "store", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "LOCK" {
			return err
		}
		b, err := os.ReadFile(filepath.Join(home, path))
		if err != nil {
			return err
		}
		kind := filepath.Join(filepath.Dir(path), strings.Trim(d.Name(), "0123456789"))
		if !kinds[kind] && len(bytes.Trim(b, "\x00")) > 0 {
			kinds[kind] = true
			out = append(out, path)
		}
		return nil
	}))
	require.GreaterOrEqual(t, len(out), 4, "%v", out)
	return out
}

// damage flips bits of a file where it holds something.
func damage(t *testing.T, rng *rand.Rand, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	used := len(bytes.TrimRight(b, "\x00"))
	for range 1 + used/512 {
		b[rng.IntN(used)] ^= byte(1 + rng.IntN(255))
	}
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

// small mounts a file system of a size in MiB. Without the right to, the test
// cannot say anything: it is skipped for a developer and fails in CI.
func small(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0700", mib)); err != nil {
		require.Empty(t, os.Getenv("CI"), "mount a tmpfs: %v", err)
		t.Skipf("a small disk needs the right to mount one: %v", err)
	}
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(dir, 0)) })
	return dir
}

// TestFullDisk fills the disk of a running node. It ends with one sentence, and
// when there is space again it goes on with all that it had accepted.
func TestFullDisk(t *testing.T) {
	disk := small(t, 700)
	home := filepath.Join(disk, "home")
	j := serve(t, home)
	require.NotZero(t, height(t, j, home, 2), "%s", &j.errs)
	sent := ask(t, home, 0, "send", someone(), "3MAN")
	running, err := node.ReadRunning(home)
	require.NoError(t, err)

	filler, err := os.Create(filepath.Join(disk, "filler"))
	require.NoError(t, err)
	defer filler.Close() //nolint:errcheck // it is removed

	// A file that is too large for it is refused, nothing of it is given to anybody, and
	// the ledger has its room: the node goes on.
	for freeMiB(t, disk) > 400 {
		fill(t, filler)
	}
	large := run(t, home, "client", "add", randomFile(t, 160<<20))
	require.NotZero(t, large.code, "%s", &large.out)
	oneSentence(t, large.errs.String(), "disk full", "free some space")
	listed, ok := ask(t, home, 0, "add", "--list")["items"].([]any)
	require.True(t, ok)
	require.Empty(t, listed)
	at := height(t, j, home, 1)
	require.NotZero(t, height(t, j, home, at+2), "%s", &j.errs)

	// Fill it by and by, as others do, with transactions going on.
	accepted := 3
	for !j.ended() {
		free := freeMiB(t, disk)
		if free > 200 {
			fill(t, filler)
		}
		if free < 320 && sendOne(t, home, running.RPC) {
			accepted++
		}
	}
	require.Equal(t, 1, j.end(t, within), "%s", head(j.errs.String()))
	oneSentence(t, j.errs.String(), "disk full", "free some space")

	// Full to the last byte: it says so again.
	for freeMiB(t, disk) > 0 {
		fill(t, filler)
	}
	refused(t, 1, home, nil, "disk full")

	require.NoError(t, os.Remove(filler.Name()))
	require.NoError(t, filler.Close())
	again := serve(t, home)
	require.NotZero(t, height(t, again, home, 3), "%s", &again.errs)
	require.Equal(t, true, ask(t, home, 0, "tx", fmt.Sprint(sent["tx"]))["ok"])
	balance := number(t, ask(t, home, 0, "account", someone()), "balance_uman")
	require.InDelta(t, accepted*1_000_000, balance, 1_000_000, "one may have been accepted whose answer was lost")
	require.GreaterOrEqual(t, balance, float64(accepted)*1_000_000)
	quit(t, again)
}

func freeMiB(t *testing.T, disk string) int64 {
	t.Helper()
	var free syscall.Statfs_t
	require.NoError(t, syscall.Statfs(disk, &free))
	return int64(free.Bavail) * free.Bsize >> 20
}

// fill writes 8 MiB, or what fits.
func fill(t *testing.T, filler *os.File) {
	t.Helper()
	if _, err := filler.Write(make([]byte, 8<<20)); err != nil {
		require.ErrorIs(t, err, syscall.ENOSPC)
	}
}

// someone is an address whose key nobody has.
func someone() string { return mman.Address{1, 2, 3}.String() }

// sendOne sends a coin and reports whether that is in a block.
func sendOne(t *testing.T, home, rpc string) bool {
	t.Helper()
	j := begin(t, home, "client", "-o", "json", "--timeout", "10s", "--node", rpc, "send", someone(), "1MAN")
	return j.end(t, within) == 0
}

package e2e_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/examples"
)

// TestDemo runs the demo on its own data and on other data, and reads the JSON
// that it ends with.
func TestDemo(t *testing.T) {
	var table strings.Builder
	table.WriteString("city,height,weight\n")
	for i := range 40 {
		fmt.Fprintf(&table, "%s,%d.%d,%d\n", []string{"Oslo", "Lima"}[i%2], 150+i, i%10, 50+i)
	}
	other := write(t, t.TempDir(), "people.csv", []byte(table.String()))
	for _, c := range []struct {
		name string
		args []string
	}{
		{"penguins", nil},
		{"people", []string{"--dataset", other, "--seed", "7"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			home := t.TempDir()
			j := begin(t, home, append([]string{"demo", "-o", "json"}, c.args...)...)
			require.Zero(t, j.end(t, 2*time.Minute), "%s", &j.errs)
			got := object(t, j.out.Bytes())
			for _, key := range []string{
				"ok", "chain_id", "validators", "height", "app_hash", "steps", "request", "lease", "result",
				"paid_uman", "burned_uman", "provider_received_uman", "refunded_uman", "supply_uman",
			} {
				require.Contains(t, got, key)
			}
			require.Len(t, got, 14, "no key but those")
			require.Equal(t, true, got["ok"])
			require.InDelta(t, 4, got["validators"], 0)
			require.Regexp(t, "^mman-local-[0-9a-f]{8}$", got["chain_id"])
			require.Regexp(t, "^[0-9a-f]{64}$", got["app_hash"])
			require.Regexp(t, "^[0-9a-f]{40}$", got["request"])
			require.Regexp(t, "^[0-9a-f]{40}$", got["lease"])
			result, _ := got["result"].(map[string]any)
			require.Regexp(t, "^[0-9a-f]{64}$", result["sha256"])
			require.NotEmpty(t, result["cid"])
			require.Positive(t, result["bytes"])
			require.InDelta(t, number(t, got, "paid_uman"), number(t, got, "burned_uman")+number(t, got, "provider_received_uman"), 0)
			require.Positive(t, number(t, got, "burned_uman"))
			require.Positive(t, number(t, got, "refunded_uman"))
			require.Positive(t, number(t, got, "supply_uman"))
			steps, _ := got["steps"].([]any)
			require.NotEmpty(t, steps)
			for _, one := range steps {
				step, _ := one.(map[string]any)
				require.Len(t, step, 4)
				require.Equal(t, true, step["ok"], "%v", step)
				require.NotEmpty(t, step["step"])
				require.NotEmpty(t, step["detail"])
				require.Contains(t, step, "ms")
			}
		})
	}
}

func number(t *testing.T, in map[string]any, key string) float64 {
	t.Helper()
	n, ok := in[key].(float64)
	require.True(t, ok, "%s: %v", key, in[key])
	return n
}

// TestDevnet is the first hour of a new user: one command to start, one to run
// an algorithm of their own on a file of their own, Ctrl-C, and the same again.
func TestDevnet(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "net")
	files := t.TempDir()
	module, book := write(t, files, "wordcount.wasm", examples.WordcountModule()), write(t, files, "book.txt", examples.Book())
	consumer := filepath.Join(dir, "consumer")
	request := []string{"request", "run", module, "--input", book}

	first, net := devnet(t, dir)
	begun := ask(t, consumer, 0, request...) // the second command
	height := number(t, ask(t, consumer, 0, "status"), "height")
	again := begin(t, filepath.Join(dir, "nowhere"), "devnet", "--home", dir)
	require.Equal(t, 1, again.end(t, within))
	oneSentence(t, again.errs.String(), "runs in", dir)
	interrupt(t, first, net)

	second, net := devnet(t, dir)
	require.Equal(t, begun["lease"], ask(t, consumer, 0, request...)["lease"], "the lease has survived")
	require.Greater(t, number(t, ask(t, consumer, 0, "status"), "height"), height)
	shown := ask(t, consumer, 0, "lease", "show", fmt.Sprint(begun["lease"]))
	require.Equal(t, "open", shown["state"])
	interrupt(t, second, net)
}

// devnet starts one and waits for the line that says that it is ready.
func devnet(t *testing.T, dir string) (*job, map[string]any) {
	t.Helper()
	j := begin(t, filepath.Join(dir, "unused"), "devnet", "--home", dir)
	t.Cleanup(func() {
		j.kill(t)
		bury(t, dir)
	})
	path := filepath.Join(dir, "run.json")
	eventually(t, within, "run.json", func(context.Context) (bool, error) {
		select {
		case <-j.done:
			require.FailNow(t, "devnet ended", "%s", &j.errs)
		default:
		}
		_, err := os.Stat(path)
		return err == nil, err
	})
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	run := object(t, b)
	for _, key := range []string{"rpc", "api", "peers", "chain_id", "pids"} {
		require.NotEmpty(t, run[key], key)
	}
	return j, run
}

// bury waits until the nodes of a devnet that was killed have noticed, before
// their folder goes.
func bury(t *testing.T, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), within)
	defer cancel()
	for {
		var left []string
		lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
		require.NoError(t, err)
		for _, path := range lines {
			if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), dir) {
				left = append(left, path)
			}
		}
		if len(left) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			require.FailNow(t, "nodes outlive the one that started them", "%v", left)
		case <-time.After(poll):
		}
	}
}

// interrupt ends a devnet with Ctrl-C: no process may be left.
func interrupt(t *testing.T, j *job, run map[string]any) {
	t.Helper()
	require.NoError(t, j.cmd.Process.Signal(os.Interrupt))
	require.Zero(t, j.end(t, within), "%s", &j.errs)
	require.Equal(t, 1, strings.Count(j.out.String(), "\n"), "%s", &j.out)
	require.Contains(t, j.out.String(), "is ready")
	require.Empty(t, j.errs.String())
	pids, _ := run["pids"].([]any)
	require.Len(t, pids, 7)
	for _, pid := range pids {
		n, _ := pid.(float64)
		require.ErrorIs(t, syscall.Kill(int(n), 0), syscall.ESRCH)
	}
}

package docrun_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// root is the folder of the source, seen from this package.
const root = "../.."

// block is one fenced block of shell.
type block struct {
	line  int
	needs []string
	code  string
}

// blocks returns the blocks of a page in their order.
func blocks(t *testing.T, page string) (out []block) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, page))
	require.NoError(t, err)
	inside := false
	for i, line := range strings.Split(string(b), "\n") {
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case inside && fence:
			inside = false
		case inside:
			out[len(out)-1].code += line + "\n"
		case fence:
			require.True(t, strings.HasPrefix(info+" ", "sh "), "%s:%d: a block is sh, and may name what it needs", page, i+1)
			inside = true
			out = append(out, block{line: i + 1, needs: strings.Fields(info)[1:]})
		}
	}
	require.False(t, inside, "%s: the last block has no end", page)
	return out
}

// howTo says how to get a program that a block may need.
func howTo(t *testing.T, program string) string {
	t.Helper()
	switch program {
	case "clang":
		return "clang with wasi-libc: on Debian, apt-get install clang lld wasi-libc libclang-rt-14-dev-wasm32"
	case "curl":
		return "curl: on Debian, apt-get install curl"
	case "engine":
		return "a container engine and busybox: on Debian, apt-get install docker.io busybox-static; start dockerd, and set MMAN_DOCKER_HOST to its address"
	case "python3":
		return "Python 3: on Debian, apt-get install python3"
	case "npm", "node":
		return "Node.js 18 or later with npm: on Debian, apt-get install nodejs npm"
	}
	require.FailNow(t, "unknown program", "a block needs %q, which this test does not know", program)
	return ""
}

// there reports whether a program, with what it needs to build for WASI, is
// installed.
func there(ctx context.Context, program string) bool {
	if program == "engine" {
		_, err := os.Stat("/bin/busybox")
		return err == nil && os.Getenv("MMAN_DOCKER_HOST") != ""
	}
	if _, err := exec.LookPath(program); err != nil {
		return false
	}
	if program != "clang" {
		return true
	}
	cmd := exec.CommandContext(ctx, "clang", "--target=wasm32-wasi", "-x", "c", "-o", os.DevNull, "-")
	cmd.Stdin = strings.NewReader("#include <stdio.h>\nint main(void) { return puts(\"\"); }\n")
	return cmd.Run() == nil
}

// build puts the programs into a folder.
func build(t *testing.T, bin string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", bin+string(filepath.Separator), "./cmd/mman-node", "./cmd/mman", "./examples/lm/lmserve")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

// devnet starts a network, or starts it again, and waits until it is ready. stop
// ends it; the end of the test does too.
func devnet(t *testing.T, dir, home string) (stop func()) {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(filepath.Join(dir, "bin", "mman-node"), "devnet", "--home", home)
	cmd.Env = environment(dir)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.WaitDelay = 10 * time.Second
	require.NoError(t, cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGINT) // it may have ended
		if err := <-done; err != nil {
			t.Errorf("devnet: %v", err)
		}
		if t.Failed() {
			t.Logf("devnet: %s", log.String())
		}
	})
	t.Cleanup(stop)
	ready := filepath.Join(home, "run.json")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(2 * time.Minute)
	for {
		select {
		case <-tick.C:
			if _, err := os.Stat(ready); !errors.Is(err, fs.ErrNotExist) {
				require.NoError(t, err)
				return stop
			}
		case err := <-done:
			done <- err
			require.FailNow(t, "the network ended", "%v", err)
		case <-deadline:
			require.FailNow(t, "the network was not ready in two minutes")
		}
	}
}

// run is what two runs of the same must agree on.
type run struct {
	Result struct {
		CID string `json:"cid"`
	} `json:"result"`
	Usage struct {
		Fuel uint64 `json:"fuel"`
	} `json:"usage"`
	ExitCode uint32 `json:"exit_code"`
}

// dice shows all that could differ between two runs of a script.
func dice() map[string]string {
	return map[string]string{
		"js": `const words = std.in.readAsString().split(" ").filter(() => Math.random() < 0.5);
			console.log(words.length, Math.random(), Date.now(), performance.now(), os.readdir("/tmp")[0].join(), Object.keys(globalThis).length);
			std.exit(3);`,
		"py": `import os, random, sys, tempfile, time, uuid
words = {w for w in sys.stdin.read().split() if random.random() < 0.5}
with tempfile.NamedTemporaryFile("w") as f:
    print(len(words), list(words)[:9], random.random(), time.time(), f.name, uuid.uuid4(), os.urandom(4), hash("x"), id(f))
sys.exit(3)
`,
	}
}

// roll runs a script of dice on a new lease and returns how it ended.
func roll(t *testing.T, dir, suffix string) (r run) {
	t.Helper()
	file := filepath.Join(dir, "dice."+suffix)
	require.NoError(t, os.WriteFile(file, []byte(dice()[suffix]), 0o600))
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "bin", "mman"),
		"--home", filepath.Join(dir, "net", "consumer"), "request", "run", file, "--new-lease", "--seed", "11", "-o", "json",
		"--input", filepath.Join(root, "examples", "penguins", "penguins.csv"))
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	require.Error(t, err, "the script ends with 3")
	require.NoError(t, json.Unmarshal(out, &r), "%s%s", out, &errs)
	require.EqualValues(t, 3, r.ExitCode, "%s%s", out, &errs)
	require.NotZero(t, r.Usage.Fuel)
	return r
}

// environment is the caller's, with the folders of this test.
func environment(dir string) []string {
	source, err := filepath.Abs(root)
	if err != nil {
		source = root // which go run refuses by its name
	}
	return append(os.Environ(), "NET="+filepath.Join(dir, "net"), "WORK="+filepath.Join(dir, "work"), "SOURCE="+source)
}

// page is one page of the documentation.
type page struct {
	file string
	// after, if there is one, goes on with the network that the page has used. stop
	// ends that network, and missing are the programs without which blocks were left
	// out.
	after func(t *testing.T, dir string, stop func(), missing map[string]string)
}

// pages are those whose commands are run. Each has a network and a shell of its own.
func pages() []page {
	return []page{
		{file: "docs/algorithms.md", after: sameAgain},
		{file: "docs/dapps.md"},
		{file: "docs/validator.md"},
		{file: "docs/market.md"},
		{file: "docs/datasets.md"},
		{file: "docs/storage.md"},
		{file: "docs/checkpoints.md"},
		{file: "docs/endpoints.md"},
		{file: "docs/containers.md"},
		{file: "docs/environments.md"},
	}
}

func TestCommandsOfThePagesWork(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("bash is needed: on Debian, apt-get install bash")
	}
	bin := filepath.Join(t.TempDir(), "bin")
	build(t, bin)
	for _, p := range pages() {
		t.Run(filepath.Base(p.file), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			require.NoError(t, os.Symlink(bin, filepath.Join(dir, "bin")))
			require.NoError(t, os.CopyFS(filepath.Join(dir, "examples"), os.DirFS(filepath.Join(root, "examples"))))
			stop := devnet(t, dir, filepath.Join(dir, "net"))
			missing := follow(t, dir, p.file)
			if p.after != nil {
				p.after(t, dir, stop, missing)
			}
			for _, how := range missing {
				t.Skipf("its blocks were left out: install %s", how)
			}
		})
	}
}

// follow runs the blocks of a page in one shell. It returns how to get the programs
// whose blocks were left out, by their names.
func follow(t *testing.T, dir, file string) (missing map[string]string) {
	t.Helper()
	missing = map[string]string{}
	var script strings.Builder
	script.WriteString("set -euo pipefail\n")
	for _, b := range blocks(t, file) {
		lacks := slices.DeleteFunc(b.needs, func(program string) bool { return there(t.Context(), program) })
		for _, program := range lacks {
			missing[program] = howTo(t, program)
		}
		if len(lacks) > 0 {
			continue
		}
		fmt.Fprintf(&script, "echo '== %s:%d' >&2\n%s", file, b.line, b.code)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-s")
	cmd.Dir, cmd.Env, cmd.Stdin = dir, environment(dir), strings.NewReader(script.String())
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	require.NoError(t, err, "the last line with == names the block")
	return missing
}

// sameAgain holds that a run of a script is the same again, also after a restart.
func sameAgain(t *testing.T, dir string, stop func(), missing map[string]string) {
	t.Helper()
	languages := []string{"js"}
	if missing["npm"] == "" {
		languages = append(languages, "py")
	}
	first := map[string]run{}
	for _, l := range languages {
		first[l] = roll(t, dir, l)
		require.Equal(t, first[l], roll(t, dir, l), l)
	}
	stop()
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "net", "run.json")))
	devnet(t, dir, filepath.Join(dir, "net"))
	for _, l := range languages {
		require.Equal(t, first[l], roll(t, dir, l), "%s after a restart", l)
	}
}

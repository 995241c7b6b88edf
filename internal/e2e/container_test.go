package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/node"
	"github.com/limboid/massive-man/node/api"
	"github.com/limboid/massive-man/resources/container"
)

// shell is a provider with a container engine, a funded consumer of it, and an
// image of busybox.
type shell struct {
	provider *job
	home     string
	consumer string
	rpc      string
	image    string
}

// engineHost is the address of a container engine.
func engineHost(t *testing.T) string {
	t.Helper()
	host := os.Getenv("MMAN_DOCKER_HOST")
	if host == "" {
		t.Skip("no container engine: apt-get install docker.io busybox-static, start dockerd, and set MMAN_DOCKER_HOST to its address, for example unix:///var/run/docker.sock")
	}
	return host
}

func newShell(t *testing.T) *shell {
	t.Helper()
	host := engineHost(t)
	s := &shell{home: filepath.Join(t.TempDir(), "home"), consumer: t.TempDir()}
	s.provider = serve(t, s.home, "--engine", host, "--provide")
	eventually(t, within, "a container offer", func(context.Context) (bool, error) {
		return s.provider.ended() || strings.Contains(s.provider.out.String(), `"Container compute"`), nil
	})
	require.False(t, s.provider.ended(), "%s", &s.provider.errs)
	run, err := node.ReadRunning(s.home)
	require.NoError(t, err)
	s.rpc = run.RPC

	made := ask(t, s.consumer, 0, "--passphrase-file", write(t, s.consumer, "pass", []byte("for a test only\n")), "keys", "new", "me", "--mnemonic-file", filepath.Join(s.consumer, "words"))
	ask(t, s.home, 0, "--node", s.rpc, "send", fmt.Sprint(made["address"]), "50MAN")

	root := filepath.Join(t.TempDir(), "root")
	require.NoError(t, os.MkdirAll(filepath.Join(root, "bin"), 0o700))
	busybox, err := os.ReadFile("/bin/busybox")
	require.NoError(t, err, "apt-get install busybox-static")
	require.NoError(t, os.WriteFile(filepath.Join(root, "bin", "busybox"), busybox, 0o700))
	for _, name := range []string{"sh", "cat", "wc", "sleep", "wget", "stty", "grep", "true"} {
		require.NoError(t, os.Symlink("busybox", filepath.Join(root, "bin", name)))
	}
	s.image = filepath.Join(t.TempDir(), "shell.tar")
	ask(t, s.consumer, 0, "image", "build", root, "--entrypoint", "/bin/sh", "--env", "PATH=/bin", "--out", s.image)
	return s
}

// mman runs mman as the consumer.
func (s *shell) mman(t *testing.T, args ...string) *job {
	t.Helper()
	return run(t, s.consumer, append([]string{"client", "--node", s.rpc, "--passphrase-file", filepath.Join(s.consumer, "pass")}, args...)...)
}

// lend publishes a listing, in the place of what is lent.
func (s *shell) lend(t *testing.T, listing, before string) string {
	t.Helper()
	run, err := node.ReadRunning(s.home)
	require.NoError(t, err)
	if before != "" {
		require.Zero(t, s.own(t, "offer", "withdraw", before).code)
	}
	got, err := api.NewClient(run.API, run.Token).Publish(t.Context(), write(t, t.TempDir(), "listing.yaml", []byte(listing)))
	require.NoError(t, err)
	return got.Resource.String()
}

// own runs mman as the provider.
func (s *shell) own(t *testing.T, args ...string) *job {
	t.Helper()
	return run(t, s.home, append([]string{"client", "--node", s.rpc}, args...)...)
}

// TestContainer has an image run on a provider's engine, with data, and paid.
func TestContainer(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	data := write(t, t.TempDir(), "data.txt", []byte("one\ntwo\nthree\n"))
	out := filepath.Join(t.TempDir(), "out")
	j := s.mman(t, "request", "run", s.image, "-o", "json", "--data", data, "--input", data, "--out", out, "--", "-c", "wc -l < /data/0; cat; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
	require.Zero(t, j.code, "%s", &j.errs)
	printed, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, "3\none\ntwo\nthree\n", string(printed))
	answer := object(t, j.out.Bytes())
	usage, ok := answer["usage"].(map[string]any)
	require.True(t, ok)
	cpu, wall, memory := number(t, usage, "cpu_ms"), number(t, usage, "wall_ms"), number(t, usage, "mib_ms")
	require.Positive(t, cpu)
	require.LessOrEqual(t, cpu, wall)
	require.InDelta(t, wall*256, memory, 0, "256 MiB for as long as it ran")
	require.InDelta(t, 28, number(t, usage, "in_bytes"), 0)
	paid := cpu*100/1000 + memory*10/(1<<20)
	require.InDelta(t, paid, number(t, answer, "paid_uman"), 1, "processor and memory have a price, rounded up once")

	// The exit code is the program's own, and what it used is paid.
	j = s.mman(t, "request", "run", s.image, "--", "-c", "exit 7")
	require.Equal(t, 1, j.code)
	require.Contains(t, j.errs.String(), "exit code 7; what it used, ")
	// What ran in a container cannot be replayed.
	j = s.mman(t, "replay", fmt.Sprint(answer["receipt"]))
	require.Equal(t, 1, j.code)
	require.Contains(t, j.errs.String(), "need not be alike")

	// An image that is no image is refused before anybody is asked.
	j = s.mman(t, "request", "run", write(t, t.TempDir(), "bad.tar", []byte("no archive")))
	require.Equal(t, 1, j.code)
	require.Contains(t, j.errs.String(), "mman image build")
	quit(t, s.provider)
}

// TestContainerPolicy has a provider forbid time, network, a sandbox and an image.
func TestContainerPolicy(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	own := ""
	for line := range strings.Lines(s.provider.out.String()) {
		if _, rest, ok := strings.Cut(line, `"Container compute": resource `); ok {
			own, _, _ = strings.Cut(rest, ",")
		}
	}
	require.NotEmpty(t, own)

	// No network, whatever the program tries: not even the host's loopback.
	_, port, _ := strings.Cut(strings.TrimPrefix(s.rpc, "http://"), ":")
	j := s.mman(t, "request", "run", s.image, "--", "-c", "wget -q -O- http://127.0.0.1:"+port+"/status || echo no network")
	require.Zero(t, j.code, "%s", &j.errs)
	require.Equal(t, "no network\n", j.out.String())
	// Who cannot do without one is told which rule forbids it.
	j = s.mman(t, "request", "run", s.image, "--network", "--", "-c", "true")
	require.Equal(t, 3, j.code, "%s", &j.errs)
	require.Contains(t, j.errs.String(), "limits.network")
	// gVisor is demanded and used; what this engine does not do is refused.
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	require.NoError(t, err)
	j = s.mman(t, "request", "run", s.image, "--sandbox", "gvisor", "--", "-c", "cat /proc/version")
	require.Zero(t, j.code, "apt-get install runsc, and name it to the engine: %s", &j.errs)
	require.NotContains(t, j.out.String(), strings.TrimSpace(string(kernel)), "it is another kernel")
	j = s.mman(t, "request", "run", s.image, "--sandbox", "runc", "--", "-c", "true")
	require.NotZero(t, j.code)
	require.Contains(t, j.errs.String(), "does not meet your own --where", "the demand of --sandbox")
	// Nobody offers what is demanded, and the answer says why.
	j = s.mman(t, "request", "run", s.image, "--where", `"network=host" in offer.attributes`, "--", "-c", "true")
	require.NotZero(t, j.code)
	require.Contains(t, j.errs.String(), "does not meet your own --where")

	// A second at most, and only other images than ours.
	const terms = `
resource: {kind: compute, facet: container, name: "short work"}
policy:
  default: allow
  rules:
    - {id: no-shells, effect: deny, phase: match, when: %s}
  limits: {wall: 1s, network: none}
price: {units: [{unit: cpu_ms, per: 1000, price: 0.0001MAN}]}
`
	brief := s.lend(t, fmt.Sprintf(terms, "consumer.reputation < 0"), own)
	j = s.mman(t, "request", "run", s.image, "--new-lease", "--", "-c", "sleep 30")
	require.Equal(t, 1, j.code, "%s", &j.errs)
	require.Contains(t, j.errs.String(), "wall time limit reached: it ran for 1000 ms")
	s.lend(t, fmt.Sprintf(terms, "algorithm.supplied"), brief)
	j = s.mman(t, "request", "run", s.image, "--new-lease", "--", "-c", "true")
	require.Equal(t, 3, j.code, "%s", &j.errs)
	require.Contains(t, j.errs.String(), "no-shells")
	quit(t, s.provider)
}

// TestContainerREPL talks to a shell in a container: with a script and its files, and
// at a terminal.
func TestContainerREPL(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	verb := []string{"client", "--node", s.rpc, "--passphrase-file", filepath.Join(s.consumer, "pass")}
	j := s.mman(t, "request", "repl", "sh")
	require.Equal(t, 4, j.code, "%s", &j.errs)
	require.Contains(t, j.errs.String(), "nobody lends a REPL of sh")

	listing := filepath.Join(t.TempDir(), "sh.yaml")
	require.NoError(t, os.WriteFile(listing, []byte("resource: {kind: algorithm, facet: container, name: Shell, content: "+s.image+", attributes: {repl: sh}}\npolicy: {default: allow}\n"), 0o600))
	require.Zero(t, s.own(t, "resource", "add", listing).code)
	doc, err := node.ReadGenesis(s.home)
	require.NoError(t, err)
	owner, err := node.ContainerOwner(doc.ChainID, s.home)
	require.NoError(t, err)
	eventually(t, within, "a container that stands ready", func(ctx context.Context) (bool, error) {
		n, err := container.CountReady(ctx, os.Getenv("MMAN_DOCKER_HOST"), owner)
		return n > 0, err
	})

	script := prepare(t, s.consumer, append(verb, "request", "repl", "sh", "--put", write(t, t.TempDir(), "up.txt", []byte("from here\n")), "--get", "down.txt", "--meter")...)
	script.cmd.Stdin = strings.NewReader("cat up.txt; echo from there > down.txt; echo aside >&2; exit 7\n")
	require.Equal(t, 7, script.start(t).end(t, within), "the program's own: %s", &script.errs)
	require.Equal(t, "from here\n", script.out.String())
	require.Contains(t, script.errs.String(), "aside\n")
	require.Contains(t, script.errs.String(), "mman: paid 0.0000")
	down, err := os.ReadFile(filepath.Join(script.cmd.Dir, "down.txt"))
	require.NoError(t, err)
	require.Equal(t, "from there\n", string(down))

	lost := prepare(t, s.consumer, append(verb, "request", "repl", "sh", "--get", "lost.txt")...)
	lost.cmd.Stdin = strings.NewReader("true\n")
	require.Equal(t, 4, lost.start(t).end(t, within))
	require.Contains(t, lost.errs.String(), "lost.txt is not there")
	require.NoFileExists(t, filepath.Join(lost.cmd.Dir, "lost.txt"))

	// Where nothing is typed and nothing said, the session ends by itself.
	in, nothing, err := os.Pipe()
	require.NoError(t, err)
	defer func() { require.NoError(t, errors.Join(in.Close(), nothing.Close())) }()
	quiet := prepare(t, s.consumer, append(verb, "request", "repl", "sh", "--idle", "1s")...)
	quiet.cmd.Stdin = in
	require.Equal(t, 1, quiet.start(t).end(t, within))
	require.Contains(t, quiet.errs.String(), "idle")

	person, screen := openTerminal(t, 91, 31)
	at := prepare(t, s.consumer, append(verb, "request", "repl", "sh", "--plain")...)
	at.cmd.Stdin, at.cmd.Stdout, at.cmd.Stderr = screen, screen, screen
	at.start(t)
	person.hears("/tmp $ ")
	person.types("stty size; printf '\\033]0;title\\007\\033[31mred\\n'\r")
	require.Contains(t, person.hears("red\r\n"), "\n31 91\r\nred", "what could steer the terminal does not come")
	person.resize(100, 40)
	person.types("until stty size | grep '40 100'; do sleep 0.1; done\r")
	person.hears("\n40 100\r\n")
	person.types("sh -c 'echo under way; exec sleep 1000'\r")
	person.hears("\nunder way\r\n")
	person.types("\x03echo code $?\r")
	person.hears("\ncode 130\r\n")
	person.types("~cput " + write(t, at.cmd.Dir, "typed.txt", []byte("put by hand\n")) + "\r")
	person.hears("mman: put typed.txt")
	person.types("cat typed.txt > again.txt; echo copied\r")
	person.hears("\ncopied\r\n")
	person.types("\r~cget again.txt\r")
	person.hears("mman: got again.txt")
	person.types("~ccost\r")
	person.hears("MAN so far")
	person.types("for i in 1 2; do\r")
	person.types("echo row $i\r")
	person.types("done\r")
	person.hears("\nrow 1\r\nrow 2\r\n")       // a command of several lines
	person.hears("/tmp $ ")                    // keys mean something to the editor from here on
	person.types("echo $((20+3)) a\x02\x7f\r") // Ctrl-B and backspace
	person.hears("\n23a\r\n")                  // the line was edited
	person.hears("/tmp $ ")
	person.types("\x10\r")    // Ctrl-P
	person.hears("\n23a\r\n") // and came back from the history
	person.hears("/tmp $ ")
	person.types("sh -c 'exit 3'\r")
	person.hears("/tmp $ ")
	person.types("\x04") // Ctrl-D
	require.Equal(t, 3, at.end(t, within))
	got, err := os.ReadFile(filepath.Join(at.cmd.Dir, "again.txt"))
	require.NoError(t, err)
	require.Equal(t, "put by hand\n", string(got))

	// SIGTERM lets what runs go on for a while, then ends it, and it is paid. Until
	// then the list of offers says what runs, for whom, and what it earns.
	person, screen = openTerminal(t, 80, 24)
	at = prepare(t, s.consumer, append(verb, "request", "repl", "sh", "--plain")...)
	at.cmd.Stdin, at.cmd.Stdout, at.cmd.Stderr = screen, screen, screen
	at.start(t)
	person.hears("/tmp $ ")
	list := s.own(t, "offer", "list")
	require.Zero(t, list.code, "%s", &list.errs)
	require.Regexp(t, `(?m)^baf\S+ +compute/container .* 1 +0\.0\d*[1-9]\d*MAN *$`, list.out.String())
	require.Regexp(t, `(?m)^baf\S+ runs conversation \d+ of lease [0-9a-f]{40} for man1\S+ since \S+, paid 0\.\d+MAN$`, list.out.String())
	quit(t, s.provider)
	person.hears("ended by its provider")
	require.Equal(t, 1, at.end(t, within))
	n, err := container.CountReady(t.Context(), os.Getenv("MMAN_DOCKER_HOST"), owner)
	require.NoError(t, err)
	require.Zero(t, n, "none stays")
}

// TestContainerCrash kills a provider in the middle of a run: its next start removes
// what it left behind.
func TestContainerCrash(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	j := begin(t, s.consumer, "client", "--node", s.rpc, "--passphrase-file", filepath.Join(s.consumer, "pass"), "request", "run", s.image, "--", "-c", "sleep 50")
	engine, err := client.New(client.WithHost(os.Getenv("MMAN_DOCKER_HOST")))
	require.NoError(t, err)
	defer func() { require.NoError(t, engine.Close()) }()
	doc, err := node.ReadGenesis(s.home)
	require.NoError(t, err)
	owner, err := node.ContainerOwner(doc.ChainID, s.home)
	require.NoError(t, err)
	eventually(t, within, "a container", func(ctx context.Context) (bool, error) {
		got, err := engine.ContainerList(ctx, client.ContainerListOptions{Filters: client.Filters{}.Add("label", "mman.owner="+owner)})
		return len(got.Items) > 0 || j.ended(), err
	})
	require.False(t, j.ended(), "%s", &j.errs)
	s.provider.kill(t)
	j.kill(t)
	s.provider = serve(t, s.home, "--engine", os.Getenv("MMAN_DOCKER_HOST"), "--provide")
	eventually(t, within, "a container offer", func(context.Context) (bool, error) {
		return s.provider.ended() || strings.Contains(s.provider.out.String(), `"Container compute"`), nil
	})
	require.Contains(t, s.provider.errs.String(), "containers=1", "one was left behind, and removed")
	quit(t, s.provider)
}

package container_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/container"
	"github.com/limboid/massive-man/resources/folder"
	"github.com/limboid/massive-man/resources/resourcestest"
)

// attack is what a hostile program tries. It prints "got it" where it succeeds, and
// it does with its defence switched off.
type attack struct {
	line string
	// without is what must be switched off for it to succeed; never nothing.
	without container.Undefended
	// stopped is how its run ends when it is defended against; nil when the program
	// goes on and does not get it.
	stopped error
}

const gotIt = "got it"

// attacks are the first table of docs/hostile.md.
func attacks(t *testing.T) map[string]attack {
	t.Helper()
	// A service on the host's loopback, which an attacker wants to reach.
	service, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() {
		for {
			conn, err := service.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("HTTP/1.0 200 OK\r\n\r\nsecret")) // the attacker may be gone
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = service.Close() })
	return map[string]attack{
		"memory bomb":           {"busybox dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null && echo got it", container.Undefended{Memory: true}, nil},
		"fork bomb":             {"i=0; while [ $i -lt 200 ]; do sleep 20 & i=$((i+1)); done; [ $(ls -d /proc/[0-9]* | wc -l) -gt 190 ] && echo got it", container.Undefended{Processes: true}, nil},
		"disk filler, root":     {"dd if=/dev/zero of=/filler bs=1M count=100 2>/dev/null && echo got it", container.Undefended{Disk: true, Root: true, Capabilities: true}, nil},
		"disk filler, scratch":  {"dd if=/dev/zero of=/tmp/filler bs=1M count=100 2>/dev/null && echo got it", container.Undefended{Scratch: true, Memory: true}, nil},
		"network, the loopback": {"wget -q -O- http://" + service.Addr().String() + "/ | busybox grep -q secret && echo got it", container.Undefended{Network: true}, nil},
		"network, interfaces":   {"[ $(ls /sys/class/net | wc -l) -gt 1 ] && echo got it || { busybox grep -vq 'lo:\\|face\\|Inter' /proc/net/dev && echo got it; }", container.Undefended{Network: true}, nil},
		"device, made":          {"mknod /tmp/d b 7 0 && echo got it", container.Undefended{Devices: true, Root: true}, nil},
		"device, kernel log":    {"busybox dmesg >/dev/null 2>&1 && echo got it", container.Undefended{Capabilities: true, Root: true, Seccomp: true}, nil},
		"engine's socket":       {"[ -S /var/run/docker.sock ] && echo got it", container.Undefended{Sockets: true}, nil},
		"mount":                 {"mount -t tmpfs none /tmp && echo got it", container.Undefended{Capabilities: true, Root: true, Seccomp: true}, nil},
		"namespace":             {"unshare -m true && echo got it", container.Undefended{Capabilities: true, Root: true, Seccomp: true}, nil},
		"user namespace":        {"unshare -r true && echo got it", container.Undefended{Seccomp: true}, nil},
		"host's processes":      {"[ $(ls -d /proc/[0-9]* | wc -l) -gt 20 ] && echo got it", container.Undefended{ProcessesOf: true}, nil},
		"kernel's settings":     {"cat /proc/sys/kernel/printk > /proc/sys/kernel/printk && echo got it", container.Undefended{Masks: true, Root: true}, nil},
		"root":                  {"[ $(id -u) = 0 ] && echo got it", container.Undefended{Root: true}, nil},
		"output flood":          {"yes | head -c 2000000; echo got it", container.Undefended{Output: true}, mman.ErrOutput},
		"signals others":        {"kill -0 " + strconv.Itoa(bystander(t)) + " && echo got it", container.Undefended{ProcessesOf: true, Root: true, Capabilities: true}, nil},
		"reads the kernel":      {"cat /proc/kcore /proc/timer_list 2>/dev/null | head -c 1 | busybox grep -q . && echo got it", container.Undefended{Masks: true, Root: true}, nil},
	}
}

// bystander is a process of the host's.
func bystander(t *testing.T) (pid int) {
	t.Helper()
	cmd := exec.Command("/bin/busybox", "sleep", "1000")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Kill(), "it was not touched")
		_ = cmd.Wait() // it was killed
	})
	return cmd.Process.Pid
}

func hostile(t *testing.T, off container.Undefended, archive []byte) outcome {
	t.Helper()
	c := config(t)
	e := open(t, c, off)
	task := task(&resourcestest.Content{}, archive)
	task.Limits.OutputBytes = 1 << 20
	task.Limits.WallMs = 20_000
	return run(t, e, task)
}

func TestHostile(t *testing.T) { //nolint:tparallel // the attacks are over before the neighbour is asked
	t.Parallel()
	engineHost(t)
	// Somebody else's session, which goes on beside all of them.
	neighbour := newPerson()
	screen := resources.Terminal{Columns: 80, Rows: 24}
	shell := task(&resourcestest.Content{}, shellImage(t))
	shell.Limits.WallMs = 3_600_000
	end := neighbour.talks(t, open(t, config(t), container.Undefended{}), shell, &screen)
	neighbour.types("echo mine > /tmp/kept; echo $((40+2))\r")
	neighbour.hears(t, "\n42\r\n")
	t.Run("attacks", attackAll)
	neighbour.types("cat /tmp/kept; exit 7\r")
	neighbour.hears(t, "\nmine\r\n")
	got := <-end
	require.NoError(t, got.err)
	require.EqualValues(t, 7, got.result.ExitCode)
}

func attackAll(t *testing.T) {
	for name, a := range attacks(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			archive := does(t, a.line+"; true")
			held := hostile(t, container.Undefended{}, archive)
			require.NotContains(t, held.stdout, gotIt)
			if a.stopped != nil {
				require.ErrorIs(t, held.err, a.stopped)
			}
			free := hostile(t, a.without, archive)
			require.Contains(t, free.stdout, gotIt, "without its defence the attack must work: %v %s", free.err, free.stderr)
		})
	}
}

// setuid is an image with a program that runs as root whoever starts it.
func setuid(t *testing.T) []byte {
	t.Helper()
	program := container.WhoAmI(runtime.GOARCH)
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, f := range []struct {
		name string
		mode int64
	}{{"bin/", 0o755}, {"bin/whoami", 0o4755}} {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(program))}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag, h.Size = tar.TypeDir, 0
		}
		require.NoError(t, w.WriteHeader(h))
		if h.Size > 0 {
			_, err := w.Write(program)
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Close())
	return imageOf(t, layer.Bytes(), `"Entrypoint":["/bin/whoami"]`, nil)
}

func TestSetuid(t *testing.T) {
	t.Parallel()
	engineHost(t)
	const nobody = 65534 & 0xff
	held := hostile(t, container.Undefended{}, setuid(t))
	require.NoError(t, held.err)
	require.EqualValues(t, nobody, held.result.ExitCode)
	free := hostile(t, container.Undefended{Privileges: true}, setuid(t))
	require.NoError(t, free.err)
	require.Zero(t, free.result.ExitCode, "without its defence the attack must work")
}

// TestSideBySide has three programs that each take nearly all the processes that one
// may have, at the same time.
func TestSideBySide(t *testing.T) {
	t.Parallel()
	archive := does(t, "i=0; while [ $i -lt 100 ]; do sleep 5 & i=$((i+1)); done; wait && echo all")
	e := open(t, config(t), container.Undefended{})
	said := make([]outcome, 3)
	var running sync.WaitGroup
	for i := range said {
		prepared, err := e.Prepare(t.Context(), task(&resourcestest.Content{}, archive))
		require.NoError(t, err)
		running.Go(func() {
			var stdout, stderr bytes.Buffer
			_, said[i].err = e.Run(t.Context(), prepared, resources.IO{Stdout: &stdout, Stderr: &stderr})
			said[i].stdout, said[i].stderr = stdout.String(), stderr.String()
			said[i].err = errors.Join(said[i].err, prepared.Close())
		})
	}
	running.Wait()
	for _, o := range said {
		require.NoError(t, o.err, o.stderr)
		require.Equal(t, "all\n", o.stdout, o.stderr)
	}
}

// TestIgnoresSignals has a program that does not want to end.
func TestIgnoresSignals(t *testing.T) {
	t.Parallel()
	for _, undefended := range []bool{false, true} {
		c := config(t)
		e := open(t, c, container.Undefended{Kill: undefended})
		stubborn := task(&resourcestest.Content{}, does(t, "trap '' TERM INT HUP QUIT; while :; do sleep 1; done"))
		stubborn.Limits.WallMs = 300
		require.ErrorIs(t, run(t, e, stubborn).err, mman.ErrWall)
		left, err := container.Containers(t.Context(), c.Host, c.Owner)
		require.NoError(t, err)
		require.Equal(t, undefended, len(left) == 1, "it is gone, unless it is only asked to go")
	}
}

// TestNames has an image that bears the name of one that the host trusts.
func TestNames(t *testing.T) {
	t.Parallel()
	for _, undefended := range []bool{false, true} {
		c := config(t)
		e := open(t, c, container.Undefended{Names: undefended})
		trusted := c.Owner + "/trusted:latest"
		var layer bytes.Buffer
		require.NoError(t, tar.NewWriter(&layer).Close())
		shadow := imageOf(t, layer.Bytes(), `"Cmd":["/evil"]`, []string{trusted})
		_, err := e.Prepare(t.Context(), task(&resourcestest.Content{}, shadow))
		require.NoError(t, err)
		id, err := container.Named(t.Context(), c.Host, trusted)
		require.NoError(t, err)
		require.Equal(t, undefended, id != "", "what the host calls %s is %q", trusted, id)
	}
}

// TestDevicesInImages has an image bring the device that it wants.
func TestDevicesInImages(t *testing.T) {
	t.Parallel()
	e := open(t, config(t), container.Undefended{})
	_, err := e.Prepare(t.Context(), task(&resourcestest.Content{}, withDevice(t)))
	require.ErrorIs(t, err, mman.ErrImport)
	free := open(t, config(t), container.Undefended{Devices: true})
	_, err = free.Prepare(t.Context(), task(&resourcestest.Content{}, withDevice(t)))
	require.NoError(t, err, "without its defence the attack must work")
}

// TestGVisor has programs run in gVisor where the engine has it, and told so.
func TestGVisor(t *testing.T) {
	t.Parallel()
	c := config(t)
	c.Plain = false
	e := open(t, c, container.Undefended{})
	if !e.Facts().GVisor {
		t.Skip("the engine has no gVisor: apt-get install runsc, and name it runsc among the runtimes of /etc/docker/daemon.json")
	}
	require.Equal(t, resources.SandboxGVisor, e.Sandbox())
	content := &resourcestest.Content{}
	inside := run(t, e, task(content, does(t, "cat /proc/version; id -u; wc -c < /data/0"), ""))
	require.NotContains(t, inside.stdout, kernel(t), "it is another kernel")
	large := task(content, does(t, "dd if=/dev/zero of=/dev/null bs=300M count=1"))
	require.ErrorIs(t, run(t, e, large).err, mman.ErrMemory)
	bare := config(t)
	bare.Plain = false
	free := run(t, open(t, bare, container.Undefended{Memory: true}), large)
	require.NoError(t, free.err, "without its defence the attack must work")
	require.Zero(t, free.result.ExitCode)
	require.Equal(t, "still there\n", run(t, e, task(content, does(t, "echo still there"))).stdout)
}

// TestFolderInput: a folder among the inputs is one in the container, and nobody
// writes to it.
func TestFolderInput(t *testing.T) {
	t.Parallel()
	e := open(t, config(t), container.Undefended{})
	var pack bytes.Buffer
	require.NoError(t, folder.Pack(t.Context(), fstest.MapFS{"a.txt": {Data: []byte("first\n")}, "deep/er/b.txt": {Data: []byte("second\n")}}, &pack))
	content := &resourcestest.Content{}
	want := task(content, does(t, "cat /data/0/a.txt /data/0/deep/er/b.txt; ls /data/0; echo x > /data/0/c || echo refused"))
	want.Inputs, want.Folders = []mman.CID{content.Add(pack.Bytes())}, []bool{true}
	require.Equal(t, "first\nsecond\na.txt\ndeep\nrefused\n", run(t, e, want).stdout)
}

// kernel is the host's version, as /proc tells it.
func kernel(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	require.NoError(t, err)
	return strings.TrimSpace(string(b))
}

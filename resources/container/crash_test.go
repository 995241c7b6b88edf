package container_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/container"
	"github.com/limboid/massive-man/resources/container/hosting"
	"github.com/limboid/massive-man/resources/resourcestest"
)

// daemon is an engine of a test's own, which it may kill.
type daemon struct {
	t    *testing.T
	dir  string
	args []string
	cmd  *exec.Cmd
}

// newDaemon starts an engine that has no network and touches none.
func newDaemon(t *testing.T) *daemon {
	t.Helper()
	program, err := exec.LookPath("dockerd")
	if err != nil || os.Getuid() != 0 {
		t.Skip("no engine to kill: as root, apt-get install docker.io")
	}
	dir, err := os.MkdirTemp("", "crash-") //nolint:usetesting // a socket's path must be short
	require.NoError(t, err)
	at := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.WriteFile(at("daemon.json"), []byte("{}"), 0o600))
	d := &daemon{t: t, dir: dir, args: []string{
		program, "--config-file", at("daemon.json"), "--data-root", at("data"), "--exec-root", at("exec"), "--pidfile", at("pid"), "-H", "unix://" + at("sock"),
		"--exec-opt", "native.cgroupdriver=cgroupfs", "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
	}}
	t.Cleanup(d.remove)
	d.start()
	return d
}

func (d *daemon) host() string { return "unix://" + filepath.Join(d.dir, "sock") }

// start starts it and waits until it answers.
func (d *daemon) start() {
	d.t.Helper()
	log, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(d.t, err)
	d.cmd = exec.Command(d.args[0], d.args[1:]...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	require.NoError(d.t, d.cmd.Start())
	require.NoError(d.t, log.Close())
	require.Eventually(d.t, func() bool {
		ctx, cancel := context.WithTimeout(d.t.Context(), 10*time.Second)
		defer cancel()
		_, err := container.Detect(ctx, d.host())
		return err == nil
	}, 2*time.Minute, 50*time.Millisecond, "the engine does not start; its log is in %s", d.dir)
}

// kill ends it as a crash would: what it began goes on without it.
func (d *daemon) kill() {
	d.t.Helper()
	require.NoError(d.t, d.cmd.Process.Kill())
	_ = d.cmd.Wait() // it was killed
}

// remove ends it in order, and with it what is below it.
func (d *daemon) remove() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // it may be dead
	_ = d.cmd.Wait()                          // as above
	if b, err := os.ReadFile(filepath.Join(d.dir, "exec", "containerd", "containerd.pid")); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL) // of a start that failed
		}
	}
	for _, mounted := range []string{"exec/netns/default", "data"} { // which the engine leaves
		_ = syscall.Unmount(filepath.Join(d.dir, mounted), syscall.MNT_DETACH)
	}
	_ = os.RemoveAll(d.dir) // a temporary folder
}

// TestEngineCrash kills the engine under a hosted service, a conversation and a job: each
// ends with what it used, and the engine that comes after has nothing of them left.
func TestEngineCrash(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	c := config(t)
	c.Host = d.host()
	e := open(t, c, container.Undefended{})
	g := host(t, e, web, resources.Service{Port: 8080, Health: "/index.html", HealthMs: 100, Restart: resources.RestartAlways})
	g.until(hosting.Healthy)
	content := &resourcestest.Content{}
	p := newPerson()
	talk := p.talks(t, e, task(content, shellImage(t)), nil)
	p.types("echo here\n")
	p.hears(t, "here\n")
	job, err := e.Prepare(t.Context(), task(content, does(t, "echo at work; sleep 1000")))
	require.NoError(t, err)
	working, worked := newPerson(), make(chan ended, 1)
	go func() {
		result, err := e.Run(t.Context(), job, resources.IO{Stdout: sink{working, &working.said}})
		worked <- ended{result, errors.Join(err, job.Close())}
	}()
	working.hears(t, "at work\n")

	d.kill()
	end := g.ended()
	require.ErrorIs(t, end.err, mman.ErrStopped)
	require.Positive(t, end.result.Usage.WallMs, "what it used is known")
	for name, done := range map[string]<-chan ended{"conversation": talk, "job": worked} {
		select {
		case got := <-done:
			require.Error(t, got.err, name)
			require.Positive(t, got.result.Usage.WallMs, name)
		case <-time.After(patience):
			require.FailNow(t, "it does not end", name)
		}
	}

	d.start()
	_, err = e.Sweep(t.Context())
	require.NoError(t, err)
	left, err := container.Containers(t.Context(), c.Host, c.Owner)
	require.NoError(t, err)
	require.Empty(t, left)
	require.Equal(t, "again\n", run(t, e, task(content, does(t, "echo again"))).stdout)
}

package container_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/container"
	"github.com/limboid/massive-man/resources/container/image"
	"github.com/limboid/massive-man/resources/resourcestest"
)

// engineHost returns the address of a container engine for tests.
func engineHost(t *testing.T) string {
	t.Helper()
	host := os.Getenv("MMAN_DOCKER_HOST")
	if host == "" {
		t.Skip("no container engine: apt-get install docker.io busybox-static, start dockerd, and set MMAN_DOCKER_HOST to its address, for example unix:///var/run/docker.sock")
	}
	return host
}

func ticker(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTicker(d)
	return t.C, t.Stop
}

// config is of an executor with everything of its own, which is removed at the end.
func config(t *testing.T) container.Config {
	t.Helper()
	var b [8]byte
	_, err := rand.Read(b[:])
	require.NoError(t, err)
	c := container.Config{
		Host: engineHost(t), Dir: filepath.Join(t.TempDir(), "containers"), Owner: "test-" + hex.EncodeToString(b[:]),
		Clock: time.Now, After: time.After, Ticker: ticker, Plain: true, MaxRuns: 4,
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, container.Purge(ctx, c.Host, c.Owner))
	})
	return c
}

func open(t *testing.T, c container.Config, off container.Undefended) *container.Executor {
	t.Helper()
	e, err := container.NewUndefended(t.Context(), c, off)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

var busybox = sync.OnceValues(func() ([]byte, error) { return os.ReadFile("/bin/busybox") })

// archive makes an image of busybox that runs a command.
func archive(t *testing.T, o image.Options) []byte {
	t.Helper()
	program, err := busybox()
	require.NoError(t, err, "apt-get install busybox-static")
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "bin"), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(root, "bin", "busybox"), program, 0o700))
	for _, name := range []string{"sh", "cat", "yes", "id", "head", "dd", "sleep", "mount", "mknod", "unshare", "wget", "ls", "wc", "kill", "stat", "chmod", "cp", "date", "stty"} {
		require.NoError(t, os.Symlink("busybox", filepath.Join(root, "bin", name)))
	}
	o.Arch = runtime.GOARCH
	o.Env = []string{"PATH=/bin"}
	var b bytes.Buffer
	_, err = image.Build(t.Context(), &b, root, o)
	require.NoError(t, err)
	return b.Bytes()
}

// does is an image that runs a line of the shell.
func does(t *testing.T, line string) []byte {
	t.Helper()
	return archive(t, image.Options{Entrypoint: []string{"/bin/sh", "-c", line, "program"}})
}

// withDevice is an image with a device file.
func withDevice(t *testing.T) []byte {
	t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeBlock, Name: "disk", Mode: 0o666, Devmajor: 254}))
	require.NoError(t, w.Close())
	return imageOf(t, layer.Bytes(), `"Entrypoint":["/bin/true"]`, nil)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	engineHost(t)
	resourcestest.Run(t, resourcestest.Harness{
		New: func(t *testing.T) resourcestest.Closer {
			t.Helper()
			e, err := container.New(t.Context(), config(t))
			require.NoError(t, err)
			return e
		},
		Echo:            archive(t, image.Options{Entrypoint: []string{"/bin/cat"}}),
		Args:            does(t, `printf '%s\0' "$0" "$@"`),
		Exit3:           does(t, "exit 3"),
		LoopForever:     does(t, "while :; do :; done"),
		AllocateForever: does(t, "x=xxxxxxxx; while :; do x=$x$x; done"),
		PrintForever:    archive(t, image.Options{Entrypoint: []string{"/bin/yes"}}),
		Trap:            does(t, "kill -SEGV $$"),
		ReadInput:       archive(t, image.Options{Entrypoint: []string{"/bin/cat", "/data/0"}}),
		NotProgram:      []byte("no image"),
		ForbiddenImport: withDevice(t),
	})
}

// outcome is all that a run gave.
type outcome struct {
	stdout, stderr string
	result         resources.Result
	err            error
}

// run has one program run.
func run(t *testing.T, e *container.Executor, task resources.Task) outcome {
	t.Helper()
	prepared, err := e.Prepare(t.Context(), task)
	require.NoError(t, err)
	var stdout, stderr bytes.Buffer
	result, err := e.Run(t.Context(), prepared, resources.IO{Stdout: &stdout, Stderr: &stderr})
	require.NoError(t, prepared.Close())
	return outcome{stdout.String(), stderr.String(), result, err}
}

// task is a run of an image, with a minute and 64 MiB.
func task(content *resourcestest.Content, archive []byte, args ...string) resources.Task {
	limits := resources.DefaultLimits()
	limits.MemoryBytes = 64 << 20
	return resources.Task{Algorithm: content.Add(archive), Facet: resources.FacetContainer, Args: args, Limits: limits, Content: content}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	e := open(t, config(t), container.Undefended{})
	content := &resourcestest.Content{}
	busy := run(t, e, task(content, does(t, "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done")))
	require.NoError(t, busy.err)
	used := busy.result.Usage
	require.Positive(t, used.CPUMs, "a loop takes processor time")
	require.LessOrEqual(t, used.CPUMs, used.WallMs, "one processor at most")
	require.Equal(t, used.WallMs*64, used.MemoryMs, "64 MiB were set aside")

	idle := run(t, e, task(content, does(t, "sleep 0.5")))
	require.NoError(t, idle.err)
	require.GreaterOrEqual(t, idle.result.Usage.WallMs, uint64(500))
	require.Less(t, idle.result.Usage.CPUMs, idle.result.Usage.WallMs/2, "who sleeps takes no processor time")
}

func TestImages(t *testing.T) {
	t.Parallel()
	c := config(t)
	c.CacheBytes = 5 << 20 // two of busybox
	e := open(t, c, container.Undefended{})
	content := &resourcestest.Content{}
	images := []resources.Task{task(content, does(t, "echo 0")), task(content, does(t, "echo 1")), task(content, does(t, "echo 2"))}
	for range 2 { // the second time the image is there
		require.Equal(t, "0\n", run(t, e, images[0]).stdout)
	}
	got, err := container.Images(t.Context(), c.Host, c.Owner)
	require.NoError(t, err)
	require.Len(t, got, 1, "an archive is loaded once")
	first := got[0]
	require.Equal(t, "1\n", run(t, e, images[1]).stdout)
	require.Equal(t, "2\n", run(t, e, images[2]).stdout)
	got, err = container.Images(t.Context(), c.Host, c.Owner)
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.NotContains(t, got, first, "what was used least recently went")

	// Another process finds what is there, and loads what somebody removed.
	require.NoError(t, e.Close())
	again := open(t, c, container.Undefended{})
	require.Equal(t, "2\n", run(t, again, images[2]).stdout)
	require.NoError(t, container.Purge(t.Context(), c.Host, c.Owner))
	require.Equal(t, "2\n", run(t, again, images[2]).stdout)
}

// TestOrphans has an executor vanish in the middle of a run, as at a crash.
func TestOrphans(t *testing.T) {
	t.Parallel()
	c := config(t)
	lost := open(t, c, container.Undefended{Kill: true})
	content := &resourcestest.Content{}
	forever := task(content, does(t, "echo up; while :; do sleep 1; done"))
	forever.Limits.WallMs = 300
	require.ErrorIs(t, run(t, lost, forever).err, mman.ErrWall)
	left, err := container.Containers(t.Context(), c.Host, c.Owner)
	require.NoError(t, err)
	require.Len(t, left, 1)

	next := open(t, c, container.Undefended{})
	require.Equal(t, 1, next.Swept())
	left, err = container.Containers(t.Context(), c.Host, c.Owner)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	c := config(t)
	e := open(t, c, container.Undefended{})
	content := &resourcestest.Content{}
	none := task(content, archive(t, image.Options{}))
	_, err := e.Prepare(t.Context(), none)
	require.ErrorIs(t, err, mman.ErrModule)
	require.ErrorContains(t, err, "name a command after --")
	none.Args = []string{"/bin/sh", "-c", "echo given"}
	require.Equal(t, "given\n", run(t, e, none).stdout)
	none.Args = []string{"/bin/lost"}
	if lost := run(t, e, none); e.Facts().Podman { // which does not tell that it never began
		require.NoError(t, lost.err)
		require.EqualValues(t, 127, lost.result.ExitCode)
	} else {
		require.ErrorIs(t, lost.err, mman.ErrModule)
	}

	small := task(content, does(t, "echo"))
	small.Limits.MemoryBytes = container.MinMemoryBytes - 1
	_, err = e.Prepare(t.Context(), small)
	require.ErrorIs(t, err, mman.ErrMemory)
	script := task(content, []byte("console.log(1)"))
	script.Facet = resources.FacetJS
	_, err = e.Prepare(t.Context(), script)
	require.ErrorIs(t, err, mman.ErrUnsupported)

	large := c
	large.ImageBytes, large.Owner, large.Dir = 1<<20, c.Owner+"-l", filepath.Join(t.TempDir(), "l")
	_, err = open(t, large, container.Undefended{}).Prepare(t.Context(), task(content, does(t, "echo")))
	require.ErrorIs(t, err, mman.ErrTooLarge)

	lost := c
	lost.Host = "unix://" + filepath.Join(t.TempDir(), "none.sock")
	_, err = container.New(t.Context(), lost)
	require.ErrorIs(t, err, mman.ErrUnreachable)
	lost.Owner = "Not Me"
	_, err = container.New(t.Context(), lost)
	require.ErrorIs(t, err, mman.ErrInvalid)
}

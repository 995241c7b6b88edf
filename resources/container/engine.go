package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// Labels of everything that is made in an engine.
const (
	labelOwner = "mman.owner"
	labelImage = "mman.image" // the CID of the archive
)

// answerWithin bounds what an engine is asked beside a run.
const answerWithin = 30 * time.Second

// Facts are what an engine says of itself.
type Facts struct {
	// Host is its address, Version its own.
	Host, Version string
	// Podman is set for what is Podman, and not Docker.
	Podman bool
	// GVisor is set when it can run programs in gVisor.
	GVisor bool
	// Arch is its processor in Go's words; CPUs and MemoryBytes are its machine's.
	Arch        string
	CPUs        int
	MemoryBytes uint64
}

// Detect asks the engine at a host what it is. It fails with mman.ErrUnreachable.
func Detect(ctx context.Context, host string) (Facts, error) {
	c, err := dial(host)
	if err != nil {
		return Facts{}, err
	}
	facts, err := ask(ctx, c, host)
	return facts, errors.Join(err, c.Close())
}

func dial(host string) (*client.Client, error) {
	c, err := client.New(client.WithHost(host))
	if err != nil {
		return nil, fmt.Errorf("%w: container engine %.200q: %w", mman.ErrInvalid, host, err)
	}
	return c, nil
}

func ask(ctx context.Context, c *client.Client, host string) (Facts, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	got, err := c.Info(ctx, client.InfoOptions{})
	if err != nil {
		return Facts{}, fmt.Errorf("%w: container engine at %s: %w; start it, or name another one", mman.ErrUnreachable, host, err)
	}
	info := got.Info
	if info.OSType != "linux" {
		return Facts{}, fmt.Errorf("%w: the container engine at %s is for %.20s, Linux is needed", mman.ErrUnsupported, host, info.OSType)
	}
	f := Facts{Host: host, Version: info.ServerVersion, CPUs: info.NCPU, MemoryBytes: uint64(max(0, info.MemTotal)), Arch: info.Architecture}
	switch f.Arch {
	case "x86_64":
		f.Arch = "amd64"
	case "aarch64":
		f.Arch = "arm64"
	case "":
		f.Arch = runtime.GOARCH
	}
	version, err := c.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return Facts{}, fmt.Errorf("%w: container engine at %s: its version: %w", mman.ErrUnreachable, host, err)
	}
	for _, component := range version.Components {
		f.Podman = f.Podman || component.Name == podmanEngine
	}
	_, f.GVisor = info.Runtimes[RuntimeGVisor]
	if f.Podman {
		f.GVisor = info.DefaultRuntime == RuntimeGVisor
	}
	return f, nil
}

// gone reports whether an error says that something is not there.
func gone(err error) bool { return cerrdefs.IsNotFound(err) }

// engine makes, asks and removes what bears one owner's label.
type engine struct {
	*client.Client

	facts   Facts
	owner   string
	runtime string // "" for the engine's own
	profile string // the path of our seccomp profile, "" for the engine's own
	idle    string // the path of our first process
	off     *undefended

	// living are the containers of runs; making is held while one is made, so that
	// nobody takes it for an orphan.
	living living
	making sync.RWMutex
}

// mine filters for what this owner made.
func (e *engine) mine() client.Filters {
	return client.Filters{}.Add("label", labelOwner+"="+e.owner)
}

// aside gives a call its own time: what must be cleaned up is, whoever waits.
func aside(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
}

// orphans removes the containers that an earlier process left behind and returns
// how many.
func (e *engine) orphans(ctx context.Context) (int, error) {
	got, err := e.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: e.mine()})
	if err != nil {
		return 0, fmt.Errorf("%w: list containers: %w", mman.ErrUnreachable, err)
	}
	for _, c := range got.Items {
		if err := e.remove(ctx, c.ID); err != nil {
			return 0, err
		}
	}
	return len(got.Items), nil
}

// remove ends a container by force.
func (e *engine) remove(ctx context.Context, id string) error {
	e.living.drop(id)
	ctx, cancel := aside(ctx)
	defer cancel()
	// A signal does not reach a container that is paused, and the engine would wait for
	// ten seconds.
	_, _ = e.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{}) // it may not be paused
	_, err := e.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !gone(err) {
		return fmt.Errorf("%w: remove container %.12s: %w", mman.ErrInternal, id, err)
	}
	return nil
}

// What gVisor takes for itself beside its program: it runs each thread of it by
// threads of its own.
const (
	gvisorBytes     = 64 << 20
	gvisorProcesses = 512
)

// nobody is the user of every image that names no number of its own.
const nobody = "65534:65534"

// host returns how a container is held.
func (e *engine) host(limits resources.Limits, mounts []string) *container.HostConfig {
	memory := int64(limits.MemoryBytes) //nolint:gosec // at most 4 GiB
	if e.runtime == RuntimeGVisor {
		memory += gvisorBytes
	}
	processes, cores := int64(Processes), int64(resources.ContainerCPUs)
	if e.runtime == RuntimeGVisor {
		processes += gvisorProcesses
	}
	h := &container.HostConfig{
		Binds:          append([]string{e.idle + ":" + idlePath + ":ro"}, mounts...),
		LogConfig:      container.LogConfig{Type: "none"},
		NetworkMode:    "none",
		CapDrop:        []string{"ALL"},
		ReadonlyRootfs: true,
		SecurityOpt:    []string{"no-new-privileges"},
		IpcMode:        "none",
		CgroupnsMode:   "private",
		Tmpfs:          map[string]string{ScratchDir: "rw,nosuid,nodev,noexec,mode=1777,size=" + strconv.Itoa(ScratchMaxBytes)},
		Runtime:        e.runtime,
		OomScoreAdj:    1000,
		Resources: container.Resources{
			Memory: memory, MemorySwap: memory, NanoCPUs: cores * 1_000_000_000, PidsLimit: &processes,
			Ulimits: []*container.Ulimit{
				{Name: "nofile", Soft: OpenFiles, Hard: OpenFiles},
				// The kernel counts these per user over all containers, so a small
				// limit would let one program stop the others; PidsLimit is each
				// container's own. Podman wants it said.
				{Name: "nproc", Soft: userProcesses, Hard: userProcesses},
				{Name: "core", Soft: 0, Hard: 0},
			},
		},
	}
	if e.profile != "" {
		h.SecurityOpt = append(h.SecurityOpt, seccompOption+e.profile)
	}
	e.weaken(h)
	return h
}

// seccompOption begins the option that names a seccomp profile.
const seccompOption = "seccomp="

// weaken takes defences away that a test switched off.
func (e *engine) weaken(h *container.HostConfig) {
	off := e.off
	unlimited := int64(-1)
	if off.memory {
		h.Memory, h.MemorySwap = 0, 0
	}
	if off.processes {
		h.PidsLimit = &unlimited
	}
	if off.disk {
		h.ReadonlyRootfs = false
	}
	if off.scratch {
		h.Tmpfs[ScratchDir] = "rw,mode=1777"
	}
	if off.network {
		h.NetworkMode = "host"
	}
	if off.devices {
		h.DeviceCgroupRules = []string{"a *:* rwm"}
		h.CapAdd = append(h.CapAdd, "MKNOD", "DAC_OVERRIDE")
	}
	if off.capabilities {
		h.CapDrop, h.CapAdd = nil, []string{"SYS_ADMIN", "SYSLOG"}
	}
	if off.privileges {
		h.SecurityOpt, h.CapDrop = nil, nil
	}
	if off.seccomp {
		h.SecurityOpt = slices.DeleteFunc(h.SecurityOpt, func(o string) bool { return strings.HasPrefix(o, seccompOption) })
		h.SecurityOpt = append(h.SecurityOpt, seccompOption+"unconfined")
	}
	if off.sockets {
		h.Binds = append(h.Binds, strings.TrimPrefix(e.facts.Host, "unix://")+":/var/run/docker.sock")
	}
	if off.processesOf {
		h.PidMode = "host"
	}
	if off.masks {
		h.MaskedPaths, h.ReadonlyPaths = []string{}, []string{}
	}
}

// create makes a container of an image, started, in which nothing runs but our
// idle process.
func (e *engine) create(ctx context.Context, img *loaded, limits resources.Limits, mounts []string) (string, error) {
	e.making.RLock()
	defer e.making.RUnlock()
	made, err := e.ContainerCreate(ctx, client.ContainerCreateOptions{
		Config: &container.Config{
			Image: img.id, Entrypoint: []string{idlePath}, Cmd: []string{}, User: e.user(img), WorkingDir: "/",
			Hostname: "container", Labels: map[string]string{labelOwner: e.owner},
		},
		HostConfig: e.host(limits, mounts),
	})
	if err != nil {
		return "", fmt.Errorf("create a container: %w", err)
	}
	e.living.add(made.ID)
	if _, err := e.ContainerStart(ctx, made.ID, client.ContainerStartOptions{}); err != nil {
		return "", errors.Join(fmt.Errorf("start a container: %w", err), e.remove(ctx, made.ID))
	}
	return made.ID, nil
}

// user is whom the program runs as: a number of the image's own, but never root.
func (e *engine) user(img *loaded) string {
	if e.off.root {
		return "0:0"
	}
	user, group, _ := strings.Cut(img.process.User, ":")
	if n, err := strconv.ParseUint(user, 10, 31); err != nil || n == 0 {
		return nobody
	}
	if n, err := strconv.ParseUint(group, 10, 31); err != nil || n == 0 {
		group = "65534"
	}
	return user + ":" + group
}

// refused reports whether a program never began, by how it ended.
func (e *engine) refused(got client.ExecInspectResult) bool {
	return !e.facts.Podman && got.PID == 0 && got.ExitCode != 0
}

// measured is what an engine counted of a container.
type measured struct {
	cpu    time.Duration
	strict bool // memory was asked for beyond the limit
}

// measure reads what a container used so far.
func (e *engine) measure(ctx context.Context, id string) (measured, error) {
	ctx, cancel := aside(ctx)
	defer cancel()
	got, err := e.ContainerStats(ctx, id, client.ContainerStatsOptions{})
	if err != nil {
		return measured{}, fmt.Errorf("usage of container %.12s: %w", id, err)
	}
	defer func() { _ = got.Body.Close() }() // it was read
	var stats container.StatsResponse
	if err := json.NewDecoder(io.LimitReader(got.Body, 1<<20)).Decode(&stats); err != nil {
		return measured{}, fmt.Errorf("usage of container %.12s: %w", id, err)
	}
	return measured{
		cpu:    time.Duration(min(stats.CPUStats.CPUUsage.TotalUsage, 1<<62)),
		strict: e.facts.Podman || stats.MemoryStats.Failcnt > 0 || stats.MemoryStats.MaxUsage > 0 && stats.MemoryStats.MaxUsage >= stats.MemoryStats.Limit,
	}, nil
}

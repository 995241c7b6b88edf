package container

import (
	"context"
	"errors"
	"time"

	"github.com/moby/moby/client"
)

// Undefended is which defences are switched off.
type Undefended struct {
	Memory, Processes, Disk, Scratch, Network, Devices, Capabilities, Privileges, Root, Seccomp, Sockets, ProcessesOf, Masks, Output, Kill, Names bool
}

// NewUndefended is New without some defences.
func NewUndefended(ctx context.Context, config Config, off Undefended) (*Executor, error) {
	return newExecutor(ctx, config, undefended{
		memory: off.Memory, processes: off.Processes, disk: off.Disk, scratch: off.Scratch, network: off.Network, devices: off.Devices,
		capabilities: off.Capabilities, privileges: off.Privileges, root: off.Root, seccomp: off.Seccomp, sockets: off.Sockets,
		processesOf: off.ProcessesOf, masks: off.Masks, output: off.Output, kill: off.Kill, names: off.Names,
	})
}

// Purge removes everything that an owner has in an engine.
func Purge(ctx context.Context, host, owner string) error {
	c, err := dial(host)
	if err != nil {
		return err
	}
	e := &engine{Client: c, owner: owner, off: &undefended{}}
	_, err = e.orphans(ctx)
	images, listErr := c.ImageList(ctx, client.ImageListOptions{All: true, Filters: e.mine()})
	err = errors.Join(err, listErr)
	for _, i := range images.Items {
		if _, removeErr := c.ImageRemove(ctx, i.ID, client.ImageRemoveOptions{Force: true, PruneChildren: true}); removeErr != nil && !gone(removeErr) {
			err = errors.Join(err, removeErr)
		}
	}
	return errors.Join(err, c.Close())
}

// Containers lists the containers of an owner.
func Containers(ctx context.Context, host, owner string) ([]string, error) {
	c, err := dial(host)
	if err != nil {
		return nil, err
	}
	e := &engine{Client: c, owner: owner}
	got, err := c.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: e.mine()})
	var ids []string
	for _, i := range got.Items {
		ids = append(ids, i.ID)
	}
	return ids, errors.Join(err, c.Close())
}

// Images lists the images of an owner, Name what a name stands for, "" for nothing.
func Images(ctx context.Context, host, owner string) ([]string, error) {
	c, err := dial(host)
	if err != nil {
		return nil, err
	}
	e := &engine{Client: c, owner: owner}
	got, err := c.ImageList(ctx, client.ImageListOptions{All: true, Filters: e.mine()})
	var ids []string
	for _, i := range got.Items {
		ids = append(ids, i.ID)
	}
	return ids, errors.Join(err, c.Close())
}

// Named returns the id of the image that bears a name, "" for none.
func Named(ctx context.Context, host, name string) (string, error) {
	c, err := dial(host)
	if err != nil {
		return "", err
	}
	got, err := c.ImageInspect(ctx, name)
	if gone(err) {
		return "", c.Close()
	}
	return got.ID, errors.Join(err, c.Close())
}

// WhoAmI is a program that exits with the low byte of its effective user.
func WhoAmI(arch string) []byte {
	if arch == "arm64" {
		return executable(183, []byte{0xe8, 0x15, 0x80, 0xd2, 0x01, 0, 0, 0xd4, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0, 0, 0xd4})
	}
	return executable(62, []byte{
		0xb8, 0x6b, 0, 0, 0, 0x0f, 0x05, // geteuid
		0x89, 0xc7, 0xb8, 0x3c, 0, 0, 0, 0x0f, 0x05, // exit
	})
}

// FirstProcess returns the first process of every container.
func FirstProcess(arch string) ([]byte, error) { return idle(arch) }

// Restrict is what Podman's seccomp profile becomes.
func Restrict(paths []string) ([]byte, error) { return restrict(paths) }

// Measure reads what the engine at a host says of a container: its processor time, and
// whether it asked for memory beyond its limit.
func Measure(ctx context.Context, host, id string) (cpu time.Duration, strict bool, err error) {
	c, err := dial(host)
	if err != nil {
		return 0, false, err
	}
	got, err := (&engine{Client: c}).measure(ctx, id)
	return got.cpu, got.strict, errors.Join(err, c.Close())
}

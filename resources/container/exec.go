package container

import (
	"context"

	"github.com/moby/moby/client"
)

// started is a program that runs in a container, with its streams.
type started struct {
	client.HijackedResponse

	id string
}

// start starts a program in a container, with all of its streams attached.
func (e *engine) start(ctx context.Context, in string, program client.ExecCreateOptions, attach client.ExecAttachOptions) (started, error) {
	program.AttachStdin, program.AttachStdout, program.AttachStderr = true, true, true
	made, err := e.ExecCreate(ctx, in, program)
	if err != nil {
		return started{}, err
	}
	got, err := e.ExecAttach(ctx, made.ID, attach)
	return started{got.HijackedResponse, made.ID}, err
}

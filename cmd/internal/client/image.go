package client

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/resources/container/image"
)

func (a *app) image() *cobra.Command {
	return console.Group(&cobra.Command{
		Use: "image", Short: "Make images of containers",
		Example: "  mman image build ./rootfs --entrypoint /bin/app",
	}, a.imageBuild())
}

// imageAnswer is what scripts read of a new image.
type imageAnswer struct {
	image.Built

	File string `json:"file"`
}

func (a *app) imageBuild() *cobra.Command {
	var o image.Options
	out := ""
	cmd := &cobra.Command{
		Use: "build FOLDER|BINARY", Short: "Make an image of a folder or a static binary, with no engine at all",
		Long: `Make an image of a folder or a static binary, with no engine at all.

The image is reproducible: the same files give the same bytes, on every machine and
at any time, for no times, owners or names are in it. FOLDER is the whole file
system that a program sees; BINARY is a static program for Linux, which becomes the
entrypoint. The archive is as docker save writes it: mman request run takes it, and
docker load too.`,
		Example: `  CGO_ENABLED=0 go build -o app . && mman image build app
  mman image build rootfs --entrypoint /bin/sh --out shell.tar
  mman request run shell.tar -- -c 'echo hello'`,
		Args: console.Args(1, 1, "FOLDER|BINARY"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.buildImage(cmd.Context(), args[0], out, o) },
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "the archive's file (default the name of FOLDER or BINARY with .tar)")
	f.StringArrayVar(&o.Entrypoint, "entrypoint", nil, "what always runs, and its first arguments; repeatable (default the BINARY)")
	f.StringArrayVar(&o.Command, "command", nil, "what follows the entrypoint when a run names no arguments; repeatable")
	f.StringArrayVar(&o.Env, "env", nil, "variable, NAME=value; repeatable")
	f.StringVar(&o.Dir, "dir", "", "working folder (default /)")
	f.StringVar(&o.Arch, "arch", "", "processor, as Go names it (default the BINARY's, or this machine's)")
	return cmd
}

func (a *app) buildImage(ctx context.Context, path, out string, o image.Options) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return console.Wrong("%w", err)
	}
	if size, err := regular(path); err != nil && size == 0 {
		o.Arch = cmp.Or(o.Arch, runtime.GOARCH) // a folder
	}
	out = cmp.Or(out, filepath.Base(abs)+".tar")
	to, err := a.newOutput(out)
	if err != nil {
		return err
	}
	defer to.discard()
	built, err := image.Build(ctx, to, path, o)
	if err != nil {
		return fmt.Errorf("image of %s: %w", path, err)
	}
	if err := to.deliver(true); err != nil {
		return err
	}
	if a.output == formatJSON {
		return console.JSON(a.streams.Out, imageAnswer{built, out})
	}
	a.note("%s: image %s, %d files of %d bytes", out, built.ID, built.Files, built.Bytes)
	return nil
}

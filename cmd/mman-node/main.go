// Command mman-node is the daemon: peer, provider and, when staked, validator. Its
// verbs are in package cmd/internal/daemon.
package main

import (
	"context"
	"os"

	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/cmd/internal/daemon"
)

func main() { os.Exit(run()) }

func run() int {
	console.Collect(os.Getenv)
	ctx, stop := console.Signals(context.Background())
	defer stop()
	return daemon.Main(ctx, os.Args[1:], console.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: os.Getenv})
}

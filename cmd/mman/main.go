// Command mman is the client: it finds, leases, runs and pays. Its verbs are in
// package cmd/internal/client.
package main

import (
	"context"
	"os"

	"github.com/limboid/massive-man/cmd/internal/client"
	"github.com/limboid/massive-man/cmd/internal/console"
)

func main() { os.Exit(run()) }

func run() int {
	console.Collect(os.Getenv)
	ctx, stop := console.Signals(context.Background())
	defer stop()
	return client.Main(ctx, os.Args[1:], console.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: os.Getenv})
}

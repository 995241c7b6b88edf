// Command mman-node is the daemon: peer, provider and, when staked, validator.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/limboid/massive-man/cmd/internal/console"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], console.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: os.Getenv})
	stop()
	os.Exit(code)
}

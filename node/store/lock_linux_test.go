package store_test

import (
	"context"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/limboid/massive-man/node/store"
)

// TestReopenWhileProgramsStart: a store that was closed opens again, though each program
// that starts meanwhile has all its files for a moment.
func TestReopenWhileProgramsStart(t *testing.T) { //nolint:paralleltest // its programs have the files of the other tests too
	cfg := config(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	starts := func() error {
		program := exec.CommandContext(ctx, "true")
		// What makes the moment long: a network of its own.
		program.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		return program.Run()
	}
	if err := starts(); err != nil {
		t.Skipf("a program starts in a network of its own for root only: %v", err)
	}
	var busy sync.WaitGroup
	busy.Go(func() {
		for ctx.Err() == nil {
			_ = starts() // canceled at the end
		}
	})
	t.Cleanup(busy.Wait)
	t.Cleanup(cancel)
	for range 100 {
		s, err := store.Open(cfg)
		require.NoError(t, err)
		require.NoError(t, s.Close())
	}
}

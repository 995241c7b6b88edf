package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/internal/localnet"
)

// The network of demo and devnet.
const (
	validators = 4
	dataOwner  = "provider-data"
	author     = "provider-code"
	consumer   = "consumer"

	startWithin = 60 * time.Second
)

func spec(dir string) localnet.Spec {
	return localnet.Spec{Dir: dir, Validators: validators, Providers: []string{dataOwner, author}, Consumers: []string{consumer}}
}

func (p *program) devnet() *cobra.Command {
	var home string
	cmd := &cobra.Command{
		Use: "devnet", Short: "Run a local network of several processes, with funded keys for mman", Args: console.Args(0, 0, ""),
		Long: `devnet runs four validators and two providers, each its own process on
loopback, until it is interrupted. <home>/consumer is a funded home for mman that
asks for no passphrase; <home>/run.json says where everything is. It starts again
from where it was.`,
		Example: "  mman-node devnet --home /tmp/net\n  MMAN_HOME=/tmp/net/consumer mman request run wordcount.wasm --input book.txt",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if home == "" {
				home = "devnet"
			}
			abs, err := filepath.Abs(home)
			if err != nil {
				return fmt.Errorf("%w: %w", mman.ErrHome, err)
			}
			return p.runDevnet(cmd.Context(), abs)
		},
	}
	cmd.Flags().StringVar(&home, "home", "", "folder of the network (default ./devnet)")
	return cmd
}

func (p *program) runDevnet(ctx context.Context, dir string) (err error) {
	town, err := raise(ctx, dir, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, town.stop()) }()
	if err := town.lendCompute(ctx); err != nil {
		return err
	}
	run, err := town.announce()
	if err != nil {
		return err
	}
	if p.asJSON() {
		if err := console.JSON(p.streams.Out, run); err != nil {
			return err
		}
	} else {
		p.printf("%s is ready: rpc %s; try: MMAN_HOME=%s mman request run FILE.wasm --input FILE\n", run.ChainID, run.RPC, filepath.Join(dir, consumer))
	}
	return town.watch(ctx)
}

// holdsDevnet reports whether a devnet's homes are in the folder.
func holdsDevnet(dir string) bool {
	for _, name := range []string{dataOwner, author, consumer} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || !info.IsDir() {
			return false
		}
	}
	return true
}

// alive reports whether one of the processes exists.
func alive(pids []int) bool {
	for _, pid := range pids {
		if proc, err := os.FindProcess(pid); err == nil && proc.Signal(nullSignal) == nil {
			return true
		}
	}
	return false
}

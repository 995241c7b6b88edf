package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/node"
	"github.com/limboid/massive-man/node/api"
)

// drainLook is the pause between two looks at a node that ends.
const drainLook = 200 * time.Millisecond

func (p *program) drain() *cobra.Command {
	var home string
	notice, wait := time.Minute, true
	cmd := &cobra.Command{
		Use: "drain", Short: "Take the node in a home out of service, and end it when nothing runs any more", Args: console.Args(0, 0, ""),
		Long: `Take the node in a home out of service, and end it when nothing runs any more.

Its offers leave the ledger until it starts again, and nothing new begins. What runs
may end by itself while the notice lasts; hosted containers are told of it. Then the
rest is ended and billed as far as it came, all receipts are settled, and the node ends.

SIGTERM does the same when something runs, with the notice of mman-node --drain.`,
		Example: "  mman-node drain --home /tmp/one --notice 10m",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.resolveHome(&home); err != nil {
				return err
			}
			if notice < 0 || notice > drainMost {
				return console.Wrong("--notice %s: up to %s", notice, drainMost)
			}
			run, err := node.ReadRunning(home)
			if err != nil {
				return err
			}
			if err := api.NewClient(run.API, run.Token).Drain(cmd.Context(), notice); err != nil {
				return err
			}
			if !wait {
				return nil
			}
			return gone(cmd.Context(), home)
		},
	}
	homeFlag(cmd, &home)
	cmd.Flags().DurationVar(&notice, "notice", notice, "how long what runs may go on")
	cmd.Flags().BoolVar(&wait, "wait", wait, "wait until the node has ended")
	return cmd
}

// gone waits until no node runs from a home.
func gone(ctx context.Context, home string) error {
	for {
		_, err := node.ReadRunning(home)
		if errors.Is(err, mman.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: the node goes on by itself", mman.ErrCanceled)
		case <-time.After(drainLook):
		}
	}
}

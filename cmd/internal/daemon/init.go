package daemon

import (
	"fmt"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/node"
)

func (p *program) init() *cobra.Command {
	var home string
	cmd := &cobra.Command{
		Use: "init", Short: "Make a home with keys and a new local network", Args: console.Args(0, 0, ""),
		Example: "  mman-node init --home /tmp/one",
		RunE: func(*cobra.Command, []string) error {
			if err := p.resolveHome(&home); err != nil {
				return err
			}
			if old, err := node.ReadGenesis(home); err == nil {
				return fmt.Errorf("%w: %s is the home of %s already; use an empty --home", mman.ErrExists, home, old.ChainID)
			}
			doc, err := initHome(home)
			if err != nil {
				return err
			}
			if p.asJSON() {
				return console.JSON(p.streams.Out, map[string]any{"chain_id": doc.ChainID, "home": home, "account": doc.Accounts[0].Address})
			}
			p.printf("made %s in %s; account %s holds %s\nstart it with: mman-node --home %s\n", doc.ChainID, home, doc.Accounts[0].Address, doc.Accounts[0].Balance, home)
			return nil
		},
	}
	homeFlag(cmd, &home)
	return cmd
}

package daemon

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/genesis"
	"github.com/limboid/massive-man/node"
)

func (p *program) init() *cobra.Command {
	var home, file string
	cmd := &cobra.Command{
		Use: "init", Short: "Make a home with keys and a new local network", Args: console.Args(0, 0, ""),
		Long: `init makes a home with the keys of a node. Without --genesis it also makes a
new local network, with this node as its only validator. With the genesis file of
another node the home joins that node's network: start it with --peers and
--bootstrap, which the other node's run.json names.`,
		Example: "  mman-node init --home /tmp/one\n  mman-node init --home /tmp/two --genesis /tmp/one/genesis.json",
		RunE: func(*cobra.Command, []string) error {
			if err := p.resolveHome(&home); err != nil {
				return err
			}
			if old, err := node.ReadGenesis(home); err == nil {
				return fmt.Errorf("%w: %s is the home of %s already; use an empty --home", mman.ErrExists, home, old.ChainID)
			}
			if file != "" {
				return p.initFrom(home, file)
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
	cmd.Flags().StringVar(&file, "genesis", "", "genesis file of the network to join (default: a new network)")
	return cmd
}

// genesisFrom reads a genesis file.
func genesisFrom(file string) (doc genesis.Document, err error) {
	info, err := os.Stat(file)
	if err != nil {
		return doc, fmt.Errorf("%w: --genesis: %w", mman.ErrNotFound, err)
	}
	if !info.Mode().IsRegular() || info.Size() > genesis.MaxBytes {
		return doc, console.Wrong("--genesis %s is not a file of at most %d bytes", file, genesis.MaxBytes)
	}
	b, err := os.ReadFile(file) //nolint:gosec // the user names it
	if err != nil {
		return doc, fmt.Errorf("%w: --genesis: %w", mman.ErrDenied, err)
	}
	if doc, err = genesis.Decode(b); err != nil {
		return doc, fmt.Errorf("--genesis %s: %w: get that of the network again: any of its nodes has it", file, err)
	}
	return doc, nil
}

// initFrom makes a home on the network of a genesis file.
func (p *program) initFrom(home, file string) error {
	doc, err := genesisFrom(file)
	if err != nil {
		return err
	}
	address, _, err := node.Prepare(home, "node")
	if err != nil {
		return err
	}
	if err := node.WriteGenesis(home, doc); err != nil {
		return err
	}
	if p.asJSON() {
		return console.JSON(p.streams.Out, map[string]any{"chain_id": doc.ChainID, "home": home, "account": address})
	}
	p.printf("made a home on %s in %s; account %s\nstart it with: mman-node --home %s --peers ID@HOST:PORT --bootstrap ADDRESS\nto lend, the account needs some MAN for fees: mman send %s 10MAN\n", doc.ChainID, home, address, home, address)
	return nil
}

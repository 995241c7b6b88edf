package daemon

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/node"
)

func (p *program) export() *cobra.Command {
	var home, file string
	cmd := &cobra.Command{
		Use: "export", Short: "Write a genesis with which the chain goes on", Args: console.Args(0, 0, ""),
		Long: `export writes the genesis of a chain that goes on where this home's ends: with
every account, stake, unbonding, offer, request and lease, under the same chain
id. Stop the node first; the home stays as it is.

To go on with it, every validator makes a new home from the file and copies both
of its files consensus/priv_validator_*.json there, so that it can sign no height
twice, then starts it with the addresses of the others. No node of the old chain
may run again.`,
		Example: "  mman-node export --home /tmp/one --out genesis.json\n" +
			"  mman-node init --home /tmp/next --genesis genesis.json\n" +
			"  cp /tmp/one/consensus/priv_validator_*.json /tmp/next/consensus/",
		RunE: func(*cobra.Command, []string) error {
			if err := p.resolveHome(&home); err != nil {
				return err
			}
			doc, err := node.Export(home, p.logger())
			if err != nil {
				return err
			}
			b, err := doc.Encode()
			if err != nil {
				return err
			}
			if file == "" {
				p.printf("%s", b)
				return nil
			}
			if err := os.WriteFile(file, b, 0o600); err != nil {
				return fmt.Errorf("%w: --out: %w", mman.ErrDenied, err)
			}
			if p.asJSON() {
				return console.JSON(p.streams.Out, map[string]any{"chain_id": doc.ChainID, "height": doc.State.Height, "pairs": len(doc.State.Pairs), "bytes": len(b), "file": file})
			}
			p.printf("wrote %s at height %d to %s: %d pairs, %d bytes\nmake homes with it: mman-node init --home NEW --genesis %s\n", doc.ChainID, doc.State.Height, file, len(doc.State.Pairs), len(b), file)
			return nil
		},
	}
	homeFlag(cmd, &home)
	cmd.Flags().StringVar(&file, "out", "", "file to write (default: standard output)")
	return cmd
}

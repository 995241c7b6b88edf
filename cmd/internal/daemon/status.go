package daemon

import (
	"github.com/spf13/cobra"

	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/node"
	"github.com/limboid/massive-man/sdk/chain"
)

func (p *program) status() *cobra.Command {
	var home string
	cmd := &cobra.Command{
		Use: "status", Short: "Say how the node in a home is", Args: console.Args(0, 0, ""),
		Example: "  mman-node status --home /tmp/one",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.resolveHome(&home); err != nil {
				return err
			}
			run, err := node.ReadRunning(home)
			if err != nil {
				return err
			}
			rpc, err := chain.New(run.RPC)
			if err != nil {
				return err
			}
			st, err := rpc.Status(cmd.Context())
			if err != nil {
				return err
			}
			supply, err := rpc.Supply(cmd.Context())
			if err != nil {
				return err
			}
			if p.asJSON() {
				return console.JSON(p.streams.Out, map[string]any{
					"chain_id": st.ChainID, "height": st.Height, "syncing": st.Syncing, "validator": st.IsVoting,
					"rpc": run.RPC, "api": run.API, "peers": run.Peers, "pids": run.PIDs, "supply_uman": supply.Total(), "conserved": supply.Conserved(),
				})
			}
			role := "follows the chain"
			if st.IsVoting {
				role = "is a validator"
			}
			if st.Syncing {
				role += " and is catching up"
			}
			p.printf("%s: this node %s, at height %d.\n%s exist, %s of it in escrow; the supply is conserved: %t.\nrpc %s, api %s\n", st.ChainID, role, st.Height, supply.Total(), supply.Escrow, supply.Conserved(), run.RPC, run.API)
			return nil
		},
	}
	homeFlag(cmd, &home)
	return cmd
}

package client

import (
	"strconv"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/sdk/chain"
)

// statusAnswer is how a node and its chain are.
type statusAnswer struct {
	Node      string       `json:"node"`
	ChainID   string       `json:"chain_id"`
	Network   string       `json:"network"`
	Genesis   mman.Hash    `json:"genesis_hash"`
	Height    uint64       `json:"height"`
	Moniker   string       `json:"moniker"`
	Syncing   bool         `json:"syncing"`
	Validator bool         `json:"validator"`
	BaseFee   uint64       `json:"base_fee_micro"`
	Supply    chain.Supply `json:"supply"`
	Total     mman.Amount  `json:"supply_uman"`
	Conserved bool         `json:"conserved"`
}

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show how the node and its chain are",
		Example: "  mman status --node http://127.0.0.1:26657",
		Args:    console.Args(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, err := a.reader(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // nothing was written
			st, err := c.Chain().Status(ctx)
			if err != nil {
				return err
			}
			info, err := c.Chain().Chain(ctx)
			if err != nil {
				return err
			}
			supply, err := c.Chain().Supply(ctx)
			if err != nil {
				return err
			}
			fee, err := c.Chain().Fee(ctx)
			if err != nil {
				return err
			}
			s := statusAnswer{
				c.Chain().URL(), st.ChainID, info.Network, info.Genesis, st.Height, st.Moniker, st.Syncing, st.IsVoting,
				fee.BaseFeeMicro, supply, supply.Total(), supply.Conserved(),
			}
			role := "follows the chain"
			switch {
			case s.Syncing:
				role = "is catching up"
			case s.Validator:
				role = "validates"
			}
			return a.answer(s, facts("node", s.Node+", "+s.Moniker+", "+role, "chain", s.ChainID+" ("+s.Network+")",
				"height", strconv.FormatUint(s.Height, 10), "supply", s.Total.String(), "burned", supply.Burned.String(), "in escrow", supply.Escrow.String())...)
		},
	}
}

package client

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/p2p"
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
	// Shares are what the node of this home lends and gives, when one runs.
	Shares []shareStatus `json:"shares,omitempty"`
}

// shareStatus says of one resource whether others find and reach it.
type shareStatus struct {
	Resource mman.CID `json:"resource"`
	Name     string   `json:"name"`
	// Kind is such as dataset/file, or given for what mman add gave.
	Kind string `json:"kind"`
	// Provided is when the peers of the DHT were last told of it.
	Provided time.Time `json:"provided,omitzero"`
	// Reachable is public, machine for this machine only, no, or unknown as long as
	// nobody has been told or nobody has tried.
	Reachable string `json:"reachable"`
}

// reachable says whether others reach what was announced, by what is known of its node.
func reachable(provided time.Time, reach p2p.Reach) string {
	switch {
	case reach == p2p.ReachPrivate:
		return "no"
	case provided.IsZero():
		return "unknown"
	case reach == p2p.ReachPublic || reach == p2p.ReachMachine:
		return string(reach)
	default:
		return "unknown"
	}
}

// String says it in words.
func (s shareStatus) String() string {
	when := "not announced yet: no other peer is known"
	if !s.Provided.IsZero() {
		when = "announced " + s.Provided.Local().Format(time.DateTime)
	}
	where := map[string]string{
		string(p2p.ReachPublic):  "reachable from outside",
		string(p2p.ReachMachine): "reachable from this machine only",
		"no":                     "not reachable: open the node's port, or name a relay with --bootstrap",
	}[s.Reachable]
	if where == "" {
		where = "not known yet whether it is reachable"
	}
	return fmt.Sprintf("%s  %s (%s), %s, %s", s.Resource, console.Clean(s.Name), s.Kind, when, where)
}

// shares asks the node of this home, if one runs, what it lends and gives.
func (a *app) shares(ctx context.Context) []shareStatus {
	n, err := a.ownNode()
	if err != nil {
		return nil // no node of one's own
	}
	var lent struct {
		Items []struct {
			listing

			Provided time.Time `json:"provided"`
		} `json:"items"`
		Reach p2p.Reach `json:"reach"`
	}
	var given struct {
		Items []givenItem `json:"items"`
	}
	if n.call(ctx, http.MethodGet, "/v1/listings", nil, &lent) != nil || n.call(ctx, http.MethodGet, "/v1/content", nil, &given) != nil {
		return nil // it has just ended
	}
	var out []shareStatus
	for _, l := range lent.Items {
		out = append(out, shareStatus{l.Resource, l.Name, string(l.Kind) + "/" + string(l.Facet), l.Provided, reachable(l.Provided, lent.Reach)})
	}
	for _, g := range given.Items {
		out = append(out, shareStatus{g.Root, g.Name, "given", g.Provided, reachable(g.Provided, lent.Reach)})
	}
	return out
}

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show how the node and its chain are",
		Long: `Show how the node and its chain are.

When a node runs from this home, it also says of each resource that the node lends, and of
each file or folder that it gives, when others were last told of it and whether they can
reach it.`,
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
				fee.BaseFeeMicro, supply, supply.Total(), supply.Conserved(), a.shares(ctx),
			}
			role := "follows the chain"
			switch {
			case s.Syncing:
				role = "is catching up"
			case s.Validator:
				role = "validates"
			}
			lines := facts("node", s.Node+", "+s.Moniker+", "+role, "chain", s.ChainID+" ("+s.Network+")",
				"height", strconv.FormatUint(s.Height, 10), "supply", s.Total.String(), "burned", supply.Burned.String(), "in escrow", supply.Escrow.String())
			for _, one := range s.Shares {
				lines = append(lines, one.String())
			}
			return a.answer(s, lines...)
		},
	}
}

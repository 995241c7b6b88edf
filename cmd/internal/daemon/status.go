package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/node"
	"github.com/limboid/massive-man/node/api"
	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/sdk/chain"
)

// state is how a node is.
type state struct {
	ChainID   string `json:"chain_id"`
	Height    uint64 `json:"height"`
	Syncing   bool   `json:"syncing"`
	Validator bool   `json:"validator"`
	RPC       string `json:"rpc"`
	P2P       string `json:"p2p,omitempty"`
	API       string `json:"api"`
	// Trust is HEIGHT:HASH of a block that the node has checked, for join and light.
	Trust     string      `json:"trust,omitempty"`
	Peers     []string    `json:"peers"`
	PIDs      []int       `json:"pids"`
	Supply    mman.Amount `json:"supply_uman"`
	Conserved bool        `json:"conserved"`
	// Business is absent where no node has its home, such as a devnet's folder.
	Business *business `json:"business,omitempty"`

	escrow mman.Amount
}

// business is what a node's account lends and earns.
type business struct {
	Account mman.Address `json:"account"`
	Balance mman.Amount  `json:"balance_uman"`
	// Lent counts its standing offers, OpenLeases the leases with one of them
	// that are not closed, and Settled is what consumers paid on all of its
	// leases so far, before it is split with other providers and the burn.
	Lent       int         `json:"lent"`
	OpenLeases int         `json:"open_leases"`
	Settled    mman.Amount `json:"settled_uman"`
	// Lends is what the node announces, when it last did, and from where it can
	// be reached.
	Lends *api.Lent `json:"lends,omitempty"`
	// Runs is what goes on now, and what ended in the middle with an earlier process.
	Runs *api.Runs `json:"runs,omitempty"`
}

func (p *program) status() *cobra.Command {
	var home string
	cmd := &cobra.Command{
		Use: "status", Short: "Say how the node in a home is, and what it lends", Args: console.Args(0, 0, ""),
		Example: "  mman-node status --home /tmp/one",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.resolveHome(&home); err != nil {
				return err
			}
			s, err := look(cmd.Context(), home)
			if err != nil {
				return err
			}
			if p.asJSON() {
				return console.JSON(p.streams.Out, s)
			}
			p.printf("%s", s)
			return nil
		},
	}
	homeFlag(cmd, &home)
	return cmd
}

// look asks the node that runs from a home.
func look(ctx context.Context, home string) (state, error) {
	run, err := node.ReadRunning(home)
	if err != nil {
		return state{}, err
	}
	rpc, err := chain.New(run.RPC)
	if err != nil {
		return state{}, err
	}
	defer rpc.Close()
	st, err := rpc.Status(ctx)
	if errors.Is(err, mman.ErrUnreachable) {
		return state{}, fmt.Errorf("%w: the node of %s does not answer at %s; start it with mman-node --home %s", mman.ErrUnreachable, home, run.RPC, home)
	}
	if err != nil {
		return state{}, err
	}
	supply, err := rpc.Supply(ctx)
	if err != nil {
		return state{}, err
	}
	s := state{
		ChainID: st.ChainID, Height: st.Height, Syncing: st.Syncing, Validator: st.IsVoting, RPC: run.RPC, P2P: run.P2P, API: run.API,
		Peers: run.Peers, PIDs: run.PIDs, Supply: supply.Total(), Conserved: supply.Conserved(), escrow: supply.Escrow,
	}
	if st.Height > 2 { // the first block has the time of the genesis, which is long past
		hash, err := rpc.BlockHash(ctx, st.Height-1)
		if err != nil {
			return state{}, err
		}
		s.Trust = fmt.Sprintf("%d:%s", st.Height-1, hash)
	}
	if _, err := node.ReadGenesis(home); err != nil {
		return s, nil // a network's folder, not a node's home
	}
	if s.Business, err = account(ctx, home, rpc, st.ChainID); err != nil {
		return s, err
	}
	// The API answers a moment after the ledger does.
	door := api.NewClient(run.API, run.Token)
	if lent, err := door.Lent(ctx); err == nil {
		s.Business.Lends = &lent
	}
	if runs, err := door.Runs(ctx); err == nil {
		s.Business.Runs = &runs
	}
	return s, nil
}

// mostLooked bounds how many offers and leases are looked at.
const mostLooked = 1000

// account looks at the account of the node in a home.
func account(ctx context.Context, home string, rpc *chain.Client, chainID string) (*business, error) {
	cfg, err := node.LoadConfig(home)
	if err != nil {
		return nil, err
	}
	ring, err := node.OpenKeyring(home, true)
	if err != nil {
		return nil, err
	}
	key, err := ring.Info(cfg.Account)
	if err != nil {
		return nil, err
	}
	b := &business{Account: key.Address}
	held, err := rpc.Account(ctx, key.Address)
	if err != nil && !chain.Gone(err) {
		return nil, err
	}
	b.Balance = held.Balance
	offers, _, err := rpc.Offers(ctx, chainID, chain.OfferFilter{Provider: key.Address}, mostLooked)
	if err != nil {
		return nil, err
	}
	b.Lent = len(offers)
	leases, err := rpc.Leases(ctx, key.Address, mostLooked)
	if err != nil {
		return nil, err
	}
	for _, l := range leases {
		if !lends(l, key.Address) {
			continue
		}
		if l.State != market.LeaseClosed {
			b.OpenLeases++
		}
		if b.Settled, err = b.Settled.Add(l.Paid); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func lends(l market.Lease, who mman.Address) bool {
	for _, leg := range l.Legs {
		if !leg.Supplied && leg.Provider == who {
			return true
		}
	}
	return false
}

// String says it in sentences.
func (s state) String() string {
	role := "follows the chain"
	if s.Validator {
		role = "is a validator"
	}
	if s.Syncing {
		role += " and is catching up"
	}
	sound := "the supply is conserved"
	if !s.Conserved {
		sound = "THE SUPPLY IS NOT CONSERVED"
	}
	text := fmt.Sprintf("%s: this node %s, at height %d.\n%s exist, %s of it in escrow; %s.\n", s.ChainID, role, s.Height, s.Supply, s.escrow, sound)
	if b := s.Business; b != nil {
		text += fmt.Sprintf("Account %s holds %s; offers that stand: %d, open leases on them: %d, paid on its leases so far: %s.\n", b.Account, b.Balance, b.Lent, b.OpenLeases, b.Settled)
		text += b.lends() + b.runs()
	}
	return text + fmt.Sprintf("rpc %s, api %s\n", s.RPC, s.API)
}

// runs says what goes on and for whom.
func (b *business) runs() string {
	if b.Runs == nil {
		return ""
	}
	var now, lost strings.Builder
	for i, r := range b.Runs.Items {
		if i == 0 {
			now.WriteString("Running now:\n")
		}
		_, _ = fmt.Fprintf(&now, "  %s %d of lease %s (%s) for %s, since %s, paid %s\n", r.Form, r.Run, r.Lease, r.Facet, r.Consumer, r.Since.UTC().Format(time.RFC3339), r.Paid)
	}
	for i, r := range b.Runs.Lost {
		if i == 0 {
			lost.WriteString("Ended in the middle with an earlier process of this node:\n")
		}
		_, _ = fmt.Fprintf(&lost, "  %s %d of lease %s, paid %s\n", r.Form, r.Run, r.Lease, r.Paid)
	}
	return now.String() + lost.String()
}

// lends says of each resource when it was announced.
func (b *business) lends() string {
	if b.Lends == nil || len(b.Lends.Items) == 0 {
		return ""
	}
	text := map[p2p.Reach]string{
		p2p.ReachMachine: "This node can be reached from this machine only.\n",
		p2p.ReachPublic:  "This node can be reached from outside.\n",
		p2p.ReachPrivate: "This node cannot be reached from outside: open its port, or name a relay with --bootstrap.\n",
	}[p2p.Reach(b.Lends.Reach)]
	if text == "" {
		text = "Nobody has tried yet whether this node can be reached.\n"
	}
	var list strings.Builder
	for _, one := range b.Lends.Items {
		when := "not announced yet: no other peer is known"
		if !one.Provided.IsZero() {
			when = "announced " + one.Provided.UTC().Format(time.RFC3339)
		}
		_, _ = fmt.Fprintf(&list, "  %s (%s/%s) %s\n", one.Name, one.Kind, one.Facet, when)
	}
	return text + list.String()
}

package client

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/market/rfp"
	"github.com/limboid/massive-man/sdk"
)

// bidAnswer is one bid as scripts read it.
type bidAnswer struct {
	Bidder mman.Address `json:"bidder"`
	State  rfp.BidState `json:"state"`
	Digest mman.Hash    `json:"digest"`
	Posted bool         `json:"posted,omitempty"`
	// Price is there once the bid is opened.
	Price *price.Price `json:"price,omitempty"`
}

// rfpAnswer is a request that was put out to bids.
type rfpAnswer struct {
	Request  mman.RequestID `json:"request"`
	State    rfp.State      `json:"state"`
	Consumer mman.Address   `json:"consumer"`
	Bond     mman.Amount    `json:"bond_uman"`
	CommitBy uint64         `json:"commit_by"`
	SealBy   uint64         `json:"seal_by"`
	RevealBy uint64         `json:"reveal_by"`
	Root     mman.Hash      `json:"root,omitzero"`
	Bids     []bidAnswer    `json:"bids"`
	// Lease, Provider and Price are of the latest award.
	Lease    mman.LeaseID `json:"lease,omitzero"`
	Provider mman.Address `json:"provider,omitzero"`
	Price    *price.Price `json:"price,omitempty"`
	// Declined are those who were asked and did not bid, of this run of mman.
	Declined []sdk.Declined `json:"declined,omitempty"`
	// MS is how long this run of mman took.
	MS int64 `json:"ms,omitempty"`
}

func newRFPAnswer(one rfp.RFP) (rfpAnswer, error) {
	out := rfpAnswer{
		Request: one.Request, State: one.State, Consumer: one.Consumer, Bond: one.Bond, CommitBy: one.CommitBy,
		SealBy: one.SealBy, RevealBy: one.RevealBy, Root: one.Root, Bids: []bidAnswer{}, Lease: one.Lease,
	}
	for _, e := range one.Bids {
		bid := bidAnswer{Bidder: e.Bidder, State: e.State, Digest: e.Digest, Posted: e.Posted}
		if len(e.Bid) > 0 {
			opened, err := market.DecodeBid(e.Bid)
			if err != nil {
				return out, err
			}
			bid.Price = &opened.Price
		}
		if e.State == rfp.Won || e.State == rfp.Served {
			out.Provider, out.Price = e.Bidder, bid.Price
		}
		out.Bids = append(out.Bids, bid)
	}
	return out, nil
}

func rfpLines(one rfp.RFP, answer rfpAnswer) []string {
	lease := ""
	if one.Awards > 0 {
		lease = one.Lease.String()
	}
	lines := facts("request", one.Request.String(), "state", string(one.State), "lease", lease, "consumer", one.Consumer.String(), "bond", one.Bond.String(),
		"commitments", fmt.Sprintf("until height %d, those left out until %d", one.CommitBy, one.SealBy), "reveals", fmt.Sprintf("until height %d", one.RevealBy))
	if len(one.Bids) == 0 {
		return lines
	}
	var rows [][]string
	for _, b := range answer.Bids {
		terms := "sealed"
		if b.Price != nil {
			terms = b.Price.String()
		}
		rows = append(rows, []string{b.Bidder.String(), string(b.State), terms})
	}
	return append(lines, table([]string{"BIDDER", "BID", "PRICE"}, rows)...)
}

func (a *app) requestRFP() *cobra.Command {
	std, terms := sdk.DefaultWanted(), sdk.DefaultBidTerms()
	w := work{max: money(std.Cap), limits: std.Limits, wall: time.Duration(std.Limits.WallMs) * time.Millisecond} //nolint:gosec // a minute
	bond, blocks, takeovers := money(terms.Bond), terms.Blocks, terms.Takeovers
	cmd := &cobra.Command{
		Use: "rfp ALGORITHM", Short: "Put a request out to sealed bids and lease from the best",
		Long: `Put a request out to sealed bids and lease from the best.

Up to 16 providers of compute that fits are asked. Each answers with a digest of its
bid; the bids are opened on the ledger after the last digest is there, and nobody,
this program included, sees an amount before. The cheapest at the request's limits
that fits makes the lease, at the price that it bid. Each bidder has a bond at
stake: who does not open its bid, does not stand by it or does not serve loses it,
and the next bid takes over.

The lease stays open: mman request run with the same terms uses it. When this program
ends early the ledger goes on: mman rfp wait picks it up.`,
		Example: `  mman request rfp wordcount.wasm --input-limit 64MiB --max 0.5MAN
  mman request rfp wordcount.wasm --bond 0.02MAN -o json`,
		Args: console.Args(1, 1, "ALGORITHM"),
		RunE: func(cmd *cobra.Command, args []string) error {
			wanted, err := w.wanted(args[0])
			if err != nil {
				return err
			}
			return a.rfpOpen(cmd.Context(), wanted, sdk.BidTerms{Bond: mman.Amount(bond), Blocks: blocks, Takeovers: takeovers})
		},
	}
	w.discover = discoverIndex
	f := cmd.Flags()
	w.terms(f)
	f.Var(&bond, "bond", "what each bidder has at stake, at most --max")
	f.Uint64Var(&blocks, "bid-blocks", blocks, "how many blocks commitments are taken, at least 3")
	f.Uint64Var(&takeovers, "takeovers", takeovers, "for how many bidders who do not serve there is time")
	f.StringVar(&w.discover, "discover", discoverIndex, "find bidders in the chain's index, or through the dht")
	return cmd
}

// rfpOpen does the whole of request rfp.
func (a *app) rfpOpen(ctx context.Context, wanted sdk.Wanted, terms sdk.BidTerms) error {
	if terms.Bond == 0 || terms.Bond > wanted.Cap {
		return console.Wrong("--bond %s is not between 1uman and the %s of --max", terms.Bond, wanted.Cap)
	}
	begun := a.now()
	c, err := a.signer(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // the result is in already
	a.tick("putting the request out to bids …")
	id, err := c.OpenRFP(ctx, wanted, terms)
	if err != nil {
		return err
	}
	a.note("request %s is out for bids", id)
	got, err := a.collect(ctx, c, id, wanted.Discover)
	if err != nil {
		return err
	}
	return a.rfpAwait(ctx, c, id, got, begun)
}

func (a *app) collect(ctx context.Context, c *sdk.Client, id mman.RequestID, discover bool) (sdk.Collected, error) {
	a.tick("asking providers to bid …")
	got, err := c.CollectBids(ctx, id, discover)
	if err == nil {
		a.note("%d of %d providers bid", len(got.Bidders), got.Asked)
	}
	return got, err
}

// rfpAwait follows an RFP to its end and answers.
func (a *app) rfpAwait(ctx context.Context, c *sdk.Client, id mman.RequestID, got sdk.Collected, begun time.Time) error {
	lease, err := c.AwaitAward(ctx, id, func(one rfp.RFP) {
		switch {
		case one.State == rfp.Awarded:
			a.tick("award %s: waiting until height %d for the provider to accept …", strconv.FormatUint(one.Awards, 10), one.ServeBy)
		case !one.Root.IsZero():
			a.tick("%d bids are sealed, waiting for them to be opened until height %d …", len(one.Bids), one.RevealBy)
		default:
			a.tick("%d commitments, waiting until height %d for those that were left out …", len(one.Bids), one.SealBy)
		}
	})
	if err != nil {
		return err
	}
	one, err := c.RFP(ctx, id)
	if err != nil {
		return err
	}
	answer, err := newRFPAnswer(one)
	if err != nil {
		return err
	}
	answer.Declined, answer.MS = got.Declined, a.now().Sub(begun).Milliseconds()
	a.note("leased from %s, lease %s", lease.Lease.Compute().Provider, lease.Lease.ID)
	return a.answer(answer, rfpLines(one, answer)...)
}

func (a *app) rfp() *cobra.Command {
	return console.Group(&cobra.Command{
		Use: "rfp", Short: "List, show and follow requests that were put out to bids",
		Example: "  mman rfp list\n  mman rfp show 4f0c…",
	}, a.rfpList(), a.rfpShow(), a.rfpWait())
}

func (a *app) rfpShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a request that was put out to bids, and its bids",
		Example: "  mman rfp show 4f0c… -o json",
		Args:    console.Args(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseID[mman.RequestID](args[0])
			if err != nil {
				return err
			}
			c, err := a.reader(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // nothing was written
			one, err := c.RFP(cmd.Context(), id)
			if err != nil {
				return err
			}
			answer, err := newRFPAnswer(one)
			if err != nil {
				return err
			}
			return a.answer(answer, rfpLines(one, answer)...)
		},
	}
}

func (a *app) rfpList() *cobra.Command {
	limit, all := maxListed, false
	cmd := &cobra.Command{
		Use: "list [ADDR]", Short: "List requests that were put out to bids, of an account or of everybody",
		Example: "  mman rfp list --all\n  mman rfp list man1…",
		Args:    console.Args(0, 1, "ADDR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkLimit(limit); err != nil {
				return err
			}
			var of mman.Address
			if len(args) > 0 {
				var err error
				if of, err = a.party(args[0]); err != nil {
					return err
				}
			}
			c, err := a.reader(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // nothing was written
			found, err := c.Chain().RFPs(cmd.Context(), of, limit)
			if err != nil {
				return err
			}
			answer := struct {
				RFPs []rfpAnswer `json:"rfps"`
			}{[]rfpAnswer{}}
			var rows [][]string
			for _, one := range found {
				if one.State == rfp.Closed && !all {
					continue
				}
				item, err := newRFPAnswer(one)
				if err != nil {
					return err
				}
				answer.RFPs = append(answer.RFPs, item)
				rows = append(rows, []string{one.Request.String(), string(one.State), one.Consumer.String(), strconv.Itoa(len(one.Bids)), one.Bond.String(), strconv.FormatUint(one.CommitBy, 10)})
			}
			if len(rows) == 0 {
				return a.answer(answer, "No request is out for bids; --all shows those that are over.")
			}
			return a.answer(answer, table([]string{"REQUEST", "STATE", "CONSUMER", "BIDS", "BOND", "COMMIT BY"}, rows)...)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", limit, "how many to look at")
	cmd.Flags().BoolVar(&all, "all", false, "those that are over too")
	return cmd
}

func (a *app) rfpWait() *cobra.Command {
	return &cobra.Command{
		Use: "wait ID", Short: "Go on with a request that this home put out to bids, and keep its lease",
		Example: "  mman rfp wait 4f0c…",
		Args:    console.Args(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseID[mman.RequestID](args[0])
			if err != nil {
				return err
			}
			ctx, begun := cmd.Context(), a.now()
			c, err := a.signer(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // the result is in already
			one, err := c.RFP(ctx, id)
			if err != nil {
				return err
			}
			st, err := c.Chain().Status(ctx)
			if err != nil {
				return err
			}
			var got sdk.Collected
			if one.State == rfp.Open && !one.Brought && st.Height < one.CommitBy {
				if got, err = a.collect(ctx, c, id, false); err != nil {
					return err
				}
			}
			return a.rfpAwait(ctx, c, id, got, begun)
		},
	}
}

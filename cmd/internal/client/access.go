package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
)

func (a *app) access() *cobra.Command {
	return console.Group(&cobra.Command{
		Use: "access", Short: "Read the own node's log of who came to private content",
		Example: "  mman access list",
	}, a.accessList())
}

// accessEntry is an entry of the own node's log.
type accessEntry struct {
	Form      string       `json:"form"`
	Time      int64        `json:"time"`
	Height    uint64       `json:"height"`
	Consumer  mman.Address `json:"consumer"`
	Peer      mman.PeerID  `json:"peer,omitzero"`
	Lease     mman.LeaseID `json:"lease"`
	Lane      uint64       `json:"lane"`
	Run       uint64       `json:"run"`
	Resource  mman.CID     `json:"resource"`
	Name      string       `json:"name"`
	Algorithm mman.CID     `json:"algorithm,omitzero"`
	BytesIn   uint64       `json:"bytes_in"`
	BytesOut  uint64       `json:"bytes_out"`
	Decision  string       `json:"decision"`
	Reason    string       `json:"reason,omitempty"`
	Gates     []mman.CID   `json:"gates,omitempty"`
	Verdict   string       `json:"verdict,omitempty"`
	Code      mman.Code    `json:"code,omitempty"`
	ExitCode  uint32       `json:"exit_code,omitempty"`
	Fuel      uint64       `json:"fuel,omitempty"`
	Bits      uint64       `json:"bits,omitempty"`
	BitsUsed  uint64       `json:"bits_used,omitempty"`
	BitsMost  uint64       `json:"bits_most,omitempty"`
	Over      bool         `json:"over"`

	Folded *foldedEntries `json:"folded,omitempty"`
}

// foldedEntries is what several accesses came to together, the first of which is the
// entry.
type foldedEntries struct {
	Count    uint64 `json:"count"`
	Open     uint64 `json:"open,omitempty"`
	Time     int64  `json:"time"`
	Height   uint64 `json:"height"`
	Lane     uint64 `json:"lane"`
	Run      uint64 `json:"run"`
	BytesIn  uint64 `json:"bytes_in"`
	BytesOut uint64 `json:"bytes_out"`
	Fuel     uint64 `json:"fuel,omitempty"`
	Bits     uint64 `json:"bits,omitempty"`
}

func (a *app) accessList() *cobra.Command {
	lease, resource, limit, folded := "", "", maxListed, false
	cmd := &cobra.Command{
		Use: "list", Short: "List the accesses to the private content of the own node, the newest first",
		Long: `List the accesses to the private content of the node that runs from this home, the
newest first: who, under which lease, with which algorithm, when, how much was read
and how much left, and what came of it. An entry is on disk before anything leaves.

Where a policy holds output back, the verdict says what came of it: passed, blocked by
a gate, large, or failed. How a run really ended stands here and nowhere else: its
consumer sees only that it was not released. Bits is what the run may have told its
consumer, of those that the policy allows to all runs of the lease.

The log lists the last 65,536 accesses one by one, and 4,096 refusals. Older ones of a
lease are folded into the first of them, which says how many they were, when the last one
was, and how much was read and left in all; that entry stays. --folded lists those alone.`,
		Example: "  mman access list --resource baf… -o json",
		Args:    console.Args(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkLimit(limit); err != nil {
				return err
			}
			return a.listAccesses(cmd.Context(), url.Values{"limit": {strconv.Itoa(limit)}, "lease": {lease}, "resource": {resource}, "folded": {strconv.FormatBool(folded)}})
		},
	}
	f := cmd.Flags()
	f.StringVar(&lease, "lease", "", "of this lease only")
	f.StringVar(&resource, "resource", "", "to this resource only")
	f.BoolVar(&folded, "folded", false, "only those that stand for several accesses each")
	f.IntVar(&limit, "limit", limit, "how many to show")
	return cmd
}

func (a *app) listAccesses(ctx context.Context, query url.Values) error {
	node, err := a.ownNode()
	if err != nil {
		return err
	}
	answer := struct {
		Accesses []accessEntry `json:"items"`
	}{[]accessEntry{}}
	if err := node.call(ctx, http.MethodGet, "/v1/access?"+query.Encode(), nil, &answer); err != nil {
		return err
	}
	said := struct {
		Accesses []accessEntry `json:"accesses"`
	}(answer)
	if len(said.Accesses) == 0 {
		return a.answer(said, "Nobody came to private content of this node.")
	}
	rows := make([][]string, len(said.Accesses))
	for i, e := range said.Accesses {
		rows[i] = e.row()
	}
	return a.answer(said, table([]string{"TIME", "NAME", "CONSUMER", "LEASE", "ALGORITHM", "IN", "OUT", "CAME OF IT"}, rows)...)
}

func (e accessEntry) row() []string {
	became := e.Decision
	switch {
	case e.Verdict != "":
		became = fmt.Sprintf("%s, %d of %d bits", e.Verdict, e.BitsUsed, e.BitsMost)
	case !e.Over:
		became = "not over"
	}
	if e.Reason != "" {
		became += ": " + e.Reason
	}
	in, out := e.BytesIn, e.BytesOut
	if f := e.Folded; f != nil {
		in, out = f.BytesIn, f.BytesOut
		became = fmt.Sprintf("%d accesses until %s, the first: %s", f.Count, time.Unix(f.Time, 0).UTC().Format(time.RFC3339), became)
	}
	return []string{
		time.Unix(e.Time, 0).UTC().Format(time.RFC3339), e.Form + " " + e.Name, e.Consumer.String(), e.Lease.String(), e.Algorithm.String(),
		strconv.FormatUint(in, 10), strconv.FormatUint(out, 10), became,
	}
}

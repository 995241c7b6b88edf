package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/market/price"
	"github.com/limboid/massive-man/p2p/protocol/session"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk"
)

// receiptFileMax bounds a file with a receipt, above what a home keeps of a run.
const receiptFileMax = 256 << 10

// receiptFile is a receipt with the statement under it, as a file for others.
type receiptFile struct {
	ChainID   string        `json:"chain_id"`
	Statement market.Signed `json:"statement"`
	Receipt   market.Signed `json:"receipt"`
	// Run is what the statement's digest of the work is of, for replay.
	Run *session.Run `json:"run,omitempty"`
	// Before and Input are those of sdk.RunRecord.
	Before resources.Usage `json:"before,omitzero"`
	Input  mman.CID        `json:"input,omitzero"`
}

// record returns the file as a home would keep it; without a run its number is 0.
func (f receiptFile) record() (sdk.RunRecord, error) {
	said, err := market.DecodeStatement(f.Statement.Bytes)
	if err != nil {
		return sdk.RunRecord{}, err
	}
	r := sdk.RunRecord{ChainID: f.ChainID, Lease: said.Lease, Statement: f.Statement, Receipt: f.Receipt, Before: f.Before, Input: f.Input}
	if f.Run != nil {
		r.Run = *f.Run
		err = r.Run.Validate()
	}
	return r, err
}

// receiptAnswer is what a receipt pays and how that follows from its statement.
type receiptAnswer struct {
	Receipt   mman.CID         `json:"receipt"`
	Statement market.Statement `json:"statement"`
	Session   mman.Amount      `json:"session_uman"` // the units with their factor
	Gross     mman.Amount      `json:"gross_uman"`
	Paid      mman.Amount      `json:"paid_uman"`
	Settled   mman.Amount      `json:"settled_uman"` // on its lane, by the ledger
}

func (a *app) receipt() *cobra.Command {
	return console.Group(&cobra.Command{
		Use: "receipt", Short: "Recompute what a receipt pays; hand one to others",
		Example: "  mman receipt verify bafyreib3…",
	}, a.receiptVerify(), a.receiptExport())
}

func (a *app) receiptVerify() *cobra.Command {
	return &cobra.Command{
		Use: "verify RECEIPT|FILE", Short: "Verify a receipt and compute its price again",
		Long: `Verify a receipt and the statement under it, and compute the price again.

The lease comes from the ledger: its provider's node must have signed the
statement, its key the receipt; the factors in the statement must be those of the
lease, and give the price from the usage. RECEIPT is in the answer of request run
-o json; a FILE that receipt export wrote can be verified by anybody, without a key.`,
		Example: "  mman receipt verify bafyreib3…\n  mman receipt verify bill.json -o json",
		Args:    console.Args(1, 1, "RECEIPT|FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.reader(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // nothing was written
			paid, err := findRun(c, args[0])
			if err != nil {
				return err
			}
			lease, err := c.Chain().Lease(cmd.Context(), paid.Lease)
			if err != nil {
				return err
			}
			st, r, err := lease.Audit(paid.ChainID, paid.Statement, paid.Receipt)
			if err != nil {
				return err
			}
			answer := receiptAnswer{Receipt: sdk.ReceiptID(paid.Receipt), Statement: st, Gross: st.Gross, Paid: r.Net(), Settled: lease.LanePaid(st.Lane).Paid}
			lines, err := answer.sum()
			if err != nil {
				return err
			}
			return a.answer(answer, lines...)
		},
	}
}

// sum computes the price line by line.
func (r *receiptAnswer) sum() ([]string, error) {
	st := r.Statement
	lines := []string{fmt.Sprintf("Statement %d on lane %d of lease %s, signed by its provider; the receipt by its consumer.", st.Seq, st.Lane, st.Lease)}
	for _, u := range st.Factors.Units {
		n, err := st.Usage.Of(u.Unit)
		if err != nil {
			return nil, err
		}
		lines = append(lines, fmt.Sprintf("%s: %d at %s for each %d", u.Unit, n, u.UMan, u.Per))
	}
	var err error
	if r.Session, err = (price.Price{Units: st.Factors.Units}).With(st.Usage, st.Factors.Factor); err != nil {
		return nil, err
	}
	lines = append(lines, fmt.Sprintf("their sum with a load of %d and a discount of %d basis points, rounded up once: %s", st.Factors.Factor.Load, st.Factors.Factor.Discount, r.Session))
	for _, s := range st.Factors.Shares {
		amount, err := s.Factor.Share(r.Session, s.Part)
		if err != nil {
			return nil, err
		}
		lines = append(lines, fmt.Sprintf("a share of %d basis points of it, with a load of %d and a discount of %d: %s", s.Part, s.Factor.Load, s.Factor.Discount, amount))
	}
	return append(lines,
		fmt.Sprintf("prices per lease: %s", st.Factors.Fixed),
		fmt.Sprintf("together %s, as the statement says; the receipt pays %s, the ledger has settled %s on the lane.", r.Gross, r.Paid, r.Settled)), nil
}

func (a *app) receiptExport() *cobra.Command {
	return &cobra.Command{
		Use: "export RECEIPT FILE", Short: "Write a receipt and its statement into a file that others can verify and replay",
		Long: `Write a receipt, the statement under it and the description of the run into a file.

The description holds the run's arguments, seed and limits, and the CID of its input;
the statement is signed over its digest. Anybody verifies the file with mman receipt
verify, and who has the contents runs it again with mman replay.`,
		Example: "  mman receipt export bafyreib3… bill.json",
		Args:    console.Args(2, 2, "RECEIPT FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.reader(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // nothing was written
			r, err := keptRun(c, args[0])
			if err != nil {
				return err
			}
			b, err := json.Marshal(receiptFile{r.ChainID, r.Statement, r.Receipt, &r.Run, r.Before, r.Input})
			if err != nil {
				return fmt.Errorf("%w: %w", mman.ErrInternal, err)
			}
			if err := os.WriteFile(args[1], append(b, '\n'), 0o600); err != nil {
				return fmt.Errorf("%w: %w", mman.ErrHome, err)
			}
			answer := struct {
				File string `json:"file"`
			}{args[1]}
			return a.answer(answer, "Wrote "+args[1]+"; others can check it with mman receipt verify and mman replay.")
		},
	}
}

// findRun reads a file of receipt export when there is one of that name, else it takes
// the word for a receipt of this home.
func findRun(c *sdk.Client, word string) (_ sdk.RunRecord, err error) {
	f, err := os.Open(word) //nolint:gosec // the user named it
	if errors.Is(err, os.ErrNotExist) {
		return keptRun(c, word)
	}
	if err != nil {
		return sdk.RunRecord{}, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err := io.ReadAll(io.LimitReader(f, receiptFileMax+1))
	if err != nil {
		return sdk.RunRecord{}, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	if len(b) > receiptFileMax {
		return sdk.RunRecord{}, fmt.Errorf("%s: %w: a file of receipt export has at most %d bytes", word, mman.ErrTooLarge, receiptFileMax)
	}
	var file receiptFile
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return sdk.RunRecord{}, fmt.Errorf("%s: %w: it is no file that receipt export wrote: %w", word, mman.ErrInvalid, err)
	}
	if d.More() {
		return sdk.RunRecord{}, fmt.Errorf("%s: %w: it is no file that receipt export wrote: something follows the receipt", word, mman.ErrInvalid)
	}
	r, err := file.record()
	if err != nil {
		return sdk.RunRecord{}, fmt.Errorf("%s: %w", word, err)
	}
	return r, nil
}

func keptRun(c *sdk.Client, word string) (sdk.RunRecord, error) {
	id, err := mman.ParseCID(word)
	if err != nil {
		return sdk.RunRecord{}, console.Wrong("%w", err)
	}
	return c.Leases().FindRun(id)
}

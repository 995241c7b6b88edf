package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/dataset"
	"github.com/limboid/massive-man/sdk"
)

// readAnswer is what was read of a dataset, and what it moved.
type readAnswer struct {
	dataset.Answer

	Resource mman.CID `json:"resource"`
	Bytes    uint64   `json:"bytes"`
	Moved    uint64   `json:"moved_bytes"`
	Out      string   `json:"out,omitempty"`
}

// reading is what the flags say of which rows and columns are read.
type reading struct {
	out, span, as string
	limit         size
	columns       []string
}

func newReading() *reading { return &reading{limit: readLimit} }

func (r *reading) flags(f *pflag.FlagSet) {
	f.StringVar(&r.out, "out", "", "file to write (default standard output)")
	f.StringVar(&r.as, "as", "", "parquet copies columns of a Parquet file without unpacking them")
	f.Var(&r.limit, "limit", "the most that is written of Parquet, of which a small file can hold much")
	f.StringVar(&r.span, "rows", "", "which rows, for example 0:100, 100: or :100 (default all)")
	f.StringSliceVar(&r.columns, "columns", nil, "which columns, by name, with commas between (default all)")
}

// query returns the CID that was typed, and what is read.
func (a *app) query(word string, r *reading) (id mman.CID, q dataset.Query, err error) {
	if id, err = parseCID(word); err != nil {
		return id, q, err
	}
	if r.as != "" && r.as != resources.FormatParquet {
		return id, q, console.Wrong("--as %.32q: write parquet, or leave it out", r.as)
	}
	q = dataset.Query{Columns: r.columns, Copy: r.as != "", MaxBytes: uint64(r.limit)}
	if q.From, q.To, err = parseSpan(r.span); err != nil {
		return id, q, err
	}
	if r.out == "" && a.output == formatJSON {
		return id, q, console.Wrong("with -o json standard output is for the answer: name a file with --out")
	}
	return id, q, nil
}

func (a *app) resourceRead() *cobra.Command {
	r := newReading()
	cmd := &cobra.Command{
		Use: "read CID", Short: "Read some rows and columns of a public dataset, where it lies",
		Long: `Read some rows and columns of a public dataset, where it lies.

CID is the resource's or its content's. Only what is needed moves, and the answer says
how many bytes that was: of Parquet the footer and the pages of the wanted columns that
hold the wanted rows, of CSV and JSON lines what comes before the last row. Rows count
from 0. CSV and JSON lines stay what they are, the rows of Parquet come as JSON lines.
With --as parquet the wanted columns of whole row groups are copied as they are, not
unpacked, into a Parquet file. A set whose reads have a price is read with mman request
data.`,
		Example: "  mman resource read baf… --rows 0:100 --columns species,mass\n  mman resource read baf… --columns price --as parquet --out price.parquet",
		Args:    console.Args(1, 1, "CID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, q, err := a.query(args[0], r)
			if err != nil {
				return err
			}
			return a.readDataset(cmd.Context(), id, q, r.out)
		},
	}
	r.flags(cmd.Flags())
	return cmd
}

func (a *app) requestData() *cobra.Command {
	r, std := newReading(), sdk.DefaultWanted()
	w := work{max: money(std.Cap), limits: std.Limits, wall: callWall, discover: discoverIndex}
	cmd := &cobra.Command{
		Use: "data DATASET", Short: "Read some rows and columns of a dataset whose reads have a price",
		Long: `Read some rows and columns of a dataset whose reads have a price.

DATASET is the resource's CID. A lease is made with who sells its parts, or an open one
used again; the blocks that hold what is read come one by one, are compared with their
CIDs, and are paid by the byte, each with a receipt that mman receipt verify shows. Otherwise it is mman resource
read, which is for sets without a price.`,
		Example: "  mman request data baf… --rows 0:100 --columns species,mass\n  mman request data baf… --max 0.1MAN --out all.csv",
		Args:    console.Args(1, 1, "DATASET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, q, err := a.query(args[0], r)
			if err != nil {
				return err
			}
			return a.buyDataset(cmd.Context(), id, q, w, r.out)
		},
	}
	f := cmd.Flags()
	r.flags(f)
	w.lease(f)
	w.reuse(f)
	return cmd
}

// readLimit bounds the rows of a Parquet file, unless --limit says otherwise.
const readLimit = 1 << 30

// parseSpan reads FROM:TO, where both may be left out.
func parseSpan(text string) (from, to uint64, err error) {
	if text == "" {
		return 0, 0, nil
	}
	first, last, ok := strings.Cut(text, ":")
	if first != "" {
		from, err = strconv.ParseUint(first, 10, 63)
	}
	if last != "" && err == nil {
		to, err = strconv.ParseUint(last, 10, 63)
	}
	if !ok || err != nil || (last != "" && to <= from) {
		return 0, 0, console.Wrong("--rows %.40q: write FROM:TO, for example 0:100", text)
	}
	return from, to, nil
}

func (a *app) readDataset(ctx context.Context, id mman.CID, q dataset.Query, out string) (err error) {
	c, err := a.reader(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // nothing was signed
	a.tick("looking for %s …", id)
	r, err := c.OpenRemote(ctx, id, filepath.Join(a.home, spoolFolder))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	answer, line, err := a.readRows(id, r, q, out)
	if err != nil {
		return err
	}
	if out == "" {
		a.note("%s", line)
		return nil
	}
	return a.answer(answer, line)
}

// source is a dataset that is read where it lies.
type source interface {
	io.ReaderAt
	Size() uint64
	Moved() uint64
}

// readRows writes what is read, and says in a line what that was.
func (a *app) readRows(id mman.CID, from source, q dataset.Query, out string) (readAnswer, string, error) {
	a.tick("")
	answer := readAnswer{Resource: id, Bytes: from.Size(), Out: out}
	to, err := a.newOutput(out)
	if err != nil {
		return answer, "", err
	}
	defer to.discard()
	if answer.Answer, err = dataset.Read(from, from.Size(), q, to); err != nil {
		return answer, "", err
	}
	if err := to.deliver(true); err != nil {
		return answer, "", err
	}
	answer.Moved = from.Moved()
	return answer, fmt.Sprintf("rows %d to %d, %d columns; %s of %s moved", answer.From, answer.To, answer.Columns, sizeAbout(answer.Moved), sizeAbout(answer.Bytes)), nil
}

// boughtAnswer is what was read of a dataset, and what that cost.
type boughtAnswer struct {
	readAnswer

	Lease    mman.LeaseID `json:"lease"`
	Provider mman.Address `json:"provider"`
	// Came is how many bytes came, blocks and the heads of their answers; as many are
	// billed as Usage says.
	Came  uint64          `json:"came_bytes"`
	Usage resources.Usage `json:"usage"`
	Paid  mman.Amount     `json:"paid_uman"`
	// Receipts are what mman receipt verify takes, one for each block.
	Receipts []mman.CID `json:"receipts"`
}

// buyDataset does the whole of request data.
func (a *app) buyDataset(ctx context.Context, id mman.CID, q dataset.Query, w work, out string) (err error) {
	c, err := a.signer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	sells, err := c.FindReads(ctx, id)
	if err != nil {
		return err
	}
	wanted, err := w.endpoint(sells.Offer.Resource)
	if err != nil {
		return err
	}
	_, lease, err := a.engage(ctx, c, wanted)
	if err != nil {
		return err
	}
	r, err := c.OpenBought(ctx, lease, sells)
	if err != nil {
		return err
	}
	answer, line, err := a.readRows(id, r, q, out)
	bye, stop := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer stop()
	if cerr := r.Close(bye); cerr != nil && a.verbose {
		_, _ = fmt.Fprintf(a.streams.Err, "a session did not end cleanly: %v\n", cerr) // every block is paid
	}
	if w.settle {
		if _, cerr := c.CloseLease(bye, lease.Lease.ID); cerr != nil {
			err = errors.Join(err, fmt.Errorf("all is paid, but the lease is still open; try: mman lease close %s: %w", lease.Lease.ID, cerr))
		}
	}
	if err != nil {
		return err
	}
	cost := r.Cost()
	bought := boughtAnswer{readAnswer: answer, Lease: lease.Lease.ID, Provider: lease.Lease.Compute().Provider, Came: cost.Came, Usage: cost.Usage, Paid: cost.Paid, Receipts: cost.Receipts}
	line += fmt.Sprintf(", %s paid", bought.Paid)
	if out == "" {
		a.note("%s", line)
		return nil
	}
	return a.answer(bought, line)
}

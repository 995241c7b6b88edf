package client

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/dataset"
)

// readAnswer is what was read of a dataset, and what it moved.
type readAnswer struct {
	dataset.Answer

	Resource mman.CID `json:"resource"`
	Bytes    uint64   `json:"bytes"`
	Moved    uint64   `json:"moved_bytes"`
	Out      string   `json:"out,omitempty"`
}

func (a *app) resourceRead() *cobra.Command {
	out, span, as, limit := "", "", "", size(readLimit)
	var columns []string
	cmd := &cobra.Command{
		Use: "read CID", Short: "Read some rows and columns of a public dataset, where it lies",
		Long: `Read some rows and columns of a public dataset, where it lies.

CID is the resource's or its content's. Only what is needed moves, and the answer says
how many bytes that was: of Parquet the footer and the pages of the wanted columns that
hold the wanted rows, of CSV and JSON lines what comes before the last row. Rows count
from 0. CSV and JSON lines stay what they are, the rows of Parquet come as JSON lines.
With --as parquet the wanted columns of whole row groups are copied as they are, not
unpacked, into a Parquet file.`,
		Example: "  mman resource read baf… --rows 0:100 --columns species,mass\n  mman resource read baf… --columns price --as parquet --out price.parquet",
		Args:    console.Args(1, 1, "CID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseCID(args[0])
			if err != nil {
				return err
			}
			if as != "" && as != resources.FormatParquet {
				return console.Wrong("--as %.32q: write parquet, or leave it out", as)
			}
			q := dataset.Query{Columns: columns, Copy: as != "", MaxBytes: uint64(limit)}
			if q.From, q.To, err = parseSpan(span); err != nil {
				return err
			}
			if out == "" && a.output == formatJSON {
				return console.Wrong("with -o json standard output is for the answer: name a file with --out")
			}
			return a.readDataset(cmd.Context(), id, q, out)
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "file to write (default standard output)")
	f.StringVar(&as, "as", "", "parquet copies columns of a Parquet file without unpacking them")
	f.Var(&limit, "limit", "the most that is written of Parquet, of which a small file can hold much")
	f.StringVar(&span, "rows", "", "which rows, for example 0:100, 100: or :100 (default all)")
	f.StringSliceVar(&columns, "columns", nil, "which columns, by name, with commas between (default all)")
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
	a.tick("")
	to, err := a.newOutput(out)
	if err != nil {
		return err
	}
	defer to.discard()
	answer := readAnswer{Resource: id, Bytes: r.Size(), Out: out}
	if answer.Answer, err = dataset.Read(r, r.Size(), q, to); err != nil {
		return err
	}
	if err := to.deliver(true); err != nil {
		return err
	}
	answer.Moved = r.Moved()
	line := fmt.Sprintf("rows %d to %d, %d columns; %s of %s moved", answer.From, answer.To, answer.Columns, sizeAbout(answer.Moved), sizeAbout(answer.Bytes))
	if out == "" {
		a.note("%s", line)
		return nil
	}
	return a.answer(answer, line)
}

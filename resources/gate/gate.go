package gate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode"

	mman "github.com/limboid/massive-man"
	"github.com/limboid/massive-man/resources"
)

// Verdict is what came of a run on guarded data.
type Verdict string

// The verdicts.
const (
	Passed  Verdict = "passed"  // its output leaves
	Blocked Verdict = "blocked" // a gate did not end with 0
	Failed  Verdict = "failed"  // the algorithm did not, or was stopped
	Large   Verdict = "large"   // more came out of the last gate than may leave
)

// maxReason bounds what the owner is told of a failure, in bytes.
const maxReason = 256

// Done is how a run ended.
type Done struct {
	// Output is what leaves, filled up; empty unless the verdict is Passed.
	Output []byte
	// Seen is the usage that the consumer is billed, without the time: that is the
	// provider's to measure.
	Seen resources.Usage

	// Verdict, and why it is none other, are for the owner alone, as is what the run
	// really used, with its gates, and how it ended.
	Verdict  Verdict
	Reason   string
	Used     resources.Usage
	Code     mman.Code
	ExitCode uint32
}

// ExitCode is what the consumer sees of how a run ended: 0 or 1.
func (v Verdict) ExitCode() uint32 {
	if v == Passed {
		return 0
	}
	return 1
}

// Run is a task that was admitted, with its gates.
type Run struct {
	executor resources.Executor
	task     resources.Task
	outlet   resources.Outlet
	prepared resources.Prepared
}

// Prepare admits a task whose output leaves by o, and its gates, or refuses with the
// executor's reason. Nothing of that depends on what the data say.
func Prepare(ctx context.Context, executor resources.Executor, task resources.Task, o resources.Outlet) (*Run, error) {
	for _, g := range o.Gates {
		prepared, err := executor.Prepare(ctx, filter(g, task, nil))
		if err == nil {
			err = prepared.Close()
		}
		if err != nil {
			return nil, fmt.Errorf("gate %s: %w", g.Module, err)
		}
	}
	prepared, err := executor.Prepare(ctx, task)
	if err != nil {
		return nil, err
	}
	return &Run{executor, task, o, prepared}, nil
}

// Close frees a run that is not carried out.
func (r *Run) Close() error { return r.prepared.Close() }

// Go carries it out, once. Whatever happens is in the verdict.
func (r *Run) Go(ctx context.Context) Done {
	executor, task, o := r.executor, r.task, r.outlet
	result, output, complaint, err := carry(ctx, executor, r.prepared)
	d := Done{Used: result.Usage, Code: codeOf(err), ExitCode: result.ExitCode, Verdict: Passed}
	switch {
	case err != nil:
		d.Verdict, d.Reason = Failed, reason(err.Error())
	case result.ExitCode != 0:
		d.Verdict, d.Reason = Failed, reason(complaint)
	}
	for _, g := range o.Gates {
		if d.Verdict != Passed {
			break
		}
		output = d.pass(ctx, executor, task, g, output)
	}
	most := o.Most(task.Limits)
	if d.Verdict == Passed && uint64(len(output)) > most {
		d.Verdict, d.Reason = Large, fmt.Sprintf("%d bytes, %d may leave", len(output), most)
	}
	if d.Verdict == Passed {
		d.Output = append(output, bytes.Repeat([]byte{'\n'}, int(o.Padded(uint64(len(output)))-uint64(len(output))))...) //nolint:gosec // within ReleaseMaxOutput
	}
	d.Seen = resources.Usage{
		CallCount: 1, InBytes: result.Usage.InBytes, OutBytes: uint64(len(d.Output)),
		Fuel: o.Fuel(min(d.Used.Fuel, task.Limits.Fuel), task.Limits.Fuel),
	}
	return d
}

// codeOf is 0 for no error.
func codeOf(err error) mman.Code {
	if err == nil {
		return 0
	}
	return mman.CodeOf(err)
}

// filter is the task of a gate over what was printed.
func filter(g resources.Gate, of resources.Task, printed []byte) resources.Task {
	limits := of.Limits
	limits.InputBytes = resources.ReleaseMaxOutput
	limits.OutputBytes = resources.ReleaseMaxOutput
	task := resources.Task{
		Algorithm: g.Module, Args: g.Args, Limits: limits,
		Stdin: mman.SumCID(mman.CodecRaw, printed),
	}
	task.Content = contents{of.Content, task.Stdin, printed}
	return task
}

// pass lets a gate read what was printed and returns what it makes of it. A gate has
// what the algorithm left of fuel and time; its randomness is the same in every run,
// or a consumer could choose it.
func (d *Done) pass(ctx context.Context, executor resources.Executor, of resources.Task, g resources.Gate, printed []byte) []byte {
	block := func(why string) []byte {
		d.Verdict, d.Reason = Blocked, reason(why)
		return nil
	}
	task := filter(g, of, printed)
	if d.Used.Fuel >= task.Limits.Fuel || d.Used.WallMs >= task.Limits.WallMs {
		return block("the algorithm left the gate no fuel or no time")
	}
	task.Limits.Fuel -= d.Used.Fuel
	task.Limits.WallMs -= d.Used.WallMs
	prepared, err := executor.Prepare(ctx, task)
	if err != nil {
		return block(err.Error())
	}
	result, output, complaint, err := carry(ctx, executor, prepared)
	d.Used.Fuel += result.Usage.Fuel
	d.Used.WallMs += result.Usage.WallMs
	switch {
	case err != nil:
		return block(err.Error())
	case result.ExitCode != 0:
		return block(fmt.Sprintf("the gate ended with %d: %s", result.ExitCode, complaint))
	}
	return output
}

// carry runs what was prepared and holds back what it writes.
func carry(ctx context.Context, executor resources.Executor, prepared resources.Prepared) (result resources.Result, output []byte, complaint string, err error) {
	stdout, stderr := &buffer{most: resources.ReleaseMaxOutput}, &buffer{most: maxReason, drop: true}
	result, err = executor.Run(ctx, prepared, resources.IO{Stdout: stdout, Stderr: stderr})
	return result, stdout.end(), string(stderr.end()), errors.Join(err, prepared.Close())
}

// reason brings a sentence into one short line.
func reason(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	if len(s) > maxReason {
		s = s[:maxReason]
	}
	s = strings.ToValidUTF8(s, "")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
}

// buffer takes up to most bytes; what comes after is an error, or dropped. An executor
// may leave a write behind that comes when the run is over.
type buffer struct {
	most int
	drop bool

	mu   sync.Mutex
	b    []byte
	over bool
}

// Write takes p whole, or fails.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	room := b.most - len(b.b)
	switch {
	case b.over:
		return 0, fmt.Errorf("%w: the run is over", mman.ErrCanceled)
	case len(p) <= room:
		b.b = append(b.b, p...)
	case b.drop:
		b.b = append(b.b, p[:room]...)
	default:
		return 0, fmt.Errorf("%w: %d bytes are held back until they may leave", mman.ErrOutput, b.most)
	}
	return len(p), nil
}

// end returns what was written; nothing is any more.
func (b *buffer) end() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	return b.b
}

// contents are those of a task with what it printed.
type contents struct {
	resources.Opener

	id      mman.CID
	printed []byte
}

// Open opens a content of the task, or what it printed.
func (c contents) Open(ctx context.Context, id mman.CID) (resources.Blob, error) {
	if id == c.id {
		return blob{bytes.NewReader(c.printed)}, nil
	}
	return c.Opener.Open(ctx, id)
}

type blob struct{ *bytes.Reader }

// Size returns the number of bytes.
func (b blob) Size() uint64 { return uint64(b.Reader.Size()) } //nolint:gosec // not negative

// Close does nothing.
func (blob) Close() error { return nil }

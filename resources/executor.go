package resources

import (
	"context"
	"fmt"
	"io"
	"strings"

	mman "github.com/limboid/massive-man"
)

// Bounds of a Task's text.
const (
	MaxArgs      = 64
	MaxArgsBytes = 16 << 10
	MaxInputs    = 16
	// MaxContentBytes bounds every content that a task can name: 64 GiB.
	MaxContentBytes = 64 << 30
)

// Task is one piece of work, given by content alone: whoever has the blocks can
// run it again.
type Task struct {
	// Algorithm is the content to run: for the wasm facet a WASI command module,
	// otherwise a script of at most ScriptMaxBytes.
	Algorithm mman.CID
	// Facet is how the algorithm is written; "" means FacetWasm.
	Facet Facet
	// Args are passed as the program's arguments after its name.
	Args []string
	// Stdin is the content on standard input, the zero CID for none.
	Stdin mman.CID
	// Inputs are mounted read-only, the i-th as /data/<i>.
	Inputs []mman.CID
	// Folders says of each input whether it is the pack of a folder, which is mounted
	// as one; nil when none is.
	Folders []bool
	// Seed feeds every source of randomness that the guest can see.
	Seed mman.Hash
	// Environment makes the run one of an environment: input and output are the frames
	// of the package environment, and steps are counted. Only modules can be.
	Environment bool
	// Service makes the run a hosted one; nil for others. Only containers can be.
	Service *Service
	// Limits bound the run; all fields are set.
	Limits Limits
	// Content opens the CIDs above and that of Module. The executor closes what
	// it opens.
	Content Opener
}

// Blob is an opened content of known size.
type Blob interface {
	io.ReadSeekCloser
	Size() uint64
}

// Opener opens content by CID within the bounds of one lease. Open fails with
// mman.ErrNotFound or mman.ErrContent; it is safe for concurrent use.
type Opener interface {
	Open(ctx context.Context, id mman.CID) (Blob, error)
}

// Input is a standard input that comes while a run goes on.
type Input interface {
	// Read waits for input, but not longer than ctx, and returns io.EOF at its
	// end. It fails with mman.ErrIdle when none came for too long.
	Read(ctx context.Context, p []byte) (int, error)
	// Ready reports whether Read would return at once.
	Ready() bool
}

// Credit says how far an interactive run may go before more of it is paid. Its
// methods are safe for concurrent use.
type Credit interface {
	// Covers reports whether what was used is paid for.
	Covers(used Usage) bool
	// Await waits until it is, but not longer than ctx, whose error it returns.
	Await(ctx context.Context, used Usage) error
	// Fuel returns the fuel at which a guest stops that makes no call to the host.
	Fuel() uint64
	// MoreFuel waits until that is more than it was, but not longer than ctx, whose
	// error it returns.
	MoreFuel(ctx context.Context, than uint64) (uint64, error)
}

// IO carries a run's streams. Writers are called from one goroutine at a time;
// an error from them ends the run.
type IO struct {
	Stdout io.Writer
	Stderr io.Writer
	// Stdin makes the run interactive: it takes the place of the task's standard
	// input.
	Stdin Input
	// Framed says that Stdin carries records beside what is typed: see Records.
	Framed bool
	// Terminal, when set, is the screen of a framed run: the program has a terminal
	// of its own, and its standard error goes there too.
	Terminal *Terminal
	// Aside takes the answers to a framed run's records.
	Aside io.Writer
	// Credit, when set, pauses the guest of an interactive run in its calls to the
	// host while what it used is not paid for.
	Credit Credit
	// Progress, when set, is called now and then with the usage so far, from
	// the executor's goroutine; it must not block.
	Progress func(Usage)
	// Notices, when set, brings what the consumer of a hosted run must know before its
	// provider ends it; see Service. The run ends as the first one says.
	Notices Notices
	// Door, when set, opens an address of the provider at which others reach a hosted
	// run that asked for one.
	Door func(ctx context.Context) (Door, error)
}

// Result is how a run ended.
type Result struct {
	// ExitCode is the guest's own; other than 0 is a failed run that is paid.
	ExitCode uint32
	Usage    Usage
}

// Prepared is a task that was admitted and is ready to run, once.
type Prepared interface {
	// Close frees what Prepare took. Safe twice.
	Close() error
}

// Executor runs the tasks of one facet. It is safe for concurrent use.
//
// Prepare fetches by CID, verifies, and admits or refuses with a reason:
// mman.ErrModule, ErrImport, ErrMemory, ErrInputLimit, ErrNotFound, ErrContent.
//
// Run returns the usage also when it fails. Its errors are mman.ErrFuel,
// ErrWall, ErrMemory, ErrOutput, ErrGuestTrap, ErrCanceled, for an interactive run
// ErrIdle, ErrInputLimit and ErrUnpaid, for a hosted one ErrStopped and for one of an
// environment ErrEnvironment; a guest that ends with an exit code other than 0 is no
// error.
type Executor interface {
	Prepare(ctx context.Context, task Task) (Prepared, error)
	Run(ctx context.Context, prepared Prepared, streams IO) (Result, error)
}

// Validate checks the parts of a task that a stranger chose.
func (t Task) Validate() error {
	if t.Algorithm.IsZero() {
		return fmt.Errorf("%w: the task names no algorithm", mman.ErrInvalid)
	}
	if err := t.validFacet(); err != nil {
		return err
	}
	if err := ValidArgs(t.Args); err != nil {
		return err
	}
	if len(t.Inputs) > MaxInputs {
		return fmt.Errorf("%w: %d inputs, at most %d are allowed", mman.ErrTooLarge, len(t.Inputs), MaxInputs)
	}
	if len(t.Folders) > 0 && len(t.Folders) != len(t.Inputs) {
		return fmt.Errorf("%w: of %d inputs %d are said to be folders or not", mman.ErrInvalid, len(t.Inputs), len(t.Folders))
	}
	for i, in := range t.Inputs {
		if in.IsZero() {
			return fmt.Errorf("%w: input %d names no content", mman.ErrInvalid, i)
		}
	}
	if t.Environment && (!t.Stdin.IsZero() || t.Facet != "" && t.Facet != FacetWasm) {
		return fmt.Errorf("%w: an environment is a WebAssembly module whose input comes while it runs, this one is %s with input %q", mman.ErrUnsupported, t.Facet, t.Stdin)
	}
	if t.Service != nil {
		if t.Facet != FacetContainer {
			return fmt.Errorf("%w: an algorithm of facet %s cannot be hosted, only a container can", mman.ErrUnsupported, t.Facet)
		}
		if err := t.Service.Validate(); err != nil {
			return err
		}
	}
	if t.Content == nil {
		return fmt.Errorf("%w: the task has no content to read from", mman.ErrInvalid)
	}
	return t.Limits.Validate()
}

// IsFolder reports whether input i is the pack of a folder.
func (t Task) IsFolder(i int) bool { return len(t.Folders) > 0 && t.Folders[i] }

// ValidArgs bounds a program's arguments.
func ValidArgs(args []string) error {
	total := 0
	for i, a := range args {
		total += len(a)
		if strings.ContainsRune(a, 0) {
			return fmt.Errorf("%w: argument %d holds a zero byte", mman.ErrInvalid, i)
		}
	}
	if len(args) > MaxArgs || total > MaxArgsBytes {
		return fmt.Errorf("%w: %d arguments of %d bytes, at most %d of %d are allowed", mman.ErrTooLarge, len(args), total, MaxArgs, MaxArgsBytes)
	}
	return nil
}

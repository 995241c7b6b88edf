package meter

import (
	"fmt"

	mman "github.com/limboid/massive-man"
)

// Version is the version of the rules: of prices, of places where fuel is paid,
// of what is refused. Whatever changes the bytes of a metered module, or the
// fuel of a run, raises it. It is part of a lease.
const Version = 1

// Names under which a metered module exports the meter's globals. A module that
// uses a name with ReservedPrefix itself is refused.
const (
	ReservedPrefix = "mman."
	// UsedGlobal is an i64 that is not negative: the fuel used so far. The host
	// may add to it inside a host call.
	UsedGlobal = ReservedPrefix + "used"
	// LimitGlobal is an i64, taken without sign: the fuel that may be used. It is
	// 0 at first. The host may change it at any time, also while the guest runs.
	LimitGlobal = ReservedPrefix + "limit"
	// StackGlobal is an i32: the words of stack in use, 0 between runs.
	StackGlobal = ReservedPrefix + "stack"
	// StopGlobal is an i32: why the meter trapped, one of the Stop constants.
	StopGlobal = ReservedPrefix + "stop"
	// NextGlobal is an i64: the fuel at which the guest looks at the limit next. A
	// host that lowers the limit while the guest runs sets it to 0 after that, so
	// that the guest looks at its next check.
	NextGlobal = ReservedPrefix + "next"
	// StartFunction is what the module has in its start section, if it has one: a
	// function without parameters and results. The host calls it once, when it has
	// set the limit and before anything else.
	StartFunction = ReservedPrefix + "start"
)

// Values of StopGlobal. Running out of fuel has none: the host compares
// UsedGlobal with LimitGlobal after every return.
const (
	StopNone   = 0 // the meter did not trap, or the fuel was out
	StopStack  = 1 // the calls need more than StackWords
	StopMemory = 2 // the host could not honour a grow within the module's maximum
)

// Limits of what is accepted, and of a run.
const (
	// ModuleMaxBytes is the largest module that is accepted.
	ModuleMaxBytes = 32 << 20
	// FunctionMaxBytes is the longest code of one function that is accepted.
	FunctionMaxBytes = 1 << 20
	// StackWords is what the calls of a guest may take together; a word is 8
	// bytes. It is below every compiling engine's own limit.
	StackWords = 64 << 10
	// FrameWords is what a call takes beside its locals and operands.
	FrameWords = 8
	// PieceBytes and PieceElements are the most that an operator on a range
	// does between two looks at the limit.
	PieceBytes    = 64 << 10
	PieceElements = 8 << 10
)

// Prices beside Price.
const (
	// SliceFuel is how much fuel a guest uses between two pauses, at which it
	// looks at the limit and the host can run: a twentieth of a millisecond or so,
	// some milliseconds of a guest that waits for memory at each turn. Where a
	// guest stops does not depend on it: near the limit every check looks.
	SliceFuel = 1 << 18
	// RangeUnit is how many bytes, or elements, an operator on a range handles
	// for one unit of fuel; a part of it counts whole.
	RangeUnit = 64
	// PageFuel is the fuel of one page of memory.grow.
	PageFuel = 1 << pageShift

	costEntry  = 1
	rangeShift = 6
	pageShift  = 10
)

// Limits that keep what reading a module takes in proportion to it, and what
// comes out below what engines accept.
const (
	maxPages         = 1 << 16
	maxTables        = 16
	maxTableElements = 1 << 20
	maxLocals        = 50_000 - 8 // of one function, without the meter's own
	maxArity         = 1_000
	maxItems         = 1_000_000 // types; functions
	maxDepth         = 1 << 16
	maxNameBytes     = 100_000
	// Work is looking at an operator, at one type of a call or a block, at a
	// local.
	workBase    = 1 << 20
	workPerByte = 64
	// Of what is written.
	functionOutputMax = 7_654_321
	outputMaxBytes    = 128 << 20
)

// Where checks and counts are left out or added.
const (
	// A function without calls whose code costs no more is not checked at its
	// entry.
	leafFuel = 128
	// A function without calls that takes no more does not count on the stack.
	leafWords = 64
	// Code without loops is checked when this much may have been paid since the
	// last check.
	checkEvery = 1024
	// So many locals that a loop changes are passed through its pauses.
	maxCarried = 16
	// So many locals of a loop are remembered for the loop around it.
	maxAccesses = 64
)

// Options say what a host provides. They change no byte of what comes out.
type Options struct {
	// Known tells whether the host provides a function; a module that imports
	// another is refused. Nil: every function is taken to be provided.
	Known func(module, name string) bool
}

// switches turn rules off, for the tests that show that they are needed.
type switches struct {
	anyImport bool // tables, memories and globals may be imported
	anyName   bool // the meter's names may be used
	anySize   bool // modules, functions and their locals are as large as they are
	threads   bool // a fence is an operator, a shared memory and a relaxed vector are others
	naive     bool // every node is charged for itself, on the global
	noChecks  bool
	noStack   bool
	noRange   bool // ranges and grows cost what one operator costs
	noPieces  bool
	noPauses  bool // the host does not run while a guest computes
	noGrow    bool
	noNaN     bool
	noStart   bool // the engine calls the start function
	noEntry   bool // entries of functions cost nothing
	stepwise  bool // every operator is charged for itself, just before it
	noMends   bool // operators that an engine gets wrong are left to it
	everyNaN  bool // NaNs are made canonical where they are made
	otherNaNs bool // operators yield other NaNs than this processor's
}

// Metered is a module that counts its own fuel.
type Metered struct {
	// Module is the module, in memory of its own.
	Module []byte
	// Version is the version of the rules that made it.
	Version uint32
	// MinPages and MaxPages are the memory's limits, in pages of 64 KiB; both
	// are 0 without a memory. What the memory starts with is not charged for.
	MinPages, MaxPages uint32
	// Functions counts the functions with code, Blocks their basic blocks,
	// Charges the places where fuel is paid, Checks those where the limit is
	// looked at, Canonicalised those where a NaN is made canonical.
	Functions, Blocks, Charges, Checks, Canonicalised int
}

// Instrument returns the module with the rules of this Version built in. It is a
// pure function of the module's bytes; time and memory are in proportion to
// them. It validates the whole module first. Errors wrap mman.ErrModule, or
// mman.ErrImport for an import that is not provided, and name the function and
// the byte. The module is only read. Safe for concurrent use.
func Instrument(module []byte, opts Options) (Metered, error) {
	return instrument(module, opts, switches{})
}

func instrument(module []byte, opts Options, sw switches) (Metered, error) {
	m, err := parse(module, opts, sw)
	if err != nil {
		return Metered{}, fmt.Errorf("meter the module: %w", err)
	}
	o := newOutput(m, sw)
	ops := operators()
	if sw.threads {
		fenced := *ops
		fenced[0xfe] = operator{imm: immIndexZero}
		ops = &fenced
	}
	b := newBody(m, ops, sw)
	for i := range m.bodies {
		if err := b.validate(i); err != nil {
			return Metered{}, fmt.Errorf("meter the module: %w", err)
		}
		b.emit(o, sw)
		if len(o.scratch) > functionOutputMax || len(o.code) > outputMaxBytes {
			return Metered{}, fmt.Errorf("meter the module: %w: function %d, byte %d: metered it has %d bytes, which is too much for engines; split it",
				mman.ErrModule, b.index, b.r.pos, len(o.scratch))
		}
	}
	out, err := o.module()
	if err != nil {
		return Metered{}, fmt.Errorf("meter the module: %w", err)
	}
	info := Metered{
		Module: out, Version: Version, Functions: len(m.bodies), Blocks: o.nodes,
		Charges: o.charges, Checks: o.checks, Canonicalised: o.canonical,
	}
	if m.memories > 0 {
		info.MinPages, info.MaxPages = m.minPages, m.maxPages
	}
	return info, nil
}

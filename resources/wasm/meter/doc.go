// Package meter builds the measuring of fuel into WebAssembly modules: bytes in,
// bytes out, by nothing but the bytes. A metered module counts what it uses in
// exported globals, stops when that is above a limit that the host may change at
// any time, and gives the same results, the same fuel and the same traps on every
// engine and processor. So a result, and the bill for it, can be checked by
// whoever has the blocks.
//
// The package runs nothing, knows no engine, no WASI, no prices and no leases.
// The executor calls it on the original module, whose CID is in the lease, with
// the lease's version; so does whoever replays a run. A module that comes with
// the meter's names is refused.
//
// # Rules of version 1
//
// Fuel. Every operator costs 1, see Price, but nop, drop, block, loop,
// unreachable, return, else and end, which cost 0. Each entry of a function costs
// 1. Code is paid for ahead, at the starts of basic blocks, and never more than is
// certain to be reached if nothing traps and no host call ends the run; over
// every complete way through a function the sum is exact. A run is out of fuel at
// the first check where used > limit, without sign. Checks stand at the heads of
// loops; at the entries of functions that call or whose code costs more than 128;
// where more than 1,024 may have been paid in a function since the last check;
// and at the operators below.
//
// Ranges. memory.fill, memory.copy, memory.init, table.fill, table.copy and
// table.init of n bytes or elements cost ⌈n/64⌉ more, paid and checked before
// anything is written. They run in pieces of 64 KiB or 8,192 elements with a look
// at the limit before each; a range that does not fit traps as it always did,
// before anything is written.
//
// Growing. memory.grow costs 1,024 more for each page, table.grow ⌈n/64⌉ more for
// n elements, paid and checked before, if the new size is within the maximum of
// the module; otherwise it answers -1 and costs no more. A memory without a
// maximum has one of 65,536 pages, a table one of 1,048,576 elements, or less if
// the module says so. If the host refuses a growth within the maximum, the run
// ends: StopGlobal is StopMemory. A guest never sees a -1 that depends on the
// machine. What a memory starts with is not charged for; see Metered.MinPages.
//
// Stack. A call takes 8 words, one for each parameter and local, and as many as
// the function has operands at a time at most; a vector counts twice. A call that would take the sum
// above 65,536 words traps: StopGlobal is StopStack. A function that calls nothing
// and takes at most 64 words does not count. The sum is below the limits of
// engines that compile; wazero's interpreter gives up after 2,000 calls, whatever
// their size, and is no engine to replay deep recursion with.
//
// NaNs. A NaN that an operator computes has the bits of the positive canonical
// one (0x7fc00000, 0x7ff8000000000000), wherever bits can be seen: in memory, in
// globals, as integers, as arguments and results. NaNs that are loaded, given by
// the host or constant keep theirs when they are moved, negated, made absolute or
// given a sign.
//
// Vectors (SIMD) cost 1 an operator like all others. A NaN lane that an operator
// computes is made canonical at once.
//
// Operators that engines get wrong. wazero 1.12 on amd64 now and then loses an operand
// of select for floats and vectors, of copysign, v128.bitselect and of
// f64x2.replace_lane 0. They are written as others, which give the same bits, and cost
// what they cost.
//
// Start functions. A start section would run before the host can set the limit. The
// function in it is exported as StartFunction instead, for the host to call.
//
// Refused are relaxed vectors, threads, tail calls, exceptions, garbage
// collection, typed function references, extended constant expressions, 64-bit
// and several memories; imports of anything but functions; element and data
// segments that do not fit, which engines treat differently; names that begin
// with ReservedPrefix; modules above 32 MiB, functions above 1 MiB of code or
// 49,992 parameters and locals; functions whose frame is above the stack or
// whose blocks nest more than 65,536 deep; types with more than 1,000
// parameters or results; more than 1,000,000 types or functions and more than
// 16 tables; modules whose types are too large for their size; and what grows
// above 128 MiB or 7,654,321 bytes in a function. The whole module is validated
// against WebAssembly 2.0 before anything of it is rewritten. Custom sections
// are dropped, but for the names of the module and of its functions.
//
// # What a host does
//
// It sets LimitGlobal before the first call; at first the limit is 0. If there
// is a StartFunction, that is the first call. It may add to UsedGlobal inside a
// host call, which is how host calls are paid for. It may raise or lower
// LimitGlobal at any time, also from another goroutine while the guest
// computes; if it then sets NextGlobal to 0, a lowered limit is seen at the
// next check or piece of a range, and otherwise within SliceFuel. After every
// return, with or without a trap, it looks, in this order: StopGlobal not 0,
// that is the reason; used > limit, the fuel is out, and the whole limit is
// billed; otherwise the trap or the result is the guest's. A small function can
// return with used > limit. After a trap of any kind the fuel shown is a lower
// bound, because the count is kept in a local between calls; it is the same
// everywhere, but bill the whole limit. An instance that trapped is not called
// again, for its StackGlobal is not 0.
//
// # Invariants
//
// Nothing that the guest has changes its index: types, functions and globals are
// only added behind the guest's. The same bytes and the same version give the
// same bytes. Time and memory are in proportion to the module, with no recursion
// on what a stranger chose.
package meter

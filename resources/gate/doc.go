// Package gate carries out a run on guarded data: it holds back what the run prints,
// passes it through the owner's filters, and bills it so that the bill says no more
// than a resources.Outlet lets out.
//
// The provider's worker runs it, and whoever replays a receipt: with the same blocks
// it gives the same output and the same bill. It knows an executor, not a price, a
// peer or a log. It does not wait: answering at the outlet's moments is the
// provider's.
//
// Invariant: what leaves depends on the data in Done's Output and Seen only; all else
// in Done is for the owner.
package gate

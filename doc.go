// Package mman holds the primitives that every other package of Massive MAN
// shares: money, addresses, content ids, object ids, coded errors and the
// domain-separated digest under every signature that is not a transaction's.
//
// It is the leaf of the import graph: it uses the standard library only, does
// no I/O, reads no clock and keeps no state. Every value type is comparable,
// is safe for concurrent use and has one text form and one binary form.
package mman

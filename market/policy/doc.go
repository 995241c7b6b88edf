// Package policy is the language in which a provider says who may use a
// Resource, for what and how much: a typed envelope of rules, limits and an
// algorithm list, and its one evaluation, Policy.Decide.
//
// The same code decides at match time (on the chain), at run time (at the
// provider) and on a reader's desk, and it always says which rule decided. It
// is pure and total: no I/O, no clock, bounded work. What the envelope can
// express but this version does not enforce is refused by Validate, never
// ignored.
package policy

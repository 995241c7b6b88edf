// Package session is the conversation in which a lease is used,
// /mman/session/1: the consumer presents the lease, the provider accepts or
// says why not, runs follow each other, output streams, Statements are answered
// by Receipts, and either side may end it at any moment.
//
//	consumer                         provider
//	Hello (lease key signs)     →
//	                            ←    Accept (node key signs), or an error
//	Run                         →
//	                            ←    Need (contents that the run lacks)
//	Blob, Chunk…                →
//	                            ←    Stdout…, Stderr…, Statement…
//	Receipt…                    →
//	                            ←    Statement with the result, or Failed
//	Receipt, final              →
//	Run…, Cancel, Close         →
//	                            ←    Closed
//
// The input of an interactive run comes while it runs, in Input frames up to
// InputEnd; Taken makes room for more. What the provider sends of such a run is
// numbered and kept until Got says that it came, so that a consumer whose stream
// broke can dial again, with Resume in its Hello, and go on where it was. The input
// of a framed run is records: what is typed, a terminal's size, files that are put
// and asked for. Aside frames answer them.
//
// The package carries the conversation and holds both sides to its order and
// bounds. What to admit, what to run and what to sign is decided by the Provider
// and Payer that it is given: it keeps no money state.
package session

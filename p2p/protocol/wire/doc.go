// Package wire is the framing that the stream protocols share: a frame is
//
//	uvarint length ‖ kind byte ‖ body
//
// where the length counts kind and body, and the body is DAG-CBOR or, where a
// protocol says so, raw bytes. Kind 0 is the same in every protocol: an error
// with its code, its retry meaning and one sentence.
//
// It is not a protocol: it knows no message. The packages beside it use it.
//
// Invariants: a frame is bounded before it is read, and memory grows with the
// bytes that arrived, not with the length that was announced; waiting for a
// frame and receiving it have timeouts of their own; after any violation the
// stream is reset, so nobody reads on in the middle of garbage.
package wire

// Package chunk cuts bytes where their content says so, so that two versions of a
// large file share the chunks between their changes, wherever in the file those
// are.
//
// It is pure: no input and output, no memory of its own, equal bytes give equal
// cuts on every machine. p2p/content calls it for checkpoints.
//
// Invariant: the definition below is part of the CID of every checkpoint, so it
// never changes.
//
// # Definition
//
// G is a table of 256 numbers of 64 bits: G[i] is the big-endian number in the first
// 8 bytes of SHA-256("mman/chunk/1" ‖ byte i). A chunk begins where the last one
// ended. It has Min bytes at least, if so many are left. From byte Min on, h begins
// with 0, and for each byte c of the chunk, h = 2·h + G[c] modulo 2⁶⁴. The chunk ends
// after the byte
//
//   - that makes the upper 18 bits of h all 0, up to byte Average of the chunk,
//   - that makes the upper 14 bits of h all 0, after it,
//   - number Max,
//   - or that is the file's last,
//
// whichever comes first. The two masks keep most chunks near the average (Xia et al.,
// "FastCDC: a Fast and Efficient Content-Defined Chunking Approach", 2016). The upper
// bits depend on the last 64 bytes alone, so two versions cut alike again after a
// change, within a chunk or two.
package chunk

// Package blocks is /mman/blocks/1: private content moves within a lease, as
// one pipelined stream of the blocks of a file.
//
// The conversation is one request and one answer:
//
//	asker   request  {lease, asker, root or name, nonce, signature}
//	holder  header   {root, salt, size}
//	holder  block    raw bytes, repeated: the file's DAG in depth-first order,
//	                 each block once, where it is first met
//	holder  end
//
// It is not for public content, which Bitswap moves, and it does not decide who
// may have what: the holder's Authorizer does, in node. Node and sdk call it.
//
// Who signs: the lease key when the consumer asks, the node key when the
// provider asks the consumer for input. The signature is over
// mman.SignDigest(mman.SignBlocks, chain id, request without signature); the
// request also names the asking peer, so it is of no use on another
// connection.
//
// Invariants:
//
//   - Refused, unknown and missing roots get the same answer, so nobody can
//     find out what a provider has by asking.
//   - The asker knows which block comes next, and checks its hash, its place
//     and its size before it is stored; a lying holder costs one block.
//   - Every wait is bounded, and so are the bytes, from the first header on.
package blocks

// Package blocks is /mman/blocks/1: files move in bulk, as a pipelined stream of
// the blocks of their DAG. Private content moves within a lease, public content
// without one.
//
// A conversation is about one file:
//
//	asker   request  {lease, asker, root or name, nonce, signature}
//	holder  header   {root, salt, size}
//	holder  block    the root's bytes
//	asker   want     {path, from, to}, repeated, without waiting for answers
//	holder  block    raw bytes, one for each child that the want names; or
//	holder  missing  when the holder has not got what comes next
//
// A want names children of a node by its path from the root, so it leads to
// nothing but blocks of the file, and the holder remembers nothing. One asker
// wants in the order of a CAR file, depth first and each block once, but for
// inner nodes, which it wants a little before their turn. Several sources share
// one walk; what one failed to send another does. The wants leave out what is in
// the store, so that a transfer goes on from where it broke.
//
// It does not decide who may have what: the holder's Authorizer does, in node.
// Node and sdk call it.
//
// Who signs: the lease key when the consumer asks, the node key when the
// provider asks the consumer for input, nobody for public content. The signature
// is over mman.SignDigest(mman.SignBlocks, chain id, request without signature);
// the request also names the asking peer, so it is of no use on another
// connection.
//
// Invariants:
//
//   - Refused, unknown and missing roots get the same answer, so nobody can
//     find out what a provider has by asking.
//   - The asker knows which block comes next, and checks its hash, its place
//     and its size before it is stored; a lying holder costs one block and is
//     not asked again, for a day by no transfer of the program.
//   - The root is stored last, after everything below it is safe on the disk.
//   - A source that dies holds nobody up: further ones are looked for from the
//     beginning, and nobody waits for it once all is there.
//   - Every wait is bounded. An asker holds three batches of 2 MiB, what is on
//     its way, and up to 200 bytes for each block of the file, which say that a
//     block was met and what size its parent gave it; a holder one block for each
//     stream.
//   - Peers take turns, not streams.
package blocks

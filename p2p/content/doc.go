// Package content stores, serves and fetches content by CID: files as UnixFS
// DAGs, manifests as single DAG-CBOR blocks.
//
// It is not a pin service and not a gateway. Node and sdk call it; bulk
// transfer of private content is p2p/protocol/blocks.
//
// Invariants:
//
//   - A file has one CID everywhere: balanced UnixFS, raw leaves of ChunkSize,
//     MaxLinks links in a node, CIDv1 with SHA-256. A consumer computes the CID
//     of a result again, so these constants never change.
//   - A folder, too, whatever order its files are read in: one block, or above 256 KiB
//     a trie of shards (HAMT) of the profile unixfs-v1-2025.
//   - Only a PublicStore can be given to Bitswap. Private content is in a
//     PrivateStore, another type over another block store, because Bitswap
//     pushes a new block to everybody who once asked for it.
//   - Every block is checked against its CID when it is read, from the disk
//     too. A fetched DAG is a file whose declared sizes agree in every node, so
//     reading it costs what it says.
//   - What cannot be added to the public store leaves nothing in it that was not there
//     before; blocks that two add at one time are kept when either fails.
//   - Memory does not grow with the content, but for the names of blocks that are being
//     added or fetched, of those of a CAR file, and of the leaves of a Based store.
package content

// Package ipfs holds a test that runs foreign programs of IPFS against a node of
// ours, a stock kubo and a stock Helia: each fetches public content from us and we
// from it, byte-equal, and private content is refused to both. There is nothing to
// import.
//
// kubo is built from its Go module, at the version in kubo/go.mod, which is a module
// of its own so that none of its dependencies is ours:
//
//	go -C internal/ipfs/kubo build -o /tmp/ipfs github.com/ipfs/kubo/cmd/ipfs
//	MMAN_KUBO=/tmp/ipfs go test ./internal/ipfs
//
// Helia comes from npm, on Linux and x64 together with the Node.js that it needs;
// elsewhere that is Node.js 22 or later.
package ipfs

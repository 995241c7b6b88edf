// Package stock holds the end-to-end test of CometBFT's own tools against nodes of
// ours: its RPC client, its command's light client for headers, and its load tool
// with the small client of testdata/tools/load, which signs our transfers.
//
// There is nothing to import. The tools are a module of their own, testdata/tools,
// so that what only they need is no dependency of the nodes; the test builds them
// with the go command, which fetches their modules once.
package stock

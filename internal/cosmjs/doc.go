// Package cosmjs holds the end-to-end test of wallets: CosmJS, unmodified from
// npm, runs against a node of ours over real sockets. The program that it runs
// is testdata/client.mjs, which is also the example of docs/dapps.md.
//
// There is nothing to import. The test needs Node.js 18 or later and npm, and
// skips when they are missing; .ci/run installs them and allows no skip.
package cosmjs

// Package e2e tests the programs as their users meet them: real processes of
// the real binary, with their own homes and sockets on loopback, killed,
// starved, misled and started again.
//
// It holds tests only, and nobody imports it. What a test needs of a process it
// learns as a user would: from what it prints, from run.json, over RPC. Tests
// here run one after the other, because each has many processes; every wait is
// for a condition and bounded. A test ends only processes that it started.
//
// MMAN_KILLS is the number of rounds of TestKill.
package e2e

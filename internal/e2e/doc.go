// Package e2e tests the programs as their users meet them: real processes of
// the real binary, with their own homes and sockets on loopback, killed,
// starved, misled and started again.
//
// It holds tests only, and nobody imports it. What a test needs of a process it
// learns as a user would: from what it prints, from run.json, over RPC. Tests
// here run one after the other, because each has many processes; every wait is
// for a condition and bounded. A test ends only processes that it started.
//
// The long forms, which .ci/long runs, are numbers in the environment: MMAN_KILLS,
// MMAN_CRASHES, MMAN_MISDEEDS, MMAN_JOINS, MMAN_LIES, MMAN_TRANSFER_MIB, MMAN_FETCHERS, and
// durations: MMAN_SCENARIO, MMAN_CUT, MMAN_FETCHING.
package e2e

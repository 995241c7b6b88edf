// Package bench measures what this machine reaches, each figure beside a
// reference that was measured in the same run, for mman-node bench.
//
// It is no test: nothing fails for being slow. What it checks is that what was
// timed was also right: outputs, receipts, and the sum on the chain.
package bench

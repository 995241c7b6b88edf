// Package client is the command tree of mman: what a consumer, and an owner of
// resources beside a running node, types. Each verb has its file.
//
// The program needs no daemon: it keeps keys and leases in its home, reads and
// writes the chain through any node's RPC, and dials providers itself. Only
// what changes the listings of the user's own node goes through that node's
// loopback API. The mains of both programs call Main; mman-node's demo runs it
// as a process of its own.
//
// Invariants: whatever can be refused is refused before anything is signed or
// paid; output that is not verified reaches neither standard output nor the
// file of --out; what a script reads comes with -o json under stable keys.
package client

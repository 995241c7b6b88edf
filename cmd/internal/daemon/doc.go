// Package daemon is the command tree of mman-node, one file for each verb: it
// reads flags, starts what they ask for and prints what happened. What a node
// does is in package node; demo and devnet run whole networks of processes with
// internal/localnet.
package daemon

// Package docrun runs the commands of the documentation, so that what a newcomer
// types first works. There is nothing to import: its test takes the fenced blocks
// of shell from the pages, builds the programs, starts a network, and runs the
// blocks in their order in one shell.
//
// On the same network it runs scripts again, before and after a restart, and
// holds their output, exit code and fuel to be the same.
//
// A block begins with ```sh and may name a program that it needs, such as
// ```sh clang. Where that is missing, the block is left out and the test says at
// its end how to get it.
package docrun

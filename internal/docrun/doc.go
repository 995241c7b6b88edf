// Package docrun runs the commands of the documentation, so that what a newcomer
// types first works. There is nothing to import: its test takes the fenced blocks
// of shell from the pages, builds the programs, and for each page starts a network
// and runs the blocks in their order in one shell, in a folder with bin and examples.
// NET is the network's home, WORK a folder that is the page's own. A page is added
// as a row of the test's table.
//
// On the network of docs/algorithms.md it runs scripts again, before and after a
// restart, and holds their output, exit code and fuel to be the same.
//
// A block begins with ```sh and may name programs that it needs, such as
// ```sh clang. Where one is missing, the block is left out and the test says at
// its end how to get it.
package docrun

// Package interpreter finds the modules that run scripts, by their CIDs: that of
// JavaScript is embedded, others lie in a folder of the home, where Install puts
// what was fetched and is what it should be.
//
// JavaScript is QuickJS-NG 0.11.0, built for WASI preview 1 by its authors (MIT
// licence), with a larger stack. As it is published its stack is 64 KiB that lie
// above its data, so that a recursion 300 deep overwrites the data and goes on.
// QuickJS moves the stack to 2 MiB of their own: what is deeper then meets the
// meter's limit first, which ends the run and says why. Nothing else is changed
// but that custom sections, which no engine needs, are left out.
//
// Nodes run scripts with these modules, clients bring them to nodes that lack
// one and replay with them. The package fetches nothing and runs nothing.
package interpreter

// Package container runs tasks in containers through the API of a container
// engine, Docker's or one that speaks it.
//
// The algorithm of a task is an archive of an image. It is checked and loaded into
// the engine under no name, and run by its id: a program as non-root without
// capabilities, network or a disk to write to, below limits of memory, processes
// and processor. The program runs beside an idle process of ours, so that the
// engine can still be asked for its usage when it has ended. Everything that is
// made bears a label, and what an earlier process left behind is removed at the
// start.
//
// It knows a task, not a price or a peer. Its runs cannot be replayed.
package container

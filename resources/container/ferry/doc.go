// Package ferry is a small program of ours that runs beside a hosted program in its
// container. The container has no network, so the ferry's input and output are the
// way to the port at which the program listens on the container's own loopback, in
// gVisor as well. It also signals the container's processes, which engines do to the
// first one alone.
//
// It runs as the hosted program's user and holds nothing that is not the consumer's.
package ferry

//go:generate go run ./build amd64 ./cmd
//go:generate go run ./build arm64 ./cmd

// Package hosted is the consumer's side of a hosted container: an address of its own
// machine at which the container's port is reached through the lease's session, the
// lines that say how the container is, and what it prints.
//
// The address is on loopback and asks nobody for a token, like any server that a person
// starts for itself: what listens behind it must not trust whoever connects.
package hosted

// Package p2ptest makes swarms of hosts on loopback inside one process, over
// real sockets and free ports, for the tests of other packages.
//
// It is test code: it takes a testing.TB, fails the test instead of returning
// errors, and closes everything when the test ends.
package p2ptest

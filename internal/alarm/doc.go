// Package alarm calls a function at an instant more precisely than the runtime's
// timers do, which wait in whole milliseconds. The WASM executor ends runs with it,
// and the benchmark asks it how late a machine is with nothing to stop.
//
// It is not for waits that may be a millisecond late: each alarm takes a thread for
// its last three milliseconds. It knows nothing of what it wakes.
package alarm

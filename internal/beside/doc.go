// Package beside computes something on another processor while the caller goes on.
// The state machine may not start goroutines: this is the one way for it to use a
// second processor, for a pure function of values that stand still meanwhile, whose
// result is the same wherever it runs.
//
// It knows nothing of what it runs and keeps nothing. Package state computes the halves
// of its tree with it.
package beside

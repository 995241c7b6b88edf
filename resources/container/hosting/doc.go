// Package hosting is what both sides of a hosted container say of it: lines of
// events, beside the connections of package mux.
package hosting

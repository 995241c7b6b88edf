// Package mux carries many streams over one pair of byte streams, with flow control
// for each: from a consumer to the provider of its hosted container over the input
// and output of a run, and from there into the container over those of a program.
//
// It bounds what the other side can make it keep, and knows nothing of what the
// streams carry but their first byte. It imports nothing of ours, so that the ferry
// changes only with it.
package mux

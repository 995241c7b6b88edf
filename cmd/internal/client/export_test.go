package client

import (
	"time"

	"github.com/limboid/massive-man/p2p"
	"github.com/limboid/massive-man/p2p/content"
	"github.com/limboid/massive-man/sdk"
)

// Reachable is what mman status says of what was announced.
func Reachable(provided time.Time, reach p2p.Reach) string { return reachable(provided, reach) }

// ReachableText is the same in words.
func ReachableText(provided time.Time, reach p2p.Reach) string {
	return shareStatus{Provided: provided, Reachable: reachable(provided, reach)}.String()
}

// ProgressText is what a terminal shows of something that takes long.
func ProgressText(p content.Progress) string { return progressText(p) }

// Together is what store and fetch tell of, at a clock.
func Together(now func() time.Time, show func(text string)) func(sdk.Moving) {
	return together(content.NewMeter(now, func(p content.Progress) { show(progressText(p)) }))
}

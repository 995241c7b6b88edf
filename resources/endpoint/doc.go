// Package endpoint lends an HTTP API or site behind a metering proxy: the executor of
// facet http. Each run is one call (see package call).
//
// The upstream is fixed by its provider. What reaches it is rebuilt from a validated
// head: methods, paths and header fields are on allow-lists, redirects are not
// followed, and the provider's secret is added here. What comes back is decoded and
// searched for that secret in several writings before it leaves. Sizes, pauses and
// the number of calls at once are bounded on both sides.
//
// It knows calls, bytes and tokens, but no price, peer or lease. A hostile upstream
// can always hide its own key in an answer so that nobody finds it: the search is
// for APIs that echo what they were sent.
package endpoint

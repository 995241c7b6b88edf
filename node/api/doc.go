// Package api is a node's HTTP API on loopback: what the ledger answers, as
// plain JSON under /v1/, and the operator's verbs on this node's own listings.
//
// It requires a loopback Host, refuses a foreign Origin, and asks for the
// bearer token of <home>/run.json for whatever changes something, so that a web
// page in the operator's browser can do nothing.
package api

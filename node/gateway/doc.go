// Package gateway lets browsers and curl on this machine read public content by
// its CID: files, parts of files, folders, single blocks and CAR files.
//
// It writes nothing, and private content is out of its reach: it reads through
// the service of public content only. It does not know whom it talks to: node/api
// serves it on loopback and refuses foreign hosts and origins before it.
//
// Pages come from strangers and share an origin with the API, so they are shown
// in a sandbox without scripts.
package gateway

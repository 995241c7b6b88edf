// Package spool keeps blocks as files in a folder, for a client that fetches more
// than fits its memory and has no database: what came stays when the client is
// ended, and the next one goes on from there.
//
// It is not a node's store and checks no hash: content does, on every read. sdk
// calls it. Invariant: a block's file is there whole or not at all; one process at
// a time has the folder.
package spool

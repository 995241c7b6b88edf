//go:build !linux

package store

import "os"

func openDirect(path string, flags int) (*os.File, error) { return openCached(path, flags) }

func buffered(*os.File) bool { return false }

func aligned(n int) []byte { return make([]byte, n) }

func isAligned([]byte) bool { return true }

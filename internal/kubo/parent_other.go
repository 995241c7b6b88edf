//go:build !linux

package kubo

import "syscall"

// withParent has nothing to say to this system.
func withParent() *syscall.SysProcAttr { return nil }

package kubo

import "syscall"

// withParent has a process end when the one that started it dies, however that dies.
func withParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }

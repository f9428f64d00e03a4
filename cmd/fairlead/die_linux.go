package main

import (
	"os/exec"
	"syscall"
)

// dieWithParent lets the kernel end a child when this process is killed before it could.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

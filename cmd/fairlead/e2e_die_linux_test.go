package main_test

import (
	"os/exec"
	"syscall"
)

// dieWithParent lets the kernel end the process when the test is killed before its cleanup.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

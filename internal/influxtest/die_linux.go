package influxtest

import (
	"os/exec"
	"syscall"
)

// dieWithParent lets the kernel end influxd when a test process is killed before its cleanup.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

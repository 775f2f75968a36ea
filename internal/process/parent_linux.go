package process

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel kill the process when this one ends, for whatever
// reason: a panic and a test's timeout run no cleanup.
func dieWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}

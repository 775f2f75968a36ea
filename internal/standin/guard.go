//go:build unix

package standin

import (
	"io"
	"os/exec"
	"syscall"
)

// guardScript runs a command, and kills it with all its children when the
// script's standard input ends. It kills two process groups: its own, and the one
// that gcloud creates for itself and Java soon after its start. The script closes
// its own output, so that the output ends when the command has ended.
const guardScript = `"$@" </dev/null & exec >/dev/null 2>&1; read -r _; kill -KILL "-$!"; kill -KILL 0`

// Guard returns a command that runs another one and, once started, kills it with
// all its children when alive is closed. This process holds the other end of that
// pipe, so they never outlive it, even when no cleanup runs: after a panic, or a
// test's timeout.
func Guard(name string, arguments ...string) (guard *exec.Cmd, alive io.Closer, err error) {
	// Not bound to a context: the end of alive ends it.
	guard = exec.Command("sh", append([]string{"-c", guardScript, "sh", name}, arguments...)...) //nolint:gosec,noctx // No part of it comes from outside.
	guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}                                      // So that the guard kills no others.
	alive, err = guard.StdinPipe()
	return guard, alive, err
}

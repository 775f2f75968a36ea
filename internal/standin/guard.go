//go:build unix

package standin

import (
	"io"
	"os/exec"
	"syscall"
)

// guardScript runs a command, and kills it with all its children when the
// script's standard input ends. It kills two process groups: its own, and the one
// that gcloud makes for itself and Java soon after its start. It lets go of the
// output, whose end therefore says that the command has ended.
const guardScript = `"$@" </dev/null & exec >/dev/null 2>&1; read -r _; kill -KILL "-$!"; kill -KILL 0`

// Guard returns a command that runs another one and, once started, kills it with
// all its children when alive is closed. The other end of that pipe is ours, so
// they never outlive this process, even where nothing can be cleaned up: a panic,
// a test's timeout.
func Guard(name string, arguments ...string) (guard *exec.Cmd, alive io.Closer, err error) {
	// Not bound to a context: the end of alive ends it.
	guard = exec.Command("sh", append([]string{"-c", guardScript, "sh", name}, arguments...)...) //nolint:gosec,noctx // Nothing of it comes from outside.
	guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}                                      // So that the guard kills no others.
	alive, err = guard.StdinPipe()
	return guard, alive, err
}

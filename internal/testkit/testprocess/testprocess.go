//go:build unix

// Package testprocess runs Docent's programs as processes, for tests that use them
// from outside.
package testprocess

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"docent/internal/app"
	"docent/internal/process"
)

// Main builds a command of this module, such as docent/cmd/docent, with more
// flags if need be, sets program to the file, and runs a package's tests. It
// returns the status to exit with.
func Main(pkg string, program *string, run func() int, flags ...string) int {
	fmt.Fprintf(io.Discard, "%p", app.Run) // Makes the test depend on the service: a cached result is not used when it changes.
	dir, err := os.MkdirTemp("", "docent-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // The system's own cleaner would.
	*program = filepath.Join(dir, filepath.Base(pkg))
	args := append([]string{"build", "-o", *program}, append(flags, pkg)...)
	build := exec.CommandContext(context.Background(), "go", args...) //nolint:gosec // The tests name the package.
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build %s: %v\n%s", pkg, err, out)
		return 1
	}
	return run()
}

// WholeMinute waits for the next minute if there is too little left of this one
// for a visitor to exceed the limit.
func WholeMinute() {
	if left := time.Until(time.Now().Truncate(time.Minute).Add(time.Minute)); left < 10*time.Second {
		<-time.After(left)
	}
}

// Start runs a program on a free port, with nothing but the given environment,
// and returns when it listens. At the end of the test the process is told to stop,
// and must exit with status 0.
func Start(tb testing.TB, binary string, environment ...string) *process.Process {
	tb.Helper()
	cmd := exec.CommandContext(context.Background(), binary)
	cmd.Env = append([]string{"PORT=127.0.0.1:0", "LOG_FORMAT=json"}, environment...)
	p, err := process.Start(cmd)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Stop(); err != nil {
			tb.Errorf("stop: %v\n%s", err, p.Output)
		}
	})
	return p
}

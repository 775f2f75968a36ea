//go:build unix

// Package testprocess runs Docent's programs as processes, for tests that are
// their users.
package testprocess

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"docent/internal/app"
)

// Main builds a command of this module, such as docent/cmd/docent, with more
// flags if need be, sets program to the file, and runs a package's tests. It
// returns the status to exit with.
func Main(pkg string, program *string, run func() int, flags ...string) int {
	fmt.Fprintf(io.Discard, "%p", app.Run) // It makes the service part of the test, whose results are then not cached when it changes.
	dir, err := os.MkdirTemp("", "docent-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // The system's own cleaner would.
	*program = filepath.Join(dir, filepath.Base(pkg))
	args := append([]string{"build", "-o", *program}, append(flags, pkg)...)
	build := exec.CommandContext(context.Background(), "go", args...) //nolint:gosec // Tests say what they build.
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build %s: %v\n%s", pkg, err, out)
		return 1
	}
	return run()
}

// WholeMinute waits where too little is left of the minute for a visitor to come
// over the limit in it.
func WholeMinute() {
	if left := time.Until(time.Now().Truncate(time.Minute).Add(time.Minute)); left < 10*time.Second {
		<-time.After(left)
	}
}

// Process is one that serves.
type Process struct {
	// Address is its host and port.
	Address string

	mu     sync.Mutex
	output bytes.Buffer
	cmd    *exec.Cmd
	ended  chan error
}

// Start runs a program on a free port, with nothing but the given environment,
// and returns when it listens. When the test ends, it is told to stop and must
// do so without an error.
func Start(tb testing.TB, binary string, environment ...string) *Process {
	tb.Helper()
	p := &Process{cmd: exec.CommandContext(context.Background(), binary), ended: make(chan error, 1)}
	p.cmd.Env = append([]string{"PORT=127.0.0.1:0", "LOG_FORMAT=json"}, environment...)
	p.cmd.Stderr = os.Stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	listening := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			p.mu.Lock()
			p.output.Write(append(lines.Bytes(), '\n'))
			p.mu.Unlock()
			var record struct{ Message, Address string }
			if json.Unmarshal(lines.Bytes(), &record) == nil && record.Message == "listening" {
				listening <- record.Address
			}
		}
		p.ended <- p.cmd.Wait()
	}()
	tb.Cleanup(func() { p.stop(tb) })
	select {
	case p.Address = <-listening:
	case err := <-p.ended:
		p.ended <- err
		tb.Fatalf("%s did not start: %v\n%s", binary, err, p.Output())
	}
	return p
}

// Output returns what the process has written to its standard output.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

func (p *Process) stop(tb testing.TB) {
	tb.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // It may have ended.
	if err := <-p.ended; err != nil {
		tb.Errorf("the process ended with %v:\n%s", err, p.Output())
	}
}

//go:build unix

// Package process runs Docent's programs as processes, for tests and the
// benchmark.
package process

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

const (
	// startTimeout is how long a process may take to listen on a busy machine.
	startTimeout = time.Minute
	// stopTimeout is how long a process may take to stop before it is killed. It is
	// longer than Docent's drain.
	stopTimeout = 20 * time.Second
)

// Process is a running program.
type Process struct {
	// Address is the host and port on which it listens.
	Address string
	// Output is everything that it has written.
	Output *Output

	cmd   *exec.Cmd
	ended chan struct{} // Closed when it has ended.
	err   error         // How it ended. Set before ended is closed.
}

// Start runs a command and returns when it logs that it listens: a line of JSON
// with the message "listening" and the address. The output is collected. If the
// process ends first, the error says how and what it wrote. On Linux the process
// never outlives this one, even if this one is killed.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{
		Output: &Output{listening: make(chan string, 1), more: make(chan struct{})},
		cmd:    cmd,
		ended:  make(chan struct{}),
	}
	cmd.Stdout, cmd.Stderr = p.Output, p.Output
	dieWithParent(cmd)
	started := make(chan error, 1)
	go func() {
		// To Linux, the parent is the thread that started the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		if err := cmd.Wait(); err != nil {
			p.err = fmt.Errorf("%s: %w", cmd.Path, err)
		}
		close(p.ended)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	select {
	case p.Address = <-p.Output.listening:
		return p, nil
	case <-p.ended:
		return nil, fmt.Errorf("%s ended before it listened: %s\n%s", cmd.Path, cmd.ProcessState, p.Output)
	case <-timeout.C:
		cmd.Process.Kill() //nolint:errcheck // It may have ended.
		<-p.ended
		return nil, fmt.Errorf("%s did not listen within %s\n%s", cmd.Path, startTimeout, p.Output)
	}
}

// ID returns the process ID.
func (p *Process) ID() int { return p.cmd.Process.Pid }

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal for %s: %w", p.cmd.Path, err)
	}
	return nil
}

// Wait waits for the end of the process. It returns an error unless the exit
// status is 0.
func (p *Process) Wait() error {
	<-p.ended
	return p.err
}

// Stop tells the process to stop, as Cloud Run does, and returns what [Process.Wait]
// returns. A process that does not stop is killed. Stop can be called again.
func (p *Process) Stop() error {
	p.Signal(syscall.SIGTERM)                                            //nolint:errcheck // It may have ended.
	kill := time.AfterFunc(stopTimeout, func() { p.cmd.Process.Kill() }) //nolint:errcheck // As above.
	defer kill.Stop()
	return p.Wait()
}

// Output collects what a process writes to standard output and standard error.
type Output struct {
	listening chan string

	mu    sync.Mutex
	text  bytes.Buffer
	more  chan struct{} // Closed and replaced at every write.
	read  int           // How much of text was searched for the record.
	found bool          // Whether the record was there.
}

// Write adds to the output.
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(b)
	close(o.more)
	o.more = make(chan struct{})
	for !o.found {
		line, _, whole := bytes.Cut(o.text.Bytes()[o.read:], []byte("\n"))
		if !whole {
			break
		}
		o.read += len(line) + 1
		var record struct{ Message, Address string }
		if json.Unmarshal(line, &record) == nil && record.Message == "listening" {
			o.listening <- record.Address
			o.found = true
		}
	}
	return len(b), nil
}

// String returns everything that was written so far.
func (o *Output) String() string {
	text, _ := o.Next()
	return text
}

// Next returns everything that was written so far, and a channel that is closed
// when there is more.
func (o *Output) Next() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.more
}

//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// build makes a binary as the Dockerfile does.
func build(ctx context.Context, dir, pkg string) (string, error) {
	binary := filepath.Join(dir, filepath.Base(pkg))
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, pkg) //nolint:gosec // A package of ours.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return binary, nil
}

// process is a server that is measured from outside.
type process struct {
	cmd     *exec.Cmd
	address string
	began   time.Time
	output  string        // The file that has all it wrote.
	ended   chan struct{} // Closed when it has.
}

// launch starts a server with nothing in its environment but what is given. It
// returns before the server listens.
func (b *bench) launch(ctx context.Context, address string, env []string, command ...string) (*process, error) {
	out, err := os.CreateTemp(b.dir, filepath.Base(command[0])+"-*.log")
	if err != nil {
		return nil, fmt.Errorf("output of %s: %w", command[0], err)
	}
	defer out.Close()                                                                                                                          //nolint:errcheck // The process has its own.
	p := &process{cmd: exec.CommandContext(ctx, command[0], command[1:]...), address: address, output: out.Name(), ended: make(chan struct{})} //nolint:gosec // Binaries of ours.
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, out, out
	p.began = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", command[0], err)
	}
	go func() {
		p.cmd.Wait() //nolint:errcheck // What it wrote says more.
		close(p.ended)
	}()
	return p, nil
}

// start launches a server and waits until it listens.
func (b *bench) start(ctx context.Context, address string, env []string, command ...string) (*process, error) {
	p, err := b.launch(ctx, address, env, command...)
	if err != nil {
		return nil, err
	}
	conn, err := p.dial(ctx)
	if err != nil {
		p.stop()
		return nil, err
	}
	conn.Close() //nolint:errcheck // Nothing was sent.
	return p, nil
}

// docent starts the service; what is given goes after the defaults.
func (b *bench) docent(ctx context.Context, env ...string) (*process, error) {
	address := freeAddress()
	return b.start(ctx, address, b.environment(address, env...), b.binary)
}

// yardstick starts one of the servers in bench/yardstick.
func (b *bench) yardstick(ctx context.Context, env []string, args ...string) (*process, error) {
	address := freeAddress()
	return b.start(ctx, address, env, append([]string{b.yard, "-listen=" + address}, args...)...)
}

// dial connects as soon as the server listens. It asks again so soon that the
// waiting does not show beside a process start.
func (p *process) dial(ctx context.Context) (net.Conn, error) {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(200 * time.Microsecond) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.address)
		if err == nil {
			return conn, nil
		}
		select {
		case <-p.ended:
			deadline = time.Now()
		default:
		}
		if !errors.Is(err, syscall.ECONNREFUSED) || !time.Now().Before(deadline) {
			said, _ := os.ReadFile(p.output)
			return nil, fmt.Errorf("%s does not listen: %w\n%s", p.cmd.Path, err, said)
		}
	}
}

// stop ends the server as Cloud Run does, and waits for its end.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)                                   //nolint:errcheck // It may have ended.
	kill := time.AfterFunc(15*time.Second, func() { p.cmd.Process.Kill() }) //nolint:errcheck // It may have ended.
	defer kill.Stop()
	<-p.ended
}

// status returns a field of /proc/PID/status in MiB: VmRSS is what is resident
// now, VmHWM the most that ever was.
func (p *process) status(field string) float64 {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	defer f.Close() //nolint:errcheck // Read only.
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), field+":"); ok {
			kB, _ := strconv.ParseFloat(strings.Fields(value)[0], 64)
			return kB / 1024
		}
	}
	return 0
}

// cpu returns the processor time that the server has used.
func (p *process) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // Linux counts in hundredths.
}

// files returns how many file descriptors the server has open.
func (p *process) files() int {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	return len(entries)
}

// freeAddress returns a loopback address that was free a moment ago.
func freeAddress() string {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // It opens at once.
	if err != nil {
		return "127.0.0.1:0"
	}
	defer l.Close() //nolint:errcheck // Nothing was sent.
	return l.Addr().String()
}

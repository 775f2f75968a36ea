//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"docent/internal/process"
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

// launch starts a server with only the given environment.
func launch(ctx context.Context, env []string, binary string, args ...string) (*process.Process, error) {
	cmd := exec.CommandContext(ctx, binary, args...) //nolint:gosec // A binary of ours.
	cmd.Env = env
	return process.Start(cmd)
}

// docent starts the service as it is deployed, but with no ceiling in the way. env
// takes precedence over the defaults.
func (b *bench) docent(ctx context.Context, env ...[]string) (*process.Process, error) {
	defaults := []string{
		"PORT=127.0.0.1:0", "ALLOWED_ORIGINS=" + origin, "TRUSTED_PROXIES=127.0.0.0/8",
		"OPENAI_API_KEY=" + secrets["key"], "CHATKIT_WORKFLOW_ID=" + secrets["workflow"], "IDENTITY_KEY=" + secrets["identity"],
		"GOOGLE_CLOUD_PROJECT=" + project, "LOG_FORMAT=json", "LOG_LEVEL=info", "RATE_LIMIT_INSTANCE_PER_MINUTE=1000000",
	}
	return launch(ctx, slices.Concat(append([][]string{defaults}, env...)...), b.binary)
}

// stop stops a server and reports a bad exit status. Yardsticks have none: the
// signal ends them.
func stop(p *process.Process) {
	var exit *exec.ExitError
	if err := p.Stop(); errors.As(err, &exit) && exit.Exited() {
		fmt.Fprintf(os.Stderr, "bench: %v\n%s", err, p.Output)
	}
}

// status returns a field of /proc/PID/status in MiB: VmRSS is what is resident
// now, VmHWM the most that ever was.
func status(p *process.Process, field string) float64 {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", p.ID()))
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
func cpu(p *process.Process) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.ID()))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // Linux counts in hundredths.
}

// files returns how many file descriptors the server has open.
func files(p *process.Process) int {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.ID()))
	return len(entries)
}

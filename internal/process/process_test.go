//go:build unix

package process_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"docent/internal/process"
)

// role is what the test's own binary does as a process.
const role = "PROCESS_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "server":
		serve(0)
	case "bad end":
		serve(3)
	case "bad start":
		fmt.Println("no port")
		fmt.Fprintln(os.Stderr, "no luck")
		os.Exit(2)
	case "parent":
		p, err := process.Start(self("server"))
		if err != nil {
			panic(err)
		}
		fmt.Printf(`{"message":"listening","address":%q}`+"\n", p.Address)
		select {}
	}
}

// serve holds a port until it is told to stop.
func serve(status int) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("not JSON\n{\"message\":\"other\"}\n{\"message\":\"listening\",\"address\":%q}\n", l.Addr())
	<-ctx.Done()
	fmt.Println("stopping")
	os.Exit(status)
}

func self(as string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), os.Args[0])
	cmd.Env = []string{role + "=" + as}
	return cmd
}

func start(t *testing.T, as string) *process.Process {
	t.Helper()
	p, err := process.Start(self(as))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop() })
	return p
}

func TestStart_Output(t *testing.T) {
	t.Parallel()
	p := start(t, "server")
	before, more := p.Output.Next()
	if !strings.HasPrefix(before, "not JSON\n") || !strings.Contains(before, p.Address) {
		t.Errorf("output %q, want all lines, with the address %s", before, p.Address)
	}
	if err := p.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	<-more
	if after := p.Output.String(); after != before+"stopping\n" {
		t.Errorf("output %q, then %q", before, after)
	}
}

func TestStart_EndsBeforeItListens(t *testing.T) {
	t.Parallel()
	_, err := process.Start(self("bad start"))
	for _, want := range []string{"exit status 2", "no port", "no luck"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}

func TestStart_NoProgram(t *testing.T) {
	t.Parallel()
	if _, err := process.Start(exec.CommandContext(t.Context(), "/nowhere")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want %v", err, os.ErrNotExist)
	}
}

func TestStop_ExitStatus(t *testing.T) {
	t.Parallel()
	p := start(t, "bad end")
	for range 2 {
		var exit *exec.ExitError
		if err := p.Stop(); !errors.As(err, &exit) || exit.ExitCode() != 3 {
			t.Errorf("stop: %v, want exit status 3", err)
		}
	}
}

func TestStart_ParentKilled(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has a signal for it")
	}
	parent := start(t, "parent")
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", parent.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := parent.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := bufio.NewReader(conn).ReadByte(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection to the child of a killed process ended with %v", err)
	}
}

package main_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"docent/internal/service"
)

// demo builds and starts the demo, and returns its URL and what it printed
// before it was listening.
func demo(t *testing.T, environment ...string) (url, greeting string) {
	t.Helper()
	fmt.Fprintf(io.Discard, "%p", service.Run) // It makes the service part of the test, whose results are then not cached when it changes.
	binary := filepath.Join(t.TempDir(), "demo")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(context.Background(), binary)
	cmd.Env = append([]string{"PORT=0"}, environment...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		io.Copy(io.Discard, stdout)
		if err := cmd.Wait(); err != nil {
			t.Errorf("exit: %v", err)
		}
	})
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		greeting += lines.Text() + "\n"
		if strings.Contains(lines.Text(), "msg=listening") {
			return regexp.MustCompile(`http://localhost:\d+`).FindString(greeting), greeting
		}
	}
	t.Fatalf("it ended: %s", greeting)
	return "", ""
}

func fetch(t *testing.T, method, url, origin string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", origin)
	resp, err := (&http.Transport{}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestDemoNeedsNothing(t *testing.T) {
	t.Parallel()
	url, greeting := demo(t)
	if !strings.Contains(greeting, "Backend:      a stand-in for OpenAI") {
		t.Errorf("greeting:\n%s", greeting)
	}
	if status, body := fetch(t, http.MethodGet, url+"/", ""); status != 200 || !strings.Contains(body, "Get a session") {
		t.Errorf("page: %d %s", status, body)
	}
	var statuses []int
	for range 12 { // Over two minutes at the most.
		status, body := fetch(t, http.MethodPost, url+"/api/chatkit/session", url)
		if status == 200 && !strings.Contains(body, "ek_standin_") {
			t.Errorf("session: %s", body)
		}
		statuses = append(statuses, status)
	}
	if statuses[0] != 200 || statuses[11] != 429 && statuses[5] != 429 {
		t.Errorf("statuses %v, want five 200s, then 429", statuses)
	}
}

func TestDemoSaysWhenItIsReal(t *testing.T) {
	t.Parallel()
	_, greeting := demo(t, "OPENAI_API_KEY=sk-test-not-a-key", "CHATKIT_WORKFLOW_ID=wf_test")
	if !strings.Contains(greeting, "Backend:      the real OpenAI") {
		t.Errorf("greeting:\n%s", greeting)
	}
}

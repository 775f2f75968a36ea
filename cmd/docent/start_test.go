package main_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fails runs the service, which must not start, and returns its outputs.
func fails(t *testing.T, environment ...string) (stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second) // In case it starts.
	defer cancel()
	cmd := exec.CommandContext(ctx, binary)
	cmd.Env = append(environment, "GORACE=atexit_sleep_ms=0")
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("exit: %v, want status 1\n%s%s", err, &out, &diag)
	}
	if strings.Contains(strings.ToLower(out.String()+diag.String()), strings.ToLower(testKey)) {
		t.Errorf("the key is in the output:\n%s%s", &out, &diag)
	}
	return out.String(), diag.String()
}

func TestStart_BadConfiguration(t *testing.T) {
	t.Parallel()
	const faults = `the configuration is not right:
  PORT must be a port, or an address and port such as 127.0.0.1:8787
  ALLOWED_ORIGINS entry 1, "https://*.com": anyone can register a name under "com": put the * below your own name, as in *.my-site.com
  ALLOWED_ORIGINS entry 2, "https://docs.example.com/": remove "/" from the end: an origin has no path, query, fragment or final slash
  CHATKIT_WORKFLOW_ID must be set: a workflow ID such as wf_123, or a reference to one such as sm://chatkit-workflow-id; or set DOCS_INDEX, to answer from the docs
`
	bad := []string{"PORT=" + testKey, "ALLOWED_ORIGINS=https://*.com,https://docs.example.com/", "OPENAI_API_KEY=" + testKey}
	t.Run("for a person", func(t *testing.T) {
		t.Parallel()
		stdout, stderr := fails(t, bad...)
		if diff := cmp.Diff("docent: "+faults, stderr); stdout != "" || diff != "" {
			t.Errorf("stdout %q, stderr (-want +got):\n%s", stdout, diff)
		}
	})
	t.Run("on Cloud Run", func(t *testing.T) {
		t.Parallel()
		stdout, stderr := fails(t, append(bad, "K_SERVICE=docent")...)
		if strings.Count(stdout, "\n") != 1 || !strings.Contains(stdout, `"severity":"ERROR"`) || !strings.Contains(stdout, "CHATKIT_WORKFLOW_ID must be set") || stderr != "" {
			t.Errorf("stdout %q, stderr %q, want one record of severity ERROR", stdout, stderr)
		}
	})
}

func TestStart_APIKeyInvalidInHeader(t *testing.T) {
	t.Parallel()
	stdout, stderr := fails(t, "PORT=127.0.0.1:0", "ALLOWED_ORIGINS="+testOrigin, "OPENAI_API_KEY="+testKey+"\nrest-of-it", "CHATKIT_WORKFLOW_ID=wf_1", "LOG_LEVEL=loud")
	want := `docent: the configuration is not right:
  OPENAI_API_KEY must not have a line break in it, which no HTTP header can carry: set the key again without that
  LOG_LEVEL must be debug, info, warn or error
`
	if diff := cmp.Diff(want, stderr); stdout != "" || diff != "" {
		t.Errorf("stdout %q, stderr (-want +got):\n%s", stdout, diff)
	}
}

// TestStart_KeyAmongOrigins pastes the key into ALLOWED_ORIGINS. The helpers search
// all output for it.
func TestStart_KeyAmongOrigins(t *testing.T) {
	t.Parallel()
	for name, list := range map[string]string{
		"bare":        testKey,
		"after comma": testOrigin + "," + testKey,
		"host":        "https://" + testKey,
		"user":        "https://" + testKey + "@docs.example.com",
		"path":        testOrigin + "/" + testKey,
		"query":       testOrigin + "?key=" + testKey,
		"port":        testOrigin + ":" + testKey,
		"below star":  "https://*." + testKey,
		"label":       "https://" + testKey + ".example.com/",
		"not ASCII":   "https://" + testKey + "\u200b",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, format := range []string{"text", "json"} {
				stdout, stderr := fails(t, "PORT=127.0.0.1:0", "ALLOWED_ORIGINS="+list, "OPENAI_API_KEY="+testKey, "CHATKIT_WORKFLOW_ID=wf_1", "LOG_FORMAT="+format)
				if !strings.Contains(stdout+stderr, "ALLOWED_ORIGINS entry ") {
					t.Errorf("no fault of ALLOWED_ORIGINS:\n%s%s", stdout, stderr)
				}
			}
			w := newWorld(t)
			w.set("ALLOWED_ORIGINS=" + list)
			for _, args := range [][]string{nil, {"--json"}} {
				if output := w.check(1, args...); !strings.Contains(output, "ALLOWED_ORIGINS entry ") {
					t.Errorf("no fault of ALLOWED_ORIGINS:\n%s", output)
				}
			}
		})
	}
}

func TestStart_PortInUse(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, stderr := fails(t, "PORT="+l.Addr().String(), "ALLOWED_ORIGINS="+testOrigin, "OPENAI_API_KEY="+testKey, "CHATKIT_WORKFLOW_ID=wf_1")
	want := "docent: something else listens on " + l.Addr().String() + " already: set PORT to another port\n"
	if diff := cmp.Diff(want, stderr); diff != "" {
		t.Errorf("stderr (-want +got):\n%s", diff)
	}
}

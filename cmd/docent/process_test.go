package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"docent/internal/process"
	"docent/internal/standin"
	"docent/internal/testkit/testprocess"
)

const (
	testKey      = "sk-test-KEY0000000000000000000000000000KEY"
	testWorkflow = "wf_test"
	testIdentity = "identity-key-for-tests-only-32-bytes-or-more"
	testOrigin   = "https://docs.example.com"
	upstreamText = "UPSTREAM-TEXT" // In all texts of OpenAI, which no visitor may see.
	testToken    = "GATEWAY-TOKEN" // In the path of OPENAI_BASE_URL, as some gateways require.
	nowhere      = "127.0.0.1:1"   // Nothing listens there, and no test is given that port.
)

// binary is the built service, with the race detector in it.
var binary string

func TestMain(m *testing.M) {
	os.Exit(testprocess.Main("docent/cmd/docent", &binary, m.Run, "-race"))
}

// docent is a running process of the service.
type docent struct {
	url    string
	openai *standin.OpenAI
	// disconnect ends the stand-in, with all connections to it.
	disconnect func()
	process    *process.Process
	output     *process.Output
}

// start runs the service with a stand-in OpenAI behind it until the test ends.
// The process must then stop with status 0, and must not have written a secret.
func start(t *testing.T, environment ...string) *docent {
	t.Helper()
	openai := standin.NewOpenAI(testKey, testWorkflow)
	base, stop, err := openai.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop() })
	environment = append([]string{
		"PORT=127.0.0.1:0", "ALLOWED_ORIGINS=" + testOrigin, "OPENAI_API_KEY=" + testKey, "CHATKIT_WORKFLOW_ID=" + testWorkflow,
		"OPENAI_BASE_URL=" + base, "IDENTITY_KEY=" + testIdentity, "TRUSTED_PROXIES=127.0.0.0/8", "LOG_FORMAT=json", "LOG_LEVEL=debug",
		"RATE_LIMIT_INSTANCE_PER_MINUTE=1000000",
	}, environment...)
	cmd := exec.CommandContext(context.Background(), binary)
	cmd.Env = append(environment, "GORACE=atexit_sleep_ms=0") // By default it waits a second for other goroutines.
	p, err := process.Start(cmd)
	if err != nil {
		noSecret(t, err.Error())
		t.Fatal(err)
	}
	d := &docent{url: "http://" + p.Address, openai: openai, disconnect: func() { stop() }, process: p, output: p.Output}
	t.Cleanup(func() { d.stop(t) })
	return d
}

// secret matches what must never be in a process's output: keys, client
// secrets, cookies, queries, and the addresses that the tests come from.
var secret = regexp.MustCompile(regexp.QuoteMeta(testKey) + `|` + testIdentity + `|(?i:` + testToken + `)|ek_\w|__session|query=|` +
	`\b(100\.\d+\.\d+\.\d+|192\.0\.2\.\d+|198\.(18|51)\.\d+\.\d+|66\.102\.|2001:db8)`)

func (d *docent) stop(t *testing.T) {
	t.Helper()
	if err := d.process.Stop(); err != nil {
		t.Errorf("stop: %v\n%s", err, d.output)
	}
	noSecret(t, d.output.String())
}

func noSecret(t *testing.T, output string) {
	t.Helper()
	if leak := secret.FindString(output); leak != "" {
		t.Errorf("the process wrote %q:\n%s", leak, output)
	}
}

// reply is an answer, read whole.
type reply struct {
	*http.Response

	body string
	// The fields of both kinds of body.
	ClientSecret string `json:"client_secret"`
	ExpiresAfter int64  `json:"expires_after"`
	ExpiresAt    int64  `json:"expires_at"`
	Visitor      string `json:"visitor"`
	Error        string `json:"error"`
	Code         string `json:"code"`
	RequestID    string `json:"request_id"`
	RetryAfter   int64  `json:"retry_after"`
}

// client sends all requests: no proxy, no cookies, no redirects.
var client = &http.Client{
	Transport:     &http.Transport{MaxIdleConnsPerHost: 100},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// ask sends a request as an allowed page would, from an address of its own,
// with the changes, and checks what all answers have in common.
func (d *docent) ask(t *testing.T, method, path string, change ...func(*http.Request)) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, d.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", testOrigin)
	req.Header.Set("X-Forwarded-For", address(t))
	if path == sessionPath {
		req.URL.RawQuery = "query=secret"
	}
	for _, c := range change {
		c(req)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, resp)
}

func read(t *testing.T, resp *http.Response) reply {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	r := reply{Response: resp, body: string(body)}
	if strings.Contains(resp.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(body, &r); err != nil && len(body) > 0 {
			t.Errorf("body %q: %v", body, err)
		}
	}
	for _, leak := range []string{testKey, testWorkflow, testIdentity, testToken, upstreamText, "goroutine", ".go:"} {
		if strings.Contains(r.body, leak) || strings.Contains(fmt.Sprint(resp.Header), leak) {
			t.Errorf("the answer leaks %q: %v %s", leak, resp.Header, body)
		}
	}
	caching := "private, no-store"
	if resp.Request.URL.Path == widgetPath && resp.StatusCode < 400 {
		caching = "public, max-age=300, stale-while-revalidate=86400"
	}
	if got := resp.Header.Get("Cache-Control"); got != caching {
		t.Errorf("Cache-Control = %q, want %q", got, caching)
	}
	if got := resp.Header.Get("X-Content-Type-Options"); got != "nosniff" {
		t.Errorf("X-Content-Type-Options = %q, want nosniff", got)
	}
	id := resp.Header.Get("X-Request-Id")
	if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(id) {
		t.Errorf("X-Request-Id = %q", id)
	}
	if r.Code != "" && (r.RequestID != id || r.Error == "") {
		t.Errorf("error body %s, want a sentence and the request ID %s", body, id)
	}
	return r
}

// address returns an address that is the test's own.
func address(t *testing.T) string {
	t.Helper()
	h := uint32(2166136261) // FNV-1a.
	for _, c := range []byte(t.Name()) {
		h = (h ^ uint32(c)) * 16777619
	}
	return net.IPv4(100, byte(h>>16), byte(h>>8), byte(h)).String()
}

func header(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = values }
}

// records returns the log's records of session requests, once there are n.
func (d *docent) records(t *testing.T, n int) []map[string]any {
	t.Helper()
	giveUp := time.After(10 * time.Second)
	for {
		written, more := d.output.Next()
		var found []map[string]any
		for line := range strings.Lines(written) {
			var r map[string]any
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("not a line of JSON: %s", line)
			}
			if r["outcome"] != nil {
				found = append(found, r)
			}
		}
		if len(found) >= n {
			return found
		}
		select {
		case <-more:
		case <-giveUp:
			t.Fatalf("%d records in the log, want %d:\n%s", len(found), n, d.output)
		}
	}
}

package deploy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"docent/internal/standin"
)

const (
	// site is the example site for Firebase Hosting, tools the directory where npm
	// installs the emulator.
	site  = "../examples/firebase-hosting/"
	tools = "testdata/hosting/"
	// frontEnd is the address of a Google front end, as Cloud Run sees it behind a
	// rewrite.
	frontEnd = "66.102.0.77"
)

// google is a fake of the Google APIs that the emulator calls. It returns a token
// and the service's URL.
func google(t *testing.T, service string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := map[string]any{}
		switch {
		case r.URL.Path == "/oauth2/v3/token":
			answer["access_token"], answer["expires_in"] = "token", 3600
		case strings.HasSuffix(r.URL.Path, "/locations/us-central1/services/docent"):
			answer["status"] = map[string]string{"url": service}
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// exampleSite copies the example to a new directory and adds the settings that the
// emulator needs to its firebase.json: the site's name and the addresses to listen
// on. The emulator finds free ports on its own.
func exampleSite(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(site)); err != nil {
		t.Fatal(err)
	}
	var config map[string]map[string]any
	if err := json.Unmarshal([]byte(read(t, site+"firebase.json")), &config); err != nil {
		t.Fatal(err)
	}
	loopback := map[string]string{"host": "127.0.0.1"}
	config["hosting"]["site"] = "my-site"
	config["emulators"] = map[string]any{"hosting": loopback, "hub": loopback, "ui": map[string]bool{"enabled": false}}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/firebase.json", text, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// serving matches the line in which the emulator prints the address that it serves
// the site on.
var serving = regexp.MustCompile(`hosting\[my-site\]: Local server: (http://127\.0\.0\.1:\d+)`)

// hosting runs Firebase Hosting's emulator with the example site in front of a
// service and returns its URL. The emulator differs from Hosting: it adds no address
// to X-Forwarded-For, and it forwards every cookie and a forged X-Forwarded-Host.
func hosting(t *testing.T, service string) string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		orSkip(t, "Node is not installed")
	}
	read(t, tools+"package-lock.json") // Makes the cached result of the test depend on the file.
	program, err := filepath.Abs(tools + "node_modules/firebase-tools/lib/bin/firebase.js")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		orSkip(t, "Firebase's tools are not installed: run `make deps`, which needs npm")
	}
	guard, alive, err := standin.Guard(node, program, "emulators:start", "--only=hosting", "--project=docent-test")
	if err != nil {
		t.Fatal(err)
	}
	output, write := io.Pipe()
	apis := google(t, service)
	guard.Dir = exampleSite(t)
	guard.Stdout, guard.Stderr = write, write
	guard.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + guard.Dir, "TMPDIR=" + guard.Dir,
		"CI=true", // Turns off checks for news and updates.
		"FIREBASE_TOKEN=1//token", "FIREBASE_TOKEN_URL=" + apis, "CLOUD_RUN_API_URL=" + apis, "FIREBASE_HOSTING_API_URL=" + apis, "FIREBASE_API_URL=" + apis,
	}
	if err := guard.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		guard.Wait() // Its error says nothing: the guard also kills itself.
		write.Close()
	}()
	t.Cleanup(func() {
		alive.Close()
		<-ended
	})
	// Even a busy machine does not take this long.
	slow := time.AfterFunc(time.Minute, func() { alive.Close() })
	defer slow.Stop()
	var said strings.Builder
	for lines := bufio.NewScanner(output); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if m := serving.FindStringSubmatch(lines.Text()); m != nil {
			go io.Copy(io.Discard, output)
			return m[1]
		}
	}
	t.Fatalf("the emulator of Firebase Hosting did not start:\n%s", &said)
	return ""
}

// behindHosting runs Docent between the Hosting emulator and a fake OpenAI. Docent
// trusts both of Hosting's hops.
func behindHosting(t *testing.T) (url string, openai *standin.OpenAI) {
	t.Helper()
	openai = standin.NewOpenAI(testKey, testWorkflow)
	base, stop, err := openai.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop() })
	cmd := exec.CommandContext(context.Background(), theImage(t).binary) // start stops the process.
	cmd.Env = []string{
		"PORT=127.0.0.1:0", "ALLOWED_ORIGINS=" + testOrigin, "OPENAI_API_KEY=" + testKey, "CHATKIT_WORKFLOW_ID=" + testWorkflow,
		"OPENAI_BASE_URL=" + base, "IDENTITY_KEY=" + testIdentity, "LOG_FORMAT=json",
		"TRUSTED_PROXIES=127.0.0.1/32,firebase-hosting",
	}
	_, docent := start(t, cmd)
	return hosting(t, docent), openai
}

// hostedRequest returns a page's session request with the addresses that Hosting
// and Cloud Run append.
func hostedRequest(t *testing.T, url, visitor string) *http.Request {
	t.Helper()
	req := sessionRequest(t, url)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.Header.Set("X-Forwarded-For", visitor+", "+frontEnd)
	return req
}

// The subtests share one emulator, because it takes seconds to start.
//
//nolint:paralleltest,tparallel // The subtests share the list of OpenAI's requests.
func TestHosting(t *testing.T) {
	t.Parallel()
	url, openai := behindHosting(t)

	// The rewrite must serve the script that the example's tag names, and the session
	// endpoint next to it.
	t.Run("widget", func(t *testing.T) {
		get := func(url string) (*http.Response, string) {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			return answer(t, http.DefaultClient, req)
		}
		page, body := get(url + "/")
		if policy := page.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "script-src 'self' ") {
			t.Errorf("the page's policy is %q", policy)
		}
		tag := regexp.MustCompile(`<script src="(/api/chatkit/[^"]+)" async></script>`).FindStringSubmatch(body)
		if tag == nil {
			t.Fatalf("the page has no script tag for the widget:\n%s", body)
		}
		script, body := get(url + tag[1])
		if script.StatusCode != http.StatusOK || !strings.HasPrefix(script.Header.Get("Content-Type"), "text/javascript") || body != read(t, "../internal/widget/widget.js") {
			t.Errorf("%d %s and %d bytes, want widget.js", script.StatusCode, script.Header.Get("Content-Type"), len(body))
		}
		req := hostedRequest(t, url, "192.0.2.1")
		session, err := script.Request.URL.Parse("session")
		if err != nil {
			t.Fatal(err)
		}
		req.URL = session
		if resp, body := answer(t, http.DefaultClient, req); resp.StatusCode != http.StatusOK {
			t.Errorf("the session next to it: %d %s", resp.StatusCode, body)
		}
	})

	t.Run("cookie", func(t *testing.T) {
		// ask returns the visitor's cookie and the user ID that OpenAI got.
		ask := func(cookies ...string) (cookie, user string) {
			t.Helper()
			req := hostedRequest(t, url, "192.0.2.2")
			if cookies != nil {
				req.Header.Set("Cookie", strings.Join(cookies, "; "))
			}
			resp, body := answer(t, http.DefaultClient, req)
			if resp.StatusCode != http.StatusOK || !strings.Contains(body, `"ek_`) {
				t.Fatalf("%d %s", resp.StatusCode, body)
			}
			// Hosting passes no cookie of another name to the service.
			set := resp.Cookies()
			if len(set) != 1 || set[0].Name != "__session" {
				t.Fatalf("cookies %v, want only __session; Cache-Control is %q", set, resp.Header.Get("Cache-Control"))
			}
			return set[0].Name + "=" + set[0].Value, openai.Asked()[len(openai.Asked())-1].User
		}
		cookie, visitor := ask()
		for _, tt := range []struct {
			name    string
			cookies []string
			same    bool
		}{
			{"sent back", []string{cookie}, true},
			{"among the site's own", []string{"tracking=1", cookie, "theme=dark"}, true},
			{"lost", nil, false},
			{"forged", []string{"__session=" + visitor + ".AAAA"}, false},
		} {
			if _, user := ask(tt.cookies...); (user == visitor) != tt.same {
				t.Errorf("%s: the visitor was %q, and is now %q", tt.name, visitor, user)
			}
		}
	})

	t.Run("foreign page", func(t *testing.T) {
		before := len(openai.Asked())
		req := hostedRequest(t, url, "192.0.2.3")
		req.Header.Set("Origin", "https://evil.example")
		req.Header.Set("X-Forwarded-Host", "docs.example.com")
		req.Header.Set("X-Forwarded-Proto", "https")
		resp, body := answer(t, http.DefaultClient, req)
		if resp.StatusCode != http.StatusForbidden || resp.Header.Get("Access-Control-Allow-Origin") != "" || len(resp.Cookies()) != 0 {
			t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
		}
		if asked := openai.Asked()[before:]; len(asked) != 0 {
			t.Errorf("OpenAI was asked for %v", asked)
		}
	})
}

// The lock files must not name a registry, so that npm installs from the configured
// one.
func TestLockFiles_NoRegistry(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{tools, "../examples/astro/", "../internal/widget/"} {
		var lock struct {
			Packages map[string]struct{ Resolved string }
		}
		if err := json.Unmarshal([]byte(read(t, dir+"package-lock.json")), &lock); err != nil {
			t.Fatal(err)
		}
		for name, p := range lock.Packages {
			if p.Resolved != "" {
				t.Errorf("%s: %s comes from %s", dir, name, p.Resolved)
			}
		}
	}
}

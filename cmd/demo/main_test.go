//go:build unix

package main_test

import (
	"flag"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"docent/internal/testkit/testbrowser"
	"docent/internal/testkit/testprocess"
)

// pictures is where the pictures of the widget go, for a person to look at:
// `make screenshots` renews those in docs.
var pictures = flag.String("pictures", "../../.pictures", "the folder for pictures of the widget")

// program is the built demo.
var program string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(testprocess.Main("docent/cmd/demo", &program, func() int { return testbrowser.Run(m) }))
}

// demo starts the demo, and returns its URL and what it printed before it was
// listening.
func demo(t *testing.T, environment ...string) (url, greeting string) {
	t.Helper()
	p := testprocess.Start(t, program, environment...)
	return regexp.MustCompile(`http://localhost:\d+`).FindString(p.Output()), p.Output()
}

func fetch(t *testing.T, method, url, origin string) (resp *http.Response, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", origin)
	resp, err = (&http.Transport{}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func TestDemoNeedsNothing(t *testing.T) {
	t.Parallel()
	url, greeting := demo(t)
	if !strings.Contains(greeting, "Backend:      a stand-in for OpenAI") {
		t.Errorf("greeting:\n%s", greeting)
	}
	var statuses []int
	for range 12 { // Over two minutes at the most.
		resp, body := fetch(t, http.MethodPost, url+"/api/chatkit/session", url)
		if resp.StatusCode == 200 && !strings.Contains(body, "ek_standin_") {
			t.Errorf("session: %s", body)
		}
		statuses = append(statuses, resp.StatusCode)
	}
	if statuses[0] != 200 || statuses[11] != 429 && statuses[5] != 429 {
		t.Errorf("statuses %v, want five 200s, then 429", statuses)
	}
}

// reference finds the links and scripts of a page.
var reference = regexp.MustCompile(`(?:href|src|data-chatkit-url)="(/[^"?#]*)`)

func TestSite(t *testing.T) {
	t.Parallel()
	url, _ := demo(t)
	testPages(t, url)
	testCaching(t, url)
	testRest(t, url)
}

// Each page is whole, and nothing on it leads nowhere.
func testPages(t *testing.T, url string) {
	t.Helper()
	for _, path := range []string{"/", "/quickstart", "/widget", "/configuration", "/deploy", "/troubleshooting", "/limits"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			resp, body := fetch(t, http.MethodGet, url+path, "")
			if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
				t.Fatalf("%s, %s", resp.Status, resp.Header.Get("Content-Type"))
			}
			if policy := resp.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'; script-src 'self'; frame-src 'self';") {
				t.Errorf("policy %q", policy)
			}
			if inline := regexp.MustCompile(`<style|\sstyle=|\son[a-z]+=|<script>`).FindString(body); inline != "" {
				t.Errorf("%q is inline, which the policy forbids", inline)
			}
			if !strings.Contains(body, `<script src="/api/chatkit/widget.js" async`) {
				t.Error("no widget")
			}
			if !strings.Contains(body, `<li><a href="`+path+`" aria-current="page">`) {
				t.Error("the navigation does not say which page this is")
			}
			for _, link := range reference.FindAllStringSubmatch(body, -1) {
				if resp, _ := fetch(t, http.MethodHead, url+link[1], ""); resp.StatusCode != 200 {
					t.Errorf("%s: %s", link[1], resp.Status)
				}
			}
		})
	}
}

// A browser asks each time and is sent what is there once.
func testCaching(t *testing.T, url string) {
	t.Helper()
	for _, path := range []string{"/", "/assets/site.css"} {
		resp, _ := fetch(t, http.MethodGet, url+path, "")
		if got := resp.Header.Get("Cache-Control"); got != "no-cache" {
			t.Errorf("%s: Cache-Control %q", path, got)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("If-None-Match", resp.Header.Get("ETag"))
		again, err := (&http.Transport{}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		again.Body.Close()
		if again.StatusCode != http.StatusNotModified {
			t.Errorf("%s: %s when asked again", path, again.Status)
		}
	}
}

// What is no page is Docent's to answer.
func testRest(t *testing.T, url string) {
	t.Helper()
	tests := map[string]struct {
		method, path string
		status       int
		body         string
	}{
		"unknown path":               {http.MethodGet, "/nowhere", 404, `"code":"not_found"`},
		"unknown asset":              {http.MethodGet, "/assets/nothing.css", 404, `"code":"not_found"`},
		"assets are no directory":    {http.MethodGet, "/assets/", 404, `"code":"not_found"`},
		"pages under their own name": {http.MethodGet, "/site/layout.html", 404, `"code":"not_found"`},
		"a page is not posted to":    {http.MethodPost, "/quickstart", 404, `"code":"not_found"`},
		"health":                     {http.MethodGet, "/health", 200, `"status":"ok"`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp, body := fetch(t, tc.method, url+tc.path, "")
			if resp.StatusCode != tc.status || !strings.Contains(body, tc.body) {
				t.Errorf("%s %s, want %d with %s", resp.Status, body, tc.status, tc.body)
			}
		})
	}
}

func TestDemoSaysWhenItIsReal(t *testing.T) {
	t.Parallel()
	url, greeting := demo(t, "OPENAI_API_KEY=sk-test-not-a-key", "CHATKIT_WORKFLOW_ID=wf_test")
	if !strings.Contains(greeting, "Backend:      the real OpenAI") {
		t.Errorf("greeting:\n%s", greeting)
	}
	resp, body := fetch(t, http.MethodGet, url+"/", "")
	if policy := resp.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "script-src 'self' https://cdn.platform.openai.com; frame-src https://cdn.platform.openai.com;") {
		t.Errorf("policy %q", policy)
	}
	if strings.Contains(body, "data-chatkit-url") {
		t.Error("the page asks for the stand-in")
	}
	if resp, _ := fetch(t, http.MethodGet, url+"/chatkit-stand-in/chatkit.js", ""); resp.StatusCode != 404 {
		t.Errorf("stand-in: %s", resp.Status)
	}
}

//go:build unix

package main_test

import (
	"cmp"
	"flag"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"docent/docs"
	"docent/internal/testkit/testbrowser"
	"docent/internal/testkit/testprocess"

	"golang.org/x/net/html"
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
	greeting = p.Output.String()
	return regexp.MustCompile(`http://localhost:\d+`).FindString(greeting), greeting
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
	tests := []struct{ name, environment, backend, answer string }{
		{"Docent itself", "PORT=0", "Docent itself", `"token":"ds_`},
		{"hosted", "CHATKIT_WORKFLOW_ID=wf_any", "a stand-in for OpenAI", `"client_secret":"ek_standin_`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url, greeting := demo(t, tt.environment)
			if !strings.Contains(greeting, "Backend:      "+tt.backend) {
				t.Errorf("greeting:\n%s", greeting)
			}
			var statuses []int
			for range 12 { // Over two minutes at the most.
				resp, body := fetch(t, http.MethodPost, url+"/api/chatkit/session?api=any", url)
				if resp.StatusCode == 200 && !strings.Contains(body, tt.answer) {
					t.Errorf("session: %s", body)
				}
				statuses = append(statuses, resp.StatusCode)
			}
			if statuses[0] != 200 || statuses[11] != 429 && statuses[5] != 429 {
				t.Errorf("statuses %v, want five 200s, then 429", statuses)
			}
		})
	}
}

func TestSite(t *testing.T) {
	t.Parallel()
	url, _ := demo(t)
	testPages(t, url)
	testCaching(t, url)
	testRest(t, url)
}

// TestWrite holds the written site to the one that is served.
func TestWrite(t *testing.T) {
	t.Parallel()
	url, _ := demo(t)
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), program, "-write", dir).CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v: %s", err, out)
	}
	for path, file := range map[string]string{"/": "index.html", "/embed": "embed.html", "/indexing": "indexing.html", "/assets/site.css": "assets/site.css"} {
		_, served := fetch(t, http.MethodGet, url+path, "")
		written, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(file)))
		if err != nil || string(written) != served {
			t.Errorf("%s is not what is served at %s: %v", file, path, err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), program, "-write", filepath.Join(dir, "index.html")).CombinedOutput(); err == nil || !strings.HasPrefix(string(out), "demo: ") {
		t.Errorf("into a file: %v: %s", err, out)
	}
}

// testPages follows every link from the first page: each page is whole, and
// none of its links leads nowhere.
func testPages(t *testing.T, url string) {
	t.Helper()
	pages := map[string]*html.Node{}
	for next := []string{"/"}; len(next) > 0; next = next[1:] {
		path := next[0]
		if pages[path] != nil {
			continue
		}
		testPage(t, url, path)
		pages[path] = parse(t, url+path)
		for _, link := range links(pages[path]) {
			if strings.HasPrefix(link.Path, "/") {
				next = append(next, link.Path)
			}
		}
	}
	for path, page := range pages {
		ids := attributes(page, "id")
		if slices.Sort(ids); len(slices.Compact(slices.Clone(ids))) != len(ids) {
			t.Errorf("%s has an ID twice: %q", path, ids)
		}
		for _, link := range links(page) {
			target := pages[cmp.Or(link.Path, path)]
			if link.Fragment != "" && !slices.Contains(attributes(target, "id"), link.Fragment) {
				t.Errorf("%s: %s: no such ID", path, link)
			}
		}
		for _, src := range slices.Concat(attributes(page, "src"), attributes(page, "data-chatkit-url"), attributes(page, "data-fallback-url")) {
			if resp, _ := fetch(t, http.MethodHead, url+src, ""); resp.StatusCode != 200 {
				t.Errorf("%s: %s: %s", path, src, resp.Status)
			}
		}
	}
	documents, err := docs.Files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range documents {
		if path := "/" + strings.TrimSuffix(d.Name(), ".md"); pages[path] == nil {
			t.Errorf("no link leads to %s", path)
		}
	}
}

func testPage(t *testing.T, url, path string) {
	t.Helper()
	resp, body := fetch(t, http.MethodGet, url+path, "")
	if resp.StatusCode != 200 {
		t.Fatalf("%s: %s", path, resp.Status)
	}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		return
	}
	if policy := resp.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'; script-src 'self'; frame-src 'self';") {
		t.Errorf("%s: policy %q", path, policy)
	}
	if inline := regexp.MustCompile(`<style|\sstyle=|\son[a-z]+=|<script>`).FindString(body); inline != "" {
		t.Errorf("%s: %q is inline, which the policy forbids", path, inline)
	}
	if !strings.Contains(body, `<script src="/api/chatkit/widget.js" async`) {
		t.Errorf("%s has no widget", path)
	}
	if !strings.Contains(body, `<li><a href="`+path+`" aria-current="page">`) {
		t.Errorf("%s: the navigation does not say which page this is", path)
	}
	if n := strings.Count(body, "<h1"); n != 1 {
		t.Errorf("%s has %d headings of the first level", path, n)
	}
	for _, leftover := range []string{"raw HTML omitted", ".md\"", "]("} {
		if strings.Contains(body, leftover) {
			t.Errorf("%s: %q is left of the Markdown", path, leftover)
		}
	}
}

func parse(t *testing.T, url string) *html.Node {
	t.Helper()
	_, body := fetch(t, http.MethodGet, url, "")
	root, err := html.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// attributes returns the values of an attribute in a page.
func attributes(page *html.Node, name string) []string {
	var values []string
	for n := range page.Descendants() {
		for _, a := range n.Attr {
			if a.Key == name {
				values = append(values, a.Val)
			}
		}
	}
	return values
}

// links returns where a page leads to on its own site.
func links(page *html.Node) []*url.URL {
	var found []*url.URL
	for _, href := range attributes(page, "href") {
		if u, err := url.Parse(href); err == nil && !u.IsAbs() {
			found = append(found, u)
		}
	}
	return found
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

// What is not a page is Docent's to answer.
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
		"a page is not posted to":    {http.MethodPost, "/embed", 404, `"code":"not_found"`},
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

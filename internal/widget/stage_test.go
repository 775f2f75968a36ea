//go:build unix

package widget_test

import (
	"cmp"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"docent/internal/process"
	"docent/internal/standin"
	"docent/internal/testkit/testbrowser"
	"docent/internal/testkit/testprocess"
)

// program is the built service.
var program string

func TestMain(m *testing.M) {
	os.Exit(testprocess.Main("docent/cmd/docent", &program, func() int { return testbrowser.Run(m) }))
}

// stage is a docs site with Docent and the fakes of OpenAI and ChatKit.
type stage struct {
	t           *testing.T
	openai      *standin.OpenAI
	environment []string
	site, cdn   *httptest.Server

	mu     sync.Mutex
	docent *process.Process
	parts
}

// parts are the parts of a stage that a test may change with [stage.change].
type parts struct {
	page    page
	files   http.Handler // Replaces the page, if set.
	session http.Handler // Replaces the session endpoint at the site's own origin, if set.
	// chatKit serves ChatKit's script and frame. Like OpenAI's, they have their own
	// origin.
	chatKit http.Handler
}

// page describes every page of the site. In its strings, CHATKIT and DOCENT are
// placeholders for the origins of ChatKit and Docent.
type page struct {
	src     string            // The src of the widget's tag. Default: at the site's own origin.
	data    map[string]string // More attributes of the widget's tag.
	content string            // Content before the tag.
	csp     string
}

// elsewhere is a [page]'s src at the service's own origin, which is another site than
// the page's.
const elsewhere = "DOCENT/api/chatkit/widget.js"

// newStage starts a stage. Docent allows the site's own origin and the origin of
// [stage.insecure].
func newStage(t *testing.T, p page, environment ...string) *stage {
	t.Helper()
	s := &stage{t: t, openai: standin.NewOpenAI("sk-test-not-a-key", "wf_test"), parts: parts{page: p, chatKit: standin.ChatKit()}}
	base, stop, err := s.openai.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop() })
	s.cdn = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.now().chatKit.ServeHTTP(w, r) }))
	t.Cleanup(s.cdn.Close)
	s.site = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.site.Close)
	s.environment = []string{
		"ALLOWED_ORIGINS=" + s.url("") + "," + s.insecure(""), "OPENAI_API_KEY=sk-test-not-a-key", "CHATKIT_WORKFLOW_ID=wf_test",
		"OPENAI_BASE_URL=" + base, "RATE_LIMIT_PER_MINUTE=100",
	}
	s.restart(environment...)
	return s
}

// change changes the answers of the site or of ChatKit.
func (s *stage) change(f func(*parts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.parts)
}

func (s *stage) now() parts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.parts
}

// restart replaces the service with a new process, whose rate limit counts are zero.
// The arguments are additional environment variables.
func (s *stage) restart(environment ...string) {
	s.t.Helper()
	p := testprocess.Start(s.t, program, append(slices.Clone(s.environment), environment...)...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.docent = p
}

// limited uses up the rate limit of all visitors.
func (s *stage) limited() {
	s.t.Helper()
	testprocess.WholeMinute()
	s.restart("RATE_LIMIT_PER_MINUTE=1")
	v := visitor{testbrowser.Open(s.t)}
	v.Go(s.url("/limited"))
	v.chat()
}

// address returns the service's address.
func (s *stage) address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.docent.Address
}

// url returns the URL of a page at the site's own origin, which is a secure context.
func (s *stage) url(path string) string {
	return strings.Replace(s.site.URL, "127.0.0.1", "localhost", 1) + path
}

// insecure returns the URL of a page under a name that is not a secure context.
func (s *stage) insecure(path string) string {
	return strings.Replace(s.site.URL, "127.0.0.1", "docs.test", 1) + path
}

// serve serves the site's pages and forwards /api/chatkit/ to the service, as a
// rewrite does.
func (s *stage) serve(w http.ResponseWriter, r *http.Request) {
	now := s.now()
	switch {
	case r.URL.Path == "/api/chatkit/session" && now.session != nil:
		now.session.ServeHTTP(w, r)
	case strings.HasPrefix(r.URL.Path, "/api/chatkit/"):
		(&httputil.ReverseProxy{Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(&url.URL{Scheme: "http", Host: s.address()})
		}}).ServeHTTP(w, r)
	case r.URL.Path == "/favicon.ico":
		w.WriteHeader(http.StatusNoContent)
	case now.files != nil:
		now.files.ServeHTTP(w, r)
	default:
		s.servePage(w, r, now.page)
	}
}

func (s *stage) servePage(w http.ResponseWriter, r *http.Request, p page) {
	origins := strings.NewReplacer("CHATKIT", s.cdn.URL, "DOCENT", "http://"+s.address())
	attributes := map[string]string{"src": cmp.Or(p.src, "/api/chatkit/widget.js"), "data-chatkit-url": "CHATKIT/chatkit.js"}
	maps.Copy(attributes, p.data)
	var tag strings.Builder
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		fmt.Fprintf(&tag, ` %s="%s"`, name, html.EscapeString(origins.Replace(attributes[name])))
	}
	if p.csp != "" {
		w.Header().Set("Content-Security-Policy", origins.Replace(p.csp))
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, `<!doctype html>
<html lang="en">
<head><title>%[1]s</title><meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body>
<main><h1>%[1]s</h1><p>Text of a docs page.</p><button id="own">Ask</button> <a href="/other">Another page</a></main>
%s
<script async %s></script>
</body>
</html>
`, html.EscapeString(r.URL.Path), p.content, tag.String())
}

// visit opens a page of the site as a new visitor, and waits for the widget.
func (s *stage) visit(url string) visitor {
	s.t.Helper()
	v := visitor{testbrowser.Open(s.t)}
	v.Go(url)
	v.Until(host)
	return v
}

// minted checks how many sessions OpenAI has created so far.
func (s *stage) minted(want int) {
	s.t.Helper()
	if got := len(s.openai.Asked()); got != want {
		s.t.Errorf("%d sessions were minted, want %d", got, want)
	}
}

// JavaScript expressions for the elements and the state of the widget.
const (
	host      = `document.querySelector("docent-widget")`
	root      = host + `.shadowRoot`
	launcher  = root + `.querySelector(".launcher")`
	panel     = root + `.querySelector(".panel")`
	closer    = root + `.querySelector(".close")`
	notice    = root + `.querySelector(".notice")`
	retry     = root + `.querySelector(".retry")`
	countdown = root + `.querySelector(".countdown")`
	fallback  = root + `.querySelector(".fallback")`
	chatKit   = `document.querySelector("openai-chatkit")`
	chatting  = `window.chatkitStandIn?.secrets.length > 0 && ` + notice + `.hidden`
	isOpen    = panel + `.open`
)

// visitor is a visitor of the site in a browser tab.
type visitor struct{ *testbrowser.Tab }

// chat opens the chat and waits until the visitor can type.
func (v visitor) chat() {
	v.Click(launcher)
	v.Until(chatting)
}

// failed waits until the widget shows a failure.
func (v visitor) failed(code string) {
	v.Until(fmt.Sprintf("%s?.dataset.code === %q && %s.checkVisibility()", notice, code, retry))
}

// later sets the visitor's clock forward, on this page and on later ones.
func (v visitor) later(d time.Duration) {
	js := fmt.Sprintf("Date.now = ((now) => () => now() + %d)(Date.now)", d.Milliseconds())
	v.OnEveryPage(js)
	testbrowser.Eval[any](v.Tab, js+", null")
}

// secrets returns the client secrets that ChatKit got on this page.
func (v visitor) secrets() []string {
	return testbrowser.Eval[[]string](v.Tab, "window.chatkitStandIn?.secrets ?? []")
}

// complaints returns the errors and warnings in the console.
func (v visitor) complaints() []string {
	return slices.DeleteFunc(v.Console(), func(line string) bool {
		return !strings.HasPrefix(line, "error") && !strings.HasPrefix(line, "warning") && !strings.HasPrefix(line, "exception")
	})
}

package deploy_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"docent/internal/testkit"
)

// frontEnd is an address of Google's front ends, as Cloud Run sees them behind
// a rewrite.
const frontEnd = "66.102.0.77"

// hosting stands in front of a service as Firebase Hosting does: it lets one
// cookie through, appends the visitor's address to whatever X-Forwarded-For came
// in, Cloud Run appends Hosting's, and X-Forwarded-Host is the site's. It returns
// its URL, and the cookies that it forwarded.
func hosting(t *testing.T, service string) (site string, forwarded func() []string) {
	t.Helper()
	target, err := url.Parse(service)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var cookies []string
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Header.Del("Cookie")
		for _, c := range r.In.CookiesNamed("__session") {
			r.Out.AddCookie(c)
		}
		visitor, _, _ := net.SplitHostPort(r.In.RemoteAddr)
		r.Out.Header["X-Forwarded-For"] = []string{strings.Join(append(r.In.Header.Values("X-Forwarded-For"), visitor, frontEnd), ", ")}
		r.Out.Header.Set("X-Forwarded-Host", "my-site.web.app")
		mu.Lock()
		defer mu.Unlock()
		cookies = append(cookies, r.Out.Header.Get("Cookie"))
	}})
	t.Cleanup(proxy.Close)
	return proxy.URL, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(cookies)
	}
}

// visitors returns one browser after the other, each at an address of its own:
// all of 127.0.0.0/8 is this machine, and only the proxy's 127.0.0.1 is trusted.
func visitors(t *testing.T, test byte) func() *http.Client {
	t.Helper()
	var n byte
	return func() *http.Client {
		n++
		transport := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 7, test, n)}}).DialContext}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
}

// behindHosting runs Docent with a stand-in OpenAI behind it and Hosting before
// it, both of whose hops it trusts.
func behindHosting(t *testing.T) (site string, openai *testkit.OpenAI, forwarded func() []string) {
	t.Helper()
	openai = testkit.NewOpenAI(testKey, testWorkflow)
	base, stop, err := openai.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop() })
	cmd := exec.CommandContext(context.Background(), theImage(t).binary) // Its end is the test's to see.
	cmd.Env = []string{
		"PORT=127.0.0.1:0", "ALLOWED_ORIGINS=" + testOrigin, "OPENAI_API_KEY=" + testKey, "CHATKIT_WORKFLOW_ID=" + testWorkflow,
		"OPENAI_BASE_URL=" + base, "IDENTITY_KEY=" + testIdentity, "LOG_FORMAT=json",
		"TRUSTED_PROXIES=127.0.0.1/32,firebase-hosting",
	}
	site, forwarded = hosting(t, start(t, cmd).url)
	return site, openai, forwarded
}

// The tag of the example's page must find the script behind the rewrite, and
// the session beside it.
func TestWidgetOfTheExampleIsFound(t *testing.T) {
	t.Parallel()
	site, _, _ := behindHosting(t)
	tag := regexp.MustCompile(`<script src="(/api/chatkit/[^"]+)" async></script>`).FindStringSubmatch(read(t, "../examples/firebase-hosting/public/index.html"))
	if tag == nil {
		t.Fatal("the page has no tag of the widget")
	}
	browser := visitors(t, 4)()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, site+tag[1], nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, body := answer(t, browser, req)
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/javascript") || body != read(t, "../internal/widget/widget.js") {
		t.Errorf("%d %s and %d bytes, want widget.js", resp.StatusCode, resp.Header.Get("Content-Type"), len(body))
	}
	session, err := resp.Request.URL.Parse("session")
	if err != nil {
		t.Fatal(err)
	}
	req = sessionRequest(t, site)
	req.URL = session
	if resp, body := answer(t, browser, req); resp.StatusCode != http.StatusOK {
		t.Errorf("the session beside it: %d %s", resp.StatusCode, body)
	}
}

func TestConversationsSurviveHosting(t *testing.T) {
	t.Parallel()
	site, openai, forwarded := behindHosting(t)
	browser := visitors(t, 1)()
	ask := func(cookies ...string) *http.Cookie {
		t.Helper()
		req := sessionRequest(t, site)
		req.Header.Set("Sec-Fetch-Site", "same-origin")
		req.Header["Cookie"] = []string{strings.Join(cookies, "; ")}
		resp, body := answer(t, browser, req)
		if resp.StatusCode != http.StatusOK || !strings.Contains(body, `"ek_`) || len(resp.Cookies()) != 1 {
			t.Fatalf("%d %s, cookies %v", resp.StatusCode, body, resp.Cookies())
		}
		return resp.Cookies()[0]
	}
	first := ask("tracking=1", "theme=dark")
	mine := first.Name + "=" + first.Value
	ask("tracking=1", mine)
	ask("__session=forged.AAAA")
	users := openai.Asked()
	if users[0].User != users[1].User {
		t.Errorf("the cookie did not bring the visitor back: %q, then %q", users[0].User, users[1].User)
	}
	if users[2].User == users[0].User || users[2].User == "forged" {
		t.Errorf("a forged cookie is user %q", users[2].User)
	}
	if got := forwarded(); got[0] != "" || got[1] != mine {
		t.Errorf("Hosting forwarded the cookies %q: this proxy does not behave as it does", got)
	}
}

func TestAddressesSurviveHosting(t *testing.T) {
	t.Parallel()
	site, _, _ := behindHosting(t)
	next := visitors(t, 2)
	// What a visitor could send to be another. %s is that other's address.
	forgeries := map[string]string{
		"X-Forwarded-For":          "%s",
		"X-Real-Ip":                "%s",
		"True-Client-Ip":           "%s",
		"Fastly-Client-Ip":         "%s",
		"Cf-Connecting-Ip":         "%s",
		"X-Appengine-User-Ip":      "%s",
		"X-Envoy-External-Address": "%s",
		"Forwarded":                "for=%s",
		"X-Forwarded-Host":         "docs.example.com",
	}
	tests := []struct {
		name  string
		forge func(r *http.Request, n int)
	}{
		{"honest", func(*http.Request, int) {}},
		{"another address with every request", func(r *http.Request, n int) {
			for name, value := range forgeries {
				r.Header.Set(name, strings.ReplaceAll(value, "%s", fmt.Sprintf("203.0.113.%d", n)))
			}
		}},
		{"a front end's address", func(r *http.Request, _ int) { r.Header.Set("X-Forwarded-For", frontEnd) }},
		{"the proxy's own address", func(r *http.Request, _ int) { r.Header.Set("X-Forwarded-For", "127.0.0.1, 127.0.0.1") }},
		{"several headers", func(r *http.Request, n int) {
			r.Header["X-Forwarded-For"] = []string{fmt.Sprintf("203.0.113.%d", n), "198.51.100.1, " + frontEnd}
		}},
		{"no address at all", func(r *http.Request, _ int) { r.Header.Set("X-Forwarded-For", "unknown, ,") }},
	}
	for _, tt := range tests {
		// One after the other: they share a clock's minute.
		statuses, other := inOneMinute(t, site, next, tt.forge)
		if want := []int{200, 200, 200, 200, 200, 429, 429, 429}; !slices.Equal(statuses, want) {
			t.Errorf("%s: %v, want %v", tt.name, statuses, want)
		}
		if other != http.StatusOK {
			t.Errorf("%s: it used up the bucket of another address, who got %d", tt.name, other)
		}
	}
}

// inOneMinute has a visitor ask eight times, then another one once, and starts
// again with others where the clock's minute ended meanwhile.
func inOneMinute(t *testing.T, site string, next func() *http.Client, forge func(*http.Request, int)) (statuses []int, other int) {
	t.Helper()
	for {
		began, browser := time.Now().Minute(), next()
		statuses = nil
		for n := range 8 {
			req := sessionRequest(t, site)
			forge(req, n)
			resp, _ := answer(t, browser, req)
			statuses = append(statuses, resp.StatusCode)
		}
		resp, _ := answer(t, next(), sessionRequest(t, site))
		if time.Now().Minute() == began {
			return statuses, resp.StatusCode
		}
	}
}

func TestForeignPagesStayOutBehindHosting(t *testing.T) {
	t.Parallel()
	site, openai, _ := behindHosting(t)
	req := sessionRequest(t, site)
	req.Header.Set("Origin", "https://evil.example")
	req.Header.Set("X-Forwarded-Host", "docs.example.com")
	req.Header.Set("X-Forwarded-Proto", "https")
	if resp, body := answer(t, visitors(t, 3)(), req); resp.StatusCode != http.StatusForbidden || len(openai.Asked()) != 0 {
		t.Errorf("%d %s, and %d sessions", resp.StatusCode, body, len(openai.Asked()))
	}
}

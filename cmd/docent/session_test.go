package main_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const sessionPath = "/api/chatkit/session"

// headers picks some of an answer's headers.
func headers(r reply, names ...string) map[string]string {
	m := map[string]string{}
	for _, n := range names {
		if v := r.Header.Values(n); v != nil {
			m[n] = strings.Join(v, ", ")
		}
	}
	return m
}

func TestSession(t *testing.T) {
	t.Parallel()
	d := start(t)
	before := time.Now().Unix()
	r := d.ask(t, http.MethodPost, sessionPath)
	if r.StatusCode != http.StatusOK || !strings.HasPrefix(r.ClientSecret, "ek_") {
		t.Fatalf("answer: %d %s", r.StatusCode, r.body)
	}
	if r.ExpiresAfter < 590 || r.ExpiresAfter > 600 || r.ExpiresAt < before+600 || r.ExpiresAt > time.Now().Unix()+600 {
		t.Errorf("expiry: %s", r.body)
	}
	got := headers(r, "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Expose-Headers",
		"Content-Type", "RateLimit-Policy", "Vary", "X-RateLimit-Limit", "X-RateLimit-Remaining", "Retry-After")
	want := map[string]string{
		"Access-Control-Allow-Credentials": "true",
		"Access-Control-Allow-Origin":      testOrigin,
		"Access-Control-Expose-Headers":    "Retry-After, Ratelimit, Ratelimit-Policy, X-Ratelimit-Limit, X-Ratelimit-Remaining, X-Request-Id",
		"Content-Type":                     "application/json",
		"RateLimit-Policy":                 `"per-ip";q=5;w=60`,
		"Vary":                             "Origin",
		"X-RateLimit-Limit":                "5",
		"X-RateLimit-Remaining":            "4",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if rl := r.Header.Get("RateLimit"); !strings.HasPrefix(rl, `"per-ip";r=4;t=`) {
		t.Errorf("RateLimit = %q", rl)
	}
	asked := d.openai.Asked()
	if len(asked) != 1 || asked[0].User == "" || asked[0].ExpiresAfter != nil || asked[0].RateLimits != nil ||
		!asked[0].ChatKitConfiguration.History.Enabled || asked[0].ChatKitConfiguration.FileUpload.Enabled {
		t.Errorf("OpenAI was asked for %+v", asked)
	}
}

// A page may say that it could also use the docs backend, which this service has not.
func TestSession_API(t *testing.T) {
	t.Parallel()
	d := start(t)
	for _, api := range []string{"any", "docs"} {
		r := d.ask(t, http.MethodPost, sessionPath, func(r *http.Request) { r.URL.RawQuery = "api=" + api })
		if r.StatusCode != http.StatusOK || !strings.HasPrefix(r.ClientSecret, "ek_") {
			t.Errorf("api=%s: %d %s", api, r.StatusCode, r.body)
		}
	}
	r := d.ask(t, http.MethodPost, sessionPath, func(r *http.Request) { r.URL.RawQuery = "api=hosted" })
	if r.StatusCode != http.StatusBadRequest || r.Code != "bad_request" || !strings.Contains(r.Error, `"api"`) {
		t.Errorf("an unknown api: %d %s", r.StatusCode, r.body)
	}
	if n := len(d.openai.Keys()); n != 2 {
		t.Errorf("OpenAI was called %d times, want twice", n)
	}
}

func TestSession_OptionsSentToOpenAI(t *testing.T) {
	t.Parallel()
	d := start(t, "SESSION_TTL=90s", "SESSION_REQUESTS_PER_MINUTE=3", "CHATKIT_HISTORY=false", "CHATKIT_FILE_UPLOAD=true", "CHATKIT_WORKFLOW_VERSION=7")
	r := d.ask(t, http.MethodPost, sessionPath)
	if r.ExpiresAfter < 80 || r.ExpiresAfter > 90 {
		t.Errorf("expires_after = %d, want 90", r.ExpiresAfter)
	}
	a := d.openai.Asked()[0]
	got := []any{
		a.Workflow.ID, a.Workflow.Version, a.ExpiresAfter.Seconds, a.RateLimits.MaxRequestsPer1Minute,
		a.ChatKitConfiguration.History.Enabled, a.ChatKitConfiguration.FileUpload.Enabled,
	}
	if diff := cmp.Diff([]any{testWorkflow, "7", 90, 3, false, true}, got); diff != "" {
		t.Errorf("OpenAI was asked for (-want +got):\n%s", diff)
	}
}

func TestSession_SimultaneousRequests(t *testing.T) {
	t.Parallel()
	d := start(t)
	for round := range 5 {
		var mu sync.Mutex
		statuses := map[int]int{}
		began := time.Now()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				r := d.ask(t, http.MethodPost, sessionPath, header("X-Forwarded-For", fmt.Sprintf("198.51.100.%d", round)))
				mu.Lock()
				defer mu.Unlock()
				statuses[r.StatusCode]++
				if r.StatusCode == http.StatusTooManyRequests {
					checkLimited(t, r)
				}
			})
		}
		wg.Wait()
		most := 5
		if began.Minute() != time.Now().Minute() {
			most = 10 // The round has two buckets.
		}
		if n := statuses[200]; n < 5 || n > most || n+statuses[429] != 100 {
			t.Errorf("round %d: %v, want 5 granted and 95 refused", round, statuses)
		}
	}
}

func checkLimited(t *testing.T, r reply) {
	t.Helper()
	if r.Code != "rate_limited" || r.RetryAfter < 1 || r.RetryAfter > 60 || r.Header.Get("Retry-After") != fmt.Sprint(r.RetryAfter) {
		t.Errorf("refusal: %v %s", r.Header, r.body)
	}
	want := map[string]string{
		"Access-Control-Allow-Origin": testOrigin,
		"RateLimit":                   fmt.Sprintf(`"per-ip";r=0;t=%d`, r.RetryAfter),
		"RateLimit-Policy":            `"per-ip";q=5;w=60`,
		"X-RateLimit-Limit":           "5",
		"X-RateLimit-Remaining":       "0",
	}
	if diff := cmp.Diff(want, headers(r, "Access-Control-Allow-Origin", "RateLimit", "RateLimit-Policy", "X-RateLimit-Limit", "X-RateLimit-Remaining")); diff != "" {
		t.Errorf("headers of a refusal (-want +got):\n%s", diff)
	}
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	d := start(t, "ALLOWED_ORIGINS="+testOrigin+",https://*.my-docs.pages.dev,http://localhost:*", "RATE_LIMIT_PER_MINUTE=1000000")
	tests := []struct {
		name    string
		origins []string
		allowed bool
	}{
		{"listed", []string{testOrigin}, true},
		{"preview", []string{"https://a1b2c3.my-docs.pages.dev"}, true},
		{"local with a port", []string{"http://localhost:4321"}, true},
		{"missing", nil, false},
		{"empty", []string{""}, false},
		{"null", []string{"null"}, false},
		{"other scheme", []string{"http://docs.example.com"}, false},
		{"other port", []string{"https://docs.example.com:8443"}, false},
		{"default port", []string{"https://docs.example.com:443"}, false},
		{"trailing dot", []string{"https://docs.example.com."}, false},
		{"trailing slash", []string{"https://docs.example.com/"}, false},
		{"upper case", []string{"https://DOCS.example.com"}, false},
		{"userinfo", []string{"https://docs.example.com@evil.example"}, false},
		{"userinfo before", []string{"https://evil@docs.example.com"}, false},
		{"a list of two", []string{testOrigin + " " + testOrigin}, false},
		{"a list of two with a comma", []string{testOrigin + ", " + testOrigin}, false},
		{"two headers", []string{testOrigin, testOrigin}, false},
		{"10 kB", []string{"https://" + strings.Repeat("a", 10_000) + ".my-docs.pages.dev"}, false},
		{"subdomain of a listed host", []string{"https://evil.docs.example.com"}, false},
		{"listed host as a prefix", []string{"https://docs.example.com.evil.example"}, false},
		{"two labels for one star", []string{"https://a.b.my-docs.pages.dev"}, false},
		{"no label for the star", []string{"https://my-docs.pages.dev"}, false},
	}
	for _, tt := range tests {
		for _, method := range []string{http.MethodPost, http.MethodOptions} {
			t.Run(method+" "+tt.name, func(t *testing.T) {
				t.Parallel()
				r := d.ask(t, method, sessionPath, header("Origin", tt.origins...), header("Access-Control-Request-Method", "POST"))
				acao := r.Header.Get("Access-Control-Allow-Origin")
				if tt.allowed {
					if r.StatusCode != http.StatusOK || acao != tt.origins[0] {
						t.Errorf("%d, Access-Control-Allow-Origin = %q, %s", r.StatusCode, acao, r.body)
					}
					return
				}
				if r.StatusCode != http.StatusForbidden || r.Code != "origin_not_allowed" || acao != "" {
					t.Errorf("%d, Access-Control-Allow-Origin = %q, %s", r.StatusCode, acao, r.body)
				}
			})
		}
	}
}

func TestPreflight(t *testing.T) {
	t.Parallel()
	d := start(t, "RATE_LIMIT_PER_MINUTE=1")
	for range 3 { // More than the limit: a preflight costs nothing.
		r := d.ask(t, http.MethodOptions, sessionPath, header("Access-Control-Request-Method", "POST"), header("Access-Control-Request-Headers", "content-type"))
		want := map[string]string{
			"Access-Control-Allow-Credentials": "true",
			"Access-Control-Allow-Headers":     "Content-Type",
			"Access-Control-Allow-Methods":     "POST",
			"Access-Control-Allow-Origin":      testOrigin,
			"Access-Control-Max-Age":           "7200",
			"Vary":                             "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
		}
		got := headers(r, "Access-Control-Allow-Credentials", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods",
			"Access-Control-Allow-Origin", "Access-Control-Max-Age", "RateLimit", "Vary")
		if diff := cmp.Diff(want, got); r.StatusCode != http.StatusOK || diff != "" {
			t.Errorf("%d, headers (-want +got):\n%s", r.StatusCode, diff)
		}
	}
	if r := d.ask(t, http.MethodPost, sessionPath); r.StatusCode != http.StatusOK {
		t.Errorf("after the preflights: %d", r.StatusCode)
	}
	if n := len(d.openai.Keys()); n != 1 {
		t.Errorf("OpenAI was called %d times, want once", n)
	}
}

func TestClientAddress(t *testing.T) {
	t.Parallel()
	// Each address may have one session: a refused request was counted with the
	// address of the first one.
	d := start(t, "RATE_LIMIT_PER_MINUTE=1", "TRUSTED_PROXIES=127.0.0.0/8,firebase-hosting")
	tests := []struct {
		name       string
		first, xff []string
		want       int
	}{
		{"forged entries before the real one", []string{"192.0.2.1"}, []string{"203.0.113.7, 192.0.2.1"}, 429},
		{"forged entry that names a trusted proxy", []string{"192.0.2.2"}, []string{"127.0.0.1, 192.0.2.2"}, 429},
		{"behind a Google front end", []string{"192.0.2.3"}, []string{"192.0.2.3, 66.102.1.2"}, 429},
		{"behind two", []string{"192.0.2.4"}, []string{"192.0.2.4, 66.102.1.2, 127.0.0.9"}, 429},
		{"in repeated headers", []string{"192.0.2.5"}, []string{"203.0.113.7", "192.0.2.5"}, 429},
		{"repeated header with a proxy last", []string{"192.0.2.6"}, []string{"192.0.2.6", "66.102.1.2"}, 429},
		{"IPv4-in-IPv6", []string{"192.0.2.7"}, []string{"::ffff:192.0.2.7"}, 429},
		{"another address of the same /64", []string{"2001:db8:0:1::1"}, []string{"2001:db8:0:1:ffff::2"}, 429},
		{"the next /64", []string{"2001:db8:0:2::1"}, []string{"2001:db8:0:3::1"}, 200},
		{"with a zone", []string{"2001:db8:0:4::1"}, []string{"2001:db8:0:4::1%eth0"}, 429},
		{"another address", []string{"192.0.2.8"}, []string{"192.0.2.9"}, 200},
		{"5 kB of forged entries", []string{"192.0.2.10"}, []string{strings.Repeat("203.0.113.7, ", 400) + "192.0.2.10"}, 429},
		{"missing", nil, nil, 400},
		{"empty", nil, []string{""}, 400},
		{"only commas", nil, []string{", ,,"}, 400},
		{"garbage", nil, []string{"unknown"}, 400},
		{"garbage right of a proxy", nil, []string{"192.0.2.11, garbage, 66.102.1.2"}, 400},
		{"with a port", nil, []string{"192.0.2.12:4711"}, 400},
		{"IPv6 with a port", nil, []string{"[2001:db8::1]:4711"}, 400},
		{"5 kB of garbage", nil, []string{strings.Repeat("x", 5000)}, 400},
		{"only trusted proxies", nil, []string{"66.102.1.2"}, 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for i := range 2 { // Again if the minute ended between the two.
				if tt.first != nil {
					d.ask(t, http.MethodPost, sessionPath, header("X-Forwarded-For", tt.first...))
				}
				r := d.ask(t, http.MethodPost, sessionPath, header("X-Forwarded-For", tt.xff...))
				if tt.want == 429 && r.StatusCode == 200 && i == 0 {
					continue
				}
				if r.StatusCode != tt.want || tt.want == 400 && r.Code != "client_address_unknown" {
					t.Errorf("%d %s, want %d", r.StatusCode, r.body, tt.want)
				}
				break
			}
		})
	}
}

// Behind a rewrite, Hosting appends the visitor's address to whatever the visitor
// sent as X-Forwarded-For, and Cloud Run appends that of a Google front end.
func TestClientAddress_ForgedBehindHosting(t *testing.T) {
	t.Parallel()
	// Each address may have one session.
	d := start(t, "RATE_LIMIT_PER_MINUTE=1", "TRUSTED_PROXIES=127.0.0.0/8,firebase-hosting")
	const frontEnd = "66.102.0.77"
	// What a visitor could send to pass for another. OTHER is the other's address.
	tests := []struct {
		name   string
		header string
		values []string
	}{
		{"nothing", "", nil},
		{"another address", "X-Forwarded-For", []string{"OTHER"}},
		{"a front end's address", "X-Forwarded-For", []string{frontEnd}},
		{"another address behind a front end", "X-Forwarded-For", []string{"OTHER, " + frontEnd}},
		{"addresses of the proxies", "X-Forwarded-For", []string{"127.0.0.1, 127.0.0.1"}},
		{"no address at all", "X-Forwarded-For", []string{"unknown, ,"}},
		{"several headers", "X-Forwarded-For", []string{"203.0.113.7", "OTHER, " + frontEnd}},
		{"X-Real-Ip", "X-Real-Ip", []string{"OTHER"}},
		{"True-Client-Ip", "True-Client-Ip", []string{"OTHER"}},
		{"Fastly-Client-Ip", "Fastly-Client-Ip", []string{"OTHER"}},
		{"Cf-Connecting-Ip", "Cf-Connecting-Ip", []string{"OTHER"}},
		{"X-Appengine-User-Ip", "X-Appengine-User-Ip", []string{"OTHER"}},
		{"X-Envoy-External-Address", "X-Envoy-External-Address", []string{"OTHER"}},
		{"Forwarded", "Forwarded", []string{"for=OTHER"}},
		{"X-Forwarded-Host", "X-Forwarded-Host", []string{"docs.example.com"}},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// Again, with other addresses, if the minute ended meanwhile.
			for round := 0; ; round++ {
				began := time.Now().Minute()
				visitor, other := fmt.Sprintf("198.18.%d.%d", round, i), fmt.Sprintf("198.51.%d.%d", round, i)
				// ask sends headers as the service sees them behind a rewrite.
				ask := func(visitor, name string, values ...string) int {
					t.Helper()
					return d.ask(t, http.MethodPost, sessionPath, func(r *http.Request) {
						r.Header.Del("X-Forwarded-For")
						for _, v := range values {
							r.Header.Add(name, strings.ReplaceAll(v, "OTHER", other))
						}
						hops := append(r.Header.Values("X-Forwarded-For"), visitor, frontEnd)
						r.Header["X-Forwarded-For"] = []string{strings.Join(hops, ", ")}
					}).StatusCode
				}
				got := []int{ask(visitor, ""), ask(visitor, tt.header, tt.values...), ask(other, "")}
				if time.Now().Minute() != began {
					continue
				}
				if diff := cmp.Diff([]int{200, 429, 200}, got); diff != "" {
					t.Errorf("the visitor, the visitor again with forged headers, the other visitor (-want +got):\n%s", diff)
				}
				return
			}
		})
	}
}

func TestClientAddress_UntrustedFrontEndLogged(t *testing.T) {
	t.Parallel()
	d := start(t)
	d.ask(t, http.MethodPost, sessionPath, header("X-Forwarded-For", "192.0.2.1, 66.102.1.1"))
	if !strings.Contains(d.output.String(), "add firebase-hosting to TRUSTED_PROXIES") {
		t.Errorf("the log does not mention it:\n%s", d.output)
	}
}

func TestClientAddress_NoTrustedProxies(t *testing.T) {
	t.Parallel()
	d := start(t, "TRUSTED_PROXIES=", "RATE_LIMIT_PER_MINUTE=2")
	var statuses []int
	for i := range 6 { // Over two minutes at the most.
		statuses = append(statuses, d.ask(t, http.MethodPost, sessionPath, header("X-Forwarded-For", fmt.Sprintf("192.0.2.%d", i))).StatusCode)
	}
	if statuses[5] != 429 && statuses[4] != 429 && statuses[2] != 429 {
		t.Errorf("statuses %v: a header got its sender past the limit", statuses)
	}
}

func TestPathsAndMethods(t *testing.T) {
	t.Parallel()
	d := start(t)
	tests := []struct {
		method, path string
		status       int
		code, allow  string
	}{
		{"GET", "/health", 200, "", ""},
		{"HEAD", "/health", 200, "", ""},
		{"POST", "/health", 405, "method_not_allowed", "GET, HEAD"},
		{"OPTIONS", "/health", 405, "method_not_allowed", "GET, HEAD"},
		{"POST", widgetPath, 405, "method_not_allowed", "GET, HEAD"},
		{"OPTIONS", widgetPath, 405, "method_not_allowed", "GET, HEAD"},
		{"GET", sessionPath, 405, "method_not_allowed", "POST"},
		{"HEAD", sessionPath, 405, "", "POST"},
		{"PUT", sessionPath, 405, "method_not_allowed", "POST"},
		{"DELETE", sessionPath, 405, "method_not_allowed", "POST"},
		{"OPTIONS", sessionPath, 405, "method_not_allowed", "POST"}, // No preflight.
		{"BREW", sessionPath, 405, "method_not_allowed", "POST"},
		{"BREW", "/coffee", 404, "not_found", ""},
		{"GET", "/", 404, "not_found", ""},
		{"GET", "/healthz", 404, "not_found", ""},
		{"GET", "/health/", 404, "not_found", ""},
		{"POST", sessionPath + "/", 404, "not_found", ""},
		{"POST", "/api/chatkit//session", 404, "not_found", ""},
		{"POST", "//api/chatkit/session", 404, "not_found", ""},
		{"POST", "/api/chatkit/x/../session", 404, "not_found", ""},
		{"POST", "/api/chatkit/./session", 404, "not_found", ""},
		{"POST", "/api/chatkit%2Fsession", 404, "not_found", ""},
		{"POST", "/API/chatkit/session", 404, "not_found", ""},
		{"GET", "/.env", 404, "not_found", ""},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			t.Parallel()
			r := d.ask(t, tt.method, tt.path)
			if r.StatusCode != tt.status || r.Code != tt.code || r.Header.Get("Allow") != tt.allow {
				t.Errorf("%d %q, Allow: %q, want %d %q %q", r.StatusCode, r.Code, r.Header.Get("Allow"), tt.status, tt.code, tt.allow)
			}
		})
	}
	if r := d.raw(t, "OPTIONS * HTTP/1.1\r\nHost: docent\r\n\r\n"); r.StatusCode != http.StatusNotFound {
		t.Errorf("OPTIONS *: %d %s", r.StatusCode, r.body)
	}
	if r := d.ask(t, "GET", "/health"); r.body != `{"status":"ok"}`+"\n" {
		t.Errorf("/health: %q", r.body)
	}
}

// raw sends bytes on a connection and returns the first answer.
func (d *docent) raw(t *testing.T, text string) reply {
	t.Helper()
	conn := d.dial(t)
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{Response: resp, body: string(body)}
}

func (d *docent) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(d.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestSession_BodyIgnored(t *testing.T) {
	t.Parallel()
	d := start(t)
	const head = "POST " + sessionPath + " HTTP/1.1\r\nHost: docent\r\nOrigin: " + testOrigin + "\r\nX-Forwarded-For: 192.0.2.1\r\n"
	t.Run("10 MB announced, none sent", func(t *testing.T) {
		t.Parallel()
		if r := d.raw(t, head+"Content-Length: 10485760\r\n\r\n"); r.StatusCode != http.StatusOK {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	})
	t.Run("100 kB announced, none sent, by a page that is not allowed", func(t *testing.T) {
		t.Parallel()
		if r := d.raw(t, "POST "+sessionPath+" HTTP/1.1\r\nHost: docent\r\nContent-Length: 100000\r\n\r\n"); r.StatusCode != http.StatusForbidden {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	})
	t.Run("chunks announced, none sent", func(t *testing.T) {
		t.Parallel()
		if r := d.raw(t, head+"Transfer-Encoding: chunked\r\n\r\n"); r.StatusCode != http.StatusOK {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	})
	t.Run("text announced, none sent", func(t *testing.T) {
		t.Parallel()
		if r := d.raw(t, head+"Content-Type: text/plain\r\nContent-Length: 100\r\n\r\n"); r.StatusCode != http.StatusOK {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	})
	t.Run("chunks of text announced, none sent", func(t *testing.T) {
		t.Parallel()
		if r := d.raw(t, head+"Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"); r.StatusCode != http.StatusOK {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	})
	t.Run("10 MB sent", func(t *testing.T) {
		t.Parallel()
		r := d.ask(t, http.MethodPost, sessionPath, func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(make([]byte, 10<<20))), 10<<20
		})
		if r.StatusCode != http.StatusOK {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	})
	t.Run("the JSON that the Worker's pages sent", func(t *testing.T) {
		t.Parallel()
		r := d.ask(t, http.MethodPost, sessionPath, func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(`{"user":"mallory"}`)), 18
		})
		if r.StatusCode != http.StatusOK {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	})
	t.Cleanup(func() {
		if n := len(d.openai.Asked()); n != 6 {
			t.Errorf("%d sessions, want 6", n)
		}
		for _, a := range d.openai.Asked() {
			if a.User == "mallory" {
				t.Error("the page chose the user")
			}
		}
	})
}

func TestServer_HeaderBlockLimit(t *testing.T) {
	t.Parallel()
	d := start(t)
	const line = "GET /health HTTP/1.1\r\nHost: docent\r\nX-Padding: "
	for _, tt := range []struct {
		name string
		size int
		want int
	}{
		{"32 kB", 32 << 10, http.StatusOK},
		// net/http has read up to 4 kB before it counts.
		{"one byte more", 32<<10 + 1, http.StatusRequestHeaderFieldsTooLarge},
		{"1 MB", 1 << 20, http.StatusRequestHeaderFieldsTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if r := d.raw(t, line+strings.Repeat("x", tt.size-len(line)-4)+"\r\n\r\n"); r.StatusCode != tt.want {
				t.Errorf("%d, want %d", r.StatusCode, tt.want)
			}
		})
	}
}

func TestServer_SlowClientClosed(t *testing.T) {
	t.Parallel()
	d := start(t)
	conn := d.dial(t)
	began := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(io.Discard, conn)
	}()
	everySecond := time.NewTicker(time.Second)
	defer everySecond.Stop()
	text := "POST " + sessionPath + " HTTP/1.1\r\nHost: docent\r\n"
	for i := 0; ; i++ {
		conn.Write([]byte{text[i%len(text)]})
		select {
		case <-done:
			if took := time.Since(began); took < 9*time.Second {
				t.Errorf("closed after %s, want 10s", took)
			}
			return
		case <-everySecond.C:
			if i > 15 {
				t.Fatal("still open after 15 s")
			}
		}
	}
}

func TestStop_FinishesInFlight(t *testing.T) {
	t.Parallel()
	d := start(t)
	asked, release := make(chan struct{}), make(chan struct{})
	d.openai.Fail(func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-release
		fmt.Fprintf(w, `{"client_secret":"ek_late","expires_at":%d}`, time.Now().Unix()+600)
	})
	answer := make(chan reply, 1)
	go func() { answer <- d.ask(t, http.MethodPost, sessionPath) }()
	<-asked
	if err := d.process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for accepts := true; accepts; { // Until the port is closed.
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(d.url, "http://"))
		if accepts = err == nil; accepts {
			conn.Close()
		}
	}
	close(release)
	if r := <-answer; r.StatusCode != http.StatusOK || r.ClientSecret != "ek_late" {
		t.Errorf("the visitor got %d %s", r.StatusCode, r.body)
	}
	if err := d.process.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
}

func TestStop_BodyNeverArrives(t *testing.T) {
	t.Parallel()
	d := start(t)
	d.raw(t, "POST /nowhere HTTP/1.1\r\nHost: docent\r\nContent-Length: 1000\r\n\r\n")
	began := time.Now()
	d.stop(t)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s to stop", took)
	}
}

func TestStop_DrainTimeout(t *testing.T) {
	t.Parallel()
	d := start(t, "REQUEST_TIMEOUT=60s")
	asked, _ := d.holdOpenAI()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.url+sessionPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", testOrigin)
	req.Header.Set("X-Forwarded-For", "192.0.2.1")
	go func() {
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	<-asked
	began := time.Now()
	d.stop(t)
	if took := time.Since(began); took < 8*time.Second || took > 10*time.Second {
		t.Errorf("it stopped after %s, want 9s", took)
	}
	if !strings.Contains(d.output.String(), "still in flight") {
		t.Errorf("the log does not say that requests were cut off:\n%s", d.output)
	}
}

// holdOpenAI leaves the next call to OpenAI unanswered. asked is closed when the call
// arrives, cancelled when its caller gives it up.
func (d *docent) holdOpenAI() (asked, cancelled <-chan struct{}) {
	arrived, gone := make(chan struct{}), make(chan struct{})
	d.openai.Fail(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		close(arrived)
		<-r.Context().Done()
		close(gone)
	})
	return arrived, gone
}

func TestSession_ClientDisconnect(t *testing.T) {
	t.Parallel()
	d := start(t)
	asked, cancelled := d.holdOpenAI()
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url+sessionPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", testOrigin)
	req.Header.Set("X-Forwarded-For", "192.0.2.1")
	go func() {
		<-asked
		leave()
	}()
	if resp, err := client.Do(req); err == nil {
		resp.Body.Close()
		t.Fatal("an answer to a request that was cancelled")
	}
	<-cancelled
	if r := d.records(t, 1)[0]; r["outcome"] != "client_gone" {
		t.Errorf("record: %v", r)
	}
	if n := len(d.openai.Keys()); n != 1 {
		t.Errorf("OpenAI was called %d times, want once", n)
	}
}

// Docent does not need the body, but net/http detects only while reading that the
// client has gone.
func TestSession_ClientDisconnectWithBodyOpen(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body string
		reset      bool // The client resets the connection.
	}{
		{"announced", "Content-Length: 1000\r\n\r\nabc", false},
		{"announced, reset", "Content-Length: 1000\r\n\r\nabc", true},
		{"none of it yet", "Content-Length: 1000\r\n\r\n", false},
		{"in chunks", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", false},
		{"in chunks, reset", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", true},
		{"text announced", "Content-Type: text/plain\r\nContent-Length: 100\r\n\r\nabc", false},
		{"text in chunks, reset", "Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", true},
		{"text that is too long", "Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n300\r\n" + strings.Repeat("x", 0x300) + "\r\n", false},
		{"text, all of it", "Content-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc", false},
		{"all of it", "Content-Length: 3\r\n\r\nabc", false},
		{"200 kB of it", "Content-Length: 300000\r\n\r\n" + strings.Repeat("x", 200_000), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := start(t)
			asked, cancelled := d.holdOpenAI()
			conn := d.dial(t)
			head := "POST " + sessionPath + " HTTP/1.1\r\nHost: docent\r\nOrigin: " + testOrigin + "\r\nX-Forwarded-For: 192.0.2.1\r\n"
			if _, err := io.WriteString(conn, head+tt.body); err != nil {
				t.Fatal(err)
			}
			<-asked
			if tcp, ok := conn.(*net.TCPConn); ok && tt.reset {
				tcp.SetLinger(0)
			}
			conn.Close()
			<-cancelled
			if r := d.records(t, 1)[0]; r["outcome"] != "client_gone" {
				t.Errorf("record: %v, want client_gone", r)
			}
		})
	}
}

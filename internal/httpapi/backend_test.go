package httpapi_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"docent/internal/hosted"
	"docent/internal/httpapi"
	"docent/internal/openai"
	"docent/internal/ratelimit"
	"docent/internal/visitor"

	"github.com/google/go-cmp/cmp"
)

const chat = "https://docent.example.com/api/chatkit/chat"

// signer reads what a site has issued.
func signer(s *site) *visitor.Signer {
	return visitor.NewSigner(visitor.Keys{Tokens: []byte("key"), Undated: []byte("another key")}, httpapi.BasePath, s.clock)
}

// docs configures the docs backend in addition to the hosted one.
func docs(o *httpapi.Options) {
	o.Docs = &httpapi.Docs{
		PublicURL:  "https://docent.example.com",
		DomainKeys: map[string]string{"docs.example.com": "domain_pk_docs", "blog.example.com": "domain_pk_blog"},
		SessionTTL: 10 * time.Minute,
	}
}

func docsAlone(o *httpapi.Options) {
	docs(o)
	o.Minter = nil
}

// anyone lets every page in, without a limit.
func anyone(o *httpapi.Options) {
	o.Origins = everything{}
	o.Limiter = unlimited{}
}

type everything struct{}

func (everything) Allows(string) bool { return true }

type unlimited struct{}

func (unlimited) Take(context.Context, ratelimit.Key) (ratelimit.Decision, error) {
	return ratelimit.Decision{Granted: true, Name: "per-ip", Limit: 5, Remaining: 4, Reset: time.Minute, Window: time.Minute}, nil
}

func (unlimited) Return(ratelimit.Decision) {}

// answer has the fields of every answer of the session route.
type answer struct {
	Status       int    `json:"-"`
	Code         string `json:"code"`
	Error        string `json:"error"`
	ClientSecret string `json:"client_secret"`
	Token        string `json:"token"`
	API          struct {
		URL       string `json:"url"`
		DomainKey string `json:"domain_key"`
	} `json:"api"`
	Visitor string `json:"visitor"`

	header http.Header
}

// start answers a request for a session without a network in between, so that it can
// have any Host and any peer.
func (s *site) start(t *testing.T, query string, change ...func(*http.Request)) answer {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "https://docent.example.com/api/chatkit/session?"+query, nil)
	r.TLS = nil
	r.Header.Set("Origin", page)
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	a := answer{Status: w.Code, header: w.Header()}
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatalf("%s: %v", w.Body, err)
	}
	return a
}

func header(pairs ...string) func(*http.Request) {
	return func(r *http.Request) {
		for i := 0; i < len(pairs); i += 2 {
			r.Header.Add(pairs[i], pairs[i+1])
		}
	}
}

func onPage(o string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Origin", o) }
}

func TestSession_Backend(t *testing.T) {
	t.Parallel()
	const (
		badRequest  = "400 bad_request"
		unavailable = "503 assistant_unavailable"
	)
	workflow := func(*httpapi.Options) {}
	tests := []struct {
		name       string
		configured func(*httpapi.Options)
		query      string
		want       string
	}{
		{"hosted alone, page without api", workflow, "", "hosted"},
		{"hosted alone, any", workflow, "api=any", "hosted"},
		{"hosted alone, docs", workflow, "api=docs", "hosted"},
		{"hosted alone, unknown", workflow, "api=hosted", badRequest},
		{"docs alone, page without api", docsAlone, "", unavailable},
		{"docs alone, any", docsAlone, "api=any", "docs"},
		{"docs alone, docs", docsAlone, "api=docs", "docs"},
		{"docs alone, unknown", docsAlone, "api=hosted", badRequest},
		{"both, page without api", docs, "", "hosted"},
		{"both, any", docs, "api=any", "hosted"},
		{"both, docs", docs, "api=docs", "docs"},
		{"both, unknown", docs, "api=hosted", badRequest},
		{"empty", docs, "api=", badRequest},
		{"no value", docs, "api", badRequest},
		{"upper case", docs, "api=DOCS", badRequest},
		{"with a space", docs, "api=docs+", badRequest},
		{"twice", docs, "api=any&api=docs", badRequest},
		{"twice the same", docs, "api=docs&api=docs", badRequest},
		{"10 kB", docs, "api=" + strings.Repeat("x", 10_000), badRequest},
		{"another parameter", docs, "API=docs&apis=docs", "hosted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			minted := 0
			s := serve(t, func(o *httpapi.Options) {
				o.Minter = minter(func(context.Context, string) (hosted.Session, error) {
					minted++
					return hosted.Session{ClientSecret: "ek_secret", ExpiresAt: noon.Add(10 * time.Minute)}, nil
				})
			}, tt.configured)
			a := s.start(t, tt.query)
			got := fmt.Sprint(a.Status, " ", a.Code)
			switch {
			case a.ClientSecret == "ek_secret" && a.Token == "" && a.API.URL == "" && minted == 1:
				got = "hosted"
			case strings.HasPrefix(a.Token, "ds_") && a.ClientSecret == "" && a.API.URL == chat && minted == 0:
				got = "docs"
			}
			if got != tt.want {
				t.Errorf("got %s, %d minted, want %s: %+v", got, minted, tt.want, a)
			}
			if tt.want == badRequest && !strings.Contains(a.Error, `"api"`) {
				t.Errorf("the sentence %q does not name the field", a.Error)
			}
			if tt.want == unavailable && !strings.Contains(s.written(), "knows only hosted sessions") {
				t.Errorf("the log does not say why:\n%s", s.written())
			}
		})
	}
}

// Once OpenAI refuses the workflow, the docs backend serves, without a further call.
func TestSession_WorkflowRefused(t *testing.T) {
	t.Parallel()
	const sessionRefused = "503 assistant_unavailable"
	tests := []struct {
		status     int
		kind       openai.Kind
		configured func(*httpapi.Options)
		want       []string // For a page that knows both backends, then for an old one, then for the first again.
		calls      int
	}{
		{400, openai.Rejected, docs, []string{"docs", sessionRefused, "docs"}, 1},
		{403, openai.Rejected, docs, []string{"docs", sessionRefused, "docs"}, 1},
		{404, openai.NotFound, docs, []string{"docs", sessionRefused, "docs"}, 1},
		{410, openai.NotFound, docs, []string{"docs", sessionRefused, "docs"}, 1},
		{401, openai.Rejected, docs, []string{"502 upstream_rejected", "502 upstream_rejected", "502 upstream_rejected"}, 3},
		{429, openai.Busy, docs, []string{"503 upstream_busy", "503 upstream_busy", "503 upstream_busy"}, 3},
		{0, openai.Timeout, docs, []string{"504 upstream_timeout", "504 upstream_timeout", "504 upstream_timeout"}, 3},
		{404, openai.NotFound, func(*httpapi.Options) {}, []string{sessionRefused, sessionRefused, sessionRefused}, 3},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.status), func(t *testing.T) {
			t.Parallel()
			calls := 0
			s := serve(t, func(o *httpapi.Options) {
				o.Minter = minter(func(context.Context, string) (hosted.Session, error) {
					calls++
					return hosted.Session{}, &openai.Error{Kind: tt.kind, Status: tt.status}
				})
			}, tt.configured, anyone)
			var got []string
			for _, query := range []string{"api=any", "", "api=any"} {
				a := s.start(t, query)
				if strings.HasPrefix(a.Token, "ds_") && a.API.URL == chat {
					got = append(got, "docs")
				} else {
					got = append(got, fmt.Sprint(a.Status, " ", a.Code))
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
			if calls != tt.calls {
				t.Errorf("OpenAI was asked %d times, want %d", calls, tt.calls)
			}
			warnings := strings.Count(s.written(), "remove CHATKIT_WORKFLOW_ID")
			if want := map[bool]int{true: 1}[tt.calls == 1]; warnings != want {
				t.Errorf("%d warnings, want %d:\n%s", warnings, want, s.written())
			}
		})
	}
}

// A page that knows only hosted sessions can be the first to be refused.
func TestSession_WorkflowRefusedToAnOldPage(t *testing.T) {
	t.Parallel()
	calls := 0
	s := serve(t, func(o *httpapi.Options) {
		o.Minter = minter(func(context.Context, string) (hosted.Session, error) {
			calls++
			return hosted.Session{}, &openai.Error{Kind: openai.NotFound, Status: 404}
		})
	}, docs)
	if a := s.start(t, ""); a.Status != 503 || a.Code != "assistant_unavailable" {
		t.Errorf("the old page: %d %s", a.Status, a.Code)
	}
	if a := s.start(t, "api=any"); !strings.HasPrefix(a.Token, "ds_") || calls != 1 {
		t.Errorf("the next page: %d %s after %d calls", a.Status, a.Code, calls)
	}
}

func TestSession_DocsAnswer(t *testing.T) {
	t.Parallel()
	s := serve(t, docsAlone)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/api/chatkit/session?api=any", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", page)
	req.Header.Set("Sec-Fetch-Site", "same-site")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		t.Fatal(err)
	}
	want := `{"token":"` + a.Token + `","expires_after":600,"expires_at":1795435800,"api":{"url":"` + chat + `","domain_key":"domain_pk_docs"}}` + "\n"
	if diff := cmp.Diff(want, string(body)); resp.StatusCode != http.StatusOK || diff != "" {
		t.Errorf("%d (-want +got):\n%s", resp.StatusCode, diff)
	}
	got := map[string]string{}
	for _, name := range []string{"Access-Control-Allow-Origin", "Cache-Control", "Content-Type", "RateLimit", "RateLimit-Policy", "X-RateLimit-Remaining"} {
		got[name] = resp.Header.Get(name)
	}
	if diff := cmp.Diff(map[string]string{
		"Access-Control-Allow-Origin": page,
		"Cache-Control":               "private, no-store",
		"Content-Type":                "application/json",
		"RateLimit":                   `"per-ip";r=1;t=60`,
		"RateLimit-Policy":            `"per-ip";q=2;w=60`,
		"X-RateLimit-Remaining":       "1",
	}, got); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	id, ok := signer(s).OpenSession(a.Token)
	if cookie := resp.Cookies()[0]; !ok || !strings.HasPrefix(cookie.Value, "vc_"+id+".") {
		t.Errorf("the token is of %q, the cookie is %s", id, cookie.Value)
	}
	line := s.lines(t)[0]
	if _, called := line["upstream_ms"]; called || line["outcome"] != "granted" || line["severity"] != "INFO" {
		t.Errorf("record: %v", line)
	}
}

func TestSession_DocsRateLimit(t *testing.T) {
	t.Parallel()
	s := serve(t, docsAlone)
	var got []string
	for range 3 {
		a := s.start(t, "api=docs")
		got = append(got, fmt.Sprint(a.Status, " ", a.Code))
	}
	if diff := cmp.Diff([]string{"200 ", "200 ", "429 rate_limited"}, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

func TestSession_APIURL(t *testing.T) {
	t.Parallel()
	proxy := func(o *httpapi.Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} } // httptest's peer.
	other := func(o *httpapi.Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")} }
	linkLocal := func(o *httpapi.Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("fe80::/10")} }
	public := func(o *httpapi.Options) { o.Docs.PublicURL = "https://public.example.com" }
	cloudRun := func(o *httpapi.Options) { o.Docs.HTTPS = true }
	peer := func(addr string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = addr } }
	forwarded := header("X-Forwarded-For", "203.0.113.7", "X-Forwarded-Proto", "https")
	const plain, secure = "http://docent.example.com/api/chatkit/chat", chat
	tests := []struct {
		name      string
		configure func(*httpapi.Options)
		request   func(*http.Request)
		want      string
	}{
		{"neither TLS nor a proxy", other, header("X-Forwarded-For", "203.0.113.7"), plain},
		{"over TLS", other, func(r *http.Request) { peer("203.0.113.7:80")(r); r.TLS = &tls.ConnectionState{} }, secure},
		{"on Cloud Run", cloudRun, header(), secure},
		{"on Cloud Run, forwarded as http", cloudRun, header("X-Forwarded-Proto", "http"), secure},
		{"PUBLIC_URL", public, header(), "https://public.example.com/api/chatkit/chat"},
		{"PUBLIC_URL and an invalid Host", public, func(r *http.Request) { r.Host = "a b" }, "https://public.example.com/api/chatkit/chat"},
		{"https forwarded by a trusted proxy", proxy, forwarded, secure},
		{"https forwarded by a trusted proxy, IPv4-in-IPv6", proxy, func(r *http.Request) { peer("[::ffff:192.0.2.9]:80")(r); forwarded(r) }, secure},
		{"https forwarded by a trusted proxy, with a zone", linkLocal, func(r *http.Request) { peer("[fe80::1%eth0]:80")(r); forwarded(r) }, secure},
		{"https forwarded by a peer that is not trusted", other, func(r *http.Request) { peer("203.0.113.7:80")(r); forwarded(r) }, plain},
		{"https forwarded without trusted proxies", func(*httpapi.Options) {}, forwarded, plain},
		{"http forwarded by a trusted proxy", proxy, header("X-Forwarded-For", "203.0.113.7", "X-Forwarded-Proto", "http"), plain},
		{"a list, forwarded by a trusted proxy", proxy, header("X-Forwarded-For", "203.0.113.7", "X-Forwarded-Proto", "https, http"), plain},
		{"two headers, forwarded by a trusted proxy", proxy, func(r *http.Request) { forwarded(r); header("X-Forwarded-Proto", "http")(r) }, plain},
		{"X-Forwarded-Host by a trusted proxy", proxy, func(r *http.Request) { forwarded(r); header("X-Forwarded-Host", "evil.example")(r) }, secure},
		{"X-Forwarded-Host on Cloud Run", cloudRun, header("X-Forwarded-Host", "evil.example"), secure},
		{"Forwarded", proxy, header("X-Forwarded-For", "203.0.113.7", "Forwarded", "host=evil.example;proto=https"), plain},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, docsAlone, anyone, func(o *httpapi.Options) { o.Docs.PublicURL = "" }, tt.configure)
			if a := s.start(t, "api=any", tt.request); a.Status != http.StatusOK || a.API.URL != tt.want {
				t.Errorf("%d %s %q, want %q", a.Status, a.Code, a.API.URL, tt.want)
			}
		})
	}
}

func TestSession_Host(t *testing.T) {
	t.Parallel()
	s := serve(t, docsAlone, anyone, func(o *httpapi.Options) { o.Docs.PublicURL, o.Docs.HTTPS = "", true })
	label := strings.Repeat("a", 63)
	longest := label + "." + label + "." + label + "." + label[:61]
	tests := []struct {
		name  string
		host  string
		plain bool
	}{
		{"name", "docent.example.com", true},
		{"name with a port", "docent.example.com:8443", true},
		{"name with the highest port", "docent.example.com:65535", true},
		{"single label", "docent", true},
		{"Cloud Run's", "docent-abc123-uc.a.run.app", true},
		{"in upper case", "DOCENT.example.com", true},
		{"with a final dot", "docent.example.com.", true},
		{"underscore", "my_docent:8080", true},
		{"IPv4", "127.0.0.1:8787", true},
		{"IPv6", "[::1]", true},
		{"IPv6 with a port", "[2001:db8::1]:8787", true},
		{"as long as a name can be", longest, true},
		{"longer than a name can be", longest + "aaaaaaaa", false},
		{"10 kB", strings.Repeat("a", 10_000), false},
		{"empty", "", false},
		{"port alone", ":8787", false},
		{"port 0", "docent.example.com:0", false},
		{"port too high", "docent.example.com:65536", false},
		{"port of six digits", "docent.example.com:123456", false},
		{"port with a leading zero", "docent.example.com:0443", false},
		{"no port after the colon", "docent.example.com:", false},
		{"port that is not a number", "docent.example.com:https", false},
		{"two ports", "docent.example.com:1:2", false},
		{"user", "docent.example.com@evil.example", false},
		{"user and password", "docent:secret@evil.example", false},
		{"path", "evil.example/x", false},
		{"backslash", `evil.example\x`, false},
		{"query", "evil.example?x", false},
		{"fragment", "evil.example#x", false},
		{"scheme", "https://evil.example", false},
		{"space", "evil.example docent", false},
		{"space at the end", "docent.example.com ", false},
		{"line break", "docent.example.com\n", false},
		{"control character", "docent\x00.example.com", false},
		{"quote", `docent".example.com`, false},
		{"percent", "docent%2Eexample.com", false},
		{"not ASCII", "döcent.example.com", false},
		{"two dots", "docent..example.com", false},
		{"dot first", ".example.com", false},
		{"two hosts", "docent.example.com,evil.example", false},
		{"bracket not closed", "[::1", false},
		{"bracket not opened", "::1]", false},
		{"brackets around nothing", "[]", false},
		{"brackets around a name", "[docent.example.com]", false},
		{"brackets around colons", "[::::]", false},
		{"IPv6 with a zone", "[fe80::1%25eth0]", false},
		{"IPv6 without brackets", "::1", false},
		{"text after the bracket", "[::1]x", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := s.start(t, "api=any", func(r *http.Request) { r.Host = tt.host })
			if tt.plain {
				if want := "https://" + tt.host + "/api/chatkit/chat"; a.Status != http.StatusOK || a.API.URL != want {
					t.Errorf("%d %s %q, want %q", a.Status, a.Code, a.API.URL, want)
				}
				return
			}
			if a.Status != http.StatusBadRequest || a.Code != "bad_request" || !strings.Contains(a.Error, `"Host"`) || a.Token != "" {
				t.Errorf("%+v, want 400 bad_request", a)
			}
		})
	}
}

func TestSession_HostOfAHostedSession(t *testing.T) {
	t.Parallel()
	s := serve(t, docs, func(o *httpapi.Options) { o.Docs.PublicURL = "" })
	if a := s.start(t, "api=any", func(r *http.Request) { r.Host = "a b" }); a.ClientSecret == "" {
		t.Errorf("%+v, want a hosted session, which does not need the Host", a)
	}
}

func TestSession_DomainKey(t *testing.T) {
	t.Parallel()
	const (
		local = "domain_pk_localhost_dev"
		none  = "503 assistant_unavailable"
		base  = "https://docent.example.com"
	)
	tests := []struct {
		name       string
		page, base string
		want       string
	}{
		{"host with a key", "https://docs.example.com", base, "domain_pk_docs"},
		{"host with a key, other port", "https://docs.example.com:8443", base, "domain_pk_docs"},
		{"host with a key, http", "http://docs.example.com", base, "domain_pk_docs"},
		{"local host with a key", "http://localhost:4321", base, "domain_pk_local"},
		{"host without a key", "https://other.example.com", base, none},
		{"subdomain of a host with a key", "https://preview.docs.example.com", base, none},
		{"host without a key, http", "http://other.example.com", base, none},
		{"name below localhost", "https://docs.localhost", base, none},
		{"name that begins like a loopback address", "https://127.0.0.1.example.com", base, none},
		{"name that ends in localhost", "https://notlocalhost", base, none},
		{"name that ends in local", "https://docs.notlocal", base, none},
		{"private IPv4 address", "https://192.168.0.7", base, none},
		{"IPv6 address", "https://[2001:db8::1]", base, none},
		{"0.0.0.0", "https://0.0.0.0", base, local},
		{"IPv6 loopback address", "https://[::1]", base, local},
		{"loopback address", "https://127.0.0.1", base, local},
		{"another loopback address", "https://127.8.9.10", base, local},
		{"name below local", "https://mac.local", base, local},
		{"unusual port", "https://other.example.com:8443", base, local},
		{"unusual port, http", "http://other.example.com:8080", base, local},
		{"http on the port of https", "http://other.example.com:443", base, local},
		{"https on the port of http", "https://other.example.com:80", base, local},
		{"http on its own port", "http://other.example.com:80", base, none},
		{"chat over http", "https://other.example.com", "http://docent.example.com", local},
		{"chat on an unusual port", "https://other.example.com", "https://docent.example.com:8443", local},
		{"chat on the port of https", "https://other.example.com", "https://docent.example.com:443", none},
		{"chat on localhost", "https://other.example.com", "https://localhost", local},
		{"chat on LOCALHOST", "https://other.example.com", "https://LOCALHOST", local},
		{"chat on a name below local", "https://other.example.com", "https://docent.local", local},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, docsAlone, anyone, func(o *httpapi.Options) {
				o.Docs.PublicURL = tt.base
				o.Docs.DomainKeys = map[string]string{"docs.example.com": "domain_pk_docs", "localhost": "domain_pk_local"}
			})
			a := s.start(t, "api=any", onPage(tt.page))
			got := a.API.DomainKey
			if a.Status != http.StatusOK {
				got = fmt.Sprint(a.Status, " ", a.Code)
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			_, host, _ := strings.Cut(tt.page, "://")
			if logged := strings.Contains(s.written(), "CHATKIT_DOMAIN_KEYS has no key for the page's host "+strings.Trim(strings.TrimSuffix(host, ":80"), "[]")+":"); logged != (tt.want == none) {
				t.Errorf("the log says that a key is missing: %v\n%s", logged, s.written())
			}
		})
	}
}

// While there is no index, a page can show its fallback before a visitor has written
// anything.
func TestSession_NotReady(t *testing.T) {
	t.Parallel()
	var fault error
	s := serve(t, docsAlone, anyone, func(o *httpapi.Options) {
		o.Docs.Ready = func(context.Context) error { return fault }
	})
	tests := []struct {
		name  string
		fault error
		want  string
		retry string
	}{
		{"ready", nil, "200 ", ""},
		{"not loaded", errors.New("no index"), "503 assistant_unavailable", "10"},
		{"ready again", nil, "200 ", ""},
	}
	for _, tt := range tests {
		fault = tt.fault
		a := s.start(t, "api=docs")
		if got := fmt.Sprint(a.Status, " ", a.Code); got != tt.want || a.header.Get("Retry-After") != tt.retry || (a.Token != "") != (tt.fault == nil) {
			t.Errorf("%s: %s, Retry-After %q, token %q", tt.name, got, a.header.Get("Retry-After"), a.Token)
		}
	}
	if !strings.Contains(s.written(), "no index") {
		t.Errorf("the log does not have the cause:\n%s", s.written())
	}
}

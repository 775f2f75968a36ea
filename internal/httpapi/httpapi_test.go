package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"docent/internal/hosted"
	"docent/internal/httpapi"
	"docent/internal/logging"
	"docent/internal/ratelimit"
	"docent/internal/visitor"

	"github.com/google/go-cmp/cmp"
)

const (
	page  = "https://docs.example.com"
	trace = "4bf92f3577b34da6a3ce929d0e0e4736"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

type only string

func (o only) Allows(origin string) bool { return origin == string(o) }

type minter func(ctx context.Context, user string) (hosted.Session, error)

func (m minter) Mint(ctx context.Context, user string) (hosted.Session, error) { return m(ctx, user) }

// site is the routes behind a real server, with a clock to set and a log to read.
type site struct {
	url      string
	handler  http.Handler // What the server serves.
	log      *buffer
	handling sync.WaitGroup // The record is written after the answer.

	mu  sync.Mutex
	now time.Time
}

// buffer is a log that a server writes and a test reads.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (s *site) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *site) set(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = t
}

// build returns a site without a server.
func build(change ...func(*httpapi.Options)) *site {
	s := &site{log: &buffer{}, now: noon}
	log := logging.New(s.log, "json", slog.LevelInfo)
	o := httpapi.Options{
		Origins: only(page),
		Limiter: ratelimit.New(ratelimit.Options{Name: "per-ip", Limit: 2, Window: time.Minute, Ceiling: 16, Log: log, Now: s.clock}),
		Minter: minter(func(context.Context, string) (hosted.Session, error) {
			return hosted.Session{ClientSecret: "ek_secret", ExpiresAt: s.clock().Add(10 * time.Minute)}, nil
		}),
		Visitors: visitor.NewSigner(visitor.Keys{Tokens: []byte("key"), Undated: []byte("another key")}, httpapi.BasePath, s.clock),
		Timeout:  8 * time.Second,
		Project:  "my-project",
		Log:      log,
		Now:      s.clock,
	}
	for _, c := range change {
		c(&o)
	}
	s.handler = httpapi.New(o)
	return s
}

// serve returns a site behind a real server.
func serve(t *testing.T, change ...func(*httpapi.Options)) *site {
	t.Helper()
	s := build(change...)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.handling.Add(1)
		defer s.handling.Done()
		s.handler.ServeHTTP(w, r)
	}))
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

// loopback trusts the test's own hop, so that requests choose their address.
func loopback(o *httpapi.Options) {
	o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
}

func (s *site) post(t *testing.T, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/api/chatkit/session?secret=query", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", page)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// written returns the log of all requests so far.
func (s *site) written() string {
	s.handling.Wait()
	return s.log.String()
}

// lines returns the log, but for the time of writing.
func (s *site) lines(t *testing.T) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(s.written()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		delete(m, "time")
		all = append(all, m)
	}
	return all
}

func TestSession_OneMinute(t *testing.T) {
	t.Parallel()
	s := serve(t)
	const traced = "00-" + trace + "-00f067aa0ba902b7-01"
	tests := []struct {
		after      time.Duration
		status     int
		body       string
		rateLimit  string
		retryAfter string
	}{
		{0, 200, `{"client_secret":"ek_secret","expires_after":600,"expires_at":1795435800}`, `"per-ip";r=1;t=60`, ""},
		{20 * time.Second, 200, `{"client_secret":"ek_secret","expires_after":600,"expires_at":1795435820}`, `"per-ip";r=0;t=40`, ""},
		{20*time.Second + 1, 429, limited(40), `"per-ip";r=0;t=40`, "40"},
		{45500 * time.Millisecond, 429, limited(15), `"per-ip";r=0;t=15`, "15"},
		{60*time.Second - 1, 429, limited(1), `"per-ip";r=0;t=1`, "1"},
		{60 * time.Second, 200, `{"client_secret":"ek_secret","expires_after":600,"expires_at":1795435860}`, `"per-ip";r=1;t=60`, ""},
	}
	for _, tt := range tests {
		s.set(noon.Add(tt.after))
		resp, body := s.post(t, "Traceparent", traced)
		got := []any{resp.StatusCode, body, resp.Header.Get("RateLimit"), resp.Header.Get("Retry-After")}
		if diff := cmp.Diff([]any{tt.status, tt.body + "\n", tt.rateLimit, tt.retryAfter}, got); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", tt.after, diff)
		}
	}
}

func limited(seconds int) string {
	return fmt.Sprintf(`{"error":"Too many requests came from your network in a short time. Please try again in a moment.","code":"rate_limited","request_id":%q,"retry_after":%d}`, trace, seconds)
}

func TestLog_OneRecordPerRequest(t *testing.T) {
	t.Parallel()
	s := serve(t, loopback)
	steps := []struct{ header []string }{
		{[]string{"X-Forwarded-For", "192.0.2.1"}},                                                   // granted
		{[]string{"X-Forwarded-For", "192.0.2.1"}},                                                   // granted
		{[]string{"X-Forwarded-For", "192.0.2.1"}},                                                   // limited
		{[]string{"X-Forwarded-For", "192.0.2.1"}},                                                   // limited again: not logged
		{[]string{"X-Forwarded-For", "192.0.2.1", "Origin", "https://other.example"}},                // refused
		{[]string{"X-Forwarded-For", "192.0.2.1", "Origin", "https://user:password@other.example/"}}, // refused, malformed
		{[]string{"X-Forwarded-For", "unknown"}},                                                     // no address
	}
	for _, step := range steps {
		s.post(t, append(step.header, "Traceparent", "00-"+trace+"-00f067aa0ba902b7-01", "User-Agent", "secret agent")...)
	}
	record := func(severity string, status int, outcome string, more map[string]any) map[string]any {
		m := map[string]any{
			"severity": severity,
			"message":  fmt.Sprintf("POST /api/chatkit/session %d %s", status, outcome),
			"httpRequest": map[string]any{
				"requestMethod": "POST", "requestUrl": "/api/chatkit/session", "status": float64(status), "latency": "0.000000s",
			},
			"request_id":                    trace,
			"total_ms":                      0.0,
			"logging.googleapis.com/trace":  "projects/my-project/traces/" + trace,
			"logging.googleapis.com/spanId": "00f067aa0ba902b7",
			"outcome":                       outcome,
		}
		for k, v := range more {
			m[k] = v
		}
		return m
	}
	want := []map[string]any{
		record("INFO", 200, "granted", map[string]any{"backend": "hosted"}),
		record("INFO", 200, "granted", map[string]any{"backend": "hosted"}),
		record("INFO", 429, "limited", map[string]any{"limited_by": "address"}),
		record("INFO", 403, "origin_not_allowed", map[string]any{"origin": "https://other.example"}),
		record("INFO", 403, "origin_not_allowed", nil),
		record("WARNING", 400, "client_address_unknown", nil),
	}
	if diff := cmp.Diff(want, s.lines(t)); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	for _, leak := range []string{"192.0.2.1", "ek_secret", "query", "agent", "password", "__session"} {
		if strings.Contains(s.written(), leak) {
			t.Errorf("the log has %q:\n%s", leak, s.log)
		}
	}
}

// slowLimiter takes its time by the site's clock.
type slowLimiter struct{ s *site }

func (l slowLimiter) Take(context.Context, ratelimit.Key) (ratelimit.Decision, error) {
	l.s.set(l.s.clock().Add(20 * time.Millisecond))
	return ratelimit.Decision{Granted: true, Limit: 5, Reset: time.Minute}, nil
}

func (slowLimiter) Return(ratelimit.Decision) {}

func TestLog_Times(t *testing.T) {
	t.Parallel()
	var s *site
	l := &slowLimiter{}
	s = serve(t, func(o *httpapi.Options) {
		o.Limiter = l
		o.Minter = minter(func(context.Context, string) (hosted.Session, error) {
			s.set(s.clock().Add(300 * time.Millisecond))
			return hosted.Session{ClientSecret: "ek_secret", ExpiresAt: s.clock().Add(time.Minute)}, nil
		})
	})
	l.s = s
	s.post(t)
	r := s.lines(t)[0]
	request, _ := r["httpRequest"].(map[string]any)
	if diff := cmp.Diff([]any{20.0, 300.0, 320.0, "0.320000s"}, []any{r["limiter_ms"], r["upstream_ms"], r["total_ms"], request["latency"]}); diff != "" {
		t.Errorf("times (-want +got):\n%s", diff)
	}
}

func TestLog_Flood(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for range 200 {
		s.post(t, "Origin", "https://other.example")
	}
	if n := len(s.lines(t)); n != 60 {
		t.Errorf("%d records of 200 refusals, want 60", n)
	}
	s.set(noon.Add(time.Minute))
	s.post(t, "Origin", "https://other.example")
	if n := len(s.lines(t)); n != 61 {
		t.Errorf("%d records after a minute, want 61", n)
	}
}

func TestSession_OverCapacity(t *testing.T) {
	t.Parallel()
	s := serve(t, loopback)
	s.set(noon.Add(15 * time.Second))
	for i := range 16 {
		s.post(t, "X-Forwarded-For", fmt.Sprintf("192.0.%d.1", i))
	}
	resp, body := s.post(t, "X-Forwarded-For", "192.0.99.1")
	after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if resp.StatusCode != 503 || err != nil || after < 45 || after > 55 || !strings.Contains(body, `"over_capacity"`) || resp.Header.Get("RateLimit") != "" {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
}

// A whole network over its share is refused as an address is that is over its
// limit; what the log has of it is one line, which says so.
func TestSession_NetworkOverItsShare(t *testing.T) {
	t.Parallel()
	s := serve(t, loopback)
	s.set(noon.Add(15 * time.Second))
	for i := range 8 {
		resp, body := s.post(t, "X-Forwarded-For", fmt.Sprintf("2001:db8:1:%d::1", i))
		got := []string{resp.Status, resp.Header.Get("RateLimit"), resp.Header.Get("Retry-After")}
		want := []string{"200 OK", `"per-ip";r=1;t=45`, ""}
		if i >= 4 {
			want = []string{"429 Too Many Requests", `"per-ip";r=0;t=45`, "45"}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("address %d (-want +got):\n%s%s", i, diff, body)
		}
	}
	if resp, body := s.post(t, "X-Forwarded-For", "2001:db8:2::1"); resp.StatusCode != 200 {
		t.Errorf("a neighbour: %d %s", resp.StatusCode, body)
	}
	var logged []any
	for _, line := range s.lines(t) {
		if line["outcome"] == "limited" {
			logged = append(logged, line["limited_by"])
		}
	}
	if diff := cmp.Diff([]any{"network"}, logged); diff != "" {
		t.Errorf("what limited the refusals in the log (-want +got):\n%s", diff)
	}
}

// hangingStore answers nothing.
type hangingStore struct{}

func (hangingStore) Grant(ctx context.Context, _ ratelimit.Bucket, _ ratelimit.Ask) (ratelimit.Grant, error) {
	<-ctx.Done()
	return ratelimit.Grant{}, ctx.Err()
}

func (hangingStore) Return(context.Context, ratelimit.Bucket, int) error { return nil }

func TestSession_DeadlineInLimiter(t *testing.T) {
	t.Parallel()
	s := serve(t, func(o *httpapi.Options) {
		o.Timeout = 20 * time.Millisecond
		o.Limiter = ratelimit.New(ratelimit.Options{
			Name: "per-ip", Limit: 2, Window: time.Minute, Ceiling: 16, Store: hangingStore{}, StoreTimeout: time.Second, Log: o.Log, Now: time.Now,
		})
	})
	resp, body := s.post(t)
	if resp.StatusCode != 503 || !strings.Contains(body, `"code":"limiter_unavailable"`) {
		t.Errorf("%d %s, want 503 limiter_unavailable", resp.StatusCode, body)
	}
}

type brokenLimiter struct{ err error }

func (l brokenLimiter) Take(context.Context, ratelimit.Key) (ratelimit.Decision, error) {
	return ratelimit.Decision{}, l.err
}

func (brokenLimiter) Return(ratelimit.Decision) {}

func TestSession_LimiterFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		err    error
		status int
		code   string
	}{
		{"store down", fmt.Errorf("%w: no database", ratelimit.ErrUnavailable), 503, "limiter_unavailable"},
		{"memory full", ratelimit.ErrFull, 503, "limiter_unavailable"},
		{"a bug", fmt.Errorf("unheard of"), 500, "internal"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(o *httpapi.Options) { o.Limiter = brokenLimiter{tt.err} })
			resp, body := s.post(t)
			if resp.StatusCode != tt.status || !strings.Contains(body, `"code":"`+tt.code+`"`) || strings.Contains(body, tt.err.Error()) {
				t.Errorf("%d %s, want %d %s", resp.StatusCode, body, tt.status, tt.code)
			}
			if lines := s.lines(t); len(lines) != 1 || !strings.Contains(fmt.Sprint(lines[0]["error"]), tt.err.Error()) {
				t.Errorf("log %v, want one record with %q", lines, tt.err)
			}
		})
	}
}

func TestSession_Panic(t *testing.T) {
	t.Parallel()
	s := serve(t, func(o *httpapi.Options) {
		o.Minter = minter(func(context.Context, string) (hosted.Session, error) { panic("the minter's fault") })
	})
	resp, body := s.post(t)
	if resp.StatusCode != 500 || !strings.Contains(body, `"code":"internal"`) || strings.Contains(body, "fault") || resp.Header.Get("Access-Control-Allow-Origin") != page {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
	lines := s.lines(t)
	if len(lines) != 1 || lines[0]["severity"] != "ERROR" || lines[0]["outcome"] != "internal" || !strings.Contains(fmt.Sprint(lines[0]["error"]), "httpapi.go") && !strings.Contains(fmt.Sprint(lines[0]["error"]), "session.go") {
		t.Errorf("log: %v", lines)
	}
	if resp, _ := s.post(t); resp.StatusCode != 500 {
		t.Errorf("after the panic: %d", resp.StatusCode)
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	s := serve(t)
	const other = "105445aa7843bc8bf206b12000100000"
	tests := []struct {
		name, traceparent, cloud string
		want                     string // "" for a random one.
	}{
		{"none", "", "", ""},
		{"traceparent", "00-" + trace + "-00f067aa0ba902b7-01", "", trace},
		{"traceparent first", "00-" + trace + "-00f067aa0ba902b7-01", other + "/1;o=1", trace},
		{"traceparent of a later version", "cc-" + trace + "-00f067aa0ba902b7-01-what-comes", "", trace},
		{"traceparent with too much", "00-" + trace + "-00f067aa0ba902b7-01-more", "", ""},
		{"traceparent of no version", "ff-" + trace + "-00f067aa0ba902b7-01", "", ""},
		{"traceparent in capitals", "00-" + strings.ToUpper(trace) + "-00f067aa0ba902b7-01", "", ""},
		{"traceparent of zeros", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", other, other},
		{"traceparent with a span of zeros", "00-" + trace + "-0000000000000000-01", "", ""},
		{"X-Cloud-Trace-Context", "", other + "/123;o=1", other},
		{"X-Cloud-Trace-Context, trace alone", "", other, other},
		{"X-Cloud-Trace-Context in capitals", "", strings.ToUpper(other), other},
		{"X-Cloud-Trace-Context too short", "", other[1:], ""},
		{"injection", "00-" + trace + "\"}-00f067aa0ba902b7-01", "<script>", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			resp, body := s.post(t, "Traceparent", tt.traceparent, "X-Cloud-Trace-Context", tt.cloud, "Origin", "null")
			got := resp.Header.Get("X-Request-Id")
			if !strings.Contains(body, `"request_id":"`+got+`"`) {
				t.Errorf("header %q, body %s", got, body)
			}
			if tt.want != "" && got != tt.want || tt.want == "" && (got == trace || got == other || len(got) != 32) {
				t.Errorf("request ID %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzRequestID(f *testing.F) {
	f.Add("00-"+trace+"-00f067aa0ba902b7-01", trace+"/1;o=1")
	h := httpapi.New(httpapi.Options{Origins: only(page), Log: slog.New(slog.DiscardHandler), Now: time.Now})
	f.Fuzz(func(t *testing.T, traceparent, cloud string) {
		r := httptest.NewRequest(http.MethodGet, "/health", nil)
		r.Header.Set("Traceparent", traceparent)
		r.Header.Set("X-Cloud-Trace-Context", cloud)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		id := w.Header().Get("X-Request-Id")
		if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" || strings.Trim(id, "0") == "" {
			t.Errorf("request ID %q for %q and %q", id, traceparent, cloud)
		}
	})
}

func TestLog_UntrustedFrontEnd(t *testing.T) {
	t.Parallel()
	s := serve(t, loopback)
	s.post(t, "X-Forwarded-For", "192.0.2.1")
	for range 3 {
		s.post(t, "X-Forwarded-For", "192.0.2.1, 66.102.1.1")
	}
	if n := strings.Count(s.written(), "firebase-hosting"); n != 1 {
		t.Errorf("reported %d times, want once:\n%s", n, s.log)
	}
}

func TestLog_Text(t *testing.T) {
	t.Parallel()
	var log buffer
	s := serve(t, func(o *httpapi.Options) { o.Log = logging.New(&log, "text", slog.LevelInfo) })
	s.post(t, "Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	s.handling.Wait()
	_, line, _ := strings.Cut(log.String(), " ")
	want := `level=INFO msg="POST /api/chatkit/session 200 granted" request_id=` + trace + " total_ms=0 outcome=granted backend=hosted\n"
	if diff := cmp.Diff(want, line); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}
}

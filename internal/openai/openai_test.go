package openai_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"docent/internal/openai"
)

const (
	key      = "sk-test-KEY"
	otherKey = "sk-test-OTHER-KEY"
	// patience is the budget of a call that should take milliseconds.
	patience = 20 * time.Second
)

// secret is a value that Renew replaces by a function's answer.
type secret struct {
	value string
	renew func(rejected string) (value string, changed bool)
}

func (s secret) Get() string { return s.value }

func (s secret) Renew(_ context.Context, rejected string) (string, bool) {
	if s.renew == nil {
		return rejected, false
	}
	return s.renew(rejected)
}

// upstream is a server in OpenAI's place that records its calls.
type upstream struct {
	*httptest.Server

	mu    sync.Mutex
	calls []string // Path and key of each call.
}

func serve(t *testing.T, h http.HandlerFunc) *upstream {
	t.Helper()
	u := &upstream{}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		u.mu.Lock()
		u.calls = append(u.calls, r.URL.EscapedPath()+" "+strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		u.mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(u.Close)
	return u
}

// wantCalls compares the calls so far with those given.
func (u *upstream) wantCalls(t *testing.T, want ...string) {
	t.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	if diff := cmp.Diff(want, u.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// client returns a client for the upstream at a base path, and its budget.
func (u *upstream) client(t *testing.T, path string, apiKey secret) (context.Context, *openai.Client) {
	t.Helper()
	c := openai.New(openai.Options{BaseURL: u.URL + path, APIKey: apiKey, Now: now})
	t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx, c
}

// post makes a call.
func (u *upstream) post(t *testing.T, path string, apiKey secret) (openai.Answer, error) {
	t.Helper()
	ctx, c := u.client(t, path, apiKey)
	return c.Post(ctx, "/things", nil, []byte("{}"))
}

// now is the clock of all clients.
func now() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }

func answers(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// says is an error in OpenAI's form.
func says(status int, typ, code, message string, header ...string) http.HandlerFunc {
	body, err := json.Marshal(map[string]any{"error": map[string]any{"type": typ, "code": code, "message": message}})
	if err != nil {
		panic(err)
	}
	return answers(status, string(body), header...)
}

// raw answers with bytes of its own, and closes the connection.
func raw(response string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		buf.WriteString(response)
		buf.Flush()
		conn.Close()
	}
}

// failure is what a client's error says, without its cause.
type failure struct {
	Kind                           openai.Kind
	Status                         int
	RequestID, Type, Code, Message string
	RetryAfter                     time.Duration
	Text                           string
}

func failureOf(t *testing.T, err error) failure {
	t.Helper()
	var e *openai.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v (%T), want a *openai.Error", err, err)
	}
	return failure{e.Kind, e.Status, e.RequestID, e.Type, e.Code, e.Message, e.RetryAfter(), e.Error()}
}

// logged is a log record of an error.
func logged(err error) string {
	var b bytes.Buffer
	slog.New(slog.NewJSONHandler(&b, nil)).Info("", "upstream", err)
	return b.String()
}

const (
	call       = "/v1/things " + key
	noTime     = "3600" // A Retry-After that no budget has, so that no call is repeated.
	defaultFor = 5 * time.Second
)

func TestPost_Request(t *testing.T) {
	t.Parallel()
	type request struct {
		Method, Path, Body string
		Header             http.Header
	}
	tests := []struct {
		name   string
		header http.Header
		want   http.Header
	}{
		{"no header", nil, http.Header{}},
		{"header", http.Header{"Openai-Beta": {"things=v1"}}, http.Header{"Openai-Beta": {"things=v1"}}},
		{"another key in the header", http.Header{"Authorization": {"Bearer " + otherKey}}, http.Header{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got request
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = request{r.Method, r.URL.Path, string(body), r.Header}
				io.WriteString(w, `{"id":"thing_1"}`)
			}))
			t.Cleanup(srv.Close)
			ctx, c := (&upstream{Server: srv}).client(t, "/v1", secret{value: key})
			answer, err := c.Post(ctx, "/things", tt.header, []byte(`{"name":"a"}`))
			if err != nil || string(answer.Body) != `{"id":"thing_1"}` {
				t.Errorf("answer %q, %v", answer.Body, err)
			}
			for name, value := range map[string]string{
				"Authorization": "Bearer " + key, "Content-Type": "application/json", "User-Agent": "docent",
				"Content-Length": "12", "Accept-Encoding": "gzip",
			} {
				tt.want.Set(name, value)
			}
			if diff := cmp.Diff(request{"POST", "/v1/things", `{"name":"a"}`, tt.want}, got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPost_Kind(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]openai.Kind{
		201: openai.Rejected, 204: openai.Rejected, 302: openai.Rejected, 400: openai.Rejected, 401: openai.Rejected,
		403: openai.Rejected, 404: openai.NotFound, 408: openai.Busy, 409: openai.Busy, 410: openai.NotFound,
		422: openai.Rejected, 429: openai.Busy, 500: openai.Busy, 503: openai.Busy, 529: openai.Busy,
	} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			u := serve(t, answers(status, "", "Retry-After", noTime))
			_, err := u.post(t, "/v1", secret{value: key})
			if got := failureOf(t, err); got.Kind != want || got.Status != status {
				t.Errorf("kind %d, status %d, want %d, %d", got.Kind, got.Status, want, status)
			}
			u.wantCalls(t, call)
		})
	}
}

func TestPost_Retry(t *testing.T) {
	t.Parallel()
	busy, rejected, good := answers(503, "{}"), answers(403, "{}"), answers(200, "{}")
	tests := []struct {
		name    string
		answers []http.HandlerFunc // One for each call that is expected.
		status  int                // In the error, if there is one.
	}{
		{"busy once", []http.HandlerFunc{busy, good}, 0},
		{"busy twice", []http.HandlerFunc{busy, busy, good}, 0},
		{"always busy", []http.HandlerFunc{busy, busy, busy}, 503},
		{"busy, then rejected", []http.HandlerFunc{busy, rejected}, 403},
		{"connection closed once", []http.HandlerFunc{raw(""), good}, 0},
		{"Retry-After that fits", []http.HandlerFunc{answers(429, "{}", "Retry-After", "1"), good}, 0},
		{"rate limit", []http.HandlerFunc{says(429, "tokens", "rate_limit_exceeded", "Rate limit reached for m on tokens per min (TPM)."), good}, 0},
		{"request above the rate limit", []http.HandlerFunc{
			says(429, "tokens", "rate_limit_exceeded", "Request too large for m on tokens per min (TPM): Limit 40000, Requested 66013."),
		}, 429},
		{"quota", []http.HandlerFunc{says(429, "insufficient_quota", "insufficient_quota", "")}, 429},
		{"quota, by its code alone", []http.HandlerFunc{says(429, "", "insufficient_quota", "")}, 429},
		{"quota, by its type alone", []http.HandlerFunc{says(429, "insufficient_quota", "", "")}, 429},
		{"no credit", []http.HandlerFunc{says(429, "", "credit_balance_exhausted", "")}, 429},
		{"organization's spend limit", []http.HandlerFunc{says(429, "", "organization_spend_limit_exceeded", "")}, 429},
		{"project's spend limit", []http.HandlerFunc{says(429, "", "project_spend_limit_exceeded", "")}, 429},
		{"usage limit", []http.HandlerFunc{says(429, "", "organization_usage_limit_exceeded", "")}, 429},
		{"busy, then quota", []http.HandlerFunc{busy, says(429, "insufficient_quota", "insufficient_quota", "")}, 429},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			u := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if n := int(calls.Add(1)); n <= len(tt.answers) {
					tt.answers[n-1](w, r)
				}
			})
			_, err := u.post(t, "/v1", secret{value: key})
			if (err != nil) != (tt.status != 0) || err != nil && failureOf(t, err).Status != tt.status {
				t.Errorf("error %v, want one of status %d", err, tt.status)
			}
			if n := int(calls.Load()); n != len(tt.answers) {
				t.Errorf("%d calls, want %d", n, len(tt.answers))
			}
		})
	}
}

func TestPostOnce(t *testing.T) {
	t.Parallel()
	for _, status := range []int{401, 503} {
		u := serve(t, answers(status, "{}"))
		ctx, c := u.client(t, "/v1", secret{key, func(string) (string, bool) { return otherKey, true }})
		_, err := c.PostOnce(ctx, "/things", nil, nil)
		if got := failureOf(t, err); got.Status != status {
			t.Errorf("status %d, want %d", got.Status, status)
		}
		u.wantCalls(t, call)
	}
}

func TestPost_Budget(t *testing.T) {
	t.Parallel()
	const budget = 1200 * time.Millisecond // A retry must leave a quarter of it.
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	tests := []struct {
		name    string
		answers []http.HandlerFunc // The last one again and again.
		kind    openai.Kind
		status  int
	}{
		{"no answer", []http.HandlerFunc{hang}, openai.Timeout, 0},
		{"half a body", []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"id":`)
			http.NewResponseController(w).Flush()
			hang(w, r)
		}}, openai.Timeout, 0},
		{"half an error's body", []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(403)
			http.NewResponseController(w).Flush()
			hang(w, r)
		}}, openai.Timeout, 0},
		{"busy, then no answer", []http.HandlerFunc{answers(503, "{}"), hang}, openai.Busy, 503},
		{"Retry-After that leaves no time", []http.HandlerFunc{answers(429, "{}", "Retry-After", "1"), answers(200, "{}")}, openai.Busy, 429},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			u := serve(t, func(w http.ResponseWriter, r *http.Request) {
				tt.answers[min(int(calls.Add(1)), len(tt.answers))-1](w, r)
			})
			ctx, c := u.client(t, "/v1", secret{value: key})
			ctx, cancel := context.WithTimeout(ctx, budget)
			defer cancel()
			_, err := c.Post(ctx, "/things", nil, nil)
			if got := failureOf(t, err); got.Kind != tt.kind || got.Status != tt.status {
				t.Errorf("%+v, want kind %d and status %d", got, tt.kind, tt.status)
			}
		})
	}
}

func TestPost_CallerGone(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer http.HandlerFunc // After which the caller goes.
	}{
		{"while waiting for an answer", nil},
		{"while waiting to try again", answers(503, "{}", "Retry-After", "10")},
		{"while the key is renewed", answers(401, "{}")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			u := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if tt.answer == nil {
					cancel()
					<-r.Context().Done()
					return
				}
				tt.answer(w, r)
				time.AfterFunc(10*time.Millisecond, cancel) // The answer arrives first.
			})
			_, c := u.client(t, "/v1", secret{key, func(string) (string, bool) {
				<-ctx.Done()
				return key, false
			}})
			_, err := c.Post(ctx, "/things", nil, nil)
			var e *openai.Error
			if !errors.Is(err, context.Canceled) || errors.As(err, &e) {
				t.Errorf("error %v (%T), want the context's", err, err)
			}
		})
	}
}

func TestPost_Failures(t *testing.T) {
	t.Parallel()
	later := now().Add(30 * time.Second).Format(http.TimeFormat)
	tests := []struct {
		name    string
		answers http.HandlerFunc
		calls   int
		want    failure
	}{
		{
			"rejected", says(403, "policy", "blocked", "Not here.", "X-Request-Id", "req_1"), 1,
			failure{
				Kind: openai.Rejected, Status: 403, RequestID: "req_1", Type: "policy", Code: "blocked", Message: "Not here.",
				RetryAfter: defaultFor, Text: "OpenAI answered 403",
			},
		},
		{
			"redirect", answers(307, "", "Location", "/elsewhere"), 1,
			failure{Kind: openai.Rejected, Status: 307, RetryAfter: defaultFor, Text: "OpenAI answered 307: its body is not JSON"},
		},
		{
			"busy, and back in seconds", answers(503, "{}", "Retry-After", "20"), 1,
			failure{Kind: openai.Busy, Status: 503, RetryAfter: 20 * time.Second, Text: "OpenAI answered 503"},
		},
		{
			"busy, and back at a time", answers(503, "{}", "Retry-After", later), 1,
			failure{Kind: openai.Busy, Status: 503, RetryAfter: 30 * time.Second, Text: "OpenAI answered 503"},
		},
		{
			"busy for an hour", answers(429, "{}", "Retry-After", noTime), 1,
			failure{Kind: openai.Busy, Status: 429, RetryAfter: time.Minute, Text: "OpenAI answered 429"},
		},
		{
			"cut body", raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}"), 1,
			failure{Kind: openai.Rejected, Status: 200, RetryAfter: defaultFor, Text: "OpenAI answered 200: the answer was cut short: unexpected EOF"},
		},
		{
			"body of 2 MB", answers(200, strings.Repeat("x", 2<<20)), 1,
			failure{Kind: openai.Rejected, Status: 200, RetryAfter: defaultFor, Text: "OpenAI answered 200: the answer is larger than 1024 kB"},
		},
		{
			"header of 100 kB", answers(200, "{}", "X-Padding", strings.Repeat("x", 100<<10)), 3,
			failure{
				Kind: openai.Busy, RetryAfter: defaultFor,
				Text: "no answer from OpenAI: net/http: HTTP/1.x transport connection broken: net/http: server response headers exceeded 65536 bytes; aborted",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := serve(t, tt.answers)
			_, err := u.post(t, "/v1", secret{value: key})
			if diff := cmp.Diff(tt.want, failureOf(t, err)); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			var calls []string
			for range tt.calls {
				calls = append(calls, call)
			}
			u.wantCalls(t, calls...)
		})
	}
}

func TestPost_RenewedKey(t *testing.T) {
	t.Parallel()
	other := "/v1/things " + otherKey
	renewals := 0
	tests := []struct {
		name  string
		renew func(rejected string) (string, bool)
		good  string // The key that the upstream accepts.
		calls []string
	}{
		{"accepted", nil, key, []string{call}},
		{"rejected, and no other", nil, otherKey, []string{call}},
		{"rejected, and another", func(string) (string, bool) { return otherKey, true }, otherKey, []string{call, other}},
		{"always another, always rejected", func(string) (string, bool) {
			renewals++
			return otherKey, renewals < 10 // So that the test ends, too, if the call does not.
		}, "", []string{call, other}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer "+tt.good {
					says(401, "", "invalid_api_key", "Incorrect API key provided.")(w, r)
					return
				}
				answers(200, "{}")(w, r)
			})
			_, err := u.post(t, "/v1", secret{key, tt.renew})
			u.wantCalls(t, tt.calls...)
			if granted := strings.HasSuffix(tt.calls[len(tt.calls)-1], " "+tt.good); granted != (err == nil) {
				t.Errorf("error %v, want an answer: %t", err, granted)
			}
			if err != nil {
				want := failure{
					Kind: openai.Rejected, Status: 401, Code: "invalid_api_key", Message: "Incorrect API key provided.",
					RetryAfter: defaultFor, Text: "OpenAI answered 401",
				}
				if diff := cmp.Diff(want, failureOf(t, err)); diff != "" {
					t.Errorf("error (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// TestError_LongText bounds what reaches the log of a text, however long it is.
func TestError_LongText(t *testing.T) {
	t.Parallel()
	const most = 500
	long := strings.Repeat("ä", 50_000)
	requestID := strings.Repeat("r", 50_000)
	cut := strings.Repeat("ä", most) + "…"
	tests := []struct {
		name    string
		answers http.HandlerFunc
		want    failure
	}{
		{
			"message", says(403, "", "", long),
			failure{Kind: openai.Rejected, Status: 403, Message: cut, RetryAfter: defaultFor, Text: "OpenAI answered 403"},
		},
		{
			"type", says(403, long, "", ""),
			failure{Kind: openai.Rejected, Status: 403, Type: cut, RetryAfter: defaultFor, Text: "OpenAI answered 403"},
		},
		{
			"code", says(403, "", long, ""),
			failure{Kind: openai.Rejected, Status: 403, Code: cut, RetryAfter: defaultFor, Text: "OpenAI answered 403"},
		},
		{
			"character on the bound", says(403, "", "", "a"+long),
			failure{Kind: openai.Rejected, Status: 403, Message: "a" + strings.Repeat("ä", most-1) + "…", RetryAfter: defaultFor, Text: "OpenAI answered 403"},
		},
		{
			"as long as may be", says(403, "", "", strings.Repeat("x", most)),
			failure{Kind: openai.Rejected, Status: 403, Message: strings.Repeat("x", most), RetryAfter: defaultFor, Text: "OpenAI answered 403"},
		},
		{
			"request ID", answers(403, "{}", "X-Request-Id", requestID),
			failure{Kind: openai.Rejected, Status: 403, RequestID: requestID[:most] + "…", RetryAfter: defaultFor, Text: "OpenAI answered 403"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := serve(t, tt.answers).post(t, "/v1", secret{value: key})
			if diff := cmp.Diff(tt.want, failureOf(t, err)); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

// TestError_TokenInBaseURL has gateways whose token stands in the path of the
// base URL, and who repeat that path in their errors.
func TestError_TokenInBaseURL(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, path, text, want string
	}{
		{"OpenAI's own path", "/v1", "Invalid URL (POST /v1/things)", "Invalid URL (POST /v1/things)"},
		{"no path", "", "Invalid URL (POST /things)", "Invalid URL (POST /things)"},
		{"path", "/GATEWAY-TOKEN/v1", "Invalid URL (POST /GATEWAY-TOKEN/v1/things)", "Invalid URL (POST [redacted]/things)"},
		{"the rest of the path", "/GATEWAY-TOKEN/v1", "Invalid URL (POST /v1/things)", "Invalid URL (POST /v1/things)"},
		{"token at the end", "/v1/GATEWAY-TOKEN", "POST /v1/GATEWAY-TOKEN/chatkit", "POST [redacted]/chatkit"},
		{"token alone", "/GATEWAY-TOKEN/v1", "tenant GATEWAY-TOKEN is unknown", "tenant [redacted] is unknown"},
		{"token in other case", "/GATEWAY-TOKEN/v1", "tenant gateway-token is unknown", "tenant [redacted] is unknown"},
		{"two tokens", "/ACCOUNT-1/GATEWAY-TOKEN", "GATEWAY-TOKEN of ACCOUNT-1", "[redacted] of [redacted]"},
		{"token that begins as a version does", "/v1gatewaytoken", "POST /v1gatewaytoken/chatkit", "POST [redacted]/chatkit"},
		{"beta version", "/v1beta", "Invalid URL (POST /v1beta/things)", "Invalid URL (POST /v1beta/things)"},
		{"short token", "/t0k/v1", "Invalid URL (POST /t0k/v1/things)", "Invalid URL (POST [redacted]/things)"},
		{"escaped token", "/GATEWAY%2FTOKEN%20X/v1", "POST /GATEWAY%2FTOKEN%20X/v1/chatkit", "POST [redacted]/chatkit"},
		{"escaped token in lower case", "/GATEWAY%2FTOKEN%20X/v1", "POST /GATEWAY%2fTOKEN%20X/v1/chatkit", "POST [redacted]/chatkit"},
		{"escaped token, unescaped", "/GATEWAY%2FTOKEN%20X/v1", "POST /GATEWAY/TOKEN X/v1/chatkit", "POST [redacted]/chatkit"},
		{"escaped token alone", "/GATEWAY%2FTOKEN%20X/v1", "tenant GATEWAY%2FTOKEN%20X", "tenant [redacted]"},
		{"escaped token alone, unescaped", "/GATEWAY%2FTOKEN%20X/v1", "tenant GATEWAY/TOKEN X", "tenant [redacted]"},
		{"escaped token as in a query", "/GATEWAY%2FTOKEN%20X/v1", "?tenant=GATEWAY%2FTOKEN+X", "?tenant=[redacted]"},
		{"token escaped by the gateway", "/GATEWAY=TOKEN@X/v1", "tenant GATEWAY%3DTOKEN%40X", "tenant [redacted]"},
		{"key", "/v1", "key " + key + " is wrong", "key [redacted] is wrong"},
		{"key of another form", "/v1", "key sk-proj-***abcd is wrong", "key [redacted] is wrong"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := serve(t, says(404, tt.text, tt.text, tt.text, "X-Request-Id", tt.text))
			_, err := u.post(t, tt.path, secret{value: key})
			want := failure{
				Kind: openai.NotFound, Status: 404, RequestID: tt.want, Type: tt.want, Code: tt.want, Message: tt.want,
				RetryAfter: defaultFor, Text: "OpenAI answered 404",
			}
			if diff := cmp.Diff(want, failureOf(t, err)); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			u.wantCalls(t, tt.path+"/things "+key)
		})
	}
}

// TestError_GatewayKey has a gateway quote a key that does not look like one, and
// the key that replaces it.
func TestError_GatewayKey(t *testing.T) {
	t.Parallel()
	const first, second = "a.gateway's/credential", "another+credential"
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		quoted := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		says(401, "", "", "no "+quoted+" here")(w, r)
	})
	for _, renew := range []func(string) (string, bool){nil, func(string) (string, bool) { return second, true }} {
		_, err := u.post(t, "/v1", secret{first, renew})
		if got := failureOf(t, err).Message; got != "no [redacted] here" {
			t.Errorf("message %q, want no key in it", got)
		}
	}
	u.wantCalls(t, "/v1/things "+first, "/v1/things "+first, "/v1/things "+second)
}

// TestError_TokenInCause has net/http's own errors quote the token and the key.
func TestError_TokenInCause(t *testing.T) {
	t.Parallel()
	const token = "GATEWAY-TOKEN"
	tests := []struct {
		name    string
		answers http.HandlerFunc
		want    string // In the cause.
	}{
		{"connection closed", raw(""), "EOF"},
		{"not HTTP", raw("HTTP/1.1 " + token + key + "\r\n\r\n"), `malformed HTTP status code "[redacted]`},
		{"header that is none", raw("HTTP/1.1 200 OK\r\n" + token + " " + key + "\r\n\r\n"), "[redacted] [redacted]"},
		{"redirect to no URL", answers(307, "", "Location", "http://%/"+token+"/"+key), "[redacted]/[redacted]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, c := serve(t, tt.answers).client(t, "/"+token+"/v1", secret{value: key})
			_, err := c.PostOnce(ctx, "/things", nil, nil)
			if got := failureOf(t, err).Text; !strings.Contains(got, tt.want) {
				t.Errorf("error %q, want %q in it", got, tt.want)
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				if text := fmt.Sprintf("%v %+v", e, e); strings.Contains(text, token) || strings.Contains(text, key) {
					t.Errorf("the error shows a secret: %s", text)
				}
			}
			if record := logged(err); strings.Contains(record, token) || strings.Contains(record, key) {
				t.Errorf("the log shows a secret: %s", record)
			}
		})
	}
}

// TestAnswer_Unusable has a caller's reason quote an answer with secrets in it.
func TestAnswer_Unusable(t *testing.T) {
	t.Parallel()
	answer, err := serve(t, answers(200, "{}", "X-Request-Id", "req_1 of /GATEWAY-TOKEN/v1")).post(t, "/GATEWAY-TOKEN/v1", secret{value: key})
	if err != nil {
		t.Fatal(err)
	}
	want := failure{
		Kind: openai.Rejected, Status: 200, RequestID: "req_1 of [redacted]", RetryAfter: defaultFor,
		Text: "OpenAI answered 200: not a thing: [redacted] [redacted] " + strings.Repeat("1", 465) + "…",
	}
	got := failureOf(t, answer.Unusable(fmt.Errorf("not a thing: %s GATEWAY-TOKEN %s", key, strings.Repeat("1", 10_000))))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

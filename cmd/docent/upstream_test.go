package main_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"docent/internal/standin"
)

// answers returns a fault that gives an answer.
func answers(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// errorBody is an error in OpenAI's form, with texts that no visitor may see.
const errorBody = `{"error":{"message":"` + upstreamText + ` for ` + testKey + ` and sk-proj-abc***wxyz","type":"invalid_request_error","param":null,"code":"some_code"}}`

// cut returns a fault that sends the beginning of an answer and closes the
// connection.
func cut(beginning string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		buf.WriteString(beginning)
		buf.Flush()
		if tcp, ok := conn.(*net.TCPConn); ok && beginning == "" {
			tcp.SetLinger(0)
		}
		conn.Close()
	}
}

// endless answers until the client closes the connection.
func endless(w http.ResponseWriter, _ *http.Request) {
	for {
		if _, err := io.WriteString(w, strings.Repeat(upstreamText, 1000)); err != nil {
			return
		}
	}
}

func session(secret string, ttl time.Duration) string {
	return fmt.Sprintf(`{"client_secret":%q,"expires_at":%d}`, secret, time.Now().Add(ttl).Unix())
}

func zipped(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(s))
	z.Close()
	return b.String()
}

func TestUpstream_Faults(t *testing.T) {
	t.Parallel()
	elsewhere := make(chan string, 10) // Where a redirect would carry the key.
	foreign := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		elsewhere <- r.Header.Get("Authorization")
	})}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go foreign.Serve(l)
	t.Cleanup(func() {
		foreign.Close()
		if len(elsewhere) > 0 {
			t.Errorf("a redirect was followed, with Authorization %q", <-elsewhere)
		}
	})

	thrice := func(h http.HandlerFunc) []http.HandlerFunc { return []http.HandlerFunc{h, h, h} }
	once := func(h http.HandlerFunc) []http.HandlerFunc { return []http.HandlerFunc{h} }
	tests := []struct {
		name       string
		faults     []http.HandlerFunc
		status     int
		code       string
		retryAfter string
		calls      int
	}{
		{"400", once(answers(400, errorBody)), 502, "upstream_rejected", "", 1},
		{"401", once(answers(401, errorBody)), 502, "upstream_rejected", "", 1},
		{"403", once(answers(403, errorBody)), 502, "upstream_rejected", "", 1},
		{"404", once(answers(404, errorBody)), 503, "assistant_unavailable", "", 1},
		{"410", once(answers(410, errorBody)), 503, "assistant_unavailable", "", 1},
		{"422", once(answers(422, errorBody)), 502, "upstream_rejected", "", 1},
		{"408", thrice(answers(408, errorBody)), 503, "upstream_busy", "5", 3},
		{"409", thrice(answers(409, errorBody)), 503, "upstream_busy", "5", 3},
		{"429", thrice(answers(429, errorBody)), 503, "upstream_busy", "5", 3},
		{"429 once", once(answers(429, errorBody)), 200, "", "", 2},
		{"429 with a Retry-After that fits", once(answers(429, errorBody, "Retry-After", "1")), 200, "", "", 2},
		{"429 with a Retry-After that does not fit", once(answers(429, errorBody, "Retry-After", "20")), 503, "upstream_busy", "20", 1},
		{"429 with a Retry-After of an hour", once(answers(429, errorBody, "Retry-After", "3600")), 503, "upstream_busy", "60", 1},
		{"429 with a Retry-After that leaves no time for an answer", once(answers(429, errorBody, "Retry-After", "7")), 503, "upstream_busy", "7", 1},
		{"429 with a Retry-After of nothing", thrice(answers(429, errorBody, "Retry-After", "0")), 503, "upstream_busy", "1", 3},
		{"429 with a Retry-After of ages", once(answers(429, errorBody, "Retry-After", "99999999999999999999")), 503, "upstream_busy", "60", 1},
		{"429 with a Retry-After in the past", once(answers(429, errorBody, "Retry-After", "Mon, 02 Jan 2006 15:04:05 GMT")), 200, "", "", 2},
		{"429 with a Retry-After of garbage", thrice(answers(429, errorBody, "Retry-After", "-1e9, soon")), 503, "upstream_busy", "5", 3},
		{"500", thrice(answers(500, errorBody)), 503, "upstream_busy", "5", 3},
		{"500 twice", thrice(answers(500, errorBody))[:2], 200, "", "", 3},
		{"503", thrice(answers(503, "<html>"+upstreamText)), 503, "upstream_busy", "5", 3},
		{"reset after the request", thrice(cut("")), 503, "upstream_busy", "5", 3},
		{"reset once", once(cut("")), 200, "", "", 2},
		{"half a header", thrice(cut("HTTP/1.1 200 OK\r\nConte")), 503, "upstream_busy", "5", 3},
		{"truncated", once(cut("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"client_secret\":\"ek_" + upstreamText)), 502, "upstream_rejected", "", 1},
		{"HTML", once(answers(200, "<!doctype html><title>"+upstreamText)), 502, "upstream_rejected", "", 1},
		{"nothing", once(answers(200, "")), 502, "upstream_rejected", "", 1},
		{"204", once(answers(204, "")), 502, "upstream_rejected", "", 1},
		{"null", once(answers(200, "null")), 502, "upstream_rejected", "", 1},
		{"two values", once(answers(200, session("ek_1", time.Minute)+session("ek_2", time.Minute))), 502, "upstream_rejected", "", 1},
		{"an empty secret", once(answers(200, session("", time.Minute))), 502, "upstream_rejected", "", 1},
		{"no expiry", once(answers(200, `{"client_secret":"ek_`+upstreamText+`"}`)), 502, "upstream_rejected", "", 1},
		{"expired", once(answers(200, session("ek_"+upstreamText, -time.Minute))), 502, "upstream_rejected", "", 1},
		{"50 MB", once(answers(200, `{"client_secret":"ek_`+strings.Repeat("x", 50<<20)+`"}`)), 502, "upstream_rejected", "", 1},
		{"a body without end", once(endless), 502, "upstream_rejected", "", 1},
		{"an error without end", once(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			endless(w, r)
		}), 502, "upstream_rejected", "", 1},
		{"50 MB unzipped", once(answers(200, zipped(`{"client_secret":"ek_`+strings.Repeat("x", 50<<20)+`"}`), "Content-Encoding", "gzip")), 502, "upstream_rejected", "", 1},
		{"redirect 302", once(answers(302, "", "Location", "http://"+l.Addr().String())), 502, "upstream_rejected", "", 1},
		{"redirect 307", once(answers(307, "", "Location", "http://"+l.Addr().String())), 502, "upstream_rejected", "", 1},
		{"redirect 308 to itself", once(answers(308, "", "Location", "/v1/chatkit/sessions")), 502, "upstream_rejected", "", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := start(t)
			d.openai.Fail(tt.faults...)
			r := d.ask(t, http.MethodPost, sessionPath)
			if r.StatusCode != tt.status || r.Code != tt.code || r.Header.Get("Retry-After") != tt.retryAfter || fmt.Sprint(r.RetryAfter) != max(tt.retryAfter, "0") {
				t.Errorf("%d %s, Retry-After: %q, want %d %q, %q", r.StatusCode, r.body, r.Header.Get("Retry-After"), tt.status, tt.code, tt.retryAfter)
			}
			if n := len(d.openai.Keys()); n != tt.calls {
				t.Errorf("OpenAI was called %d times, want %d", n, tt.calls)
			}
			if tt.status != 200 && r.Header.Get("RateLimit") != "" {
				t.Error("an error other than 429 has RateLimit")
			}
			rec := d.records(t, 1)[0]
			want := tt.code
			if want == "" {
				want = "granted"
			}
			if rec["outcome"] != want || rec["request_id"] != r.Header.Get("X-Request-Id") {
				t.Errorf("record: %v, want outcome %s", rec, want)
			}
			if tt.status != 200 && rec["upstream"] == nil {
				t.Errorf("the record does not say what OpenAI answered: %v", rec)
			}
		})
	}
}

func TestUpstream_NoAnswer(t *testing.T) {
	t.Parallel()
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	tests := []struct {
		name   string
		faults []http.HandlerFunc
		status int
		code   string
	}{
		{"nothing at all", []http.HandlerFunc{hang}, 504, "upstream_timeout"},
		{"half a body", []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"client_secret":"`)
			http.NewResponseController(w).Flush()
			hang(w, r)
		}}, 504, "upstream_timeout"},
		{"503, then nothing", []http.HandlerFunc{answers(503, ""), hang}, 503, "upstream_busy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := start(t, "REQUEST_TIMEOUT=2s")
			d.openai.Fail(tt.faults...)
			began := time.Now()
			r := d.ask(t, http.MethodPost, sessionPath)
			if r.StatusCode != tt.status || r.Code != tt.code {
				t.Errorf("%d %s, want %d %s", r.StatusCode, r.body, tt.status, tt.code)
			}
			if took := time.Since(began); took < 1500*time.Millisecond || took > 4*time.Second {
				t.Errorf("answered after %s, want 2s", took)
			}
		})
	}
}

func TestUpstream_Unreachable(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			if tcp, ok := conn.(*net.TCPConn); ok {
				tcp.SetLinger(0) // Close sends a reset.
			}
			conn.Close()
		}
	}()
	for name, address := range map[string]string{"refused": nowhere, "reset before the request": l.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := start(t, "OPENAI_BASE_URL=http://"+address)
			if r := d.ask(t, http.MethodPost, sessionPath); r.StatusCode != 503 || r.Code != "upstream_busy" || r.Header.Get("Retry-After") != "5" {
				t.Errorf("%d %v %s", r.StatusCode, r.Header, r.body)
			}
		})
	}
}

// proxy forwards connections until fallSilent is called: then the open connections
// stay open, but it drops all their data.
type proxy struct {
	net.Listener

	mu     sync.Mutex
	silent []*atomic.Bool
}

func (p *proxy) forward(to string) {
	for {
		in, err := p.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		silent := &atomic.Bool{}
		p.mu.Lock()
		p.silent = append(p.silent, silent)
		p.mu.Unlock()
		pipe := func(to io.Writer, from io.Reader) {
			buf := make([]byte, 32<<10)
			for {
				n, err := from.Read(buf)
				if err != nil {
					return
				}
				if !silent.Load() {
					to.Write(buf[:n])
				}
			}
		}
		go pipe(out, in)
		go pipe(in, out)
	}
}

func (p *proxy) fallSilent() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.silent {
		s.Store(true)
	}
}

func TestUpstream_SilentConnectionReplaced(t *testing.T) {
	t.Parallel()
	openai := httptest.NewUnstartedServer(standin.NewOpenAI(testKey, testWorkflow))
	openai.EnableHTTP2 = true
	openai.StartTLS()
	t.Cleanup(openai.Close)
	certificate := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: openai.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &proxy{Listener: l}
	go p.forward(openai.Listener.Addr().String())
	d := start(t, "OPENAI_BASE_URL=https://"+l.Addr().String()+"/v1", "SSL_CERT_FILE="+certificate)
	for range 3 {
		if r := d.ask(t, http.MethodPost, sessionPath); r.StatusCode != http.StatusOK {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
		p.fallSilent()
	}
}

func TestLog_UpstreamError(t *testing.T) {
	t.Parallel()
	d := start(t)
	d.openai.Fail(answers(401, errorBody, "X-Request-Id", "req_123"))
	d.ask(t, http.MethodPost, sessionPath)
	rec := d.records(t, 1)[0]
	upstream, _ := rec["upstream"].(map[string]any)
	want := map[string]string{
		"error":      "OpenAI answered 401",
		"request_id": "req_123",
		"type":       "invalid_request_error",
		"code":       "some_code",
		"message":    upstreamText + " for [redacted] and [redacted]",
	}
	for k, v := range want {
		if upstream[k] != v {
			t.Errorf("upstream.%s = %v, want %q", k, upstream[k], v)
		}
	}
	if rec["severity"] != "ERROR" {
		t.Errorf("severity = %v, want ERROR", rec["severity"])
	}
}

func TestLog_KeyOfGatewayRedacted(t *testing.T) {
	t.Parallel()
	const gatewayKey = "a.gateway's/credential"
	d := start(t, "OPENAI_API_KEY="+gatewayKey)
	d.openai.Fail(answers(401, `{"error":{"message":"no `+gatewayKey+` here"}}`))
	d.ask(t, http.MethodPost, sessionPath)
	d.records(t, 1)
	if strings.Contains(d.output.String(), gatewayKey) {
		t.Errorf("the log has the key:\n%s", d.output)
	}
}

// TestLog_TokenInBaseURL has a gateway's token in the path of the base URL. When the
// process stops, its output is searched for the token.
func TestLog_TokenInBaseURL(t *testing.T) {
	t.Parallel()
	// echo repeats the URL of a call in all texts that the log takes from OpenAI.
	echo := func(w http.ResponseWriter, r *http.Request) {
		message := fmt.Sprintf("Invalid URL (%s %s)", r.Method, r.URL.Path)
		json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": message, "type": r.URL.Path, "code": r.URL.EscapedPath()}})
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc // Nil for an address where nothing listens.
		want    string           // In the record.
	}{
		{"unreachable", nil, "no answer from OpenAI: dial tcp 127.0.0.1:1: connect: connection refused"},
		{"closed connection", cut(""), "no answer from OpenAI: "},
		{"not HTTP", cut("HTTP/1.1 " + testToken + "\r\n\r\n"), `malformed HTTP status code "[redacted]"`},
		{"redirect to no URL", answers(307, "", "Location", "http://%/"+testToken), "failed to parse Location header"},
		{"404 with the path", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Request-Id", "req_1 of "+r.URL.Path)
			w.WriteHeader(http.StatusNotFound)
			echo(w, r)
		}, "message:Invalid URL (POST [redacted]/chatkit/sessions) request_id:req_1 of [redacted]/chatkit/sessions"},
		{"200 with the path", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Request-Id", r.URL.Path)
			echo(w, r)
		}, "the session has no client_secret request_id:[redacted]/chatkit/sessions"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			base := "http://" + nowhere
			if tt.handler != nil {
				gateway := httptest.NewServer(tt.handler)
				t.Cleanup(gateway.Close)
				base = gateway.URL
			}
			d := start(t, "OPENAI_BASE_URL="+base+"/"+testToken+"/v1")
			d.ask(t, http.MethodPost, sessionPath)
			if upstream := fmt.Sprint(d.records(t, 1)[0]["upstream"]); !strings.Contains(upstream, tt.want) {
				t.Errorf("upstream = %s, want %q in it", upstream, tt.want)
			}
		})
	}
}

func TestUpstream_NumericErrorFields(t *testing.T) {
	t.Parallel()
	d := start(t)
	d.openai.Fail(answers(403, `{"error":{"message":"blocked here","type":"policy","code":1403}}`, "X-Request-Id", "req_1"))
	d.ask(t, http.MethodPost, sessionPath)
	upstream := fmt.Sprint(d.records(t, 1)[0]["upstream"])
	if want := "map[code:1403 error:OpenAI answered 403 message:blocked here request_id:req_1 type:policy]"; upstream != want {
		t.Errorf("upstream = %s, want %s", upstream, want)
	}
}

func TestUpstream_BurstReusesConnections(t *testing.T) {
	t.Parallel()
	const size = 50
	d := start(t, "RATE_LIMIT_PER_MINUTE=1000")
	burst := func() map[string]bool {
		var mu sync.Mutex
		conns := map[string]bool{}
		var together, answered sync.WaitGroup
		together.Add(size)
		for range size {
			d.openai.Fail(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				conns[r.RemoteAddr] = true
				mu.Unlock()
				together.Done()
				together.Wait()
				fmt.Fprint(w, session("ek_1", time.Minute))
			})
			answered.Go(func() { d.ask(t, http.MethodPost, sessionPath) })
		}
		answered.Wait()
		return conns
	}
	first, second := burst(), burst()
	for conn := range second {
		if !first[conn] {
			t.Errorf("the second burst opened another connection than the %d of the first", len(first))
		}
	}
}

package httpapi_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"docent/internal/hosted"
	"docent/internal/httpapi"
	"docent/internal/logging"
	"docent/internal/origin"
	"docent/internal/ratelimit"
	"docent/internal/visitor"
)

// atOnce mints without OpenAI.
type atOnce struct{}

func (atOnce) Mint(context.Context, string) (hosted.Session, error) {
	return hosted.Session{ID: "cksess_bench", ClientSecret: "ek_bench", ExpiresAt: time.Now().Add(10 * time.Minute)}, nil
}

// nowhere is a browser that ignores the answer.
type nowhere struct{ header http.Header }

func (n nowhere) Header() http.Header         { return n.header }
func (n nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)               {}

// BenchmarkHandler is all that Docent does for a request: what OpenAI and
// net/http take comes on top.
func BenchmarkHandler(b *testing.B) {
	origins, err := origin.Parse("https://docs.example.com,https://*.docs-example.pages.dev")
	if err != nil {
		b.Fatal(err)
	}
	for _, bench := range []struct {
		name   string
		method string
		limit  int
		origin string
	}{
		{"admitted", http.MethodPost, 1 << 30, "https://docs.example.com"},
		{"refused", http.MethodPost, 1, "https://docs.example.com"},
		{"preflight", http.MethodOptions, 1, "https://docs.example.com"},
		{"foreign", http.MethodPost, 1, "https://elsewhere.example.com"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			log := logging.New(io.Discard, "json", slog.LevelInfo)
			h := httpapi.New(httpapi.Options{
				Origins:        origins,
				Limiter:        ratelimit.New(ratelimit.Options{Name: "per-ip", Limit: bench.limit, Window: time.Minute, Ceiling: 1 << 30, Log: log, Now: time.Now}),
				Minter:         atOnce{},
				Visitors:       visitor.NewSigner(visitor.Keys{Tokens: make([]byte, 32), Undated: make([]byte, 32)}, httpapi.BasePath, time.Now),
				TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, // httptest's peer.
				Timeout:        8 * time.Second,
				Log:            log,
				Now:            time.Now,
			})
			r := httptest.NewRequest(bench.method, "/api/chatkit/session", nil)
			r.Header.Set("Origin", bench.origin)
			r.Header.Set("X-Forwarded-For", "198.51.100.7")
			if bench.method == http.MethodOptions {
				r.Header.Set("Access-Control-Request-Method", http.MethodPost)
			}
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(nowhere{http.Header{}}, r)
			}
		})
	}
}

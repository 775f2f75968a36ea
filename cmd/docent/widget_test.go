package main_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"os"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const widgetPath = "/api/chatkit/widget.js"

// asTag changes a request to what a script tag sends: without Origin.
func asTag(r *http.Request) { r.Header.Del("Origin") }

// gunzip returns the uncompressed body.
func gunzip(t *testing.T, body string) string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewBufferString(body))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}

func TestWidget(t *testing.T) {
	t.Parallel()
	d := start(t)
	file, err := os.ReadFile("../../internal/widget/widget.js")
	if err != nil {
		t.Fatal(err)
	}
	plain := d.ask(t, http.MethodGet, widgetPath, asTag, header("Accept-Encoding", "identity"))
	packed := d.ask(t, http.MethodGet, widgetPath, asTag, header("Accept-Encoding", "gzip, deflate, br, zstd"))
	if plain.body != string(file) || gunzip(t, packed.body) != string(file) {
		t.Errorf("the body is not widget.js: %d bytes, and %d in gzip", len(plain.body), len(packed.body))
	}
	if len(packed.body) >= 12_000 {
		t.Errorf("%d bytes in gzip, want under 12,000", len(packed.body))
	}
	tags := map[string]string{"identity": plain.Header.Get("ETag"), "gzip": packed.Header.Get("ETag")}
	if tags["identity"] == tags["gzip"] {
		t.Errorf("both encodings have the ETag %s", tags["gzip"])
	}
	bodies := map[string]string{"identity": plain.body, "gzip": packed.body}

	tests := []struct {
		name, method, accept, match string
		status                      int
		encoding                    string
	}{
		// Without the header, Go's client would ask for gzip.
		{"as it is", "GET", "identity", "", 200, "identity"},
		{"gzip", "GET", "gzip", "", 200, "gzip"},
		{"gzip refused", "GET", "gzip;q=0", "", 200, "identity"},
		{"gzip refused, all others welcome", "GET", "gzip;q=0.000, *", "", 200, "identity"},
		{"anything", "GET", "*", "", 200, "gzip"},
		{"anything but what is named", "GET", "br, *;q=0", "", 200, "identity"},
		{"others", "GET", "br, zstd", "", 200, "identity"},
		{"HEAD", "HEAD", "identity", "", 200, "identity"},
		{"HEAD with gzip", "HEAD", "gzip", "", 200, "gzip"},
		{"unchanged", "GET", "identity", tags["identity"], 304, "identity"},
		{"unchanged in gzip", "GET", "gzip", tags["gzip"], 304, "gzip"},
		{"unchanged, HEAD", "HEAD", "gzip", tags["gzip"], 304, "gzip"},
		{"one of several", "GET", "gzip", `"other", W/"weak" , ` + tags["gzip"], 304, "gzip"},
		{"weakened by a proxy", "GET", "gzip", "W/" + tags["gzip"], 304, "gzip"},
		{"any", "GET", "gzip", "*", 304, "gzip"},
		{"another encoding's", "GET", "gzip", tags["identity"], 200, "gzip"},
		{"another encoding's, the other way", "GET", "identity", tags["gzip"], 200, "identity"},
		{"an old one", "GET", "gzip", `"0123456789abcdef"`, 200, "gzip"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			change := []func(*http.Request){asTag, header("Accept-Encoding", tt.accept)}
			if tt.match != "" {
				change = append(change, header("If-None-Match", tt.match))
			}
			r := d.ask(t, tt.method, widgetPath, change...)
			want := map[string]string{
				"Access-Control-Allow-Origin":  "*",
				"Cross-Origin-Resource-Policy": "cross-origin",
				"ETag":                         tags[tt.encoding],
				"Vary":                         "Accept-Encoding",
			}
			body := ""
			if tt.status == http.StatusOK {
				want["Content-Type"] = "text/javascript; charset=utf-8"
				want["Content-Length"] = strconv.Itoa(len(bodies[tt.encoding]))
				if tt.encoding == "gzip" {
					want["Content-Encoding"] = "gzip"
				}
				if tt.method == http.MethodGet {
					body = bodies[tt.encoding]
				}
			}
			got := headers(r, "Access-Control-Allow-Origin", "Content-Encoding", "Content-Length", "Content-Type", "Cross-Origin-Resource-Policy",
				"ETag", "Set-Cookie", "Access-Control-Allow-Credentials", "RateLimit", "Vary")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
			if r.StatusCode != tt.status || r.body != body {
				t.Errorf("%d and %d bytes, want %d and %d", r.StatusCode, len(r.body), tt.status, len(body))
			}
		})
	}
}

func TestWidget_AnyOriginUncounted(t *testing.T) {
	t.Parallel()
	d := start(t)
	for range 20 {
		if r := d.ask(t, http.MethodGet, widgetPath, header("Origin", "https://elsewhere.example"), header("X-Forwarded-For", "unknown")); r.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
	}
	r := d.ask(t, http.MethodPost, sessionPath)
	if left := r.Header.Get("X-RateLimit-Remaining"); left != "4" || len(d.openai.Asked()) != 1 {
		t.Errorf("%s sessions left, and OpenAI was asked %d times", left, len(d.openai.Asked()))
	}
}

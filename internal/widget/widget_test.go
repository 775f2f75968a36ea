package widget_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"docent/internal/widget"
)

// A strict Content-Security-Policy blocks all of these. They could also turn content
// of the page into markup or code.
func TestScript_StrictCSP(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("widget.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, banned := range []string{
		`\beval\s*\(`, `\bFunction\s*\(`, `\b(inner|outer)HTML\b`, `\binsertAdjacentHTML\b`, `\bdocument\.write`, `\bcssText\b`,
		`setAttribute\(\s*["'\x60](style|on)`, `\bset(Timeout|Interval)\(\s*["'\x60]`,
	} {
		if found := regexp.MustCompile(banned).Find(script); found != nil {
			t.Errorf("widget.js has %q", found)
		}
	}
}

// get sends a request to the handler with the lines of one header.
func get(name string, values ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header[name] = values
	w := httptest.NewRecorder()
	widget.Handler().ServeHTTP(w, r)
	return w
}

func TestAcceptEncoding(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		values []string
		gzip   bool
	}{
		{"none", nil, false},
		{"empty", []string{""}, false},
		{"as browsers send it", []string{"gzip, deflate, br, zstd"}, true},
		{"any case", []string{"GZip"}, true},
		{"weights", []string{"br;q=1.0, gzip;q=0.001"}, true},
		{"weight of 0", []string{"gzip;q=0"}, false},
		{"weight of 0 in full", []string{"gzip ; q=0.000"}, false},
		{"weight in capitals", []string{"gzip;Q=0"}, false},
		{"weight that is a word", []string{"gzip;q=high"}, false},
		{"weight NaN", []string{"gzip;q=NaN"}, false},
		{"negative weight", []string{"gzip;q=-1"}, false},
		{"no weight after the semicolon", []string{"gzip;"}, false},
		{"another parameter", []string{"gzip;level=1"}, false},
		{"anything", []string{"*"}, true},
		{"identity only", []string{"identity, *;q=0"}, false},
		{"gzip only", []string{"*;q=0, gzip"}, true},
		{"all but gzip", []string{"gzip;q=0, *;q=1"}, false},
		{"several lines", []string{"br", "gzip"}, true},
		{"part of a name", []string{"xgzip, gzip2"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := get("Accept-Encoding", tt.values...).Header().Get("Content-Encoding") == "gzip"; got != tt.gzip {
				t.Errorf("gzip is %t, want %t", got, tt.gzip)
			}
		})
	}
}

func FuzzAcceptEncoding(f *testing.F) {
	for _, seed := range []string{"", "gzip", "gzip;q=0", "*", "br;q=0.5, *;q=0", "identity", ",;=,"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if strings.ContainsAny(value, "\r\n") {
			t.Skip("not a header value")
		}
		gzip := func(values ...string) bool {
			return get("Accept-Encoding", values...).Header().Get("Content-Encoding") == "gzip"
		}
		accepted := gzip(value)
		if lower := strings.ToLower(value); accepted && !strings.Contains(lower, "gzip") && !strings.Contains(lower, "*") {
			t.Errorf("%q does not accept gzip, but the response has it", value)
		}
		// A list may be split into lines between any two elements.
		if got := gzip(strings.Split(value, ",")...); got != accepted {
			t.Errorf("%q in one line: %t, in several: %t", value, accepted, got)
		}
		// An element for gzip takes precedence, and the last one counts.
		if gzip(value, "gzip;q=0") || !gzip(value, "gzip;q=1") {
			t.Errorf("after %q, the last gzip element does not count", value)
		}
	})
}

func FuzzIfNoneMatch(f *testing.F) {
	etag := get("Accept-Encoding").Header().Get("ETag")
	for _, seed := range []string{"", "*", etag, "W/" + etag, `"a", "b"`, `"`, ",,"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		unchanged := get("If-None-Match", value).Code == http.StatusNotModified
		if unchanged && !strings.Contains(value, etag) && !strings.Contains(value, "*") {
			t.Errorf("%q matches %s", value, etag)
		}
		if got := get("If-None-Match", value, etag).Code; got != http.StatusNotModified {
			t.Errorf("%d with %q before the ETag", got, value)
		}
	})
}

package docs_test

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"docent/internal/docs"
)

// signature is a query that no error and no other server may see.
const signature = "sig=top%2Fsecret"

func TestLoad_Path(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good, bad, large := filepath.Join(dir, "good"), filepath.Join(dir, "bad"), filepath.Join(dir, "large")
	for path, data := range map[string][]byte{good: write(t, testSite()), bad: []byte("hello\n"), large: nil} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(large, 300<<20); err != nil {
		t.Fatal(err)
	}
	got, err := docs.Load(t.Context(), good)
	if diff := cmp.Diff(testSite(), got); diff != "" || err != nil {
		t.Errorf("Load: %v\n%s", err, diff)
	}
	for path, want := range map[string]string{
		bad: "bad: this is not an index", large: "more than 128 MB", dir: "is a directory",
		filepath.Join(dir, "absent"): "no such file", "": "no index was named",
		"http://docs.example.com/index":                       "https URL",
		"http://127.0.0.1.example.com/index":                  "https URL",
		"ftp://docs.example.com/index":                        "https URL",
		"file:///etc/passwd":                                  "https URL",
		"https:///index":                                      "https URL",
		"https://me:" + signature + "@docs.example.com/index": "user name",
		"https://docs.example.com/%zz?" + signature:           "not a valid URL",
	} {
		_, err := docs.Load(t.Context(), path)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sig=") {
			t.Errorf("Load(%q): %v, want an error with %q", path, err, want)
		}
	}
}

// served starts a server on loopback and returns the URL of an index there.
func served(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL + "/docent.index?" + signature
}

func TestLoad_URL(t *testing.T) {
	t.Parallel()
	index := write(t, testSite())
	noise := make([]byte, 1<<20)
	good := func(w http.ResponseWriter, _ *http.Request) { w.Write(index) }
	target := served(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Referer() != "" {
			http.Error(w, "", http.StatusTeapot)
			return
		}
		good(w, r)
	})
	redirects := func(n int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if step := strings.Count(r.URL.Path, "z"); step < n {
				http.Redirect(w, r, "/"+strings.Repeat("z", step+1)+"?"+signature, http.StatusFound)
				return
			}
			good(w, r)
		}
	}
	to := func(location string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", location)
			w.WriteHeader(http.StatusMovedPermanently)
		}
	}
	tests := map[string]struct {
		handler http.HandlerFunc
		want    string // In the error, or "".
	}{
		"good": {func(w http.ResponseWriter, r *http.Request) {
			if r.UserAgent() != "docent" || r.Header.Get("If-None-Match") != "" || r.URL.RawQuery != signature || r.Method != http.MethodGet {
				http.Error(w, "", http.StatusTeapot)
				return
			}
			good(w, r)
		}, ""},
		"compressed by a CDN": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			z.Write(index)
			z.Close()
		}, ""},
		"wrong type": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			good(w, r)
		}, ""},
		"not found":        {http.NotFound, "404 Not Found"},
		"fault":            {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "500 Internal"},
		"unasked 304":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }, "304 Not Modified"},
		"part":             {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPartialContent); w.Write(index) }, "206"},
		"HTML with 200":    {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<!doctype html><p>hello") }, "serves HTML"},
		"text with 200":    {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }, "text/plain"},
		"nothing with 200": {func(http.ResponseWriter, *http.Request) {}, "empty"},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000")
			w.Write(index)
		}, "cut short"},
		"too long, it says": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "300000000") }, "more than 128 MB"},
		"endless": {func(w http.ResponseWriter, _ *http.Request) {
			for range 200 {
				if _, err := w.Write(noise); err != nil {
					return
				}
			}
			t.Error("the server could send 200 MB")
		}, "more than 128 MB"},
		"long header": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 128<<10))
			good(w, r)
		}, "exceeded"},
		"redirect on loopback":         {to(target), ""},
		"three redirects":              {redirects(3), ""},
		"four redirects":               {redirects(4), "more than 3 redirects"},
		"redirect to http":             {to("http://docs.example.com/?" + signature), "not https"},
		"redirect to a file":           {to("file:///etc/passwd?" + signature), "not https"},
		"redirect with a password":     {to("http://me:sig=@127.0.0.1/"), "user name"},
		"redirect to no URL":           {to("https://docs.example.com:x/?a\"" + signature + " sig=1"), "Location"},
		"redirect without a location":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusFound) }, "302"},
		"redirect to a closed address": {to("http://127.0.0.1:1/?" + signature), "refused"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := docs.Load(t.Context(), served(t, tt.handler))
			switch {
			case tt.want == "":
				if diff := cmp.Diff(testSite(), got); diff != "" || err != nil {
					t.Errorf("Load: %v\n%s", err, diff)
				}
			case err == nil || !strings.Contains(err.Error(), tt.want) || got != nil:
				t.Errorf("Load = %v, %v; want an error with %q", got, err, tt.want)
			case strings.Contains(err.Error(), "sig=") || strings.Contains(err.Error(), "secret"):
				t.Errorf("the error has the query: %v", err)
			case !strings.Contains(err.Error(), "/docent.index"):
				t.Errorf("the error does not name the URL: %v", err)
			}
		})
	}
}

func TestLoad_Canceled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := docs.Load(ctx, served(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "sig=") {
		t.Errorf("Load: %v, want the context's error", err)
	}
}

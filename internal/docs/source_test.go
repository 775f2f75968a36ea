package docs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"docent/internal/docs"
	"docent/internal/testkit/testpipe"
)

const (
	refresh = 5 * time.Minute
	retry   = 10 * time.Second
)

// logBuffer is a log that tests read.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// take returns what was logged at info and above since the last take.
func (l *logBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// site is a server whose answer changes. Its methods are for a bubble of synctest.
type site struct {
	t      *testing.T
	log    *logBuffer
	source *docs.Source

	mu     sync.Mutex
	answer http.HandlerFunc
	asked  []http.Header
}

// open serves answer and opens a source of it.
func open(t *testing.T, answer http.HandlerFunc) *site {
	t.Helper()
	s := &site{t: t, log: new(logBuffer), answer: answer}
	l := testpipe.New()
	srv := &http.Server{Handler: s}
	go srv.Serve(l)
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return l.Dial(), nil }}
	var err error
	s.source, err = docs.Open(t.Context(), docs.SourceOptions{
		Location: "http://localhost/docent.index?" + signature, Refresh: refresh, Log: s.log.logger(), Now: time.Now, Transport: transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.source.Close()
		srv.Close()
		if text := s.log.take(); strings.Contains(text, "sig=") {
			t.Errorf("the log has the query: %s", text)
		}
	})
	return s
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.Header.Clone())
	answer := s.answer
	s.mu.Unlock()
	answer(w, r)
}

func (s *site) now(answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// after lets time pass, searches, and waits for the refresh that this may begin.
func (s *site) after(d time.Duration) {
	time.Sleep(d)
	s.search()
	synctest.Wait()
}

// search returns the name of the site that answers, or "".
func (s *site) search() string { return answering(s.t, s.source) }

func answering(t *testing.T, source *docs.Source) string {
	t.Helper()
	found, err := source.Passages(t.Context(), docs.Query{Question: "guide"})
	if errors.Is(err, docs.ErrNotLoaded) {
		return ""
	}
	if err != nil || len(found.Passages) == 0 {
		t.Fatalf("Passages = %v, %v", found, err)
	}
	return strings.TrimPrefix(found.Passages[0].URL, "https://docs.example.com/")
}

// expect checks which site answers, how often the server was asked since the last
// expect, and that the log has each of the words, and has nothing without words.
func (s *site) expect(name string, asked int, words ...string) {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	got := len(s.asked)
	s.asked = nil
	s.mu.Unlock()
	if got != asked {
		s.t.Errorf("the server was asked %d times, want %d", got, asked)
	}
	text := s.log.take()
	if strings.Count(text, "\n") != len(words) {
		s.t.Errorf("the log has\n%swant %q", text, words)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			s.t.Errorf("the log has not %q:\n%s", w, text)
		}
	}
	if strings.Contains(text, "sig=") || strings.Contains(text, "secret") {
		s.t.Errorf("the log has the query: %s", text)
	}
	if got := s.search(); got != name {
		s.t.Errorf("%q answers, want %q", got, name)
	}
}

// serve answers with an index.
func serve(t *testing.T, s *docs.Site, header ...string) http.HandlerFunc {
	t.Helper()
	data := write(t, s)
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.Write(data)
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func TestSource_Refresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, serve(t, smallSite("one", 30)))
		s.expect("one", 1, `"docs index loaded" pages=2 sections=30 vectors=false`)
		s.now(serve(t, smallSite("two", 30)))
		s.after(refresh - 1)
		s.expect("one", 0)
		s.after(1)
		s.expect("two", 1, "docs index loaded")
		// An index that has not changed is not built again.
		s.after(refresh)
		s.expect("two", 1)
	})
}

func TestSource_Conditional(t *testing.T) {
	t.Parallel()
	const date = "Mon, 23 Nov 2026 10:00:00 GMT"
	for name, tt := range map[string]struct {
		header    []string
		match     string
		ifChanged string
	}{
		"strong":           {[]string{"ETag", `"abc"`, "Last-Modified", date}, `"abc"`, ""},
		"weak":             {[]string{"ETag", `W/"abc-gzip"`}, `W/"abc-gzip"`, ""},
		"date alone":       {[]string{"Last-Modified", date}, "", date},
		"without quotes":   {[]string{"ETag", `abc`, "Last-Modified", date}, "", date},
		"with a space":     {[]string{"ETag", `"a b"`}, "", ""},
		"immense":          {[]string{"ETag", `"` + strings.Repeat("a", 2000) + `"`}, "", ""},
		"not a date":       {[]string{"Last-Modified", "yesterday"}, "", ""},
		"nothing to go by": {nil, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := open(t, serve(t, smallSite("one", 30), tt.header...))
				s.expect("one", 1, "docs index loaded")
				s.now(status(http.StatusNotModified))
				for range 2 { // A 304 does not lose the stamp.
					s.after(refresh)
					if h := s.asked[0]; h.Get("If-None-Match") != tt.match || h.Get("If-Modified-Since") != tt.ifChanged {
						t.Errorf("asked with %v", h)
					}
					s.expect("one", 1)
				}
			})
		})
	}
}

func TestSource_KeepsWhatIsGood(t *testing.T) {
	t.Parallel()
	one := smallSite("one", 30)
	drip := func(w http.ResponseWriter, r *http.Request) {
		data := write(t, smallSite("two", 30))
		flush := http.NewResponseController(w).Flush
		for len(data) > 0 && r.Context().Err() == nil {
			w.Write(data[:1])
			flush()
			data = data[1:]
			select {
			case <-time.After(time.Second):
			case <-r.Context().Done():
			}
		}
	}
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   string
		took   time.Duration
	}{
		"not found": {status(http.StatusNotFound), "404", 0},
		"fault":     {status(http.StatusInternalServerError), "500", 0},
		"HTML":      {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }, "HTML", 0},
		"empty":     {serve(t, &docs.Site{}), "no sections", 0},
		"shrunk":    {serve(t, smallSite("two", 2)), "restart Docent", 0},
		"corrupt":   {func(w http.ResponseWriter, _ *http.Request) { w.Write(write(t, one)[:200]) }, "damaged", 0},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Write([]byte("docent index 1\n"))
		}, "cut short", 0},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://docs.example.com/?"+signature, http.StatusFound)
		}, "not https", 0},
		"loop":    {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, "redirects", 0},
		"silence": {hang, "more than 1m0s", time.Minute},
		"drip":    {drip, "more than 1m0s", time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := open(t, serve(t, one))
				s.expect("one", 1, "docs index loaded")
				each := 1
				if name == "loop" {
					each = 4
				}
				s.now(tt.answer)
				s.after(refresh)
				time.Sleep(tt.took)
				s.expect("one", each, tt.want)
				// Each pause is twice as long, up to the time between refreshes. None is logged.
				for _, pause := range []time.Duration{retry, 2 * retry, 4 * retry, 8 * retry, 16 * retry, refresh, refresh} {
					s.after(pause - time.Second)
					s.expect("one", 0)
					s.after(time.Second)
					time.Sleep(tt.took)
					s.expect("one", each)
				}
				s.now(serve(t, smallSite("three", 3)))
				s.after(refresh)
				s.expect("three", 1, "docs index loaded", "read again")
				s.now(tt.answer)
				if tt.want != "restart Docent" {
					s.after(refresh)
					time.Sleep(tt.took)
					s.expect("three", each, tt.want)
				}
			})
		})
	}
}

func TestSource_BackAsItWas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, serve(t, smallSite("one", 3), "ETag", `"1"`))
		s.expect("one", 1, "docs index loaded")
		s.now(status(http.StatusBadGateway))
		s.after(refresh)
		s.expect("one", 1, "502")
		s.now(status(http.StatusNotModified))
		s.after(retry)
		if got := s.asked[0].Get("If-None-Match"); got != `"1"` {
			t.Errorf("asked with %q", got)
		}
		s.expect("one", 1, "read again")
	})
}

func TestSource_FailsAtStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, status(http.StatusServiceUnavailable))
		s.expect("", 1, "not loaded")
		for range 10 { // The pause does not grow while there is nothing to answer from.
			s.after(retry - time.Second)
			s.expect("", 0)
			s.after(time.Second)
			s.expect("", 1)
		}
		s.now(serve(t, smallSite("one", 3)))
		s.after(retry)
		s.expect("one", 1, "docs index loaded", "read again")
	})
}

func TestSource_SlowAtStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		good := serve(t, smallSite("one", 3))
		s := open(t, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(30 * time.Second)
			good(w, r)
		})
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("Open took %s", took)
		}
		s.expect("", 1, "still being loaded")
		s.after(15 * time.Second)
		s.expect("", 0)
		s.after(5 * time.Second)
		s.expect("one", 0, "docs index loaded")
	})
}

func TestSource_OneLoadAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, serve(t, smallSite("one", 3)))
		s.expect("one", 1, "docs index loaded")
		s.now(hang)
		began := time.Now()
		time.Sleep(refresh)
		for range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			if _, err := s.source.Passages(ctx, docs.Query{Question: "guide"}); err != nil {
				t.Error(err)
			}
			cancel() // A visitor who leaves does not end the refresh.
			time.Sleep(time.Second)
		}
		if took := time.Since(began); took != refresh+20*time.Second {
			t.Errorf("the searches took %s", took)
		}
		s.expect("one", 1)
	})
}

func TestSource_Close(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, serve(t, smallSite("one", 3)))
		s.expect("one", 1, "docs index loaded")
		s.now(hang)
		s.after(refresh)
		began := time.Now()
		s.source.Close()
		if took := time.Since(began); took != 0 {
			t.Errorf("Close took %s", took)
		}
		s.after(refresh)
		s.expect("one", 1)
	})
}

// roundTripper is a function that makes requests.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestSource_CloseWaits closes a source whose request takes a second to end.
func TestSource_CloseWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := docs.Open(t.Context(), docs.SourceOptions{
			Location: "https://docs.example.com/index", Refresh: refresh, Log: new(logBuffer).logger(), Now: time.Now,
			Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				time.Sleep(time.Second)
				return nil, r.Context().Err()
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		s.Close()
		if took := time.Since(began); took != time.Second {
			t.Errorf("Close took %s", took)
		}
	})
}

func TestOpen_Canceled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	location := served(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	log := new(logBuffer)
	_, err := docs.Open(ctx, docs.SourceOptions{Location: location, Refresh: refresh, Log: log.logger(), Now: time.Now})
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "sig=") {
		t.Errorf("Open: %v, want the context's error", err)
	}
	if text := log.take(); text != "" {
		t.Errorf("logged: %s", text)
	}
}

// TestOpen_HTTPS follows redirects from an https server, which only a client that
// trusts it can reach.
func TestOpen_HTTPS(t *testing.T) {
	t.Parallel()
	good := serve(t, smallSite("one", 3))
	plain := httptest.NewServer(good)
	t.Cleanup(plain.Close)
	var referer string
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good":
			referer = r.Referer()
			good(w, r)
		case "/here":
			http.Redirect(w, r, "/good", http.StatusFound)
		default:
			http.Redirect(w, r, plain.URL+"/?"+signature, http.StatusFound)
		}
	}))
	t.Cleanup(srv.Close)
	for path, want := range map[string]string{"/good": "one", "/here": "one", "/http": ""} {
		log := new(logBuffer)
		s, err := docs.Open(t.Context(), docs.SourceOptions{
			Location: srv.URL + path + "?" + signature, Refresh: refresh, Log: log.logger(), Now: time.Now, Transport: srv.Client().Transport,
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := answering(t, s); got != want {
			t.Errorf("%s: %q answers, want %q; %s", path, got, want, log.take())
		}
		s.Close()
		if text := log.take(); strings.Contains(text, "sig=") || want == "" && !strings.Contains(text, "not https") {
			t.Errorf("%s: logged %s", path, text)
		}
		if referer != "" {
			t.Errorf("%s: the next server was told %q", path, referer)
		}
	}
}

func TestOpen_Path(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "docs.index")
	o := docs.SourceOptions{Location: path, Refresh: time.Nanosecond, Log: new(logBuffer).logger(), Now: time.Now}
	put := func(data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(want string) {
		t.Helper()
		if s, err := docs.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) || s != nil {
			t.Errorf("Open: %v, want an error with %q", err, want)
		}
	}
	refused("no such file")
	put([]byte("<html>"))
	refused("text/html")
	put(write(t, &docs.Site{}))
	refused("no sections")
	put(write(t, smallSite("one", 3)))
	s, err := docs.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put(write(t, smallSite("two", 3)))
	for range 3 {
		if got := answering(t, s); got != "one" {
			t.Errorf("%q answers, want what was read at the start", got)
		}
	}
}

func TestOpen_Refuses(t *testing.T) {
	t.Parallel()
	for _, location := range []string{"http://docs.example.com/index?" + signature, "https://" + url.UserPassword("a", "sig=").String() + "@a/"} {
		if _, err := docs.Open(t.Context(), docs.SourceOptions{Location: location}); err == nil || strings.Contains(err.Error(), "sig=") {
			t.Errorf("Open(%q): %v", location, err)
		}
	}
}

package main_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"docent/internal/standin"
	"docent/internal/testkit/testindex"
)

// sourcesOf returns the URLs that the answers of a stream cite.
func sourcesOf(t *testing.T, stream string) (urls []string) {
	t.Helper()
	for line := range strings.Lines(stream) {
		var e struct {
			Type string
			Item struct {
				Content []struct {
					Annotations []struct{ Source struct{ URL string } }
				}
			}
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		for _, c := range e.Item.Content {
			for _, a := range c.Annotations {
				urls = append(urls, a.Source.URL)
			}
		}
	}
	return urls
}

func TestVectorStore(t *testing.T) {
	t.Parallel()
	d := start(t, docs(t, "DOCS_INDEX=", "VECTOR_STORE_ID=vs_test")...)
	d.openai.SetVectorStore("vs_test", standin.File{
		Name: "install.md", Attributes: map[string]any{"url": "https://docs.example.com/install", "title": "Install"},
		Text: "Install Orchard on Linux with the package manager of your distribution.",
	})
	v := newReader(t, d)
	_, stream := v.send(t, d, v.message("How do I install Orchard on Linux?"))
	if !strings.Contains(stream, "package manager") || strings.Join(sourcesOf(t, stream), " ") != "https://docs.example.com/install" {
		t.Errorf("the answer: %s", stream)
	}
}

// An index whose URL fails does not stop the service: no session is made until the
// index is there. What was loaded stays.
func TestIndexURL(t *testing.T) {
	t.Parallel()
	index, err := os.ReadFile(testindex.Write(t, testindex.Small()))
	if err != nil {
		t.Fatal(err)
	}
	var published atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !published.Load() {
			http.Error(w, "not yet", http.StatusNotFound)
			return
		}
		w.Write(index)
	}))
	defer srv.Close()
	d := start(t, docs(t, "DOCS_INDEX="+srv.URL+"/docs.index")...)
	session := func() reply {
		return d.ask(t, http.MethodPost, sessionPath, func(r *http.Request) { r.URL.RawQuery = "api=any" })
	}
	if r := session(); r.StatusCode != 503 || r.Code != "assistant_unavailable" || r.Header.Get("Retry-After") != "10" {
		t.Errorf("without an index: %d %s", r.StatusCode, r.body)
	}
	published.Store(true)
	again := start(t, docs(t, "DOCS_INDEX="+srv.URL+"/docs.index")...)
	published.Store(false)
	v := newReader(t, again)
	if _, stream := v.send(t, again, v.message("How do I install Orchard on Linux?")); !strings.HasPrefix(strings.Join(sourcesOf(t, stream), " "), "https://docs.example.com/install#linux") {
		t.Errorf("the answer: %s", stream)
	}
}

// The site's own instructions come after the fixed ones, from a file, too.
func TestInstructions(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "instructions.md")
	if err := os.WriteFile(file, []byte("Call the reader a gardener.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, setting := range map[string]string{"literal": "Call the reader a gardener.", "file": "@" + file} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := start(t, docs(t, "ASSISTANT_INSTRUCTIONS="+setting)...)
			newReader(t, d).say(t, d, "How do I install Orchard on Linux?")
			asked := d.openai.Responses()
			if len(asked) != 1 || !strings.HasSuffix(asked[0].Instructions, "Call the reader a gardener.") || len(asked[0].Instructions) < 500 {
				t.Errorf("asked: %+v", asked)
			}
		})
	}
}

func TestInstructions_BadFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"long":  strings.Repeat("ä", 8001),
		"latin": "Call the reader a g\xe4rtner.",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct{ name, file, want string }{
		{"missing", "nowhere", "no such file"},
		{"a folder", ".", "is a directory"},
		{"too long", "long", "more than 8000 characters"},
		{"not UTF-8", "latin", "UTF-8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, stderr := fails(t, docs(t, "PORT=127.0.0.1:0", "ALLOWED_ORIGINS="+testOrigin, "OPENAI_API_KEY="+testKey,
				"ASSISTANT_INSTRUCTIONS=@"+filepath.Join(dir, tt.file))...)
			if !strings.Contains(stderr, "ASSISTANT_INSTRUCTIONS: ") || !strings.Contains(stderr, tt.want) {
				t.Errorf("stderr: %s", stderr)
			}
		})
	}
}

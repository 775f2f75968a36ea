package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	passages "docent/internal/docs"
	"docent/internal/standin"
)

// A run is how a command ended.
type run struct {
	status         int
	stdout, stderr string
}

// tool runs a command in a folder, with nothing else in the environment.
func tool(t *testing.T, dir string, environment []string, args ...string) run {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := command(dir, environment, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	r := run{status: exitStatus(t, cmd.Run())}
	r.stdout, r.stderr = stdout.String(), stderr.String()
	noSecrets(t, r.stdout+r.stderr)
	if strings.ContainsAny(r.stdout+r.stderr, "\r\x1b") {
		t.Errorf("control characters without a terminal: %q %q", r.stdout, r.stderr)
	}
	return r
}

func command(dir string, environment []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), binary, args...)
	cmd.Dir = dir
	cmd.Env = append(slices.Clip(environment), "GORACE=atexit_sleep_ms=0") // Parallel subtests share it.
	return cmd
}

// folder returns a new folder with files, by path.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// html returns a page of the test's site. Sections are headings, each with its text.
func html(title string, sections ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<!doctype html><html lang="en"><head><title>%s</title></head><body><nav>Everywhere</nav><main><h1>%[1]s</h1><p>About %[1]s.</p>`, title)
	for _, s := range sections {
		heading, text, _ := strings.Cut(s, ": ")
		fmt.Fprintf(&b, `<h2 id="%s">%s</h2><p>%s</p>`, strings.ToLower(heading), heading, text)
	}
	return b.String() + "</main></body></html>"
}

// smallSite is a folder "build" with three pages.
func smallSite(t *testing.T) string {
	t.Helper()
	return folder(t, map[string]string{
		"build/index.html":         html("Introduction"),
		"build/install/index.html": html("Install", "Linux: Download the archive and unpack it.", "Windows: Run the installer."),
		"build/limits/index.html":  html("Limits", "Memory: A gigabyte is enough."),
		"build/old/index.html":     `<!doctype html><meta http-equiv="refresh" content="0; url=/install/"><title>Moved</title>`,
	})
}

const siteURL = "https://docs.example.com"

func loadIndex(t *testing.T, file string) *passages.Site {
	t.Helper()
	s, err := passages.Load(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// vectorsOf returns how many pieces a site has, and how many of them have a vector.
func vectorsOf(s *passages.Site) (pieces, withVector int) {
	for _, page := range s.Pages {
		for _, section := range page.Sections {
			for _, piece := range section.Pieces {
				pieces++
				if len(piece.Values) > 0 {
					withVector++
				}
			}
		}
	}
	return pieces, withVector
}

// onlyFiles fails unless a folder has exactly these entries.
func onlyFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestIndex(t *testing.T) {
	t.Parallel()
	dir := smallSite(t)
	r := tool(t, dir, nil, "index", "build", "--site="+siteURL) // A flag may come last.
	if r.status != 0 || r.stderr != "" {
		t.Fatalf("%+v", r)
	}
	for _, want := range []string{"Read 3 pages with 6 sections\n", "languages: en 3\n", "Left out 1 file\n", "old/index.html\n", "OPENAI_API_KEY is not set", "Wrote docs.index ("} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q in\n%s", want, r.stdout)
		}
	}
	onlyFiles(t, dir, "build", "docs.index")
	info, err := os.Stat(filepath.Join(dir, "docs.index"))
	if err != nil || info.Mode().Perm()&0o444 != 0o444 {
		t.Errorf("the index cannot be read by others: %v %v", info.Mode(), err)
	}
	s := loadIndex(t, filepath.Join(dir, "docs.index"))
	var links []string
	for i := range s.Pages {
		for j := range s.Pages[i].Sections {
			links = append(links, s.Pages[i].Link(&s.Pages[i].Sections[j]))
		}
	}
	want := []string{"/", "/install/", "/install/#linux", "/install/#windows", "/limits/", "/limits/#memory"}
	for i := range want {
		want[i] = siteURL + want[i]
	}
	if diff := cmp.Diff(want, links); diff != "" {
		t.Errorf("sections (-want +got):\n%s", diff)
	}
}

func TestIndex_Versions(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{
		"build/docs/install/index.html":     html("Install"),
		"build/docs/1.x/install/index.html": html("Install 1"),
		"build/index.html":                  html("Welcome"),
	})
	r := tool(t, dir, nil, "index", "--site", siteURL, "--version-path", "/docs/{version}/", "--versions", "2.x, 1.x", "--default-version", "2.x", "build")
	if r.status != 0 || !strings.Contains(r.stdout, "versions: 1.x 1, 2.x 1, none 1\n") {
		t.Errorf("%+v", r)
	}
}

func TestIndex_JSON(t *testing.T) {
	t.Parallel()
	dir := smallSite(t)
	_, environment := newEmbeddings(t)
	r := tool(t, dir, environment, "index", "--json", "--site", siteURL, "build")
	if r.status != 0 || r.stderr != "" || strings.Count(r.stdout, "\n") != 1 {
		t.Fatalf("%+v", r)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
		t.Fatal(err)
	}
	if n, _ := got["bytes"].(float64); n < 500 {
		t.Errorf("%v bytes", got["bytes"])
	}
	left, _ := got["left"].([]any)
	if len(left) != 1 {
		t.Errorf("left out: %v", left)
	}
	e, _ := got["embeddings"].(map[string]any)
	if tokens, _ := e["tokens"].(float64); e["pieces"] != 6.0 || e["new"] != 6.0 || tokens < 10 || e["usd"] != tokens*0.02/1e6 {
		t.Errorf("embeddings: %v", e)
	}
	for _, name := range []string{"bytes", "left", "embeddings"} {
		delete(got, name)
	}
	want := map[string]any{
		"file": "docs.index", "pages": 3.0, "sections": 6.0,
		"languages": map[string]any{"en": 3.0}, "versions": map[string]any{}, "warnings": []any{},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestIndex_Arguments(t *testing.T) {
	t.Parallel()
	dir := smallSite(t)
	tests := []struct{ name, args, want string }{
		{"no folder", "", "missing"},
		{"two folders", "build build", "too much after index: build"},
		{"unknown flag", "--colour build", "--colour"},
		{"unknown flag after the folder", "build --colour", "--colour"},
		{"flag without a value", "build --out", "--out"},
		{"empty out", "--out= build", "--out"},
		{"site without a scheme", "--site docs.example.com build", "--site"},
		{"site with a query", "--site https://docs.example.com?x build", "--site"},
		{"versions without a path", "--versions 1,2 --default-version 1 build", "belong together"},
		{"no default version", "--version-path /{version}/ --versions 1,2 build", "belong together"},
		{"unknown default version", "--version-path /{version}/ --versions 1,2 --default-version 3 build", "--default-version"},
		{"a version twice", "--version-path /{version}/ --versions 1,1 --default-version 1 build", "--versions"},
		{"the index would be in the folder", ".", "--out"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := tool(t, dir, nil, append([]string{"index"}, strings.Fields(tt.args)...)...)
			usage, fault, _ := strings.Cut(r.stderr, "\ndocent: ")
			if r.status != 2 || r.stdout != "" || !strings.HasPrefix(usage, "usage: docent index [options] DIR\n") || !strings.Contains(fault, tt.want) {
				t.Errorf("%+v, want %q", r, tt.want)
			}
		})
	}
}

func TestIndex_Fails(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, args, want string
		environment      []string
	}{
		{"no such folder", "--site=" + siteURL + " nowhere", "nowhere", nil},
		{"a file", "--site=" + siteURL + " build/index.html", "build/index.html", nil},
		{"a folder without HTML", "--site=" + siteURL + " empty", "HTML", nil},
		{"no page that may be indexed", "--site=" + siteURL + " build/old", "nothing was written", nil},
		{"the folder of the index is missing", "--out=nowhere/docs.index --site=" + siteURL + " build", "nowhere", nil},
		{"the index is a folder", "--out=empty --site=" + siteURL + " build", "empty is not a file", nil},
		{"a key with a line break", "--site=" + siteURL + " build", "OPENAI_API_KEY", []string{"OPENAI_API_KEY=a\nb"}},
		{"a wrong base URL", "--site=" + siteURL + " build", "OPENAI_BASE_URL", []string{"OPENAI_API_KEY=" + testKey, "OPENAI_BASE_URL=api"}},
		{"a secret without a project", "--site=" + siteURL + " build", "GOOGLE_CLOUD_PROJECT", []string{"OPENAI_API_KEY=sm://key"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := smallSite(t)
			if err := os.Mkdir(filepath.Join(dir, "empty"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "docs.index"), []byte("as before"), 0o644); err != nil {
				t.Fatal(err)
			}
			r := tool(t, dir, tt.environment, append([]string{"index"}, strings.Fields(tt.args)...)...)
			if r.status != 1 || !strings.HasPrefix(r.stderr, "docent: ") || !strings.Contains(r.stderr, tt.want) {
				t.Errorf("%+v, want %q", r, tt.want)
			}
			onlyFiles(t, dir, "build", "docs.index", "empty")
			if text := readFile(t, filepath.Join(dir, "docs.index")); text != "as before" {
				t.Errorf("the old index is %q", text)
			}
		})
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A link that leads out of the folder must not put a file of the machine into an index
// that is published.
func TestIndex_LinkOutOfFolder(t *testing.T) {
	t.Parallel()
	dir := smallSite(t)
	if err := os.WriteFile(filepath.Join(dir, "private.html"), []byte(html("Private", "Passphrase: hunter2")), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../private.html", filepath.Join(dir, "build", "page.html")); err != nil {
		t.Fatal(err)
	}
	if r := tool(t, dir, nil, "index", "--site="+siteURL, "build"); r.status != 1 || !strings.Contains(r.stderr, "page.html") {
		t.Errorf("%+v", r)
	}
	onlyFiles(t, dir, "build", "private.html")
}

// newEmbeddings starts a stand-in for OpenAI, and returns the environment to use it.
func newEmbeddings(t *testing.T) (openai *standin.OpenAI, environment []string) {
	t.Helper()
	openai = standin.NewOpenAI(testKey, testWorkflow)
	base, stop, err := openai.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop() })
	return openai, []string{"OPENAI_API_KEY=" + testKey, "OPENAI_BASE_URL=" + base}
}

func TestIndex_Embeddings(t *testing.T) {
	t.Parallel()
	dir := smallSite(t)
	openai, environment := newEmbeddings(t)
	embedded := 0
	// index runs the command, which must embed a number of texts.
	index := func(texts int, args ...string) run {
		t.Helper()
		r := tool(t, dir, environment, append([]string{"index", "--site", siteURL, "build"}, args...)...)
		if r.status != 0 || r.stderr != "" {
			t.Fatalf("%+v", r)
		}
		embedded += texts
		if n := openai.Embedded(); n != embedded {
			t.Errorf("%d texts embedded, want %d in all: %s", n, embedded, r.stdout)
		}
		return r
	}
	r := index(6)
	if !regexp.MustCompile(`\nEmbedding 6 new of 6 pieces: about \d+ tokens, under 0\.0001 \$\nEmbedded 6 pieces: \d\d tokens, under 0\.0001 \$\n`).MatchString(r.stdout) {
		t.Errorf("first: %s", r.stdout)
	}
	s := loadIndex(t, filepath.Join(dir, "docs.index"))
	if pieces, vectors := vectorsOf(s); s.Model != "text-embedding-3-small" || s.Dimensions != 512 || pieces != 6 || vectors != 6 {
		t.Errorf("model %s, %d dimensions, %d of %d pieces have a vector", s.Model, s.Dimensions, vectors, pieces)
	}
	if r := index(0); !strings.Contains(r.stdout, "all 6 pieces are known already") {
		t.Errorf("again: %s", r.stdout)
	}
	if err := os.WriteFile(filepath.Join(dir, "build/limits/index.html"), []byte(html("Limits", "Memory: Two gigabytes are better.")), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "docs.index"), filepath.Join(dir, "published.index")); err != nil {
		t.Fatal(err)
	}
	index(1, "--previous", "published.index")
	index(0, "--no-embeddings")
	if s := loadIndex(t, filepath.Join(dir, "docs.index")); s.Model != "" {
		t.Error("embeddings with --no-embeddings")
	}
}

// TestIndex_KeyInSecretManager has a configuration that the service would not start
// with: only what the command needs must be right.
func TestIndex_KeyInSecretManager(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set("OPENAI_API_KEY=sm://test-project/openai-api-key", "GOOGLE_CLOUD_PROJECT=", "ALLOWED_ORIGINS=not an origin")
	if r := tool(t, smallSite(t), w.env, "index", "--site", siteURL, "build"); r.status != 0 || w.openai.Embedded() != 6 {
		t.Errorf("%+v", r)
	}
}

// The first build of a site has no published index yet, and a bad one must not break
// the build.
func TestIndex_PreviousUnreadable(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/html" {
			fmt.Fprint(w, "<!doctype html>")
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(srv.Close)
	for name, previous := range map[string]string{
		"404": srv.URL + "/docs.index", "HTML": srv.URL + "/html", "unreachable": "http://" + nowhere, "no file": "old.index", "not an index": "build/index.html",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			openai, environment := newEmbeddings(t)
			r := tool(t, smallSite(t), environment, "index", "--site", siteURL, "--previous", previous, "build")
			if r.status != 0 || !strings.HasPrefix(r.stderr, "docent: warning: no embeddings are taken from an earlier index: ") || !strings.Contains(r.stderr, strings.TrimPrefix(previous, "http://")) || strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("%+v", r)
			}
			if n := openai.Embedded(); n != 6 {
				t.Errorf("%d texts embedded, want all 6", n)
			}
		})
	}
}

func TestIndex_EmbeddingFails(t *testing.T) {
	t.Parallel()
	dir := smallSite(t)
	openai, environment := newEmbeddings(t)
	openai.Fail(standin.OutOfQuota)
	r := tool(t, dir, environment, "index", "--site", siteURL, "build")
	if r.status != 1 || !strings.HasPrefix(r.stderr, "docent: embedding: ") || strings.Contains(r.stderr, "partial") {
		t.Errorf("%+v", r)
	}
	onlyFiles(t, dir, "build")
}

// TestIndex_Interrupted interrupts a run that has made some of the embeddings. The next
// run must not pay for them again.
func TestIndex_Interrupted(t *testing.T) {
	t.Parallel()
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	tests := []struct {
		name   string
		fails  http.HandlerFunc
		signal os.Signal
		want   string
	}{
		{"by SIGTERM", hang, syscall.SIGTERM, "docent: interrupted\n"},
		{"by SIGINT", hang, os.Interrupt, "docent: interrupted\n"},
		{"by an error", says(http.StatusForbidden, "forbidden", "Not here."), nil, "docent: embedding: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var sections []string
			for i := range 639 {
				sections = append(sections, fmt.Sprintf("Section%d: Text number %d.", i, i))
			}
			dir := folder(t, map[string]string{"build/index.html": html("Long", sections...), "docs.index": "as before"})
			openai, environment := newEmbeddings(t)
			// Four batches of 128 texts are sent at once, so the fifth is sent when one of
			// them is done.
			fifth := make(chan struct{})
			later := func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body) // Then it is noticed that the client leaves.
				<-fifth
				tt.fails(w, r)
			}
			openai.Fail(standin.NewOpenAI(testKey, testWorkflow).ServeHTTP, later, later, later, func(w http.ResponseWriter, r *http.Request) {
				close(fifth)
				later(w, r)
			})
			cmd := command(dir, environment, "index", "--site", siteURL, "build")
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			<-fifth
			if tt.signal != nil {
				if err := cmd.Process.Signal(tt.signal); err != nil {
					t.Fatal(err)
				}
			}
			status := exitStatus(t, cmd.Wait())
			if status != 1 || !strings.Contains(stderr.String(), "docent: docs.index.partial has 128 new embeddings: run the command again") || !strings.Contains(stderr.String(), tt.want) {
				t.Errorf("exit status %d: %s", status, &stderr)
			}
			onlyFiles(t, dir, "build", "docs.index", "docs.index.partial")
			if text := readFile(t, filepath.Join(dir, "docs.index")); text != "as before" {
				t.Error("the old index has been changed")
			}

			r := tool(t, dir, environment, "index", "--site", siteURL, "build")
			if r.status != 0 || !strings.Contains(r.stdout, "Embedding 512 new of 640 pieces") || openai.Embedded() != 512 {
				t.Errorf("again: %+v", r)
			}
			if pieces, vectors := vectorsOf(loadIndex(t, filepath.Join(dir, "docs.index"))); pieces != 640 || vectors != 640 {
				t.Errorf("%d of %d pieces have a vector", vectors, pieces)
			}
			onlyFiles(t, dir, "build", "docs.index")
		})
	}
}

// TestIndex_Options holds the page of the documentation to the help, and both to what
// the commands accept.
func TestIndex_Options(t *testing.T) {
	t.Parallel()
	option := regexp.MustCompile(`(?m)^  (-[a-z-]+)`)
	helped := map[string][]string{}
	for _, name := range []string{"index", "search", "ask", "eval"} {
		for _, m := range option.FindAllStringSubmatch(tool(t, t.TempDir(), nil, name, "--help").stdout, -1) {
			helped[name] = append(helped[name], m[1])
			if r := tool(t, t.TempDir(), nil, name, m[1]); strings.Contains(r.stderr, "not defined") {
				t.Errorf("%s does not know %s", name, m[1])
			}
		}
	}
	page := readFile(t, "../../docs/indexing.md")
	var listed []string
	for _, row := range regexp.MustCompile(`(?m)^\| (`+"`--[^|]+"+`) \|`).FindAllStringSubmatch(page, -1) {
		for _, m := range regexp.MustCompile("`(--[a-z-]+)").FindAllStringSubmatch(row[1], -1) {
			listed = append(listed, m[1])
		}
	}
	if diff := cmp.Diff(helped["index"], listed); diff != "" {
		t.Errorf("options of index (-help +page):\n%s", diff)
	}
	for _, flag := range slices.Concat(helped["search"], helped["ask"], helped["eval"]) {
		if !strings.Contains(page, flag) {
			t.Errorf("the page does not have %s", flag)
		}
	}
}

// TestIndex_ProgressBar needs a terminal, which script makes.
func TestIndex_ProgressBar(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("script"); err != nil {
		t.Skip("script is not installed")
	}
	for name, tt := range map[string]struct {
		environment string
		want        bool
	}{"on a terminal": {"TERM=xterm", true}, "in CI": {"CI=true", false}, "on a dumb terminal": {"TERM=dumb", false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := smallSite(t)
			cmd := exec.CommandContext(t.Context(), "script", "--quiet", "--return", "--command", binary+" index --site "+siteURL+" build", filepath.Join(t.TempDir(), "typescript"))
			cmd.Dir, cmd.Env = dir, []string{tt.environment, "PATH=" + os.Getenv("PATH"), "SHELL=/bin/sh", "GORACE=atexit_sleep_ms=0"}
			output, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, output)
			}
			if got := bytes.Contains(output, []byte("\rReading [")); got != tt.want || bytes.Contains(output, []byte("\x1b")) != tt.want {
				t.Errorf("progress bar: %t, want %t: %q", got, tt.want, output)
			}
			if !bytes.Contains(output, []byte("Read 3 pages")) {
				t.Errorf("%q", output)
			}
		})
	}
}

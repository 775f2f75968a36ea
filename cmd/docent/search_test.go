package main_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	passages "docent/internal/docs"
	"docent/internal/testkit/testindex"
)

// manual is a site in two languages and two versions. The title of its first page has
// a character that turns text around on a terminal.
func manual() *passages.Site {
	section := func(anchor, heading, text string) passages.Section {
		s := passages.Section{Anchor: anchor, Text: text}
		if heading != "" {
			s.Headings = []string{heading}
		}
		return s
	}
	long := "Download the archive.\n\n```\ntar xf archive.tar\n```\n\n" + strings.Repeat("Installing takes a while on an old machine. ", 20)
	return &passages.Site{
		Language: "en", VersionPath: "/docs/{version}/", Versions: []string{"2", "1"}, DefaultVersion: "2",
		Pages: []passages.Page{
			{URL: siteURL + "/docs/install/", Title: "Install\u202eed", Language: "en", Version: "2", Sections: []passages.Section{
				section("", "", "How to install the program."), section("linux", "On Linux", long),
			}},
			{URL: siteURL + "/docs/1/install/", Title: "Install 1", Language: "en", Version: "1", Sections: []passages.Section{section("linux", "On Linux", "Install it by hand.")}},
			{URL: siteURL + "/de/install/", Title: "Installieren", Language: "de", Sections: []passages.Section{section("über-linux", "Über Linux", "Wie man es installiert, zum Beispiel als install.")}},
		},
	}
}

// writeIndex writes a site as docs.index into a new folder, which it returns.
func writeIndex(t *testing.T, s *passages.Site) string {
	t.Helper()
	return filepath.Dir(testindex.Write(t, s))
}

// searched is what `docent search --json` prints.
type searched []struct {
	URL, Title string
	Headings   []string
	Score      float64
}

// search runs a search with --json.
func search(t *testing.T, dir string, environment []string, args ...string) searched {
	t.Helper()
	r := tool(t, dir, environment, append([]string{"search", "--json", "--index=docs.index"}, args...)...)
	var found searched
	if err := json.Unmarshal([]byte(r.stdout), &found); err != nil || r.status != 0 || strings.Count(r.stdout, "\n") != 1 {
		t.Fatalf("%v: %+v", err, r)
	}
	return found
}

func TestSearch(t *testing.T) {
	t.Parallel()
	dir := writeIndex(t, manual())
	tests := []struct {
		name, args string
		want       []string
	}{
		{"the default version", "install linux", []string{"/docs/install/#linux", "/docs/install/"}},
		{"flags after the question", "install linux -n 1", []string{"/docs/install/#linux"}},
		{"the version of the page", "linux --page " + siteURL + "/docs/1/install/", []string{"/docs/1/install/#linux"}},
		{"the language", "--language de install", []string{"/de/install/#%C3%BCber-linux"}},
		{"words like flags", "-n 1 -- --linux", []string{"/docs/install/#linux"}},
		{"nothing", "xylophone", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, f := range search(t, dir, nil, strings.Fields(tt.args)...) {
				got = append(got, strings.TrimPrefix(f.URL, siteURL))
				if f.Title == "" || strings.Contains(f.Title, "\u202e") || f.Headings == nil || f.Score <= 0 {
					t.Errorf("%+v", f)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSearch_Text(t *testing.T) {
	t.Parallel()
	dir := writeIndex(t, manual())
	r := tool(t, dir, []string{"DOCS_INDEX=docs.index"}, "search", "install", "on", "linux")
	for _, want := range []string{" 1  ", "  Install ed > On Linux\n", "    " + siteURL + "/docs/install/#linux\n", "    Download the archive.", "\n\n 2  ", "    How to install the program.\n"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q in\n%s", want, r.stdout)
		}
	}
	for line := range strings.Lines(r.stdout) {
		if n := len([]rune(line)); n > 81 { // With its end.
			t.Errorf("%d characters: %q", n, line)
		}
	}
	if r.status != 0 || r.stderr != "" {
		t.Errorf("%+v", r)
	}
	if r := tool(t, dir, nil, "search", "--index=docs.index", "xylophone"); r.status != 0 || r.stdout != "Nothing found.\n" {
		t.Errorf("nothing: %+v", r)
	}
}

func TestSearch_Wrong(t *testing.T) {
	t.Parallel()
	dir := writeIndex(t, manual())
	if err := os.WriteFile(filepath.Join(dir, "page.html"), []byte("<!doctype html>"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"no question", []string{"--index=docs.index"}, 2, "no question"},
		{"empty question", []string{"--index=docs.index", " ", ""}, 2, "no question"},
		{"no index", []string{"install"}, 2, "DOCS_INDEX"},
		{"too few", []string{"--index=docs.index", "-n", "0", "install"}, 2, "-n must be"},
		{"too many", []string{"--index=docs.index", "-n", "101", "install"}, 2, "-n must be"},
		{"not a number", []string{"--index=docs.index", "-n", "many", "install"}, 2, "-n"},
		{"unknown flag", []string{"--index=docs.index", "--deep", "install"}, 2, "--deep"},
		{"a missing file", []string{"--index=nowhere.index", "install"}, 1, "nowhere.index"},
		{"not an index", []string{"--index=page.html", "install"}, 1, "index"},
		{"http elsewhere", []string{"--index=http://docs.example.com/docs.index", "install"}, 1, "https"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := tool(t, dir, nil, append([]string{"search"}, tt.args...)...)
			if r.status != tt.status || r.stdout != "" || !strings.Contains(r.stderr, tt.want) || strings.HasPrefix(r.stderr, "usage: ") != (tt.status == 2) {
				t.Errorf("%+v, want status %d and %q", r, tt.status, tt.want)
			}
		})
	}
}

// TestSearch_Vectors searches an index whose vectors need a key.
func TestSearch_Vectors(t *testing.T) {
	t.Parallel()
	dir := smallSite(t)
	openai, environment := newEmbeddings(t)
	if r := tool(t, dir, environment, "index", "--site", siteURL, "build"); r.status != 0 {
		t.Fatalf("%+v", r)
	}
	before := openai.Embedded()
	if search(t, dir, environment, "Where is the archive?"); openai.Embedded() != before+1 {
		t.Error("the question was not embedded")
	}
	refused := says(http.StatusForbidden, "forbidden", "Not here.")
	openai.Fail(refused, refused, refused)
	for name, tt := range map[string]struct {
		environment []string
		why         string
	}{"without a key": {nil, ", because OPENAI_API_KEY is not set\n"}, "with a key that is refused": {environment, ": "}} {
		r := tool(t, dir, tt.environment, "search", "--index=docs.index", "Where is the archive?")
		if r.status != 0 || !strings.HasPrefix(r.stderr, "docent: searched by words alone"+tt.why) || !strings.Contains(r.stdout, "/install/#linux") {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestSearch_URL(t *testing.T) {
	t.Parallel()
	dir := writeIndex(t, manual())
	srv := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(srv.Close)
	if r := tool(t, t.TempDir(), nil, "search", "--index", srv.URL+"/docs.index", "linux"); r.status != 0 || !strings.Contains(r.stdout, "#linux") {
		t.Errorf("%+v", r)
	}
}

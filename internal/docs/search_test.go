package docs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"docent/internal/docs"
)

// embedFunc makes vectors with a function.
type embedFunc func(texts []string) ([][]float32, error)

func (e embedFunc) Embed(_ context.Context, _ string, _ int, texts []string) ([][]float32, error) {
	return e(texts)
}

// constant is an embedder that makes the same vector of every text.
func constant(v ...float32) embedFunc {
	return func(texts []string) ([][]float32, error) {
		var all [][]float32
		for range texts {
			all = append(all, v)
		}
		return all, nil
	}
}

const base = "https://docs.example.com"

// newPage returns a page of sections, each written as "anchor: text". The heading of
// an anchor is the anchor itself.
func newPage(path, title string, sections ...string) docs.Page {
	p := docs.Page{URL: base + path, Title: title}
	for _, s := range sections {
		anchor, text, _ := strings.Cut(s, ": ")
		section := docs.Section{Anchor: anchor, Text: text}
		if anchor != "" {
			section.Headings = []string{anchor}
		}
		p.Sections = append(p.Sections, section)
	}
	return p
}

func inLanguage(code string, p docs.Page) docs.Page {
	p.Language = code
	return p
}

func ofVersion(version string, p docs.Page) docs.Page {
	p.Version = version
	return p
}

func english(pages ...docs.Page) *docs.Site {
	return &docs.Site{Language: "en", Pages: pages}
}

// search returns the URLs that a search finds, without the site's origin.
func search(t *testing.T, site *docs.Site, q docs.Query) []string {
	t.Helper()
	found, err := docs.NewIndex(site, nil).Search(t.Context(), q, 10)
	if err != nil {
		t.Fatal(err)
	}
	return urls(found)
}

func urls(f docs.Found) []string {
	var all []string
	for _, p := range f.Passages {
		all = append(all, strings.TrimPrefix(p.URL, base))
	}
	return all
}

func TestSearch_Words(t *testing.T) {
	t.Parallel()
	// Each case asks on a site of a section that fits and one that does not.
	tests := []struct {
		name, language, text, question string
		found                          bool
	}{
		{"a word", "en", "Set the timeout.", "timeout", true},
		{"another word", "en", "Set the timeout.", "retries", false},
		{"case", "en", "Set the TIMEOUT.", "Timeout", true},
		{"another form", "en", "How sessions expire.", "expiring session", true},
		{"a stop word alone", "en", "What is the use?", "what is the", false},
		{"snake case, by a part", "en", "Set `rate_limit_store`.", "limit", true},
		{"snake case, whole", "en", "Set RATE_LIMIT_STORE.", "rate_limit_store", true},
		{"camel case, by a part", "en", "Call getUserById now.", "user", true},
		{"camel case, whole in lower case", "en", "Call getUserById now.", "getuserbyid", true},
		{"an acronym in camel case", "en", "The HTTPServer type.", "server", true},
		{"a kebab-case option", "en", "Pass --base-url to it.", "base url", true},
		{"dunder", "en", "Override __init__ there.", "init", true},
		{"a path", "en", "Edit src/config.yaml.", "config.yaml", true},
		{"an apostrophe", "en", "The server's port.", "server", true},
		{"a typographic apostrophe", "en", "It doesn’t restart.", "doesn't restart", true},
		{"an accent in two code points", "fr", "Sécurité.", "se\u0301curite\u0301", true},
		{"full-width letters", "en", "API keys", "ＡＰＩ", true},
		{"a ligature", "en", "A config file.", "conﬁg", true},
		{"digits", "en", "Error 429 is sent.", "429", true},
		{"French elision", "fr", "Configurer l'authentification.", "authentification", true},
		{"French, another form", "fr", "Les déploiements.", "déploiement", true},
		{"German, another form", "de", "Die Einstellungen ändern.", "Einstellung", true},
		{"German compound, by its first part", "de", "Das Sitzungstoken läuft ab. Eine Sitzung endet.", "Sitzungen", true},
		{"German compound, in the question", "de", "Das Token der Sitzung.", "Sitzungstoken", true},
		{"German compound of three, in the question", "de", "Der Schlüssel der Datenbank im Zugriff.", "Datenbankzugriffsschlüssel", true},
		{"Dutch compound", "nl", "Het wachtwoord van de gebruiker.", "gebruikerswachtwoord", true},
		{"no compounds in English", "en", "A pass and a word.", "password", false},
		{"Russian, another form", "ru", "Настройка серверов.", "сервер", true},
		{"Arabic with an article", "ar", "تثبيت الخادم", "خادم", true},
		{"Japanese", "ja", "設定ファイルを編集します。", "設定", true},
		{"Japanese, other words", "ja", "設定ファイルを編集します。", "料金", false},
		{"Japanese in an English page", "en", "See 設定ファイル for more.", "ファイル", true},
		{"Chinese, one letter", "zh", "这是 键 。", "键", true},
		{"Korean with a particle", "ko", "서버를 시작합니다.", "서버", true},
		{"Thai", "th", "การตั้งค่าเซิร์ฟเวอร์", "ตั้งค่า", true},
		{"a language without a stemmer", "pl", "Konfiguracja serwera.", "konfiguracja", true},
		{"a hash", "en", strings.Repeat("0a", 50) + " is it.", strings.Repeat("0a", 50), true},
		{"punctuation alone", "en", "Set the timeout.", "?!… -- ~/", false},
		{"emoji", "en", "Ready 🎉", "🎉", false},
		{"nothing", "en", "Set the timeout.", "", false},
		{"invalid UTF-8", "en", "Set the timeout.", "time\xffout timeout", true},
		{"control characters", "en", "Set the timeout.", "\x00timeout\x1b", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			site := english(
				inLanguage(tt.language, newPage("/a", "", "x: "+tt.text)),
				inLanguage(tt.language, newPage("/b", "", "y: 12345 qwx")),
			)
			got := search(t, site, docs.Query{Question: tt.question})
			var want []string
			if tt.found {
				want = []string{"/a#x"}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
		})
	}
}

// The scores of BM25 with k1 1.2 and b 0.75 for four sections, by hand: the weighted
// lengths are 6, 6, 5 and 7, their mean 6.
func TestSearch_BM25(t *testing.T) {
	t.Parallel()
	site := english(newPage("/a", "site",
		"apple: pear fig",       // 3 apple, 1 site, pear, fig
		"plum: apple apple",     // 3 plum, 1 site, 2 apple
		"quince: fig",           // 3 quince, 1 site, fig
		"cherry: fig plum plum", // 3 cherry, 1 site, fig, 2 plum
	))
	found, err := docs.NewIndex(site, nil).Search(t.Context(), docs.Query{Question: "apple"}, 10)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range found.Passages {
		got = append(got, fmt.Sprintf("%s %.4f", p.Headings[0], p.Score))
	}
	// idf = ln(1+(4-2+.5)/(2+.5)) = ln 2; tf 3: 3·2.2/(3+1.2) = 1.5714; tf 2: 2·2.2/(2+1.2) = 1.375.
	want := []string{"apple 1.0892", "plum 0.9531"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("scores (-want +got):\n%s", diff)
	}
}

func TestSearch_Order(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		site *docs.Site
		q    docs.Query
		want []string
	}{
		{
			"a heading weighs more than text",
			english(newPage("/a", "", "one: timeout setup"), newPage("/b", "", "timeout: one setup")),
			docs.Query{Question: "timeout"},
			[]string{"/b#timeout", "/a#one"},
		},
		{
			"the page's title is the heading of its beginning",
			english(newPage("/a", "Install", ": Begin here.", "steps: Do this and that.")),
			docs.Query{Question: "install"},
			[]string{"/a", "/a#steps"},
		},
		{
			"a rare word weighs more than a common one",
			english(newPage("/a", "", "1: server server", "2: server zone", "3: server", "4: server port")),
			docs.Query{Question: "server zone"},
			[]string{"/a#2", "/a#1", "/a#3", "/a#4"},
		},
		{
			"the previous question counts",
			english(newPage("/a", "", "1: webhooks secret", "2: tokens secret")),
			docs.Query{Question: "its secret", Previous: "How do I set up webhooks?"},
			[]string{"/a#1", "/a#2"},
		},
		{
			"of equals the first of the site",
			english(newPage("/a", "", "1: same"), newPage("/b", "", "2: same")),
			docs.Query{Question: "same"},
			[]string{"/a#1", "/b#2"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, search(t, tt.site, tt.q)); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
		})
	}
}

// A section with a compound is found by a part that stands alone elsewhere.
func TestSearch_Compound(t *testing.T) {
	t.Parallel()
	site := english(inLanguage("de", newPage("/a", "", "1: Das Sitzungstoken läuft ab.", "2: Ein Token und noch ein Token.", "3: Die Sitzung.")))
	if diff := cmp.Diff([]string{"/a#2", "/a#1"}, search(t, site, docs.Query{Question: "token"})); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
}

func TestSearch_Language(t *testing.T) {
	t.Parallel()
	site := english(
		inLanguage("en", newPage("/en", "", "1: docker install", "2: only")),
		inLanguage("de", newPage("/de", "", "1: docker installieren")),
		inLanguage("ja", newPage("/ja", "", "1: docker 設定")),
	)
	tests := []struct {
		name, question, page, accept string
		want                         []string
	}{
		{"the read page's", "docker", base + "/de", "ja", []string{"/de#1"}},
		{"the read page's, at another origin", "docker", "https://preview.example.net/de.html", "ja", []string{"/de#1"}},
		{"Accept-Language where no page is known", "docker", "", "fr, ja;q=0.8, de;q=0.9", []string{"/de#1"}},
		{"Accept-Language with a region", "docker", "", "ja-JP", []string{"/ja#1"}},
		{"the main one where nothing is known", "docker", "", "", []string{"/en#1"}},
		{"the main one where Accept-Language is none", "docker", "", "*;q=x,,", []string{"/en#1"}},
		{"the main one for a language that the site does not have", "docker", "", "fr", []string{"/en#1"}},
		{"all where no word matches in the reader's", "設定", base + "/en", "", []string{"/ja#1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := search(t, site, docs.Query{Question: tt.question, Page: tt.page, Languages: tt.accept})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSearch_Version(t *testing.T) {
	t.Parallel()
	site := english(
		ofVersion("1.x", newPage("/docs/1.x/a", "", "1: word")),
		ofVersion("2.x", newPage("/docs/a", "", "2: word")),
		ofVersion("next", newPage("/docs/next/a", "", "n: word")),
		newPage("/blog", "", "b: word"),
	)
	site.VersionPath, site.Versions, site.DefaultVersion = "/docs/{version}/", []string{"1.x", "2.x", "next"}, "2.x"
	tests := []struct {
		name, page string
		want       []string
	}{
		{"the read page's", base + "/docs/1.x/a", []string{"/docs/1.x/a#1", "/blog#b"}},
		{"by the path of a page that the index does not have", base + "/docs/next/new", []string{"/docs/next/a#n", "/blog#b"}},
		{"the default for a path without a version", base + "/docs/b", []string{"/docs/a#2", "/blog#b"}},
		{"the default for a page without a version", base + "/blog", []string{"/docs/a#2", "/blog#b"}},
		{"the default where no page is known", "", []string{"/docs/a#2", "/blog#b"}},
		{"the default where the page is not a URL", "%zz", []string{"/docs/a#2", "/blog#b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := search(t, site, docs.Query{Question: "word", Page: tt.page})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
		})
	}
}

// withVectors gives each section of a page a vector.
func withVectors(p docs.Page, vectors ...[]float32) *docs.Site {
	for i, v := range vectors {
		if v == nil {
			continue
		}
		p.Sections[i].Pieces = docs.Split(p.Sections[i].Text)
		for j := range p.Sections[i].Pieces {
			p.Sections[i].Pieces[j].SetVector(v)
		}
	}
	return &docs.Site{Language: "en", Model: "test", Dimensions: len(vectors[0]), Pages: []docs.Page{p}}
}

func TestSearch_Fused(t *testing.T) {
	t.Parallel()
	site := func() *docs.Site {
		return withVectors(
			newPage("/a", "", "1: word", "2: word word other", "3: nothing", "4: word"),
			[]float32{0, 1}, []float32{0.6, 0.8}, []float32{1, 0}, nil,
		)
	}
	tests := []struct {
		name     string
		embedder docs.Embedder
		want     []string
		without  string
	}{
		// By words 2, 1, 4; by vectors 3, 2, 1: 2 has 1/11+1/12, 3 has 1/11, 1 has 1/12+1/13.
		{"both", constant(1, 0), []string{"/a#2 0.1742", "/a#1 0.1603", "/a#3 0.0909", "/a#4 0.0769"}, ""},
		{"no embedder", nil, []string{"/a#2", "/a#1", "/a#4"}, docs.ErrNoEmbedder.Error()},
		{"a wrong dimension", constant(1, 0, 0), []string{"/a#2", "/a#1", "/a#4"}, "dimensions"},
		{"no direction", constant(0, 0), []string{"/a#2", "/a#1", "/a#4"}, "direction"},
		{
			"a call that fails", embedFunc(func([]string) ([][]float32, error) { return nil, errors.New("down") }),
			[]string{"/a#2", "/a#1", "/a#4"},
			"down",
		},
		{
			"no answer", embedFunc(func([]string) ([][]float32, error) { return nil, nil }),
			[]string{"/a#2", "/a#1", "/a#4"},
			"dimensions",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			found, err := docs.NewIndex(site(), tt.embedder).Search(t.Context(), docs.Query{Question: "word"}, 10)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range found.Passages {
				url := strings.TrimPrefix(p.URL, base)
				if tt.without == "" {
					url += fmt.Sprintf(" %.4f", p.Score)
				}
				got = append(got, url)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
			if without := fmt.Sprint(found.WithoutVectors); (tt.without == "") != (found.WithoutVectors == nil) || !strings.Contains(without, tt.without) {
				t.Errorf("without vectors because of %q, want %q", without, tt.without)
			}
		})
	}
}

// slow is an embedder that answers after a time, or not at all once its caller has
// gone.
type slow time.Duration

func (d slow) Embed(ctx context.Context, _ string, _ int, texts []string) ([][]float32, error) {
	select {
	case <-time.After(time.Duration(d)):
		return constant(1, 0)(texts)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestSearch_SlowEmbedder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		after   time.Duration
		took    time.Duration
		without bool
	}{
		{"in time", 799 * time.Millisecond, 799 * time.Millisecond, false},
		{"too late", 801 * time.Millisecond, 800 * time.Millisecond, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				x := docs.NewIndex(withVectors(newPage("/a", "", "1: word"), []float32{1, 0}), slow(tt.after))
				began := time.Now()
				found, err := x.Search(t.Context(), docs.Query{Question: "word"}, 10)
				if err != nil || len(found.Passages) != 1 {
					t.Fatalf("found %v, error %v", found, err)
				}
				if took := time.Since(began); took != tt.took || (found.WithoutVectors != nil) != tt.without {
					t.Errorf("took %v, without vectors because of %v", took, found.WithoutVectors)
				}
			})
		})
	}
}

func TestSearch_Canceled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	x := docs.NewIndex(withVectors(newPage("/a", "", "1: word"), []float32{1, 0}), embedFunc(func([]string) ([][]float32, error) {
		cancel()
		return nil, errors.New("gone")
	}))
	if _, err := x.Search(ctx, docs.Query{Question: "word"}, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
}

func TestSearch_EmbeddedText(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		q    docs.Query
		want []string
	}{
		{"the question", docs.Query{Question: "How?"}, []string{"How?"}},
		{"with the one before", docs.Query{Question: "And then?", Previous: "How?"}, []string{"And then?\nHow?"}},
		{"a long one is cut", docs.Query{Question: strings.Repeat("字", 10_000)}, []string{strings.Repeat("字", 5000)}},
		{"none for nothing", docs.Query{Question: " \n"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			x := docs.NewIndex(withVectors(newPage("/a", "", "1: word"), []float32{1, 0}), embedFunc(func(texts []string) ([][]float32, error) {
				got = append(got, texts...)
				return constant(1, 0)(texts)
			}))
			if _, err := x.Search(t.Context(), tt.q, 10); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("embedded (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPassages_ReadPage(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range 12 {
		many = append(many, fmt.Sprintf("s%d: word", i))
	}
	site := english(
		newPage("/many", "Many", many...),
		newPage("/read", "Read", "1: word among "+strings.Repeat("other ", 50), "2: nothing", "3: word among "+strings.Repeat("more ", 60), "4: word among "+strings.Repeat("most ", 70)),
	)
	tests := []struct {
		name, page string
		want       []string
		title      string
	}{
		{"two places", base + "/read", []string{"/many#s0", "/many#s1", "/many#s2", "/many#s3", "/many#s4", "/many#s5", "/read#1", "/read#3"}, "Read"},
		{"none for a page that is among the best", base + "/many", []string{"/many#s0", "/many#s1", "/many#s2", "/many#s3", "/many#s4", "/many#s5", "/many#s6", "/many#s7"}, "Many"},
		{"none for an unknown page", base + "/x", []string{"/many#s0", "/many#s1", "/many#s2", "/many#s3", "/many#s4", "/many#s5", "/many#s6", "/many#s7"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			found, err := docs.NewIndex(site, nil).Passages(t.Context(), docs.Query{Question: "word", Page: tt.page})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, urls(found)); diff != "" {
				t.Errorf("passages (-want +got):\n%s", diff)
			}
			if found.PageTitle != tt.title {
				t.Errorf("page %q, want %q", found.PageTitle, tt.title)
			}
		})
	}
}

func TestPassages_Excerpt(t *testing.T) {
	t.Parallel()
	filler := strings.Repeat("Some words of no use.\n\n", 400)
	tests := []struct {
		name, text string
		has        []string
	}{
		{"around the words", filler + "Here is the needle.\n\n" + filler, []string{"\nHere is the needle.\n"}},
		{"at the beginning", "The needle is first.\n\n" + filler, []string{"The needle is first.\n"}},
		{"at the end", filler + "At last the needle.", []string{"\nAt last the needle."}},
		{"in one long line", strings.Repeat("word ", 2000) + "needle " + strings.Repeat("word ", 2000), []string{" needle "}},
		{"in letters of three bytes", strings.Repeat("字", 9000) + " needle " + strings.Repeat("字", 9000), []string{" needle "}},
		{
			"within a code block", filler + "```go\n" + strings.Repeat("x := 1\n", 1000) + "needle()\n" + strings.Repeat("y := 2\n", 1000) + "```\n\n" + filler,
			[]string{"```\nx := 1\n", "\nneedle()\n", "\ny := 2\n```"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			site := english(newPage("/a", "", "1: "+tt.text))
			found, err := docs.NewIndex(site, nil).Passages(t.Context(), docs.Query{Question: "needle"})
			if err != nil || len(found.Passages) != 1 {
				t.Fatalf("found %d passages, error %v", len(found.Passages), err)
			}
			got := found.Passages[0].Text
			for _, part := range tt.has {
				if !strings.Contains(got, part) {
					t.Errorf("no %q in %q … %q", part, got[:100], got[len(got)-100:])
				}
			}
			if n := utf8.RuneCountInString(got); n > docs.MaxPassageLength || n < docs.MaxPassageLength*3/4 {
				t.Errorf("%d characters", n)
			}
		})
	}
}

// The piece whose vector fits best is the one that is shown.
func TestPassages_ExcerptByVector(t *testing.T) {
	t.Parallel()
	site := withVectors(newPage("/a", "", "1: "+strings.Repeat("first half\n", 1000)+strings.Repeat("second half\n", 1000)), []float32{1, 0})
	pieces := site.Pages[0].Sections[0].Pieces
	pieces[len(pieces)-1].SetVector([]float32{0, 1})
	found, err := docs.NewIndex(site, constant(0, 1)).Passages(t.Context(), docs.Query{Question: "first"})
	if err != nil || len(found.Passages) != 1 {
		t.Fatalf("found %d passages, error %v", len(found.Passages), err)
	}
	if text := found.Passages[0].Text; strings.Contains(text, "first") {
		t.Errorf("the text is of another piece: %.40q", text)
	}
}

func TestPassages_Link(t *testing.T) {
	t.Parallel()
	for anchor, want := range map[string]string{
		"":            "/a",
		"plain":       "/a#plain",
		"with space":  "/a#with%20space",
		"設定":          "/a#%E8%A8%AD%E5%AE%9A",
		"100%":        "/a#100%25",
		`<script>"'`:  "/a#%3Cscript%3E%22%27",
		"a#b?c/d&e=f": "/a#a%23b?c/d&e=f",
	} {
		p := newPage("/a", "Title")
		if got := strings.TrimPrefix(p.Link(&docs.Section{Anchor: anchor}), base); got != want {
			t.Errorf("%q: link %q, want %q", anchor, got, want)
		}
	}
}

// No question makes a search fail, and what is found holds the bounds.
func FuzzSearch(f *testing.F) {
	long := strings.Repeat("words and code\n```\nx := 1\n", 500)
	site := english(
		inLanguage("en", newPage("/en", "Title", "1: alpha getUserById "+long, "2: "+long+"beta")),
		inLanguage("de", newPage("/de", "Titel", "1: Einstellungen "+long)),
		inLanguage("ja", newPage("/ja", "題", "1: "+strings.Repeat("設定ファイル", 1500))),
		inLanguage("ar", newPage("/ar", "عنوان", "1: تثبيت البرنامج")),
	)
	x := docs.NewIndex(site, nil)
	for _, q := range []string{"", "alpha", "l'été", "設定", "تثبيت", "x\xff", "A_b", "ﬁ", "don’t", "𝒜𝓁𝓅𝒽𝒶"} {
		f.Add(q, "", "/de", "de")
	}
	f.Fuzz(func(t *testing.T, question, previous, page, languages string) {
		found, err := x.Passages(t.Context(), docs.Query{Question: question, Previous: previous, Page: page, Languages: languages})
		if err != nil {
			t.Fatal(err)
		}
		sum := 0
		for _, p := range found.Passages {
			n := utf8.RuneCountInString(p.Text)
			sum += n
			if n > docs.MaxPassageLength || !utf8.ValidString(p.Text) {
				t.Errorf("%d characters of text, valid UTF-8: %v", n, utf8.ValidString(p.Text))
			}
		}
		if len(found.Passages) > docs.MaxPassages || sum > docs.MaxPassagesLength {
			t.Errorf("%d passages of %d characters", len(found.Passages), sum)
		}
	})
}

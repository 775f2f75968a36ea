package site_test

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"docent/internal/docs"
	"docent/internal/docs/site"
)

var update = flag.Bool("update", false, "write the golden files again")

// A generator is one that built a site from the small pages in testdata/generators.
// Some of the site's files are in built, as the generator wrote them: build.sh.
type generator struct {
	name    string
	options site.Options
	// pages are the files that become pages, by their URLs.
	pages map[string]string
	// left are the files that are left out.
	left []string
	// headings, content and blocks are the URLs of the pages that all sites have.
	headings, content, blocks string
	// tab is what the generator makes of a tab in code.
	tab string
	// chrome matches what is not content, besides the elements for navigation.
	chrome func(*html.Node) bool
}

const host = "https://docs.example.com"

var generators = []generator{
	{
		name:    "docusaurus",
		options: site.Options{VersionPath: "/docs/{version}/", Versions: []string{"next", "1.0"}, DefaultVersion: "1.0"},
		pages: map[string]string{
			host + "/docs/blocks":          "docs/blocks/index.html",
			host + "/docs/headings":        "docs/headings/index.html",
			host + "/docs/next/content":    "docs/next/content/index.html",
			host + "/ja/docs/headings":     "ja/docs/headings/index.html",
			host + "/blog/first-blog-post": "blog/first-blog-post/index.html",
		},
		left:     []string{"404.html", "docs/hidden/index.html", "docs/old-headings/index.html"},
		headings: host + "/docs/headings",
		content:  host + "/docs/next/content",
		blocks:   host + "/docs/blocks",
		tab:      "\t",
		chrome:   hasClass("hash-link", "theme-doc-version-badge", "theme-doc-version-banner", "theme-doc-toc-mobile", "theme-doc-footer", "pagination-nav", "table-of-contents", "theme-announcement-bar"),
	},
	{
		name:    "vitepress",
		options: site.Options{Base: host + "/handbook/"},
		pages: map[string]string{
			host + "/handbook/":            "index.html",
			host + "/handbook/blocks":      "blocks.html",
			host + "/handbook/content":     "content.html",
			host + "/handbook/headings":    "headings.html",
			host + "/handbook/ja/headings": "ja/headings.html",
		},
		left:     []string{"404.html", "hidden.html"},
		headings: host + "/handbook/headings",
		content:  host + "/handbook/content",
		blocks:   host + "/handbook/blocks",
		tab:      "\t",
		chrome:   hasClass("header-anchor", "VPLocalNav", "VPDocAside", "VPDocFooter", "line-numbers-wrapper"),
	},
	{
		name: "mkdocs",
		pages: map[string]string{
			host + "/handbook/blocks/":      "blocks/index.html",
			host + "/handbook/content/":     "content/index.html",
			host + "/handbook/headings/":    "headings/index.html",
			host + "/handbook/ja/headings/": "ja/headings/index.html",
		},
		left:     []string{"hidden/index.html", "old-anchor/index.html", "old-headings/index.html"},
		headings: host + "/handbook/headings/",
		content:  host + "/handbook/content/",
		blocks:   host + "/handbook/blocks/",
		tab:      "    ",
		chrome:   hasClass("headerlink", "md-banner", "md-sidebar", "md-content__button", "linenos", "md-skip", "md-path"),
	},
	{
		name: "starlight",
		pages: map[string]string{
			host + "/guides/blocks/":      "guides/blocks/index.html",
			host + "/guides/content/":     "guides/content/index.html",
			host + "/guides/headings/":    "guides/headings/index.html",
			host + "/ja/guides/headings/": "ja/guides/headings/index.html",
		},
		left:     []string{"ja/guides/content/index.html", "old-headings/index.html"},
		headings: host + "/guides/headings/",
		content:  host + "/guides/content/",
		blocks:   host + "/guides/blocks/",
		tab:      "  ",
		chrome:   hasClass("sl-banner", "sl-anchor-link", "right-sidebar", "pagination-links", "sl-hidden"),
	},
	{
		name: "hugo",
		pages: map[string]string{
			host + "/handbook/docs/blocks/":      "docs/blocks/index.html",
			host + "/handbook/docs/content/":     "docs/content/index.html",
			host + "/handbook/docs/headings/":    "docs/headings/index.html",
			host + "/handbook/ja/docs/headings/": "ja/docs/headings/index.html",
			host + "/handbook/blog/first/":       "blog/first/index.html",
		},
		left:     []string{"docs/hidden/index.html", "docs/old-blocks/index.html"},
		headings: host + "/handbook/docs/headings/",
		content:  host + "/handbook/docs/content/",
		blocks:   host + "/handbook/docs/blocks/",
		tab:      "\t",
		chrome:   hasClass("anchor", "page-nav", "edit-page", "docs-toc", "lnt"),
	},
}

// hasClass matches an element with one of the classes.
func hasClass(classes ...string) func(*html.Node) bool {
	return func(n *html.Node) bool {
		return slices.ContainsFunc(strings.Fields(attribute(n, "class")), func(class string) bool {
			return slices.Contains(classes, class)
		})
	}
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func (g generator) files() fs.FS {
	return os.DirFS(filepath.Join("testdata", "generators", "built", g.name))
}

// read reads the generator's site.
func (g generator) read(t *testing.T) (*docs.Site, site.Report) {
	t.Helper()
	s, report, err := site.Read(t.Context(), g.files(), g.options)
	if err != nil {
		t.Fatal(err)
	}
	return s, report
}

// What is read of each site is in its golden file.
func TestGenerators_Golden(t *testing.T) {
	t.Parallel()
	for _, g := range generators {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			s, report := g.read(t)
			var got bytes.Buffer
			fmt.Fprintf(&got, "language %s, %d pages, %d sections\n", s.Language, report.Pages, report.Sections)
			for _, left := range report.Left {
				fmt.Fprintf(&got, "left out: %s: %s\n", left.Path, left.Reason)
			}
			for _, warning := range report.Warnings {
				fmt.Fprintf(&got, "warning: %s\n", warning)
			}
			for _, p := range s.Pages {
				fmt.Fprintf(&got, "\n======== %s\ntitle %q, language %q, version %q\n", p.URL, p.Title, p.Language, p.Version)
				for _, section := range p.Sections {
					fmt.Fprintf(&got, "\n---- #%s %q\n%s\n", section.Anchor, section.Headings, section.Text)
				}
			}
			golden := filepath.Join("testdata", "generators", g.name+".golden")
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("the site differs from %s; -update writes it again (-want +got):\n%s", golden, diff)
			}
		})
	}
}

func TestGenerators_EveryFileOnce(t *testing.T) {
	t.Parallel()
	for _, g := range generators {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			s, report := g.read(t)
			var pages, left []string
			for _, p := range s.Pages {
				pages = append(pages, p.URL)
			}
			slices.Sort(pages)
			var want []string
			files := slices.Clone(g.left)
			for address, file := range g.pages {
				want = append(want, address)
				files = append(files, file)
			}
			slices.Sort(want)
			if diff := cmp.Diff(want, pages); diff != "" {
				t.Errorf("pages (-want +got):\n%s", diff)
			}
			for _, l := range report.Left {
				left = append(left, l.Path)
				if l.Reason == "" {
					t.Errorf("%s is left out without a reason", l.Path)
				}
			}
			slices.Sort(left)
			if diff := cmp.Diff(g.left, left); diff != "" {
				t.Errorf("left out (-want +got):\n%s", diff)
			}

			var built []string
			err := fs.WalkDir(g.files(), ".", func(name string, entry fs.DirEntry, err error) error {
				if err == nil && !entry.IsDir() {
					built = append(built, name)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(files)
			slices.Sort(built)
			if diff := cmp.Diff(built, files); diff != "" {
				t.Errorf("the table lacks fixtures, or has more (-built +table):\n%s", diff)
			}
		})
	}
}

func TestGenerators_EveryAnchorExists(t *testing.T) {
	t.Parallel()
	for _, g := range generators {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			s, _ := g.read(t)
			for _, p := range s.Pages {
				targets := map[string]bool{"": true}
				for n := range g.parse(t, p.URL).Descendants() {
					targets[attribute(n, "id")] = true
					if n.DataAtom == atom.A {
						targets[attribute(n, "name")] = true
					}
				}
				seen := map[string]bool{}
				for _, section := range p.Sections {
					link, err := url.Parse(p.Link(&section))
					if err != nil {
						t.Errorf("%s: %v", p.URL, err)
						continue
					}
					if link.Fragment != section.Anchor || !targets[link.Fragment] {
						t.Errorf("%s leads to no element", link)
					}
					if seen[section.Anchor] {
						t.Errorf("%s comes twice", link)
					}
					seen[section.Anchor] = true
				}
			}
		})
	}
}

var lineNumbers = regexp.MustCompile("```[a-z]*\n([0-9 ]+\n)+```")

// No text of the navigation is a line of a section, nor is one that generators write
// around the content. Code can have any line.
func TestGenerators_NoNavigation(t *testing.T) {
	t.Parallel()
	never := []string{
		"Edit this page", "Edit page", "View source", "On this page", "このページの内容", "目次", "Skip to", "Direct link to", "Permalink to",
		"Section titled", "Permanent link", "Copy to clipboard", "Copy Code", "Copied!", "Terminal window", "Return to top", "Previous page", "Next page",
		"Copyright Example", "Built with Docusaurus", "Made with", "Released under", "Version 2 of the handbook is out", "Version: 1.0",
		"unreleased documentation", "Unlisted page", "\u200b", "¶", "git.example.com",
	}
	for _, g := range generators {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			s, _ := g.read(t)
			for _, p := range s.Pages {
				navigation := chrome(g.parse(t, p.URL), g.chrome)
				if len(navigation) < 5 {
					t.Errorf("%s has only %d texts of navigation: %v", p.URL, len(navigation), navigation)
				}
				for _, section := range p.Sections {
					for _, line := range proseLines(section.Text) {
						if navigation[line] {
							t.Errorf("%s has a line of the navigation: %q", p.Link(&section), line)
						}
					}
					if lineNumbers.MatchString(section.Text) {
						t.Errorf("%s has line numbers as code", p.Link(&section))
					}
					text := strings.Join(append(section.Headings, section.Text), "\n")
					for _, words := range never {
						if strings.Contains(text, words) {
							t.Errorf("%s contains %q:\n%s", p.Link(&section), words, text)
						}
					}
				}
			}
		})
	}
}

// chrome returns the texts of a document's elements that are not content: what the
// standard has for navigation, and what match says. The names of tabs are content.
func chrome(document *html.Node, match func(*html.Node) bool) map[string]bool {
	texts := map[string]bool{}
	var walk func(n *html.Node, inside bool)
	walk = func(n *html.Node, inside bool) {
		switch n.DataAtom {
		case atom.Script, atom.Style, atom.Svg:
			return
		case atom.Nav, atom.Button, atom.Footer, atom.Select:
			inside = true
		case atom.Header:
			// An article's header has its title.
			inside = inside || !hasAncestor(n, atom.Article)
		}
		inside = inside || match(n)
		if attribute(n, "role") == "tablist" {
			return
		}
		if n.Type == html.TextNode && inside {
			if text := strings.Join(strings.Fields(n.Data), " "); text != "" {
				texts[text] = true
			}
		}
		for child := range n.ChildNodes() {
			walk(child, inside)
		}
	}
	walk(document, false)
	return texts
}

func hasAncestor(n *html.Node, a atom.Atom) bool {
	for ancestor := range n.Ancestors() {
		if ancestor.DataAtom == a {
			return true
		}
	}
	return false
}

// proseLines returns the lines of a text that are not code.
func proseLines(text string) []string {
	var lines []string
	code := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "```") {
			code = !code
		} else if !code {
			lines = append(lines, line)
		}
	}
	return lines
}

// All sites have the same page of headings. Their anchors differ, their paths do not.
func TestGenerators_Headings(t *testing.T) {
	t.Parallel()
	want := [][]string{
		nil,
		{"Options"},
		{"Options", "Options"},
		{"Options"},
		{`What’s “quoted” & <escaped>?`},
		{"🚀 Deploy"},
		{"C# and C++"},
		{"The docent index command"},
		{"Read the table first"},
		{"Größe ändern"},
		{"日本語の見出し"},
		{"50% off/on"},
		{"50% off/on", "Deep"},
		{"Empty"},
		{"Last"},
	}
	// Some generators write typographic quotation marks.
	typographic := strings.NewReplacer("'", "’", ` "`, " “", `" `, "” ")
	for _, g := range generators {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			s, _ := g.read(t)
			p := pageAt(t, s, g.headings)
			if p.Title != "Headings" {
				t.Errorf("the title is %q", p.Title)
			}
			var got [][]string
			for _, section := range p.Sections {
				var headings []string
				for _, heading := range section.Headings {
					headings = append(headings, typographic.Replace(heading))
				}
				got = append(got, headings)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("headings (-want +got):\n%s", diff)
			}
			if first := p.Sections[0]; first.Anchor != "" || first.Text != "The text before the first heading belongs to the page." {
				t.Errorf("the first section is %+v", first)
			}
		})
	}
}

func TestGenerators_Text(t *testing.T) {
	t.Parallel()
	content := []string{
		fence("package main\n\nimport \"fmt\"\n\nfunc main() {\n\tif x := 1; x < 2 {\n\t\tfmt.Println(\"a < b && c > d\")\n\t}\n}"),
		fence("def greet(name):\n    \"\"\"Say hello.\"\"\"\n\n    return f\"Hello, {name}\""),
		fence("{\n  \"path\": \"/docs/{version}/\",\n  \"empty\": {}\n}"),
		fence("Plain text without a language,\n    with indentation."),
		fence("An indented block\n  is code, too."),
		fence("docent index public"),
		"TIMEOUT", "a | b", "An empty cell stands before",
		"What is hidden until a reader opens it?", "The answer inside the details.",
		"And words quoted in them.",
		"Ctrl",
	}
	// The blocks differ, as each generator has its own.
	blocks := map[string][]string{
		"docusaurus": {
			fence("npm install handbook"),
			fence("export function Hello(props) {\n  const name = props.name ?? 'you';\n\n  return <p>Hello, {name}</p>;\n}"),
			fence("const made = 'by a component'"),
			"Text below the heading in the panel.",
			"The text in the closed block.",
			"Ten times two is 20.",
		},
		"vitepress": {
			fence("npm install handbook"),
			fence("package main"),
			fence("export default {\n  name: 'highlighted',\n  data() {\n    return {\n      msg: 'Five lines, three of them highlighted'\n    }\n  }\n}"),
			"<p v-if=\"a < b\">{{ text }}</p>",
			"The text in the closed block.",
			"One and one is 2. Here braces stay: `{{ name }}`.",
		},
		"mkdocs": {
			fence("npm install handbook"),
			"The third panel has a heading.",
			"def bubble_sort(items):\n    for i in range(len(items)):\n        for j in range(len(items) - 1 - i): #",
			"\n            if items[j] > items[j + 1]:\n                items[j], items[j + 1] = items[j + 1], items[j]\n```",
			"An annotation of the code.",
			"The tip in the closed block.",
		},
		"starlight": {
			fence("npm install handbook"),
			fence("function demo() {\n  // The second line is marked\n  return 'third'\n}\nconsole.log(demo())"),
			fence("const made = \"by a component\""),
			fence("docent index dist"),
			"A tip from a component.",
		},
		"hugo": {
			fence("npm install handbook"),
			fence("package main\n\nimport \"fmt\"\n\nfunc main() {\n\tfmt.Println(\"a < b\")\n}"),
			fence("[params]\ntitle = \"Line numbers in each line\""),
			fence("echo \"a shortcode\"\nexit 0"),
			"The text in the closed block.",
		},
	}
	for _, g := range generators {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			s, _ := g.read(t)
			mustContain(t, pageAt(t, s, g.content), g.tab, content)
			mustContain(t, pageAt(t, s, g.blocks), g.tab, blocks[g.name])
			mustContain(t, pageAt(t, s, g.blocks), g.tab, []string{"pip install handbook", "nly the second panel names pip.", "Mind the gap"})
		})
	}
}

// fence returns code as it stands in a section's text, without its language.
func fence(code string) string {
	return "```\n" + code + "\n```"
}

var fenceLanguage = regexp.MustCompile("```[a-z]+")

func mustContain(t *testing.T, p docs.Page, tab string, texts []string) {
	t.Helper()
	var text strings.Builder
	for _, section := range p.Sections {
		text.WriteString(fenceLanguage.ReplaceAllString(section.Text, "```") + "\n\n")
	}
	for _, want := range texts {
		if want = strings.ReplaceAll(want, "\t", tab); !strings.Contains(text.String(), want) {
			t.Errorf("%s does not contain %q", p.URL, want)
		}
	}
}

func pageAt(t *testing.T, s *docs.Site, address string) docs.Page {
	t.Helper()
	for _, p := range s.Pages {
		if p.URL == address {
			return p
		}
	}
	t.Fatalf("there is no page %s", address)
	return docs.Page{}
}

// parse parses the file of a page.
func (g generator) parse(t *testing.T, address string) *html.Node {
	t.Helper()
	data, err := fs.ReadFile(g.files(), g.pages[address])
	if err != nil {
		t.Fatalf("the file of %s: %v", address, err)
	}
	document, err := html.Parse(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return document
}

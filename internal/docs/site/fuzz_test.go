package site_test

import (
	"net/url"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/charset"

	"docent/internal/docs/site"
)

// FuzzRead checks what must hold for each page, whatever its HTML is.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		`<main><h1 id=t>T</h1><p>a</p><h2 id="a b">A<a class=headerlink href="#a b">¶</a></h2><pre class=language-go>a` + "\n" + `b</pre></main>`,
		`<base href="//other.test/"><link rel=canonical href="a/../page"><section id=x><h2>A</h2><table><tr><td>a<td>b</table>`,
		`<div class=tabbed-set><label>A</label><div class=tabbed-content hidden>1</div></div><a name=n></a><h3>N</h3><ul><li><dl><dt>a<dd>b</ul>`,
		"<meta charset=latin1><main>\x1b[31m\xff\u202E<code>a\u0085</code><math alttext='\u009b'></math><img alt='\x07'>",
		`<template><h2 id=a>A</h2></template><h2 id=a>B</h2><aside class=note hidden><svg id=s><title>x</title></svg></aside>`,
	} {
		f.Add(seed, "page.html")
	}
	f.Fuzz(func(t *testing.T, content, name string) {
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz.:% ") != "" || !strings.HasSuffix(name, ".html") {
			name = "page.html"
		}
		s, report, err := site.Read(t.Context(), fstest.MapFS{name: {Data: []byte(content)}}, site.Options{
			Base: "https://docs.test/p/", CodeAttribute: "data-code", VersionPath: "/p/{version}", Versions: []string{"1"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Pages)+len(report.Left) != 1 {
			t.Fatalf("%d pages and %+v", len(s.Pages), report.Left)
		}
		for i := range s.Pages {
			p := &s.Pages[i]
			u, err := url.Parse(p.URL)
			if err != nil || u.Scheme != "https" || u.Host != "docs.test" || u.User != nil || u.Fragment != "" || u.RawQuery != "" {
				t.Errorf("the page is at %q", p.URL)
			}
			if p.Title == "" || strings.Contains(p.Title, "\n") {
				t.Errorf("title %q", p.Title)
			}
			checkText(t, p.Title, p.Language)
			ids := idsOf(t, content)
			seen := map[string]bool{}
			for _, section := range p.Sections {
				checkText(t, append(section.Headings, section.Anchor, section.Text)...)
				if seen[section.Anchor] || section.Anchor != "" && !ids[section.Anchor] {
					t.Errorf("the anchor %q is not on the page, or twice", section.Anchor)
				}
				seen[section.Anchor] = true
				if section.Anchor == "" != (len(section.Headings) == 0) || section.Anchor == "" && section.Text == "" {
					t.Errorf("section %+v", section)
				}
			}
		}
	})
}

// checkText checks that the texts may be shown in a terminal.
func checkText(t *testing.T, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if !utf8.ValidString(s) {
			t.Errorf("%q is not UTF-8", s)
		}
		for _, r := range s {
			if r < 0x20 && r != '\n' || r >= 0x7F && r <= 0x9F || r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069 || r >= 0xE200 && r <= 0xE202 {
				t.Errorf("%q has %U", s, r)
			}
		}
	}
}

// idsOf returns the anchors of a page, as a browser that knows no encoding for sure
// may read them.
func idsOf(t *testing.T, content string) map[string]bool {
	t.Helper()
	ids := map[string]bool{}
	encoding, _, _ := charset.DetermineEncoding([]byte(content)[:min(len(content), 1024)], "text/html")
	decoded, err := encoding.NewDecoder().String(content)
	if err != nil {
		decoded = content
	}
	for _, c := range []string{strings.ToValidUTF8(content, "\uFFFD"), strings.ToValidUTF8(decoded, "\uFFFD")} {
		root, err := html.Parse(strings.NewReader(c))
		if err != nil {
			t.Fatal(err)
		}
		for n := range root.Descendants() {
			for _, a := range n.Attr {
				if a.Key == "id" || a.Key == "name" && n.Data == "a" {
					ids[a.Val] = true
				}
			}
		}
	}
	return ids
}

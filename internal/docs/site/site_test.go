package site_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"docent/internal/docs"
	"docent/internal/docs/site"
)

const base = "https://docs.test/"

// folder returns a folder with the files.
func folder(files map[string]string) fstest.MapFS {
	f := fstest.MapFS{}
	for name, content := range files {
		f[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return f
}

// section returns a section. Its headings and its anchor are joined by #.
func section(anchor, headings, text string) docs.Section {
	s := docs.Section{Anchor: anchor, Text: text}
	if headings != "" {
		s.Headings = strings.Split(headings, " > ")
	}
	return s
}

func sections(t *testing.T, html string, o site.Options) []docs.Section {
	t.Helper()
	o.Base = base
	s, report, err := site.Read(t.Context(), folder(map[string]string{"page.html": html}), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Pages) == 0 {
		t.Fatalf("the page was left out: %+v", report.Left)
	}
	return s.Pages[0].Sections
}

func TestRead_Sections(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		html string
		want []docs.Section
	}{
		"no headings": {`<p>One <b>and</b>
			two.</p><p>Three.</p>`, []docs.Section{section("", "", "One and two.\n\nThree.")}},
		"own id": {
			`<h1 id="t">T</h1><p>Start.</p><h2 id=a>A</h2><p>a</p><h3 id=b>B</h3><p>b</p><h2 id=c>C</h2><p>c</p>`,
			[]docs.Section{section("", "", "Start."), section("a", "A", "a"), section("b", "A > B", "b"), section("c", "C", "c")},
		},
		"anchors in, before and around headings": {
			`<h2><a name=in></a>In</h2><p>1</p><a id=before></a><h2>Before</h2><p>2</p>
			<p><a name=p></a></p><h2>Paragraph</h2><p>3</p><section id=around><h2>Around</h2><p>4</p></section>
			<div id=wide><p>5</p><h2>Not first</h2><p>6</p></div>`,
			[]docs.Section{
				section("in", "In", "1"), section("before", "Before", "2"), section("p", "Paragraph", "3"),
				section("around", "Around", "4\n\n5\n\nNot first\n\n6"),
			},
		},
		"the permalink's anchor of two": {
			`<section id=real><span id=old></span><h2>A<a class=headerlink href="#real">¶</a></h2><p>a</p></section>`,
			[]docs.Section{section("real", "A", "a")},
		},
		"no anchor":               {`<h2 id=a>A</h2><p>a</p><h2>B</h2><p>b</p>`, []docs.Section{section("a", "A", "a\n\nB\n\nb")}},
		"the same anchor twice":   {`<h2 id=a>A</h2><p>a</p><h2 id=a>B</h2><p>b</p>`, []docs.Section{section("a", "A", "a\n\nB\n\nb")}},
		"an anchor of other text": {`<p id=a>P</p><h2 id=a>A</h2><p>a</p>`, []docs.Section{section("", "", "P\n\nA\n\na")}},
		"an anchor in a template": {`<template><p id=a>x</p></template><h2 id=a>A</h2><p>a</p>`, []docs.Section{section("a", "A", "a")}},
		"anchors to escape": {
			`<h2 id="50% off/on?#">A</h2><p>a</p><h2 id="größe">B</h2><p>b</p><h2 id="two words">C</h2><p>c</p>`,
			[]docs.Section{section("50% off/on?#", "A", "a"), section("größe", "B", "b"), section("two words", "C", "c")},
		},
		"an anchor with control characters": {"<h2 id='a\u202Eb'>A</h2><p>a</p>", []docs.Section{section("", "", "A\n\na")}},
		"permalinks": {
			`<h2 id=a>A<a class=hash-link href="#a" aria-label="Direct link to A">&#8203;</a></h2><p>a</p>
			<h2 id=b><a class=header-anchor href="#b"><span>B</span></a></h2><p>b</p>
			<h2 id=c>C <a href="#c">#</a></h2><p>c</p>
			<h2 id=d><a class=header href="#d">D</a></h2><p>d</p>
			<h2 id=e>E <a class=header-anchor href="#e">Permalink to E</a></h2><p>e</p>`,
			[]docs.Section{section("a", "A", "a"), section("b", "B", "b"), section("c", "C", "c"), section("d", "D", "d"), section("e", "E", "e")},
		},
		"a heading alone":     {`<h2 id=a>A</h2><h2 id=b>B</h2>`, []docs.Section{section("a", "A", ""), section("b", "B", "")}},
		"an empty heading":    {`<h2 id=a></h2><p>a</p>`, []docs.Section{section("", "", "a")}},
		"more than one h1":    {`<h1>T</h1><h1 id=a>A</h1><p>a</p><h2 id=b>B</h2><p>b</p>`, []docs.Section{section("a", "A", "a"), section("b", "A > B", "b")}},
		"code in a heading":   {`<h2 id=a>The <code>a</code> flag</h2><p>a</p>`, []docs.Section{section("a", "The a flag", "a")}},
		"broken markup":       {`<h2 id=a>A</h3><p>a <b>b <i>c</b> d</i><h2 id=b>B</h2><ul><li>x<li>y</table></div></p>z`, []docs.Section{section("a", "A", "a b c d"), section("b", "B", "- x\n- y\n\nz")}},
		"code alone":          {`<pre><code class=language-go>a {` + "\n\tb\n" + `}</code></pre>`, []docs.Section{section("", "", "```go\na {\n\tb\n}\n```")}},
		"inline code":         {"<p>Set <code>A=1</code>, <code>a`b</code> and <kbd>Ctrl</kbd>.</p>", []docs.Section{section("", "", "Set `A=1`, a`b and Ctrl.")}},
		"lines of code":       {`<pre class=language-js><div class=token-line>a</div><div class=token-line><br></div><span>b</span><br>c</pre>`, []docs.Section{section("", "", "```js\na\n\nb\nc\n```")}},
		"gutters and buttons": {`<div class=highlight-python><pre><span class=linenos>1</span>a<button>Copy</button></pre></div>`, []docs.Section{section("", "", "```python\na\n```")}},
		"a table of line numbers": {
			`<div class=language-py><table class=highlighttable><tr><td class=linenos><pre>1</pre></td><td><pre>a</pre></td></tr></table></div>`,
			[]docs.Section{section("", "", "```py\na\n```")},
		},
		"tables": {
			`<table><caption>Flags</caption><thead><tr><th>Name</th><th>Means</th></tr></thead><tr><td><code>-a</code></td><td></td></tr>
			<tr><td>b</td><td><p>One</p><ul><li>two</ul></td></tr></table>`,
			[]docs.Section{section("", "", "Flags\nName | Means\n`-a` | \nb | One - two")},
		},
		"a table for layout": {`<table><tr><td><h2 id=a>A</h2><p>a</p></td></tr></table>`, []docs.Section{section("a", "A", "a")}},
		"lists": {
			`<p>See:</p><ol><li>a<ul><li>b</ul></li><li><p>c</p><p>d</p></li><li>e</ol><ul><li>f</ul>`,
			[]docs.Section{section("", "", "See:\n\n- a\n  - b\n- c\n\nd\n\n- e\n\n- f")},
		},
		"definitions":          {`<dl><dt>a<dd>A.<dt>b<dd><p>B.</p><p>C.</p></dl>`, []docs.Section{section("", "", "a\nA.\n\nb\nB.\n\nC.")}},
		"found by the browser": {`<p hidden=until-found>a</p>`, []docs.Section{section("", "", "a")}},
		"one anchor of two headings": {
			`<section id=a><h2>A<a class=headerlink href="#a">¶</a></h2><p>a</p><h2>B<a class=headerlink href="#a">¶</a></h2></section>`,
			[]docs.Section{section("a", "A", "a\n\nB")},
		},
		"details":              {`<details><summary>More</summary><div style="display:none">Hidden.</div></details>`, []docs.Section{section("", "", "More\n\nHidden.")}},
		"pictures":             {`<p>A <img src=a alt="red bird">.</p>`, []docs.Section{section("", "", "A red bird.")}},
		"formulas, once":       {`<p><span class=katex><math><mi>x</mi><annotation encoding="application/x-tex">x_1</annotation></math><span aria-hidden=true>x1</span></span></p>`, []docs.Section{section("", "", "x_1")}},
		"formulas without TeX": {`<p><math><msup><mi>a</mi><mn>2</mn></msup><mo>=</mo><mfrac><mn>1</mn><mrow><mi>b</mi><mo>+</mo><mi>c</mi></mrow></mfrac></math></p>`, []docs.Section{section("", "", "a^2=1/(b+c)")}},
		"line breaks":          {`<p>a<br>b</p>`, []docs.Section{section("", "", "a\nb")}},
		"panels by place":      {`<div><ul role=tablist><li role=tab>npm<li role=tab>yarn</ul><div><div role=tabpanel>i</div><div role=tabpanel hidden>y</div></div></div>`, []docs.Section{section("", "", "npm\n\ni\n\nyarn\n\ny")}},
		"panels by name":       {`<div><a role=tab id=t2>two</a><a role=tab aria-controls=p1>one</a></div><div role=tabpanel id=p1>1</div><div role=tabpanel aria-labelledby=t2 style="display: none">2</div>`, []docs.Section{section("", "", "one\n\n1\n\ntwo\n\n2")}},
		"panels of labels":     {`<div class="tabbed-set tabbed-alternate"><input type=radio><div class=tabbed-labels><label for=a>A</label><label for=b>B</label></div><div class=tabbed-content><div class=tabbed-block>1</div><div class=tabbed-block>2</div></div></div>`, []docs.Section{section("", "", "A\n\n1\n\nB\n\n2")}},
		"panels in panels":     {`<div><b role=tab>A&#27;</b><div role=tabpanel><div><b role=tab>B</b><div role=tabpanel hidden>1</div></div></div></div>`, []docs.Section{section("", "", "A\n\nB\n\n1")}},
		"a panel to ignore": {
			`<div><b role=tab>A</b><div role=tabpanel data-pagefind-ignore>1</div></div><p>x</p>`, []docs.Section{section("", "", "x")},
		},
		"notes": {
			`<aside class=note><p>Kept.</p></aside><aside>Words of our own.</aside><aside><a href=/>Other</a> <a href=/>pages</a></aside>
			<aside class="starlight-aside" aria-label=Tip><p class=starlight-aside__title aria-hidden=true>Tip</p>t</aside>`,
			[]docs.Section{section("", "", "Kept.\n\nWords of our own.\n\nTip\n\nt")},
		},
		"Japanese": {`<h2 id=設定>設定</h2><p>サーバーの
			設定です。</p>`, []docs.Section{section("設定", "設定", "サーバーの 設定です。")}},
		"Arabic":            {"<p>مرحبا می\u200cخواهم</p>", []docs.Section{section("", "", "مرحبا می\u200cخواهم")}},
		"a German compound": {"<p>Daten\u00ADschutz\u200B&shy;verordnung</p>", []docs.Section{section("", "", "Datenschutzverordnung")}},
		"control characters": {
			"<h2 id=a>A\x1b[31m</h2><p>a\x07\u009b\u202Eb\u2066\uE200c\uE202</p><pre>x\x1b\u202E</pre>",
			[]docs.Section{section("a", "A[31m", "abc\n\n```\nx\n```")},
		},
		"invalid UTF-8": {"<meta charset=utf-8><p>a\xffb</p>", []docs.Section{section("", "", "a\uFFFDb")}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, sections(t, "<title>T</title><main>"+test.html+"</main>", site.Options{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Each page has the word secret where no visitor reads it as a part of the text.
func TestRead_NotContent(t *testing.T) {
	t.Parallel()
	for name, html := range map[string]string{
		"nav":                  `<nav>secret</nav>`,
		"footer":               `<footer>secret</footer>`,
		"header of navigation": `<header><nav><a>a</a></nav>secret</header>`,
		"form":                 `<form>secret</form>`,
		"button":               `<button>secret</button>`,
		"script":               `<script>secret</script>`,
		"style":                `<style>secret</style>`,
		"template":             `<template>secret</template>`,
		"noscript":             `<noscript>secret</noscript>`,
		"drawing":              `<svg><text>secret</text></svg>`,
		"comment":              `<!-- secret -->`,
		"hidden":               `<div hidden>secret</div>`,
		"for sighted visitors": `<div aria-hidden=true>secret</div>`,
		"display":              `<div style="color: red; DISPLAY : none">secret</div>`,
		"visibility":           `<div style="visibility:hidden">secret</div>`,
		"screen readers":       `<span class="x sr-only">secret</span>`,
		"hidden in code":       `<pre>a<span hidden>secret</span></pre>`,
		"hidden row":           `<table><tr hidden><td>secret</td></tr><tr><td>a</td></tr></table>`,
		"hidden cell":          `<table><tr><td>a</td><td hidden>secret</td></tr></table>`,
		"hidden in a heading":  `<h2 id=a>A<span hidden>secret</span></h2>`,
		"ignored":              `<div data-pagefind-ignore=all>secret</div>`,
		"role":                 `<div role=navigation>secret</div>`,
		"breadcrumbs":          `<ul class=breadcrumbs><li>secret</ul>`,
		"contents":             `<div class=toc>secret</div>`,
		"banner of a version":  `<div class="theme-doc-version-banner alert">secret</div>`,
		"edit link":            `<a href="https://git.test/edit/main/a.md">Edit secret</a>`,
		"next page":            `<a rel=next href=/b>secret</a>`,
		"links on the side":    `<aside><a href=/b>secret</a></aside>`,
		"label of an input":    `<label for=a>secret</label>`,
		"tab":                  `<b role=tab>secret</b>`,
		"outside":              `</main><div>secret</div><main>`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := sections(t, "<title>T</title><body><main><p>Text.</p>"+html+"</main>", site.Options{})
			if s := fmt.Sprint(got); strings.Contains(s, "secret") || !strings.Contains(s, "Text.") {
				t.Error(s)
			}
		})
	}
}

func TestRead_MainContent(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ html, want string }{
		"Docusaurus":                {`<main><article>x<div class="theme-doc-markdown markdown">text</div></article></main>`, "text"},
		"VitePress":                 {`<main>x<div class="vp-doc _a">text</div></main>`, "text"},
		"MkDocs":                    {`<main>x<article class="md-content__inner md-typeset">text</article></main>`, "text"},
		"Starlight":                 {`<main>x<div class=sl-markdown-content>text</div></main>`, "text"},
		"Sphinx":                    {`<div class=document>x<div class=body role=main>text</div></div>`, "text"},
		"Read the Docs":             {`<div role=main>x<div itemprop=articleBody>text</div></div>`, "text"},
		"article":                   {`<main>x<article>text</article></main>`, "text"},
		"main":                      {`<div>x</div><main>text</main>`, "text"},
		"body":                      {`<div>text</div>`, "text"},
		"body, shown by a script":   {`<body style="display:none"><div>text</div>`, "text"},
		"empty article":             {`<main>text<article></article></main>`, "text"},
		"articles of a list":        {`x<main><article>a b</article><article>c d</article></main>`, "a b\n\nc d"},
		"article and a small one":   {`<main>x<article>a long text of many words</article><article>d</article></main>`, "a long text of many words"},
		"data-pagefind-body":        {`<main><article>x</article><p data-pagefind-body>a</p>x<div data-pagefind-body>b<p data-pagefind-body>c</p></div></main>`, "a\n\nb\n\nc"},
		"a hidden article, foreign": {`<main><div hidden><article>x</article></div>text</main>`, "text"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff([]docs.Section{section("", "", test.want)}, sections(t, test.html, site.Options{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRead_CodeAttribute(t *testing.T) {
	t.Parallel()
	got := sections(t, `<main><p>Run <x-code data-source="a b">x</x-code>.</p><div class=language-sh data-source="a&#10;b&#27;">x</div></main>`,
		site.Options{CodeAttribute: "data-Source"})
	if diff := cmp.Diff([]docs.Section{section("", "", "Run `a b`.\n\n```sh\na\nb\n```")}, got); diff != "" {
		t.Error(diff)
	}
}

// page returns a page of a text, with something in its head.
func page(head, text string) string {
	return "<html><head>" + head + "</head><body><main><p>" + text + "</p></main>"
}

func canonical(href string) string { return `<link rel=canonical href="` + href + `">` }

// urls returns what was taken and what was left out.
func urls(s *docs.Site, r site.Report) (taken, left []string) {
	for i := range s.Pages {
		taken = append(taken, s.Pages[i].URL)
	}
	for _, l := range r.Left {
		left = append(left, l.Path+": "+l.Reason)
	}
	return taken, left
}

func TestRead_Pages(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		base        string
		files       map[string]string
		taken, left []string
	}{
		"forms of URLs": {
			base:  "https://docs.test/p",
			files: map[string]string{"index.html": page("", "a"), "b/index.html": page("", "b"), "c.html": page("", "c"), "d e/ü.HTM": page("", "d"), "x.txt": "x"},
			taken: []string{"https://docs.test/p/b/", "https://docs.test/p/c.html", "https://docs.test/p/d%20e/%C3%BC.HTM", "https://docs.test/p/"},
		},
		"own form by canonical link": {
			base:  base,
			files: map[string]string{"a.html": page(canonical("https://docs.test/a"), "a"), "b/index.html": page(canonical("/b"), "b"), "c.html": page(canonical("c?x=1#y"), "c"), "d/index.html": page(canonical("index.html"), "d")},
			taken: []string{"https://docs.test/a", "https://docs.test/b", "https://docs.test/c", "https://docs.test/d/"},
		},
		"own form by sitemap": {
			base:  base,
			files: map[string]string{"a.html": page("", "a"), "b.html": page("", "b"), "sitemap.xml": `<urlset><url><loc>https://docs.test/a</loc></url></urlset>`},
			taken: []string{"https://docs.test/a", "https://docs.test/b.html"},
		},
		"redirects": {
			base: base,
			files: map[string]string{
				"a.html": page(`<meta http-equiv=refresh content="0; url=b.html">`, "a"), "b.html": page("", "b"),
				"c.html": page(`<meta http-equiv=Refresh content="5;URL='https://other.test/'">`, "c"),
				"d.html": page(`<meta http-equiv=refresh content="300">`, "d"),
				"f.html": page(`<meta http-equiv=refresh content="300; url=#top">`, "f"),
				"e.html": page(`<noscript><meta http-equiv=refresh content="0; url=b.html"></noscript>`, "e"),
			},
			taken: []string{"https://docs.test/b.html", "https://docs.test/d.html", "https://docs.test/e.html", "https://docs.test/f.html"},
			left:  []string{"a.html: redirect", "c.html: redirect"},
		},
		"noindex": {
			base:  base,
			files: map[string]string{"a.html": page(`<meta name=robots content="NOINDEX, nofollow">`, "a"), "b.html": page(`<meta name=Googlebot content=none>`, "b"), "c.html": page(`<meta name=robots content=nofollow>`, "c")},
			taken: []string{"https://docs.test/c.html"},
			left:  []string{"a.html: noindex", "b.html: noindex"},
		},
		"source code that Sphinx lists": {
			base:  base,
			files: map[string]string{"a.html": page("", "a"), "_modules/index.html": page("", "b"), "_modules/p/m.html": page("", "c"), "d/_modules/e.html": page("", "e")},
			taken: []string{"https://docs.test/a.html", "https://docs.test/d/_modules/e.html"},
			left:  []string{"_modules/index.html: listing of source code", "_modules/p/m.html: listing of source code"},
		},
		"canonical to other pages": {
			base: base,
			files: map[string]string{
				"a.html": page(canonical("b.html"), "a"), "b.html": page("", "b"),
				"c.html":   page(canonical("https://other.test/c.html"), "c"),
				"d/e.html": page(canonical("../b.html"), "d"),
				"f.html":   page(canonical("gone.html"), "f"),
				"g.html":   page(canonical("h.html"), "g"), "h.html": page(canonical("g.html"), "h"),
				"i.html": page(canonical("j.html"), "i"), "j.html": page(`<meta name=robots content=noindex>`, "j"),
				"k.html": page(canonical("file:///k"), "k"),
			},
			taken: []string{"https://docs.test/b.html", "https://docs.test/f.html", "https://docs.test/g.html", "https://docs.test/i.html", "https://docs.test/k.html"},
			left: []string{
				"a.html: canonical link to another page", "c.html: canonical link to another site", "d/e.html: canonical link to another page",
				"h.html: canonical link to another page", "j.html: noindex",
			},
		},
		"a page outside of the folder": {
			base:  "https://docs.test/v1/",
			files: map[string]string{"a.html": page(canonical("/v2/a.html"), "a"), "b.html": page(canonical("../v1/x/../b.html"), "b"), "c.html": page(canonical("//DOCS.test/v1/c.html"), "c")},
			taken: []string{"https://docs.test/v1/b.html", "https://docs.test/v1/c.html"},
			left:  []string{"a.html: canonical link to another page"},
		},
		"base element": {
			base:  base,
			files: map[string]string{"x/a.html": page(`<base href="/y/">`+canonical("b.html"), "a"), "y/b.html": page("", "b"), "z.html": page(`<base href="https://other.test/">`+canonical("z.html"), "z")},
			taken: []string{"https://docs.test/y/b.html"},
			left:  []string{"x/a.html: canonical link to another page", "z.html: canonical link to another site"},
		},
		"base by canonical links": {
			files: map[string]string{"a.html": page(canonical("https://docs.test/p/a.html"), "a"), "b/index.html": page(canonical("https://docs.test/p/b"), "b"), "c.html": page("", "c"), "d.html": page(canonical("https://other.test/d.html"), "d")},
			taken: []string{"https://docs.test/p/a.html", "https://docs.test/p/b", "https://docs.test/p/c.html"},
			left:  []string{"d.html: canonical link to another site"},
		},
		"base by sitemap": {
			files: map[string]string{"index.html": page("", "i"), "a.html": page("", "a"), "sitemap-0.xml": `<urlset><url><loc>https://docs.test/p/a</loc></url><url><loc>https://docs.test/p/</loc></url></urlset>`},
			taken: []string{"https://docs.test/p/a", "https://docs.test/p/"},
		},
		"base not by a redirect": {
			files: map[string]string{
				"index.html": page(`<meta http-equiv=refresh content="0; url=en/">`+canonical("https://docs.test/en/"), "i"), "en/index.html": page("", "e"),
				"sitemap.xml": `<urlset><url><loc>https://docs.test/en/</loc></url></urlset>`,
			},
			taken: []string{"https://docs.test/en/"},
			left:  []string{"index.html: redirect"},
		},
		"built for another URL": {
			base:  "http://localhost:8080/",
			files: map[string]string{"a.html": page(canonical("https://docs.test/p/a"), "a"), "b.html": page(canonical("https://docs.test/p/b"), "b"), "c.html": page(canonical("https://docs.test/p/a"), "c")},
			taken: []string{"http://localhost:8080/a", "http://localhost:8080/b"},
			left:  []string{"c.html: canonical link to another page"},
		},
		"a copy alone": {
			base:  base,
			files: map[string]string{"a.html": page(canonical("https://other.test/a.html"), "a")},
			left:  []string{"a.html: canonical link to another site"},
		},
		"nothing to read": {
			base: base,
			files: map[string]string{
				"404.html": page("", "x"), "de/404/index.html": page("", "x"), "empty.html": " \n", "title.html": "<title>T</title><h1>T</h1>",
				"large.html": strings.Repeat(" ", 20<<20+1), "tags.html": strings.Repeat("<b>", 1_000_001), "deep.html": strings.Repeat("<div>", 100_000) + "x",
			},
			left: []string{
				"404.html: page for URLs that are not found", "de/404/index.html: page for URLs that are not found", "deep.html: markup that is nested too deep",
				"empty.html: empty", "large.html: larger than 20 MB", "tags.html: more than 1,000,000 tags", "title.html: no text in the main content",
			},
		},
		"a search page": {
			base: base,
			files: map[string]string{
				"a.html":      page(`<link rel=search href="search.html"><link rel=search type="application/opensearchdescription+xml" href="o.xml"><link rel=index href="genindex.html">`, "a"),
				"search.html": page("", "s"), "genindex.html": page("", "g"), "genindex-A.html": page("", "g"),
			},
			taken: []string{"https://docs.test/a.html"},
			left:  []string{"genindex-A.html: search page or index of words", "genindex.html: search page or index of words", "search.html: search page or index of words"},
		},
		"one URL twice": {
			base:  base,
			files: map[string]string{"a.html": page(canonical("/a/"), "1"), "a/index.html": page("", "2")},
			taken: []string{"https://docs.test/a/"},
			left:  []string{"a/index.html: same URL as another file"},
		},
		"pages without data-pagefind-body": {
			base:  base,
			files: map[string]string{"a.html": page("", "a"), "b.html": "<main><p data-pagefind-body>b</p></main>"},
			taken: []string{"https://docs.test/b.html"},
			left:  []string{"a.html: no data-pagefind-body, which other pages have"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, report, err := site.Read(t.Context(), folder(test.files), site.Options{Base: test.base})
			if err != nil {
				t.Fatal(err)
			}
			taken, left := urls(s, report)
			if diff := cmp.Diff(test.taken, taken); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.left, left); diff != "" {
				t.Error(diff)
			}
			if report.Pages != len(taken) {
				t.Errorf("the report counts %d pages", report.Pages)
			}
		})
	}
}

func TestRead_Titles(t *testing.T) {
	t.Parallel()
	s, _, err := site.Read(t.Context(), folder(map[string]string{
		"a.html":       "<title>A | Site</title><main><h1>The <b>A</b><a href='#a'>#</a></h1>1</main>",
		"b.html":       "<title>B | C | Site</title><main>2</main>",
		"c.html":       "<title>C | Site</title><main><header><h1 id=c>Outside</h1></header><div class=vp-doc>3</div></main>",
		"d.html":       "<meta property=og:title content=So\x07cial><main>4</main>",
		"e.html":       "<title>\x1b[2JE\u202E</title><header><h1>Site</h1></header><main>5</main>",
		"f\u202E.html": "<main>6</main>",
	}), site.Options{Base: base})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range s.Pages {
		got = append(got, s.Pages[i].Title)
	}
	if diff := cmp.Diff([]string{"The A", "B | C", "Outside", "Social", "[2JE", "f"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestRead_Encoding(t *testing.T) {
	t.Parallel()
	latin := "<meta charset=iso-8859-1><main>Gr\xf6\xdfe</main>"
	for name, html := range map[string]string{
		"Latin-1":                   latin,
		"Latin-1, not named":        strings.Replace(latin, "<meta charset=iso-8859-1>", "", 1),
		"UTF-8 with a mark":         "\uFEFF<main>Größe</main>",
		"UTF-8, not named and late": "<!--" + strings.Repeat("x", 2000) + "--><main>Größe</main>",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff([]docs.Section{section("", "", "Größe")}, sections(t, html, site.Options{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRead_Languages(t *testing.T) {
	t.Parallel()
	s, _, err := site.Read(t.Context(), folder(map[string]string{
		"a.html": "<html lang=pt-BR><main>7</main>", "b.html": "<html lang=DE><main>8</main>", "c.html": "<html lang=de_AT><main lang=en-GB>9</main>",
		"d.html": "<html lang=x><main>10</main>", "e.html": "<html lang='\x1b[2J'><main>11</main>", "f.html": "<html lang=de><main>12</main>",
	}), site.Options{Base: base})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{s.Language}
	for i := range s.Pages {
		got = append(got, s.Pages[i].Language)
	}
	if diff := cmp.Diff([]string{"de", "pt", "de", "en", "", "", "de"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestRead_Versions(t *testing.T) {
	t.Parallel()
	s, _, err := site.Read(t.Context(), folder(map[string]string{
		"docs/2.x/a.html": "0", "docs/next/index.html": "1", "docs/intro/a.html": "2", "docs/a.html": "3", "docs/index.html": "4", "blog/2.x/a.html": "5", "docs/2.xx/a.html": "6", "ja/docs/2.x/a.html": "7", "pt-BR/docs/a.html": "8",
	}), site.Options{Base: "https://docs.test/", VersionPath: "/docs/{version}/", Versions: []string{"2.x", "next"}, DefaultVersion: "1.x"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for i := range s.Pages {
		got[strings.TrimPrefix(s.Pages[i].URL, base)] = s.Pages[i].Version
	}
	want := map[string]string{"docs/2.x/a.html": "2.x", "docs/next/": "next", "docs/intro/a.html": "1.x", "docs/a.html": "1.x", "docs/": "1.x", "blog/2.x/a.html": "", "docs/2.xx/a.html": "1.x", "ja/docs/2.x/a.html": "2.x", "pt-BR/docs/a.html": "1.x"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRead_Untranslated(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		files map[string]string
		want  []string
	}{
		"a copy of a page in the main language": {
			map[string]string{
				"a.html": "<html lang=en><main>Text", "b.html": "<html lang=en><main>More", "c.html": "<html lang=en><main>Most",
				"de/a.html": "<html lang=de><main>Text", "de/b.html": "<html lang=de><main>Mehr",
			},
			[]string{"a.html", "b.html", "c.html", "de/b.html"},
		},
		"content that names the main language in a page of another": {
			map[string]string{
				"a.html": "<html lang=en><main>Text", "b.html": "<html lang=en><main>More",
				"ja/a.html": "<html lang=ja><main lang=en>まだ<p>Text", "ja/b.html": "<html lang=ja><main>何",
			},
			[]string{"a.html", "b.html", "ja/b.html"},
		},
		"a site whose frame names another language than all content": {
			map[string]string{"a.html": "<html lang=en><main lang=ja>何", "b.html": "<html lang=en><main lang=ja>何か"},
			[]string{"a.html", "b.html"},
		},
		"two pages with the same text in one language": {
			map[string]string{"a.html": "<html lang=en><main>Text", "b.html": "<html lang=en><main>Text"},
			[]string{"a.html", "b.html"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, report, err := site.Read(t.Context(), folder(tt.files), site.Options{Base: base})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i := range s.Pages {
				got = append(got, strings.TrimPrefix(s.Pages[i].URL, base))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("pages (-want +got):\n%s\nleft: %+v", diff, report.Left)
			}
		})
	}
}

// Without canonical links and a sitemap, the form of the site's own links is that of
// its URLs.
func TestRead_LinkForm(t *testing.T) {
	t.Parallel()
	for link, want := range map[string]string{"/b": "a", "b": "a", "/b.html": "a.html", "https://example.net/b": "a.html", "#b": "a.html", "": "a.html"} {
		s, _, err := site.Read(t.Context(), folder(map[string]string{"a.html": "<main>Text <a href='" + link + "'>B</a>"}), site.Options{Base: base})
		if err != nil || len(s.Pages) != 1 {
			t.Fatalf("%q: site %v, error %v", link, s, err)
		}
		if got := strings.TrimPrefix(s.Pages[0].URL, base); got != want {
			t.Errorf("%q: page %q, want %q", link, got, want)
		}
	}
}

func TestRead_Repeats(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for i := range 5 {
		files[fmt.Sprintf("%d.html", i)] = fmt.Sprintf("<main><p>Own %d.</p><p>Ours.</p><div class=admonition><p class=admonition-title>Note</p><p>%[1]d</p></div><pre>ls</pre><div><b role=tab>npm</b><div role=tabpanel><p>%[1]d!</p></div></div><h2 id=f>Feedback</h2><p>Tell us.</p><h2 id=n>Notes</h2></main>", i)
	}
	files["2.html"] += "<p>Twice.</p><p>Twice.</p>"
	s, _, err := site.Read(t.Context(), folder(files), site.Options{Base: base})
	if err != nil {
		t.Fatal(err)
	}
	want := []docs.Section{section("", "", "Own 3.\n\nNote\n\n3\n\n```\nls\n```\n\nnpm\n\n3!"), section("n", "Notes", "")}
	if diff := cmp.Diff(want, s.Pages[3].Sections); diff != "" {
		t.Error(diff)
	}
	delete(files, "0.html") // Four pages do not say what is the frame.
	s, _, err = site.Read(t.Context(), folder(files), site.Options{Base: base})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(section("", "", "Own 3.\n\nOurs.\n\nNote\n\n3\n\n```\nls\n```\n\nnpm\n\n3!"), s.Pages[2].Sections[0]); diff != "" {
		t.Error(diff)
	}
}

func TestRead_Faults(t *testing.T) {
	t.Parallel()
	good := folder(map[string]string{"a.html": page("", "a")})
	for name, test := range map[string]struct {
		fsys    fs.FS
		options site.Options
		want    string
	}{
		"no HTML":             {folder(map[string]string{"a.txt": "a"}), site.Options{Base: base}, "no HTML files"},
		"no URL":              {good, site.Options{}, "give it with --site"},
		"a URL of no web":     {good, site.Options{Base: "ftp://docs.test/"}, "ftp://docs.test/"},
		"a URL of a query":    {good, site.Options{Base: "https://docs.test/?a"}, "without a user, query and fragment"},
		"a URL of a user":     {good, site.Options{Base: "https://a:b@docs.test/"}, "without a user, query and fragment"},
		"a URL of a fragment": {good, site.Options{Base: "https://docs.test/#a"}, "without a user, query and fragment"},
		"no such folder":      {missing{}, site.Options{Base: base}, "reading the folder"},
		"no version's path":   {good, site.Options{Base: base, VersionPath: "/docs/"}, "{version}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, _, err := site.Read(t.Context(), test.fsys, test.options); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// missing is a folder that is not there.
type missing struct{}

func (missing) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func TestRead_Cancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	files := map[string]string{}
	for i := range 100 {
		files[fmt.Sprintf("%d.html", i)] = page("", "a")
	}
	_, _, err := site.Read(ctx, folder(files), site.Options{Base: base, Progress: func(done, _ int) {
		if done == 3 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestRead_Progress(t *testing.T) {
	t.Parallel()
	var got [][2]int
	_, _, err := site.Read(t.Context(), folder(map[string]string{"a.html": "a", "b.html": "b"}), site.Options{Base: base, Progress: func(done, total int) { got = append(got, [2]int{done, total}) }})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][2]int{{1, 2}, {2, 2}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestRead_Same(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for i := range 50 {
		files[fmt.Sprintf("%d.html", i)] = page(fmt.Sprintf("<title>%d | Site</title>", i), fmt.Sprintf("Text %d.", i))
	}
	first, _, err := site.Read(t.Context(), folder(files), site.Options{Base: base})
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := site.Read(t.Context(), folder(files), site.Options{Base: base})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Error(diff)
	}
}

func TestRead_ManyHeadings(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 500 {
		fmt.Fprintf(&b, "<h2 id=h%d>H</h2><p>%d</p>", i, i)
	}
	if got := sections(t, b.String(), site.Options{}); len(got) != 500 || got[499].Anchor != "h499" || got[499].Text != "499" {
		t.Errorf("%d sections", len(got))
	}
}

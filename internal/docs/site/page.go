package site

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"golang.org/x/net/html/charset"

	"docent/internal/docs"
)

const (
	// maxFile is how large a page may be, in bytes.
	maxFile = 20 << 20
	// maxTags is how many tags a page may have. A tag takes some 250 bytes of memory.
	maxTags = 1_000_000
)

// The reasons for which a file is left out.
const (
	tooLarge       = "larger than 20 MB"
	tooManyTags    = "more than 1,000,000 tags"
	notParsed      = "markup that is nested too deep"
	emptyFile      = "empty"
	redirect       = "redirect"
	noIndex        = "noindex"
	notFoundPage   = "page for URLs that are not found"
	searchPage     = "search page or index of words"
	sourceCode     = "listing of source code"
	otherPage      = "canonical link to another page"
	otherSite      = "canonical link to another site"
	sameURL        = "same URL as another file"
	noText         = "no text in the main content"
	notTranslated  = "copy in another language that is not translated"
	noPagefindBody = "no data-pagefind-body, which other pages have"
)

// A file is what one file of the folder says.
type file struct {
	// path is that of the file in the folder.
	path string
	// reason says why the file is left out, or is "".
	reason string
	// pagefind is true if the page marks its content for Pagefind.
	pagefind bool
	// language is that of the main content, frameLanguage that of the whole page.
	language, frameLanguage string
	// heading is the first h1, title the title element's text, and social that of
	// og:title.
	heading, title, social string
	blocks                 []block
	sections               []docs.Section

	// These are links as they stand in the page. Base is the base element's.
	base, canonical, refresh string
	// withEnding and without are how many links in the page lead to a page of the
	// site by its file's name, and by a name without .html.
	withEnding, without int
	// lists are links to the site's search page and its index of words.
	lists   []string
	noIndex bool
}

// readFile reads one page. The error is the context's or that of the file system.
func (r *reader) readFile(ctx context.Context, name string) (*file, error) {
	f := &file{path: name}
	info, err := fs.Stat(r.fsys, name)
	if err != nil {
		return nil, fmt.Errorf("reading a page: %w", err)
	}
	if info.Size() > maxFile {
		f.reason = tooLarge
		return f, nil
	}
	if info.Size() > maxFile/8 { // Large pages take turns, for the memory they need.
		r.large.Lock()
		defer r.large.Unlock()
	}
	data, err := fs.ReadFile(r.fsys, name)
	if err != nil {
		return nil, fmt.Errorf("reading a page: %w", err)
	}
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		f.reason = emptyFile
		return f, nil
	case bytes.Count(data, []byte("<")) > maxTags:
		f.reason = tooManyTags
		return f, nil
	}
	root, err := html.Parse(&contextReader{ctx: ctx, r: bytes.NewReader(decode(data))})
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("reading a page: %w", ctx.Err())
		}
		f.reason = notParsed
		return f, nil
	}
	f.read(root, r.options.CodeAttribute)
	return f, nil
}

// A contextReader ends with the context.
type contextReader struct {
	ctx context.Context //nolint:containedctx // A reader has no other way to get one.
	r   *bytes.Reader
}

// Read implements [io.Reader].
func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err //nolint:wrapcheck // readFile looks at the context itself.
	}
	return c.r.Read(p) //nolint:wrapcheck // As above.
}

// decode returns a page in UTF-8. A page that names no encoding is in UTF-8 if it can
// be.
func decode(data []byte) []byte {
	encoding, name, certain := charset.DetermineEncoding(data[:min(len(data), 1024)], "text/html")
	if name != "utf-8" && (certain || !utf8.Valid(data)) {
		if decoded, err := encoding.NewDecoder().Bytes(data); err == nil {
			data = decoded
		}
	}
	return bytes.TrimPrefix(bytes.ToValidUTF8(data, []byte("\uFFFD")), []byte("\uFEFF"))
}

// read takes what it needs from a parsed page.
func (f *file) read(root *html.Node, codeAttribute string) {
	d := newDocument(root, codeAttribute)
	found := candidates{document: d, names: map[int][]*html.Node{}}
	found.walk(root, 0)
	f.head(root)
	f.pagefind = len(found.pagefind) > 0
	if f.pagefind {
		f.extract(d, found.pagefind)
	} else {
		for rank := range contentNames {
			nodes := found.names[rank]
			if len(nodes) == 0 {
				continue
			}
			f.extract(d, []*html.Node{container(nodes)})
			if f.hasText() {
				break
			}
		}
	}
	if f.heading == "" {
		w := writer{doc: d}
		for _, h := range found.headings {
			if f.heading = w.inside(h); f.heading != "" {
				break
			}
		}
	}
}

// extract takes the blocks of the content elements.
func (f *file) extract(d *document, nodes []*html.Node) {
	f.blocks, f.language = nil, ""
	for _, n := range nodes {
		w := writer{doc: d, root: n}
		if n.DataAtom == atom.Pre || n.DataAtom == atom.Table || isHeading(n) {
			w.walk(n)
		} else {
			w.children(n)
		}
		w.flush()
		f.blocks = append(f.blocks, w.blocks...)
	}
	for n := nodes[0]; n != nil; n = n.Parent {
		lang := attr(n, "lang")
		if lang == "" {
			lang = attr(n, "xml:lang")
		}
		if lang != "" {
			f.frameLanguage = primary(lang)
			f.language = cmp.Or(f.language, f.frameLanguage)
		}
	}
}

func (f *file) hasText() bool {
	for i := range f.blocks {
		if f.blocks[i].level != 1 {
			return true
		}
	}
	return false
}

// primary returns the primary tag of a language, such as pt of pt-BR, or "".
func primary(tag string) string {
	tag = strings.ToLower(strings.TrimSpace(tag))
	if i := strings.IndexAny(tag, "-_"); i >= 0 {
		tag = tag[:i]
	}
	if len(tag) < 2 || len(tag) > 8 || strings.Trim(tag, "abcdefghijklmnopqrstuvwxyz") != "" {
		return ""
	}
	return tag
}

// head reads the elements that say what the page is.
func (f *file) head(root *html.Node) {
	for n := range elements(root) {
		if n.Namespace != "" {
			continue
		}
		switch n.DataAtom {
		case atom.A:
			f.count(attr(n, "href"))
		case atom.Title:
			if f.title == "" {
				f.title = oneLine([]block{{lines: []string{clean(textOf(n))}}})
			}
		case atom.Base:
			if f.base == "" {
				f.base = attr(n, "href")
			}
		case atom.Meta:
			f.meta(n)
		case atom.Link:
			href := strings.TrimSpace(attr(n, "href"))
			for rel := range strings.FieldsSeq(strings.ToLower(attr(n, "rel"))) {
				switch rel {
				case "canonical":
					if f.canonical == "" {
						f.canonical = href
					}
				case "search", "index":
					f.lists = append(f.lists, href)
				}
			}
		}
	}
}

// count counts a link within the site by its form.
func (f *file) count(href string) {
	u, err := url.Parse(href)
	if err != nil || u.Scheme != "" || u.Host != "" || strings.HasSuffix(u.Path, "/") {
		return
	}
	switch path.Ext(u.Path) {
	case ".html", ".htm":
		f.withEnding++
	case "":
		if u.Path != "" {
			f.without++
		}
	}
}

func (f *file) meta(n *html.Node) {
	content := attr(n, "content")
	switch strings.ToLower(attr(n, "name")) {
	case "robots", "googlebot":
		for word := range strings.FieldsFuncSeq(strings.ToLower(content), func(r rune) bool { return r == ',' || r == ' ' }) {
			if word == "noindex" || word == "none" {
				f.noIndex = true
			}
		}
	}
	if strings.EqualFold(attr(n, "property"), "og:title") && f.social == "" {
		f.social = oneLine([]block{{lines: []string{clean(content)}}})
	}
	if strings.EqualFold(attr(n, "http-equiv"), "refresh") && f.refresh == "" {
		// "0; url=/new", where the quotes and the name are optional.
		if i := strings.IndexAny(content, ";,"); i >= 0 {
			target := strings.TrimSpace(content[i+1:])
			if len(target) > 3 && strings.EqualFold(target[:3], "url") {
				if rest, ok := strings.CutPrefix(strings.TrimSpace(target[3:]), "="); ok {
					target = strings.TrimSpace(rest)
				}
			}
			f.refresh = strings.Trim(target, `'"`)
		}
	}
}

// resolve returns the URL that a link of the page leads to, or nil. Page is the
// page's own URL.
func (f *file) resolve(page *url.URL, link string) *url.URL {
	base := page
	if f.base != "" {
		if u, err := page.Parse(strings.TrimSpace(f.base)); err == nil {
			base = u
		}
	}
	u, err := base.Parse(link)
	if err != nil {
		return nil
	}
	u.Fragment, u.RawFragment = "", ""
	return u
}

// candidates are the elements that may hold the main content.
type candidates struct {
	*document
	pagefind []*html.Node
	// names are the elements for each of contentNames.
	names map[int][]*html.Node
	// headings are the h1 elements that can be the title.
	headings []*html.Node
}

// walk looks through n. Inside has a bit for each kind of element around n, and the
// highest two for data-pagefind-body and for main or article.
func (c *candidates) walk(n *html.Node, inside uint64) {
	const pagefind, main = 1 << 63, 1 << 62
	for child := range n.ChildNodes() {
		if child.Type != html.ElementNode || c.dropped(child) {
			continue
		}
		now := inside
		if hasAttr(child, "data-pagefind-body") {
			if now&pagefind == 0 {
				c.pagefind = append(c.pagefind, child)
			}
			now |= pagefind
		}
		if child.DataAtom == atom.Main || child.DataAtom == atom.Article || attr(child, "role") == "main" {
			now |= main
		}
		if child.DataAtom == atom.H1 && now&main != 0 {
			c.headings = append(c.headings, child)
		}
		for _, name := range namesOf(child) {
			rank, ok := contentRanks[name]
			if !ok {
				continue
			}
			if now&(1<<rank) == 0 {
				c.names[rank] = append(c.names[rank], child)
			}
			now |= 1 << rank
		}
		c.walk(child, now)
	}
}

var contentRanks = func() map[string]int {
	ranks := map[string]int{}
	for i, name := range contentNames {
		ranks[name] = i
	}
	return ranks
}()

// namesOf returns what contentNames may call an element.
func namesOf(n *html.Node) []string {
	var names []string
	for _, a := range n.Attr {
		switch a.Key {
		case "class":
			for class := range strings.FieldsSeq(a.Val) {
				names = append(names, "."+class)
			}
		case "id":
			names = append(names, "#"+a.Val)
		case "role":
			names = append(names, "["+a.Val+"]")
		case "itemprop":
			names = append(names, "@"+a.Val)
		}
	}
	switch n.DataAtom {
	case atom.Article, atom.Main, atom.Body:
		names = append(names, "<"+n.Data+">")
	}
	return names
}

// container returns the element that holds the main content, of several that may:
// the one with most of their text, else the nearest around all of them.
func container(nodes []*html.Node) *html.Node {
	if len(nodes) == 1 {
		return nodes[0]
	}
	total, most, best := 0, 0, nodes[0]
	for _, n := range nodes {
		size := len(textOf(n))
		total += size
		if size > most {
			most, best = size, n
		}
	}
	if most*3 >= total*2 {
		return best
	}
	around := map[*html.Node]int{}
	for _, n := range nodes {
		for p := n.Parent; p != nil; p = p.Parent {
			around[p]++
		}
	}
	for p := nodes[0].Parent; p != nil; p = p.Parent {
		if around[p] == len(nodes) {
			return p
		}
	}
	return best
}

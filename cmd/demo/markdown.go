package main

import (
	"bytes"
	"fmt"
	"html/template"
	"path"
	"strconv"
	"strings"
	"unicode"

	"docent/docs"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// document is a page of docs/, as the site shows it.
type document struct {
	// Title is the heading at its beginning, and Summary the paragraph after that.
	Title, Summary string
	// Body is all that follows.
	Body template.HTML
	// Sections are its headings of the second level.
	Sections []section
}

type section struct{ ID, Title string }

// markdown renders what the documentation uses of GitHub's Markdown. HTML in a
// page is left out.
var markdown = goldmark.New(
	goldmark.WithExtensions(extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute))),
	goldmark.WithParserOptions(parser.WithAutoHeadingID()),
	goldmark.WithRendererOptions(renderer.WithNodeRenderers(util.Prioritized(siteRenderer{}, 100))), // Before goldmark's own.
)

// renderDocument renders docs/NAME.md.
func renderDocument(name string) (document, error) {
	source, err := docs.Files.ReadFile(name + ".md")
	if err != nil {
		return document{}, err //nolint:wrapcheck // It names the file.
	}
	root := markdown.Parser().Parse(text.NewReader(source), parser.WithContext(parser.NewContext(parser.WithIDs(headingIDs{}))))
	title, ok1 := root.FirstChild().(*ast.Heading)
	if !ok1 || title.Level != 1 {
		return document{}, fmt.Errorf("docs/%s.md does not begin with a heading of the first level", name)
	}
	summary, ok2 := title.NextSibling().(*ast.Paragraph)
	if !ok2 {
		return document{}, fmt.Errorf("docs/%s.md has no paragraph after its title", name)
	}
	d := document{Title: plain(title, source), Summary: plain(summary, source)}
	root.RemoveChild(root, title)
	root.RemoveChild(root, summary)
	label := d.Title
	for n := root.FirstChild(); n != nil; n = n.NextSibling() {
		switch n := n.(type) {
		case *ast.Heading:
			label = plain(n, source)
			if id, _ := n.AttributeString("id"); n.Level == 2 {
				d.Sections = append(d.Sections, section{fmt.Sprintf("%s", id), label})
			}
		case *extast.Table:
			n.SetAttributeString("aria-label", []byte(label))
			labelCells(n, source)
		}
	}
	var body bytes.Buffer
	if err := markdown.Renderer().Render(&body, source, root); err != nil {
		return document{}, fmt.Errorf("rendering docs/%s.md: %w", name, err)
	}
	d.Body = template.HTML(body.String()) //nolint:gosec // Our own documentation, and goldmark escapes it.
	return d, nil
}

// labelCells gives each cell of a table the name of its column, for screens
// that are too narrow for columns.
func labelCells(table *extast.Table, source []byte) {
	var columns [][]byte
	for row := table.FirstChild(); row != nil; row = row.NextSibling() {
		i := 0
		for cell := row.FirstChild(); cell != nil; cell = cell.NextSibling() {
			if row.Kind() == extast.KindTableHeader {
				columns = append(columns, []byte(plain(cell, source)))
			} else if len(columns) > 2 && i > 0 && cell.HasChildren() {
				cell.SetAttributeString("data-label", columns[i])
			}
			i++
		}
	}
}

// plain returns the text of a node without its formatting.
func plain(n ast.Node, source []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) { // The walker returns no error.
		if t, ok := n.(*ast.Text); ok && entering {
			b.Write(t.Value(source))
			if t.SoftLineBreak() {
				b.WriteByte(' ')
			}
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

// headingIDs makes the IDs that GitHub makes, so that a link to a heading works
// there and here.
type headingIDs map[string]int

// Generate implements [parser.IDs].
func (ids headingIDs) Generate(heading []byte, _ ast.NodeKind) []byte {
	id := strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', r == '_', unicode.IsLetter(r), unicode.IsNumber(r):
			return unicode.ToLower(r)
		default:
			return -1
		}
	}, string(bytes.TrimSpace(heading)))
	n := ids[id]
	ids[id]++
	if n > 0 {
		id += "-" + strconv.Itoa(n)
	}
	return []byte(id)
}

// Put implements [parser.IDs].
func (ids headingIDs) Put(id []byte) { ids[string(id)]++ }

// siteRenderer renders what is different here than on GitHub: links lead to the
// site's pages, and what may be too wide scrolls, by the keyboard too.
type siteRenderer struct{}

// RegisterFuncs implements [renderer.NodeRenderer].
func (s siteRenderer) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(ast.KindLink, s.link)
	r.Register(ast.KindCodeBlock, s.codeBlock)
	r.Register(ast.KindFencedCodeBlock, s.codeBlock)
	r.Register(extast.KindTable, s.table)
}

func (siteRenderer) link(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	url, file := target(string(n.(*ast.Link).Destination)) //nolint:errcheck,forcetypeassert // It is registered for links.
	if file == "" {
		if entering {
			put(w, `<a href="`, url, `">`)
		} else {
			_, _ = w.WriteString("</a>")
		}
		return ast.WalkContinue, nil
	}
	// A file of the repository: the site cannot show it, so it says where it is.
	switch name := plain(n, source); {
	case strings.HasSuffix(file, name) && entering:
		put(w, "<code>", file, "</code>")
	case !strings.HasSuffix(file, name) && !entering:
		put(w, " (<code>", file, "</code>)")
	case !strings.HasSuffix(file, name):
		return ast.WalkContinue, nil
	}
	return ast.WalkSkipChildren, nil
}

// target returns where a link in docs/ leads to on this site, or which file of
// the repository it names.
func target(link string) (url, file string) {
	if strings.HasPrefix(link, "#") || strings.Contains(link, "://") {
		return link, ""
	}
	name, fragment, found := strings.Cut(link, "#")
	if page, ok := strings.CutSuffix(name, ".md"); ok && !strings.Contains(name, "/") {
		if found {
			return "/" + page + "#" + fragment, ""
		}
		return "/" + page, ""
	}
	return "", strings.TrimSuffix(path.Join("docs", name), "/README.md")
}

func (siteRenderer) codeBlock(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	_, _ = w.WriteString(`<pre tabindex="0"><code>`)
	for i := range n.Lines().Len() {
		line := n.Lines().At(i)
		put(w, "", string(line.Value(source)), "")
	}
	_, _ = w.WriteString("</code></pre>\n")
	return ast.WalkContinue, nil
}

func (siteRenderer) table(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		_, _ = w.WriteString("</table>\n</div>\n")
		return ast.WalkContinue, nil
	}
	label, _ := n.AttributeString("aria-label")
	put(w, `<div class="table" tabindex="0" role="region" aria-label="`, fmt.Sprintf("%s", label), "\">\n<table>\n")
	return ast.WalkContinue, nil
}

// put writes a value between two pieces of HTML, escaped. The buffer keeps an
// error for its Flush.
func put(w util.BufWriter, before, value, after string) {
	_, _ = w.WriteString(before + template.HTMLEscapeString(value) + after)
}

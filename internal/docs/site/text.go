package site

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// A block is a heading, or a paragraph, a list, a table or code.
type block struct {
	// level is 1 to 6 for a heading, and 0 for text.
	level int
	// anchor is a heading's, or "".
	anchor string
	lines  []string
	// list is the number of the list that the block belongs to, or 0.
	list int
	// repeated is true for text that stands on most pages. Some text has the right to
	// do so: code, the labels of tabs and the titles of notes.
	repeated, mayRepeat bool
	// term is true for a term that its definition follows.
	term bool
}

func (b *block) text() string { return strings.Join(b.lines, "\n") }

// A writer turns elements into blocks.
type writer struct {
	doc    *document
	root   *html.Node
	blocks []block

	// plain leaves out the marks of code, as in headings.
	plain bool

	line  strings.Builder
	space bool // A space goes before the next character of the line.

	lists int    // How many lists have begun.
	depth int    // How many lists are open.
	mark  string // What the next line of a list begins with.
	term  bool   // The next line is a term.
	join  bool   // The next line goes right below the term before it.

	mayRepeat bool // See block.
}

// walk writes a node and all that is in it.
func (w *writer) walk(n *html.Node) {
	switch n.Type {
	case html.TextNode:
		w.write(n.Data)
		return
	case html.ElementNode:
	default:
		w.children(n)
		return
	}
	if w.doc.dropped(n) {
		return
	}
	if label, ok := w.doc.panels[n]; ok {
		w.flush()
		if label != "" {
			w.mayRepeat = true
			w.emit(label)
			w.mayRepeat = false
		}
	}
	if code, ok := w.doc.code(n); ok {
		w.attribute(n, code)
		return
	}
	switch n.DataAtom {
	case atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6:
		w.heading(n)
	case atom.Pre:
		w.flush()
		w.pre(codeOf(n), language(n))
	case atom.Code, atom.Tt, atom.Samp:
		w.inlineCode(n)
	case atom.Math:
		w.write(formula(n))
	case atom.Img:
		w.write(attr(n, "alt"))
	case atom.Br:
		if w.line.Len() > 0 {
			w.line.WriteByte('\n')
		}
		w.space = false
	case atom.Table:
		w.flush()
		w.table(n)
	case atom.Ul, atom.Ol, atom.Menu:
		w.flush()
		if w.depth == 0 {
			w.lists++
		}
		w.depth++
		w.children(n)
		w.flush()
		w.depth--
	case atom.Li:
		w.flush()
		w.mark = strings.Repeat("  ", max(0, w.depth-1)) + "- "
		w.children(n)
		w.flush()
		w.mark = ""
	case atom.Dt:
		w.flush()
		w.term = true
		w.children(n)
		w.flush()
		w.term = false
	case atom.Dd:
		w.flush()
		w.join = true
		w.children(n)
		w.flush()
		w.join = false
	default:
		if !isBlock(n) {
			w.children(n)
			return
		}
		w.flush()
		outer := w.mayRepeat
		w.mayRepeat = outer || isNoteTitle(n)
		w.children(n)
		w.flush()
		w.mayRepeat = outer
	}
}

func (w *writer) children(n *html.Node) {
	for c := range n.ChildNodes() {
		w.walk(c)
	}
}

// write adds text to the line. Runs of spaces become one.
func (w *writer) write(s string) {
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			w.space = true
		case isRemoved(r):
		default:
			if w.space && w.line.Len() > 0 && !strings.HasSuffix(w.line.String(), "\n") {
				w.line.WriteByte(' ')
			}
			w.space = false
			w.line.WriteRune(r)
		}
	}
}

// flush ends the line.
func (w *writer) flush() {
	text := strings.TrimSpace(w.line.String())
	w.line.Reset()
	w.space = false
	if text != "" {
		w.emit(text)
	}
}

// emit adds a block of text, or a line to the block that it belongs to.
func (w *writer) emit(text string) {
	b := block{lines: []string{w.mark + text}, term: w.term, mayRepeat: w.mayRepeat}
	if w.mark != "" {
		b.list = w.lists
	}
	join := w.join
	w.mark, w.join = "", false
	if n := len(w.blocks); n > 0 {
		last := &w.blocks[n-1]
		if b.list > 0 && last.list == b.list || join && last.term {
			last.lines = append(last.lines, b.lines...)
			return
		}
	}
	w.blocks = append(w.blocks, b)
}

// inside returns what an element holds, as one line of plain text.
func (w *writer) inside(n *html.Node) string {
	in := writer{doc: w.doc, root: w.root, plain: true}
	in.children(n)
	in.flush()
	return oneLine(in.blocks)
}

func oneLine(blocks []block) string {
	parts := make([]string, len(blocks))
	for i := range blocks {
		parts[i] = strings.Join(blocks[i].lines, " ")
	}
	return strings.Join(strings.Fields(strings.Join(parts, " ")), " ")
}

func (w *writer) heading(n *html.Node) {
	w.flush()
	text := w.inside(n)
	if text == "" {
		return
	}
	w.mark, w.join = "", false
	w.blocks = append(w.blocks, block{
		level: int(n.Data[1] - '0'), anchor: w.doc.anchor(n, w.root), lines: []string{text},
	})
}

// pre adds a block of code.
func (w *writer) pre(code, language string) {
	code = strings.Trim(code, "\n")
	if strings.TrimSpace(code) == "" {
		return
	}
	if w.plain {
		w.write(" " + code + " ")
		return
	}
	lines := strings.Split(code, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	w.mark, w.join = "", false
	w.blocks = append(w.blocks, block{lines: append(append([]string{"```" + language}, lines...), "```"), mayRepeat: true})
}

func (w *writer) inlineCode(n *html.Node) {
	if w.plain {
		w.children(n)
		return
	}
	in := writer{doc: w.doc, root: w.root, plain: true}
	in.children(n)
	code := strings.TrimSpace(in.line.String())
	switch {
	case len(in.blocks) > 0: // It is a block in the wrong element.
		w.flush()
		w.children(n)
		w.flush()
	case strings.Contains(code, "\n"):
		w.flush()
		w.pre(codeOf(n), language(n))
	case code == "" || strings.Contains(code, "`"):
		w.write(code)
	default:
		w.write("`" + code + "`")
	}
}

// attribute adds code that stands in an attribute of n.
func (w *writer) attribute(n *html.Node, code string) {
	code = clean(code)
	if !isBlock(n) && n.DataAtom != atom.Pre && !strings.Contains(code, "\n") {
		if !w.plain && !strings.Contains(code, "`") {
			code = "`" + code + "`"
		}
		w.write(code)
		return
	}
	w.flush()
	w.pre(code, language(n))
}

// table adds a table: a line for each row, with a bar between cells.
func (w *writer) table(n *html.Node) {
	if w.doc.isLayout(n) {
		w.children(n)
		w.flush()
		return
	}
	var lines []string
	var rows func(*html.Node)
	rows = func(n *html.Node) {
		for c := range n.ChildNodes() {
			if c.Type != html.ElementNode || w.doc.dropped(c) {
				continue
			}
			switch c.DataAtom {
			case atom.Caption:
				if text := w.inside(c); text != "" {
					lines = append(lines, text)
				}
			case atom.Tr:
				if row := w.row(c); row != "" {
					lines = append(lines, row)
				}
			default:
				rows(c)
			}
		}
	}
	rows(n)
	if len(lines) == 0 {
		return
	}
	w.mark, w.join = "", false
	w.blocks = append(w.blocks, block{lines: lines})
}

// row returns the cells of a row, or "" if they are all empty.
func (w *writer) row(n *html.Node) string {
	var cells []string
	empty := true
	for c := range n.ChildNodes() {
		if c.Type != html.ElementNode || w.doc.dropped(c) {
			continue
		}
		in := writer{doc: w.doc, root: w.root, plain: w.plain}
		in.children(c)
		in.flush()
		for i := range in.blocks { // A cell is one line.
			if lines := in.blocks[i].lines; strings.HasPrefix(lines[0], "```") {
				in.blocks[i].lines = lines[1 : len(lines)-1]
			}
		}
		text := oneLine(in.blocks)
		empty = empty && text == ""
		cells = append(cells, text)
	}
	if empty {
		return ""
	}
	return strings.Join(cells, " | ")
}

// codeOf returns the lines of a code block.
func codeOf(n *html.Node) string {
	var b strings.Builder
	last := byte('\n')
	put := func(s string) {
		if s = clean(s); s != "" {
			b.WriteString(s)
			last = s[len(s)-1]
		}
	}
	var walk func(*html.Node)
	walk = func(n *html.Node) {
		for c := range n.ChildNodes() {
			switch {
			case c.Type == html.TextNode:
				put(c.Data)
			case c.Type != html.ElementNode || isGutter(c) || isHidden(c):
			case c.DataAtom == atom.Br:
				put("\n")
			case isBlock(c) || c.DataAtom == atom.Li || c.DataAtom == atom.Tr:
				if last != '\n' {
					put("\n")
				}
				walk(c)
				if last != '\n' {
					put("\n")
				}
			default:
				walk(c)
			}
		}
	}
	walk(n)
	return b.String()
}

// isGutter reports whether n stands in code without being code: line numbers and
// buttons.
func isGutter(n *html.Node) bool {
	switch n.DataAtom {
	case atom.Button, atom.Script, atom.Style, atom.Template, atom.Svg, atom.Input:
		return true
	}
	return hasClass(n, gutterClasses)
}

// language returns the language of a code block from the classes around it, or "".
func language(n *html.Node) string {
	for c := range n.Descendants() { // The code in a pre names it more often than the pre.
		if c.Type == html.ElementNode && c.DataAtom == atom.Code {
			if name := languageOf(c); name != "" {
				return name
			}
			break
		}
	}
	for range 8 { // A table that numbers the lines may stand between.
		if n == nil || n.Type != html.ElementNode {
			break
		}
		if name := languageOf(n); name != "" {
			return name
		}
		n = n.Parent
	}
	return ""
}

func languageOf(n *html.Node) string {
	name := attr(n, "data-language")
	if name == "" {
		name = attr(n, "data-lang")
	}
	for class := range strings.FieldsSeq(attr(n, "class")) {
		if name != "" {
			break
		}
		for _, prefix := range []string{"language-", "lang-", "highlight-source-", "highlight-"} {
			rest, ok := strings.CutPrefix(class, prefix)
			if ok && (prefix != "lang-" || n.DataAtom == atom.Code || n.DataAtom == atom.Pre) {
				name = rest
				break
			}
		}
	}
	name = strings.ToLower(name)
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("+#-_.", rune(c)) {
			return ""
		}
	}
	switch name {
	case "default", "none", "text", "plaintext", "txt", "notranslate":
		return ""
	}
	return name
}

// formula returns a formula as TeX where the page has it, else its text.
func formula(n *html.Node) string {
	for c := range n.Descendants() {
		if c.Type == html.ElementNode && c.Data == "annotation" && strings.Contains(attr(c, "encoding"), "tex") {
			return textOf(c)
		}
	}
	if alt := attr(n, "alttext"); alt != "" {
		return alt
	}
	return mathText(n)
}

// mathText returns the text of MathML in one line, with powers, indices and fractions
// as in code.
func mathText(n *html.Node) string {
	var parts []string
	for c := range n.ChildNodes() {
		text := c.Data
		if c.Type == html.ElementNode {
			text = mathText(c)
		}
		if text = strings.TrimSpace(text); text != "" && c.Type != html.CommentNode {
			parts = append(parts, text)
		}
	}
	var sign string
	switch n.Data {
	case "msup":
		sign = "^"
	case "msub":
		sign = "_"
	case "mfrac":
		sign = "/"
	}
	if sign != "" {
		for i, part := range parts {
			if utf8.RuneCountInString(part) > 1 {
				parts[i] = "(" + part + ")"
			}
		}
	}
	return strings.Join(parts, sign)
}

// textOf returns the text in a node as it stands in the page.
func textOf(n *html.Node) string {
	var b strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode {
			b.WriteString(c.Data)
		}
	}
	return b.String()
}

// clean returns s without the characters that never leave a page.
func clean(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r == utf8.RuneError || isRemoved(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if !isRemoved(r) {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// isRemoved reports whether a character is left out of all text: control characters,
// which a terminal would obey, those that reorder text, the marks of citations, and
// those without width that only help to break a line. Characters that join letters
// stay.
func isRemoved(r rune) bool {
	switch {
	case r == '\n', r == '\t':
		return false
	case r < 0x20, r >= 0x7F && r <= 0x9F:
		return true
	case r >= 0x202A && r <= 0x202E, r >= 0x2066 && r <= 0x2069:
		return true
	case r >= 0xE200 && r <= 0xE202:
		return true
	case r == 0xAD, r == 0x200B, r == 0x2060, r == 0xFEFF:
		return true
	}
	return false
}

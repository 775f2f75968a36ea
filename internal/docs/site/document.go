package site

import (
	"iter"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// A document is one parsed page.
type document struct {
	root *html.Node
	// codeAttribute is the attribute that holds the code of its element, or "".
	codeAttribute string
	// ids is the element that a browser goes to for each fragment.
	ids map[string]*html.Node
	// panels are the panels of tabs, each with its tab's label.
	panels map[*html.Node]string
	// tabs are the labels themselves.
	tabs map[*html.Node]bool
}

func newDocument(root *html.Node, codeAttribute string) *document {
	d := &document{
		root: root, codeAttribute: strings.ToLower(codeAttribute),
		ids: map[string]*html.Node{}, panels: map[*html.Node]string{}, tabs: map[*html.Node]bool{},
	}
	names := map[string]*html.Node{}
	for n := range elements(root) {
		if id := attr(n, "id"); id != "" && d.ids[id] == nil {
			d.ids[id] = n
		}
		if name := attr(n, "name"); n.DataAtom == atom.A && name != "" && names[name] == nil {
			names[name] = n
		}
	}
	for name, n := range names { // A browser looks for names after IDs.
		if d.ids[name] == nil {
			d.ids[name] = n
		}
	}
	d.findPanels(root)
	return d
}

// fragment returns the fragment that leads to n itself, or "".
func (d *document) fragment(n *html.Node) string {
	id := attr(n, "id")
	if id == "" && n.DataAtom == atom.A {
		id = attr(n, "name")
	}
	if id == "" || d.ids[id] != n || clean(id) != id || strings.ContainsAny(id, "\n\t") {
		return ""
	}
	return id
}

// anchor returns the fragment of a heading in the content root, or "": the heading's
// own ID, the one that its permalink names, one in it, one right before it, or that
// of the section that it opens.
func (d *document) anchor(h, root *html.Node) string {
	if id := d.fragment(h); id != "" {
		return id
	}
	var inside string
	for n := range h.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		// A permalink says which of the anchors around it is the heading's.
		if id, ok := strings.CutPrefix(attr(n, "href"), "#"); ok && d.isPermalink(n) && d.ids[id] != nil && d.isNear(d.ids[id], h) {
			if id = d.fragment(d.ids[id]); id != "" {
				return id
			}
		}
		if inside == "" {
			inside = d.fragment(n)
		}
	}
	if inside != "" {
		return inside
	}
	node := h
	for range 3 {
		steps := 0
		for n := node.PrevSibling; n != nil; n = n.PrevSibling {
			if steps++; steps > 10 || hasText(n) {
				return ""
			}
			if id := d.firstFragment(n); id != "" {
				return id
			}
		}
		node = node.Parent
		if node == nil || node == root || node.Type != html.ElementNode {
			return ""
		}
		switch node.DataAtom {
		case atom.Section, atom.Div, atom.Article, atom.Header, atom.Hgroup:
		default:
			return ""
		}
		if id := d.fragment(node); id != "" {
			return id
		}
	}
	return ""
}

// isNear reports whether n is in or around h, or right before it.
func (d *document) isNear(n, h *html.Node) bool {
	return n == h.Parent || n.Parent == h || n.Parent == h.Parent
}

func (d *document) firstFragment(n *html.Node) string {
	if n.Type != html.ElementNode {
		return ""
	}
	if id := d.fragment(n); id != "" {
		return id
	}
	for c := range elements(n) {
		if id := d.fragment(c); id != "" {
			return id
		}
	}
	return ""
}

// code returns the code that stands in an attribute of n.
func (d *document) code(n *html.Node) (string, bool) {
	if d.codeAttribute == "" {
		return "", false
	}
	for _, a := range n.Attr {
		if a.Key == d.codeAttribute {
			return a.Val, true
		}
	}
	return "", false
}

// findPanels finds the tabs and panels below n and gives each panel its label: that
// of the tab it names, else that of the tab in the same place. It returns those
// whose counterpart is not below n.
func (d *document) findPanels(n *html.Node) (tabs, panels []*html.Node) {
	for c := range n.ChildNodes() {
		if c.Type != html.ElementNode {
			continue
		}
		t, p := d.findPanels(c)
		switch {
		case isTab(c):
			d.tabs[c] = true
			tabs = append(tabs, c)
		case isPanel(c):
			d.panels[c] = ""
			panels = append(panels, c)
		default:
			tabs, panels = append(tabs, t...), append(panels, p...)
		}
	}
	if len(tabs) == 0 || len(panels) == 0 {
		return tabs, panels
	}
	for i, panel := range panels {
		tab := d.ids[attr(panel, "aria-labelledby")]
		if id := attr(panel, "id"); tab == nil && id != "" {
			if j := slices.IndexFunc(tabs, func(t *html.Node) bool { return attr(t, "aria-controls") == id }); j >= 0 {
				tab = tabs[j]
			}
		}
		if tab == nil && len(tabs) == len(panels) {
			tab = tabs[i]
		}
		if tab != nil {
			d.panels[panel] = oneLine([]block{{lines: []string{clean(textOf(tab))}}})
		}
	}
	return nil, nil
}

func isTab(n *html.Node) bool {
	if attr(n, "role") == "tab" {
		return true
	}
	if n.DataAtom != atom.Label || n.Parent == nil {
		return false
	}
	return hasClass(n, tabClasses) || hasClass(n.Parent, tabListClasses)
}

func isPanel(n *html.Node) bool {
	switch {
	case attr(n, "role") == "tabpanel", hasClass(n, panelClasses):
		return true
	case n.Parent == nil:
		return false
	case hasClass(n, oldPanelClasses): // The newer tabs of MkDocs have one of these around all panels.
		return !hasClass(n.Parent, newTabsClasses)
	}
	return hasClass(n.Parent, panelListClasses) && n.Parent.Parent != nil && hasClass(n.Parent.Parent, codeGroupClasses)
}

// isLayout reports whether a table only places its cells: it holds headings, or the
// lines of code beside their numbers.
func (d *document) isLayout(n *html.Node) bool {
	if role := attr(n, "role"); role == "presentation" || role == "none" {
		return true
	}
	if hasClass(n, codeTableClasses) {
		return true
	}
	for c := range n.Descendants() {
		if c.Type == html.ElementNode && isHeading(c) {
			return true
		}
	}
	return false
}

// dropped reports whether an element is not content: hidden, or there to move around
// the site.
func (d *document) dropped(n *html.Node) bool {
	if _, ok := d.panels[n]; ok {
		return hasAttr(n, "data-pagefind-ignore")
	}
	if d.tabs[n] {
		return true
	}
	switch n.DataAtom {
	case atom.Script, atom.Style, atom.Template, atom.Noscript, atom.Nav, atom.Form, atom.Button, atom.Svg,
		atom.Input, atom.Select, atom.Textarea, atom.Datalist, atom.Iframe, atom.Object, atom.Canvas, atom.Audio,
		atom.Video, atom.Dialog, atom.Head, atom.Title, atom.Link, atom.Meta:
		return true
	case atom.Html, atom.Body:
		return false // Some pages are hidden until their script runs.
	case atom.Footer:
		return n.Parent == nil || n.Parent.DataAtom != atom.Blockquote && n.Parent.DataAtom != atom.Figure
	case atom.Aside:
		if !isNote(n) && isMostlyLinks(n) {
			return true
		}
	case atom.Header:
		if attr(n, "role") == "banner" || contains(n, atom.Nav) {
			return true
		}
	case atom.Label:
		if hasAttr(n, "for") {
			return true
		}
	case atom.A:
		if d.isPermalink(n) || isEditLink(n) {
			return true
		}
	case atom.Span:
		// The name of the language that VitePress shows in a corner.
		if attr(n, "class") == "lang" && n.Parent != nil && strings.HasPrefix(attr(n.Parent, "class"), "language-") {
			return true
		}
	}
	if isHidden(n) {
		return true
	}
	return droppedRoles[attr(n, "role")] || hasAttr(n, "data-pagefind-ignore") ||
		hasClass(n, droppedClasses)
}

// isHidden reports whether an element is not shown. What details hide is shown on
// request, and "until-found" when the browser looks for it.
func isHidden(n *html.Node) bool {
	for _, a := range n.Attr {
		switch a.Key {
		case "hidden":
			if !strings.EqualFold(a.Val, "until-found") {
				return true
			}
		case "aria-hidden":
			if a.Val == "true" && !hasClass(n, titleClasses) {
				return true
			}
		case "style":
			style := strings.ToLower(strings.Join(strings.Fields(a.Val), ""))
			if (strings.Contains(style, "display:none") || strings.Contains(style, "visibility:hidden")) &&
				(n.Parent == nil || n.Parent.DataAtom != atom.Details) {
				return true
			}
		case "class":
			if hasClass(n, hiddenClasses) {
				return true
			}
		}
	}
	return false
}

// isPermalink reports whether a link only names the heading that it stands in.
func (d *document) isPermalink(n *html.Node) bool {
	if n.DataAtom != atom.A {
		return false
	}
	known := hasClass(n, permalinkClasses)
	if !known && !strings.HasPrefix(attr(n, "href"), "#") {
		return false
	}
	text := textOf(n)
	if strings.IndexFunc(text, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) < 0 {
		return !contains(n, atom.Img)
	}
	// Some generators put the heading's text into the link.
	return known && n.Parent != nil && strings.TrimSpace(textOf(n.Parent)) != strings.TrimSpace(text)
}

// isEditLink reports whether n leads to the source of the page.
func isEditLink(n *html.Node) bool {
	if rel := attr(n, "rel"); rel == "edit" || rel == "prev" || rel == "next" {
		return true
	}
	text := strings.ToLower(strings.TrimSpace(textOf(n)))
	return strings.HasPrefix(text, "edit this page") || strings.HasPrefix(text, "edit") && strings.Contains(attr(n, "href"), "/edit/")
}

// isNote reports whether an aside is a note to the text around it.
func isNote(n *html.Node) bool {
	if attr(n, "role") == "note" {
		return true
	}
	for class := range strings.FieldsSeq(attr(n, "class")) {
		class = strings.ToLower(class)
		if noteClasses[class] || strings.HasPrefix(class, "admonition") || strings.HasPrefix(class, "callout") ||
			strings.HasPrefix(class, "alert") || strings.HasPrefix(class, "starlight-aside") {
			return true
		}
	}
	return false
}

// isNoteTitle reports whether n is the title of a note.
func isNoteTitle(n *html.Node) bool {
	for class := range strings.FieldsSeq(attr(n, "class")) {
		class = strings.ToLower(class)
		if (strings.Contains(class, "title") || strings.Contains(class, "heading")) &&
			slices.ContainsFunc(noteWords, func(word string) bool { return strings.Contains(class, word) }) {
			return true
		}
	}
	return false
}

// isMostlyLinks reports whether at least half of an element's text is links.
func isMostlyLinks(n *html.Node) bool {
	all, links := 0, 0
	var walk func(*html.Node, bool)
	walk = func(n *html.Node, link bool) {
		for c := range n.ChildNodes() {
			if c.Type == html.TextNode {
				size := len(strings.TrimSpace(c.Data))
				all += size
				if link {
					links += size
				}
			}
			walk(c, link || c.DataAtom == atom.A)
		}
	}
	walk(n, false)
	return links*2 >= all
}

func isHeading(n *html.Node) bool {
	switch n.DataAtom {
	case atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6:
		return true
	}
	return false
}

// isBlock reports whether an element starts a line of its own.
func isBlock(n *html.Node) bool {
	if n.DataAtom == atom.Span && n.Parent != nil && n.Parent.DataAtom == atom.H1 && hasClass(n, heroClasses) {
		return true
	}
	switch n.DataAtom {
	case atom.A, atom.Abbr, atom.Acronym, atom.B, atom.Bdi, atom.Bdo, atom.Big, atom.Cite, atom.Code, atom.Data, atom.Del,
		atom.Dfn, atom.Em, atom.Font, atom.I, atom.Img, atom.Ins, atom.Kbd, atom.Label, atom.Mark, atom.Math, atom.Nobr,
		atom.Output, atom.Picture, atom.Q, atom.Rp, atom.Rt, atom.Ruby, atom.S, atom.Samp, atom.Small, atom.Source,
		atom.Span, atom.Strike, atom.Strong, atom.Sub, atom.Sup, atom.Time, atom.Tt, atom.U, atom.Var, atom.Wbr:
		return false
	}
	return n.Namespace == "" && !strings.Contains(n.Data, "-") // Own elements are inline.
}

// elements are those below n, without what only templates have.
func elements(n *html.Node) iter.Seq[*html.Node] {
	return func(yield func(*html.Node) bool) { eachElement(n, yield) }
}

func eachElement(n *html.Node, yield func(*html.Node) bool) bool {
	for c := range n.ChildNodes() {
		if c.Type == html.ElementNode && (!yield(c) || c.DataAtom != atom.Template && !eachElement(c, yield)) {
			return false
		}
	}
	return true
}

func hasText(n *html.Node) bool {
	if n.Type == html.TextNode {
		return strings.TrimSpace(n.Data) != ""
	}
	for c := range n.Descendants() {
		if c.Type == html.TextNode && strings.TrimSpace(c.Data) != "" || c.DataAtom == atom.Img {
			return true
		}
	}
	return n.DataAtom == atom.Img
}

func contains(n *html.Node, a atom.Atom) bool {
	for c := range n.Descendants() {
		if c.Type == html.ElementNode && c.DataAtom == a {
			return true
		}
	}
	return false
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func hasAttr(n *html.Node, key string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == key })
}

func hasClass(n *html.Node, classes map[string]bool) bool {
	for class := range strings.FieldsSeq(attr(n, "class")) {
		if classes[class] {
			return true
		}
	}
	return false
}

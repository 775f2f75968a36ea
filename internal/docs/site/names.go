package site

// contentNames are the elements that hold a page's main text, best first: by class,
// id, role or tag. The special ones come before the general ones, which some
// generators put around more than the text.
var contentNames = []string{
	".theme-doc-markdown",               // Docusaurus
	".VPHome",                           // VitePress, the home page
	".vp-doc", ".theme-default-content", // VitePress, VuePress
	".md-content__inner",        // MkDocs Material
	".sl-markdown-content",      // Starlight
	".td-content", ".book-page", // Hugo: Docsy, Book
	"@articleBody", "[main]", // Sphinx, Read the Docs
	"<article>",
	".markdown-body", ".markdown", ".post-content", ".nextra-content",
	"<main>",
	".document", "#content", ".content", // Sphinx, MkDocs
	"<body>",
}

// droppedClasses are the classes of what is around the text.
var droppedClasses = set(
	"breadcrumb", "breadcrumbs", "theme-doc-breadcrumbs", "wy-breadcrumbs",
	"theme-doc-version-banner", "theme-doc-version-badge", "theme-doc-toc-mobile", "theme-doc-toc-desktop",
	"theme-doc-footer", "theme-edit-this-page", "pagination-nav", "theme-unmaintained-version-banner",
	"toc", "table-of-contents", "tableofcontents", "TableOfContents", "on-this-page",
	"edit-this-page", "edit-link", "edit-page-link", "editlink", "md-content__button", "md-source-file", "md-feedback",
	"VPDocFooter", "VPDocAsideOutline", "VPLocalNav", "VPDocAside",
	"sphinxsidebar", "related", "prev-next-footer", "prev-next-area", "rst-footer-buttons", "rst-versions", "articleFooter",
	"related-pages", "bottom-of-page", "content-icon-container", "back-to-top", "backToTop",
	"sidebar", "navbar", "site-header", "site-footer", "pagination", "pager", "skip-link", "skip-to-content", "skipLink",
	"sl-anchor-link", "td-heading-self-link", "toc-drawer",
	"copy", "copy-button", "copybtn", "copybutton", "copy-code-button", "copy-to-clipboard-button", "clipboard-button",
	"nav-chapters", "mobile-nav-chapters", "cookie-banner", "toctree-wrapper",
	"edit-page", "page-nav", "page-footer-meta", "page-footer", "post-nav", "paginav", "post-navigation", "td-page-meta", "prev-next",
	"linenos", "linenodiv",
)

// droppedRoles are the ARIA roles of the same.
var droppedRoles = set(
	"navigation", "search", "banner", "contentinfo", "menu", "menubar", "toolbar", "tablist", "dialog", "alertdialog",
	"doc-toc", "searchbox",
)

// hiddenClasses are for text that is read to visitors who do not see the page.
var hiddenClasses = set(
	"sr-only", "visually-hidden", "visuallyhidden", "screen-reader-text", "screen-reader-only", "screenreader-only", "vp-visually-hidden",
)

var permalinkClasses = set(
	"headerlink", "hash-link", "header-anchor", "heading-anchor", "heading-link", "anchorjs-link", "sl-anchor-link",
	"td-heading-self-link", "subheading-anchor", "anchor-link", "direct-link", "permalink",
)

var noteClasses = set("note", "tip", "hint", "info", "important", "warning", "caution", "danger", "attention", "seealso", "example", "footnote")

// titleClasses are for titles of notes that are hidden from screen readers alone,
// which read a label in their place: those of Starlight.
var titleClasses = set("starlight-aside__title")

// heroClasses are for the lines of the large heading of VitePress' home page.
var heroClasses = set("name", "text")

// noteWords are in the classes of the titles of notes.
var noteWords = []string{"admonition", "custom-block", "callout", "alert", "aside"}

// gutterClasses are for what stands in a code block besides the code.
var gutterClasses = set(
	"linenos", "linenodiv", "lineno", "linenumber", "line-number", "line-numbers-rows", "line-numbers-wrapper",
	"ln", "lnt", "gutter", "hljs-ln-numbers", "copy", "copybtn", "copy-button", "sr-only",
)

// codeTableClasses are for tables that place line numbers next to code.
var codeTableClasses = set("highlighttable", "lntable", "hljs-ln", "rouge-table")

// The classes of tabs that have no ARIA roles: those of MkDocs, sphinx-design and
// VitePress.
var (
	tabClasses       = set("sd-tab-label")
	tabListClasses   = set("tabbed-labels", "tabbed-set", "tabs")
	panelClasses     = set("tabbed-block", "sd-tab-content")
	oldPanelClasses  = set("tabbed-content")
	newTabsClasses   = set("tabbed-alternate")
	panelListClasses = set("blocks")
	codeGroupClasses = set("vp-code-group")
)

func set(words ...string) map[string]bool {
	s := make(map[string]bool, len(words))
	for _, word := range words {
		s[word] = true
	}
	return s
}

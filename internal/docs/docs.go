// Package docs finds the passages of a docs site that a question is about. It
// holds the site's sections in an index in memory, which is loaded from a file.
package docs

import (
	"context"
	"iter"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Site is the text of a docs site, by page. It is what an index file holds.
type Site struct {
	// Language is that of most pages, or "" where no page names one.
	Language string
	// VersionPath is the path of a page with {version} in it, such as
	// /docs/{version}/, or "" for a site of one version. Versions are the values
	// that stand in that place. A path with any other value there is of the
	// default version.
	VersionPath    string
	Versions       []string
	DefaultVersion string
	// Model made the vectors of the pieces. It is "" where there are none.
	Model string
	// Dimensions is the length of each vector.
	Dimensions int
	Pages      []Page
}

// VersionOf returns the version of the page at a path, or "" if it is of none. A
// language may stand before the pattern, as in /ja/docs/2.x/.
func (s *Site) VersionOf(path string) string {
	prefix, suffix, versioned := strings.Cut(s.VersionPath, "{version}")
	rest, ok := strings.CutPrefix(path, prefix)
	if found := localized.FindString(path); !ok && found != "" {
		rest, ok = strings.CutPrefix(path[len(found):], prefix)
	}
	segment, rest, _ := strings.Cut(rest, "/")
	// A path may end at the version.
	if !versioned || !ok || rest != "" && !strings.HasPrefix("/"+rest, suffix) {
		return ""
	}
	if slices.Contains(s.Versions, segment) {
		return segment
	}
	return s.DefaultVersion
}

// sections yields all sections of the site with their pages, in their order.
func (s *Site) sections() iter.Seq2[*Page, *Section] {
	return func(yield func(*Page, *Section) bool) {
		for i := range s.Pages {
			p := &s.Pages[i]
			for j := range p.Sections {
				if !yield(p, &p.Sections[j]) {
					return
				}
			}
		}
	}
}

// localized matches the language at the beginning of a path.
var localized = regexp.MustCompile(`^/[a-z]{2,3}(-[A-Za-z]+)?`)

// Page is one page of a site.
type Page struct {
	// URL is absolute and has no fragment.
	URL string
	// Title is in plain text, as the headings are.
	Title string
	// Language is a lower-case language code without a region, such as pt, or "".
	Language string
	// Version is one of the site's, or "" for a page that is of no version.
	Version  string
	Sections []Section
}

// Section is the part of a page from a heading with an anchor to the next one.
type Section struct {
	// Anchor is the heading's ID, or "" for the text before the first heading
	// that has one.
	Anchor string
	// Headings is the path of headings to the section, its own last. The page's
	// title is not part of it.
	Headings []string
	// Text is plain text. Blocks are parted by an empty line. Code keeps its lines
	// and stands between fences of three backticks.
	Text string
	// Pieces are what the vectors are of. There are none in a site without vectors.
	Pieces []Piece
}

// Link returns the URL of a section of the page.
func (p *Page) Link(s *Section) string {
	if s.Anchor == "" {
		return p.URL
	}
	return p.URL + "#" + (&url.URL{Fragment: s.Anchor}).EscapedFragment()
}

// Path returns the page's title and the section's headings in one line.
func (p *Page) Path(s *Section) string {
	return strings.Join(append([]string{p.Title}, s.Headings...), " > ")
}

// Query is a question and what is known of who asks it. All but the question may
// be empty.
type Query struct {
	Question string
	// Previous is the question before it in the conversation.
	Previous string
	// Page is the URL of the page that is being read.
	Page string
	// Languages are those that the visitor reads, as Accept-Language lists them.
	Languages string
}

// Searcher finds passages.
type Searcher interface {
	// Passages returns the passages for a question, best first: at most 8, each of
	// at most 4,000 characters, all together at most 24,000.
	Passages(ctx context.Context, q Query) (Found, error)
}

// Found is what a search has found.
type Found struct {
	Passages []Passage
	// PageTitle is the title of the page that is being read, or "" if it is unknown.
	PageTitle string
	// WithoutVectors says why the search went by words alone, although the index
	// has vectors, or is nil.
	WithoutVectors error
}

// Passage is a part of a section that fits a question.
type Passage struct {
	// URL has the section's anchor.
	URL string
	// Title is the page's.
	Title    string
	Headings []string
	Text     string
	// Score orders the passages of one search. Scores of two searches cannot be
	// compared.
	Score float64
}

// Embedder turns texts into vectors whose directions are close if the texts mean
// the same.
type Embedder interface {
	// Embed returns a vector for each text, in their order. No text may be empty.
	Embed(ctx context.Context, model string, dimensions int, texts []string) ([][]float32, error)
}

package docs

import (
	"cmp"
	"math"
	"slices"
)

// BM25's parameters, and what a word counts by the place it stands in.
const (
	k1 = 1.2
	b  = 0.75

	inHeading = 3 // The section's own heading.
	inPath    = 1 // The page's title and the headings above.
	inText    = 1
)

// Index is a site in memory, ready to be searched. It is safe for concurrent use.
type Index struct {
	site     *Site
	embedder Embedder
	sections []section
	pages    map[string]int // By path, as pathOf returns it.
	firsts   []int          // The number of each page's first section.
	lexicons []*lexicon
	vectors  []vector
}

// A section of the index is one of the site's, and where it stands there.
type section struct {
	page, n int // Of the site's pages, and of the page's sections.
	lexicon int
}

// NewIndex returns the index of a site, which must not be changed from then on. The
// embedder makes the vectors of questions. It may be nil: then the search goes by
// words alone.
func NewIndex(site *Site, embedder Embedder) *Index {
	x := &Index{site: site, embedder: embedder, pages: make(map[string]int, len(site.Pages))}
	byLanguage := map[string]int{}
	for p := range site.Pages {
		page := &site.Pages[p]
		x.pages[pathOf(page.URL)] = p
		x.firsts = append(x.firsts, len(x.sections))
		code := cmp.Or(page.Language, site.Language, "en")
		l, known := byLanguage[code]
		if !known {
			l = len(x.lexicons)
			byLanguage[code] = l
			x.lexicons = append(x.lexicons, newLexicon(code))
		}
		for n := range page.Sections {
			x.lexicons[l].add(len(x.sections), page, &page.Sections[n])
			x.sections = append(x.sections, section{p, n, l})
		}
	}
	for _, l := range x.lexicons {
		l.finish()
	}
	x.vectors = vectorsOf(x)
	return x
}

// Pages returns how many pages there are.
func (x *Index) Pages() int { return len(x.site.Pages) }

// Sections returns how many sections there are.
func (x *Index) Sections() int { return len(x.sections) }

// Vectors returns how many pieces have a vector.
func (x *Index) Vectors() int { return len(x.vectors) }

// Site returns what the index was made of. It must not be changed.
func (x *Index) Site() *Site { return x.site }

func (x *Index) at(number int) (*Page, *Section) {
	s := x.sections[number]
	page := &x.site.Pages[s.page]
	return page, &page.Sections[s.n]
}

// ofPage returns the numbers of a page's first section and of the one after its
// last.
func (x *Index) ofPage(page int) (from, to int) {
	from = x.firsts[page]
	return from, from + len(x.site.Pages[page].Sections)
}

// A lexicon has the sections of one language by their terms.
type lexicon struct {
	code     string
	analyzer analyzer
	// terms are numbered. Words are remembered with the number of their term, -1 for
	// a stop word, until the lexicon is complete.
	terms    map[string]int32
	words    map[string]int32
	postings [][]posting // By term.
	lengths  map[int]float32
}

// A posting is a section that has a term. Its weight is the count until the lexicon
// is complete, then what the term adds to the section's score.
type posting struct {
	section int32
	weight  float32
}

func newLexicon(code string) *lexicon {
	return &lexicon{
		code: code, analyzer: analyzerOf(code),
		terms: map[string]int32{}, words: map[string]int32{}, lengths: map[int]float32{},
	}
}

// add adds a section. Sections must come in the order of their numbers.
func (l *lexicon) add(number int, p *Page, s *Section) {
	path := append([]string{p.Title}, s.Headings...)
	length := l.count(number, path[len(path)-1], inHeading)
	for _, h := range path[:len(path)-1] {
		length += l.count(number, h, inPath)
	}
	l.lengths[number] = length + l.count(number, s.Text, inText)
}

// count adds the words of a text to a section and returns their weight.
func (l *lexicon) count(section int, text string, weight float32) (sum float32) {
	eachTerm(text, func(word string) {
		t, known := l.words[word]
		if !known {
			t = l.number(word)
			l.words[word] = t
		}
		if t < 0 {
			return
		}
		sum += weight
		list := l.postings[t]
		if n := len(list); n > 0 && list[n-1].section == int32(section) { //nolint:gosec // Far below 2^31.
			list[n-1].weight += weight
			return
		}
		l.postings[t] = append(list, posting{int32(section), weight}) //nolint:gosec // Far below 2^31.
	})
	return sum
}

// number returns the number of a word's term, a new one if need be.
func (l *lexicon) number(word string) int32 {
	term := l.analyzer.term(word)
	if term == "" {
		return -1
	}
	t, known := l.terms[term]
	if !known {
		t = int32(len(l.postings)) //nolint:gosec // Far below 2^31.
		l.terms[term] = t
		l.postings = append(l.postings, nil)
	}
	return t
}

// finish turns counts into BM25's weights, and drops what only add needs.
func (l *lexicon) finish() {
	l.addParts()
	var total float64
	for _, n := range l.lengths {
		total += float64(n)
	}
	sections := float64(len(l.lengths))
	average := total / max(sections, 1)
	for t, list := range l.postings {
		with := float64(len(list))
		idf := math.Log1p((sections - with + 0.5) / (with + 0.5))
		for i, p := range list {
			count := float64(p.weight)
			norm := k1 * (1 - b + b*float64(l.lengths[int(p.section)])/average)
			list[i].weight = float32(idf * count * (k1 + 1) / (count + norm))
		}
		l.postings[t] = slices.Clip(slices.Clone(list)) // Growing has left room.
	}
	l.words, l.lengths = nil, nil
}

// score adds to the scores of sections what the terms of a text add to them.
func (l *lexicon) score(text string, scores []float32) {
	l.eachKnown(text, func(term int32) {
		for _, p := range l.postings[term] {
			scores[p.section] += p.weight
		}
	})
}

// eachKnown calls yield with the terms of a text that the lexicon has.
func (l *lexicon) eachKnown(text string, yield func(term int32)) {
	eachTerm(text, func(word string) {
		if t, known := l.terms[l.analyzer.term(word)]; known {
			yield(t)
		}
		for _, t := range l.parts(word) {
			yield(t)
		}
	})
}

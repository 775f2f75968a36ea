package docs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/language"
)

const (
	// fuseK and fuseFirst are those of the reciprocal rank fusion: a section's score
	// is the sum of 1/(fuseK+rank) over the rankings in which it is among the first
	// fuseFirst.
	fuseK     = 10
	fuseFirst = 200
	// EmbedTimeout is how long a search waits for the question's vector, and
	// embedLength how many characters of the question it is made of: few enough for
	// OpenAI's 8,192 tokens in any script.
	EmbedTimeout = 800 * time.Millisecond
	embedLength  = 5000
	// pagePlaces is how many passages are kept for the page that is being read.
	pagePlaces = 2
)

// ErrNoEmbedder says that a question's vector cannot be made.
var ErrNoEmbedder = errors.New("there is no API key to make the question's vector with")

// Search returns the n sections that fit a question best, at most 200, each as a
// passage. It keeps no places for the page that is being read.
func (x *Index) Search(ctx context.Context, q Query, n int) (Found, error) {
	s, err := x.search(ctx, q)
	if err != nil {
		return Found{}, err
	}
	return s.found(s.ranked[:min(n, fuseFirst, len(s.ranked))]), nil
}

// Passages implements [Searcher].
func (x *Index) Passages(ctx context.Context, q Query) (Found, error) {
	s, err := x.search(ctx, q)
	if err != nil {
		return Found{}, err
	}
	found := s.found(s.withPage())
	found.Passages = Bound(found.Passages)
	return found, nil
}

// A search is one question's way through the index.
type search struct {
	x    *Index
	text string
	page int // The page that is being read, of the site's, or -1.
	// words and vectors are scores by section, 0 for what does not fit or may not be
	// found. There are no vectors if the search goes by words alone.
	words, vectors []float32
	pieces         []int32 // The best piece by section, where there are vectors.
	ranked         []hit
	withoutVectors error
}

// A hit is a section that fits.
type hit struct {
	section int
	score   float64
}

func (x *Index) search(ctx context.Context, q Query) (*search, error) {
	s := &search{x: x, text: q.Question, page: -1}
	if q.Previous != "" {
		s.text += "\n" + q.Previous
	}
	if page, known := x.pages[pathOf(q.Page)]; known && q.Page != "" {
		s.page = page
	}
	vector, scale, err := x.embed(ctx, s.text)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("searching the docs: %w", context.Cause(ctx))
	}
	s.withoutVectors = err

	s.words = make([]float32, len(x.sections))
	for _, l := range x.lexicons {
		l.score(s.text, s.words)
	}
	allowed := s.allowed(q)
	for i := range s.words {
		if !allowed(i) {
			s.words[i] = 0
		}
	}
	if vector != nil {
		s.vectors, s.pieces = x.scoreVectors(vector, scale, allowed)
	}
	s.ranked = s.rank(0, len(x.sections))
	return s, nil
}

// embed returns the vector of a question, or nil if the index has none.
func (x *Index) embed(ctx context.Context, text string) ([]int8, float32, error) {
	switch {
	case x.Vectors() == 0 || strings.TrimSpace(text) == "":
		return nil, 0, nil
	case x.embedder == nil:
		return nil, 0, ErrNoEmbedder
	}
	ctx, cancel := context.WithTimeout(ctx, EmbedTimeout)
	defer cancel()
	start, _, _ := cut(text, embedLength)
	made, err := x.embedder.Embed(ctx, x.site.Model, x.site.Dimensions, []string{start})
	if err != nil {
		return nil, 0, fmt.Errorf("making the question's vector: %w", err)
	}
	if len(made) != 1 || len(made[0]) != x.site.Dimensions {
		return nil, 0, fmt.Errorf("the model %s made no vector of %d dimensions, as the index has", x.site.Model, x.site.Dimensions)
	}
	vector, scale := quantize(made[0])
	if scale == 0 {
		return nil, 0, errors.New("the question's vector has no direction")
	}
	return vector, scale, nil
}

// allowed returns which sections may be found: those of the version that is being
// read, and of the first of the reader's languages in which a word matches, or of
// all languages if none does.
func (s *search) allowed(q Query) func(section int) bool {
	x := s.x
	version := x.site.DefaultVersion
	if read := x.versionOf(q.Page, s.page); read != "" {
		version = read
	}
	ofVersion := func(i int) bool {
		v := x.site.Pages[x.sections[i].page].Version
		return v == "" || v == version
	}
	if len(x.lexicons) == 1 {
		return ofVersion
	}
	matches := make([]bool, len(x.lexicons))
	for i, score := range s.words {
		if score > 0 && ofVersion(i) {
			matches[x.sections[i].lexicon] = true
		}
	}
	for _, code := range s.languages(q) {
		l := slices.IndexFunc(x.lexicons, func(l *lexicon) bool { return l.code == code })
		if l >= 0 && matches[l] {
			return func(i int) bool { return x.sections[i].lexicon == l && ofVersion(i) }
		}
	}
	return ofVersion
}

// languages returns the codes of the languages that the reader may want, best first.
func (s *search) languages(q Query) []string {
	site := s.x.site
	if s.page >= 0 {
		return []string{cmp.Or(site.Pages[s.page].Language, site.Language)}
	}
	var codes []string
	// What is not a list of languages names none.
	tags, _, _ := language.ParseAcceptLanguage(q.Languages)
	for _, t := range tags {
		base, _ := t.Base()
		codes = append(codes, base.String())
	}
	return append(codes, site.Language)
}

// versionOf returns the version of the page that is being read, or "".
func (x *Index) versionOf(address string, page int) string {
	if page >= 0 {
		return x.site.Pages[page].Version
	}
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return x.site.VersionOf(u.Path)
}

// pathOf returns what is the same in all addresses of a page: its path without an
// ending. The origin is left out, since previews of a site have their own.
func pathOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	path := strings.TrimSuffix(strings.TrimSuffix(u.Path, ".html"), "/index")
	return strings.TrimSuffix(path, "/")
}

// rank returns the sections with a number in [from,to) that fit, best first.
func (s *search) rank(from, to int) []hit {
	words := best(s.words[from:to], fuseFirst)
	if s.vectors == nil {
		for i := range words {
			words[i].section += from
		}
		return words
	}
	scores := map[int]float64{}
	for _, ranking := range [][]hit{words, best(s.vectors[from:to], fuseFirst)} {
		for i, h := range ranking {
			scores[h.section+from] += 1 / float64(fuseK+i+1)
		}
	}
	hits := make([]hit, 0, len(scores))
	for section, score := range scores {
		hits = append(hits, hit{section, score})
	}
	slices.SortFunc(hits, byScore)
	return hits
}

// byScore sorts the best first. Of equals the first of the site comes first.
func byScore(a, b hit) int {
	return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.section, b.section))
}

// best returns the n highest of the scores above 0, by their numbers.
func best(scores []float32, n int) []hit {
	var hits []hit
	for i, score := range scores {
		h := hit{i, float64(score)}
		if score <= 0 || len(hits) == n && byScore(h, hits[n-1]) > 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(hits, h, byScore)
		if len(hits) == n {
			hits = hits[:n-1]
		}
		hits = slices.Insert(hits, at, h)
	}
	return hits
}

// withPage returns the best sections, with places for those of the page that is
// being read.
func (s *search) withPage() []hit {
	hits := s.ranked[:min(MaxPassages, len(s.ranked))]
	if s.page < 0 {
		return hits
	}
	ofPage := s.rank(s.x.ofPage(s.page))
	ofPage = ofPage[:min(pagePlaces, len(ofPage))]
	of := func(list []hit, h hit) bool {
		return slices.ContainsFunc(list, func(o hit) bool { return o.section == h.section })
	}
	var missing []hit
	for _, h := range ofPage {
		if !of(hits, h) {
			h.score = 0 // It is of another ranking, and lower than all of this one.
			missing = append(missing, h)
		}
	}
	kept := slices.Clone(hits)
	for i := len(kept) - 1; len(kept)+len(missing) > MaxPassages; i-- {
		if !of(ofPage, kept[i]) {
			kept = slices.Delete(kept, i, i+1)
		}
	}
	return append(kept, missing...)
}

// found returns sections as passages.
func (s *search) found(hits []hit) Found {
	f := Found{WithoutVectors: s.withoutVectors}
	if s.page >= 0 {
		f.PageTitle = s.x.site.Pages[s.page].Title
	}
	for _, h := range hits {
		page, section := s.x.at(h.section)
		f.Passages = append(f.Passages, Passage{
			URL: page.Link(section), Title: page.Title, Headings: section.Headings,
			Text: s.excerpt(h.section, section), Score: h.score,
		})
	}
	return f
}

// excerpt returns the part of a section that fits best, as whole lines where they
// are not too long.
func (s *search) excerpt(number int, section *Section) string {
	if len(section.Text) <= MaxPassageLength {
		return section.Text
	}
	pieces := section.Pieces
	var piece Piece
	if s.vectors != nil && len(pieces) > 0 {
		piece = pieces[s.pieces[number]]
	} else {
		piece = s.bestByWords(s.x.lexicons[s.x.sections[number].lexicon], section.Text)
	}
	return around(section.Text, piece.Start, piece.End, MaxPassageLength)
}

// bestByWords returns the piece of a text that has most of the question's words,
// counted by what they are worth.
func (s *search) bestByWords(l *lexicon, text string) Piece {
	worth := map[int32]float32{}
	l.eachKnown(s.text, func(term int32) { worth[term] = 1 / float32(len(l.postings[term])) })
	var best Piece
	highest := float32(-1)
	for _, piece := range Split(text) {
		found := map[int32]bool{}
		var sum float32
		l.eachKnown(text[piece.Start:piece.End], func(term int32) {
			if !found[term] {
				found[term] = true
				sum += worth[term]
			}
		})
		if sum > highest {
			best, highest = piece, sum
		}
	}
	return best
}

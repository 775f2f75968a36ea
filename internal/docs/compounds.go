package docs

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

// compounding are the languages that write a noun and its qualifier as one word.
var compounding = map[string]bool{"da": true, "de": true, "fi": true, "hu": true, "nb": true, "nl": true, "nn": true, "no": true, "sv": true}

// links are letters that join the parts of a compound.
var links = []string{"", "s", "es", "n", "en", "er", "e"}

// minPart is the shortest part of a compound, in bytes. With three letters there
// would be chance finds in many words.
const minPart = 4

// parts returns the terms of the words that a compound is made of, if they stand
// alone elsewhere on the site: those of Sitzung and Token for Sitzungstoken.
func (l *lexicon) parts(word string) []int32 {
	if !compounding[l.code] {
		return nil
	}
	for at := minPart; at <= len(word)-minPart; at++ {
		if !utf8.RuneStart(word[at]) {
			continue
		}
		last, known := l.terms[l.analyzer.term(word[at:])]
		if !known {
			continue
		}
		head := word[:at]
		for _, link := range links {
			first, ok := strings.CutSuffix(head, link)
			if t, known := l.terms[l.analyzer.term(first)]; ok && known && len(first) >= minPart {
				return []int32{t, last}
			}
		}
		for _, link := range links {
			first, ok := strings.CutSuffix(head, link)
			if terms := l.parts(first); ok && terms != nil {
				return append(terms, last)
			}
		}
	}
	return nil
}

// addParts adds sections with a compound to the postings of its parts.
func (l *lexicon) addParts() {
	type more struct {
		part int32
		of   []posting
	}
	var all []more
	for word, t := range l.words {
		if t < 0 {
			continue
		}
		for _, part := range l.parts(word) {
			if part != t {
				all = append(all, more{part, l.postings[t]})
			}
		}
	}
	changed := map[int32]bool{}
	for _, m := range all {
		l.postings[m.part] = append(slices.Clip(l.postings[m.part]), m.of...)
		changed[m.part] = true
	}
	for part := range changed {
		l.postings[part] = merged(l.postings[part])
	}
}

// merged returns postings in the order of their sections, with one for each.
func merged(list []posting) []posting {
	slices.SortFunc(list, func(a, b posting) int {
		return cmp.Or(cmp.Compare(a.section, b.section), cmp.Compare(a.weight, b.weight))
	})
	n := 0
	for _, p := range list {
		if n > 0 && list[n-1].section == p.section {
			list[n-1].weight += p.weight
			continue
		}
		list[n] = p
		n++
	}
	return list[:n]
}

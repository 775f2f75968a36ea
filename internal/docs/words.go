package docs

import (
	"strings"
	"unicode"

	"github.com/blevesearch/snowballstem"
	"github.com/blevesearch/snowballstem/arabic"
	"github.com/blevesearch/snowballstem/danish"
	"github.com/blevesearch/snowballstem/dutch"
	"github.com/blevesearch/snowballstem/english"
	"github.com/blevesearch/snowballstem/finnish"
	"github.com/blevesearch/snowballstem/french"
	"github.com/blevesearch/snowballstem/german"
	"github.com/blevesearch/snowballstem/hungarian"
	"github.com/blevesearch/snowballstem/irish"
	"github.com/blevesearch/snowballstem/italian"
	"github.com/blevesearch/snowballstem/norwegian"
	"github.com/blevesearch/snowballstem/portuguese"
	"github.com/blevesearch/snowballstem/romanian"
	"github.com/blevesearch/snowballstem/russian"
	"github.com/blevesearch/snowballstem/spanish"
	"github.com/blevesearch/snowballstem/swedish"
	"github.com/blevesearch/snowballstem/tamil"
	"github.com/blevesearch/snowballstem/turkish"
	"golang.org/x/text/unicode/norm"
)

// stemmers are Snowball's, by language code.
var stemmers = map[string]func(*snowballstem.Env) bool{
	"ar": arabic.Stem, "da": danish.Stem, "de": german.Stem, "en": english.Stem, "es": spanish.Stem, "fi": finnish.Stem,
	"fr": french.Stem, "ga": irish.Stem, "hu": hungarian.Stem, "it": italian.Stem, "nl": dutch.Stem, "no": norwegian.Stem,
	"nb": norwegian.Stem, "nn": norwegian.Stem, "pt": portuguese.Stem, "ro": romanian.Stem, "ru": russian.Stem,
	"sv": swedish.Stem, "ta": tamil.Stem, "tr": turkish.Stem,
}

// maxWord is the length in bytes from which on a word is not a word of a language,
// but a hash or a line of base64. It is found by its beginning.
const maxWord = 64

// eachTerm calls yield with every word of a text in lower case, in its order. A word
// is a run of letters, marks and digits. Identifiers come whole, then in the parts
// that case and underscores make. Scripts without spaces come as pairs of
// neighbouring letters.
func eachTerm(text string, yield func(word string)) {
	text = norm.NFKC.String(text)
	start, simple := -1, true // simple: a word in lower case, without underscores.
	var pair pairs
	end := func(at int) {
		if start >= 0 {
			eachPart(text[start:at], simple, yield)
		}
		start, simple = -1, true
	}
	for i, r := range text {
		switch {
		case isPaired(r):
			end(i)
			pair.add(r, yield)
			continue
		case isLower(r):
		case isWord(r):
			simple = false
		case isApostrophe(r) && start >= 0 && letterAt(text, i+len(string(r))):
			// The English don't is one word. The French l'index is two.
			simple = false
		default:
			end(i)
			pair.end(yield)
			continue
		}
		pair.end(yield)
		if start < 0 {
			start = i
		}
	}
	end(len(text))
	pair.end(yield)
}

func isLower(r rune) bool { return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' }

func isWord(r rune) bool {
	return r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsMark(r)
}

func isApostrophe(r rune) bool { return r == '\'' || r == '’' }

func letterAt(text string, at int) bool {
	for _, r := range text[at:] {
		return unicode.IsLetter(r)
	}
	return false
}

// isPaired reports whether r is of a script whose words are found by pairs of
// letters.
func isPaired(r rune) bool { return isUnspaced(r) || r >= 0x1100 && unicode.Is(unicode.Hangul, r) }

// pairs makes pairs of neighbouring letters. A letter alone is itself.
type pairs struct {
	last  rune
	count int
}

func (p *pairs) add(r rune, yield func(string)) {
	if p.count > 0 {
		yield(string([]rune{p.last, r}))
	}
	p.last, p.count = r, p.count+1
}

func (p *pairs) end(yield func(string)) {
	if p.count == 1 {
		yield(string(p.last))
	}
	p.count = 0
}

// eachPart yields a word and, if it is an identifier, its parts.
func eachPart(word string, simple bool, yield func(string)) {
	if simple {
		yield(shortened(word))
		return
	}
	word = strings.Trim(strings.ReplaceAll(word, "’", "'"), "_")
	if word == "" {
		return
	}
	yield(shortened(strings.ToLower(word)))
	parts := split(word)
	if len(parts) == 1 {
		return
	}
	for _, part := range parts {
		yield(shortened(strings.ToLower(part)))
	}
}

// split returns the parts of an identifier: rate, Limit and HTTP of rateLimit_HTTP.
func split(word string) []string {
	var parts []string
	runes := []rune(word)
	start := 0
	for i, r := range runes {
		switch {
		case r == '_':
			if i > start {
				parts = append(parts, string(runes[start:i]))
			}
			start = i + 1
		case i > start && unicode.IsUpper(r) &&
			(!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])):
			parts = append(parts, string(runes[start:i]))
			start = i
		}
	}
	if start < len(runes) {
		parts = append(parts, string(runes[start:]))
	}
	return parts
}

func shortened(word string) string {
	if len(word) <= maxWord {
		return word
	}
	return strings.ToValidUTF8(word[:maxWord], "")
}

// An analyzer turns words of a language into the terms that the index has.
type analyzer struct {
	stem func(*snowballstem.Env) bool // Nil where there is no stemmer.
	stop map[string]bool
	// elides says that an article is joined to the next word by an apostrophe.
	elides bool
}

func analyzerOf(code string) analyzer {
	return analyzer{stemmers[code], stopWords(code), code == "fr" || code == "it"}
}

// term returns the term of a word in lower case, or "" for a stop word.
func (a analyzer) term(word string) string {
	if a.stop[word] {
		return ""
	}
	if article, rest, ok := strings.Cut(word, "'"); ok && a.elides && len(article) <= len("dell") {
		word = rest
		if a.stop[word] {
			return ""
		}
	}
	if a.stem == nil {
		return word
	}
	env := snowballstem.NewEnv(word)
	a.stem(env)
	return env.Current()
}

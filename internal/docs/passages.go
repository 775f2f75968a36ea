package docs

// Bounds of the passages that a [Searcher] returns. A character is a Unicode code
// point. Only texts count: titles and headings come on top.
const (
	// MaxPassages is how many there are at most.
	MaxPassages = 8
	// MaxPassageLength is how long the text of one is at most, in characters.
	MaxPassageLength = 4000
	// MaxPassagesLength is how long all their texts are at most, in characters.
	MaxPassagesLength = 24_000
	// minRest is the shortest text that is worth keeping of a longer one, in
	// characters.
	minRest = 200
)

// Bound returns the first passages within the bounds, in their order. It cuts texts
// at their end. A text that would be cut to less than 200 characters is left out,
// and a shorter passage after it may take the place.
func Bound(passages []Passage) []Passage {
	var bounded []Passage
	rest := MaxPassagesLength
	for _, p := range passages {
		if len(bounded) == MaxPassages {
			break
		}
		text, length, whole := cut(p.Text, min(MaxPassageLength, rest))
		if !whole && length < minRest {
			continue
		}
		p.Text = text
		rest -= length
		bounded = append(bounded, p)
	}
	return bounded
}

// cut returns the first characters of a text, how many there are, and whether they
// are all of it.
func cut(text string, most int) (start string, length int, whole bool) {
	for i := range text {
		if length == most {
			return text[:i], length, false
		}
		length++
	}
	return text, length, true
}

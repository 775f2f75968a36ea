package docs

import (
	"math"
	"unicode"
	"unicode/utf8"
)

const (
	// pieceWords is the length of a piece, and pieceOverlap what it has in common
	// with the next one.
	pieceWords   = 200
	pieceOverlap = 50
	// longWord is how many letters of a word count as one: a line of base64 is many
	// tokens. Letters of scripts without spaces count as half a word each.
	longWord = 12
)

// Piece is a part of a section's text, with its vector.
type Piece struct {
	// Start and End are offsets into the text, in bytes.
	Start, End int
	// The vector is Values times Scale. Its length is about 1.
	Values []int8
	Scale  float32
}

// Split returns the pieces of a section's text, without vectors. A section without
// text is one piece: its headings can be found.
func Split(text string) []Piece {
	words := wordsOf(text)
	if len(words) == 0 {
		return []Piece{{}}
	}
	var pieces []Piece
	for first := 0; ; {
		last, size := first, 0.0
		for last < len(words) && size < pieceWords {
			size += words[last].weight
			last++
		}
		pieces = append(pieces, Piece{Start: words[first].start, End: words[last-1].end})
		if last == len(words) {
			return pieces
		}
		next := last
		for size = 0; next > first+1 && size < pieceOverlap; next-- {
			size += words[next-1].weight
		}
		first = next
	}
}

// EmbeddedText is what a piece's vector is made of: the path of the section and the
// piece's text.
func EmbeddedText(p *Page, s *Section, piece Piece) string {
	return p.Path(s) + "\n" + s.Text[piece.Start:piece.End]
}

// SetVector stores a vector in the piece, with a byte for each dimension. It returns
// false for a vector without a direction.
func (p *Piece) SetVector(v []float32) bool {
	p.Values, p.Scale = quantize(v)
	return p.Scale > 0
}

// quantize returns v with length 1, as bytes and a factor. The factor is 0 if v has
// no direction.
func quantize(v []float32) ([]int8, float32) {
	var square, largest float64
	for _, x := range v {
		square += float64(x) * float64(x)
		largest = max(largest, math.Abs(float64(x)))
	}
	if largest == 0 || math.IsInf(square, 0) || math.IsNaN(square) {
		return nil, 0
	}
	values := make([]int8, len(v))
	for i, x := range v {
		values[i] = int8(math.Round(float64(x) / largest * math.MaxInt8))
	}
	return values, float32(largest / math.MaxInt8 / math.Sqrt(square))
}

// A span is a word of a text, in bytes, and how many words it counts as.
type span struct {
	start, end int
	weight     float64
}

// wordsOf returns the words of a text: what spaces part, and each letter of a script
// without spaces.
func wordsOf(text string) []span {
	var words []span
	start, letters := -1, 0
	end := func(at int) {
		if start >= 0 {
			words = append(words, span{start, at, 1})
		}
		start, letters = -1, 0
	}
	for i, r := range text {
		switch {
		case unicode.IsSpace(r):
			end(i)
		case isUnspaced(r):
			end(i)
			words = append(words, span{i, i + utf8.RuneLen(r), 0.5})
		case letters == longWord:
			end(i)
			fallthrough
		default:
			if start < 0 {
				start = i
			}
			letters++
		}
	}
	end(len(text))
	return words
}

// isUnspaced reports whether r is a letter of a script that puts no spaces between
// words.
func isUnspaced(r rune) bool {
	return r >= 0x0E00 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar) ||
		r == 'ー'
}

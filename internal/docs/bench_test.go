package docs_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"docent/internal/docs"
)

// synthetic returns a site of n sections of 170 words, whose words are as unevenly
// common as those of a language, with vectors.
func synthetic(n int) *docs.Site {
	const words, dimensions = 20_000, 512
	r := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(r, 1.1, 5, words-1)
	text := func(n int) string {
		var b strings.Builder
		for range n {
			fmt.Fprintf(&b, "w%sx ", strings.Repeat("a", int(zipf.Uint64()%3))+fmt.Sprint(zipf.Uint64()))
		}
		return b.String()
	}
	site := &docs.Site{Language: "en", Model: "test", Dimensions: dimensions}
	for len(site.Pages)*10 < n {
		p := docs.Page{URL: fmt.Sprintf("https://docs.example.com/%d", len(site.Pages)), Title: text(3), Language: "en"}
		for i := range 10 {
			s := docs.Section{Anchor: fmt.Sprint(i), Headings: []string{text(3)}, Text: text(170)}
			s.Pieces = docs.Split(s.Text)
			for j := range s.Pieces {
				s.Pieces[j].SetVector(vector(r, dimensions))
			}
			p.Sections = append(p.Sections, s)
		}
		site.Pages = append(site.Pages, p)
	}
	return site
}

func vector(r *rand.Rand, dimensions int) []float32 {
	v := make([]float32, dimensions)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

// sizes are those of a small site, a large one, and the largest that is meant.
var sizes = []int{600, 5000, 20_000}

func BenchmarkNewIndex(b *testing.B) {
	for _, n := range sizes {
		site := synthetic(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				docs.NewIndex(site, nil)
			}
		})
	}
}

func BenchmarkSearch(b *testing.B) {
	for _, n := range sizes {
		site := synthetic(n)
		e := embedFunc(func([]string) ([][]float32, error) {
			return [][]float32{vector(rand.New(rand.NewPCG(3, 4)), site.Dimensions)}, nil
		})
		question := docs.Query{Question: site.Pages[7].Sections[3].Text[:80]}
		for name, e := range map[string]docs.Embedder{"words": nil, "fused": e} {
			x := docs.NewIndex(site, e)
			b.Run(fmt.Sprint(n, "/", name), func(b *testing.B) {
				for b.Loop() {
					if f, err := x.Passages(b.Context(), question); err != nil || len(f.Passages) == 0 {
						b.Fatal(f, err)
					}
				}
			})
		}
	}
}

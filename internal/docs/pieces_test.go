package docs_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"docent/internal/docs"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	var numbers strings.Builder
	for i := range 500 {
		fmt.Fprintf(&numbers, "%03d ", i)
	}
	tests := []struct {
		name, text string
		want       []string // The first and the last characters of each piece.
	}{
		{"nothing", "", []string{""}},
		{"spaces alone", " \n ", []string{""}},
		{"one word", " word ", []string{"word"}},
		{"200 words", numbers.String()[:800], []string{"000…199"}},
		{"500 words", numbers.String(), []string{"000…199", "150…349", "300…499"}},
		{"letters of a script without spaces", strings.Repeat("字", 500), []string{"字…字", "字…字"}},
		{"a line of base64", strings.Repeat("a", 12*300), []string{"aaa…aaa", "aaa…aaa"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, p := range docs.Split(tt.text) {
				part := tt.text[p.Start:p.End]
				if len(part) > 6 {
					part = part[:3] + "…" + part[len(part)-3:]
				}
				got = append(got, part)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("pieces (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEmbeddedText(t *testing.T) {
	t.Parallel()
	p := docs.Page{Title: "Deploy"}
	s := docs.Section{Headings: []string{"Options", "Region"}, Text: "Choose a region. Then deploy."}
	if got, want := docs.EmbeddedText(&p, &s, docs.Piece{Start: 0, End: 16}), "Deploy > Options > Region\nChoose a region."; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
}

func TestSetVector(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		in   []float32
		ok   bool
	}{
		{"of length 1", []float32{0.6, -0.8}, true},
		{"of another length", []float32{60, -80}, true},
		{"zero", []float32{0, 0}, false},
		{"none", nil, false},
		{"not a number", []float32{float32(math.NaN()), 1}, false},
		{"infinite", []float32{float32(math.Inf(-1)), 1}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var p docs.Piece
			if ok := p.SetVector(tt.in); ok != tt.ok {
				t.Fatalf("set %v, want %v", ok, tt.ok)
			}
			for i, want := range []float64{0.6, -0.8} {
				if tt.ok && math.Abs(float64(p.Values[i])*float64(p.Scale)-want) > 0.01 {
					t.Errorf("dimension %d is %v times %v, want about %v", i, p.Values[i], p.Scale, want)
				}
			}
		})
	}
}

package docs_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"docent/internal/docs"
)

func TestBound(t *testing.T) {
	t.Parallel()
	const most = docs.MaxPassageLength
	tests := []struct {
		name    string
		lengths []int
		want    []int
	}{
		{"none", nil, nil},
		{"short ones", []int{1, 0, 199}, []int{1, 0, 199}},
		{"one as long as may be", []int{most}, []int{most}},
		{"one that is too long", []int{most + 1, 3}, []int{most, 3}},
		{"too many", []int{1, 2, 3, 4, 5, 6, 7, 8, 9}, []int{1, 2, 3, 4, 5, 6, 7, 8}},
		{"as much as may be", []int{most, most, most, most, most, most}, []int{most, most, most, most, most, most}},
		{"too much", []int{most, most, most, most, most, most - 500, most, 7}, []int{most, most, most, most, most, most - 500, 500}},
		{"200 characters left", []int{most, most, most, most, most, most - 200, most}, []int{most, most, most, most, most, most - 200, 200}},
		{"199 characters left", []int{most, most, most, most, most, most - 199, most}, []int{most, most, most, most, most, most - 199}},
		{"a later one fits", []int{most, most, most, most, most, most - 199, most, 199}, []int{most, most, most, most, most, most - 199, 199}},
		{"nothing left", []int{most, most, most, most, most, most, 5, 0}, []int{most, most, most, most, most, most, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var passages []docs.Passage
			for i, n := range tt.lengths {
				passages = append(passages, docs.Passage{URL: string(rune('a' + i)), Text: strings.Repeat("ä", n)})
			}
			var lengths []int
			last := ""
			for _, p := range docs.Bound(passages) {
				lengths = append(lengths, utf8.RuneCountInString(p.Text))
				if p.URL <= last {
					t.Errorf("passage %s comes after %s", p.URL, last)
				}
				last = p.URL
			}
			if diff := cmp.Diff(tt.want, lengths); diff != "" {
				t.Errorf("lengths (-want +got):\n%s", diff)
			}
			for i, n := range tt.lengths {
				if got := utf8.RuneCountInString(passages[i].Text); got != n {
					t.Errorf("the caller's passage %d has %d characters now, want %d", i, got, n)
				}
			}
		})
	}
}

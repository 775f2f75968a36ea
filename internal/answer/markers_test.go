package answer_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"docent/internal/answer"
	"docent/internal/chatkit"

	"github.com/google/go-cmp/cmp"
)

// marker returns a citation marker of these fields.
func marker(fields ...string) string {
	return "\uE200" + strings.Join(fields, "\uE202") + "\uE201"
}

// shown is what a filter lets through: the text with [URL] for each citation.
type shown struct {
	b strings.Builder
	// writes is the number of calls of Write.
	writes int
	// fail is returned by Write and Cite.
	fail error
}

func (s *shown) Write(text string) error {
	s.writes++
	s.b.WriteString(text)
	return s.fail
}

func (s *shown) Cite(source chatkit.URLSource) error {
	fmt.Fprintf(&s.b, "[%s]", source.URL)
	return s.fail
}

// sources has two sections under three IDs.
var sources = map[string]chatkit.URLSource{
	"block1": {URL: "/one"}, "block2": {URL: "/two"}, "block3": {URL: "/two"},
}

// filtered returns what is shown of a text that comes in deltas.
func filtered(tb testing.TB, deltas ...string) string {
	tb.Helper()
	var out shown
	if err := answer.Filter(&out, sources, deltas...); err != nil {
		tb.Fatal(err)
	}
	return out.b.String()
}

// markedTexts are texts and what is shown of them.
var markedTexts = []struct{ name, text, want string }{
	{"no text", "", ""},
	{"no marker", "Plain **text** – mit 漢字 and 🗼.\n\n```\n【a】 [1] \ue100\n```\n", "Plain **text** – mit 漢字 and 🗼.\n\n```\n【a】 [1] \ue100\n```\n"},
	{"one source", "It is so." + marker("cite", "block1") + " And more.", "It is so.[/one] And more."},
	{"after a character of two units", "🗼." + marker("cite", "block1"), "🗼.[/one]"},
	{"before all text", marker("cite", "block1") + "It is so.", "[/one]It is so."},
	{"two sources in one marker", "So." + marker("cite", "block1", "block2") + ".", "So.[/one][/two]."},
	{"two markers at one place", "So." + marker("cite", "block2") + marker("cite", "block1") + ".", "So.[/two][/one]."},
	{"the same source twice at one place", "So." + marker("cite", "block1", "block1") + marker("cite", "block1") + ".", "So.[/one]."},
	{"two IDs of one URL at one place", "So." + marker("cite", "block2", "block3"), "So.[/two]"},
	{"the same source at two places", "So." + marker("cite", "block1") + " " + marker("cite", "block1"), "So.[/one] [/one]"},
	{"a part of a source", "So." + marker("cite", "block1", "L8-L13") + marker("cite", "block2", "L3"), "So.[/one][/two]"},
	{"space around an ID", "So." + marker("cite", " block1 "), "So.[/one]"},
	{"an unknown source", "So." + marker("cite", "block9") + ".", "So.."},
	{"an unknown source among others", "So." + marker("cite", "block9", "block1", "block"), "So.[/one]"},
	{"a leaked marker", "So. " + marker("filecite", "turn0file0", "turn0file5", "L8-L13") + ".", "So. ."},
	{"another kind", "So." + marker("navlist", "Links", "turn0search1") + ".", "So.."},
	{"an empty marker", "So" + marker("") + ".", "So."},
	{"a marker in code", "`a" + marker("cite", "block1") + "b`", "`a[/one]b`"},
	{"a marker of 200 characters", "a\uE200cite\uE202block1\uE202" + strings.Repeat("x", 188) + "\uE201b", "a[/one]b"},
	{"a marker of 201 characters", "a\uE200cite\uE202block1\uE202" + strings.Repeat("x", 189) + "\uE201b", "aciteblock1" + strings.Repeat("x", 189) + "b"},
	{"a marker that does not end", "a\uE200cite\uE202b. " + strings.Repeat("漢", 300) + marker("cite", "block1"), "aciteb. " + strings.Repeat("漢", 300) + "[/one]"},
	{"a begin that was no marker's, at the end", "So \uE200it is.", "So it is."},
	{"a marker in one that does not end", "a \uE200b " + marker("cite", "block1") + "c", "a b [/one]c"},
	{"cut off in the word", "So.\uE200ci", "So."},
	{"cut off in an ID", "So.\uE200cite\uE202blo", "So."},
	{"cut off after an ID", "So.\uE200filecite\uE202turn0file1\uE202", "So."},
	{"begun twice", "So.\uE200cite\uE202block2" + marker("cite", "block1"), "So.[/one]"},
	{"stray control characters", "a\uE201b\uE202c\uE201", "abc"},
	{"broken characters", "a\uFFFD\uFFFDb\xff." + "\uE200ci\uFFFDte\uE202block1\uE201", "ab.[/one]"},

	{"an older marker", "So.【4:0†page.md】 And.", "So. And."},
	{"an older marker with lines", "So【12†L1-L4】.", "So."},
	{"an older marker of a source", "So.【block1†source】", "So.[/one]"},
	{"brackets of Chinese", "【注意】【1】【2:3】 【A†b】", "【注意】【1】【2:3】 【A†b】"},
	{"older markers in one another", "【【4:0†a】【4:0†【1†b】", "【【4:0†"},
	{"an older marker over two lines", "【4:0†a\nb】", "【4:0†a\nb】"},
	{"an older marker that does not end", "【4:0†" + strings.Repeat("a", 300) + "】", "【4:0†" + strings.Repeat("a", 300) + "】"},
	{"an older marker cut off", "So.【4:0†pa", "So."},
	{"a bracket cut off", "So 【4:", "So 【4:"},
	{"an older marker in one that does not end", "\uE200a 【4:0†b】 " + strings.Repeat("c", 200), "a  " + strings.Repeat("c", 200)},
	{"a marker in an older one", "【4:0†a" + marker("cite", "block1") + "b】", "[/one]b】"},
	{"a marker in brackets", "【4" + marker("cite", "block1") + "】", "【4[/one]】"},
}

func TestFilter(t *testing.T) {
	t.Parallel()
	for _, tc := range markedTexts {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, filtered(t, tc.text)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestFilter_EveryCut cuts each text into characters, and into two and three parts at
// every place.
func TestFilter_EveryCut(t *testing.T) {
	t.Parallel()
	for _, tc := range markedTexts {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			characters := strings.Split(strings.ToValidUTF8(tc.text, "\uFFFD"), "")
			if got := filtered(t, characters...); got != tc.want {
				t.Errorf("by characters: %q, not %q", got, tc.want)
			}
			cut := func(from, to int) string { return strings.Join(characters[from:to], "") }
			for i := range characters {
				for j := i; j <= min(i+20, len(characters)); j++ {
					if got := filtered(t, cut(0, i), cut(i, j), cut(j, len(characters))); got != tc.want {
						t.Fatalf("cut at %d and %d: %q, not %q", i, j, got, tc.want)
					}
				}
			}
		})
	}
}

// TestFilter_AtOnce has all visible text go out with the delta that brings it.
func TestFilter_AtOnce(t *testing.T) {
	t.Parallel()
	var out shown
	deltas := []string{"It ", "is", " so.", marker("cite", "block1"), " More ", "【注", "】."}
	if err := answer.Filter(&out, sources, deltas...); err != nil {
		t.Fatal(err)
	}
	if want := len(deltas) - 1; out.writes != want {
		t.Errorf("%d writes, not %d", out.writes, want)
	}
}

// TestFilter_Fails has the output fail, which ends the text.
func TestFilter_Fails(t *testing.T) {
	t.Parallel()
	fail := errors.New("the visitor has left")
	for name, text := range map[string]string{
		"writing": "So.", "citing": marker("cite", "block1"), "citing after text": "So." + marker("cite", "block1"),
		"an older marker": "So.【block1†】", "text of an older one": "【a", "at the end": "\uE200So", "begun again": "\uE200cite block1\uE200",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := answer.Filter(&shown{fail: fail}, sources, text, "."); !errors.Is(err, fail) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func FuzzFilter(f *testing.F) {
	for _, tc := range markedTexts {
		f.Add(tc.text, uint16(3), uint16(4))
	}
	f.Fuzz(func(t *testing.T, text string, first, second uint16) {
		text = strings.ToValidUTF8(text, "\uFFFD") // As all that was JSON.
		whole := filtered(t, text)
		if !utf8.ValidString(whole) || strings.ContainsAny(whole, "\uE200\uE201\uE202\uFFFD") {
			t.Errorf("a control character or a broken one came out: %q", whole)
		}
		if !strings.ContainsAny(text, "\uE200\uE201\uE202\uFFFD†") && whole != text {
			t.Errorf("a text without markers was changed from %q to %q", text, whole)
		}
		if plain := strings.NewReplacer("[/one]", "", "[/two]", "").Replace(whole); len(plain) > len(text) {
			t.Errorf("%q became longer: %q", text, plain)
		}
		characters := strings.Split(text, "")
		i, j := int(first)%(len(characters)+1), int(second)%(len(characters)+1)
		i, j = min(i, j), max(i, j)
		parts := []string{strings.Join(characters[:i], ""), strings.Join(characters[i:j], ""), strings.Join(characters[j:], "")}
		if cut := filtered(t, parts...); cut != whole {
			t.Errorf("%q gives %q, and %q as a whole", parts, cut, whole)
		}
		if cut := filtered(t, characters...); cut != whole {
			t.Errorf("%q gives %q by characters, and %q as a whole", text, cut, whole)
		}
	})
}

package docs_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"docent/internal/docs"
)

// embedder makes a vector of a text's length and calls fail, if there is one, before
// each batch.
type embedder struct {
	fail func(ctx context.Context, texts []string) error

	mu      sync.Mutex
	batches [][]string
	running int
	most    int // That were under way at a time.
}

func (e *embedder) Embed(ctx context.Context, model string, dimensions int, texts []string) ([][]float32, error) {
	e.mu.Lock()
	e.batches = append(e.batches, texts)
	e.running++
	e.most = max(e.most, e.running)
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.running--
	}()
	if model != "m" {
		return nil, fmt.Errorf("model %s", model)
	}
	if e.fail != nil {
		if err := e.fail(ctx, texts); err != nil {
			return nil, err
		}
	}
	vectors := make([][]float32, len(texts))
	for i, text := range texts {
		vectors[i] = make([]float32, dimensions)
		vectors[i][0], vectors[i][1] = 1, float32(len(text))
	}
	return vectors, nil
}

// asked returns all texts, sorted.
func (e *embedder) asked() []string { return slices.Sorted(slices.Values(slices.Concat(e.batches...))) }

func ignore(int, int) {}

func saved() error { return nil }

// siteOf is a site with a page for each text.
func siteOf(texts ...string) *docs.Site {
	s := &docs.Site{}
	for i, text := range texts {
		s.Pages = append(s.Pages, docs.Page{
			URL: fmt.Sprintf("https://docs.example.com/%d", i), Title: "Page",
			Sections: []docs.Section{{Text: text}},
		})
	}
	return s
}

// numbered returns n texts.
func numbered(n int) (texts []string) {
	for i := range n {
		texts = append(texts, fmt.Sprintf("text %d", i))
	}
	return texts
}

// without returns how many pieces have no vector.
func without(s *docs.Site) (n int) {
	for _, p := range s.Pages {
		for _, section := range p.Sections {
			for _, piece := range section.Pieces {
				if piece.Values == nil {
					n++
				}
			}
		}
	}
	return n
}

// embedded returns a site whose vectors an embedder has made.
func embedded(t *testing.T, dimensions int, texts ...string) *docs.Site {
	t.Helper()
	s := siteOf(texts...)
	if err := docs.Plan(s, "m", dimensions).Run(t.Context(), &embedder{}, ignore, saved); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPlan(t *testing.T) {
	t.Parallel()
	words := func(n int) string { return strings.TrimSpace(strings.Repeat("word ", n)) }
	partial := embedded(t, 2, "a", "b")
	partial.Pages[1].Sections[0].Pieces[0] = docs.Piece{End: 1}
	cut := embedded(t, 2, "a", "b")
	cut.Pages[1].Sections[0].Pieces[0].Values = []int8{1}
	renamed := embedded(t, 2, "a", "b")
	renamed.Pages[1].Title = "Another page"
	otherModel := embedded(t, 2, "a", "b")
	otherModel.Model = "other"
	tests := []struct {
		name     string
		site     *docs.Site
		previous []*docs.Site
		pieces   int
		want     []string // The texts that are embedded.
	}{
		{"empty site", siteOf(), nil, 0, nil},
		{"nothing before", siteOf("a", "b"), nil, 2, []string{"Page\na", "Page\nb"}},
		{"no previous site", siteOf("a", "b"), []*docs.Site{nil}, 2, []string{"Page\na", "Page\nb"}},
		{"the same again", siteOf("a", "b"), []*docs.Site{embedded(t, 2, "a", "b")}, 2, nil},
		{"one new", siteOf("c", "a", "b"), []*docs.Site{embedded(t, 2, "a", "b")}, 3, []string{"Page\nc"}},
		{"two previous sites", siteOf("a", "b", "c"), []*docs.Site{embedded(t, 2, "a"), embedded(t, 2, "b")}, 3, []string{"Page\nc"}},
		{"partial site", siteOf("a", "b"), []*docs.Site{partial}, 2, []string{"Page\nb"}},
		{"a vector that is too short", siteOf("a", "b"), []*docs.Site{cut}, 2, []string{"Page\nb"}},
		{"another title", siteOf("a", "b"), []*docs.Site{renamed}, 2, []string{"Page\nb"}},
		{"another model", siteOf("a", "b"), []*docs.Site{otherModel}, 2, []string{"Page\na", "Page\nb"}},
		{"other dimensions", siteOf("a", "b"), []*docs.Site{embedded(t, 3, "a", "b")}, 2, []string{"Page\na", "Page\nb"}},
		{"text twice", siteOf("a", "b", "a"), nil, 3, []string{"Page\na", "Page\nb"}},
		{"section without text", siteOf(""), nil, 1, []string{"Page\n"}},
		{"two pieces", siteOf(words(300)), nil, 2, []string{"Page\n" + words(150), "Page\n" + words(200)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			plan := docs.Plan(tt.site, "m", 2, tt.previous...)
			if plan.Pieces != tt.pieces || plan.Texts != len(tt.want) || (plan.Tokens > 0) != (plan.Texts > 0) {
				t.Errorf("%d pieces, %d texts, %d tokens, want %d pieces and %d texts", plan.Pieces, plan.Texts, plan.Tokens, tt.pieces, len(tt.want))
			}
			if tt.site.Model != "m" || tt.site.Dimensions != 2 {
				t.Errorf("model %q, %d dimensions", tt.site.Model, tt.site.Dimensions)
			}
			e := &embedder{}
			if err := plan.Run(t.Context(), e, ignore, saved); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, e.asked()); diff != "" {
				t.Errorf("embedded (-want +got):\n%s", diff)
			}
			for _, p := range tt.site.Pages {
				for _, s := range p.Sections {
					for _, piece := range s.Pieces {
						want := docs.Piece{Start: piece.Start, End: piece.End}
						want.SetVector([]float32{1, float32(len(docs.EmbeddedText(&p, &s, piece)))})
						if diff := cmp.Diff(want, piece); diff != "" {
							t.Errorf("%s: piece (-want +got):\n%s", p.URL, diff)
						}
					}
				}
			}
		})
	}
}

// TestPlan_FirstCounts has two previous sites with different vectors of one text.
func TestPlan_FirstCounts(t *testing.T) {
	t.Parallel()
	first, second, s := embedded(t, 2, "a"), embedded(t, 2, "a"), siteOf("a")
	first.Pages[0].Sections[0].Pieces[0].Values = []int8{1, 2}
	docs.Plan(s, "m", 2, first, second)
	if diff := cmp.Diff(first.Pages[0].Sections[0].Pieces, s.Pages[0].Sections[0].Pieces); diff != "" {
		t.Errorf("pieces (-want +got):\n%s", diff)
	}
}

func TestRun_Batches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := siteOf(numbered(1000)...)
		e := &embedder{fail: func(context.Context, []string) error {
			time.Sleep(time.Second) // So that batches overlap.
			return nil
		}}
		var progress, left []int
		err := docs.Plan(s, "m", 2).Run(t.Context(), e,
			func(done, total int) {
				if total != 1000 {
					t.Errorf("%d texts in all, want 1000", total)
				}
				progress = append(progress, done)
			},
			func() error {
				left = append(left, without(s))
				return nil
			})
		if err != nil {
			t.Fatal(err)
		}
		if e.most != 4 || len(e.batches) != 8 {
			t.Errorf("%d batches, %d at a time, want 8 and 4", len(e.batches), e.most)
		}
		for i, batch := range e.batches {
			if len(batch) > 128 {
				t.Errorf("batch %d has %d texts", i, len(batch))
			}
		}
		if len(progress) != 8 || progress[7] != 1000 || !slices.IsSorted(progress) {
			t.Errorf("progress: %d", progress)
		}
		for i, n := range left {
			if n != 1000-progress[i] {
				t.Errorf("%d texts have no vector when it is saved, want %d", n, 1000-progress[i])
			}
		}
	})
}

func TestRun_Failures(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	nan := float32(math.NaN())
	// failing fails for the batch with a text, before any other batch is done.
	failing := func(ctx context.Context, texts []string) error {
		if slices.Contains(texts, "Page\ntext 200") {
			return broken
		}
		time.Sleep(time.Second)
		return ctx.Err()
	}
	tests := []struct {
		name     string
		embedder docs.Embedder
		save     func() error
		want     string
		left     int // Texts that have no vector then.
	}{
		{"second batch", &embedder{fail: failing}, saved, "broken", 1000 - 3*128},
		{"all batches", &embedder{fail: func(context.Context, []string) error { return broken }}, saved, "broken", 1000},
		{"saving", &embedder{}, func() error { return broken }, "broken", 1000 - 4*128},
		{"too few vectors", vectors{}, saved, "the embedder returned 0 vectors for 128 texts", 1000},
		{"too many dimensions", vectors{1, 2, 3}, saved, "the embedder returned a vector without a direction, or not of 2 dimensions", 1000},
		{"zero", vectors{0, 0}, saved, "the embedder returned a vector without a direction, or not of 2 dimensions", 1000},
		{"not a number", vectors{nan, 1}, saved, "the embedder returned a vector without a direction, or not of 2 dimensions", 1000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := siteOf(numbered(1000)...)
				err := docs.Plan(s, "m", 2).Run(t.Context(), tt.embedder, ignore, tt.save)
				if err == nil || err.Error() != tt.want {
					t.Errorf("error %v, want %q", err, tt.want)
				}
				if n := without(s); n != tt.left {
					t.Errorf("%d texts have no vector, want %d", n, tt.left)
				}
			})
		})
	}
}

// TestRun_FirstFailure has one batch fail after another.
func TestRun_FirstFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := &embedder{fail: func(_ context.Context, texts []string) error {
			var n int
			fmt.Sscanf(texts[0], "Page\ntext %d", &n)
			time.Sleep(time.Duration(1000-n) * time.Second)
			return fmt.Errorf("broken at %d", n)
		}}
		err := docs.Plan(siteOf(numbered(256)...), "m", 2).Run(t.Context(), e, ignore, saved)
		if err == nil || err.Error() != "broken at 128" {
			t.Errorf("error %v, want that of the second batch, which failed first", err)
		}
	})
}

// vectors is an embedder that returns one vector for all texts, or none at all.
type vectors []float32

func (v vectors) Embed(_ context.Context, _ string, _ int, texts []string) ([][]float32, error) {
	if len(v) == 0 {
		return nil, nil
	}
	return slices.Repeat([][]float32{v}, len(texts)), nil
}

// TestRun_GoesOn runs again after a failure, with what was done as a previous site.
func TestRun_GoesOn(t *testing.T) {
	t.Parallel()
	texts := numbered(1000)
	partial := siteOf(texts...)
	first := &embedder{fail: func(_ context.Context, texts []string) error {
		if slices.Contains(texts, "Page\ntext 700") {
			return errors.New("broken")
		}
		return nil
	}}
	if err := docs.Plan(partial, "m", 2).Run(t.Context(), first, ignore, saved); err == nil {
		t.Fatal("no error")
	}
	left := without(partial)
	if left == 0 || left == 1000 {
		t.Fatalf("%d texts have no vector after a failure", left)
	}
	s, second := siteOf(texts...), &embedder{}
	if err := docs.Plan(s, "m", 2, nil, partial).Run(t.Context(), second, ignore, saved); err != nil {
		t.Fatal(err)
	}
	if n := len(second.asked()); n != left {
		t.Errorf("%d texts were embedded again, want %d", n, left)
	}
	if diff := cmp.Diff(embedded(t, 2, texts...), s); diff != "" {
		t.Errorf("site (-at once +in two runs):\n%s", diff)
	}
}

func TestRun_Ends(t *testing.T) {
	t.Parallel()
	hang := &embedder{fail: func(ctx context.Context, _ []string) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	t.Run("interrupted", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := docs.Plan(siteOf("a"), "m", 2).Run(ctx, hang, ignore, saved); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want the context's", err)
		}
	})
	t.Run("no answer", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			err := docs.Plan(siteOf("a"), "m", 2).Run(t.Context(), &embedder{fail: hang.fail}, ignore, saved)
			if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != 2*time.Minute {
				t.Errorf("error %v after %s, want a timeout after 2 minutes", err, took)
			}
		})
	})
}

func TestPlan_Tokens(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"":           2, // "Page\n"
		"abc":        2,
		"abcd":       3,
		"größer":     5,
		"日本語テキスト":    9,
		"a\n\nb\n\n": 3,
	} {
		if got := docs.Plan(siteOf(text), "m", 2).Tokens; got != want {
			t.Errorf("%q: %d tokens, want %d", text, got, want)
		}
	}
}

func TestPrice(t *testing.T) {
	t.Parallel()
	for model, want := range map[string]float64{
		"text-embedding-3-small": 0.02, "text-embedding-3-large": 0.13, "text-embedding-ada-002": 0.10,
	} {
		if usd, ok := docs.Price(model, 2_000_000); !ok || math.Abs(usd-2*want) > 1e-9 {
			t.Errorf("%s: $%g, %t, want $%g", model, usd, ok, 2*want)
		}
	}
	if usd, ok := docs.Price("other", 2_000_000); ok || usd != 0 {
		t.Errorf("another model: $%g, %t", usd, ok)
	}
}

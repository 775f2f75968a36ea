package docs

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	// batchSize is how many texts are embedded at once. Pieces of English fill about
	// half of what OpenAI takes in a request.
	batchSize = 128
	// parallelBatches is how many batches are under way at a time.
	parallelBatches = 4
	// batchTime is how long a batch may take with its repetitions.
	batchTime = 2 * time.Minute
)

// prices are OpenAI's, in USD for a million tokens.
var prices = map[string]float64{
	"text-embedding-3-small": 0.02,
	"text-embedding-3-large": 0.13,
	"text-embedding-ada-002": 0.10,
}

// Price returns what a model of OpenAI's takes for so many tokens, in USD, or false
// for a model whose price is unknown.
func Price(model string, tokens int64) (usd float64, ok bool) {
	perMillion, ok := prices[model]
	return perMillion * float64(tokens) / 1e6, ok
}

// Embedding is the work of giving the pieces of a site their vectors.
type Embedding struct {
	// Pieces is how many the site has.
	Pieces int
	// Texts is how many texts have no vector yet. Pieces with the same text are one.
	Texts int
	// Tokens is an estimate of what these texts take. It is rather too high.
	Tokens int64

	site    *Site
	missing []string
	places  map[string][]*Piece // The pieces that have the text.
}

// Plan splits a site's sections into pieces, and gives those their vectors whose
// text has one in a previous site by the same model. The first such site counts.
// A previous site may be nil, and may be partial. The site must not change until
// [Embedding.Run] has ended.
func Plan(s *Site, model string, dimensions int, previous ...*Site) *Embedding {
	known := map[string]Piece{}
	for _, old := range previous {
		if old == nil || old.Model != model {
			continue
		}
		old.eachPiece(func(text string, p *Piece) {
			if _, ok := known[text]; !ok && len(p.Values) == dimensions {
				known[text] = *p
			}
		})
	}
	s.Model, s.Dimensions = model, dimensions
	for _, section := range s.sections() {
		section.Pieces = Split(section.Text)
	}
	e := &Embedding{site: s, places: map[string][]*Piece{}}
	s.eachPiece(func(text string, p *Piece) {
		e.Pieces++
		if old, ok := known[text]; ok {
			p.Values, p.Scale = old.Values, old.Scale
			return
		}
		if len(e.places[text]) == 0 {
			e.missing = append(e.missing, text)
			e.Tokens += tokensOf(text)
		}
		e.places[text] = append(e.places[text], p)
	})
	e.Texts = len(e.missing)
	return e
}

// Run makes the vectors that are missing. After each batch, and never at the same
// time, it calls progress with the texts that are done and all texts, then save,
// which may write the site. It ends at the first error. Pieces keep the vectors that
// they have got until then, so that a next run goes on from there.
func (e *Embedding) Run(ctx context.Context, embedder Embedder, progress func(done, total int), save func() error) error {
	type result struct {
		texts   []string
		vectors [][]float32
		err     error
	}
	results := make(chan result)
	batches := slices.Collect(slices.Chunk(e.missing, batchSize))
	started, running, done := 0, 0, 0
	var failure error
	for {
		for ; running < parallelBatches && started < len(batches) && failure == nil; started++ {
			texts := batches[started]
			go func() {
				ctx, cancel := context.WithTimeout(ctx, batchTime)
				defer cancel()
				vectors, err := embedder.Embed(ctx, e.site.Model, e.site.Dimensions, texts)
				results <- result{texts, vectors, err}
			}()
			running++
		}
		if running == 0 {
			return failure
		}
		r := <-results
		running--
		err := r.err
		if err == nil {
			err = e.set(r.texts, r.vectors)
		}
		if err == nil {
			done += len(r.texts)
			progress(done, e.Texts)
			err = save()
		}
		if failure == nil {
			failure = err
		}
	}
}

// set gives the pieces of the texts their vectors.
func (e *Embedding) set(texts []string, vectors [][]float32) error {
	if len(vectors) != len(texts) {
		return fmt.Errorf("the embedder returned %d vectors for %d texts", len(vectors), len(texts))
	}
	for i, text := range texts {
		var p Piece
		if len(vectors[i]) != e.site.Dimensions || !p.SetVector(vectors[i]) {
			return fmt.Errorf("the embedder returned a vector without a direction, or not of %d dimensions", e.site.Dimensions)
		}
		for _, place := range e.places[text] {
			place.Values, place.Scale = p.Values, p.Scale
		}
	}
	return nil
}

// eachPiece calls do with each piece and the text that its vector is of, in order.
func (s *Site) eachPiece(do func(text string, p *Piece)) {
	for page, section := range s.sections() {
		for k := range section.Pieces {
			do(EmbeddedText(page, section, section.Pieces[k]), &section.Pieces[k])
		}
	}
}

// tokensOf estimates how many tokens a text takes: English text and code have about
// four letters in one, other scripts seldom more than one.
func tokensOf(text string) int64 {
	quarters := 3
	for _, r := range text {
		if r < 0x80 {
			quarters++
		} else {
			quarters += 4
		}
	}
	return int64(quarters / 4)
}

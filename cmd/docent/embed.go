package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"docent/internal/app"
	"docent/internal/docs"
	"docent/internal/openai"
	"docent/internal/redact"
)

// What makes the vectors of an index. A question's vector is made by the same model.
const (
	embeddingModel      = "text-embedding-3-small"
	embeddingDimensions = 512
)

// saveEvery is how much time's embeddings are lost at the most if the process is
// killed.
const saveEvery = 20 * time.Second

// embeddings are what `docent index --json` prints of them.
type embeddings struct {
	Pieces int `json:"pieces"`
	// New is how many texts were embedded. Pieces with the same text are one.
	New int `json:"new"`
	// Tokens is what OpenAI has counted, and USD its price for that.
	Tokens int64   `json:"tokens"`
	USD    float64 `json:"usd"`
}

// An embedder gives the pieces of an index their vectors, if there is a key.
type embedder struct {
	p        app.Process
	client   *openai.Client // Nil for an index without vectors.
	close    func()
	partial  string // The file for what is paid for and not in an index yet.
	previous []*docs.Site
}

// newEmbedder reads the earlier indexes. One that cannot be read is a warning: the
// first time there is none.
func newEmbedder(ctx context.Context, p app.Process, o indexOptions) (*embedder, error) {
	e := &embedder{p: p, close: func() {}, partial: o.out + ".partial"}
	if o.noEmbeddings {
		return e, nil
	}
	var err error
	if e.client, e.close, err = openAI(ctx, p); err != nil || e.client == nil {
		return e, err
	}
	e.load(ctx, e.partial, true)
	if o.previous != "" {
		e.load(ctx, o.previous, false)
	} else {
		e.load(ctx, o.out, true)
	}
	return e, nil
}

func (e *embedder) load(ctx context.Context, location string, mayBeMissing bool) {
	s, err := docs.Load(ctx, location)
	switch {
	case err == nil:
		e.previous = append(e.previous, s)
	case !mayBeMissing || !errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(e.p.Stderr, "docent: warning: no embeddings are taken from an earlier index: %s\n", redact.OneLine(err.Error()))
	}
}

// embed gives all pieces of the site vectors, and prints the price before and after.
func (e *embedder) embed(ctx context.Context, s *docs.Site, out io.Writer, noEmbeddings bool) (*embeddings, error) {
	if e.client == nil {
		if !noEmbeddings {
			fmt.Fprintln(out, "No embeddings, because OPENAI_API_KEY is not set: the search goes by words alone")
		}
		return nil, nil //nolint:nilnil // There are none.
	}
	plan := docs.Plan(s, embeddingModel, embeddingDimensions, e.previous...)
	if plan.Texts == 0 {
		fmt.Fprintf(out, "Embeddings: all %s are known already\n", count(plan.Pieces, "piece"))
		return &embeddings{Pieces: plan.Pieces}, nil
	}
	fmt.Fprintf(out, "Embedding %d new of %s: about %s\n", plan.Texts, count(plan.Pieces, "piece"), price(plan.Tokens))
	progress := newBar(e.p, "Embedding")
	done, saved := 0, time.Now()
	err := plan.Run(ctx, e.client, func(n, total int) {
		done = n
		progress.show(n, total)
	}, func() error {
		if time.Since(saved) < saveEvery {
			return nil
		}
		saved = time.Now()
		return e.save(s)
	})
	progress.clear()
	if err != nil {
		return nil, e.failed(s, done, err)
	}
	tokens := e.client.EmbeddedTokens()
	fmt.Fprintf(out, "Embedded %s: %s\n", count(plan.Texts, "piece"), price(tokens))
	usd, _ := docs.Price(embeddingModel, tokens)
	return &embeddings{plan.Pieces, plan.Texts, tokens, usd}, nil
}

// failed keeps what is paid for, and returns the error to print.
func (e *embedder) failed(s *docs.Site, done int, err error) error {
	if done == 0 {
		return fmt.Errorf("embedding: %w", err)
	}
	if saving := e.save(s); saving != nil {
		return fmt.Errorf("embedding: %w; and the %d embeddings that are paid for are lost: %w", err, done, saving)
	}
	fmt.Fprintf(e.p.Stderr, "docent: %s has %d new embeddings: run the command again to use them\n", redact.OneLine(e.partial), done)
	return fmt.Errorf("embedding: %w", err)
}

func (e *embedder) save(s *docs.Site) error {
	f, err := create(e.partial)
	if err != nil {
		return err
	}
	defer f.discard()
	_, err = f.write(s)
	return err
}

// forget removes the partial index once its embeddings are in the index.
func (e *embedder) forget() {
	if e.client == nil {
		return
	}
	if err := os.Remove(e.partial); err != nil && !errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintln(e.p.Stderr, "docent: warning:", redact.OneLine(err.Error()))
	}
}

// price returns a number of tokens with what OpenAI takes for it.
func price(tokens int64) string {
	usd, _ := docs.Price(embeddingModel, tokens)
	switch {
	case tokens == 0: // A gateway has not counted them.
		return "an unknown number of tokens"
	case usd < 0.0001:
		return fmt.Sprintf("%d tokens, under 0.0001 $", tokens)
	default:
		return fmt.Sprintf("%d tokens, %.4f $", tokens, usd)
	}
}

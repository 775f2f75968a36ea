package check

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"docent/internal/app"
	"docent/internal/docs"
	"docent/internal/openai"
	"docent/internal/redact"
)

const (
	// indexTime is how long the index may take to be loaded. A start waits for 10 s,
	// and then goes on without it.
	indexTime = 15 * time.Second
	// oldIndex is the age from which an index is worth a look.
	oldIndex = 30 * 24 * time.Hour
	// searchTime bounds a search of the vector store, and the embedding.
	searchTime = 8 * time.Second
	// answerTime is how long the model may take: the time within which the service
	// wants the first words.
	answerTime = 20 * time.Second
	// answerTokens is OpenAI's least bound on a response.
	answerTokens = 16
	// word is what is embedded and searched for.
	word = "documentation"
)

// docs checks what Docent answers from the docs with, where it does.
func (c *checkup) docs(ctx context.Context, key, store *wanted, index <-chan *docs.Site) {
	if !c.config.Docs() {
		return
	}
	client := app.NewOpenAI(c.config, key.value)
	defer client.Close()
	hidden := redact.Secrets(key.value.Get(), store.value.Get())
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		// The index has a result since it was loaded.
		if site := <-index; site != nil && site.Model != "" {
			c.embedding(ctx, client, site, key.usable, hidden)
		}
	})
	if !key.usable {
		c.set(vectorStoreCheck, skipped("it needs a usable OPENAI_API_KEY"))
		c.set(answerCheck, skipped("it needs a usable OPENAI_API_KEY"))
		return
	}
	wg.Go(func() { c.set(answerCheck, c.answer(ctx, client, hidden)) })
	if !store.usable {
		c.set(vectorStoreCheck, skipped("it needs a usable VECTOR_STORE_ID"))
		return
	}
	wg.Go(func() {
		c.set(vectorStoreCheck, c.vectorStore(ctx, &openai.VectorStore{Client: client, ID: store.value.Get}, hidden))
	})
}

// index loads the index and sets the result. It returns nil if there is none that
// can be used.
func (c *checkup) index(ctx context.Context) *docs.Site {
	if c.config.DocsIndex == "" {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, indexTime)
	defer cancel()
	site, changed, err := docs.LoadDated(bounded, c.config.DocsIndex)
	switch {
	case bounded.Err() != nil && ctx.Err() == nil:
		c.set(indexCheck, fail("the index was not loaded in %s: check that the server of DOCS_INDEX can be reached from here, and is fast enough", indexTime))
		return nil
	case err != nil:
		c.set(indexCheck, fail("%s: make an index with `docent index`, publish it and check DOCS_INDEX", redact.Text(err.Error(), maxWords)))
		return nil
	}
	result := describeIndex(site, changed)
	c.set(indexCheck, result)
	if result.Status == Fail {
		return nil
	}
	return site
}

func describeIndex(site *docs.Site, changed time.Time) Result {
	sections, vectors := 0, 0
	for _, page := range site.Pages {
		sections += len(page.Sections)
		for _, section := range page.Sections {
			for _, piece := range section.Pieces {
				vectors += min(1, len(piece.Values))
			}
		}
	}
	if sections == 0 {
		return fail("the index has no sections: check the folder that it was made of")
	}
	found := fmt.Sprintf("%d vectors (%s, %d dimensions)", vectors, redact.Text(site.Model, maxWords), site.Dimensions)
	if site.Model == "" {
		found = "no vectors, so the search goes by words alone"
	}
	result := ok("%s, %d sections of %d pages, %s", ageOf(changed), sections, len(site.Pages), found)
	if !changed.IsZero() && time.Since(changed) > oldIndex {
		result.note("if the site has changed since then, make an index again and publish it")
	}
	return result
}

// ageOf returns the age of what was changed at a time, which may be unknown.
func ageOf(changed time.Time) string {
	const day = 24 * time.Hour
	switch age := time.Since(changed); {
	case changed.IsZero():
		return "age unknown"
	case age < time.Hour:
		return "less than an hour old"
	case age < 2*day:
		return fmt.Sprintf("%d h old", int(age.Hours()))
	default:
		return fmt.Sprintf("%d days old", age/day)
	}
}

// embedding adds to the index's result whether the vector of a question can be made.
// Without it, words alone answer.
func (c *checkup) embedding(ctx context.Context, client *openai.Client, site *docs.Site, usable bool, hidden redact.Rule) {
	c.mu.Lock()
	result := c.results[indexCheck]
	c.mu.Unlock()
	took, why := time.Duration(0), "it needs a usable OPENAI_API_KEY"
	if usable {
		// The first call also opens the connection, which a search seldom has to.
		for range 2 {
			if took, why = embed(ctx, client, site, hidden); why != "" || took < docs.EmbedTimeout {
				break
			}
		}
	}
	switch {
	case why != "":
		result.note("no embedding of a question (%s), so the search goes by words alone: check that the key may use %s", why, redact.Text(site.Model, maxWords))
	case took >= docs.EmbedTimeout:
		result.note("the embedding of a question took %d ms, and a search goes by words alone after %d ms", took.Milliseconds(), docs.EmbedTimeout.Milliseconds())
	default:
		result.Detail += fmt.Sprintf(", the embedding of a question in %d ms", took.Milliseconds())
	}
	c.set(indexCheck, result)
}

// embed returns how long the embedding of a word has taken, or why there is none.
func embed(ctx context.Context, client *openai.Client, site *docs.Site, hidden redact.Rule) (took time.Duration, why string) {
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	began := time.Now()
	if _, err := client.Embed(ctx, site.Model, site.Dimensions, []string{word}); err != nil {
		return 0, redact.Text(err.Error(), maxWords, hidden)
	}
	return time.Since(began), ""
}

// vectorStore searches OpenAI's vector store.
func (c *checkup) vectorStore(ctx context.Context, store docs.Searcher, hidden redact.Rule) Result {
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	began := time.Now()
	found, err := store.Passages(ctx, docs.Query{Question: word})
	if err != nil {
		waited := fmt.Sprintf("no answer in %s", searchTime)
		return unanswered(err, waited, func(e *openai.Error) string {
			return causeOf(e, "the key's project has no such vector store: check VECTOR_STORE_ID", "VECTOR_STORE_ID", "vector stores")
		}, hidden)
	}
	result := ok("searched in %d ms, passages found: %d", time.Since(began).Milliseconds(), len(found.Passages))
	if len(found.Passages) == 0 {
		result.note("nothing was found, which is right only if the vector store has no files yet")
	}
	return result
}

// answer has the model answer, within very few tokens.
func (c *checkup) answer(ctx context.Context, client *openai.Client, hidden redact.Rule) Result {
	most := min(answerTime, c.config.AnswerTimeout)
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	model := redact.Text(c.config.AnswerModel, maxWords, hidden)
	began := time.Now()
	response, err := client.Respond(ctx, openai.ResponseRequest{
		Model: c.config.AnswerModel, Effort: c.config.AnswerEffort, MaxOutputTokens: answerTokens,
		Instructions:     "Answer with one word.",
		Input:            []openai.InputMessage{{Role: "user", Text: "Do you work?"}},
		SafetyIdentifier: user,
	}, discard{})
	took := time.Since(began).Milliseconds()
	switch {
	case err != nil:
		waited := fmt.Sprintf("no answer from %s in %s", model, most)
		return unanswered(err, waited, func(e *openai.Error) string {
			return causeOf(e, "it does not know the model "+model+", or the key's project may not use it: check ANSWER_MODEL",
				"ANSWER_MODEL and ANSWER_EFFORT", "responses")
		}, hidden)
	case !response.Begun && !response.Refused && response.Cut == "":
		return fail("%s answered without a text: check that ANSWER_MODEL is a model for text", model)
	default:
		return ok("%s answered in %d ms", model, took)
	}
}

// discard takes an answer that nobody reads. It implements [openai.ResponseEvents].
type discard struct{}

func (discard) Text(string) error    { return nil }
func (discard) Refusal(string) error { return nil }

// causeOf returns the likely cause of a failed call, and how to fix it. unknown is
// the cause if OpenAI does not know what the request names, variables are what the
// request was made of, and what names the calls in a key's permissions.
func causeOf(e *openai.Error, unknown, variables, what string) string {
	switch {
	case e.Kind == openai.Spent:
		return "the project has no credit left, or has reached its budget: see https://platform.openai.com/settings/organization/billing and https://platform.openai.com/settings/organization/limits"
	case e.Status == http.StatusUnauthorized:
		return cause(e.Status)
	case e.Status == http.StatusForbidden:
		return "the API key may not do this: give it the permission for " + what + ", and check its project's limits and that OpenAI serves this region"
	case e.Kind == openai.NotFound, e.Code == "model_not_found":
		return unknown
	case e.Kind == openai.Busy && (e.Status == http.StatusTooManyRequests || e.Code == "rate_limit_exceeded"):
		return "the project is over its rate limit: try again, and see https://platform.openai.com/settings/organization/limits"
	case e.Kind == openai.Busy:
		return "OpenAI is down or overloaded: see https://status.openai.com and try again"
	case e.Status < http.StatusBadRequest && e.Message == "":
		return cause(e.Status)
	default:
		return "it refused the request: check " + variables
	}
}

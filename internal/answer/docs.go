// Package answer turns questions into answers: from passages of the docs, by a
// language model, with citations.
package answer

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"docent/internal/chatkit"
	"docent/internal/docs"
	"docent/internal/openai"
)

// spentPause is how long no question is answered after OpenAI has refused to spend
// more: only an operator can change that.
const spentPause = 5 * time.Minute

// cacheKey keeps the requests of all sites that share an OpenAI project together in
// OpenAI's cache.
const cacheKey = "docent-answers"

// Model writes answers. [openai.Client] is one.
type Model interface {
	Respond(ctx context.Context, r openai.ResponseRequest, events openai.ResponseEvents) (openai.ResponseResult, error)
}

// Options configure [Docs]. All are required.
type Options struct {
	Searcher docs.Searcher
	Model    Model
	// ModelName, Effort and MaxTokens are those of [openai.ResponseRequest].
	ModelName string
	Effort    string
	MaxTokens int
	// Instructions returns the site's own instructions, or "".
	Instructions func() string
	// SafetyIdentifier returns what OpenAI may know a visitor by.
	SafetyIdentifier func(visitor string) string
	// Observe is told how each question was answered. ctx is that of the question.
	Observe func(ctx context.Context, o Outcome)
	// Now is the clock.
	Now func() time.Time
}

// Docs answers questions from the docs: it finds passages and has a model write an
// answer from them, which cites them. It implements [chatkit.Responder], and is
// safe for concurrent use.
type Docs struct {
	o Options

	mu     sync.Mutex
	paused time.Time // Until when nothing is asked of OpenAI.
}

// New returns a responder.
func New(o Options) *Docs { return &Docs{o: o} }

// Codes of outcomes, besides those of the errors below.
const (
	Answered = "answered"
	// NoSource is an answer that cites nothing, such as that the docs have none.
	NoSource = "no_source"
	// Refused is a refusal of the model, which is shown as an answer.
	Refused = "refused"
	// Cut is an answer that was ended at the token limit, or by OpenAI.
	Cut = "cut"
	// NoText is a response without any text.
	NoText = "no_text"
	// SpendingRefused is OpenAI's refusal to spend more. It pauses all answers, and
	// is the outcome of one question for each pause: an operator must act.
	SpendingRefused = "spending_refused"
	// Left is the outcome where the visitor has left, or the answer was stopped.
	Left = "client_gone"
	// Internal is an error that this package does not know.
	Internal = "internal"
)

// Outcome is how a question was answered, for the log. It has nothing of the texts.
type Outcome struct {
	// Code is one of the constants, or the code of a [chatkit.StreamError].
	Code string
	// Err is the cause for the operator's log, or nil.
	Err error
	// WithoutVectors says why the search went by words alone, as [docs.Found] does.
	WithoutVectors error
	// ToPassages, ToFirst and Total are the times from the question to the passages,
	// to the first text of the model, and to the end. One that was not reached is 0.
	ToPassages, ToFirst, Total time.Duration
	// Passages is how many were found, and Citations how many the answer has.
	Passages, Citations int
	// InputTokens has CachedTokens in it.
	InputTokens, CachedTokens, OutputTokens int64
}

// What visitors read of errors.
var (
	errUnavailable = &chatkit.StreamError{Code: "assistant_unavailable", Message: "The assistant is not available right now. Please try again later."}
	errSpent       = &chatkit.StreamError{Code: SpendingRefused, Message: errUnavailable.Message}
	errLoading     = &chatkit.StreamError{Code: errUnavailable.Code, Message: "The assistant is not available right now. Please try again in a moment.", Retry: true}
	errSearch      = &chatkit.StreamError{Code: "search_failed", Message: "The docs could not be searched. Please try again.", Retry: true}
	errRejected    = &chatkit.StreamError{Code: "upstream_rejected", Message: "The assistant could not answer this question."}
	errBusy        = &chatkit.StreamError{Code: "upstream_busy", Message: "The assistant is busy. Please try again in a moment.", Retry: true}
	errTimeout     = &chatkit.StreamError{Code: "upstream_timeout", Message: "The assistant took too long to answer. Please try again.", Retry: true}
)

// interrupted is what visitors read where an answer ends in the middle.
const interrupted = "The answer was interrupted. Please try again."

// What visitors read below an answer that is not whole.
const (
	tokenLimit = "max_output_tokens"
	cutAtLimit = "The answer was cut off because it became too long. You can ask for the rest, or about less at a time."
	cutByModel = "The answer was ended before it was complete."
)

// Respond implements [chatkit.Responder].
func (d *Docs) Respond(ctx context.Context, q chatkit.Question, a *chatkit.Answer) error {
	t := &turn{docs: d, question: q, answer: a, began: d.o.Now()}
	err := t.run(ctx)
	t.outcome.Total = d.o.Now().Sub(t.began)
	if err != nil {
		t.outcome.Code = codeOf(ctx, err)
	}
	d.o.Observe(ctx, t.outcome)
	return err
}

// codeOf returns the code of an error that ends a turn.
func codeOf(ctx context.Context, err error) string {
	var told *chatkit.StreamError
	switch cause := context.Cause(ctx); {
	case errors.As(cause, &told), cause == nil && errors.As(err, &told):
		return told.Code
	case cause != nil:
		return Left
	default:
		return Internal
	}
}

// A turn is one question on its way to an answer. It implements
// [openai.ResponseEvents].
type turn struct {
	docs     *Docs
	question chatkit.Question
	answer   *chatkit.Answer
	began    time.Time
	filter   filter
	unsent   error // Why the answer could not be written on.
	outcome  Outcome
}

func (t *turn) run(ctx context.Context) error {
	if t.docs.pauses() {
		return errUnavailable
	}
	if err := t.answer.Progress("search", "Searching the docs…"); err != nil {
		return err
	}
	found, err := t.docs.o.Searcher.Passages(ctx, t.query())
	if err != nil {
		return t.failed(ctx, err, errSearch)
	}
	found.Passages = docs.Bound(found.Passages)
	t.outcome.ToPassages = t.docs.o.Now().Sub(t.began)
	t.outcome.Passages, t.outcome.WithoutVectors = len(found.Passages), found.WithoutVectors

	t.filter = filter{out: t.answer, sources: sourcesOf(found.Passages)}
	result, err := t.ask(ctx, found)
	if ended := t.filter.end(); err == nil {
		err = ended
	}
	t.outcome.Citations = t.filter.passed
	t.outcome.InputTokens, t.outcome.CachedTokens, t.outcome.OutputTokens = result.InputTokens, result.CachedTokens, result.OutputTokens
	switch {
	case t.unsent != nil:
		return t.unsent
	case err != nil:
		return t.failed(ctx, err, nil)
	}
	t.outcome.Code = t.conclude(result)
	return nil
}

// query returns what to search for. A message without words of its own, such as "Why?",
// is found by the question before it.
func (t *turn) query() docs.Query {
	q := docs.Query{Question: t.question.Message.Text(), Page: t.question.Reader.Page, Languages: t.question.Reader.Language}
	if quote := t.question.Message.Quote(); quote != "" {
		q.Question += "\n" + quote
	}
	for _, item := range t.question.History {
		if m, ok := item.(*chatkit.UserMessage); ok {
			q.Previous = m.Text()
		}
	}
	return q
}

// ask has the model answer. Without any passage, too: a greeting or a question about
// the answer before needs none, and only the model can say in the visitor's language
// that there is none.
func (t *turn) ask(ctx context.Context, found docs.Found) (openai.ResponseResult, error) {
	o := &t.docs.o
	r := openai.ResponseRequest{
		Model: o.ModelName, Effort: o.Effort, MaxOutputTokens: o.MaxTokens,
		Instructions:     instructions(o.Instructions()),
		Input:            input(t.question.History, found, t.question.Message),
		SafetyIdentifier: o.SafetyIdentifier(t.question.Visitor),
		CacheKey:         cacheKey,
	}
	result, err := o.Model.Respond(ctx, r, t)
	if kindOf(err) == openai.TooLong && len(r.Input) > 1 && t.outcome.ToFirst == 0 {
		r.Input = r.Input[len(r.Input)-1:]
		result, err = o.Model.Respond(ctx, r, t)
	}
	return result, err
}

// Text implements [openai.ResponseEvents].
func (t *turn) Text(delta string) error {
	if t.outcome.ToFirst == 0 {
		t.outcome.ToFirst = max(1, t.docs.o.Now().Sub(t.began))
	}
	t.unsent = t.filter.add(delta)
	return t.unsent
}

// Refusal implements [openai.ResponseEvents]. A refusal is an answer.
func (t *turn) Refusal(delta string) error { return t.Text(delta) }

// conclude says what a complete response is. One without text gets its error from
// [chatkit.Turn.Stream].
func (t *turn) conclude(result openai.ResponseResult) string {
	switch {
	case !t.filter.seen:
		return NoText
	case result.Cut == tokenLimit:
		t.answer.Notice(chatkit.Info, "", cutAtLimit)
		return Cut
	case result.Cut != "":
		t.answer.Notice(chatkit.Info, "", cutByModel)
		return Cut
	case result.Refused:
		return Refused
	case t.filter.passed == 0:
		return NoSource
	default:
		return Answered
	}
}

// failed returns what the visitor is told of an error, and notes it for the operator.
// Errors that are not OpenAI's become other, if there is one.
func (t *turn) failed(ctx context.Context, err error, other *chatkit.StreamError) error {
	if ctx.Err() != nil {
		return err // The caller asks the context for the cause.
	}
	t.outcome.Err = err
	var upstream *openai.Error
	switch {
	case errors.Is(err, docs.ErrNotLoaded):
		return errLoading
	case errors.As(err, &upstream):
		return t.told(upstream)
	case other != nil:
		return other
	default:
		return err
	}
}

// told returns what the visitor is told of a failed call.
func (t *turn) told(e *openai.Error) *chatkit.StreamError {
	told := t.reason(e)
	if t.filter.seen && e.Kind != openai.Spent {
		return &chatkit.StreamError{Code: told.Code, Message: interrupted, Retry: true}
	}
	return told
}

func (t *turn) reason(e *openai.Error) *chatkit.StreamError {
	switch e.Kind {
	case openai.Spent:
		if t.docs.pause() {
			return errSpent
		}
		return errUnavailable
	case openai.NotFound:
		return errUnavailable
	case openai.Busy:
		return errBusy
	case openai.Timeout:
		return errTimeout
	default:
		return errRejected
	}
}

// pauses reports whether nothing is to be asked of OpenAI now.
func (d *Docs) pauses() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.o.Now().Before(d.paused)
}

// pause begins a pause. It returns false if there is one.
func (d *Docs) pause() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.o.Now()
	if now.Before(d.paused) {
		return false
	}
	d.paused = now.Add(spentPause)
	return true
}

// kindOf returns the kind of an error of OpenAI's, or -1.
func kindOf(err error) openai.Kind {
	var upstream *openai.Error
	if errors.As(err, &upstream) {
		return upstream.Kind
	}
	return -1
}

// sourcesOf returns what an answer may cite, by the IDs of the blocks. A passage
// without a URL cannot be cited.
func sourcesOf(passages []docs.Passage) map[string]chatkit.URLSource {
	sources := make(map[string]chatkit.URLSource, len(passages))
	for i, p := range passages {
		if p.URL != "" {
			sources[blockID(i)] = chatkit.URLSource{Title: titleOf(p), URL: p.URL}
		}
	}
	return sources
}

// titleOf returns what a source is called: its page and the heading.
func titleOf(p docs.Passage) string {
	title, heading := line(p.Title, maxTitle), ""
	if n := len(p.Headings); n > 0 {
		heading = line(p.Headings[n-1], maxTitle)
	}
	if title == "" || heading == "" || strings.EqualFold(title, heading) {
		return cmp.Or(title, heading, p.URL)
	}
	return title + " – " + heading
}

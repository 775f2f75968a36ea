package answer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"docent/internal/answer"
	"docent/internal/chatkit"
	"docent/internal/docs"
	"docent/internal/openai"

	"github.com/google/go-cmp/cmp"
)

// searcher is a [docs.Searcher] that a test writes.
type searcher func(ctx context.Context, q docs.Query) (docs.Found, error)

func (s searcher) Passages(ctx context.Context, q docs.Query) (docs.Found, error) { return s(ctx, q) }

// finds finds passages after a second.
func finds(passages ...docs.Passage) searcher {
	return func(context.Context, docs.Query) (docs.Found, error) {
		time.Sleep(time.Second)
		return docs.Found{Passages: passages}, nil
	}
}

// model is an [answer.Model] that a test writes.
type model func(ctx context.Context, r openai.ResponseRequest, events openai.ResponseEvents) (openai.ResponseResult, error)

func (m model) Respond(ctx context.Context, r openai.ResponseRequest, events openai.ResponseEvents) (openai.ResponseResult, error) {
	return m(ctx, r, events)
}

// says writes deltas, each after a second, and ends with a result.
func says(result openai.ResponseResult, deltas ...string) model {
	return func(_ context.Context, _ openai.ResponseRequest, events openai.ResponseEvents) (openai.ResponseResult, error) {
		for _, d := range deltas {
			time.Sleep(time.Second)
			if err := events.Text(d); err != nil {
				return openai.ResponseResult{}, err
			}
		}
		return result, nil
	}
}

// fails writes deltas and fails.
func fails(err error, deltas ...string) model {
	return func(ctx context.Context, r openai.ResponseRequest, events openai.ResponseEvents) (openai.ResponseResult, error) {
		result, _ := says(openai.ResponseResult{}, deltas...)(ctx, r, events)
		return result, err
	}
}

// passages are two sections of a page.
var passages = []docs.Passage{
	{URL: "https://docs.test/install", Title: "Install", Text: "Run make."},
	{URL: "https://docs.test/install#linux", Title: "Install", Headings: []string{"Systems", "Linux"}, Text: "Run apt."},
}

// fixture is a chat whose answers come from the docs.
type fixture struct {
	t        *testing.T
	searcher searcher
	model    model
	own      string // The site's instructions.
	server   *chatkit.Server
	thread   string
	outcomes []answer.Outcome
	requests []openai.ResponseRequest
}

// newFixture returns a chat. It must be called in a bubble: its clock is the
// bubble's.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, searcher: finds(passages...), model: says(openai.ResponseResult{}, "Yes.")}
	responder := answer.New(answer.Options{
		Searcher: searcher(func(ctx context.Context, q docs.Query) (docs.Found, error) { return f.searcher(ctx, q) }),
		Model: model(func(ctx context.Context, r openai.ResponseRequest, events openai.ResponseEvents) (openai.ResponseResult, error) {
			f.requests = append(f.requests, r)
			return f.model(ctx, r, events)
		}),
		ModelName: "gpt-6-luna", Effort: "none", MaxTokens: 1200,
		Instructions:     func() string { return f.own },
		SafetyIdentifier: func(visitor string) string { return "hash of " + visitor },
		Observe:          func(_ context.Context, o answer.Outcome) { f.outcomes = append(f.outcomes, o) },
		Now:              time.Now,
	})
	f.server = chatkit.New(chatkit.Options{
		Store: chatkit.NewMemory(720*time.Hour, time.Now), Responder: responder, StoreTimeout: time.Minute, Now: time.Now,
	})
	return f
}

// ask asks a question in the conversation, and returns what the visitor sees of the
// answer.
func (f *fixture) ask(text string) seen {
	f.t.Helper()
	return f.askIn(f.t.Context(), text)
}

func (f *fixture) askIn(ctx context.Context, text string) seen {
	f.t.Helper()
	typ, thread := "threads.create", ""
	if f.thread != "" {
		typ, thread = "threads.add_user_message", fmt.Sprintf(`"thread_id":%q,`, f.thread)
	}
	content, _ := json.Marshal(text)
	r, err := chatkit.Parse(fmt.Appendf(nil, `{"type":%q,"params":{%s"input":{"content":[{"type":"input_text","text":%s}],"attachments":[],"inference_options":{}}}}`, typ, thread, content))
	if err != nil {
		f.t.Fatal(err)
	}
	turn, err := f.server.Begin(f.t.Context(), "visitor", r, chatkit.Reader{Page: "https://docs.test/install", Language: "de, en"})
	if err != nil {
		f.t.Fatal(err)
	}
	var s seen
	s.result = turn.Stream(ctx, func(e chatkit.Event) error {
		text, err := e.Encode()
		if err != nil {
			return err
		}
		return s.take(text, f)
	})
	if len(f.outcomes) > 0 {
		s.outcome = f.outcomes[len(f.outcomes)-1]
	}
	return s
}

// seen is an answer, as the visitor and as the log have it.
type seen struct {
	visible

	result  chatkit.Result
	outcome answer.Outcome
}

// visible is what a visitor sees of an answer.
type visible struct {
	// text has [title|URL] where a source is cited.
	text     string
	progress string
	notice   string
	errors   string // With (retry) behind it.
	whole    bool   // The answer's item is done.
}

// take adds an event. Its annotations must stand at the end of the text so far.
func (s *seen) take(event []byte, f *fixture) error {
	var e struct {
		Type, Text, Message string
		Icon                string
		AllowRetry          bool `json:"allow_retry"`
		Thread, Item        struct{ ID, Type string }
		Update              struct {
			Type, Delta string
			Annotation  struct {
				Source struct{ Type, Title, URL string }
			}
		}
	}
	if err := json.Unmarshal(event[len("data: "):], &e); err != nil {
		return err
	}
	switch e.Type {
	case "thread.created":
		f.thread = e.Thread.ID
	case "progress_update":
		s.progress += e.Icon + ": " + e.Text
	case "thread.item.updated":
		s.text += e.Update.Delta
		if source := e.Update.Annotation.Source; source.Type != "" {
			s.text += "[" + source.Title + "|" + source.URL + "]"
		}
	case "thread.item.done":
		s.whole = s.whole || e.Item.Type == "assistant_message"
	case "notice":
		s.notice += e.Message
	case "error":
		s.errors += e.Message
		if e.AllowRetry {
			s.errors += " (retry)"
		}
	}
	return nil
}

// in runs a test in a bubble, with a chat.
func in(t *testing.T, test func(f *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Helper()
		test(newFixture(t))
	})
}

func TestDocs_Answer(t *testing.T) {
	t.Parallel()
	in(t, func(f *fixture) {
		t := f.t
		f.model = says(openai.ResponseResult{InputTokens: 900, CachedTokens: 500, OutputTokens: 40},
			"Ru", "n it.\uE200ci", "te\uE202block2\uE201", marker("cite", "block1", "turn0file0"), " 🗼")
		got := f.ask("How do I install it?")
		want := visible{
			progress: "search: Searching the docs…",
			text:     "Run it.[Install – Linux|https://docs.test/install#linux][Install|https://docs.test/install] 🗼",
			whole:    true,
		}
		if diff := cmp.Diff(want, got.visible, cmp.AllowUnexported(visible{})); diff != "" {
			t.Error(diff)
		}
		outcome := answer.Outcome{
			Code: answer.Answered, ToPassages: time.Second, ToFirst: 2 * time.Second, Total: 6 * time.Second,
			Passages: 2, Citations: 2, InputTokens: 900, CachedTokens: 500, OutputTokens: 40,
		}
		if diff := cmp.Diff(outcome, got.outcome); diff != "" {
			t.Error(diff)
		}
		r := f.requests[0]
		if r.Model != "gpt-6-luna" || r.Effort != "none" || r.MaxOutputTokens != 1200 || r.SafetyIdentifier != "hash of visitor" || r.CacheKey == "" {
			t.Errorf("asked with %+v", r)
		}
	})
}

// TestDocs_Offset has a citation's place count UTF-16 code units.
func TestDocs_Offset(t *testing.T) {
	t.Parallel()
	in(t, func(f *fixture) {
		t := f.t
		f.model = says(openai.ResponseResult{}, "🗼.\uE200cite", "\uE202block1\uE201")
		f.ask("Why?")
		thread, err := f.server.Query(t.Context(), "visitor", chatkit.Request{Type: chatkit.ThreadsGetByID, ThreadID: f.thread})
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(thread)
		if !strings.Contains(string(text), `"index":3`) {
			t.Errorf("stored: %s", text)
		}
	})
}

func TestDocs_Outcome(t *testing.T) {
	t.Parallel()
	upstream := func(kind openai.Kind) *openai.Error { return &openai.Error{Kind: kind, Message: "OpenAI's own words"} }
	const whole, again = true, " (retry)"
	tests := []struct {
		name          string
		found         error
		model         model
		code          string
		text, problem string
		notice        string
		whole         bool
	}{
		{name: "no source", model: says(openai.ResponseResult{}, "The docs do not say."), code: answer.NoSource, text: "The docs do not say.", whole: whole},
		{
			name: "a refusal",
			model: func(_ context.Context, _ openai.ResponseRequest, events openai.ResponseEvents) (openai.ResponseResult, error) {
				return openai.ResponseResult{Refused: true}, events.Refusal("I cannot help with that.")
			},
			code: answer.Refused, text: "I cannot help with that.", whole: whole,
		},
		{
			name: "cut at the limit", model: says(openai.ResponseResult{Cut: "max_output_tokens"}, "First,"), code: answer.Cut, text: "First,", whole: whole,
			notice: "The answer was cut off because it became too long. You can ask for the rest, or about less at a time.",
		},
		{
			name: "cut in a marker", model: says(openai.ResponseResult{Cut: "max_output_tokens"}, "First.\uE200cite\uE202blo"), code: answer.Cut, text: "First.", whole: whole,
			notice: "The answer was cut off because it became too long. You can ask for the rest, or about less at a time.",
		},
		{
			name: "cut by a filter", model: says(openai.ResponseResult{Cut: "content_filter"}, "First,"), code: answer.Cut, text: "First,", whole: whole,
			notice: "The answer was ended before it was complete.",
		},
		{name: "no text", model: says(openai.ResponseResult{}), code: answer.NoText, problem: "The assistant did not answer. Please try again." + again},
		{name: "no text at the limit", model: says(openai.ResponseResult{Cut: "max_output_tokens"}), code: answer.NoText, problem: "The assistant did not answer. Please try again." + again},
		{name: "white space", model: says(openai.ResponseResult{}, " \n"), code: answer.NoText, text: " \n", problem: "The assistant did not answer. Please try again." + again},

		{name: "no index yet", found: docs.ErrNotLoaded, code: "assistant_unavailable", problem: "The assistant is not available right now. Please try again in a moment." + again},
		{name: "a failed search", found: errors.New("secret"), code: "search_failed", problem: "The docs could not be searched. Please try again." + again},
		{name: "a busy vector store", found: upstream(openai.Busy), code: "upstream_busy", problem: "The assistant is busy. Please try again in a moment." + again},
		{name: "no vector store", found: upstream(openai.NotFound), code: "assistant_unavailable", problem: "The assistant is not available right now. Please try again later."},

		{name: "rejected", model: fails(upstream(openai.Rejected)), code: "upstream_rejected", problem: "The assistant could not answer this question."},
		{name: "no such model", model: fails(upstream(openai.NotFound)), code: "assistant_unavailable", problem: "The assistant is not available right now. Please try again later."},
		{name: "busy", model: fails(upstream(openai.Busy)), code: "upstream_busy", problem: "The assistant is busy. Please try again in a moment." + again},
		{name: "no answer in time", model: fails(upstream(openai.Timeout)), code: "upstream_timeout", problem: "The assistant took too long to answer. Please try again." + again},
		{name: "too long without history", model: fails(upstream(openai.TooLong)), code: "upstream_rejected", problem: "The assistant could not answer this question."},
		{name: "spending refused", model: fails(upstream(openai.Spent)), code: answer.SpendingRefused, problem: "The assistant is not available right now. Please try again later."},
		{name: "broken off", model: fails(upstream(openai.Rejected), "First,", " \uE200second"), code: "upstream_rejected", text: "First, second", problem: "The answer was interrupted. Please try again." + again},
		{name: "an unknown error", model: fails(errors.New("secret")), code: answer.Internal, problem: "Something went wrong on our side. Please try again." + again},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			in(t, func(f *fixture) {
				t := f.t
				f.model = tc.model
				if tc.found != nil {
					f.searcher = func(context.Context, docs.Query) (docs.Found, error) { return docs.Found{}, tc.found }
				}
				got := f.ask("Why?")
				want := visible{progress: got.progress, text: tc.text, errors: tc.problem, notice: tc.notice, whole: tc.whole}
				if diff := cmp.Diff(want, got.visible, cmp.AllowUnexported(visible{})); diff != "" {
					t.Error(diff)
				}
				if got.outcome.Code != tc.code || len(f.outcomes) != 1 {
					t.Errorf("outcomes %+v", f.outcomes)
				}
				if len(f.requests) > 1 {
					t.Errorf("the model was asked %d times", len(f.requests))
				}
				var told *chatkit.StreamError
				if errors.As(got.result.Err, &told) && told.Code != tc.code {
					t.Errorf("the visitor was told of %s", told.Code)
				}
				if cause := got.outcome.Err != nil; cause != (tc.problem != "" && tc.code != answer.NoText) {
					t.Errorf("the cause is %v", got.outcome.Err)
				}
			})
		})
	}
}

// TestDocs_Pause has nothing cost anything for five minutes after OpenAI has refused to
// spend more.
func TestDocs_Pause(t *testing.T) {
	t.Parallel()
	in(t, func(f *fixture) {
		t := f.t
		searches := 0
		f.searcher = func(context.Context, docs.Query) (docs.Found, error) {
			searches++
			return docs.Found{}, nil
		}
		f.model = fails(&openai.Error{Kind: openai.Spent})
		f.ask("Why?")
		f.model = says(openai.ResponseResult{}, "Yes.")
		time.Sleep(5*time.Minute - time.Nanosecond)
		got := f.ask("Why?")
		if searches != 1 || len(f.requests) != 1 || got.outcome.Code != "assistant_unavailable" || got.errors != "The assistant is not available right now. Please try again later." {
			t.Errorf("in the pause: %d searches, %d requests, %q, outcome %+v", searches, len(f.requests), got.errors, got.outcome)
		}
		time.Sleep(time.Nanosecond)
		if got := f.ask("Why?"); got.text != "Yes." {
			t.Errorf("after it: %+v", got)
		}
	})
}

// TestDocs_PauseOnce reports one refusal of many that come together.
func TestDocs_PauseOnce(t *testing.T) {
	t.Parallel()
	in(t, func(f *fixture) {
		t := f.t
		f.model = func(ctx context.Context, r openai.ResponseRequest, events openai.ResponseEvents) (openai.ResponseResult, error) {
			if len(f.requests) == 1 { // While it is refused, another one is.
				f.thread = ""
				f.ask("Why?")
			}
			return fails(&openai.Error{Kind: openai.Spent})(ctx, r, events)
		}
		f.ask("Why?")
		var codes []string
		for _, o := range f.outcomes {
			codes = append(codes, o.Code)
		}
		if diff := cmp.Diff([]string{answer.SpendingRefused, "assistant_unavailable"}, codes); diff != "" {
			t.Error(diff)
		}
	})
}

// TestDocs_WithoutHistory leaves the conversation out where all is too long.
func TestDocs_WithoutHistory(t *testing.T) {
	t.Parallel()
	in(t, func(f *fixture) {
		t := f.t
		f.ask("First question?")
		f.requests = nil
		f.model = func(ctx context.Context, r openai.ResponseRequest, events openai.ResponseEvents) (openai.ResponseResult, error) {
			if len(r.Input) > 1 {
				return openai.ResponseResult{}, &openai.Error{Kind: openai.TooLong}
			}
			return says(openai.ResponseResult{InputTokens: 7}, "Yes.")(ctx, r, events)
		}
		got := f.ask("Second question?")
		if got.text != "Yes." || len(f.requests) != 2 || got.outcome.InputTokens != 7 || got.outcome.Err != nil {
			t.Errorf("%d requests, %+v", len(f.requests), got)
		}
		if input := f.requests[1].Input; len(input) != 1 || !strings.Contains(input[0].Text, "Second question?") {
			t.Errorf("the second request has %+v", input)
		}
	})
}

// TestDocs_WithoutHistoryOnce does not try a third time, and not after a text.
func TestDocs_WithoutHistoryOnce(t *testing.T) {
	t.Parallel()
	in(t, func(f *fixture) {
		t := f.t
		f.ask("First question?")
		f.requests = nil
		f.model = fails(&openai.Error{Kind: openai.TooLong})
		if got := f.ask("Second question?"); len(f.requests) != 2 || got.outcome.Code != "upstream_rejected" {
			t.Errorf("%d requests, outcome %+v", len(f.requests), got.outcome)
		}
		f.requests = nil
		f.model = fails(&openai.Error{Kind: openai.TooLong}, "So")
		if got := f.ask("Third question?"); len(f.requests) != 1 || got.text != "So" {
			t.Errorf("after a text: %d requests, %+v", len(f.requests), got)
		}
	})
}

// TestDocs_Query searches for what was asked, and for what was asked before.
func TestDocs_Query(t *testing.T) {
	t.Parallel()
	in(t, func(f *fixture) {
		t := f.t
		var queries []docs.Query
		without := errors.New("too slow")
		f.searcher = func(_ context.Context, q docs.Query) (docs.Found, error) {
			queries = append(queries, q)
			return docs.Found{WithoutVectors: without}, nil
		}
		f.ask("How?")
		got := f.ask("Why?")
		want := []docs.Query{
			{Question: "How?", Page: "https://docs.test/install", Languages: "de, en"},
			{Question: "Why?", Previous: "How?", Page: "https://docs.test/install", Languages: "de, en"},
		}
		if diff := cmp.Diff(want, queries); diff != "" {
			t.Error(diff)
		}
		if !errors.Is(got.outcome.WithoutVectors, without) || got.text != "Yes." {
			t.Errorf("without vectors: %+v", got)
		}
	})
}

// TestDocs_Bounds cuts what a searcher finds too much.
func TestDocs_Bounds(t *testing.T) {
	t.Parallel()
	in(t, func(f *fixture) {
		t := f.t
		many := make([]docs.Passage, 20)
		for i := range many {
			many[i] = docs.Passage{URL: "https://docs.test/", Text: strings.Repeat("漢", 5000)}
		}
		f.searcher = finds(many...)
		f.ask("Why?")
		if n := strings.Count(f.requests[0].Input[0].Text, "漢"); n != docs.MaxPassagesLength {
			t.Errorf("%d characters of passages", n)
		}
	})
}

// TestDocs_Leaves ends an answer whose visitor has left, and keeps what was said.
func TestDocs_Leaves(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cause error
		code  string
	}{
		"the visitor leaves": {context.Canceled, answer.Left},
		"the time is up":     {&chatkit.StreamError{Code: "upstream_timeout", Message: "Too slow.", Retry: true}, "upstream_timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in(t, func(f *fixture) {
				t := f.t
				ctx, cancel := context.WithCancelCause(t.Context())
				f.model = func(ctx context.Context, _ openai.ResponseRequest, events openai.ResponseEvents) (openai.ResponseResult, error) {
					events.Text("First,")
					cancel(tc.cause)
					return openai.ResponseResult{}, fmt.Errorf("asking OpenAI: %w", ctx.Err())
				}
				got := f.askIn(ctx, "Why?")
				if got.text != "First," || got.outcome.Code != tc.code || got.outcome.Err != nil {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

// TestDocs_AnswerTooLong ends an answer that the chat does not take.
func TestDocs_AnswerTooLong(t *testing.T) {
	t.Parallel()
	in(t, func(f *fixture) {
		t := f.t
		f.model = func(ctx context.Context, r openai.ResponseRequest, events openai.ResponseEvents) (openai.ResponseResult, error) {
			_, err := says(openai.ResponseResult{}, strings.Repeat("a", 200_000), strings.Repeat("b", 200_000))(ctx, r, events)
			return openai.ResponseResult{}, &openai.Error{Kind: openai.Rejected, Message: err.Error()}
		}
		if got := f.ask("Why?"); got.outcome.Code != "answer_too_long" || len(got.text) != 200_000 {
			t.Errorf("%d bytes, %+v", len(got.text), got.outcome)
		}
	})
}

// TestDocs_Sources names sources by page and heading.
func TestDocs_Sources(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("漢", 400)
	for name, tc := range map[string]struct {
		passage docs.Passage
		want    string
	}{
		"page and heading":  {docs.Passage{URL: "/a", Title: "Page", Headings: []string{"One", "Two"}}, "[Page – Two|/a]"},
		"a heading alone":   {docs.Passage{URL: "/a", Headings: []string{"One"}}, "[One|/a]"},
		"the page's title":  {docs.Passage{URL: "/a", Title: "Page", Headings: []string{"page"}}, "[Page|/a]"},
		"no name":           {docs.Passage{URL: "/a"}, "[/a|/a]"},
		"no URL":            {docs.Passage{Title: "Page"}, ""},
		"a marker in it":    {docs.Passage{URL: "/a", Title: "Pa\uE200ge\n </BLOCK>"}, "[Page|/a]"},
		"a title too long":  {docs.Passage{URL: "/a", Title: long}, "[" + strings.Repeat("漢", 300) + "|/a]"},
		"an unknown source": {docs.Passage{URL: "/a", Title: "Page"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in(t, func(f *fixture) {
				t := f.t
				id := "block1"
				if name == "an unknown source" {
					id = "block2"
				}
				tc.passage.Text = "Text."
				f.searcher = finds(tc.passage)
				f.model = says(openai.ResponseResult{}, "So."+marker("cite", id))
				if got := f.ask("Why?"); got.text != "So."+tc.want {
					t.Errorf("%q, not %q", got.text, "So."+tc.want)
				}
			})
		})
	}
}

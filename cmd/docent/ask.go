package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"docent/internal/answer"
	"docent/internal/app"
	"docent/internal/chatkit"
	"docent/internal/config"
	"docent/internal/openai"
	"docent/internal/redact"
)

// answerVariables are what an answer needs of the environment, besides
// [openAIVariables].
var answerVariables = []string{
	"DOCS_INDEX", "VECTOR_STORE_ID", "ANSWER_MODEL", "ANSWER_EFFORT", "ANSWER_MAX_TOKENS", "ANSWER_TIMEOUT", "ASSISTANT_INSTRUCTIONS",
}

// operator is the visitor that asks in a terminal.
const operator = "docent-ask"

// runAsk carries a question through the chat server and prints what a page would get.
func runAsk(ctx context.Context, p app.Process, args []string) error {
	a := newArguments("ask")
	location := a.String("index", "", "")
	page := a.String("page", "", "")
	language := a.String("language", "", "")
	asJSON := a.Bool("json", false, "")
	words, err := a.parse(args, 0, -1)
	if err != nil {
		return err
	}
	request, err := message(strings.Join(words, " "))
	if err != nil {
		return err
	}
	c, err := answerConfig(p, *location)
	if err != nil {
		return err
	}
	if c, err = app.WithProject(ctx, c); err != nil {
		return err
	}
	var outcome answer.Outcome
	responder, done, err := app.OpenResponder(ctx, c, func(_ context.Context, o answer.Outcome) { outcome = o })
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, c.AnswerTimeout)
	defer cancel()
	server := chatkit.New(chatkit.Options{
		Store: chatkit.NewMemory(time.Hour, time.Now), Responder: responder, StoreTimeout: time.Second, Now: time.Now,
	})
	turn, err := server.Begin(ctx, operator, request, chatkit.Reader{Page: *page, Language: *language})
	if err != nil {
		return err
	}
	t := &transcript{stdout: p.Stdout, stderr: p.Stderr, status: newBar(p, "")}
	if *asJSON {
		t.stdout, t.status = io.Discard, &bar{}
	}
	result := turn.Stream(ctx, t.show)
	t.status.clear()
	if result.Err != nil {
		return unanswered(ctx, result.Err, outcome.Err)
	}
	withoutVectors(p, outcome.WithoutVectors)
	if *asJSON {
		return writeJSON(p.Stdout, t.report(outcome))
	}
	t.end()
	return nil
}

// message returns the request that begins a conversation with a question.
func message(question string) (chatkit.Request, error) {
	if strings.TrimSpace(question) == "" {
		return chatkit.Request{}, argumentsError("there is no question")
	}
	content := []map[string]string{{"type": "input_text", "text": question}}
	body, err := json.Marshal(map[string]any{
		"type":   chatkit.ThreadsCreate,
		"params": map[string]any{"input": map[string]any{"content": content, "attachments": []string{}, "inference_options": map[string]any{}}},
	})
	if err != nil {
		return chatkit.Request{}, fmt.Errorf("the question: %w", err)
	}
	request, err := chatkit.Parse(body)
	if err != nil {
		return chatkit.Request{}, argumentsError("the question must be text of at most 4,000 characters")
	}
	return request, nil
}

// answerConfig reads the settings of answers. A location is preferred to what the
// environment says.
func answerConfig(p app.Process, location string) (config.Config, error) {
	environment := maps.Clone(p.Environment)
	if location != "" {
		environment["DOCS_INDEX"] = location
		delete(environment, "VECTOR_STORE_ID")
	}
	switch {
	case environment["DOCS_INDEX"] == "" && environment["VECTOR_STORE_ID"] == "":
		return config.Config{}, argumentsError("there is no index: name one with --index, or set DOCS_INDEX or VECTOR_STORE_ID")
	case environment["OPENAI_API_KEY"] == "":
		return config.Config{}, argumentsError("OPENAI_API_KEY is not set, and a model answers: \"docent search\" needs none")
	}
	return config.LoadSome(environment, slices.Concat(openAIVariables, answerVariables)...)
}

// unanswered says what a visitor reads, and why.
func unanswered(ctx context.Context, told, cause error) error {
	var upstream *openai.Error
	switch {
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err() //nolint:wrapcheck // A sign for main.
	case ctx.Err() != nil:
		return errors.New("the answer took longer than ANSWER_TIMEOUT")
	case errors.As(cause, &upstream) && upstream.Message != "":
		return fmt.Errorf("%w %w: %s", told, cause, redact.OneLine(upstream.Message))
	case cause != nil:
		return fmt.Errorf("%w %w", told, cause)
	}
	return told
}

// A source is a page that an answer cites, as `docent ask --json` prints it.
type source struct {
	URL   string `json:"url"`
	Title string `json:"title"`
}

// A transcript prints an answer while it is streamed.
type transcript struct {
	stdout, stderr io.Writer
	status         *bar
	text           strings.Builder
	sources        []source
}

// show takes an event of the stream.
func (t *transcript) show(e chatkit.Event) error {
	switch {
	case e.Type == chatkit.EventProgressUpdate:
		t.status.say(e.Text)
	case e.Type == chatkit.EventNotice:
		t.status.clear()
		fmt.Fprintln(t.stderr, "docent:", redact.OneLine(e.Message))
	case e.Update != nil && e.Update.Delta != "":
		t.status.clear()
		text := printable(e.Update.Delta)
		t.text.WriteString(text)
		_, err := io.WriteString(t.stdout, text)
		return err //nolint:wrapcheck // It ends the stream.
	case e.Update != nil && e.Update.Annotation != nil:
		_, err := fmt.Fprintf(t.stdout, "[%d]", t.number(e.Update.Annotation.Source))
		return err //nolint:wrapcheck // It ends the stream.
	}
	return nil
}

// number returns the number of a source, which may be new.
func (t *transcript) number(s chatkit.URLSource) int {
	for i, known := range t.sources {
		if known.URL == redact.OneLine(s.URL) {
			return i + 1
		}
	}
	t.sources = append(t.sources, source{URL: redact.OneLine(s.URL), Title: redact.OneLine(s.Title)})
	return len(t.sources)
}

// end prints the sources below the answer.
func (t *transcript) end() {
	fmt.Fprintln(t.stdout)
	if len(t.sources) > 0 {
		fmt.Fprintln(t.stdout, "\nSources:")
	}
	for i, s := range t.sources {
		fmt.Fprintf(t.stdout, "%3d  %s\n     %s\n", i+1, cmp.Or(s.Title, s.URL), s.URL)
	}
}

// report is what `docent ask --json` prints.
func (t *transcript) report(o answer.Outcome) any {
	return struct {
		Answer     string   `json:"answer"`
		Outcome    string   `json:"outcome"`
		Sources    []source `json:"sources"`
		Passages   int      `json:"passages"`
		TokensIn   int64    `json:"tokens_in"`
		TokensOut  int64    `json:"tokens_out"`
		FirstDelta float64  `json:"first_delta_ms"`
		Total      float64  `json:"answer_ms"`
	}{
		t.text.String(), o.Code, append([]source{}, t.sources...), o.Passages, o.InputTokens, o.OutputTokens,
		float64(o.ToFirst.Microseconds()) / 1000, float64(o.Total.Microseconds()) / 1000,
	}
}

// printable returns a text without what moves a terminal's cursor, or turns text
// around. Lines stay lines.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return -1
		}
		return r
	}, text)
}

package standin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"docent/internal/standin"
)

// cite is the marker that cites a block.
func cite(id string) string { return "\uE200cite\uE202" + id + "\uE201" }

// prompt has two blocks and a question that the second one answers.
const prompt = `<BLOCK id="block1">
Title: Limits > Visitors
URL: https://docs.example.com/limits#visitors

Rate limits are counted by the minute. Each visitor has a bucket.
</BLOCK>
<BLOCK id="block2">
Title: Deploy > Cloud Run
URL: https://docs.example.com/deploy#cloud-run

Docent runs on Cloud Run. Deploy it with one command:

` + "```bash\ngcloud run deploy docent --source .\n```" + `
</BLOCK>

Question: How do I deploy Docent?`

// answer is what the stand-in answers to the prompt.
var answer = "Deploy it with one command:" + cite("block2") + "\n\n```bash\ngcloud run deploy docent --source .\n```\n\n" +
	"Docent runs on Cloud Run." + cite("block2")

// newResponses returns a stand-in that streams without pauses, and the URL of its
// responses.
func newResponses(t *testing.T) (o *standin.OpenAI, url string) {
	t.Helper()
	o = standin.NewOpenAI(openAIKey, "wf_test")
	o.SetPace(0)
	base, stop, err := o.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop() })
	return o, base + "/responses"
}

// request returns a body with a prompt, changed as told.
func request(prompt string, changes map[string]any) map[string]any {
	body := map[string]any{
		"model": "gpt-6-luna", "instructions": "Answer from the <blocks> alone.", "store": false,
		"reasoning": map[string]any{"effort": "none"}, "stream_options": map[string]any{"include_obfuscation": false},
		"stream": true, "max_output_tokens": 1200,
		"input": []any{map[string]any{"role": "user", "content": prompt}},
	}
	for k, v := range changes {
		if v == nil {
			delete(body, k)
			continue
		}
		body[k] = v
	}
	return body
}

func post(ctx context.Context, t *testing.T, url string, body any) *http.Response {
	t.Helper()
	encoded, ok := body.(string)
	if !ok {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		encoded = string(b)
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+openAIKey)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// plain returns the status and the JSON of an answer that is not a stream.
func plain(t *testing.T, res *http.Response) (status int, body map[string]any) {
	t.Helper()
	if err := json.NewDecoder(res.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, body
}

// dig returns a value within JSON. Numbers in the path are indexes.
func dig(v any, path ...any) any {
	for _, p := range path {
		switch at := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[at]
		case int:
			list, _ := v.([]any)
			if at >= len(list) {
				return nil
			}
			v = list[at]
		}
	}
	return v
}

// event is one of a stream.
type event struct {
	name   string
	data   string
	fields map[string]any
}

// readEvents reads a stream as the specification of server-sent events says, but
// takes a last block without an empty line for an event.
func readEvents(t *testing.T, r io.Reader) (events []event, comments int, err error) {
	t.Helper()
	var e event
	dispatch := func() {
		if e.data == "" {
			return
		}
		if e.data != "[DONE]" {
			if err := json.Unmarshal([]byte(e.data), &e.fields); err != nil {
				t.Errorf("event %q is not JSON: %v", e.data, err)
			}
		}
		events, e = append(events, e), event{}
	}
	b := bufio.NewReader(r)
	for {
		line, err := b.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			dispatch()
		case name == "event":
			e.name = value
		case name == "data":
			e.data += value
		case name == "":
			comments++
		default:
			t.Errorf("line %q", line)
		}
		if errors.Is(err, io.EOF) {
			dispatch()
			return events, comments, nil
		}
		if err != nil {
			return events, comments, err
		}
	}
}

// story is what a stream tells.
type story struct {
	// Text is the text of all messages, with | between two parts, and Refusal
	// that of refusals.
	Text, Refusal string
	// End is how it ends: completed, incomplete with the reason, failed or error
	// with the code, both, or nothing.
	End string
}

// tell checks that a stream is consistent, and returns what it tells.
func tell(t *testing.T, events []event) (s story) {
	t.Helper()
	var deltas, texts []string
	place := ""
	for i, e := range events {
		if e.data == "[DONE]" {
			if i != len(events)-1 {
				t.Error("[DONE] is not the last event")
			}
			continue
		}
		if n := dig(e.fields, "sequence_number"); n != float64(i) {
			t.Errorf("event %d has the number %v", i, n)
		}
		if at := fmt.Sprint(dig(e.fields, "output_index"), dig(e.fields, "content_index")); strings.HasSuffix(fmt.Sprint(dig(e.fields, "type")), "output_text.delta") && at != place {
			place = at
			deltas = append(deltas, "")
		}
		typ, _ := e.fields["type"].(string)
		if e.name != "" && e.name != typ {
			t.Errorf("event %q has the type %q", e.name, typ)
		}
		text, _ := e.fields["text"].(string)
		delta, _ := e.fields["delta"].(string)
		response := e.fields["response"]
		switch typ {
		case "response.output_text.delta":
			deltas[len(deltas)-1] += delta
		case "response.output_text.done":
			texts = append(texts, text)
		case "response.refusal.delta":
			s.Refusal += delta
		case "response.completed", "response.incomplete":
			s.End = fmt.Sprint(dig(response, "status"))
			if reason := dig(response, "incomplete_details", "reason"); reason != nil {
				s.End += " " + fmt.Sprint(reason)
			}
			if diff := cmp.Diff(s.Refusal+strings.Join(texts, "|"), outputOf(response)); diff != "" {
				t.Errorf("output of the response (-events +response):\n%s", diff)
			}
		case "response.failed":
			s.End += "failed " + fmt.Sprint(dig(response, "error", "code"))
		case "error":
			code := dig(e.fields, "error", "code")
			if code == nil {
				code = dig(e.fields, "code")
			}
			s.End += fmt.Sprint("error ", code, " ")
		}
	}
	s.End = strings.TrimSpace(s.End)
	whole := strings.HasPrefix(s.End, "completed") || strings.HasPrefix(s.End, "incomplete")
	if diff := cmp.Diff(texts, deltas); whole && len(deltas) > 0 && diff != "" {
		t.Errorf("deltas (-done +deltas):\n%s", diff)
	}
	if len(deltas) == 0 {
		deltas = texts
	}
	s.Text = strings.Join(deltas, "|")
	return s
}

// outputOf returns the text of a response object, part by part.
func outputOf(response any) string {
	var texts []string
	items, _ := dig(response, "output").([]any)
	for _, item := range items {
		parts, _ := dig(item, "content").([]any)
		for _, part := range parts {
			switch dig(part, "type") {
			case "output_text":
				texts = append(texts, fmt.Sprint(dig(part, "text")))
			case "refusal":
				texts = append(texts, fmt.Sprint(dig(part, "refusal")))
			}
		}
	}
	return strings.Join(texts, "|")
}

func TestResponses_Quote(t *testing.T) {
	t.Parallel()
	o, url := newResponses(t)
	res := post(t.Context(), t, url, request(prompt, nil))
	if got := res.Header.Get("Content-Type"); got != "text/event-stream; charset=utf-8" {
		t.Errorf("content type %q", got)
	}
	events, _, err := readEvents(t, res.Body)
	if diff := cmp.Diff(story{Text: answer, End: "completed"}, tell(t, events)); diff != "" || err != nil {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
	types := []string{}
	for _, e := range events {
		if e.name != "response.output_text.delta" {
			types = append(types, e.name)
		}
	}
	if diff := cmp.Diff([]string{
		"response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
		"response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed",
	}, types); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	for _, i := range []int{0, 1, len(events) - 1} {
		r := dig(events[i].fields, "response")
		got := []any{dig(r, "instructions"), dig(r, "model"), dig(r, "store"), dig(r, "reasoning", "effort")}
		if diff := cmp.Diff([]any{"Answer from the <blocks> alone.", "gpt-6-luna-2026-09-22", false, "none"}, got); diff != "" {
			t.Errorf("response of event %d (-want +got):\n%s", i, diff)
		}
	}
	if !strings.Contains(events[0].data, "<blocks>") {
		t.Errorf("characters of HTML are escaped in %s", events[0].data)
	}
	calls := o.Responses()
	if len(calls) != 1 || calls[0].Model != "gpt-6-luna" || *calls[0].MaxOutputTokens != 1200 {
		t.Fatalf("calls %+v", calls)
	}
	if diff := cmp.Diff([]standin.ResponseMessage{{Role: "user", Text: prompt}}, calls[0].Messages); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}

func TestResponses_Answer(t *testing.T) {
	t.Parallel()
	none := "These docs do not have an answer to that."
	tests := map[string]struct{ prompt, want string }{
		"code that a sentence announces": {prompt, answer},
		"attributes": {
			`<BLOCK id='a-1' title="Tokens &amp; keys" url="https://docs.example.com/tokens">Tokens expire after ten minutes. They are renewed.</BLOCK>When do tokens expire?`,
			"Tokens expire after ten minutes." + cite("a-1"),
		},
		"unnamed title and link": {
			"<BLOCK id=\"b\">\nTokens\nhttps://docs.example.com/tokens\n\nTokens expire.\n</BLOCK>\nWhy is the sky blue?",
			none + " The nearest page is “Tokens”.",
		},
		"text with a label": {
			"<BLOCK id=\"b\">\nTitle: Tokens\nURL: https://docs.example.com/\nText: A session ends: its token expires.\n</BLOCK>\n<QUESTION>When does a session end?</QUESTION> Answer in English.",
			"A session ends: its token expires." + cite("b"),
		},
		"question first": {
			"Question: When do tokens expire?\n\n<BLOCK id=\"b\">Tokens expire. Buckets fill.</BLOCK>\n",
			"Tokens expire." + cite("b"),
		},
		"three quotes, none twice": {
			"<BLOCK id=\"b1\">Keys rotate.\n\nA rotation of keys takes an hour.\n- Keys rotate without a restart.\n</BLOCK>\n" +
				"<BLOCK id=\"b2\">Keys rotate. Rotate keys often. Keys rotate, too.</BLOCK>Do keys rotate?",
			"Keys rotate." + cite("b1") + "\n\nKeys rotate without a restart." + cite("b1") + "\n\nRotate keys often." + cite("b2"),
		},
		"best first": {
			"<BLOCK id=\"b1\">Tokens have limits.</BLOCK><BLOCK id=\"b2\">Visitors, tokens and limits.</BLOCK>Have visitors or tokens limits?",
			"Visitors, tokens and limits." + cite("b2") + "\n\nTokens have limits." + cite("b1"),
		},
		"rows of a table, after a sentence": {
			"<BLOCK id=\"b\">`TTL` | how long a token lives\nmax | the most tokens\n\nTokens live briefly.</BLOCK>How long do tokens live?",
			"Tokens live briefly." + cite("b") + "\n\n`TTL` | how long a token lives" + cite("b"),
		},
		"as Docent asks": {
			"The visitor reads the page: Limits\n\n<BLOCK id=\"block1\">\nPage: Tokens\nSection: Life > End\nURL: https://docs.example.com/tokens#end\n\nTokens expire.\n</BLOCK>\n\n" +
				"The visitor's question:\nAbout this part of an answer:\n<QUOTE>\nlimits\n</QUOTE>\n\nDo tokens expire?",
			"Tokens expire." + cite("block1"),
		},
		"code that fits best": {
			"<BLOCK id=\"b\">Title: Commands\n\nChecks all.\n\n```\ndocent check\ndocent threads list\n```\n\nThreads end.</BLOCK>Which command lists threads of docent?",
			"```\ndocent check\ndocent threads list\n```\n" + cite("b"),
		},
		"one word of many":  {"<BLOCK id=\"b\">Title: Cost\n\nIt has a price.\n</BLOCK>What is the price of a pineapple in France?", none + " The nearest page is “Cost”."},
		"wrapped line":      {"<BLOCK id=\"b\">Tokens are\nrenewed in time.\n</BLOCK>Are tokens renewed?", "Tokens are\nrenewed in time." + cite("b")},
		"only common words": {"<BLOCK id=\"b\">You can do that with it.</BLOCK>What can you do with it?", none},
		"no blocks":         {"Say pong.", none},
		"block without ID":  {"<BLOCK>Tokens expire.</BLOCK>Do tokens expire?", none},
	}
	_, url := newResponses(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, body := plain(t, post(t.Context(), t, url, request(tt.prompt, map[string]any{"stream": nil, "stream_options": nil})))
			if diff := cmp.Diff(tt.want, outputOf(body)); diff != "" || status != http.StatusOK {
				t.Errorf("status %d, answer (-want +got):\n%s", status, diff)
			}
		})
	}
}

func TestResponses_FollowUp(t *testing.T) {
	t.Parallel()
	o, url := newResponses(t)
	input := []any{
		map[string]any{"role": "user", "content": "What are rate limits?"},
		map[string]any{"type": "message", "role": "assistant", "content": []any{map[string]any{"type": "output_text", "text": "They bound "}, map[string]any{"type": "output_text", "text": "requests."}}},
		map[string]any{"type": "reasoning", "id": "rs_1", "summary": []any{}},
		map[string]any{"role": "user", "content": []any{map[string]any{"type": "input_text", "text": prompt}}},
	}
	events, _, err := readEvents(t, post(t.Context(), t, url, request("", map[string]any{"input": input})).Body)
	if diff := cmp.Diff(story{Text: answer, End: "completed"}, tell(t, events)); diff != "" || err != nil {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
	want := []standin.ResponseMessage{{Role: "user", Text: "What are rate limits?"}, {Role: "assistant", Text: "They bound requests."}, {Role: "user", Text: prompt}}
	if diff := cmp.Diff(want, o.Responses()[0].Messages); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}

func TestResponses_Refused(t *testing.T) {
	t.Parallel()
	effort := func(e string) map[string]any { return map[string]any{"effort": e} }
	said := func(role, typ string) []any {
		return []any{
			map[string]any{"role": "user", "content": "Hi"},
			map[string]any{"role": role, "content": []any{map[string]any{"type": typ, "text": "Hi"}}},
		}
	}
	long := strings.Repeat("x", 65)
	tests := map[string]struct {
		body any
		// want is code, param and the beginning of the message.
		code, param any
		message     string
	}{
		"not JSON":                    {"{", nil, nil, "We could not parse the JSON body"},
		"no model":                    {request("Hi", map[string]any{"model": nil}), "missing_required_parameter", "model", "Missing required parameter: 'model'."},
		"no input":                    {request("Hi", map[string]any{"input": nil}), "missing_required_parameter", "input", "Missing required parameter: 'input'."},
		"unknown parameter":           {request("Hi", map[string]any{"stop": "x"}), "unknown_parameter", "stop", "Unknown parameter: 'stop'."},
		"wrong type":                  {request("Hi", map[string]any{"max_output_tokens": "many"}), "invalid_type", "max_output_tokens", "Invalid type for 'max_output_tokens'"},
		"unknown model":               {request("Hi", map[string]any{"model": "gpt-0"}), "model_not_found", "model", "The requested model 'gpt-0' does not exist."},
		"few output tokens":           {request("Hi", map[string]any{"max_output_tokens": 15}), "integer_below_min_value", "max_output_tokens", "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got 15 instead."},
		"temperature while reasoning": {request("Hi", map[string]any{"temperature": 0.5, "reasoning": effort("low")}), nil, "temperature", "Unsupported parameter: 'temperature' is not supported with this model."},
		"temperature, default effort": {request("Hi", map[string]any{"temperature": 0.5, "reasoning": nil}), nil, "temperature", "Unsupported parameter: 'temperature'"},
		"negative temperature":        {request("Hi", map[string]any{"temperature": -1}), "decimal_below_min_value", "temperature", "Invalid 'temperature': decimal below minimum value. Expected a value >= 0, but got -1 instead."},
		"high temperature":            {request("Hi", map[string]any{"temperature": 3}), "decimal_above_max_value", "temperature", "Invalid 'temperature': decimal above maximum value."},
		"top_p while reasoning":       {request("Hi", map[string]any{"top_p": 0.5, "reasoning": effort("low")}), nil, "top_p", "Unsupported parameter: 'top_p'"},
		"assistant with input_text":   {request("", map[string]any{"input": said("assistant", "input_text")}), "invalid_value", "input[1].content[0]", "Invalid value: 'input_text'. Supported values are: 'output_text' and 'refusal'."},
		"user with output_text":       {request("", map[string]any{"input": said("user", "output_text")}), "invalid_value", "input[1].content[0]", "Invalid value: 'output_text'. Supported values are: 'input_text', 'input_image', and 'input_file'."},
		"unknown role":                {request("", map[string]any{"input": said("bot", "input_text")}), "invalid_value", "input[1]", "Invalid value: 'bot'."},
		"unknown item":                {request("", map[string]any{"input": []any{map[string]any{"type": "wish"}}}), "invalid_value", "input[0]", "Invalid value: 'wish'."},
		"content of a wrong type":     {request("", map[string]any{"input": []any{map[string]any{"role": "user", "content": 1}}}), "invalid_type", "input[0].content", "Invalid type for 'input[0].content'"},
		"input of a wrong type":       {request("", map[string]any{"input": 1}), "invalid_type", "input", "Invalid type for 'input'"},
		"effort none of a flagship":   {request("Hi", map[string]any{"model": "gpt-6.1-sol"}), "unsupported_value", "reasoning.effort", "Unsupported value: 'none' is not supported with the 'gpt-6.1-sol' model. Supported values are: 'low', 'medium', 'high', 'xhigh', and 'max'."},
		"effort minimal":              {request("Hi", map[string]any{"reasoning": effort("minimal")}), "unsupported_value", "reasoning.effort", "Unsupported value: 'minimal'"},
		"effort of an older model":    {request("Hi", map[string]any{"model": "gpt-4o-mini"}), "unsupported_parameter", "reasoning.effort", "Unsupported parameter: 'reasoning.effort' is not supported with this model."},
		"verbosity of an older model": {request("Hi", map[string]any{"model": "gpt-4o-mini", "reasoning": nil, "text": map[string]any{"verbosity": "low"}}), "unsupported_value", "text.verbosity", "Unsupported value: 'low' is not supported with the 'gpt-4o-mini' model. Supported values are: 'medium'."},
		"stream options, no stream":   {request("Hi", map[string]any{"stream": nil}), nil, "stream_options", "The 'stream_options' parameter is only allowed when 'stream' is enabled."},
		"long safety identifier":      {request("Hi", map[string]any{"safety_identifier": long}), "string_above_max_length", "safety_identifier", "Invalid 'safety_identifier': string too long. Expected a string with maximum length 64, but got a string with length 65 instead."},
		"long cache key":              {request("Hi", map[string]any{"prompt_cache_key": long}), "string_above_max_length", "prompt_cache_key", "Invalid 'prompt_cache_key': string too long."},
		"long prompt":                 {request(strings.Repeat("word ", 400_000), map[string]any{"model": "gpt-5-nano", "reasoning": nil}), "context_length_exceeded", "input", "Your input exceeds the context window of this model."},
	}
	_, url := newResponses(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, body := plain(t, post(t.Context(), t, url, tt.body))
			message, _ := dig(body, "error", "message").(string)
			got := []any{status, dig(body, "error", "type"), dig(body, "error", "code"), dig(body, "error", "param")}
			if diff := cmp.Diff([]any{http.StatusBadRequest, "invalid_request_error", tt.code, tt.param}, got); diff != "" || !strings.HasPrefix(message, tt.message) {
				t.Errorf("message %q, (-want +got):\n%s", message, diff)
			}
		})
	}
}

// TestResponses_Allowed has what is allowed close to what is refused.
func TestResponses_Allowed(t *testing.T) {
	t.Parallel()
	tests := map[string]map[string]any{
		"temperature without reasoning":  {"temperature": 2, "top_p": 0.5},
		"temperature of an older model":  {"temperature": 0, "model": "gpt-4o-mini", "reasoning": nil},
		"dated name":                     {"model": "gpt-6-luna-2026-09-22"},
		"fewest tokens":                  {"max_output_tokens": 16},
		"longest identifiers":            {"safety_identifier": strings.Repeat("é", 64), "prompt_cache_key": strings.Repeat("é", 64)},
		"input of one text":              {"input": "Hi"},
		"verbosity":                      {"text": map[string]any{"verbosity": "low", "format": map[string]any{"type": "text"}}},
		"fields that the stand-in skips": {"include": []any{}, "tools": []any{}, "tool_choice": "auto", "truncation": "disabled", "metadata": map[string]any{"site": "x"}},
	}
	_, url := newResponses(t)
	for name, changes := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			events, _, err := readEvents(t, post(t.Context(), t, url, request("Hi", changes)).Body)
			if got := tell(t, events); got.End != "completed" || err != nil {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestResponses_WrongKey(t *testing.T) {
	t.Parallel()
	o, url := newResponses(t)
	o.SetKey("sk-test-another-key")
	status, body := plain(t, post(t.Context(), t, url, request("Hi", nil)))
	want := map[string]any{"error": map[string]any{
		"message": "Incorrect API key provided: sk-test-***-key. You can find your API key at https://platform.openai.com/account/api-keys.",
		"type":    "invalid_request_error", "param": nil, "code": "invalid_api_key",
	}}
	if diff := cmp.Diff(want, body); diff != "" || status != http.StatusUnauthorized || len(o.Responses()) > 0 {
		t.Errorf("status %d, (-want +got):\n%s", status, diff)
	}
}

func TestResponses_ContextWindow(t *testing.T) {
	t.Parallel()
	o, url := newResponses(t)
	o.SetContextWindow(100)
	if status, body := plain(t, post(t.Context(), t, url, request(prompt, nil))); dig(body, "error", "code") != "context_length_exceeded" {
		t.Errorf("status %d, %v", status, body)
	}
	o.SetContextWindow(0)
	if res := post(t.Context(), t, url, request(prompt, nil)); res.StatusCode != http.StatusOK {
		t.Errorf("status %d", res.StatusCode)
	}
}

func TestResponses_MaxOutputTokens(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		effort    string
		tokens    int
		want      story
		reasoning float64
	}{
		"cut":               {"none", 16, story{string([]rune(answer)[:64]), "", "incomplete max_output_tokens"}, 0},
		"reasoning, enough": {"low", 1200, story{answer, "", "completed"}, 64},
		"reasoning, cut":    {"low", 64 + 5, story{answer[:20], "", "incomplete max_output_tokens"}, 64},
		"only reasoning":    {"high", 600, story{"", "", "incomplete max_output_tokens"}, 600},
	}
	_, url := newResponses(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			events, _, err := readEvents(t, post(t.Context(), t, url, request(prompt, map[string]any{
				"max_output_tokens": tt.tokens, "reasoning": map[string]any{"effort": tt.effort},
			})).Body)
			if diff := cmp.Diff(tt.want, tell(t, events)); diff != "" || err != nil {
				t.Errorf("%v, (-want +got):\n%s", err, diff)
			}
			usage := dig(events[len(events)-1].fields, "response", "usage")
			if got := dig(usage, "output_tokens_details", "reasoning_tokens"); got != tt.reasoning {
				t.Errorf("usage %v", usage)
			}
		})
	}
}

func TestResponses_Kinds(t *testing.T) {
	t.Parallel()
	const failed = "error server_error failed server_error"
	// half stands for a beginning of the answer.
	const half = "half"
	whole := story{Text: answer, End: "completed"}
	filecite := "\uE200filecite\uE202turn0file0\uE202turn0file5\uE202L8-L13\uE201"
	around := func(text string) string {
		return strings.NewReplacer("\uE200", text+"\uE200", "\uE201", "\uE201"+text).Replace(answer)
	}
	tests := map[string]story{
		"refusal":                   {Refusal: "I'm sorry, but I can't help with that request.", End: "completed"},
		"content-filter":            {Text: half, End: "incomplete content_filter"},
		"max-output-tokens":         {Text: half, End: "incomplete max_output_tokens"},
		"max-output-tokens-no-text": {End: "incomplete max_output_tokens"},
		"reasoning":                 whole,
		"commentary":                {Text: "Looking through the docs.|" + answer, End: "completed"},
		"queued":                    whole,
		"content-parts":             {Text: strings.ReplaceAll(answer, "\n\n", "\n\n|") + "\n\n|That is all.", End: "completed"},
		"annotations":               whole,
		"filecite-markers":          {Text: around(filecite), End: "completed"},
		"emoji":                     {Text: around(" 🗼👩‍💻𝔘"), End: "completed"},
		"done-only":                 whole,
		"keepalive":                 whole,
		"comments":                  whole,
		"crlf":                      whole,
		"data-first":                whole,
		"no-event-names":            whole,
		"no-last-blank-line":        whole,
		"done-marker":               whole,
		"changing-ids":              whole,
		"unknown-events":            whole,
		"tiny-deltas":               whole,
		"error-nested":              {End: "error server_error"},
		"error-flat":                {End: "error server_error"},
		"failed":                    {End: "failed server_error"},
		"error-then-failed":         {End: failed},
		"rate-limited":              {End: "error rate_limit_exceeded failed rate_limit_exceeded"},
		"request-too-large":         {End: "error rate_limit_exceeded failed rate_limit_exceeded"},
		"insufficient-quota":        {End: "error insufficient_quota failed insufficient_quota"},
		"context-length-exceeded":   {End: "error context_length_exceeded failed context_length_exceeded"},
		"overloaded":                {End: "error server_is_overloaded failed server_is_overloaded"},
		"slow-down":                 {End: "error slow_down failed slow_down"},
		"server-error-in-text":      {Text: half, End: failed},
		"server-error-flat-in-text": {Text: half, End: "error server_error"},
		"eof":                       {},
		"eof-in-text":               {Text: half},
		"reset-in-text":             {Text: half},
		"hang":                      {},
		"hang-in-text":              {Text: half},
	}
	for _, kind := range standin.StreamKinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			want, known := tests[kind]
			if !known {
				t.Fatal("there is no test of this kind")
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o, url := newResponses(t)
			o.Play(kind)
			res := post(ctx, t, url, request(prompt, nil))
			body, hangs := io.Reader(res.Body), strings.HasPrefix(kind, "hang")
			if hangs {
				body = &leaver{Reader: body, cancel: cancel}
				if want.Text == "" {
					cancel()
				}
			}
			events, _, err := readEvents(t, body)
			switch {
			case hangs && !errors.Is(err, context.Canceled),
				kind == "reset-in-text" && !errors.Is(err, io.ErrUnexpectedEOF),
				!hangs && kind != "reset-in-text" && err != nil:
				t.Errorf("error %v", err)
			}
			if kind != "hang" && (len(events) < 2 || events[0].fields["type"] != "response.created") {
				t.Fatalf("events %v", events)
			}
			got := tell(t, events)
			if want.Text == half && got.Text != "" && got.Text != answer && strings.HasPrefix(answer, got.Text) {
				got.Text = half
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if again, _, _ := readEvents(t, post(t.Context(), t, url, request(prompt, nil)).Body); tell(t, again) != whole {
				t.Errorf("the stream after it tells %+v", tell(t, again))
			}
		})
	}
}

// leaver leaves once it has read a delta of the text.
type leaver struct {
	io.Reader
	read   string
	cancel func()
}

func (l *leaver) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	l.read += string(p[:n])
	if _, after, found := strings.Cut(l.read, "output_text.delta"); found && strings.Contains(after, "\n\n") {
		l.cancel()
	}
	return n, err
}

// TestResponses_Wire checks what makes a stream of a kind unusual, byte by byte.
func TestResponses_Wire(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ has, lacks, ends string }{
		"crlf":               {has: "\r\n\r\nevent: response.in_progress\r\ndata: {", ends: "}\r\n\r\n"},
		"data-first":         {has: "}\nevent: response.in_progress\n\ndata: {", ends: "event: response.completed\n\n"},
		"no-event-names":     {has: "}\n\ndata: {", lacks: "event:", ends: "}\n\n"},
		"no-last-blank-line": {has: "event: response.completed\ndata: {", ends: "}"},
		"done-marker":        {ends: "}\n\ndata: [DONE]\n\n"},
		"comments":           {has: "\n\n: ping\nevent: ", ends: "}\n\n"},
		"keepalive":          {has: "event: keepalive\n", ends: "}\n\n"},
		"unknown-events":     {has: "event: response.weather\n", ends: "}\n\n"},
		"annotations":        {has: "event: response.output_text.annotation.added\n", ends: "}\n\n"},
		"reasoning":          {has: "event: response.reasoning_summary_text.delta\n", ends: "}\n\n"},
		"done-only":          {has: "event: response.output_text.done\n", lacks: "output_text.delta", ends: "}\n\n"},
		"emoji":              {has: "𝔘", lacks: "obfuscation", ends: "}\n\n"},
	}
	for kind, tt := range tests {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			o, url := newResponses(t)
			o.Play(kind)
			b, err := io.ReadAll(post(t.Context(), t, url, request(prompt, nil)).Body)
			wire := string(b)
			if err != nil || !strings.Contains(wire, tt.has) || tt.lacks != "" && strings.Contains(wire, tt.lacks) || !strings.HasSuffix(wire, tt.ends) {
				t.Errorf("%v, stream %q", err, wire)
			}
		})
	}
}

func TestResponses_IDs(t *testing.T) {
	t.Parallel()
	for kind, one := range map[string]bool{"tiny-deltas": true, "changing-ids": false} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			o, url := newResponses(t)
			o.Play(kind)
			events, _, _ := readEvents(t, post(t.Context(), t, url, request(prompt, nil)).Body)
			items, responses, orders := map[any]bool{}, map[any]bool{}, map[string]bool{}
			for _, e := range events {
				if id := dig(e.fields, "item_id"); id != nil {
					items[id] = true
				}
				if id := dig(e.fields, "response", "id"); id != nil {
					responses[id] = true
				}
				first, _, _ := strings.Cut(e.data, ":")
				orders[first] = true
			}
			if len(items) == 1 != one || len(responses) != 1 {
				t.Errorf("IDs of items %v, of responses %v", items, responses)
			}
			if len(orders) < 2 {
				t.Errorf("all events begin with %v", orders)
			}
		})
	}
}

func TestResponses_Obfuscation(t *testing.T) {
	t.Parallel()
	_, url := newResponses(t)
	events, _, _ := readEvents(t, post(t.Context(), t, url, request(prompt, map[string]any{"stream_options": nil})).Body)
	for _, e := range events {
		if e.name != "response.output_text.delta" {
			continue
		}
		delta, _ := e.fields["delta"].(string)
		if padding, _ := e.fields["obfuscation"].(string); padding == "" || (len(delta)+len(padding))%16 != 0 {
			t.Errorf("delta %q with obfuscation %q", delta, padding)
		}
	}
}

func TestResponses_Usage(t *testing.T) {
	t.Parallel()
	_, url := newResponses(t)
	instructions := strings.Repeat("Rule. ", 1000)
	for i, cached := range []float64{0, 1408} {
		_, body := plain(t, post(t.Context(), t, url, request("pong?", map[string]any{"stream": nil, "stream_options": nil, "instructions": instructions})))
		want := map[string]any{
			"input_tokens": 1502.0, "input_tokens_details": map[string]any{"cached_tokens": cached},
			"output_tokens": 11.0, "output_tokens_details": map[string]any{"reasoning_tokens": 0.0}, "total_tokens": 1513.0,
		}
		if diff := cmp.Diff(want, dig(body, "usage")); diff != "" || dig(body, "status") != "completed" {
			t.Errorf("call %d, usage (-want +got):\n%s", i, diff)
		}
	}
}

func TestResponses_Pace(t *testing.T) {
	t.Parallel()
	o, url := newResponses(t)
	o.SetPace(5 * time.Millisecond)
	start := time.Now()
	events, _, _ := readEvents(t, post(t.Context(), t, url, request(prompt, nil)).Body)
	deltas := 0
	for _, e := range events {
		if e.name == "response.output_text.delta" {
			deltas++
		}
	}
	if took := time.Since(start); deltas < 3 || took < time.Duration(deltas)*5*time.Millisecond {
		t.Errorf("%d deltas took %s", deltas, took)
	}
}

func TestResponses_Left(t *testing.T) {
	t.Parallel()
	tests := map[string]func(o *standin.OpenAI){
		"hang":         func(o *standin.OpenAI) { o.Play("hang") },
		"hang in text": func(o *standin.OpenAI) { o.Play("hang-in-text") },
		"pace":         func(o *standin.OpenAI) { o.SetPace(time.Hour) },
	}
	for name, arrange := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, url := newResponses(t)
			readEvents(t, post(t.Context(), t, url, request(prompt, nil)).Body)
			arrange(o)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			post(ctx, t, url, request(prompt, nil))
			if left := o.Left(); len(left) != 0 {
				t.Errorf("a client left at %v", left)
			}
			before := time.Now()
			cancel()
			left := waitLeft(t, o)
			if len(left) != 1 || left[0].Before(before) || time.Since(left[0]) > 10*time.Second {
				t.Errorf("clients left at %v", left)
			}
		})
	}
}

func TestResponses_LeftEarly(t *testing.T) {
	t.Parallel()
	o, url := newResponses(t)
	o.SetLatency(time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("{}"))
	if _, err := http.DefaultClient.Do(r); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if left := waitLeft(t, o); len(left) != 1 {
		t.Errorf("clients left at %v", left)
	}
}

// waitLeft waits until the stand-in has seen that a client left.
func waitLeft(t *testing.T, o *standin.OpenAI) []time.Time {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); time.Since(start) < 10*time.Second; <-tick.C {
		if left := o.Left(); len(left) > 0 {
			return left
		}
	}
	return nil
}

func TestPlay_Order(t *testing.T) {
	t.Parallel()
	o, url := newResponses(t)
	o.Play("refusal", "failed")
	o.RespondWith(standin.OutOfQuota, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	})
	get := func(changes map[string]any) *http.Response { return post(t.Context(), t, url, request("Hi", changes)) }

	get(map[string]any{"model": "gpt-0"}) // Uses nothing up, and neither does the next one.
	if _, body := plain(t, get(map[string]any{"stream": nil, "stream_options": nil})); dig(body, "status") != "completed" {
		t.Errorf("without a stream: %v", body)
	}
	for i, want := range []string{"completed", "failed server_error"} {
		events, _, _ := readEvents(t, get(nil).Body)
		if got := tell(t, events); got.End != want || got.Text != "" {
			t.Errorf("stream %d tells %+v", i, got)
		}
	}
	if status, body := plain(t, get(nil)); status != http.StatusTooManyRequests || dig(body, "error", "code") != "insufficient_quota" {
		t.Errorf("out of quota: %d %v", status, body)
	}
	if _, body := plain(t, get(nil)); dig(body, "model") != "gpt-6-luna" {
		t.Errorf("handler has got %v", body)
	}
	if n := len(o.Responses()); n != 6 {
		t.Errorf("%d calls are noted", n)
	}
}

func TestPlay_UnknownKind(t *testing.T) {
	t.Parallel()
	defer func() {
		if got := fmt.Sprint(recover()); got != `standin: no stream of the kind "refuse"` {
			t.Errorf("panic %q", got)
		}
	}()
	standin.NewOpenAI(openAIKey, "wf_test").Play("refuse")
}

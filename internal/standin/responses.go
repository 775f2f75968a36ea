package standin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const responsesPath = "/v1/responses"

// ResponseRequest is the body of a call of POST /responses, with the field names of
// OpenAI's API. The stand-in knows these fields and refuses all others.
type ResponseRequest struct {
	Model        string          `json:"model"`
	Instructions string          `json:"instructions"`
	Input        json.RawMessage `json:"input"`
	// Messages are those of the input.
	Messages      []ResponseMessage `json:"-"`
	Store         *bool             `json:"store"`
	Stream        bool              `json:"stream"`
	StreamOptions *struct {
		IncludeObfuscation *bool `json:"include_obfuscation"`
	} `json:"stream_options"`
	MaxOutputTokens *int `json:"max_output_tokens"`
	Reasoning       struct {
		Effort  string `json:"effort"`
		Summary string `json:"summary"`
	} `json:"reasoning"`
	Text struct {
		Format    json.RawMessage `json:"format"`
		Verbosity string          `json:"verbosity"`
	} `json:"text"`
	Temperature      *float64          `json:"temperature"`
	TopP             *float64          `json:"top_p"`
	SafetyIdentifier string            `json:"safety_identifier"`
	PromptCacheKey   string            `json:"prompt_cache_key"`
	Metadata         map[string]string `json:"metadata"`
	// The stand-in does nothing with the fields from here on.
	Include           []string        `json:"include"`
	Tools             json.RawMessage `json:"tools"`
	ToolChoice        json.RawMessage `json:"tool_choice"`
	ParallelToolCalls *bool           `json:"parallel_tool_calls"`
	Truncation        string          `json:"truncation"`
	ServiceTier       string          `json:"service_tier"`
	User              string          `json:"user"`
}

// ResponseMessage is a message of a request. The parts of its text are joined.
type ResponseMessage struct {
	Role, Text string
}

// model is what the stand-in knows of a model that answers.
type model struct {
	name     string
	snapshot string // The dated name, which is the one in responses.
	// efforts are how much it can be told to reason. A model without any does not
	// reason.
	efforts []string
	// window is how many tokens a prompt may have.
	window int
}

var models = []model{
	{"gpt-6-luna", "gpt-6-luna-2026-09-22", []string{"none", "low", "medium", "high", "xhigh", "max"}, 1_050_000},
	{"gpt-6.1-terra", "gpt-6.1-terra-2026-10-26", []string{"none", "low", "medium", "high", "xhigh", "max"}, 1_050_000},
	{"gpt-6.1-sol", "gpt-6.1-sol-2026-10-26", []string{"low", "medium", "high", "xhigh", "max"}, 1_050_000},
	{"gpt-5-nano", "gpt-5-nano-2025-08-07", []string{"minimal", "low", "medium", "high"}, 400_000},
	{"gpt-4o-mini", "gpt-4o-mini-2024-07-18", nil, 128_000},
}

// reasoningTokens are how many tokens the stand-in says it has reasoned for.
var reasoningTokens = map[string]int{"minimal": 8, "low": 64, "medium": 256, "high": 1024, "xhigh": 4096, "max": 8192}

// OpenAI's bounds on a request for a response.
const (
	minOutputTokens = 16
	maxIdentifier   = 64 // Characters of a safety identifier, and of a cache key.
	// minCached is the length of the shortest prompt that is cached, in tokens.
	minCached = 1024
)

// charactersPerToken is what the stand-in takes a token for.
const charactersPerToken = 4

// refusal is why OpenAI refuses a request for a response with status 400.
type refusal struct {
	code, param, message string
}

func (r *refusal) write(w http.ResponseWriter) {
	e := map[string]any{"message": r.message, "type": "invalid_request_error", "param": nil, "code": nil}
	if r.param != "" {
		e["param"] = r.param
	}
	if r.code != "" {
		e["code"] = r.code
	}
	writeJSON(w, http.StatusBadRequest, map[string]any{"error": e})
}

// Responses returns the calls of POST /responses so far, in order: those that
// could be read, whatever the answer was.
func (o *OpenAI) Responses() []ResponseRequest {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.responses)
}

// Left returns when clients left before they had their whole answer, in order.
func (o *OpenAI) Left() []time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.left)
}

func (o *OpenAI) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left = append(o.left, time.Now())
}

// SetPace sets the time between two deltas of a streamed response. Without it, the
// text appears as fast as that of a small model.
func (o *OpenAI) SetPace(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pace = d
}

// Repeat makes the stand-in answer each question with its own words, one in each
// delta, and not with what the blocks say.
func (o *OpenAI) Repeat() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.repeats = true
}

// SetContextWindow sets how many tokens a prompt may have, for all models. With 0,
// it is the model's own.
func (o *OpenAI) SetContextWindow(tokens int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.window = tokens
}

// Play streams the next responses in unusual ways, one each. [StreamKinds] lists the
// kinds; any other one is a panic. Only valid requests for a stream use them up.
func (o *OpenAI) Play(kinds ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, kind := range kinds {
		i := slices.IndexFunc(streams, func(k streamKind) bool { return k.name == kind })
		if i < 0 {
			panic("standin: no stream of the kind " + strconv.Quote(kind))
		}
		o.plays = append(o.plays, play{stream: streams[i].play})
	}
}

// RespondWith makes the handlers answer the next valid calls of POST /responses, one
// each. Unlike those of [OpenAI.Fail], they do not answer calls of other endpoints.
func (o *OpenAI) RespondWith(handlers ...http.HandlerFunc) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, h := range handlers {
		o.plays = append(o.plays, play{handler: h})
	}
}

// play is how a response is made: by one of the two.
type play struct {
	stream  func(*stream)
	handler http.HandlerFunc
}

// next returns how to answer a valid request.
func (o *OpenAI) next(streamed bool) play {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.plays) == 0 || o.plays[0].stream != nil && !streamed {
		return play{stream: (*stream).whole}
	}
	p := o.plays[0]
	o.plays = o.plays[1:]
	return p
}

// respond answers a request for a response.
func (o *OpenAI) respond(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // The client has gone.
	}
	start := time.Now()
	q, refused := readResponseRequest(r.Header, body)
	if refused != nil {
		refused.write(w)
		return
	}
	o.mu.Lock()
	o.responses = append(o.responses, q)
	pace, window := o.pace, o.window
	o.mu.Unlock()
	m, refused := q.check(window)
	if refused != nil {
		refused.write(w)
		return
	}
	p := o.next(q.Stream)
	if p.handler != nil {
		r.Body = io.NopCloser(bytes.NewReader(body))
		p.handler(w, r)
		return
	}
	h := w.Header()
	h.Set("OpenAI-Version", "2020-10-01")
	h.Set("OpenAI-Organization", organization)
	h.Set("OpenAI-Project", project)
	h.Set("OpenAI-Processing-Ms", strconv.FormatInt(time.Since(start).Milliseconds(), 10))
	s := newStream(o, w, r, q, m, pace)
	p.stream(s)
	if !q.Stream {
		writeJSON(w, http.StatusOK, s.final)
	}
}

// cached returns how many tokens of a prompt OpenAI has had before: those of the
// instructions, if they are long enough.
func (o *OpenAI) cached(q *ResponseRequest) int {
	tokens := tokensOf(q.Instructions)
	if tokens < minCached {
		return 0
	}
	prefix := [3]string{q.Model, q.PromptCacheKey, q.Instructions}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.prefixes[prefix] {
		o.prefixes[prefix] = true
		return 0
	}
	return tokens / 128 * 128
}

// readResponseRequest decodes a request.
func readResponseRequest(h http.Header, body []byte) (ResponseRequest, *refusal) {
	var q ResponseRequest
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	err := dec.Decode(&q)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil && h.Get("Content-Type") == "application/json":
	case errors.As(err, &wrong):
		return q, &refusal{"invalid_type", wrong.Field, fmt.Sprintf("Invalid type for '%s': got %s instead.", wrong.Field, wrong.Value)}
	case err != nil && strings.Contains(err.Error(), "unknown field"):
		_, name, _ := strings.Cut(err.Error(), `"`)
		name = strings.TrimSuffix(name, `"`)
		return q, &refusal{"unknown_parameter", name, "Unknown parameter: '" + name + "'."}
	default:
		return q, &refusal{message: "We could not parse the JSON body of your request."}
	}
	switch {
	case q.Model == "":
		return q, &refusal{"missing_required_parameter", "model", "Missing required parameter: 'model'."}
	case len(q.Input) == 0:
		return q, &refusal{"missing_required_parameter", "input", "Missing required parameter: 'input'."}
	}
	var refused *refusal
	q.Messages, refused = messagesOf(q.Input)
	return q, refused
}

// partsOf are the types of the parts that a message of a role may have.
func partsOf(role string) []string {
	if role == "assistant" {
		return []string{"output_text", "refusal"}
	}
	return []string{"input_text", "input_image", "input_file"}
}

// messagesOf returns the messages of an input, which is a text or a list of items.
func messagesOf(input json.RawMessage) ([]ResponseMessage, *refusal) {
	var text string
	if json.Unmarshal(input, &text) == nil {
		return []ResponseMessage{{"user", text}}, nil
	}
	var items []struct {
		Type    string          `json:"type"`
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	}
	if json.Unmarshal(input, &items) != nil {
		return nil, &refusal{"invalid_type", "input", "Invalid type for 'input': expected one of a string or an array of input items."}
	}
	roles := []string{"assistant", "system", "developer", "user"}
	types := []string{"message", "reasoning", "function_call", "function_call_output"}
	var messages []ResponseMessage
	for i, item := range items {
		at := fmt.Sprintf("input[%d]", i)
		switch {
		case item.Type != "" && !slices.Contains(types, item.Type):
			return nil, invalidValue(at, item.Type, types)
		case item.Type != "" && item.Type != "message":
			continue // It has no text to answer.
		case !slices.Contains(roles, item.Role):
			return nil, invalidValue(at, item.Role, roles)
		}
		text, refused := contentOf(item.Content, item.Role, at+".content")
		if refused != nil {
			return nil, refused
		}
		messages = append(messages, ResponseMessage{item.Role, text})
	}
	return messages, nil
}

// contentOf returns the text of a message's content, which is a text or a list of
// parts.
func contentOf(content json.RawMessage, role, at string) (string, *refusal) {
	var text string
	if len(content) > 0 && json.Unmarshal(content, &text) == nil {
		return text, nil
	}
	var parts []struct {
		Type    string `json:"type"`
		Text    string `json:"text"`
		Refusal string `json:"refusal"`
	}
	if json.Unmarshal(content, &parts) != nil {
		return "", &refusal{"invalid_type", at, "Invalid type for '" + at + "': expected one of an array of objects or string."}
	}
	for j, part := range parts {
		if types := partsOf(role); !slices.Contains(types, part.Type) {
			return "", invalidValue(fmt.Sprintf("%s[%d]", at, j), part.Type, types)
		}
		text += part.Text + part.Refusal
	}
	return text, nil
}

func invalidValue(param, value string, supported []string) *refusal {
	return &refusal{"invalid_value", param, "Invalid value: '" + value + "'. Supported values are: " + listed(supported) + "."}
}

// listed quotes values as OpenAI's refusals do.
func listed(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = "'" + v + "'"
	}
	switch last := len(quoted) - 1; last {
	case 0:
		return quoted[0]
	case 1:
		return quoted[0] + " and " + quoted[1]
	default:
		return strings.Join(quoted[:last], ", ") + ", and " + quoted[last]
	}
}

// check returns the model of a request, or why the request is refused. A window of 0
// is the model's own.
func (q *ResponseRequest) check(window int) (model, *refusal) {
	i := slices.IndexFunc(models, func(m model) bool { return m.name == q.Model || m.snapshot == q.Model })
	if i < 0 {
		return model{}, &refusal{"model_not_found", "model", "The requested model '" + q.Model + "' does not exist."}
	}
	m := models[i]
	if window == 0 {
		window = m.window
	}
	if refused := q.checkLengths(); refused != nil {
		return m, refused
	}
	if refused := q.checkModel(m); refused != nil {
		return m, refused
	}
	if q.inputTokens() > window {
		return m, &refusal{"context_length_exceeded", "input", "Your input exceeds the context window of this model. Please adjust your input and try again."}
	}
	return m, nil
}

// checkLengths checks what is the same for all models.
func (q *ResponseRequest) checkLengths() *refusal {
	long := func(param, value string) *refusal {
		return &refusal{"string_above_max_length", param, fmt.Sprintf("Invalid '%s': string too long. "+
			"Expected a string with maximum length %d, but got a string with length %d instead.", param, maxIdentifier, utf8.RuneCountInString(value))}
	}
	switch n := q.MaxOutputTokens; {
	case q.StreamOptions != nil && !q.Stream:
		return &refusal{"", "stream_options", "The 'stream_options' parameter is only allowed when 'stream' is enabled."}
	case n != nil && *n < minOutputTokens:
		return &refusal{"integer_below_min_value", "max_output_tokens", fmt.Sprintf("Invalid 'max_output_tokens': integer below minimum value. "+
			"Expected a value >= %d, but got %d instead.", minOutputTokens, *n)}
	case utf8.RuneCountInString(q.SafetyIdentifier) > maxIdentifier:
		return long("safety_identifier", q.SafetyIdentifier)
	case utf8.RuneCountInString(q.PromptCacheKey) > maxIdentifier:
		return long("prompt_cache_key", q.PromptCacheKey)
	default:
		return nil
	}
}

// checkModel checks what not every model knows.
func (q *ResponseRequest) checkModel(m model) *refusal {
	unsupported := func(param, value string, supported ...string) *refusal {
		return &refusal{"unsupported_value", param, "Unsupported value: '" + value + "' is not supported with the '" + q.Model + "' model. " +
			"Supported values are: " + listed(supported) + "."}
	}
	levels := []string{"low", "medium", "high"}
	if len(m.efforts) == 0 {
		levels = []string{"medium"}
	}
	effort, verbosity := q.Reasoning.Effort, q.Text.Verbosity
	sampled := len(m.efforts) == 0 || effort == "none"
	switch t := q.Temperature; {
	case effort != "" && len(m.efforts) == 0:
		return &refusal{"unsupported_parameter", "reasoning.effort", "Unsupported parameter: 'reasoning.effort' is not supported with this model."}
	case effort != "" && !slices.Contains(m.efforts, effort):
		return unsupported("reasoning.effort", effort, m.efforts...)
	case verbosity != "" && !slices.Contains(levels, verbosity):
		return unsupported("text.verbosity", verbosity, levels...)
	case t != nil && *t < 0:
		return &refusal{"decimal_below_min_value", "temperature", fmt.Sprintf("Invalid 'temperature': decimal below minimum value. Expected a value >= 0, but got %g instead.", *t)}
	case t != nil && *t > 2:
		return &refusal{"decimal_above_max_value", "temperature", fmt.Sprintf("Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got %g instead.", *t)}
	case t != nil && !sampled:
		return &refusal{"", "temperature", "Unsupported parameter: 'temperature' is not supported with this model."}
	case q.TopP != nil && !sampled:
		return &refusal{"", "top_p", "Unsupported parameter: 'top_p' is not supported with this model."}
	default:
		return nil
	}
}

// effort returns how much a model reasons about a request, or "" for a model that
// does not.
func (q *ResponseRequest) effort(m model) string {
	if q.Reasoning.Effort == "" && len(m.efforts) > 0 {
		return "medium"
	}
	return q.Reasoning.Effort
}

func (q *ResponseRequest) inputTokens() int {
	n := tokensOf(q.Instructions)
	for _, m := range q.Messages {
		n += tokensOf(m.Text)
	}
	return n
}

// question returns the text of the last message of the user.
func (q *ResponseRequest) question() string {
	for _, m := range slices.Backward(q.Messages) {
		if m.Role == "user" {
			return m.Text
		}
	}
	return ""
}

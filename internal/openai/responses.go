package openai

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// firstDelta is how long the first text of a response may take, with all
// repetitions.
const firstDelta = 20 * time.Second

var errNoDelta = fmt.Errorf("no text after %s", firstDelta)

// ResponseRequest is what a model is asked.
type ResponseRequest struct {
	Model string
	// Effort is the reasoning effort, or "" for the model's own.
	Effort string
	// Instructions come before all messages.
	Instructions string
	Input        []InputMessage
	// MaxOutputTokens bounds the response, with what the model reasons.
	MaxOutputTokens int
	// SafetyIdentifier names the visitor to OpenAI, in at most 64 characters.
	SafetyIdentifier string
	// CacheKey is the same for requests that begin with the same text.
	CacheKey string
}

// InputMessage is a message of a conversation. Role is user or assistant.
type InputMessage struct {
	Role string `json:"role"`
	Text string `json:"content"`
}

// ResponseEvents take a response while it is being written. An error that they return
// ends the call.
type ResponseEvents interface {
	// Text takes the next part of the text.
	Text(delta string) error
	// Refusal takes the next part of a refusal.
	Refusal(delta string) error
}

// ResponseResult is what is known of a response when it has ended.
type ResponseResult struct {
	// ID and Model are OpenAI's: the model has its date.
	ID, Model string
	// Cut is why the response is incomplete, such as max_output_tokens, or "".
	Cut string
	// Refused says that a part of the response is a refusal.
	Refused bool
	// InputTokens has CachedTokens in it.
	InputTokens, CachedTokens, OutputTokens int64
	// Begun says that some text was delivered.
	Begun bool
}

// Respond has a model answer and delivers the answer as it is written. Reasoning and
// comments on the way to the answer are left out. Until the first text, a call is
// repeated as by [Client.Post], and 20 seconds are all that it may take. A parameter
// that the model refuses is left out, from then on.
//
// It fails with an [*Error], of the kinds [Spent] and [TooLong] too, with an error of
// events, or with the context's error if the caller goes away. What was delivered
// before stays valid.
func (c *Client) Respond(ctx context.Context, r ResponseRequest, events ResponseEvents) (ResponseResult, error) {
	texts := make([]string, len(r.Input))
	for i, m := range r.Input {
		texts[i] = m.Text
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(firstDelta, func() { cancel(errNoDelta) })
	defer timer.Stop()
	budget, done := context.WithTimeout(ctx, firstDelta)
	defer done()
	for {
		refused := c.refusals.of(r.Model)
		body, err := r.body(refused)
		if err != nil {
			return ResponseResult{}, err
		}
		result, err := c.respond(ctx, budget, body, texts, func(key string) *response {
			return &response{events: events, scrub: c.scrubber(key, texts), begin: func() { timer.Stop() }}
		})
		var e *Error
		switch {
		case err == nil || result.Begun:
			return result, err
		case errors.Is(err, context.Canceled) && errors.Is(context.Cause(ctx), errNoDelta):
			return result, &Error{Kind: Timeout, cause: errNoDelta}
		case !errors.As(err, &e) || !c.refusals.learn(r.Model, e.param, refused):
			return result, err
		}
	}
}

// optional are the parameters that a response can do without.
var optional = []string{"reasoning", "text", "stream_options", "prompt_cache_key", "safety_identifier"}

// body returns the request without the parameters that the model refuses.
func (r ResponseRequest) body(refused map[string]bool) ([]byte, error) {
	fields := map[string]any{
		"model": r.Model, "instructions": r.Instructions, "input": r.Input, "max_output_tokens": r.MaxOutputTokens,
		"store": false, "stream": true,
		"stream_options": map[string]bool{"include_obfuscation": false}, // Padding against who measures packets.
		"text":           map[string]string{"verbosity": "low"},
	}
	if r.Effort != "" {
		fields["reasoning"] = map[string]string{"effort": r.Effort}
	}
	if r.SafetyIdentifier != "" {
		fields["safety_identifier"] = r.SafetyIdentifier
	}
	if r.CacheKey != "" {
		fields["prompt_cache_key"] = r.CacheKey
	}
	maps.DeleteFunc(fields, func(name string, _ any) bool { return refused[name] })
	body, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("encoding the request for a response: %w", err)
	}
	return body, nil
}

// refusals are the optional parameters that models have refused.
type refusals struct {
	mu    sync.Mutex
	names map[string]map[string]bool // By model.
}

// of returns a copy of those of a model.
func (r *refusals) of(model string) map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.names[model])
}

// learn notes the parameter that an error names, such as reasoning.effort. It returns
// false for one that is not optional, or that the call has left out already.
func (r *refusals) learn(model, param string, leftOut map[string]bool) bool {
	name, _, _ := strings.Cut(param, ".")
	if strings.HasPrefix(name, "prompt_cache") {
		name = "prompt_cache_key"
	}
	if !slices.Contains(optional, name) || leftOut[name] {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names == nil {
		r.names = map[string]map[string]bool{}
	}
	if r.names[model] == nil {
		r.names[model] = map[string]bool{}
	}
	r.names[model][name] = true
	return true
}

// respond sends a request, again until the first text where that may help. The budget
// is for the first text.
func (c *Client) respond(ctx, budget context.Context, body []byte, texts []string, begin func(key string) *response) (result ResponseResult, err error) {
	var failure error // What went wrong after the first text.
	err = c.retry(budget, func(key string) error {
		r := begin(key)
		err := c.stream(ctx, key, body, texts, r)
		if errors.Is(context.Cause(ctx), errNoDelta) {
			err = &Error{Kind: Timeout, cause: errNoDelta}
		}
		if result = r.result; result.Begun {
			failure = err
			return nil
		}
		return err
	})
	if err == nil {
		err = failure
	}
	return result, err
}

// stream makes one attempt and reads the response.
func (c *Client) stream(ctx context.Context, key string, body []byte, texts []string, r *response) error {
	resp, err := c.send(ctx, key, request{path: "/responses", header: http.Header{"Accept": {"text/event-stream"}}, body: body, texts: texts})
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // Read to its end, or given up.
	r.requestID = r.scrub(resp.Header.Get(requestID))
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind != "text/event-stream" {
		return r.failed(Rejected, errors.New("it is not a stream of events"))
	}
	switch err := eachEvent(resp.Body, r.handle); {
	case r.stopped != nil:
		return r.stopped
	case err == nil && !r.ended:
		return r.failed(Busy, errors.New("the stream ended too early"))
	case err == nil:
		return nil
	case errors.Is(err, errLargeStream):
		return r.failed(Rejected, err)
	default:
		var e *Error
		if errors.As(err, &e) {
			return e
		}
		return unreached(ctx, err, r.scrub)
	}
}

// A response is one that is being read.
type response struct {
	events    ResponseEvents
	scrub     func(string) string
	begin     func() // Called at the first text.
	requestID string

	result  ResponseResult
	ended   bool
	stopped error // What events have returned.
	// hidden are the items that are not part of the answer, by their index.
	hidden map[int]bool
	// delivered is the text of each part of an item.
	delivered map[place]string
}

type place struct{ item, part int }

// An event has the fields of all events that matter.
type event struct {
	Type         string      `json:"type"`
	OutputIndex  int         `json:"output_index"`
	ContentIndex int         `json:"content_index"`
	Delta        string      `json:"delta"`
	Text         string      `json:"text"`
	Refusal      string      `json:"refusal"`
	Part         contentPart `json:"part"`
	Item         outputItem  `json:"item"`
	Response     struct {
		ID         string       `json:"id"`
		Model      string       `json:"model"`
		Error      apiError     `json:"error"`
		Output     []outputItem `json:"output"`
		Incomplete struct {
			Reason string `json:"reason"`
		} `json:"incomplete_details"`
		Usage struct {
			Input   int64 `json:"input_tokens"`
			Details struct {
				Cached int64 `json:"cached_tokens"`
			} `json:"input_tokens_details"`
			Output int64 `json:"output_tokens"`
		} `json:"usage"`
	} `json:"response"`
	// An error stands in a field of its own, or in these.
	Error apiError `json:"error"`
	apiError
}

type outputItem struct {
	Type    string        `json:"type"`
	Phase   string        `json:"phase"`
	Content []contentPart `json:"content"`
}

type contentPart struct {
	Type    string `json:"type"`
	Text    string `json:"text"`
	Refusal string `json:"refusal"`
}

// handle takes an event. Types that it does not know are passed over.
func (r *response) handle(data []byte) (done bool, err error) {
	var e event
	var otherType *json.UnmarshalTypeError // The rest was decoded all the same.
	if err := json.Unmarshal(data, &e); err != nil && !errors.As(err, &otherType) {
		return false, r.failed(Busy, errors.New("an event is not JSON"))
	}
	if e.Response.ID != "" {
		r.result.ID, r.result.Model = nameOf(e.Response.ID), nameOf(e.Response.Model)
	}
	at := place{e.OutputIndex, e.ContentIndex}
	switch e.Type {
	case "response.output_item.added":
		r.hide(e.OutputIndex, e.Item)
	case "response.output_text.delta":
		err = r.deliver(at, e.Delta, r.events.Text)
	case "response.refusal.delta":
		r.result.Refused = true
		err = r.deliver(at, e.Delta, r.events.Refusal)
	case "response.output_text.done", "response.refusal.done":
		err = r.complete(at, contentPart{Text: e.Text, Refusal: e.Refusal})
	case "response.content_part.done":
		err = r.complete(at, e.Part)
	case "response.output_item.done":
		err = r.completeItem(e.OutputIndex, e.Item)
	case "response.completed", "response.incomplete":
		// Some gateways number items differently here. So this only fills in for a stream
		// that has had no text.
		fresh := !r.result.Begun
		for i, item := range e.Response.Output {
			if fresh || r.delivered[place{i, 0}] != "" {
				err = errors.Join(err, r.completeItem(i, item))
			}
		}
		if err != nil {
			return false, err
		}
		r.end(&e)
		return true, nil
	case "response.failed":
		return false, r.refused(e.Response.Error)
	case "error", "":
		if e.Type == "" && e.Error == (apiError{}) {
			return false, nil
		}
		if e.Error == (apiError{}) {
			e.Error = e.apiError
		}
		return false, r.refused(e.Error)
	}
	return false, err
}

// hide notes an item whose text is not the answer: what the model says on the way to
// it.
func (r *response) hide(index int, item outputItem) {
	if item.Phase == "commentary" {
		if r.hidden == nil {
			r.hidden = map[int]bool{}
		}
		r.hidden[index] = true
	}
}

// deliver passes text on.
func (r *response) deliver(at place, delta string, to func(string) error) error {
	if delta == "" || r.hidden[at.item] {
		return nil
	}
	if r.delivered == nil {
		r.delivered = map[place]string{}
	}
	if r.result.Begun && r.delivered[at] == "" {
		r.stopped = to("\n\n") // Another part of the answer is another paragraph.
	}
	r.delivered[at] += delta
	if !r.result.Begun {
		r.result.Begun = true
		r.begin()
	}
	if r.stopped == nil {
		r.stopped = to(delta)
	}
	return r.stopped
}

// complete delivers what is missing of a part that is complete. Some gateways send no
// deltas.
func (r *response) complete(at place, part contentPart) error {
	text, to := part.Text, r.events.Text
	if part.Refusal != "" {
		text, to, r.result.Refused = part.Refusal, r.events.Refusal, true
	}
	switch part.Type {
	case "", "output_text", "refusal":
	default:
		return nil // It is not part of the answer.
	}
	rest, ok := strings.CutPrefix(text, r.delivered[at])
	if !ok {
		return nil // The deltas were not of this text. They have been shown.
	}
	return r.deliver(at, rest, to)
}

func (r *response) completeItem(index int, item outputItem) error {
	if item.Type != "message" {
		return nil
	}
	r.hide(index, item)
	for i, part := range item.Content {
		if err := r.complete(place{index, i}, part); err != nil {
			return err
		}
	}
	return nil
}

func (r *response) end(e *event) {
	r.ended = true
	usage := &e.Response.Usage
	r.result.InputTokens, r.result.CachedTokens, r.result.OutputTokens = max(0, usage.Input), max(0, usage.Details.Cached), max(0, usage.Output)
	if e.Type == "response.incomplete" {
		r.result.Cut = cmp.Or(nameOf(e.Response.Incomplete.Reason), "unknown")
	}
}

// failed returns the error for a stream that is not what it should be.
func (r *response) failed(kind Kind, cause error) *Error {
	return &Error{Kind: kind, Status: http.StatusOK, RequestID: r.requestID, cause: cause}
}

// name matches what can be the ID or the model of a response.
var name = regexp.MustCompile(`^[A-Za-z0-9_.:/-]{1,128}$`)

// nameOf returns an ID, a model or a reason as it is, or "" for any other text.
func nameOf(s string) string {
	if name.MatchString(s) {
		return s
	}
	return ""
}

// refused returns the error that a stream has in it.
func (r *response) refused(a apiError) *Error {
	e := r.failed(Busy, errors.New("an error in the stream"))
	switch a.code() {
	case "invalid_prompt", "bio_policy", "data_residency_mismatch", "model_not_found", "unsupported_parameter", "unsupported_value", "invalid_value":
		e.Kind = Rejected
	}
	if a.Type == "invalid_request_error" {
		e.Kind = Rejected
	}
	e.fill(a, r.scrub)
	return e
}

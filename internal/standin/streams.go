package standin

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// usualPace is the time between two deltas if no other is set. A delta has about
// four tokens, and a small model writes about 130 in a second.
const usualPace = 30 * time.Millisecond

// What OpenAI calls the owner of a key, in headers and in errors.
const (
	organization = "org-standin"
	project      = "proj_standin"
)

// object is a JSON object. Its keys have another order each time, because OpenAI
// promises none.
type object map[string]any

// MarshalJSON implements [json.Marshaler].
func (o object) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for key, value := range o { // In a random order.
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(append(b, encode(key)...), ':'), encode(value)...)
	}
	return append(b, '}'), nil
}

// encode returns the JSON of a value, which must have one. It leaves <, > and & as
// they are, like OpenAI.
func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// form is how the events of a stream are written.
type form struct {
	eol       string
	dataFirst bool // The name of an event follows its data.
	unnamed   bool // Events have no names.
	comments  bool // A comment precedes each event.
	keepalive bool // An event without meaning precedes each delta.
	openEnd   bool // The last event has no empty line after it, and no end of line.
	done      bool // [DONE] follows the last event.
	changing  bool // Events about one item give it different IDs, as some proxies do.
	unknown   bool // Events of types that nobody knows precede each delta.
	silent    bool // There are no deltas.
	tiny      bool // Deltas have at most two characters.
}

// stream writes the events of a response.
type stream struct {
	o     *OpenAI
	ctx   context.Context //nolint:containedctx // It lives as long as the request.
	w     http.ResponseWriter
	q     ResponseRequest
	model model
	pace  time.Duration
	form  form

	// answer is the text that the stand-in has for the question.
	answer  string
	repeats bool // It is the question, and is sent word by word.
	// thought is how many tokens it has reasoned for, and room how many characters
	// of text it may still write.
	thought, room int

	id      string
	created time.Time
	events  int
	output  []object // The items that are complete.
	item    object   // The one that is not.
	parts   []object // Those of the item.
	text    string   // Of the last part.
	written string   // All text so far.
	cut     string   // Why the response will be incomplete, or "".
	final   object   // The response, once it is complete or incomplete.
	ended   bool     // An event has said that nothing of interest follows.
	gone    bool
}

func newStream(o *OpenAI, w http.ResponseWriter, r *http.Request, q ResponseRequest, m model, pace time.Duration) *stream {
	s := &stream{
		o: o, ctx: r.Context(), w: w, q: q, model: m, pace: pace, form: form{eol: "\n"},
		answer: answerTo(q.question()), thought: reasoningTokens[q.effort(m)], room: -1,
		id: newID("resp_"), created: time.Now(), output: []object{},
	}
	o.mu.Lock()
	s.repeats = o.repeats
	o.mu.Unlock()
	if s.repeats {
		_, question := parsePrompt(q.question())
		if _, after, quotes := strings.Cut(question, "</QUOTE>"); quotes {
			question = after
		}
		s.answer = strings.TrimSpace(question)
	}
	if n := q.MaxOutputTokens; n != nil {
		s.room = max(0, *n-s.thought) * charactersPerToken
		s.thought = min(s.thought, *n)
	}
	if q.Stream {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		w.WriteHeader(http.StatusOK)
		s.flush()
	}
	return s
}

func newID(prefix string) string {
	b := make([]byte, 25)
	rand.Read(b) // It never fails.
	return prefix + hex.EncodeToString(b)
}

func (s *stream) flush() {
	http.NewResponseController(s.w).Flush() //nolint:errcheck // The client may have gone.
}

// left says that the client has gone. If that was before the end, the stand-in
// notes it.
func (s *stream) left() bool {
	if !s.gone && s.ctx.Err() != nil {
		s.gone = true
		if !s.ended {
			s.o.leave()
		}
	}
	return s.gone
}

// raw writes to the stream.
func (s *stream) raw(text string) {
	if s.q.Stream && !s.left() {
		io.WriteString(s.w, text) //nolint:errcheck // The client may have gone.
		s.flush()
	}
}

// send writes an event. It takes the fields over.
func (s *stream) send(event string, fields object) {
	fields["type"], fields["sequence_number"] = event, s.events
	s.events++
	eol := s.form.eol
	name, data := "event: "+event+eol, "data: "+string(encode(fields))+eol
	switch {
	case s.form.unnamed:
		name = ""
	case s.form.dataFirst:
		name, data = data, name
	}
	block := name + data + eol
	if s.form.comments {
		block = ": ping" + eol + block
	}
	if s.form.openEnd && s.final != nil {
		block = strings.TrimRight(block, eol)
	}
	s.raw(block)
}

// wait lets the time between two deltas pass.
func (s *stream) wait() {
	if s.q.Stream && s.pace > 0 {
		select {
		case <-s.ctx.Done():
		case <-time.After(s.pace):
		}
	}
}

// begin sends what precedes all output.
func (s *stream) begin() {
	s.send("response.created", object{"response": s.response("in_progress", nil)})
	s.send("response.in_progress", object{"response": s.response("in_progress", nil)})
}

// response returns the object of the response. Like OpenAI's, it repeats the request.
func (s *stream) response(status string, changes object) object {
	q := &s.q
	orNull := func(text string) any {
		if text == "" {
			return nil
		}
		return text
	}
	store := q.Store == nil || *q.Store
	metadata := object{}
	for k, v := range q.Metadata {
		metadata[k] = v
	}
	tools := json.RawMessage("[]")
	if len(q.Tools) > 0 {
		tools = q.Tools
	}
	verbosity := "medium"
	if q.Text.Verbosity != "" {
		verbosity = q.Text.Verbosity
	}
	temperature := 1.0
	if q.Temperature != nil {
		temperature = *q.Temperature
	}
	r := object{
		"id": s.id, "object": "response", "created_at": s.created.Unix(), "status": status, "background": false,
		"completed_at": nil, "error": nil, "incomplete_details": nil, "frequency_penalty": 0.0, "presence_penalty": 0.0,
		"instructions": orNull(q.Instructions), "max_output_tokens": q.MaxOutputTokens, "max_tool_calls": nil,
		"model": s.model.snapshot, "moderation": nil, "output": s.output, "parallel_tool_calls": true,
		"previous_response_id": nil, "prompt_cache_key": orNull(q.PromptCacheKey), "prompt_cache_retention": "24h",
		"reasoning":         object{"effort": orNull(q.effort(s.model)), "summary": orNull(q.Reasoning.Summary)},
		"safety_identifier": orNull(q.SafetyIdentifier), "service_tier": "auto", "store": store, "temperature": temperature,
		"text":        object{"format": object{"type": "text"}, "verbosity": verbosity},
		"tool_choice": "auto", "tools": tools, "top_logprobs": 0, "top_p": 0.98, "truncation": "disabled",
		"usage": nil, "user": orNull(q.User), "metadata": metadata,
	}
	maps.Copy(r, changes)
	return r
}

// end completes the response, or says why it is incomplete.
func (s *stream) end() {
	in, out := s.q.inputTokens(), tokensOf(s.written)+s.thought
	changes := object{"service_tier": "default", "usage": object{
		"input_tokens": in, "input_tokens_details": object{"cached_tokens": s.o.cached(&s.q)},
		"output_tokens": out, "output_tokens_details": object{"reasoning_tokens": s.thought},
		"total_tokens": in + out,
	}}
	status := "completed"
	if s.cut != "" {
		status = "incomplete"
		changes["incomplete_details"] = object{"reason": s.cut}
	} else {
		changes["completed_at"] = time.Now().Unix()
	}
	s.final = s.response(status, changes)
	s.send("response."+status, object{"response": s.final})
	s.ended = true
	if s.form.done {
		s.raw("data: [DONE]" + s.form.eol + s.form.eol)
	}
}

// add begins an item.
func (s *stream) add(item object) {
	s.item, s.parts = item, nil
	s.send("response.output_item.added", object{"output_index": len(s.output), "item": item})
}

// close ends the item.
func (s *stream) close(changes object) {
	item := maps.Clone(s.item)
	maps.Copy(item, changes)
	s.send("response.output_item.done", object{"output_index": len(s.output), "item": item})
	s.output = append(s.output, item)
}

// at returns fields of an event together with those that say which part it is about.
func (s *stream) at(fields object) object {
	fields["item_id"], fields["output_index"], fields["content_index"] = s.item["id"], len(s.output), len(s.parts)
	if s.form.changing {
		fields["item_id"] = newID("msg_")
	}
	return fields
}

// open begins a message. Only models that reason tell what kind of message it is.
func (s *stream) open(phase string) {
	message := object{"id": newID("msg_"), "type": "message", "status": "in_progress", "role": "assistant", "content": []object{}}
	if len(s.model.efforts) > 0 {
		message["phase"] = phase
	}
	s.add(message)
}

// shut ends a message.
func (s *stream) shut() {
	status := "completed"
	if s.cut != "" {
		status = "incomplete"
	}
	s.close(object{"status": status, "content": s.parts})
}

// openPart begins a part of a message.
func (s *stream) openPart() {
	s.text = ""
	s.send("response.content_part.added", s.at(object{"part": s.part(nil)}))
}

// part returns the part with the text so far.
func (s *stream) part(annotations []object) object {
	if annotations == nil {
		annotations = []object{}
	}
	return object{"type": "output_text", "text": s.text, "annotations": annotations, "logprobs": []object{}}
}

// write adds text to a part, in deltas. What there is no room for is cut.
func (s *stream) write(text string) {
	if s.room >= 0 && utf8.RuneCountInString(text) > s.room {
		text = string([]rune(text)[:s.room])
		s.cut = "max_output_tokens"
	}
	if s.room >= 0 {
		s.room -= utf8.RuneCountInString(text)
	}
	pieces := deltas(text, s.form.tiny)
	if s.repeats {
		pieces = strings.SplitAfter(text, " ")
	}
	for _, delta := range pieces {
		if s.form.silent {
			continue
		}
		s.wait()
		s.disturb()
		s.send("response.output_text.delta", s.obfuscated(s.at(object{"delta": delta, "logprobs": []object{}}), delta))
		if s.gone {
			return
		}
	}
	s.text += text
	s.written += text
}

// disturb sends events that mean nothing to a client.
func (s *stream) disturb() {
	if s.form.keepalive {
		s.send("keepalive", object{})
	}
	if s.form.unknown {
		s.send("response.output_thought.delta", s.at(object{"delta": "This must not be shown."}))
		s.send("response.weather", object{"text": "This must not be shown.", "response": nil, "item": []int{1}})
	}
}

// obfuscated adds what hides the length of a delta, if the client wants it.
func (s *stream) obfuscated(fields object, delta string) object {
	options := s.q.StreamOptions
	if options == nil || options.IncludeObfuscation == nil || *options.IncludeObfuscation {
		const block = 16
		fields["obfuscation"] = rand.Text()[:block-len(delta)%block]
	}
	return fields
}

// closePart ends a part.
func (s *stream) closePart(annotations ...object) {
	s.send("response.output_text.done", s.at(object{"text": s.text, "logprobs": []object{}}))
	part := s.part(annotations)
	s.send("response.content_part.done", s.at(object{"part": part}))
	s.parts = append(s.parts, part)
}

// deltas cuts a text into pieces of a few characters to a few words. Most end at
// the end of a word. Citation markers may be cut, too.
func deltas(text string, tiny bool) (pieces []string) {
	for text != "" {
		runes := 1 + mathrand.IntN(20) //nolint:gosec // It guards nothing.
		if tiny {
			runes = 1 + mathrand.IntN(2) //nolint:gosec // As above.
		}
		end := 0
		for ; runes > 0 && end < len(text); runes-- {
			_, size := utf8.DecodeRuneInString(text[end:])
			end += size
		}
		if space := strings.IndexByte(text[end:], ' '); !tiny && space >= 0 && space < 10 && mathrand.IntN(4) > 0 { //nolint:gosec // As above.
			end += space
		}
		pieces = append(pieces, text[:end])
		text = text[end:]
	}
	return pieces
}

// message sends a message with one part.
func (s *stream) message(phase, text string) {
	s.open(phase)
	s.openPart()
	s.write(text)
	s.closePart()
	s.shut()
}

// reason sends the item of a model that has reasoned about the question. It returns
// false if that has taken all tokens that the response may have.
func (s *stream) reason() bool {
	if s.thought == 0 {
		return true
	}
	s.wait()
	s.add(object{"id": newID("rs_"), "type": "reasoning", "content": []object{}, "summary": []object{}})
	s.close(nil)
	if s.room == 0 {
		s.cut = "max_output_tokens"
		s.end()
	}
	return s.cut == ""
}

// whole streams the answer as OpenAI usually does.
func (s *stream) whole() {
	s.begin()
	if s.reason() {
		s.message("final_answer", s.answer)
		s.end()
	}
}

// half streams the answer up to its middle, which may be within a marker.
func (s *stream) half() {
	s.begin()
	s.open("final_answer")
	s.openPart()
	runes := []rune(s.answer)
	s.write(string(runes[:len(runes)/2]))
}

// incomplete streams half of an answer that ends there for a reason.
func (s *stream) incomplete(reason string) {
	s.half()
	s.cut = reason
	s.closePart()
	s.shut()
	s.end()
}

// problem is an error within a stream.
type problem struct{ kind, code, message string }

var (
	serverError = problem{
		"server_error", "server_error", "An error occurred while processing your request. You can retry your request, or contact us through our " +
			"help center at help.openai.com if the error persists. Please include the request ID req_standin in your message.",
	}
	overloaded  = problem{"service_unavailable_error", "server_is_overloaded", "Our servers are currently overloaded. Please try again later."}
	slowDown    = problem{"rate_limit_error", "slow_down", "You are sending requests too quickly. Please slow down."}
	rateLimited = problem{
		"tokens", "rate_limit_exceeded", "Rate limit reached for gpt-6-luna in organization " + organization + " on tokens per min (TPM): " +
			"Limit 200000, Used 199900, Requested 1500. Please try again in 20ms. Visit https://platform.openai.com/account/rate-limits to learn more.",
	}
	tooLarge = problem{
		"tokens", "rate_limit_exceeded", "Request too large for gpt-6-luna in project " + project + " organization " + organization +
			" on tokens per min (TPM): Limit 1000, Requested 1500. The input or output tokens must be reduced in order to run successfully. " +
			"Visit https://platform.openai.com/account/rate-limits to learn more.",
	}
	noQuota = problem{
		"insufficient_quota", "insufficient_quota", "You exceeded your current quota, please check your plan and billing details. For more " +
			"information on this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
	}
	tooLong = problem{
		"invalid_request_error", "context_length_exceeded", "Your input exceeds the context window of this model. Please adjust your input and try again.",
	}
)

// nested sends a problem as OpenAI does.
func (s *stream) nested(p problem) {
	s.send("error", object{"error": object{"type": p.kind, "code": p.code, "message": p.message, "param": nil}})
	s.ended = true
}

// flat sends a problem as OpenAI's specification says.
func (s *stream) flat(p problem) {
	s.send("error", object{"code": p.code, "message": p.message, "param": nil})
	s.ended = true
}

// failed ends the response because of a problem.
func (s *stream) failed(p problem) {
	s.send("response.failed", object{"response": s.response("failed", object{"error": object{"code": p.code, "message": p.message}})})
	s.ended = true
}

// fail streams a problem before any output.
func fail(p problem) func(*stream) {
	return func(s *stream) {
		s.begin()
		s.nested(p)
		s.failed(p)
	}
}

// inForm streams the answer in an unusual form.
func inForm(f form) func(*stream) {
	return func(s *stream) {
		if f.eol == "" {
			f.eol = "\n"
		}
		s.form = f
		s.whole()
	}
}

// streamKind is a kind of stream that [OpenAI.Play] knows.
type streamKind struct {
	name string
	play func(*stream)
}

// StreamKinds lists the kinds of streams that [OpenAI.Play] knows.
func StreamKinds() []string {
	names := make([]string, len(streams))
	for i, k := range streams {
		names[i] = k.name
	}
	return names
}

// streams are the kinds by what happens in them. Unless it says otherwise, a stream
// has the text that answers the question, or half of it if it ends early.
var streams = []streamKind{
	// The text is not all there is, or not all of it is there.
	{"refusal", playRefusal},
	{"content-filter", func(s *stream) { s.incomplete("content_filter") }},
	{"max-output-tokens", func(s *stream) { s.incomplete("max_output_tokens") }},
	{"max-output-tokens-no-text", func(s *stream) {
		s.begin()
		s.thought, s.room = max(s.thought, minOutputTokens), 0
		s.reason()
	}},
	{"reasoning", playReasoning},
	{"commentary", func(s *stream) {
		s.begin()
		s.message("commentary", "Looking through the docs.")
		s.message("final_answer", s.answer)
		s.end()
	}},
	{"queued", func(s *stream) {
		s.send("response.created", object{"response": s.response("queued", nil)})
		s.send("response.queued", object{"response": s.response("queued", nil)})
		s.send("response.in_progress", object{"response": s.response("in_progress", nil)})
		s.message("final_answer", s.answer)
		s.end()
	}},
	{"content-parts", playParts},
	{"annotations", playAnnotations},
	{"filecite-markers", func(s *stream) {
		s.form.tiny = true
		s.answer = nearMarkers(s.answer, "\uE200filecite\uE202turn0file0\uE202turn0file5\uE202L8-L13\uE201")
		s.whole()
	}},
	{"emoji", func(s *stream) {
		s.answer = nearMarkers(s.answer, " 🗼👩‍💻𝔘")
		s.whole()
	}},
	{"done-only", inForm(form{silent: true})},

	// The events look unusual.
	{"keepalive", inForm(form{keepalive: true})},
	{"comments", inForm(form{comments: true})},
	{"crlf", inForm(form{eol: "\r\n"})},
	{"data-first", inForm(form{dataFirst: true})},
	{"no-event-names", inForm(form{unnamed: true})},
	{"no-last-blank-line", inForm(form{openEnd: true})},
	{"done-marker", inForm(form{done: true})},
	{"changing-ids", inForm(form{changing: true})},
	{"unknown-events", inForm(form{unknown: true})},
	{"tiny-deltas", inForm(form{tiny: true})},

	// Errors. Those without text in their name come before any.
	{"error-nested", func(s *stream) {
		s.begin()
		s.nested(serverError)
	}},
	{"error-flat", func(s *stream) {
		s.begin()
		s.flat(serverError)
	}},
	{"failed", func(s *stream) {
		s.begin()
		s.failed(serverError)
	}},
	{"error-then-failed", fail(serverError)},
	{"rate-limited", fail(rateLimited)},
	{"request-too-large", fail(tooLarge)},
	{"insufficient-quota", fail(noQuota)},
	{"context-length-exceeded", fail(tooLong)},
	{"overloaded", fail(overloaded)},
	{"slow-down", fail(slowDown)},
	{"server-error-in-text", func(s *stream) {
		s.half()
		s.nested(serverError)
		s.failed(serverError)
	}},
	{"server-error-flat-in-text", func(s *stream) {
		s.half()
		s.flat(serverError)
	}},

	// The stream ends without saying so, or does not end until the client leaves.
	{"eof", (*stream).begin},
	{"eof-in-text", (*stream).half},
	{"reset-in-text", func(s *stream) {
		s.half()
		panic(http.ErrAbortHandler)
	}},
	{"hang", (*stream).hang},
	{"hang-in-text", func(s *stream) {
		s.half()
		s.hang()
	}},
}

// hang waits until the client leaves.
func (s *stream) hang() {
	<-s.ctx.Done()
	s.left()
}

// nearMarkers puts a text before and after each citation marker, or at the end.
func nearMarkers(answer, text string) string {
	if !strings.Contains(answer, "\uE200") {
		return answer + text
	}
	return strings.NewReplacer("\uE200", text+"\uE200", "\uE201", "\uE201"+text).Replace(answer)
}

// playRefusal streams a model's refusal, which is not text.
func playRefusal(s *stream) {
	const text = "I'm sorry, but I can't help with that request."
	refusal := func(text string) object { return object{"type": "refusal", "refusal": text} }
	s.begin()
	s.open("final_answer")
	s.send("response.content_part.added", s.at(object{"part": refusal("")}))
	for _, delta := range deltas(text, false) {
		s.wait()
		s.send("response.refusal.delta", s.at(object{"delta": delta}))
	}
	s.send("response.refusal.done", s.at(object{"refusal": text}))
	s.send("response.content_part.done", s.at(object{"part": refusal(text)}))
	s.parts = append(s.parts, refusal(text))
	s.written = text
	s.shut()
	s.end()
}

// playReasoning streams a summary of the reasoning, and the reasoning of models that
// do not hide it, before the answer.
func playReasoning(s *stream) {
	s.begin()
	s.thought = max(s.thought, reasoningTokens["low"])
	s.add(object{"id": newID("rs_"), "type": "reasoning", "content": []object{}, "summary": []object{}, "encrypted_content": rand.Text()})
	at := func(i int, fields object) object {
		fields["item_id"], fields["output_index"], fields["summary_index"] = s.item["id"], len(s.output), i
		return fields
	}
	var summary []object
	for i, text := range []string{"**Reading the blocks**\n\nThe question has to be found in them.", "**Writing the answer**\n\nIt should be short."} {
		part := func(text string) object { return object{"type": "summary_text", "text": text} }
		s.send("response.reasoning_summary_part.added", at(i, object{"part": part("")}))
		for _, delta := range deltas(text, false) {
			s.wait()
			s.send("response.reasoning_summary_text.delta", s.obfuscated(at(i, object{"delta": delta}), delta))
		}
		s.send("response.reasoning_summary_text.done", at(i, object{"text": text}))
		s.send("response.reasoning_summary_part.done", at(i, object{"part": part(text)}))
		summary = append(summary, part(text))
	}
	const thought = "The visitor wants to know something."
	part := func(text string) object { return object{"type": "reasoning_text", "text": text} }
	s.send("response.content_part.added", s.at(object{"part": part("")}))
	for _, delta := range deltas(thought, false) {
		s.send("response.reasoning_text.delta", s.at(object{"delta": delta}))
	}
	s.send("response.reasoning_text.done", s.at(object{"text": thought}))
	s.send("response.content_part.done", s.at(object{"part": part(thought)}))
	s.close(object{"summary": summary, "content": []object{part(thought)}})
	s.message("final_answer", s.answer)
	s.end()
}

// playParts streams a message whose text is in several parts.
func playParts(s *stream) {
	s.begin()
	s.open("final_answer")
	for _, paragraph := range slices.Collect(strings.SplitAfterSeq(s.answer+"\n\nThat is all.", "\n\n")) {
		s.openPart()
		s.write(paragraph)
		s.closePart()
	}
	s.shut()
	s.end()
}

// playAnnotations streams the answer with annotations of OpenAI's own, as if it had
// searched for files and pages.
func playAnnotations(s *stream) {
	s.begin()
	s.open("final_answer")
	s.openPart()
	runes := []rune(s.answer)
	s.write(string(runes[:len(runes)/2]))
	half := utf8.RuneCountInString(s.text)
	annotations := []object{
		{"type": "file_citation", "file_id": "file-standin1", "filename": "page.md", "index": half},
		{"type": "url_citation", "start_index": 0, "end_index": half, "title": "A page", "url": "https://annotated.example.com/"},
	}
	for i, a := range annotations {
		s.send("response.output_text.annotation.added", s.at(object{"annotation_index": i, "annotation": a}))
	}
	s.write(string(runes[len(runes)/2:]))
	s.closePart(annotations...)
	s.shut()
	s.end()
}
